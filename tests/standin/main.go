// Command standin stands in for QEMU where a test is about everything around
// the VMM: it takes QEMU's command line, answers on its control connection and
// lives until it is killed. Static, it runs in any jail.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		fmt.Println("QEMU emulator version 7.2.22 (a stand-in)")
		return
	}
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "standin:", err)
		os.Exit(1)
	}
}

func serve() error {
	fd, err := controlFD(os.Args[1:])
	if err != nil {
		return err
	}
	control := os.NewFile(uintptr(fd), "control")
	fmt.Println("console of the stand-in")
	status := "running"
	fmt.Fprintln(control, `{"QMP": {"version": `+version+`, "capabilities": []}}`)
	for lines := bufio.NewScanner(control); lines.Scan(); {
		var request struct {
			Execute string          `json:"execute"`
			ID      json.RawMessage `json:"id"`
		}
		if err := json.Unmarshal(lines.Bytes(), &request); err != nil {
			return err
		}
		result := "{}"
		switch request.Execute {
		case "stop":
			status = "paused"
		case "cont":
			status = "running"
		case "query-version":
			result = version
		case "query-status":
			result = fmt.Sprintf(`{"status": %q, "running": %t}`, status, status == "running")
		case "query-blockstats":
			result = `[{"device": "data", "stats": {"wr_bytes": 1}}]`
		}
		fmt.Fprintf(control, "{\"return\": %s, \"id\": %s}\n", result, request.ID)
	}
	return nil // whoever held the other end is gone
}

const version = `{"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": "a stand-in"}`

// controlFD finds the descriptor in -chardev socket,id=qmp,fd=N.
func controlFD(args []string) (int, error) {
	for _, a := range args {
		if rest, ok := strings.CutPrefix(a, "socket,id=qmp,fd="); ok {
			return strconv.Atoi(rest)
		}
	}
	return 0, fmt.Errorf("no control connection in %q", args)
}
