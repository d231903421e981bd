// Package audit is the record of who did what, when and with which result.
//
// A record is a line of JSON that carries the hash of the line before it, so
// that a cut or an edit shows. The package owns the format and the chain; what
// is worth a record is the callers' business.
package audit

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/atomicfile"
	"github.com/auser/mvm/internal/flock"
)

// Entry is one act.
type Entry struct {
	Seq      int            `json:"seq"`  // from 1, without gaps
	Time     time.Time      `json:"time"` // in UTC
	UID      int            `json:"uid"`  // who did it
	User     string         `json:"user,omitempty"`
	SudoBy   string         `json:"sudo_user,omitempty"` // who called sudo
	Tenant   string         `json:"tenant,omitempty"`
	Act      string         `json:"act"`    // create, build, start, end, stop, set, secrets set, volume snapshot, destroy and so on; of the host setup, builder, gc, reconcile and so on
	Result   string         `json:"result"` // ok or failed
	Error    string         `json:"error,omitempty"`
	Detail   map[string]any `json:"detail,omitempty"`    // spec, artifacts, versions
	Prev     string         `json:"prev"`                // SHA-256 of the line before, without its newline; empty in the first
	HeadLost bool           `json:"head_lost,omitempty"` // the head file was missing: lines before this one may be, too
}

// Results of an act.
const (
	OK     = "ok"
	Failed = "failed"
)

// Record adds an act to the record at path and hands on err, with which the act
// ended. An act that cannot be recorded has failed: an auditor must be able to
// rely on the record being whole.
func Record(path, tenant, act string, detail map[string]any, err error) error {
	e := Entry{Tenant: tenant, Act: act, Result: OK, Detail: detail}
	if err != nil {
		e.Result, e.Error = Failed, err.Error()
	}
	return errors.Join(err, Append(path, e))
}

// Append adds e to the record at path and fills in what is the record's own:
// number, time, person and chain. Writers of several processes take turns.
func Append(path string, e Entry) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot write the audit record %s: %w", path, err)
		}
	}()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }() // closing also unlocks
	if err := flock.Lock(f, unix.LOCK_EX); err != nil {
		return err
	}
	last, err := repairedTail(f)
	if err != nil {
		return err
	}
	var before Head
	if last != nil {
		var entry Entry
		if err := json.Unmarshal(last, &entry); err != nil {
			return &DamagedError{fmt.Errorf("its last line is damaged: %w", err), path}
		}
		before = Head{entry.Seq, hash(last)}
	}
	kept, found, err := readHead(path)
	switch {
	case err != nil:
		return err
	case found && kept.Seq >= before.Seq:
		// Where the end was cut off or changed, the chain goes on from what
		// was there: that shows for good.
		before = kept
	case found:
	case last != nil:
		e.HeadLost = true // shows for good, too
	default:
		// The head comes before the first line, so that there is never a line
		// without a head but where somebody removed it.
		if err := writeHead(path, Head{}); err != nil {
			return err
		}
	}
	e.Seq, e.Prev = before.Seq+1, before.Hash
	e.Time = time.Now().UTC()
	e.UID, e.User, e.SudoBy = os.Getuid(), userName(), os.Getenv("SUDO_USER")
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return writeHead(path, Head{e.Seq, hash(line)})
}

// DamagedError is a record that cannot be gone on with.
type DamagedError struct {
	Err  error
	Path string
}

func (e *DamagedError) Error() string { return e.Err.Error() }
func (e *DamagedError) Unwrap() error { return e.Err }

// Advice is the hint that goes with the error.
func (e *DamagedError) Advice() string {
	return "restore the file from a backup, or move it aside and keep it: mvm writes another, and mvm audit verify says so for good"
}

// Head is the last line of a record. It is also kept in a file of its own: a
// chain alone does not show that its end was cut off.
type Head struct {
	Seq  int    `json:"seq"`
	Hash string `json:"hash"`
}

func headFile(path string) string { return path + ".head" }

func readHead(path string) (h Head, found bool, err error) {
	data, err := os.ReadFile(headFile(path))
	if errors.Is(err, fs.ErrNotExist) {
		return h, false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &h)
	}
	if err != nil {
		return h, true, &DamagedError{fmt.Errorf("cannot read its head %s: %w", headFile(path), err), headFile(path)}
	}
	return h, true, nil
}

func writeHead(path string, h Head) error {
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return atomicfile.Write(headFile(path), append(data, '\n'), 0o600)
}

// repairedTail returns the last whole line, or nil. A line without its newline
// is a write that was cut short by a crash: it was never acknowledged, and is
// taken away.
func repairedTail(f *os.File) ([]byte, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	var tail []byte
	for start := size; ; {
		whole := bytes.LastIndexByte(tail, '\n')
		if whole >= 0 {
			if begin := bytes.LastIndexByte(tail[:whole], '\n'); begin >= 0 || start == 0 {
				return tail[begin+1 : whole], cutAfter(f, start+int64(whole)+1, size)
			}
		}
		if start == 0 {
			return nil, cutAfter(f, 0, size)
		}
		step := min(start, int64(max(len(tail), 4096))) // doubled each time: a damaged record may be one long line
		start -= step
		more := make([]byte, step)
		if _, err := f.ReadAt(more, start); err != nil {
			return nil, err
		}
		tail = append(more, tail...)
	}
}

func cutAfter(f *os.File, end, size int64) error {
	if end == size {
		return nil
	}
	return f.Truncate(end)
}

// Read returns the entries of the record at path; none where it is missing.
func Read(path string) ([]Entry, error) {
	var entries []Entry
	err := eachLine(path, func(number int, line []byte) error {
		var e Entry
		if err := json.Unmarshal(line, &e); err != nil {
			return &DamagedError{fmt.Errorf("cannot read the audit record: %s line %d: %w", path, number, err), path}
		}
		entries = append(entries, e)
		return nil
	})
	return entries, err
}

// BrokenError is a place where the chain does not hold.
type BrokenError struct {
	Path string
	Line int
	Why  string
}

func (e *BrokenError) Error() string {
	return fmt.Sprintf("%s line %d: %s", e.Path, e.Line, e.Why)
}

// Verify checks the chain of the record at path, up to its end as the head
// file has it, and returns how many entries it has and the hash of the last
// one. Whoever can write here can also write the head; who keeps that hash
// elsewhere can prove even then that nothing was cut off.
func Verify(path string) (n int, head string, err error) {
	kept, found, err := readHead(path) // before the lines: these may grow meanwhile
	if err != nil {
		return 0, "", err
	}
	err = eachLine(path, func(number int, line []byte) error {
		broken := func(why string) error { return &BrokenError{path, number, why} }
		var e Entry
		switch json.Unmarshal(line, &e) {
		case nil:
		default:
			return broken("it is no audit record")
		}
		if e.Seq != n+1 {
			return broken(fmt.Sprintf("it has number %d, want %d: a line was removed or added", e.Seq, n+1))
		}
		if e.Prev != head {
			return broken("the line before it was changed")
		}
		if e.HeadLost {
			return broken("there was no head file when it was written: lines before it may have been cut off")
		}
		n, head = n+1, hash(line)
		if n == kept.Seq && head != kept.Hash {
			return broken("it is not the line that the head file names")
		}
		return nil
	})
	if err == nil && n < kept.Seq {
		err = &BrokenError{path, n + 1, fmt.Sprintf("the end was cut off: there were %d lines", kept.Seq)}
	}
	if err == nil && n > 0 && !found {
		if _, found, err = readHead(path); err == nil && !found { // it was not the first entry's writer that came in between
			err = &BrokenError{path, n + 1, fmt.Sprintf("the end may have been cut off: its head %s is missing", headFile(path))}
		}
	}
	return n, head, err
}

// Has says whether a record at path has that hash, as Verify returned it when
// the record was shorter.
func Has(path, head string) (bool, error) {
	found := false
	err := eachLine(path, func(_ int, line []byte) error {
		found = found || hash(line) == head
		return nil
	})
	return found, err
}

func eachLine(path string, do func(number int, line []byte) error) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read the audit record: %w", err)
	}
	defer f.Close()
	r := bufio.NewReader(f)
	for number := 1; ; number++ {
		line, err := r.ReadBytes('\n')
		if err == io.EOF {
			return nil // an unfinished line is a write in progress or cut short
		}
		if err != nil {
			return fmt.Errorf("cannot read the audit record: %w", err)
		}
		if err := do(number, bytes.TrimSuffix(line, []byte("\n"))); err != nil {
			return err
		}
	}
}

func hash(line []byte) string {
	sum := sha256.Sum256(line)
	return hex.EncodeToString(sum[:])
}

func userName() string {
	u, err := user.LookupId(strconv.Itoa(os.Getuid()))
	if err != nil {
		return "" // a uid without a name is a uid all the same
	}
	return u.Username
}
