package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// series are the measurements of one thing.
type series []float64

func (s *series) add(d time.Duration) { *s = append(*s, float64(d.Microseconds())/1000) }

func (s series) at(quantile float64) float64 {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[int(quantile*float64(len(sorted)-1)+0.5)]
}

func (s series) median() float64 { return s.at(0.5) }

// row is one line of a table: a median, the least and the most, and the ratio
// of the median to another one's.
func (s series) row(name, unit string, to series) []string {
	ratio := ""
	if base := to.median(); base > 0 {
		ratio = fmt.Sprintf("%.2f", s.median()/base)
	}
	return []string{name, fmt.Sprintf("%.1f %s", s.median(), unit), fmt.Sprintf("%.1f – %.1f", s.at(0), s.at(1)), fmt.Sprint(len(s)), ratio}
}

// results are series by name, in the order in which the names came first.
type results struct {
	names  []string
	series map[string]series
}

func (r *results) of(name string) series { return r.series[name] }

func (r *results) add(name string, d time.Duration) {
	if r.series == nil {
		r.series = map[string]series{}
	}
	s, known := r.series[name]
	if !known {
		r.names = append(r.names, name)
	}
	s.add(d)
	r.series[name] = s
}

var rowHead = []string{"", "median", "least – most", "runs", "ratio"}

// printTable prints a table in Markdown.
func printTable(rows ...[]string) {
	line := func(cells []string) { fmt.Println("| " + strings.Join(cells, " | ") + " |") }
	line(rows[0])
	line(slices.Repeat([]string{"---"}, len(rows[0])))
	for _, r := range rows[1:] {
		line(r)
	}
}

// machine describes what all of it was measured on.
func machine() string {
	field := func(path, key string) string {
		data, err := os.ReadFile(path)
		if err != nil {
			return "?"
		}
		for line := range strings.Lines(string(data)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == key {
				return strings.TrimSpace(value)
			}
		}
		return strings.TrimSpace(string(data))
	}
	var kib float64
	fmt.Sscan(field("/proc/meminfo", "MemTotal"), &kib)                        // 0 is to be seen
	release, _, _ := strings.Cut(field("/proc/sys/kernel/osrelease", ""), "-") // not whose build it is
	return fmt.Sprintf("Measured on %s: %d × %s, %.0f GiB of memory, Linux %s, software tier (QEMU's TCG), load %s before.",
		time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), field("/proc/cpuinfo", "model name"),
		kib/(1<<20), release, strings.Fields(field("/proc/loadavg", ""))[0])
}
