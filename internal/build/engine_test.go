package build_test

import (
	"errors"
	"testing"

	"github.com/auser/mvm/internal/build"
	"github.com/auser/mvm/internal/build/enginetest"
)

func TestBuild(t *testing.T) {
	engine := enginetest.Docker(t)
	req := newRequest(t, engine, writeGuest(t, flakeBody))
	m, res, err := build.Build(t.Context(), req, func(e build.Event) { t.Logf("%s %s %s %s %v", e.Phase, e.Kind, e.Source, e.Text, e.Elapsed) })
	var e *build.Error
	errors.As(err, &e)
	if err != nil {
		t.Fatalf("%v\n%+v", err, e)
	}
	data, _ := m.Encode()
	t.Logf("%s %+v", data, res)
	t.Log(readFile(t, req.LogPath))
}
