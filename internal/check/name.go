package check

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"unicode"
)

const (
	maxName = 256 // bytes
	maxHost = 253 // bytes of a host name, by the rules of DNS
)

// WantName says what the name of an agent, a check or the like ought to be: "want …", or "" if it is.
func WantName(s string) string {
	switch {
	case strings.TrimSpace(s) == "":
		return "want a name"
	case len(s) > maxName:
		return fmt.Sprintf("which has %d bytes, want a name of at most %d", len(s), maxName)
	case strings.IndexFunc(s, unicode.IsControl) >= 0:
		return "want a name without control characters such as line breaks"
	}
	return ""
}

// hostPattern takes what resolvers take, underscores and a final dot included.
var hostPattern = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?$`)

// digitsPattern is what looks like an IPv4 address; no host name ends with a number alone.
var digitsPattern = regexp.MustCompile(`(^|\.)[0-9]+\.?$`)

// IsHost tells whether a string is an address or may be the name of a host.
func IsHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	return len(s) <= maxHost && hostPattern.MatchString(s) && !digitsPattern.MatchString(s)
}
