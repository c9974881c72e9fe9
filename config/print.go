package config

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/serviceradar/poller/internal/check"
)

// Print writes the configuration in effect as TOML that Parse accepts, without includes and with the checks of
// profiles among those of their agents, all defaults applied, passwords in URLs masked. What sources have found is printed
// as if it were written. But for secrets, and for what is only told in comments, which are agents that are disabled and
// the sources, parsing it gives an equal Config.
func (c *Config) Print(w io.Writer) error {
	out := &printer{Writer: bufio.NewWriter(w), show: shown}
	out.config(c)
	if len(c.Disabled) > 0 {
		names := make([]string, len(c.Disabled))
		for i, name := range c.Disabled {
			names[i] = Quote(Mask(name))
		}
		out.header("# Disabled agents: " + strings.Join(names, ", "))
	}
	return out.Flush()
}

// Hash returns 16 hexadecimal digits that are the same for all configurations that are the same in effect, in
// whatever files, and with overwhelming likelihood for no others. It covers secrets, too, without giving them away.
// Another version of the poller may have another hash for the same.
func (c *Config) Hash() string {
	sum := sha256.New()
	out := &printer{Writer: bufio.NewWriter(sum), show: func(_ kind, s string) string { return s }}
	out.config(c)
	_ = out.Flush() // a hash takes all
	return hex.EncodeToString(sum.Sum(nil)[:8])
}

// PollingHash returns 16 hexadecimal digits as Hash does, but only of that on which the nodes of a cluster should agree, because an agent may
// be with any of them: what core, and whoever reads of a check, sees of it must not depend on which node asks. That is
//   - the agents with their checks, labels and silences, and the silences for all, wherever that is written or was found;
//   - poll.interval and poll.rate, by which an agent is due at the same time on all nodes, and poll.timeout;
//   - the breaker, which goes with an agent from node to node;
//   - the partition, under which core files what is said of an agent.
//
// Of an agent's identity it is the mode and the name that is expected, not the files: certificates and keys are a node's own, and so may be
// where they are. Neither does it cover what else is a node's own: who it is, how much it takes on (poll.max_in_flight, cluster.weight),
// where it keeps and delivers reports, what it logs.
func (c *Config) PollingHash() string {
	sum := sha256.New()
	out := &printer{Writer: bufio.NewWriter(sum), show: func(_ kind, s string) string { return s }}
	for i := range rootSpec.keys {
		if k := &rootSpec.keys[i]; k.shared {
			out.value(k.name, k.kind, k.field(c))
		}
	}
	out.silences("", c.Silences[""][""])
	for _, a := range c.Agents {
		agreed := *a
		agreed.TLS = check.TLS{Mode: a.TLS.Mode, ServerName: a.TLS.ServerName}
		out.agent(&agreed, c.Labels[a.Name], c.Silences[a.Name], check.TLS{})
	}
	_ = out.Flush() // a hash takes all
	return hex.EncodeToString(sum.Sum(nil)[:8])
}

// printer writes TOML, each text as show returns it. Errors are kept by the Writer until Flush.
type printer struct {
	*bufio.Writer
	show showFunc
}

// showFunc returns what is shown of a text of a kind.
type showFunc func(kind kind, s string) string

// shown is the showFunc for people.
func shown(kind kind, s string) string {
	if kind == kindURL {
		if url, ok := check.MaskURL(s); ok {
			return url
		}
	}
	return Mask(s)
}

func (p *printer) config(c *Config) {
	table := ""
	for i := range rootSpec.keys {
		k := &rootSpec.keys[i]
		if k.later || strings.HasPrefix(k.name, "core.tls.") && c.Core.TLS == c.TLS {
			continue
		}
		name := k.name
		if dot := strings.LastIndexByte(name, '.'); dot >= 0 {
			if name[:dot] != table {
				table = name[:dot]
				p.header("[" + table + "]")
			}
			name = name[dot+1:]
		}
		p.value(name, k.kind, k.field(c))
	}
	for i := range c.Discovery {
		p.source(&c.Discovery[i])
	}
	p.silences("", c.Silences[""][""])
	for _, a := range c.Agents {
		p.agent(a, c.Labels[a.Name], c.Silences[a.Name], c.TLS)
	}
}

// source writes a source as a comment: its profile is not there, and what it has found is among the agents.
func (p *printer) source(d *Discovery) {
	name := fileSources
	if d.URL != "" {
		name = httpSources
	}
	p.header("# [[" + name + "]]")
	s := d.spec()
	for i := range s.keys {
		if k := &s.keys[i]; d.has(k) {
			p.value("# "+k.name, k.kind, k.field(d))
		}
	}
}

func (p *printer) header(h string) { _, _ = p.WriteString("\n" + h + "\n") }

func (p *printer) value(name string, kind kind, field any) {
	_, _ = p.WriteString(name + " = " + format(kind, field, p.show) + "\n")
}

// silences writes those of the table whose path is given.
func (p *printer) silences(path string, list []check.Silence) {
	for i := range list {
		p.header("[[" + join(path, silenceKey) + "]]")
		for j := range silenceSpec.keys {
			k := &silenceSpec.keys[j]
			p.value(k.name, k.kind, k.field(&list[i]))
		}
	}
}

func (p *printer) agent(a *check.Agent, labels map[string]string, silences map[string][]check.Silence, inherited check.TLS) {
	path := "agents." + QuoteKey(a.Name)
	p.header("[" + path + "]")
	entry := &agentEntry{Agent: *a}
	for i := range agentSpec.keys {
		k := &agentSpec.keys[i]
		if k.applied || strings.HasPrefix(k.name, "tls.") && a.TLS == inherited {
			continue
		}
		p.value(k.name, k.kind, k.field(entry))
	}
	if len(labels) > 0 {
		items := make([]string, 0, len(labels))
		for _, name := range slices.Sorted(maps.Keys(labels)) {
			items = append(items, QuoteKey(name)+" = "+Quote(p.show(kindString, labels[name])))
		}
		_, _ = p.WriteString(labelsTable + " = { " + strings.Join(items, ", ") + " }\n")
	}
	p.silences(path, silences[""])
	for i := range a.Checks {
		p.header("[[" + join(path, checksTable) + "]]")
		c := writtenCheck(&a.Checks[i])
		for j := range checkSpec.keys {
			if k := &checkSpec.keys[j]; c.has(k) {
				p.value(k.name, k.kind, k.field(c))
			}
		}
		p.silences(join(path, checksTable), silences[c.Name])
	}
}

// writtenCheck returns a check as one would write it.
func writtenCheck(c *check.Check) *checkEntry {
	stream := c.Method == check.StreamResults
	entry := &checkEntry{Check: *c, resultsInterval: c.Interval, stream: &stream}
	if c.Assert != nil {
		entry.asserted = c.Assert.Texts
	}
	return entry
}

// has tells whether a key goes with the check's method, and a list is not empty.
func (c *checkEntry) has(k *key[checkEntry]) bool {
	switch k.name {
	case "interval", "confirm":
		return !c.HasResults()
	case "results_interval", "stream":
		return c.HasResults()
	case "assert":
		return len(c.asserted) > 0
	}
	return true
}

// format writes the value that field points to, each text as show returns it.
func format(kind kind, field any, show showFunc) string {
	switch f := field.(type) {
	case *string:
		return Quote(show(kind, *f))
	case *check.TLSMode:
		return Quote(string(*f))
	case *int:
		return strconv.Itoa(*f)
	case *uint8:
		return strconv.Itoa(int(*f))
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
	case *time.Time:
		return f.Format(time.RFC3339Nano)
	case *[]string:
		items := make([]string, len(*f))
		for i, s := range *f {
			items[i] = Quote(show(kind, s))
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
	special := func(r rune) bool { return r < ' ' || r == '"' || r == '\\' || r == 0x7f || r == utf8.RuneError }
	if strings.IndexFunc(s, special) < 0 { // as most are
		return `"` + s + `"`
	}
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
