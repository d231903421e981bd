package main

import (
	"encoding/json"
	"os"
	"time"
)

// The steps of mvm tenant run that are not mvm's: what passes until QEMU has
// loaded itself and the guest's kernel, and until the guest has booted.
var foreign = []string{"vmm loads", "ssh answers"}

// readTrace adds what mvm tenant run --trace wrote to the steps, and what
// remains of the whole as mvm's own part. Then the file is gone.
func readTrace(file string, whole time.Duration, steps *results) error {
	defer os.Remove(file)
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var doc struct {
		Events []struct {
			Name  string  `json:"name"`
			Phase string  `json:"ph"`
			Dur   float64 `json:"dur"`
		} `json:"traceEvents"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return err
	}
	own := whole
	for _, e := range doc.Events {
		if e.Phase != "X" {
			continue
		}
		took := time.Duration(e.Dur * float64(time.Microsecond))
		steps.add(e.Name, took)
		for _, name := range foreign {
			if e.Name == name {
				own -= took
			}
		}
	}
	steps.add("mvm's own part", own)
	return nil
}
