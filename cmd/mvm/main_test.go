package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

const stubbornEnv = "MVM_TEST_STUBBORN"

// TestASecondInterrupt ends also what does not listen to the first, or takes
// its time.
func TestASecondInterrupt(t *testing.T) {
	if os.Getenv(stubbornEnv) != "" {
		ctx := interruptible()
		fmt.Println("runs")
		<-ctx.Done()
		for {
			fmt.Println("goes on")
		}
	}
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM} {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestASecondInterrupt$")
		cmd.Env = append(os.Environ(), stubbornEnv+"=1")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Process.Kill()
		// The second is heard as soon as the first was taken note of.
		for said, lines := 0, bufio.NewScanner(out); lines.Scan(); said++ {
			if said == 100_000 {
				t.Errorf("%v: it goes on and on", sig)
				cmd.Process.Kill()
			}
			cmd.Process.Signal(sig) // it may be gone
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != sig {
			t.Errorf("%v: it ended with %v", sig, err)
		}
	}
}
