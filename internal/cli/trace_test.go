package cli

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/auser/mvm/internal/lifecycle"
)

func TestTraceIsInChromesFormat(t *testing.T) {
	began := time.Now()
	at := func(ms int) time.Time { return began.Add(time.Duration(ms) * time.Millisecond) }
	spans := []lifecycle.Span{ // as they end
		{Name: "lock", Start: at(0), Took: time.Millisecond},
		{Name: "tap", Supervisor: true, Start: at(3), Took: time.Millisecond},
		{Name: "network", Supervisor: true, Start: at(3), Took: 4 * time.Millisecond},
		{Name: "spawn", Start: at(1), Took: 9 * time.Millisecond},
	}
	var out bytes.Buffer
	if err := writeTrace(&out, "mvm tenant run acme", spans); err != nil {
		t.Fatal(err)
	}
	var doc struct {
		TraceEvents []map[string]any `json:"traceEvents"`
	}
	if err := json.Unmarshal(out.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	want := []struct {
		name, phase  string
		ts, dur, pid float64
	}{
		{"process_name", "M", 0, 0, 1}, {"process_name", "M", 0, 0, 2},
		{"lock", "X", 0, 1000, 1}, {"spawn", "X", 1000, 9000, 1},
		{"network", "X", 3000, 4000, 2}, {"tap", "X", 3000, 1000, 2},
	}
	if len(doc.TraceEvents) != len(want) {
		t.Fatalf("%d events, want %d", len(doc.TraceEvents), len(want))
	}
	for i, w := range want {
		e := doc.TraceEvents[i]
		if e["name"] != w.name || e["ph"] != w.phase || e["ts"] != w.ts || e["dur"] != w.dur || e["pid"] != w.pid || e["tid"] != 1.0 {
			t.Errorf("event %d is %v, want %+v", i, e, w)
		}
	}
}
