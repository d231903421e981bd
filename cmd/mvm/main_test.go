package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

const stubbornEnv = "MVM_TEST_STUBBORN"

// TestASecondInterrupt ends also what does not listen to the first, or takes
// its time. Each is sent once: Go's runtime runs out of its signal stack when
// they come in floods, on processors whose registers fill much of it.
func TestASecondInterrupt(t *testing.T) {
	if os.Getenv(stubbornEnv) != "" {
		ctx := interruptible()
		fmt.Println("runs")
		<-ctx.Done()
		fmt.Println("goes on")
		io.Copy(io.Discard, os.Stdin)
	}
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM} {
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		cmd := exec.CommandContext(ctx, "/proc/self/exe", "-test.run=^TestASecondInterrupt$")
		cmd.Env = append(os.Environ(), stubbornEnv+"=1")
		if _, err := cmd.StdinPipe(); err != nil { // open until it ends
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if err := cmd.Process.Signal(sig); err != nil {
				t.Errorf("%v: after it said %q: %v", sig, lines.Text(), err)
			}
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != sig {
			t.Errorf("%v: it ended with %v", sig, err)
		}
	}
}
