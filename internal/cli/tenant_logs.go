package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/supervisor"
)

func (a *app) tenantLogs() *cobra.Command {
	var (
		source string
		follow bool
		tail   int
	)
	cmd := &cobra.Command{
		Use:   "logs <id>",
		Short: "Print a tenant's console, or another of its logs",
		Long: `Print a tenant's console, or another of its logs.

A guest writes to its console what it likes. On a terminal, control characters
that could command the terminal are left out; a file or pipe gets every byte.`,
		Example: "  mvm tenant logs acme\n  mvm tenant logs acme -f --tail 20\n  mvm tenant logs acme --source build",
		Args:    exactArgs(1, "one tenant id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := a.host()
			if err != nil {
				return err
			}
			path, err := h.LogFile(args[0], source)
			if err != nil {
				return err
			}
			f, err := os.Open(path)
			if errors.Is(err, fs.ErrNotExist) && !follow {
				a.note("there is no %s log of %s yet", source, args[0])
				return nil
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			out := a.plain()
			if follow {
				return followLog(cmd.Context(), path, f, tail, out)
			}
			defer f.Close()
			if err := seekTail(f, tail); err != nil {
				return err
			}
			_, err = io.Copy(out, f)
			return err
		},
	}
	cmd.Flags().StringVar(&source, "source", "console", "console, vmm, supervisor or build")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what is written, until interrupted")
	cmd.Flags().IntVar(&tail, "tail", -1, "only the last so many lines")
	cmd.Flags().Lookup("tail").DefValue = "0" // the help leaves out what is zero
	return cmd
}

// seekTail moves to where the last n lines begin; with n below 0 it stays.
func seekTail(f *os.File, n int) error {
	if n < 0 {
		return nil
	}
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil || n == 0 {
		return err
	}
	buf := make([]byte, 64<<10)
	for at, lines := end, 0; at > 0; {
		size := min(at, int64(len(buf)))
		at -= size
		if _, err := f.ReadAt(buf[:size], at); err != nil {
			return err
		}
		for i := size - 1; i >= 0; i-- {
			if buf[i] != '\n' || at+i == end-1 {
				continue // the newline that ends the last line begins none
			}
			if lines++; lines == n {
				_, err := f.Seek(at+i+1, io.SeekStart)
				return err
			}
		}
	}
	_, err = f.Seek(0, io.SeekStart)
	return err
}

// followLog prints what is there and goes on, also when the log is rotated,
// made anew or not there yet.
func followLog(ctx context.Context, path string, f *os.File, tail int, w io.Writer) error {
	defer func() {
		if f != nil {
			f.Close()
		}
	}()
	if f != nil {
		if err := seekTail(f, tail); err != nil {
			return err
		}
	}
	look := time.NewTicker(200 * time.Millisecond)
	defer look.Stop()
	for {
		if f != nil {
			if _, err := io.Copy(w, f); err != nil {
				return err
			}
		}
		next, err := reopened(path, f)
		if err != nil {
			return err
		}
		if next != nil {
			if f != nil {
				// What came between the copy and the rotation.
				if _, err := io.Copy(w, f); err != nil {
					return errors.Join(err, next.Close())
				}
				f.Close()
			}
			f = next
			continue
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// reopened opens path where that is another file than f, or f from its start
// where it was cut; nil where nothing changed.
func reopened(path string, f *os.File) (*os.File, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if f != nil {
		old, err := f.Stat()
		if err != nil {
			return nil, err
		}
		at, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		if os.SameFile(old, info) && info.Size() >= at {
			return nil, nil
		}
	}
	next, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // it was rotated once more
	}
	return next, err
}

// plain is the output, on a terminal without what could command it.
func (a *app) plain() io.Writer {
	if a.width() == 0 {
		return a.Out
	}
	return &plainWriter{a.Out}
}

// plainWriter leaves out control characters but for newlines and tabs. What is
// no UTF-8 becomes its replacement character, single C1 controls among it.
type plainWriter struct{ w io.Writer }

func (p *plainWriter) Write(data []byte) (int, error) {
	clean := bytes.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, data)
	if _, err := p.w.Write(clean); err != nil {
		return 0, err
	}
	return len(data), nil
}

func (a *app) tenantConsole() *cobra.Command {
	return &cobra.Command{
		Use:   "console <id>",
		Short: "Watch the guest's serial console as it comes, until interrupted",
		Long: `Watch the guest's serial console as it comes, until interrupted.

Whoever does not keep up loses bytes; the guest never waits. The console can
only be watched: to type something, use mvm tenant ssh. What was written before
is in mvm tenant logs.`,
		Example: "  mvm tenant console acme",
		Args:    exactArgs(1, "one tenant id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := a.host()
			if err != nil {
				return err
			}
			if _, err := h.Target(args[0]); err != nil { // says what it is instead of running
				return fmt.Errorf("cannot watch the console of tenant %s: %w", args[0], err)
			}
			client := supervisor.Client{Socket: h.Store.Tenant(args[0]).ControlSocket()}
			conn, err := client.Attach(cmd.Context())
			if err != nil {
				return fmt.Errorf("cannot watch the console of tenant %s: %w", args[0], err)
			}
			defer conn.Close()
			defer context.AfterFunc(cmd.Context(), func() { conn.Close() })()
			a.note("watching the console of tenant %s; Ctrl-C ends it", args[0])
			_, err = io.Copy(a.plain(), conn)
			if cmd.Context().Err() != nil {
				return nil // as it is meant to end
			}
			if err != nil {
				return err
			}
			return &lifecycle.Error{Kind: lifecycle.ErrState, Msg: fmt.Sprintf("the console of tenant %s has ended", args[0]), Hint: "mvm tenant show " + args[0]}
		},
	}
}
