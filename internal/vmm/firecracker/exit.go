package firecracker

import (
	"fmt"
	"syscall"

	"github.com/auser/mvm/internal/vmm"
)

// exitWords says what Firecracker's exit codes mean (its FcExitCode).
var exitWords = map[int]string{
	1:   "an error, such as a configuration it refuses, a socket in use, or a guest's triple fault",
	2:   "an error it did not expect",
	148: "a system call outside its seccomp filter",
	149: "SIGBUS: memory that is not there, such as a huge page or a truncated disk",
	150: "SIGSEGV: it crashed",
	151: "SIGXFSZ: a file grew beyond its limit",
	152: "a configuration it could not read",
	153: "arguments it could not understand",
	154: "SIGXCPU: its CPU time is used up",
	156: "SIGHUP",
	157: "SIGILL: it crashed",
}

// explain says in words how Firecracker ended.
func (v *machine) explain() vmm.Exit {
	code, signal, at := v.process.Ended()
	exit := vmm.Exit{Code: code, Signal: signal, Time: at, Cause: vmm.Failed}
	message, panicked := v.console.Panic()
	switch {
	case signal != 0:
		exit.Reason = vmm.KilledBy(signal, v.killed.Load())
		if signal == syscall.SIGKILL || signal == syscall.SIGTERM {
			exit.Cause = vmm.Killed
		} else {
			exit.Reason += v.words.After(": ")
		}
	case panicked:
		exit.Cause, exit.Reason = vmm.GuestEnded, "the guest's kernel panicked: "+message
	case code == 0:
		exit.Cause, exit.Reason = vmm.GuestEnded, "the guest rebooted, which ends a microVM"
	default:
		words := exitWords[code]
		if words == "" {
			words = "for a reason it does not document"
		}
		exit.Reason = fmt.Sprintf("Firecracker ended with code %d: %s", code, words)
		exit.Reason += v.words.After(": ")
	}
	return exit
}
