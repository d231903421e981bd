package fcconfig

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// DefaultBootArgs are used where the base configuration has none.
const DefaultBootArgs = "console=ttyS0 reboot=k panic=1"

// maxDNS is how many name servers the kernel's ip= word holds.
const maxDNS = 2

// BootWords are the words of the kernel command line that mvm owns.
type BootWords struct {
	IP        netip.Addr
	Gateway   netip.Addr
	Bits      int          // of the subnet's prefix
	DNS       []netip.Addr // two at most
	Hostname  string
	MachineID string            // 32 hexadecimal digits
	Extra     map[string]string // mvm.<key>=<value>
}

var (
	labelPattern     = pattern(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	machineIDPattern = pattern(`^[0-9a-f]{32}$`)
	extraKey         = pattern(`^[a-z0-9_.]{1,32}$`)
	extraValue       = pattern(`^[A-Za-z0-9_.,:/@+-]{0,256}$`)
)

// words renders the words in a fixed order. The volumes' say where the guest is
// to mount which device.
func (b BootWords) words(volumes []Volume) ([]string, error) {
	switch {
	case !b.IP.Is4() || !b.Gateway.Is4():
		return nil, fmt.Errorf("the guest's address %s and gateway %s must be IPv4", b.IP, b.Gateway)
	case b.Bits < 1 || b.Bits > 32:
		return nil, fmt.Errorf("%d is no prefix length", b.Bits)
	case !labelPattern.MatchString(b.Hostname):
		return nil, fmt.Errorf("%q is no host name", b.Hostname)
	case !machineIDPattern.MatchString(b.MachineID):
		return nil, fmt.Errorf("%q is no machine id", b.MachineID)
	case len(b.DNS) > maxDNS:
		return nil, fmt.Errorf("%d DNS servers are configured, a guest takes %d at most", len(b.DNS), maxDNS)
	}
	mask := net.IP(net.CIDRMask(b.Bits, 32)).String()
	ip := fmt.Sprintf("ip=%s::%s:%s:%s:eth0:off", b.IP, b.Gateway, mask, b.Hostname)
	for _, server := range b.DNS {
		if !server.Is4() {
			return nil, fmt.Errorf("the DNS server %s must be IPv4", server)
		}
		ip += ":" + server.String()
	}
	words := []string{ip, "systemd.hostname=" + b.Hostname, "systemd.machine_id=" + b.MachineID}
	extra := maps.Clone(b.Extra)
	if extra == nil {
		extra = map[string]string{}
	}
	for i, v := range volumes {
		extra["volume."+VolumeDevice(i)] = v.Mount
	}
	for key, value := range extra {
		if !extraKey.MatchString(key) || !extraValue.MatchString(value) {
			return nil, fmt.Errorf("mvm.%s=%s does not fit a kernel command line", clip(key), clip(value))
		}
		words = append(words, "mvm."+key+"="+value)
	}
	slices.Sort(words[3:])
	return words, nil
}

// bootArgsRule is what a base configuration may put on the command line:
// everything but the words that mvm owns.
func bootArgsRule(c *checker, path string, v any) {
	args, ok := v.(string)
	if !ok {
		c.refuse(path, "want a string")
		return
	}
	if why := badBootArgs(args); why != "" {
		c.refuse(path, "%s", why)
		return
	}
	for _, word := range splitBootArgs(args) {
		if owned := ownedBootWord(word); owned != "" {
			c.refuse(path, "%s belongs to mvm", owned)
		}
	}
}

// badBootArgs says why args cannot be a command line that more words can be
// added to, or "".
func badBootArgs(args string) string {
	for i := range len(args) {
		if args[i] < ' ' || args[i] > '~' {
			return "may hold printable ASCII only"
		}
	}
	// The kernel knows double quotes, systemd single ones, too. An open one
	// would swallow the words that follow.
	if strings.Count(args, `"`)%2 != 0 || strings.Count(args, "'")%2 != 0 {
		return "has a quote that is not closed"
	}
	return ""
}

// splitBootArgs splits a command line as the kernel does: at spaces outside
// double quotes.
func splitBootArgs(args string) []string {
	quoted := false
	return strings.FieldsFunc(args, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return r == ' ' && !quoted
	})
}

var unquote = strings.NewReplacer(`"`, "", "'", "")

// ownedBootWord names the word of mvm's that word would set, or "". It
// compares as the readers do: the kernel and systemd take - for _, strip
// quotes, and an initrd's systemd takes rd. before any of its words.
func ownedBootWord(word string) string {
	key, _, _ := strings.Cut(unquote.Replace(word), "=")
	key = strings.TrimPrefix(strings.ReplaceAll(key, "-", "_"), "rd.")
	switch key {
	case "ip", "nfsaddrs": // nfsaddrs is the kernel's old name for ip
		return "ip="
	case "hostname", "systemd.hostname", "systemd.machine_id": // hostname is the kernel's own
		return key + "="
	}
	if key == "mvm" || strings.HasPrefix(key, "mvm.") {
		return "mvm.*"
	}
	return ""
}

// AddBootWords puts words where the kernel reads them: before a lone --, quoted
// or not, after which everything is for the guest's init.
func AddBootWords(args string, words ...string) string {
	all := splitBootArgs(args)
	at := slices.IndexFunc(all, func(word string) bool { return unquote.Replace(word) == "--" })
	if at < 0 {
		at = len(all)
	}
	return strings.Join(slices.Insert(all, at, words...), " ")
}

func index(list string, i int) string { return fmt.Sprintf("%s[%d]", list, i) }
