package build

import "time"

// Phase is what a build is doing.
type Phase string

const (
	PhaseSnapshot  Phase = "snapshot"  // reading the local source
	PhaseContainer Phase = "container" // starting the container
	PhaseEvaluate  Phase = "evaluate"  // Nix reads the flake
	PhaseBuild     Phase = "build"     // Nix fetches and builds
	PhaseCheck     Phase = "check"     // Nix builds a second time
	PhaseCopy      Phase = "copy"      // the outputs leave the container
	PhaseVerify    Phase = "verify"    // the artifacts are checked and hashed
	PhasePublish   Phase = "publish"   // the image enters images/
	PhaseDone      Phase = "done"
)

// Progress is told what happens, in order, from one goroutine at a time. It
// must not block for long: the build's own output waits for it. nil is allowed.
type Progress func(Event)

// Event is one step of a build. Text is free of control characters.
type Event struct {
	Phase   Phase         `json:"phase"`
	Kind    EventKind     `json:"kind"`
	Text    string        `json:"text,omitempty"`
	Source  string        `json:"source,omitempty"` // with Log: the derivation that says it
	Counts  Counts        `json:"counts"`
	Elapsed time.Duration `json:"elapsed"` // since the build began
}

// EventKind tells events apart.
type EventKind string

const (
	Entered EventKind = "phase"   // a phase began
	Step    EventKind = "step"    // one thing in it began: Text says which
	Log     EventKind = "log"     // a line of a builder's output
	Tick    EventKind = "tick"    // only the counts changed
	Warning EventKind = "warning" // something to tell the user at the end, too
	Failure EventKind = "error"   // what Nix said went wrong
)

// Counts are running totals of the whole build.
type Counts struct {
	Builds  Count `json:"builds"`  // derivations
	Copies  Count `json:"copies"`  // store paths from a cache
	Fetches Count `json:"fetches"` // files and sources downloaded
	Bytes   Count `json:"bytes"`   // downloaded
}

// Count is how much of something is done.
type Count struct {
	Done     int64 `json:"done"`
	Expected int64 `json:"expected"`
	Running  int64 `json:"running"`
	Failed   int64 `json:"failed"`
}
