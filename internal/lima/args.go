package lima

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Inputs is what a command line reads of this host, so that it has to be
// brought inside before the same words mean the same there.
type Inputs struct {
	Args []string
	// Flakes are the positions in Args of local flake references.
	Flakes []int
	// Stdin is a file to read as standard input.
	Stdin string
	// Dev says that the dev microVM is brought up with the flake that it has,
	// or, where there is none yet, with the working directory's.
	Dev bool
	// Undecided says, once brought, that the dev microVM cannot run yet, because
	// a setup did not get to its end.
	Undecided bool
	// Tenant is the one that is built: its flake, which only the VM knows, may
	// be a local one.
	Tenant string
	Root   string // the state directory inside, if the command line names one
}

// creators are the verbs that take the working directory's flake where none is
// named.
var creators = [][]string{{"tenant", "create"}, {"t", "create"}}

// devVerbs bring up the dev microVM.
var devVerbs = [][]string{{"dev"}, {"start"}}

// builders are the verbs that build a tenant's flake.
var builders = [][]string{{"tenant", "build"}, {"t", "build"}}

// FindInputs looks through a command line of the Linux side. Words after --
// are somebody else's.
func FindInputs(args []string, dir string) Inputs {
	in := Inputs{Args: slices.Clone(args)}
	end := len(in.Args)
	if i := slices.Index(in.Args, "--"); i >= 0 {
		end = i
	}
	var words []string
	named, help := false, false
	for i := 0; i < end; i++ {
		word := in.Args[i]
		flag, value, joined := strings.Cut(word, "=")
		switch {
		case word == "-h" || word == "--help":
			help = true
		case flag == "--flake" && joined:
			named = true
			if IsLocal(value) {
				in.Args[i] = "--flake"
				in.Args = slices.Insert(in.Args, i+1, value)
				i, end = i+1, end+1
				in.Flakes = append(in.Flakes, i)
			}
		case word == "--flake" && i+1 < end:
			named = true
			i++
			if IsLocal(in.Args[i]) {
				in.Flakes = append(in.Flakes, i)
			}
		case flag == "--from-file" && joined:
			in.Args[i] = "--from-file=" + in.stdin(value, dir)
		case word == "--from-file" && i+1 < end:
			i++
			in.Args[i] = in.stdin(in.Args[i], dir)
		case flag == "--root" && joined:
			in.Root = value
		case word == "--root" && i+1 < end:
			i++
			in.Root = in.Args[i]
		case !strings.HasPrefix(word, "-"):
			words = append(words, word)
		}
	}
	switch {
	case help:
		in.Flakes = nil
	case !named && begins(words, creators) && holdsFlake(dir):
		in.nameFlake()
	case !named && begins(words, devVerbs):
		in.Dev = true
	case begins(words, builders) && len(words) > 2:
		in.Tenant = words[2]
	}
	return in
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
func (in *Inputs) stdin(file, dir string) string {
	if file == "-" {
		return file
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(dir, file)
	}
	in.Stdin = file
	return "-"
}

func begins(words []string, verbs [][]string) bool {
	return slices.ContainsFunc(verbs, func(v []string) bool {
		return len(words) >= len(v) && slices.Equal(words[:len(v)], v)
	})
}

func holdsFlake(dir string) bool {
	for _, name := range []string{"flake.nix", filepath.Join("nix", "flake.nix")} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}
