package logfile

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"time"
)

// moment is one entry of an index: what follows offset was written from time
// on.
type moment struct {
	time   time.Time
	offset int64
}

func entry(t time.Time, offset int64) string {
	return fmt.Sprintf("%s %d\n", t.UTC().Format("2006-01-02T15:04:05.000Z"), offset)
}

func parseEntry(line string) (moment, bool) {
	var m moment
	stamp, rest, ok := strings.Cut(line, " ")
	if !ok {
		return m, false
	}
	var err error
	if m.time, err = time.Parse(time.RFC3339, stamp); err != nil {
		return m, false
	}
	n, err := fmt.Sscanf(rest, "%d", &m.offset)
	return m, n == 1 && err == nil && fmt.Sprint(m.offset) == rest
}

// readIndex reads the index at path. An entry that was cut short is left out.
func readIndex(path string) (head string, moments []moment, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if head == "" {
			head = lines.Text() + "\n"
		} else if m, ok := parseEntry(lines.Text()); ok {
			moments = append(moments, m)
		}
	}
	return head, moments, lines.Err()
}

// from is the offset in a log from which on it was written at or after since,
// to the index's granularity; found is false where nothing was.
func from(moments []moment, since time.Time) (offset int64, found bool) {
	for _, m := range moments {
		if m.time.Add(granularity).After(since) {
			return m.offset, true
		}
	}
	return 0, false
}
