package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// buildPart runs the benchmarks of package build, which take turns with the same
// engine, image and Nix by hand, and puts their figures together.
func (b *bench) buildPart(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", ".",
		"-benchtime", fmt.Sprintf("%dx", max(1, b.runs/2)), "-timeout", "30m", "./internal/build")
	cmd.Env = append(os.Environ(), "MVM_TEST_CACHE="+b.cache) // what make prepare fetched
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("the benchmarks of builds: %w: %s", err, out)
	}
	printTable(append([][]string{{"", "runs", "figures"}}, benchmarkRows(out)...)...)
	return nil
}

// benchmarkRows makes a row of each result that go test printed.
func benchmarkRows(out []byte) (rows [][]string) {
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) < 4 || !strings.HasPrefix(words[0], "Benchmark") {
			continue
		}
		name := strings.TrimPrefix(words[0], "Benchmark")
		if cut := strings.LastIndex(name, "-"); cut > 0 { // GOMAXPROCS
			name = name[:cut]
		}
		var figures []string
		for i := 2; i+1 < len(words); i += 2 {
			if v, err := strconv.ParseFloat(words[i], 64); err == nil && v != 0 {
				figures = append(figures, words[i]+" "+words[i+1])
			}
		}
		rows = append(rows, []string{name, words[1], strings.Join(figures, ", ")})
	}
	return rows
}
