package lima

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/auser/mvm/internal/source"
)

// Inputs is what a command line reads of this host, so that it has to be
// brought inside before the same words mean the same there.
type Inputs struct {
	Args []string
	// Flakes are the positions in Args of local flake references.
	Flakes []int
	// Stdin is a file to read as standard input, Stdout one to write from
	// standard output, and Variable names one of the environment to read as
	// standard input.
	Stdin, Stdout, Variable string
	// Fleet says that standard input declares tenants.
	Fleet bool
	// Dev says that the dev microVM is brought up: unless a flake is named with
	// the one that it has, or, where there is none yet, with the working
	// directory's.
	Dev bool
	// Undecided says, once brought, that the dev microVM cannot run yet, because
	// a setup did not get to its end.
	Undecided bool
	// Volumes are the positions in Args of volumes, which may be folders.
	Volumes []int
	// Overrides are the positions in Args of <input>=<folder>.
	Overrides []int
	// Trace is a file of this host to write, once the command has ended, what it
	// wrote to the file inside that Bring names.
	Trace string
	// Runs are the tenants that are started, whose volumes may be folders.
	Runs []string
	// Tenant is the one that is built: its flake, which only the VM knows, may
	// be a local one.
	Tenant string
	Root   string // the state directory inside, if the command line names one
	// Frees says that afterwards copies may be left that nobody uses any more.
	Frees bool
	// DryRun says that nothing is to be removed.
	DryRun bool

	named    bool   // a flake is named
	fromFile bool   // a secret's value is in a file
	trace    int    // where in Args Trace is named
	dir      string // what names are seen from
}

// creators are the verbs that take the working directory's flake where none is
// named.
var creators = [][]string{{"tenant", "create"}, {"t", "create"}}

// devVerbs bring up the dev microVM.
var devVerbs = [][]string{{"dev"}, {"start"}}

// builders are the verbs that build a tenant's flake.
var builders = [][]string{{"tenant", "build"}, {"t", "build"}}

// checkers are the verbs that take flakes as words.
var checkers = [][]string{{"flake", "check"}}

// The verbs whose flags name files of this host.
var (
	appliers  = [][]string{{"apply"}}
	importers = [][]string{{"tenant", "volume", "import"}, {"t", "volume", "import"}}
	exporters = [][]string{{"tenant", "volume", "export"}, {"t", "volume", "export"}}
	tracers   = [][]string{{"tenant", "run"}, {"t", "run"}}
)

// furtherValues are flags whose values are no words of builders', runners' and
// checkers', and mean the same inside, if only that there is no such flag.
var furtherValues = []string{"--engine", "--parallel", "--timeout", "--trace", "--wait"}

// runners are the verbs that start tenants.
var runners = [][]string{{"tenant", "run"}, {"t", "run"}, {"tenant", "restart"}, {"t", "restart"}}

// freers are the verbs after which copies may be of no more use.
var freers = [][]string{{"gc"}, {"destroy"}, {"tenant", "destroy"}, {"t", "destroy"}}

// volumeVerbs take volumes.
var volumeVerbs = slices.Concat(devVerbs, creators, [][]string{{"tenant", "set"}, {"t", "set"}})

// valueFlag says what to do about a flag's value, given the words before it.
func valueFlag(flag string, words []string) func(in *Inputs, i int) {
	switch {
	case flag == "--flake":
		return func(in *Inputs, i int) { in.named = true; in.flake(i) }
	case (flag == "--volume" || flag == "-v") && begins(words, volumeVerbs):
		return func(in *Inputs, i int) { in.Volumes = append(in.Volumes, i) }
	case flag == "--root":
		return func(in *Inputs, i int) { in.Root = in.Args[i] }
	case flag == "--from-file":
		return func(in *Inputs, i int) { in.fromFile = true; in.stdin(i) }
	case flag == "--from" && begins(words, importers):
		return (*Inputs).stdin
	case flag == "--from-env":
		return (*Inputs).variable
	case flag == "--to" && begins(words, exporters):
		return (*Inputs).stdout
	case (flag == "--file" || flag == "-f") && begins(words, appliers):
		return (*Inputs).fleet
	case flag == "--override-input":
		return func(in *Inputs, i int) { in.Overrides = append(in.Overrides, i) }
	case flag == "--trace" && begins(words, tracers):
		return (*Inputs).traceTo
	case slices.Contains(furtherValues, flag):
		return func(*Inputs, int) {}
	}
	return nil
}

// FindInputs looks through a command line of the Linux side. Words after --
// are somebody else's.
func FindInputs(args []string, dir string) Inputs {
	in := Inputs{Args: slices.Clone(args), dir: dir}
	end := len(in.Args)
	if i := slices.Index(in.Args, "--"); i >= 0 {
		end = i
	}
	var words []string
	var at []int // where in Args they are
	help := false
	for i := 0; i < end; i++ {
		word := in.Args[i]
		flag, value, joined := strings.Cut(word, "=")
		if short, ok := strings.CutPrefix(word, "-v"); ok && short != "" && begins(words, volumeVerbs) {
			flag, value, joined = "-v", strings.TrimPrefix(short, "="), true
		}
		take := valueFlag(flag, words)
		if take != nil && joined {
			in.Args[i] = flag
			in.Args = slices.Insert(in.Args, i+1, value)
			end++
		}
		switch {
		case take != nil && i+1 < end:
			i++
			take(&in, i)
		case word == "-h" || word == "--help":
			help = true
		case flag == "--dry-run":
			dry, err := strconv.ParseBool(value)
			in.DryRun = dry || err != nil // in doubt nothing is removed
		case !strings.HasPrefix(word, "-"):
			words, at = append(words, word), append(at, i)
		}
	}
	in.Frees = begins(words, freers)
	switch {
	case help, in.fromFile && in.Variable != "": // the command inside says why not both
		return Inputs{Args: slices.Clone(args), dir: dir, Root: in.Root}
	case !in.named && begins(words, creators) && source.HoldsFlake(dir):
		in.nameFlake()
	case begins(words, devVerbs):
		in.Dev = true
	case begins(words, runners):
		in.Runs = words[2:]
	case begins(words, builders) && len(words) > 2:
		in.Tenant = words[2]
	case begins(words, checkers):
		for _, i := range at[2:] {
			in.flake(i)
		}
	}
	return in
}

// flake takes the word at i for a flake reference.
func (in *Inputs) flake(i int) {
	if IsLocal(in.Args[i]) {
		in.Flakes = append(in.Flakes, i)
	}
}

// nameFlake says of the working directory's flake what goes without saying
// where it is.
func (in *Inputs) nameFlake() {
	end := len(in.Args)
	if i := slices.Index(in.Args, "--"); i >= 0 {
		end = i
	}
	in.Args = slices.Insert(in.Args, end, "--flake", ".")
	in.Flakes = append(in.Flakes, end+1)
}

// stdin has a file read as standard input, so that what is in it, a secret
// perhaps, gets no copy on a disk inside.
func (in *Inputs) stdin(i int) {
	if in.Args[i] != "-" {
		in.Stdin, in.Args[i] = in.abs(in.Args[i]), "-"
	}
}

// stdout has a file written from standard output.
func (in *Inputs) stdout(i int) {
	if in.Args[i] != "-" {
		in.Stdout, in.Args[i] = in.abs(in.Args[i]), "-"
	}
}

// traceTo has a trace written to a file of this host.
func (in *Inputs) traceTo(i int) {
	in.Trace, in.trace = "", i
	if in.Args[i] != "" { // none
		in.Trace = in.abs(in.Args[i])
	}
}

// variable has what a variable of the environment holds read as standard
// input: on a command line anybody could see it.
func (in *Inputs) variable(i int) {
	if in.Args[i] != "" {
		in.Variable = in.Args[i]
		in.Args[i-1], in.Args[i] = "--from-file", "-"
	}
}

// fleet has the file that declares tenants read as standard input, after the
// flakes that it names were brought. They are seen from the file's folder.
func (in *Inputs) fleet(i int) {
	in.Fleet = true
	if in.Args[i] != "-" {
		in.stdin(i)
		in.dir = filepath.Dir(in.Stdin)
	}
}

func (in *Inputs) abs(file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(in.dir, file)
}

func begins(words []string, verbs [][]string) bool {
	return slices.ContainsFunc(verbs, func(v []string) bool {
		return len(words) >= len(v) && slices.Equal(words[:len(v)], v)
	})
}
