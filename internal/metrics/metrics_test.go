package metrics

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/stats"
	"github.com/auser/mvm/internal/tenant"
	"github.com/auser/mvm/internal/vmm"
)

func sample() string {
	var b bytes.Buffer
	err := Write(&b, Host{Version: "1.0", Tier: "kvm", Drops: map[string]map[string]uint64{"acme": {"spoofed": 3}}}, []stats.Sample{
		{ID: "acme", Phase: tenant.Running, Running: true, CPU: 1.5, Memory: 1 << 20, NetSent: 42, Disks: map[string]vmm.DiskCounters{"data": {ReadBytes: 7, Writes: 2}}},
		{ID: "idle", Phase: tenant.Stopped},
	})
	if err != nil {
		panic(err)
	}
	return b.String()
}

// TestFormat holds the page to the rules of Prometheus's text format and
// naming.
func TestFormat(t *testing.T) {
	line := regexp.MustCompile(`^([a-z_]+)(\{([a-z]+="[^"\n]*",?)*\})? [0-9.e+-]+$`)
	kinds := map[string]string{}
	helped := map[string]bool{}
	for text := range strings.Lines(sample()) {
		text = strings.TrimSuffix(text, "\n")
		words := strings.Fields(text)
		switch {
		case strings.HasPrefix(text, "# HELP "):
			if helped[words[2]] || !strings.HasSuffix(text, ".") {
				t.Errorf("help of %s: %q", words[2], text)
			}
			helped[words[2]] = true
		case strings.HasPrefix(text, "# TYPE "):
			kinds[words[2]] = words[3]
			if (words[3] == "counter") != strings.HasSuffix(words[2], "_total") {
				t.Errorf("%s is a %s", words[2], words[3])
			}
		default:
			m := line.FindStringSubmatch(text)
			if m == nil {
				t.Errorf("not a sample: %q", text)
			} else if kinds[m[1]] == "" {
				t.Errorf("%s comes before its type", m[1])
			}
		}
	}
}

// TestLint asks Prometheus's own linter.
func TestLint(t *testing.T) {
	problems, err := promlint.New(strings.NewReader(sample())).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestContent(t *testing.T) {
	page := sample()
	for _, want := range []string{
		`mvm_tenants{phase="running"} 1`, `mvm_tenants{phase="failed"} 0`, `mvm_tenant_up{tenant="idle"} 0`,
		`mvm_tenant_cpu_seconds_total{tenant="acme"} 1.5`, `mvm_tenant_network_transmit_bytes_total{tenant="acme"} 42`,
		`mvm_tenant_dropped_packets_total{tenant="acme",reason="spoofed"} 3`,
		`mvm_tenant_guest_disk_read_bytes_total{tenant="acme",disk="data"} 7`,
	} {
		if !strings.Contains(page, want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(page, `cpu_seconds_total{tenant="idle"}`) {
		t.Error("a tenant that does not run has CPU time")
	}
}

func TestServe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.sock")
	for range 2 { // the second finds the first one's socket
		l, err := Listen("unix:" + path)
		if err != nil {
			t.Fatal(err)
		}
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		if _, err := Listen("unix:" + path); err == nil {
			t.Error("two listen on one socket")
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			ended <- Serve(ctx, l, func(_ context.Context, w io.Writer) error { _, err := io.WriteString(w, sample()); return err })
		}()
		resp, err := clientOf(path).Get("http://mvm/metrics")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(body) != sample() || resp.StatusCode != http.StatusOK {
			t.Errorf("%d, %v", resp.StatusCode, err)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// clientOf asks over the socket at path, each time on a connection of its own.
func clientOf(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}}}
}

// TestSocketIsRootsFromTheFirst: also where new files are everybody's.
func TestSocketIsRootsFromTheFirst(t *testing.T) {
	defer unix.Umask(unix.Umask(0))
	dir := t.TempDir()
	l, err := Listen("unix:" + dir + "/m.sock")
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir + "/m.sock"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if mask := unix.Umask(0); mask != 0 {
		t.Errorf("new files are left with the mask %o", mask)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(dir + "/m.sock"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it leaves its socket: %v", err)
	}
	for name, path := range map[string]string{
		"a file":           dir + "/file",
		"a folder":         dir,
		"no such folder":   dir + "/nowhere/m.sock",
		"no path":          "",
		"too long a path":  dir + "/" + strings.Repeat("x", 107),
		"a link to a file": dir + "/link",
	} {
		if err := os.WriteFile(dir+"/file", []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		os.Symlink(dir+"/file", dir+"/link") // is there the second time
		if l, err := Listen("unix:" + path); err == nil {
			l.Close()
			t.Errorf("it listens on %s", name)
		}
		if text, err := os.ReadFile(dir + "/link"); err != nil || string(text) != "mine" {
			t.Errorf("%s: it took away what is no socket: %q, %v", name, text, err)
		}
	}
}

// served serves a page that is more than any buffer takes, on a socket. Each
// answer first says that it has begun, and then waits for wait to be closed.
func served(t *testing.T, grace time.Duration, wait chan bool) (path string, begun chan bool, stop context.CancelFunc, ended chan error) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "m.sock")
	l, err := Listen("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	begun, ended = make(chan bool, 10), make(chan error, 1)
	go func() {
		ended <- serve(ctx, l, func(_ context.Context, w io.Writer) error {
			begun <- true
			<-wait
			_, err := io.WriteString(w, large)
			return err
		}, grace)
	}()
	return path, begun, stop, ended
}

var large = strings.Repeat("x", 8<<20)

func scrape(path string) error {
	resp, err := clientOf(path).Get("http://mvm/metrics")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && string(body) != large {
		err = fmt.Errorf("%d bytes of %d", len(body), len(large))
	}
	return err
}

// TestSlowClients: neither one that says nothing nor one that reads nothing keeps
// others from their answers, or the server from its end.
func TestSlowClients(t *testing.T) {
	wait := make(chan bool)
	close(wait)
	path, begun, stop, ended := served(t, 10*time.Millisecond, wait)
	for _, says := range []string{"", "GET /met", "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, says); err != nil {
			t.Fatal(err)
		}
	}
	<-begun
	if err := scrape(path); err != nil {
		t.Errorf("beside slow ones: %v", err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it leaves its socket: %v", err)
	}
}

// TestAnswerIsEnded: one that had begun when the server was to end is whole.
func TestAnswerIsEnded(t *testing.T) {
	wait := make(chan bool)
	path, begun, stop, ended := served(t, time.Hour, wait)
	last := make(chan error, 1)
	go func() { last <- scrape(path) }()
	<-begun
	stop()
	for { // until nobody is let in any more
		conn, err := net.Dial("unix", path)
		if err != nil {
			break
		}
		conn.Close()
	}
	close(wait)
	if err := errors.Join(<-last, <-ended); err != nil {
		t.Error(err)
	}
}

// TestServeRefuses what is no scrape, and tells of one that fails.
func TestServeRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.sock")
	l, err := Listen("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- Serve(ctx, l, func(context.Context, io.Writer) error { return errors.New("no tenants can be read") })
	}()
	for request, want := range map[string]int{"GET /": 404, "GET /metrics/..": 404, "POST /metrics": 405, "GET /metrics": 500} {
		method, at, _ := strings.Cut(request, " ")
		req, err := http.NewRequest(method, "http://mvm"+at, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := clientOf(path).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", request, resp.StatusCode, want)
		}
		resp.Body.Close()
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestListenIsLocal(t *testing.T) {
	for _, where := range []string{"0.0.0.0:9100", ":9100", "10.0.0.1:9100", "9100"} {
		if l, err := Listen(where); err == nil {
			l.Close()
			t.Errorf("listens on %s", where)
		}
	}
}

// TestDashboard asks that the dashboard shows what there is.
func TestDashboard(t *testing.T) {
	data, err := os.ReadFile("../../docs/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	page := sample()
	names := regexp.MustCompile(`mvm_[a-z_]+`).FindAllString(string(data), -1)
	if len(names) < 5 {
		t.Errorf("the dashboard shows %v", names)
	}
	for _, name := range names {
		if !strings.Contains(page, "# TYPE "+name+" ") {
			t.Errorf("the dashboard shows %s, which there is not", name)
		}
	}
}
