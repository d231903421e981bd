package vmm

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestProbeKVM(t *testing.T) {
	for name, c := range map[string]struct{ device, want string }{
		"no device":    {"/dev/none", "cannot use KVM"},
		"another's":    {"/dev/null", "does not answer"},
		"a plain file": {"/proc/self/exe", "cannot use KVM"},
	} {
		if ok, reason := probeKVM(c.device, "amd64", "flags\t: fpu vmx\n"); ok || !strings.Contains(reason, c.want) {
			t.Errorf("%s: %v, %q", name, ok, reason)
		}
	}
	// A paravirtual KVM opens and makes machines, and is refused all the same.
	if f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0); err == nil {
		f.Close()
		if ok, reason := probeKVM("/dev/kvm", "amd64", "flags\t: fpu vme\n"); ok || reason == "" {
			t.Errorf("without vmx and svm: %v, %q", ok, reason)
		}
	}
	if !hasFlag("processor: 0\nflags\t\t: fpu svm vme\n", "svm") || hasFlag("vmx flags\t: vmx\nflags: fpu svm_lock\n", "vmx") {
		t.Error("hasFlag reads other lines, or parts of words")
	}
	ok, reason := ProbeKVM()
	t.Logf("this host: %v %s", ok, reason)
}

func TestFits(t *testing.T) {
	host, policy := Capacity{CPUs: 2, MemMiB: 1000}, Policy{CPUOvercommit: 2, MemoryOvercommit: 1}
	running := []Demand{{VCPUs: 1, MemMiB: 300}, {VCPUs: 1, MemMiB: 300}}
	if err := Fits(host, policy, running, Demand{VCPUs: 2, MemMiB: 400}); err != nil {
		t.Errorf("to the brim: %v", err)
	}
	for _, c := range []struct {
		want Demand
		what string
	}{{Demand{VCPUs: 1, MemMiB: 401}, "memory"}, {Demand{VCPUs: 3, MemMiB: 1}, "CPU"}} {
		var e *CapacityError
		if err := Fits(host, policy, running, c.want); !errors.As(err, &e) || e.What != c.what {
			t.Errorf("%+v: err = %v", c.want, err)
		}
	}
	if err := Fits(host, Policy{8, 1.5}, running, Demand{VCPUs: 14, MemMiB: 900}); err != nil {
		t.Errorf("overcommitted: %v", err)
	}
	host.HugeMiB, policy.MemoryOvercommit = 512, 8
	huge := Demand{VCPUs: 1, MemMiB: 256, HugeMiB: 256}
	if err := Fits(host, policy, []Demand{huge}, huge); err != nil {
		t.Errorf("the whole pool: %v", err)
	}
	var e *CapacityError
	if err := Fits(host, policy, []Demand{huge, huge}, huge); !errors.As(err, &e) || e.What != "2 MiB pages" {
		t.Errorf("more than the pool: %v", err)
	}
}

func TestPanicWatch(t *testing.T) {
	const text = "[ 1.0] x\r\n[ 1.1] Kernel panic - not syncing: Attempted to \x1b[31mkill init!\r\n[ 1.2] more\r\n"
	for size := 1; size < len(text); size++ { // however it is cut
		var w PanicWatch
		for rest := text; rest != ""; {
			n := min(size, len(rest))
			w.Write([]byte(rest[:n]))
			rest = rest[n:]
		}
		if got, ok := w.Panic(); !ok || got != "Attempted to [31mkill init!" {
			t.Fatalf("cut at %d: %q, %v", size, got, ok)
		}
	}
	w := PanicWatch{}
	w.Write([]byte("Kernel panic - not synced: no\n"))
	if _, ok := w.Panic(); ok {
		t.Error("there was no panic")
	}
	w.Write([]byte("Kernel panic - not syncing: " + strings.Repeat("x", 10_000)))
	if got, _ := w.Panic(); len(got) != maxPanic {
		t.Errorf("%d bytes are kept", len(got))
	}
}

func TestLastWords(t *testing.T) {
	var w LastWords
	w.Write([]byte(strings.Repeat("a", 10_000)))
	w.Write([]byte("the\x1b end\n"))
	if got := w.String(); !strings.HasSuffix(got, "the end") || len(got) > maxWords {
		t.Errorf("%q", got)
	}
	for n := range 100 { // what is kept begins with a line, wherever the cut falls
		w.Write([]byte("<" + strings.Repeat("b", n) + ">\n"))
		if got := w.String(); n > 40 && got[0] != '<' || !strings.HasSuffix(got, "b>") && n > 0 {
			t.Fatalf("after %d lines: %q", n+1, got)
		}
	}
}

// launch starts a shell as a VMM is started, without a root of its own.
func launch(t *testing.T, script string, out, errs *strings.Builder) *Process {
	t.Helper()
	p, err := Launch{Path: "/bin/sh", Args: []string{"-c", script}, UID: 65534, GID: 65534, Stdout: out, Stderr: errs}.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
		<-p.Done()
	})
	return p
}

func TestLaunchTellsTheEnd(t *testing.T) {
	var out, errs strings.Builder
	p := launch(t, "echo out; echo err >&2; exit 7", &out, &errs)
	<-p.Done()
	if code, signal, at := p.Ended(); code != 7 || signal != 0 || at.IsZero() {
		t.Errorf("Ended = %d, %v, %v", code, signal, at)
	}
	if out.String() != "out\n" || errs.String() != "err\n" {
		t.Errorf("output = %q, %q", out.String(), errs.String())
	}
	p = launch(t, "kill -9 $$", &out, &errs)
	<-p.Done()
	if code, signal, _ := p.Ended(); code != -1 || signal != syscall.SIGKILL {
		t.Errorf("Ended = %d, %v", code, signal)
	}
}

func TestLaunchRefuses(t *testing.T) {
	if _, err := (Launch{Path: "/bin/sh"}).Start(); err == nil {
		t.Error("a VMM runs as root")
	}
	if _, err := (Launch{Path: "/none", UID: 65534, GID: 65534}).Start(); err == nil {
		t.Error("nothing was started")
	}
}

// TestDrainIsBounded: what holds a VMM's output open does not hold its end up.
func TestDrainIsBounded(t *testing.T) {
	var out, errs strings.Builder
	p := launch(t, "(trap '' HUP; sleep 30) & exit 0", &out, &errs)
	select {
	case <-p.Done():
	case <-time.After(drainDeadline + 5*time.Second):
		t.Error("its end is held up")
	}
}

type fakeVM struct {
	VM
	done      chan struct{}
	request   error
	killed    bool
	onRequest func()
}

func (v *fakeVM) Done() <-chan struct{}                       { return v.done }
func (v *fakeVM) Kill() error                                 { v.killed = true; close(v.done); return nil }
func (v *fakeVM) Resize(context.Context, string, int64) error { return nil }

func (v *fakeVM) RequestStop(context.Context) error {
	if v.onRequest != nil {
		v.onRequest()
	}
	return v.request
}

func TestStop(t *testing.T) {
	asked := 0
	ask := func(context.Context) error { asked++; return errors.New("no") }

	hears := &fakeVM{done: make(chan struct{})}
	hears.onRequest = func() { close(hears.done) }
	if forced, err := Stop(t.Context(), hears, time.Minute, ask); forced || err != nil || asked != 0 {
		t.Errorf("one that hears: %v, %v, asked %d times", forced, err, asked)
	}
	deaf := &fakeVM{done: make(chan struct{}), request: ErrUnsupported}
	if forced, err := Stop(t.Context(), deaf, time.Minute, ask); !forced || err != nil || asked != 1 || !deaf.killed {
		t.Errorf("one that cannot be asked: %v, %v, asked %d times", forced, err, asked)
	}
	slow := &fakeVM{done: make(chan struct{})}
	if forced, err := Stop(t.Context(), slow, time.Millisecond, nil); !forced || err != nil {
		t.Errorf("one that is slow: %v, %v", forced, err)
	}
	// The way to ask hangs until the guest is gone.
	gone := &fakeVM{done: make(chan struct{}), request: ErrUnsupported}
	hang := func(ctx context.Context) error { close(gone.done); <-ctx.Done(); return ctx.Err() }
	if forced, err := Stop(t.Context(), gone, time.Minute, hang); forced || err != nil {
		t.Errorf("one that ends under the question: %v, %v", forced, err)
	}
}

// withButton is a VM with a button, which breaks after so many presses, 0: never.
type withButton struct {
	fakeVM
	pressed []time.Time
	breaks  int
}

func (v *withButton) PowerButton(context.Context) error {
	v.pressed = append(v.pressed, time.Now())
	if v.breaks > 0 && len(v.pressed) > v.breaks {
		return errors.New("the VMM is on its way out")
	}
	return nil
}

// TestStopWhileItBoots: a guest that cannot be reached yet is asked again.
func TestStopWhileItBoots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		boots := &withButton{fakeVM: fakeVM{done: make(chan struct{}), request: ErrUnsupported}}
		booted, asked := time.Now().Add(30*time.Second), 0
		ask := func(context.Context) error {
			if time.Now().Before(booted) {
				return errors.New("no route to host")
			}
			asked++
			time.AfterFunc(20*time.Second, func() { close(boots.done) })
			return nil
		}
		forced, err := Stop(t.Context(), boots, 2*time.Minute, ask)
		if late := time.Since(booted.Add(20 * time.Second)); forced || err != nil || asked != 1 || late > askAgainAtMost {
			t.Errorf("forced: %v, %v; asked %d times; %s late", forced, err, asked, late)
		}
		if n := len(boots.pressed); n < 5 || n > 10 {
			t.Errorf("its button was pressed %d times: %v", n, boots.pressed)
		}
	})
	synctest.Test(t, func(t *testing.T) { // it never hears
		deaf := &withButton{fakeVM: fakeVM{done: make(chan struct{}), request: ErrUnsupported}}
		began := time.Now()
		forced, err := Stop(t.Context(), deaf, time.Minute, nil)
		if took := time.Since(began); !forced || err != nil || took != time.Minute {
			t.Errorf("forced: %v, %v, after %s", forced, err, took)
		}
	})
	synctest.Test(t, func(t *testing.T) { // it heard, and cannot be asked again while it ends
		ends := &withButton{fakeVM: fakeVM{done: make(chan struct{}), request: ErrUnsupported}, breaks: 1}
		time.AfterFunc(10*time.Second, func() { close(ends.done) })
		forced, err := Stop(t.Context(), ends, time.Minute, nil)
		if forced || err != nil || ends.killed || len(ends.pressed) < 2 {
			t.Errorf("forced: %v, %v; its button was pressed at %v", forced, err, ends.pressed)
		}
	})
}
