package proc

import (
	"os"
	"os/exec"
	"testing"
)

func TestSelf(t *testing.T) {
	self, err := Self()
	if err != nil || self.PID != os.Getpid() || !self.Alive() {
		t.Fatalf("self = %+v, err = %v", self, err)
	}
	if (ID{PID: self.PID, Start: self.Start + 1}).Alive() {
		t.Error("a process that started at another time passes for this one")
	}
}

func TestAZombieIsNotAlive(t *testing.T) {
	cmd := exec.Command("cat")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	id, err := Find(cmd.Process.Pid)
	if err != nil || !id.Alive() {
		t.Fatalf("id = %+v, err = %v", id, err)
	}
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := stdout.Read(make([]byte, 1)); err == nil {
		t.Fatal("cat said something")
	}
	for id.Alive() { // between closing its output and being a zombie
	}
	if _, _, err := stat(id.PID); err != nil {
		t.Errorf("the zombie is gone already: %v", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if id.Alive() {
		t.Error("alive after it was reaped")
	}
}

func TestBootID(t *testing.T) {
	if id, err := BootID(); err != nil || len(id) != 36 {
		t.Errorf("boot id %q, %v", id, err)
	}
}

func TestBusy(t *testing.T) {
	for _, c := range []struct {
		line string
		busy bool
	}{
		{"while :; do :; done", true},
		{"read -r never", false},
	} {
		cmd := exec.Command("bash", "-c", c.line)
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		defer stdin.Close()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Wait()
		defer cmd.Process.Kill()
		id, err := Find(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		for tries := 0; ; tries++ { // it has to come so far first
			busy, err := id.Busy()
			if err != nil {
				t.Fatal(err)
			}
			if busy == c.busy {
				break
			}
			if tries == 10_000 {
				t.Errorf("%s: busy is always %t", c.line, busy)
				break
			}
		}
	}
	if _, err := (ID{PID: 1 << 30}).Busy(); err == nil {
		t.Error("no process is busy or not")
	}
}
