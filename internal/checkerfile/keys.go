package checkerfile

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/probe"
)

// minTimeout bounds a command's time from below: less is a slip in the unit.
const minTimeout = 10 * time.Millisecond

// keys are those of the file.
func (r *reader) keys() keys {
	f := r.file
	return keys{
		"listen": r.text(&f.Listen, wantListen),
		"log": r.table(keys{
			"level":  r.oneOf(&f.Log.Level, "trace", "debug", "info", "warn", "error"),
			"format": r.oneOf(&f.Log.Format, "auto", "console", "json"),
		}),
		"tls": r.table(keys{
			"cert_file": r.path(&f.TLS.CertFile), "key_file": r.path(&f.TLS.KeyFile), "ca_file": r.path(&f.TLS.CAFile),
		}),
		"max_in_flight": r.count(&f.MaxInFlight),
		"stop_timeout":  r.duration(&f.StopTimeout, 0),
		"limits":        r.table(r.limits()),
		"credentials":   r.named("credentials", r.credentials),
		"commands":      r.named("commands", r.command),
	}
}

// limits has a key for each kind of check.
func (r *reader) limits() keys {
	all := keys{}
	for _, kind := range probe.Kinds() {
		all[kind.Type] = func(n *node) bool {
			var limit int
			ok := r.count(&limit)(n)
			r.file.Limits[kind.Type] = limit
			return ok
		}
	}
	return all
}

// credentials reads one of [credentials].
func (r *reader) credentials(name string, n *node) {
	var c probe.Credentials
	username, password, token, hosts := false, false, false, false
	k := keys{
		"username": r.then(&username, r.text(&c.Username, wantText)),
		"hosts":    r.then(&hosts, r.list(&c.Hosts, wantHost)),
	}
	maps.Copy(k, r.secret("password", &password, &c.Password))
	maps.Copy(k, r.secret("token", &token, &c.Token))
	if !r.table(k)(n) {
		return
	}
	switch {
	case token && (username || password):
		r.key(n, n.path, "has a token beside a username or a password; write [credentials] of another name for one of them")
	case !token && !password && !username:
		r.key(n, n.path, `has nothing to show; write token_file = "…", or username = "…" and password_file = "…"`)
	}
	if slices.ContainsFunc(c.Hosts, everybody) {
		r.warn(n, "its hosts leave nobody out: whoever may ask this checker can have it shown to a host of their own")
	}
	if !hosts {
		r.key(n, n.path+".hosts", `missing: whom they may be shown to; write hosts = ["10.1.0.0/16", "*.db.example"] or such`)
	}
	r.file.Settings.Credentials[name] = c
}

// command reads one of [commands].
func (r *reader) command(name string, n *node) {
	var c probe.Command
	given, warning := false, "available"
	if !r.table(keys{
		"command":     r.then(&given, r.list(&c.Args, wantArgument)),
		"directory":   r.path(&c.Directory),
		"environment": r.environment(&c.Environment),
		"timeout":     r.duration(&c.Timeout, minTimeout),
		"warning_is":  r.oneOf(&warning, "available", "unavailable"),
	})(n) {
		return
	}
	if !given {
		r.key(n, n.path+".command", `missing: what to run; write command = ["/usr/lib/nagios/plugins/check_disk", "-w", "10%%"] or such`)
	}
	c.WarningIsUnavailable = warning == "unavailable"
	r.file.Settings.Commands[name] = c
}

func (r *reader) environment(to *map[string]string) read {
	return func(n *node) bool {
		kids, ok := n.value.(table)
		if !ok {
			r.value(n, `found %s, want a table such as { LANG = "C" }`, n.kind())
			return false
		}
		*to = map[string]string{}
		for name, kid := range kids {
			value, isText := kid.value.(string)
			switch {
			case name == "" || strings.ContainsAny(name, "=\x00"):
				r.key(kid, kid.path, "no variable can have this name; take = out of it")
			case !isText:
				r.value(kid, "found %s, want text in quotes", kid.kind())
			case strings.Contains(value, "\x00"):
				r.value(kid, "no variable can have a NUL in it")
			}
			(*to)[name] = value
		}
		return true
	}
}

// The functions here say what a string ought to be: "want …", or "" if it is.

func wantText(s string) string {
	if s == "" {
		return "want some text"
	}
	return ""
}

func wantListen(s string) string {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return `want host:port such as "127.0.0.1:50051"`
	}
	if host != "" && !check.IsHost(host) {
		return "whose host is neither an address nor a host name"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return "whose port is not a number from 0 to 65535"
	}
	return ""
}

func wantArgument(i int, s string) string {
	switch {
	case strings.Contains(s, "\x00"):
		return "want no NUL in it"
	case i == 0 && !filepath.IsAbs(s):
		return `want the path of a program in full, such as "/usr/lib/nagios/plugins/check_disk"; its arguments follow, each as a text of its own`
	}
	return ""
}

// wantHost is about the patterns of probe.Credentials.Hosts.
func wantHost(_ int, s string) string {
	if _, err := netip.ParseAddr(s); err == nil || s == "*" {
		return ""
	}
	if network, err := netip.ParsePrefix(s); err == nil {
		if network.Addr().Is4In6() {
			return `want a network of IPv4 as such, "10.1.0.0/16"`
		}
		return ""
	}
	name := strings.TrimPrefix(s, "*.")
	_, err := netip.ParseAddr(name)
	switch {
	case strings.ContainsAny(name, `*?[\`), name != s && (name == "" || err == nil):
		return `want * as the first part of a name, as in "*.db.example" for all names below db.example, or alone; ` +
			`for addresses a network such as "10.1.0.0/16"`
	case strings.IndexFunc(name, func(r rune) bool { return r > unicode.MaxASCII }) >= 0:
		return "want a name of ASCII: write it as xn--…"
	case !check.IsHost(name):
		return `want an address, a network such as "10.1.0.0/16", or a name such as "db.example" or "*.db.example", without a port`
	case strings.HasSuffix(name, "."):
		return "want no dot at its end"
	}
	return ""
}

// everybody are hosts that leave nobody out.
func everybody(host string) bool {
	network, err := netip.ParsePrefix(host)
	return host == "*" || err == nil && network.Bits() == 0
}

// hint follows "unknown key": the nearest known key, else all.
func (k keys) hint(name string) string {
	if near := nearest(name, slices.Sorted(maps.Keys(k))); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return "; known here: " + strings.Join(slices.Sorted(maps.Keys(k)), ", ")
}
