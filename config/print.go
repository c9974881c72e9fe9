package config

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/serviceradar/poller/internal/check"
)

// Print writes the configuration as TOML that Parse accepts, all defaults applied, passwords in URLs
// masked. But for those, parsing it gives an equal Config.
func (c *Config) Print(w io.Writer) error {
	out := &printer{Writer: bufio.NewWriter(w)}
	table := ""
	for i := range rootSpec.keys {
		k := &rootSpec.keys[i]
		if k.later || k.field == nil || strings.HasPrefix(k.name, "core.tls.") && c.Core.TLS == c.TLS {
			continue
		}
		name := k.name
		if dot := strings.LastIndexByte(name, '.'); dot >= 0 {
			if name[:dot] != table {
				table = name[:dot]
				out.header("[" + table + "]")
			}
			name = name[dot+1:]
		}
		out.value(name, k.kind, k.field(c))
	}
	for i := range c.Agents {
		out.agent(c.Agents[i], c.TLS)
	}
	return out.Flush()
}

// printer writes TOML. Errors are kept by the Writer until Flush.
type printer struct{ *bufio.Writer }

func (p *printer) header(h string) { _, _ = p.WriteString("\n" + h + "\n") }

func (p *printer) value(name string, kind kind, field any) {
	_, _ = p.WriteString(name + " = " + format(kind, field) + "\n")
}

func (p *printer) agent(a *check.Agent, inherited check.TLS) {
	path := "agents." + QuoteKey(a.Name)
	p.header("[" + path + "]")
	entry := &agentEntry{Agent: *a}
	for i := range agentSpec.keys {
		k := &agentSpec.keys[i]
		// Each check below has its own timeout, so that the agent needs none.
		if k.later || k.name == "timeout" || strings.HasPrefix(k.name, "tls.") && a.TLS == inherited {
			continue
		}
		p.value(k.name, k.kind, k.field(entry))
	}
	for i := range a.Checks {
		p.header("[[" + path + "." + checksTable + "]]")
		c := writtenCheck(&a.Checks[i])
		for j := range checkSpec.keys {
			k := &checkSpec.keys[j]
			ofResults := k.name == "results_interval" || k.name == "stream"
			if c.HasResults() && k.name == "interval" || !c.HasResults() && ofResults {
				continue
			}
			p.value(k.name, k.kind, k.field(c))
		}
	}
}

// writtenCheck returns a check as one would write it.
func writtenCheck(c *check.Check) *checkEntry {
	stream := c.Method == check.StreamResults
	return &checkEntry{Check: *c, resultsInterval: c.Interval, stream: &stream}
}

// format writes the value that field points to.
func format(kind kind, field any) string {
	switch f := field.(type) {
	case *string:
		return Quote(Mask(*f))
	case *check.TLSMode:
		return Quote(string(*f))
	case *int:
		return strconv.Itoa(*f)
	case *int32:
		return strconv.Itoa(int(*f))
	case *int64:
		if kind == kindSize {
			return Quote(formatSize(*f))
		}
		return strconv.FormatInt(*f, 10)
	case *time.Duration:
		return Quote(formatDuration(*f))
	case *bool:
		return strconv.FormatBool(*f)
	case **bool:
		return strconv.FormatBool(**f)
	case *[]string:
		items := make([]string, len(*f))
		for i, s := range *f {
			items[i] = Quote(Mask(s))
		}
		return "[" + strings.Join(items, ", ") + "]"
	}
	panic(fmt.Sprintf("config: no way to print a %T", field))
}

// passwordPattern finds the password in a URL's user information. It goes to the last @ before the path,
// because passwords with an @ in them are written unescaped often enough.
var passwordPattern = regexp.MustCompile(`(://[^\s/?#:@]*:)[^\s/?#]*@`)

// secretPattern finds the value of a URL's query parameter whose name tells that it is a secret.
var secretPattern = regexp.MustCompile(`(?i)([?&][^=&#\s"]*(?:token|secret|passw|pwd|api_?key|signature)[^=&#\s"]*=)[^&#\s"]+`)

// Mask returns s with *** for the password in the user information of each URL in it, whatever else s
// holds: https://user:***@host; and for what a query calls a token, secret, password, key of an API or
// signature: https://host/?token=***. A text without a URL is returned as it is. It sees no other secrets,
// such as those in a path.
func Mask(s string) string {
	if !strings.Contains(s, "://") {
		return s
	}
	s = passwordPattern.ReplaceAllString(s, "${1}***@")
	return secretPattern.ReplaceAllString(s, "${1}***")
}

// Quote writes a basic string of TOML; Go's escapes are not all the same.
func Quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func sortedQuoted(names []string) []string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = foundText(name)
	}
	slices.Sort(quoted)
	return quoted
}
