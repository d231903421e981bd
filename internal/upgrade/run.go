package upgrade

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"time"

	"github.com/auser/mvm/internal/buildinfo"
	"github.com/auser/mvm/internal/fault"
)

// Done is what an upgrade found and did.
type Done struct {
	Have    string `json:"have"`
	Latest  string `json:"latest"`
	Newer   bool   `json:"newer"`
	Changed bool   `json:"changed"`
}

func (d Done) String() string {
	switch {
	case d.Changed:
		return fmt.Sprintf("mvm is now %s, it was %s", d.Latest, d.Have)
	case d.Newer:
		return fmt.Sprintf("mvm %s is there, this is %s", d.Latest, d.Have)
	}
	return fmt.Sprintf("mvm %s is the newest", d.Have)
}

// Self looks for a newer release of the running program and, unless it is only
// to be looked for, installs it. url is empty for the usual place.
func Self(ctx context.Context, url string, check bool) (Done, error) {
	done, err := self(ctx, url, check)
	if advice := hint(err); advice != "" {
		err = &fault.Error{Err: err, Hint: advice}
	}
	return done, err
}

func self(ctx context.Context, url string, check bool) (Done, error) {
	if url == "" {
		url = DefaultURL
	}
	s := Source{URL: url, Key: buildinfo.ReleaseKey(), Client: &http.Client{Timeout: 10 * time.Minute}}
	program, err := os.Executable()
	if err != nil {
		return Done{}, fmt.Errorf("cannot find this program: %w", err)
	}
	targets, err := Targets(program, runtime.GOOS, runtime.GOARCH)
	if err != nil {
		return Done{}, err
	}
	return s.Upgrade(ctx, buildinfo.Get().Version, targets, check)
}

// Upgrade brings targets from version have to the latest release.
func (s Source) Upgrade(ctx context.Context, have string, targets []Target, check bool) (Done, error) {
	latest, err := s.Latest(ctx)
	if err != nil {
		return Done{}, err
	}
	done := Done{Have: have, Latest: latest.Version}
	if done.Newer, err = Newer(have, latest.Version); err != nil || check || !done.Newer {
		return done, err
	}
	if err := s.Install(ctx, latest, targets); err != nil {
		return done, err
	}
	done.Changed = true
	return done, nil
}

// hint says what to do about an error of this package's.
func hint(err error) string {
	switch {
	case errors.Is(err, ErrOffline):
		return "nothing was changed; try again with a network, or name a mirror with MVM_RELEASE_URL"
	case errors.Is(err, ErrNoRelease):
		return "upgrade it the way it was installed, for example by building it anew"
	case errors.Is(err, ErrBusy):
		return "nothing was changed; wait for its end"
	case errors.Is(err, ErrUnsigned):
		return "nothing was changed; do not install it by hand either"
	case errors.Is(err, os.ErrPermission):
		return "nothing was changed; run it as the owner of the program, for example with sudo"
	}
	return ""
}
