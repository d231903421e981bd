package main

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/auser/mvm/internal/goldenfile"
)

func TestDomainXML(t *testing.T) {
	var got strings.Builder
	err := domainXML.Execute(&got, domainSpec{
		Name: "hand0", Image: "/cache/a & b", Words: "console=ttyS0 quiet ip=10.60.0.10::10.60.0.1:255.255.0.0:bench:eth0:off", MemMiB: 128,
		MAC: "02:be:00:00:00:00", TAP: "hand0", Console: "/cache/console.log",
		Disks: []domainDisk{{"vda", "/cache/rootfs.ext4", "unsafe", true}, {"vdb", "/cache/data.ext4", "writeback", false}},
	})
	if err != nil {
		t.Fatal(err)
	}
	goldenfile.Check(t, "testdata/domain.xml", got.String())
}

func TestBenchmarkRows(t *testing.T) {
	got := benchmarkRows([]byte(`goos: linux
pkg: github.com/auser/mvm/internal/build
BenchmarkNoop/git-2   	       3	         0 ns/op	         4.250 added-%	         1.234 mvm-s
PASS
ok  	github.com/auser/mvm/internal/build	1.2s
BenchmarkCopy-2       	       3	   1234567 ns/op
`))
	want := [][]string{
		{"Noop/git", "3", "4.250 added-%, 1.234 mvm-s"},
		{"Copy", "3", "1234567 ns/op"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestRow(t *testing.T) {
	var r results
	for _, ms := range []int{30, 10, 20} {
		r.add("mvm", time.Duration(ms)*time.Millisecond)
	}
	r.add("bare", 10*time.Millisecond)
	want := []string{"mvm", "20.0 ms", "10.0 – 30.0", "3", "2.00"}
	if got := r.of("mvm").row("mvm", "ms", r.of("bare")); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
}
