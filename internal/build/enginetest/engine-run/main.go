//go:build linux

// Command engine-run runs a command with a docker engine at hand:
//
//	go run ./internal/build/enginetest/engine-run [-dir folder] command [argument…]
//
// Where no engine answers, it starts one of its own in namespaces of its own,
// sets DOCKER_HOST for the command and stops the engine after it. Its exit
// code is the command's.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/auser/mvm/internal/build/enginetest"
)

func main() {
	dir := flag.String("dir", "", "folder of the engine's images and volumes (default: docker in the cache folder)")
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	code, err := run(*dir, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "engine-run:", err)
		if code == 0 {
			code = 1
		}
	}
	os.Exit(code)
}

func run(dir string, argv []string) (code int, err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if dir == "" {
		cache, err := enginetest.CacheDir()
		if err != nil {
			return 1, err
		}
		dir = filepath.Join(cache, "docker")
	}
	env := os.Environ()
	if !enginetest.Answers(ctx, "") {
		daemon, err := enginetest.Start(ctx, dir)
		if err != nil {
			return 1, err
		}
		defer func() { err = errors.Join(err, daemon.Stop()) }()
		env = append(env, "DOCKER_HOST="+daemon.Host)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() >= 0 {
		return exit.ExitCode(), nil
	}
	return 0, err
}
