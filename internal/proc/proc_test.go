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
