package build

import (
	"errors"

	"github.com/auser/mvm/internal/fault"
)

// Error is a failure that comes with advice.
type Error = fault.Error

// What an error is about, for errors.Is.
var (
	ErrInput = fault.ErrInput             // the flake, the ref or a value is wrong
	ErrHost  = fault.ErrHost              // no usable container engine, git missing, disk full
	ErrBuild = errors.New("build failed") // Nix ran and said no; Log has its last lines
)
