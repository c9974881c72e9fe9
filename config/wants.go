package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/serviceradar/poller/internal/check"
)

// The functions here say what a string ought to be: "want …", or "" if it is.

const maxPort = 65535

func wantName(s string) string { return check.WantName(s) }

// maxLabel bounds a label's value, in bytes.
const maxLabel = 4 << 10

func wantLabel(s string) string {
	if len(s) > maxLabel {
		return fmt.Sprintf("which has %d bytes, want at most %d", len(s), maxLabel)
	}
	return ""
}

// wantReason is for what people are to read in a line.
func wantReason(s string) string {
	const most = 1 << 10 // bytes
	switch {
	case strings.TrimSpace(s) == "":
		return "want a reason, for people"
	case len(s) > most:
		return fmt.Sprintf("which has %d bytes, want at most %d", len(s), most)
	case strings.IndexFunc(s, unicode.IsControl) >= 0:
		return "want text without control characters such as line breaks"
	}
	return ""
}

// wantAddress is for what we connect to.
func wantAddress(s string) string {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return `want host:port such as "127.0.0.1:50051", "checker.example:50051" or "[::1]:50051"`
	}
	if !check.IsHost(host) {
		return "whose host " + foundText(host) + " is neither an address nor a host name"
	}
	return wantPort(port, 1)
}

// wantListen is for what we listen on: the host may be left out, and port 0 is any free one.
func wantListen(s string) string {
	if s == "" {
		return ""
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return `want host:port such as "127.0.0.1:9464", or "" for none`
	}
	if host != "" && !check.IsHost(host) {
		return "whose host " + foundText(host) + " is neither an address nor a host name"
	}
	return wantPort(port, 0)
}

func wantPort(port string, least int) string {
	if n, err := strconv.Atoi(port); err != nil || n < least || n > maxPort || strconv.Itoa(n) != port {
		return fmt.Sprintf("whose port %s is not a number from %d to %d", foundText(port), least, maxPort)
	}
	return ""
}

// wantNode is for the name of a node of a cluster, which is a part of its actors' addresses; empty is that of the host.
func wantNode(s string) string {
	if s == "" {
		return ""
	}
	if strings.Contains(s, "/") {
		return "want a name without a slash"
	}
	return wantName(s)
}

// wantNodeAddress is for where the other nodes of a cluster reach this one.
func wantNodeAddress(s string) string {
	const want = `want the address and the port at which other nodes reach this one, such as "192.0.2.10:7946" or "[2001:db8::10]:7946"`
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return want
	}
	ip, err := netip.ParseAddr(host)
	switch ip = ip.Unmap(); {
	case err != nil:
		return want
	case ip.IsUnspecified():
		return "which is no address of this host in particular; " + want
	case ip.Zone() != "" || ip.IsMulticast():
		return "which means something else to others; " + want
	}
	if bad := wantPort(port, 1); bad != "" {
		return bad
	}
	if _, err := netip.ParseAddrPort(s); err != nil { // such as an IPv4 address in brackets
		return want
	}
	return ""
}

func wantSourceIP(s string) string {
	if s == sourceAuto || check.IsHost(s) {
		return ""
	}
	return `want "auto", an address such as "192.0.2.10", or a host name`
}

func wantServerName(s string) string {
	if s == "" || check.IsHost(s) {
		return ""
	}
	return "want the host name or address in the server's certificate"
}

// wantStateDir is for a path or one of two words. A slip in a word must not pass for the name of a directory.
func wantStateDir(s string) string {
	words := []string{StateAuto, StateMemory}
	const want = `want "auto", "memory" or the path of a directory such as "/var/lib/poller"`
	switch {
	case slices.Contains(words, s):
		return ""
	case s == "":
		return want
	case strings.TrimSpace(s) != s:
		return want + ", without spaces around it"
	case strings.IndexFunc(s, unicode.IsControl) >= 0:
		return want + ", without control characters such as line breaks"
	case strings.HasPrefix(s, "~") || strings.HasPrefix(s, "$") || strings.Contains(s, "${"):
		return "which is no shell's to expand; write the path in full"
	case strings.Contains(s, "://"):
		return want + ", not a URL"
	case filepath.Clean(s) == string(filepath.Separator):
		return "which is the root of the file system; " + want
	case !strings.ContainsAny(s, `/\`) && nearest(strings.ToLower(s), words) != "":
		return want + suggestText(strings.ToLower(s), words) + ` A directory of that name is written "./` + s + `"`
	}
	return ""
}

// wantTargetFile is for a path of documents that list targets, or a pattern of such paths.
func wantTargetFile(s string) string {
	const want = `want a path or a pattern such as "targets.d/*.json"`
	if strings.Contains(s, "://") {
		return want + ", not a URL, which is written under http: { url = …, profile = … }"
	}
	if bad := wantPathText(s, want); bad != "" {
		return bad
	}
	dir, name := filepath.Split(s)
	if hasGlob(dir) {
		return "want a pattern for the name of the file only, not for its directory"
	}
	switch strings.ToLower(filepath.Ext(name)) {
	case ".json", ".yml", ".yaml":
		return ""
	}
	return "want the name of a file that ends in .json, .yml or .yaml, or a pattern for such names"
}

// wantURL is for what is asked for targets. It repeats nothing of it.
func wantURL(s string) string {
	const want = `want a URL of http or https with a host, such as "https://inventory.example/targets"`
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return want
	case !check.IsHost(u.Hostname()):
		return "whose host is neither an address nor a host name; " + want
	case u.Port() != "" || strings.HasSuffix(u.Host, ":"):
		return wantPort(u.Port(), 1)
	}
	return ""
}

func wantTLSMode(s string) string {
	modes := []string{string(check.TLSNone), string(check.TLSServer), string(check.TLSMutual)}
	switch check.TLSMode(s) {
	case check.TLSNone, check.TLSServer, check.TLSMutual:
		return ""
	case "spiffe":
		return "which is not supported yet; want one of " + strings.Join(modes, ", ")
	}
	return "want one of " + strings.Join(modes, ", ") + suggestText(s, modes)
}

// wantNodeTLSMode is for the nodes of a cluster, each of which is the other's server as well as its client.
func wantNodeTLSMode(s string) string {
	if mode := check.TLSMode(s); mode == check.TLSMutual || mode == check.TLSNone {
		return ""
	}
	modes := []string{string(check.TLSNone), string(check.TLSMutual)}
	return "want one of " + strings.Join(modes, ", ") + suggestText(s, modes)
}
