package check

import (
	"net/url"
	"strings"
)

// Hidden stands for what is not shown.
const Hidden = "***"

// MaskURL returns a URL without what of it may be secret: user, password and the values of its query; a part of the query that
// has no name is hidden as a whole. What is no URL with a host is not ok.
func MaskURL(s string) (_ string, ok bool) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Host == "" {
		return "", false
	}
	shown := url.URL{Host: strings.ToLower(u.Host), Path: u.Path, RawPath: u.RawPath}
	out := u.Scheme + "://"
	if u.User != nil {
		out += Hidden + "@"
	}
	out += strings.TrimPrefix(shown.String(), "//")
	if u.RawQuery != "" {
		parts := strings.Split(u.RawQuery, "&")
		for i, part := range parts {
			name, _, named := strings.Cut(part, "=")
			parts[i] = Hidden
			if named {
				parts[i] = name + "=" + Hidden
			}
		}
		out += "?" + strings.Join(parts, "&")
	}
	if u.Fragment != "" {
		out += "#" + u.EscapedFragment()
	}
	return out, true
}
