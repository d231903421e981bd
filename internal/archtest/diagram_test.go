package archtest

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDiagrams holds the diagrams of the pages to the imports: every arrow is
// one, and every import between two packages that a diagram shows is an arrow,
// or a way along several.
func TestDiagrams(t *testing.T) {
	imports := map[string]map[string]bool{} // by rooms
	for _, p := range packages(t) {
		from := strings.TrimPrefix(p.ImportPath, module)
		if exempt(from) {
			continue
		}
		_, name := room(from)
		for _, imp := range p.Imports {
			if _, to := room(strings.TrimPrefix(imp, module)); to != "" && to != name {
				add(imports, name, to)
			}
		}
	}
	for _, page := range []string{"docs/architecture.md", "README.md"} {
		arrows := diagram(t, page)
		for from, tos := range arrows {
			for to := range tos {
				if !imports[from][to] {
					t.Errorf("%s has an arrow from %s to %s, which it does not import", page, from, to)
				}
			}
		}
		for from := range arrows {
			reached := map[string]bool{}
			reach(arrows, from, reached)
			for to := range imports[from] {
				if shown(arrows, to) && !reached[to] {
					t.Errorf("%s imports %s, and %s shows no way from one to the other", from, to, page)
				}
			}
		}
	}
}

// TestEveryPackageIsDescribed asks that each has its place in the table.
func TestEveryPackageIsDescribed(t *testing.T) {
	page := read(t, "docs/architecture.md")
	dirs, err := os.ReadDir("../../internal")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		if d.Name() != "archtest" && !strings.Contains(page, "`"+d.Name()+"`") {
			t.Errorf("docs/architecture.md does not name %s", d.Name())
		}
	}
	rows := regexp.MustCompile("(?m)^\\| (`.*`) \\|").FindAllStringSubmatch(page, -1)
	for _, row := range rows {
		for _, name := range regexp.MustCompile("`([a-z]+)`").FindAllStringSubmatch(row[1], -1) {
			if _, err := os.Stat("../../internal/" + name[1]); err != nil {
				t.Errorf("docs/architecture.md describes %s, which there is not", name[1])
			}
		}
	}
	if len(rows) < 15 {
		t.Errorf("the table has %d rows", len(rows))
	}
}

// diagram reads the arrows between packages from a page's Mermaid flowchart.
func diagram(t *testing.T, page string) map[string]map[string]bool {
	t.Helper()
	m := regexp.MustCompile("(?s)```mermaid\nflowchart TB\n(.*?)```").FindStringSubmatch(read(t, page))
	if m == nil {
		t.Fatalf("%s has no diagram", page)
	}
	arrows := map[string]map[string]bool{}
	for line := range strings.Lines(m[1]) {
		line = regexp.MustCompile(`\[[^]]*\]|\(\[[^]]*\]\)|\|[^|]*\|`).ReplaceAllString(line, "")
		var before []string
		for _, group := range strings.Split(line, "-->") {
			var names []string
			for _, name := range strings.Split(group, "&") {
				names = append(names, packageOf(t, page, strings.Trim(name, " ()\n")))
			}
			for _, from := range before {
				for _, to := range names {
					if from != "" && to != "" {
						add(arrows, from, to)
					}
				}
			}
			before = names
		}
	}
	if len(arrows) < 4 {
		t.Fatalf("%s: the diagram has arrows from %v only", page, slices.Collect(maps.Keys(arrows)))
	}
	return arrows
}

// packageOf is the package that a node of a diagram stands for; "" for a person.
func packageOf(t *testing.T, page, node string) string {
	t.Helper()
	switch node {
	case "person":
		return ""
	case "cmd":
		return "cmd/mvm"
	}
	if _, err := os.Stat("../../internal/" + node); err != nil {
		t.Errorf("%s shows %s, which is no package", page, node)
	}
	return "internal/" + node
}

func add(edges map[string]map[string]bool, from, to string) {
	if edges[from] == nil {
		edges[from] = map[string]bool{}
	}
	edges[from][to] = true
}

func reach(arrows map[string]map[string]bool, from string, seen map[string]bool) {
	for to := range arrows[from] {
		if !seen[to] {
			seen[to] = true
			reach(arrows, to, seen)
		}
	}
}

func shown(arrows map[string]map[string]bool, name string) bool {
	if arrows[name] != nil {
		return true
	}
	for _, tos := range arrows {
		if tos[name] {
			return true
		}
	}
	return false
}

func read(t *testing.T, page string) string {
	t.Helper()
	data, err := os.ReadFile("../../" + page)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
