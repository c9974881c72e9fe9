package wire

import (
	"encoding/json"
	"net"
	"net/netip"
	"strings"
	"unicode/utf8"

	"github.com/serviceradar/poller/internal/check"
)

// host is what a status is about, as far as it is known, as members of an object: core finds the
// device by them.
type host struct{ ip, name string }

func (h host) known() bool { return h.ip != "" || h.name != "" }

// hostOf returns the host that a check's target is on, else that of its agent; and its name, if it has
// to be resolved.
func hostOf(a *check.Agent, c *check.Check) (h host, name string) {
	name = targetHost(c)
	if name == "" {
		name = addressHost(a.Address)
	}
	if name == "" {
		return host{}, ""
	}
	if ip, err := netip.ParseAddr(name); err == nil {
		ip = ip.Unmap().WithZone("")
		return host{ip: ipMembers(ip), name: nameMembers(ip.String())}, ""
	}
	return host{name: nameMembers(name)}, name
}

func ipMembers(ip netip.Addr) string {
	return `"host_ip":"` + ip.String() + `","ip":"` + ip.String() + `"`
}

func nameMembers(name string) string {
	quoted := string(quote(name))
	return `"host_name":` + quoted + `,"hostname":` + quoted
}

func addressHost(address string) string {
	h, _, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	return hostOrNone(h)
}

// namesHosts are the types whose target, where it is a bare word, is the name of a host. Elsewhere it
// may be anything: a process, a network, a query.
var namesHosts = map[string]bool{
	"port": true, "tcp": true, "icmp": true, "ping": true, "http": true, "https": true, "tls": true,
	"dns": true, "snmp": true, "grpc": true, "ssh": true, "postgres": true, "mysql": true, "redis": true,
}

// targetHost returns the address or the name of the host in a check's details, as host:port, URL,
// literal address or name; empty if there is none. Details with more to say than the target are an object that has it as
// "target", as the built-in checks take them.
func targetHost(c *check.Check) string {
	target := strings.TrimSpace(c.Details)
	if strings.HasPrefix(target, "{") {
		var more struct{ Target string }
		_ = json.Unmarshal([]byte(target), &more) // what is no JSON has no target
		target = strings.TrimSpace(more.Target)
	}
	if target == "" || c.Type == "process" {
		return ""
	}
	if _, rest, isURL := strings.Cut(target, "://"); isURL {
		if end := strings.IndexAny(rest, "/?#"); end >= 0 {
			rest = rest[:end]
		}
		rest = rest[strings.LastIndexByte(rest, '@')+1:]
		return hostOrNone(withoutPort(rest))
	}
	if bare := withoutPort(target); bare != target || namesHosts[c.Type] {
		return hostOrNone(bare)
	}
	if _, err := netip.ParseAddr(target); err == nil {
		return target
	}
	return ""
}

// withoutPort returns the host of host:port or [address]:port or [address]; anything else as it is.
func withoutPort(s string) string {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if end := strings.IndexByte(inner, ']'); end >= 0 && (end == len(inner)-1 || isPort(inner[end+1:])) {
			return inner[:end]
		}
		return s
	}
	if colon := strings.IndexByte(s, ':'); colon >= 0 && isPort(s[colon:]) {
		return s[:colon]
	}
	return s
}

// isPort tells of ":" and up to five digits.
func isPort(s string) bool {
	if len(s) < 2 || len(s) > 6 || s[0] != ':' {
		return false
	}
	for i := 1; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// hostOrNone returns s if it can be an address or the name of a host.
func hostOrNone(s string) string {
	if _, err := netip.ParseAddr(s); err == nil {
		return s
	}
	const longest = 253 // bytes, by the rules of DNS
	if s == "" || len(s) > longest || s[0] == '-' || s[0] == '.' {
		return ""
	}
	letters := false
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_':
			letters = true
		case c >= utf8.RuneSelf: // names in other letters, whichever form resolvers want
			letters = true
		case c >= '0' && c <= '9', c == '-', c == '.':
		default:
			return ""
		}
	}
	if !letters || !utf8.ValidString(s) { // 10.0.0, or a number: no name of a host is made of digits alone
		return ""
	}
	return s
}
