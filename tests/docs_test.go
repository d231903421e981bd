package tests

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// page is one whose blocks of shell are all run.
type page struct {
	name  string
	given string // what it takes for granted
}

const acmeRuns = `mvm tenant create acme --flake ./nix/debian --profile minimal --mem 256 --data-size 64
mvm tenant build acme
mvm tenant run acme`

// followed are the pages that are run, and notRun the first lines of those
// blocks that cannot be: each is so marked in the text.
var (
	followed = []page{
		{"README.md", ""}, {"docs/tutorial.md", ""}, {"docs/howto/own-flake.md", ""}, {"docs/howto/air-gapped.md", ""},
		{"docs/howto/ci.md", ""}, {"docs/howto/audit.md", ""}, {"docs/howto/incident.md", acmeRuns},
		{"docs/howto/production.md", acmeRuns + "\nmvm export > tenants.yaml"},
	}
	notRun = []string{
		"make demo    # the whole life of one tenant, with real parts",
		"mvm bootstrap                # installs what is missing, decides the tier",
		"nix/debian/fetch-packages /var/cache/mvm/debian",
		"make prepare                 # builds bin/mvm, fetches what guests are made of",
		"mvm setup",
		"mvm tenant console acme",
		"mvm doctor",
		"mvm metrics --listen 127.0.0.1:9550",
	}
	// onlyOnAMac has the page that cannot be.
	onlyOnAMac = []string{"docs/howto/macos.md"}
)

// marker is what the paragraph before a block says where it is not run.
const marker = "ot run by the docs' test:"

// block is one of a page's, with what it must print.
type block struct {
	line   int
	code   string
	output []string
	skip   bool
}

// fenced is also one that belongs to the step of a list.
var fenced = regexp.MustCompile("(?ms)^([ ]*)```(sh|output)\n(.*?)^[ ]*```$")

func blocks(t *testing.T, page string) []block {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", page))
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	var list []block
	last := 0
	for _, at := range fenced.FindAllStringSubmatchIndex(text, -1) {
		indent, kind, body, before := text[at[2]:at[3]], text[at[4]:at[5]], text[at[6]:at[7]], text[last:at[0]]
		body = strings.ReplaceAll("\n"+body, "\n"+indent, "\n")[1:]
		last = at[1]
		if kind == "output" {
			if len(list) == 0 || strings.TrimSpace(before) != "" {
				t.Fatalf("%s: an output stands behind no block: %s", page, body)
			}
			list[len(list)-1].output = strings.Split(strings.TrimSpace(body), "\n")
			continue
		}
		paragraphs := strings.Split(strings.TrimSpace(before), "\n\n")
		skip := strings.Contains(strings.Join(strings.Fields(paragraphs[len(paragraphs)-1]), " "), marker)
		list = append(list, block{strings.Count(text[:at[0]], "\n") + 1, body, nil, skip})
	}
	return list
}

// TestDocs follows README, tutorial and how-tos from the first command to the
// last, each page in one shell, with real guests.
func TestDocs(t *testing.T) {
	howtos, err := filepath.Glob("../docs/howto/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, howto := range howtos {
		name := strings.TrimPrefix(howto, "../")
		if slices.Contains(onlyOnAMac, name) == slices.ContainsFunc(followed, func(p page) bool { return p.name == name }) {
			t.Errorf("%s is not followed", name)
		}
	}
	var skipped []string
	for _, page := range followed {
		for _, b := range blocks(t, page.name) {
			if b.skip {
				first, _, _ := strings.Cut(b.code, "\n")
				skipped = append(skipped, first)
			}
		}
	}
	if !slices.Equal(skipped, notRun) {
		t.Fatalf("these blocks are marked as not run:\n%s\nand the test allows:\n%s", strings.Join(skipped, "\n"), strings.Join(notRun, "\n"))
	}
	e := newEnv(t)
	for _, page := range followed {
		t.Run(filepath.Base(page.name), func(t *testing.T) {
			t.Cleanup(func() { e.nothingLeft(t) })
			e.keepSettings(t) // a page may have its own
			list := blocks(t, page.name)
			if page.given != "" {
				list = append([]block{{code: page.given}}, list...)
			}
			e.followPage(t, list)
		})
	}
}

// keepSettings puts config.toml back when the test ends.
func (e *env) keepSettings(t *testing.T) {
	t.Helper()
	config := filepath.Join(e.root, "config.toml")
	settings, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(config, settings, 0o600); err != nil {
			t.Fatal(err)
		}
	})
}

// followPage runs a page's blocks in a folder like a clone of the repository.
func (e *env) followPage(t *testing.T, list []block) {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("cp", "-a", filepath.Join(e.repo, "nix"), dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Symlink(e.cache, filepath.Join(dir, ".cache")); err != nil {
		t.Fatal(err)
	}
	// What builder fetch would make, and what build-local would.
	if err := os.Symlink(e.cache, filepath.Join(dir, "carry")); err != nil {
		t.Fatal(err)
	}
	builder := filepath.Join(e.root, "builder")
	if out, err := exec.Command("cp", "-a", "-T", filepath.Join(e.cache, "builder"), builder).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	script := "set -euo pipefail\n"
	said := func(i int) string { return filepath.Join(dir, fmt.Sprintf("block-%d.said", i)) }
	for i, b := range list {
		if !b.skip {
			script += fmt.Sprintf("{\n%s\n} > %s 2>&1 </dev/null\n", b.code, said(i))
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+e.bin+":"+os.Getenv("PATH"), "MVM_ROOT="+e.root)
	failed := cmd.Run()
	for i, b := range list {
		if b.skip {
			continue
		}
		out, err := os.ReadFile(said(i))
		if err != nil {
			break // the block before has failed
		}
		for _, want := range b.output {
			if !strings.Contains(string(out), want) {
				t.Errorf("line %d: it does not say %q:\n%s\nbut:\n%s", b.line, want, b.code, out)
			}
		}
		if _, err := os.Stat(said(i + 1)); failed != nil && err != nil && (i+1 == len(list) || !list[i+1].skip) {
			t.Errorf("line %d: %v:\n%s\n%s", b.line, failed, b.code, out)
		}
	}
	if failed != nil {
		t.Fatal(failed)
	}
}
