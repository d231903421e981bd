package build

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/auser/mvm/internal/run"
)

// Engine is a container engine that answered.
type Engine struct {
	Name    string // docker, nerdctl or podman: what it behaves like
	Path    string // the client's binary
	Version string
}

// Engines lists what Detect tries, in this order.
var Engines = []string{"docker", "nerdctl", "podman"}

// detectTimeout bounds one client's answer: a daemon may be hung.
const detectTimeout = 20 * time.Second

// Detect returns preferred, or the first engine that answers where preferred
// is empty. Its error says what each one answered and how to fix that.
func Detect(ctx context.Context, preferred string) (Engine, error) {
	names := Engines
	if preferred != "" {
		if !isEngine(preferred) {
			return Engine{}, &Error{
				Kind: ErrInput,
				Msg:  fmt.Sprintf("%q is no container engine that mvm knows", preferred),
				Hint: "use " + strings.Join(Engines, ", "),
			}
		}
		names = []string{preferred}
	}
	var tried []attempt
	for _, name := range names {
		engine, err := probe(ctx, name)
		if err == nil {
			return engine, nil
		}
		if ctx.Err() != nil {
			return Engine{}, ctx.Err()
		}
		tried = append(tried, diagnose(name, err))
	}
	return Engine{}, noEngine(tried)
}

func isEngine(name string) bool {
	for _, e := range Engines {
		if e == name {
			return true
		}
	}
	return false
}

// probe asks the engine, not only its client, for a sign of life.
func probe(ctx context.Context, name string) (Engine, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return Engine{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, detectTimeout)
	defer cancel()
	out, err := run.Output(ctx, path, versionArgs(name)...)
	if name == "docker" && err != nil && isPodman(ctx, path, err) {
		name = "podman"
		out, err = run.Output(ctx, path, versionArgs(name)...)
	}
	if err != nil {
		return Engine{}, err
	}
	version, _, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	return Engine{Name: name, Path: path, Version: version}, nil
}

// isPodman recognises podman under docker's name, as podman-docker installs
// it, after it did not understand docker's template.
func isPodman(ctx context.Context, path string, err error) bool {
	var failed *run.Error
	if errors.As(err, &failed) && strings.Contains(failed.Stderr, "can't evaluate field") {
		return true
	}
	out, err := run.Output(ctx, path, "--version")
	return err == nil && strings.HasPrefix(string(out), "podman")
}

// attempt is one engine that did not answer.
type attempt struct{ name, problem, fix string }

// diagnose turns a failed probe into words: what is wrong and what helps.
func diagnose(name string, err error) attempt {
	said := ""
	var failed *run.Error
	if errors.As(err, &failed) {
		said = strings.ToLower(failed.Stderr)
	}
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return attempt{name, "not installed", "install " + name}
	case errors.Is(err, context.DeadlineExceeded):
		return attempt{name, "did not answer within " + detectTimeout.String(), "restart " + daemonOf(name)}
	case strings.Contains(said, "permission denied"):
		return attempt{name, "permission denied", "run mvm as root"}
	case strings.Contains(said, "cannot connect"), strings.Contains(said, "cannot access containerd"),
		strings.Contains(said, "no such file"), strings.Contains(said, "connection refused"),
		strings.Contains(said, "failed to connect"):
		return attempt{name, "installed, but its engine is not running", "start " + daemonOf(name)}
	}
	return attempt{name, err.Error(), "see what `" + name + " info` says"}
}

func daemonOf(name string) string {
	switch name {
	case "docker":
		return "it with `systemctl start docker`, or point DOCKER_HOST at the engine's socket"
	case "nerdctl":
		return "it with `systemctl start containerd`"
	}
	return "the podman service"
}

func noEngine(tried []attempt) error {
	problems := make([]string, len(tried))
	fixes := make([]string, len(tried))
	for i, t := range tried {
		problems[i] = t.name + ": " + t.problem
		fixes[i] = t.fix
	}
	msg := "no usable container engine"
	if len(tried) == 1 {
		msg = "container engine is not usable"
	}
	return &Error{
		Kind: ErrHost,
		Msg:  msg + " (" + strings.Join(problems, "; ") + ")",
		Hint: strings.Join(fixes, "; or "),
	}
}

// output runs the engine's client.
func (e Engine) output(ctx context.Context, args ...string) (string, error) {
	out, err := run.Output(ctx, e.Path, args...)
	return strings.TrimSpace(string(out)), err
}
