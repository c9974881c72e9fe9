package probe

import (
	"cmp"
	"encoding/json"
	"fmt"
	"html"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Settings are what the one who runs the checker has set down for probes, in its own file: pollers may name what is
// here, and never see it. The zero Settings have nothing.
type Settings struct {
	Credentials map[string]Credentials
	Commands    map[string]Command
}

// Credentials are what a probe shows to targets.
type Credentials struct {
	// Username and Password, or Token.
	Username, Password, Token string
	// Hosts are whom they may be shown to: addresses, networks (10.0.0.0/8), names, all names below one (*.db.example), or
	// all names (*). Whoever may ask the checker names the target, and must not be able to have them sent to a host of
	// their own.
	Hosts []string
}

// Command is a program that a probe may run, with all its arguments: no shell has a part in it.
type Command struct {
	// Args are the program's absolute path and its arguments.
	Args []string
	// Directory is where it runs; empty means the root.
	Directory string
	// Environment is all that it is given, and a PATH of the system's own directories unless that is in here.
	Environment map[string]string
	// Timeout bounds a run, where the one who asks does not bound it more; 0 means no bound of its own.
	Timeout time.Duration
	// WarningIsUnavailable tells how its WARNING counts.
	WarningIsUnavailable bool
}

// credentials returns those of a name, for a host without its port. Empty is no name, and gives none.
func (s *Settings) credentials(name, host string) (Credentials, error) {
	if name == "" {
		return Credentials{}, nil
	}
	c, ok := s.find(name)
	if !ok {
		return Credentials{}, fmt.Errorf("credentials %q: the checker's file has none of that name: add [credentials.%s] there", name, name)
	}
	if strings.IndexFunc(host, func(r rune) bool { return r > unicode.MaxASCII }) >= 0 {
		// Whoever dials turns it into xn--…, by rules that are not those of strings.ToLower: that would be another name.
		return Credentials{}, fmt.Errorf("credentials %q: the host %q is not ASCII: write it as xn--…", name, host)
	}
	if !slices.ContainsFunc(c.Hosts, func(pattern string) bool { return matchesHost(pattern, host) }) {
		return Credentials{}, fmt.Errorf("credentials %q are not for the host %q: add it to their hosts in the checker's file", name, host)
	}
	return c, nil
}

// secrets are what must not be told of credentials, and what http makes of them. Some may be empty.
func (c Credentials) secrets() []string {
	_, sent, _ := strings.Cut(c.authorization(), " ")
	return []string{c.Username, c.Password, c.Token, sent}
}

// hiding returns what takes secrets out of what a target said, which may tell again what it was told: as they are and as
// they are written in URLs, JSON and HTML.
func hiding(secrets ...string) *strings.Replacer {
	for _, secret := range slices.Clone(secrets) {
		quoted, _ := json.Marshal(secret) // a text can be written
		secrets = append(secrets, url.QueryEscape(secret), url.PathEscape(secret), html.EscapeString(secret), strings.Trim(string(quoted), `"`))
	}
	// The longest first: a part of it may be another.
	slices.SortFunc(secrets, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) })
	var pairs []string
	for _, secret := range slices.Compact(secrets) {
		if secret != "" {
			pairs = append(pairs, secret, "[hidden]")
		}
	}
	return strings.NewReplacer(pairs...)
}

func (s *Settings) find(name string) (Credentials, bool) {
	if s == nil {
		return Credentials{}, false
	}
	c, ok := s.Credentials[name]
	return c, ok
}

// matchesHost tells whether a pattern of Credentials.Hosts is of a host, a name or an address. A * stands for whole parts
// at the beginning of a name and for nothing else: 10.1.* would be of the name 10.1.evil.example.
func matchesHost(pattern, host string) bool {
	address, err := netip.ParseAddr(pattern)
	if ip, notIP := netip.ParseAddr(host); notIP == nil {
		network, notNetwork := netip.ParsePrefix(pattern)
		return err == nil && address.Unmap() == ip.Unmap() || notNetwork == nil && network.Contains(ip.Unmap())
	}
	if err == nil || host == "" {
		return false
	}
	host, pattern = strings.ToLower(strings.TrimSuffix(host, ".")), strings.ToLower(pattern)
	if above, ok := strings.CutPrefix(pattern, "*."); ok {
		below, ok := strings.CutSuffix(host, "."+above)
		return ok && below != ""
	}
	return pattern == "*" || pattern == host
}
