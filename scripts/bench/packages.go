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

// measured are the packages whose own benchmarks compare with the bare tools.
var measured = []string{"./internal/build", "./internal/network", "./internal/volume"}

// packagesPart runs the packages' benchmarks and puts their figures together.
func (b *bench) packagesPart(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-run", "^$", "-bench", ".",
		"-benchtime", fmt.Sprintf("%dx", max(1, b.runs/2)), "-timeout", "60m", "-p", "1"}, measured...)...)
	cmd.Env = append(os.Environ(), "MVM_TEST_CACHE="+b.cache)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("the packages' benchmarks: %w: %s", err, out)
	}
	rows := append([][]string{{"", "runs", "figures"}}, benchmarkRows(out)...)
	printTable(rows...)
	return nil
}

// benchmarkRows makes a row of each result that go test printed.
func benchmarkRows(out []byte) (rows [][]string) {
	pkg := ""
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) == 2 && words[0] == "pkg:" {
			pkg = words[1][strings.LastIndex(words[1], "/")+1:]
		}
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
		rows = append(rows, []string{pkg + ": " + name, words[1], strings.Join(figures, ", ")})
	}
	return rows
}
