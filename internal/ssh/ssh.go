// Package ssh is how mvm reaches into a guest: the tenant's keys, the pinned
// host key, the command line of the ssh client, and a small client of its own
// for probing and for asking a guest to stop.
//
// It owns the files of a tenant's ssh folder and the options under which a
// guest is trusted. It must not know where that folder is, what a tenant is
// beyond its id, or what runs in the guest.
package ssh

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// The files of a tenant's ssh folder.
const (
	ClientKey  = "id_ed25519"
	HostKey    = "ssh_host_ed25519_key"
	KnownHosts = "known_hosts"
)

// Target is a guest to talk to.
type Target struct {
	ID   string // tenant id, under which the host key is pinned
	Addr string // address of the guest
	Port int    // 0 means 22
	Dir  string // the tenant's ssh folder
}

// user is who mvm is in a guest.
const user = "root"

func (t Target) port() int {
	if t.Port == 0 {
		return 22
	}
	return t.Port
}

// Options is what differs between one call of the ssh client and another.
type Options struct {
	TTY   bool     // give the remote command a terminal
	Extra []string // further options of the ssh client, such as -L …
}

// option is one line of an ssh configuration.
type option struct{ name, value string }

// trust is what makes the client use the tenant's key and accept the tenant's
// host key, and nothing else: no agent, no configuration, no known_hosts of
// the person who calls, no shared connection, no question asked.
func (t Target) trust() []option {
	return []option{
		{"User", user},
		{"Port", strconv.Itoa(t.port())},
		{"IdentityFile", configPath(t.Dir, ClientKey)},
		{"IdentitiesOnly", "yes"},
		{"IdentityAgent", "none"},
		{"PreferredAuthentications", "publickey"},
		{"HostKeyAlias", t.ID},
		{"HostKeyAlgorithms", "ssh-ed25519"},
		{"StrictHostKeyChecking", "yes"},
		{"UserKnownHostsFile", configPath(t.Dir, KnownHosts)},
		{"GlobalKnownHostsFile", "/dev/null"},
		{"UpdateHostKeys", "no"},
		{"CheckHostIP", "no"},
		{"BatchMode", "yes"},
		{"ForwardAgent", "no"},
		{"ControlMaster", "no"},
		{"ControlPath", "none"},
		{"ConnectTimeout", "10"},
		{"ServerAliveInterval", "15"},
		{"ServerAliveCountMax", "4"},
		{"LogLevel", "ERROR"},
	}
}

// Args are the arguments of the ssh client that run argv in the guest, or a
// login shell where argv is empty.
func Args(t Target, o Options, argv []string) []string {
	args := []string{"-F", "none"}
	for _, opt := range t.trust() {
		args = append(args, "-o", opt.name+"="+opt.value)
	}
	tty := "no"
	if o.TTY {
		tty = "force"
	}
	args = append(args, "-o", "RequestTTY="+tty)
	args = append(args, o.Extra...)
	// The client looks for options behind the host, too, unless told here
	// that there are no more.
	args = append(args, "--", t.Addr)
	if len(argv) > 0 {
		args = append(args, Quote(argv))
	}
	return args
}

// Config is the tenant's stanza for a person's own ssh configuration.
func Config(t Target) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Host %s\n", t.ID)
	fmt.Fprintf(&b, "    HostName %s\n", t.Addr)
	for _, opt := range t.trust() {
		fmt.Fprintf(&b, "    %s %s\n", opt.name, opt.value)
	}
	return b.String()
}

// Quote makes one command line of argv from which the guest's shell gets
// exactly these words back. Every word is quoted, the first one too, which
// would else be taken for a keyword, an alias or an assignment.
func Quote(argv []string) string {
	words := make([]string, len(argv))
	for i, a := range argv {
		words[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
	}
	return strings.Join(words, " ")
}

// configPath writes a path as the ssh client reads it: % starts a token there
// and an unquoted space ends the word.
func configPath(dir, name string) string {
	p := filepath.Join(dir, name)
	p = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `%`, `%%`).Replace(p)
	return `"` + p + `"`
}
