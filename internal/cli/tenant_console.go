package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/charmbracelet/x/ansi"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/supervisor"
	"github.com/auser/mvm/internal/tenant"
)

func (a *app) tenantConsole() *cobra.Command {
	return a.consoleVerb(&cobra.Command{
		Use:     "console <id>",
		Short:   "Attach to the guest's serial console; Ctrl-] leaves it",
		Example: "  mvm tenant console acme\n  mvm tenant console acme --view\n  mvm tenant console acme --escape ^O",
		Args:    exactArgs(1, "one tenant id"),
	}, "mvm tenant logs", a.onTenant)
}

func (a *app) devConsole() *cobra.Command {
	return a.consoleVerb(&cobra.Command{
		Use:     "console",
		Short:   "Attach to the dev microVM's serial console; Ctrl-] leaves it",
		Example: "  mvm console\n  mvm console --view",
		Args:    exactArgs(0, "no arguments; mvm tenant console attaches to a tenant's"),
	}, "mvm logs", a.onDevTenant)
}

func (a *app) consoleVerb(cmd *cobra.Command, before string, on runner) *cobra.Command {
	var (
		view, raw bool
		escape    string
	)
	cmd.Long = cmd.Short + `.

Any number of people can watch; the first who attaches from a terminal types,
and so does the next once they have left. Every key but the escape key goes to
the guest, Ctrl-C among them. Whoever does not keep up loses output and is told
so: the guest never waits.

What a guest could command the terminal with is left out, but for colours and
moves of the cursor; --raw lets everything through, for guests that are trusted.
What was written before is in ` + before + `.`
	cmd.RunE = on("attach to the console of", func(ctx context.Context, h *lifecycle.Host, args []string) error {
		key, err := parseKey(escape)
		if err != nil {
			return err
		}
		if _, err := h.Target(args[0]); err != nil { // says what it is instead of running
			return err
		}
		keyboard := !view && term.IsTerminal(int(a.In.Fd()))
		client := supervisor.Client{Socket: h.Store.Tenant(args[0]).ControlSocket()}
		conn, typing, err := client.Console(ctx, keyboard)
		if err != nil {
			return err
		}
		defer conn.Close()
		switch {
		case typing:
			a.note("at the console of %s; %s leaves it", h.Name(args[0]), key)
		case keyboard:
			a.note("watching the console of %s: somebody else types; Ctrl-C ends it", h.Name(args[0]))
		default:
			a.note("watching the console of %s; Ctrl-C ends it", h.Name(args[0]))
		}
		left, err := a.useConsole(ctx, conn, typing, key, raw)
		if err != nil || left {
			return err
		}
		return &lifecycle.Error{Kind: lifecycle.ErrState, Msg: "it has ended", Hint: "its last words: " + h.Command("logs", args[0])}
	})
	f := cmd.Flags()
	f.BoolVar(&view, "view", false, "only watch")
	f.BoolVar(&raw, "raw", false, "let everything through that the guest writes")
	f.StringVar(&escape, "escape", "^]", "the key that leaves the console: Ctrl with a letter or one of [ \\ ] ^ _")
	return cmd
}

// controlKey is a key that is pressed with Ctrl.
type controlKey byte

func (k controlKey) String() string { return "Ctrl-" + string(rune(k)|0x40) }

// parseKey reads ^], ^O and the like.
func parseKey(text string) (controlKey, error) {
	upper := bytes.ToUpper([]byte(text))
	if len(upper) != 2 || upper[0] != '^' || upper[1] < 'A' || upper[1] > '_' {
		return 0, &tenant.InputError{Msg: fmt.Sprintf("%q is no key with Ctrl", text), Hint: "--escape takes ^] or ^O, for example"}
	}
	return controlKey(upper[1] & 0x1f), nil
}

// useConsole carries bytes between the terminal and the console, until the
// person leaves or the console ends. The terminal is then as it was before.
func (a *app) useConsole(ctx context.Context, conn net.Conn, typing bool, key controlKey, raw bool) (left bool, err error) {
	// A terminal that is hung up on ends a program by default, with nothing
	// put back.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP)
	defer stop()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	out := a.plain()
	pressed := make(chan struct{})
	if typing {
		fd := int(a.In.Fd())
		before, err := term.MakeRaw(fd)
		if err != nil {
			return false, fmt.Errorf("cannot take over the terminal: %w", err)
		}
		defer func() {
			io.WriteString(a.Out, ansi.ResetStyle+"\r\n") // a guest's last colour
			if raw {
				io.WriteString(a.Out, softReset)
			}
			if restore := term.Restore(fd, before); err == nil {
				err = restore
			}
		}()
		if a.width() > 0 {
			out = &plainWriter{w: a.Out, screen: true}
		}
		go typeInto(conn, a.In, key, pressed)
	}
	if raw {
		out = a.Out
	}
	_, err = io.Copy(out, conn)
	select {
	case <-pressed:
		return true, nil
	case <-ctx.Done():
		return true, nil // as it is meant to end
	default:
		return false, err
	}
}

// softReset puts a terminal's modes back (DECSTR) without clearing it.
const softReset = "\x1b[!p"

// typeInto sends what is typed until the escape key is pressed, and then closes
// the connection.
func typeInto(conn net.Conn, in *os.File, key controlKey, pressed chan<- struct{}) {
	buf := make([]byte, 256)
	for {
		n, err := in.Read(buf)
		at := bytes.IndexByte(buf[:n], byte(key))
		if at >= 0 {
			n = at
		}
		if _, werr := conn.Write(buf[:n]); werr != nil {
			return // the console has ended
		}
		if at >= 0 || err != nil {
			close(pressed)
			conn.Close()
			return
		}
	}
}
