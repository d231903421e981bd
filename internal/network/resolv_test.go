package network

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestHostResolvers(t *testing.T) {
	for name, c := range map[string]struct {
		files []string
		want  string
	}{
		"plain":            {[]string{"search x\nnameserver 192.168.1.1\nnameserver 9.9.9.9\n"}, "[192.168.1.1 9.9.9.9]"},
		"stub":             {[]string{"nameserver 127.0.0.53\noptions edns0\n", "nameserver 10.0.0.2\n"}, "[10.0.0.2]"},
		"missing file":     {[]string{"", "nameserver 10.0.0.2\n"}, "[10.0.0.2]"},
		"IPv6 left out":    {[]string{"nameserver fe80::1%eth0\nnameserver 2001:db8::1\nnameserver 1.1.1.1\n"}, "[1.1.1.1]"},
		"two at most":      {[]string{"nameserver 1.1.1.1\nnameserver 1.1.1.1\nnameserver 1.0.0.1\nnameserver 9.9.9.9\n"}, "[1.1.1.1 1.0.0.1]"},
		"the cloud's own":  {[]string{"nameserver 169.254.169.253\n"}, "[169.254.169.253]"},
		"nothing reaches":  {[]string{"nameserver 127.0.0.1\n"}, "[]"},
		"comment, garbage": {[]string{"# nameserver 1.2.3.4\nnameserver\nnameserver x\n"}, "[]"},
	} {
		var files []string
		for i, text := range c.files {
			path := filepath.Join(t.TempDir(), fmt.Sprint(i))
			if text != "" {
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			files = append(files, path)
		}
		got, err := hostResolvers(files)
		if fmt.Sprint(got) != c.want || (len(got) == 0) != errors.Is(err, ErrNoResolver) {
			t.Errorf("%s: got %v, %v, want %s", name, got, err, c.want)
		}
	}
}
