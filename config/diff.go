package config

import (
	"fmt"
	"io"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/serviceradar/poller/internal/check"
)

// Diff is what differs between two configurations in effect. What is written in another file, or as a
// profile instead of an agent's own checks, is no difference.
type Diff struct {
	// Keys are those outside the agents, in the order of Print. Those of sources of agents have their IDs:
	// discovery."http:https://inventory.example/".refresh.
	Keys []Change
	// Added and Removed are the agents that only the new or only the old one has, sorted.
	Added, Removed []string
	// Changed are the agents that both have, sorted by name.
	Changed []AgentChange
	// Enabled are those of Added that were disabled before, Disabled those of Removed that are so now; sorted.
	Enabled, Disabled []string
}

// AgentChange is what differs in an agent.
type AgentChange struct {
	Name string
	// Changes have keys within the agent: address, labels.site, checks.ssh for a whole check, checks.ssh.port. If
	// only the order of the checks differs, the key is checks and the values are lists of their names.
	Changes []Change
}

// Change is a key whose value differs.
type Change struct {
	// Key is dotted, its parts in quotes where TOML wants them.
	Key string
	// Old and New are the values as Print writes them, secrets in URLs masked: they may look the same. Empty means
	// that there is none; a whole check is a table in braces.
	Old, New string
}

// String returns the change on a line.
func (c Change) String() string {
	switch {
	case c.Old == "":
		return c.Key + ": added " + c.New
	case c.New == "":
		return c.Key + ": removed " + c.Old
	case c.Old == c.New:
		return c.Key + ": " + c.New + " changed (masked)"
	}
	return c.Key + ": " + c.Old + " -> " + c.New
}

// Compare returns what differs in next from old. The time it takes grows linearly in agents.
func Compare(old, next *Config) Diff {
	d := Diff{Keys: changes(rootSpec, "", old, next, func(*Config, *key[Config]) bool { return true })}
	d.Keys = append(d.Keys, sourceChanges(old.Discovery, next.Discovery)...)
	d.Keys = silenceChange(d.Keys, "", old.Silences[""][""], next.Silences[""][""])
	for a, b := range pairs(old.Agents, next.Agents) {
		switch {
		case a == nil:
			d.Added = append(d.Added, b.Name)
			if holds(old.Disabled, b.Name) {
				d.Enabled = append(d.Enabled, b.Name)
			}
		case b == nil:
			d.Removed = append(d.Removed, a.Name)
			if holds(next.Disabled, a.Name) {
				d.Disabled = append(d.Disabled, a.Name)
			}
		default:
			before, after := besideAgent(old, a), besideAgent(next, b)
			if sameAgent(a, b) && before.equal(after) {
				continue
			}
			d.Changed = append(d.Changed, AgentChange{Name: a.Name, Changes: agentChanges(a, b, before, after)})
		}
	}
	return d
}

// Empty tells whether nothing differs.
func (d Diff) Empty() bool { return len(d.Keys)+len(d.Added)+len(d.Removed)+len(d.Changed) == 0 }

// Summary says on one line how much differs: "2 agents added, 1 changed; 1 other key changed".
func (d Diff) Summary() string {
	var agents []string
	for _, part := range []struct {
		n    int
		what string
	}{{len(d.Added), "added"}, {len(d.Removed), "removed"}, {len(d.Changed), "changed"}} {
		switch {
		case part.n == 0:
		case len(agents) > 0:
			agents = append(agents, fmt.Sprintf("%d %s", part.n, part.what))
		case part.n == 1:
			agents = append(agents, "1 agent "+part.what)
		default:
			agents = append(agents, fmt.Sprintf("%d agents %s", part.n, part.what))
		}
	}
	var parts []string
	if len(agents) > 0 {
		parts = append(parts, strings.Join(agents, ", "))
	}
	switch n := len(d.Keys); n {
	case 0:
	case 1:
		parts = append(parts, "1 other key changed")
	default:
		parts = append(parts, fmt.Sprintf("%d other keys changed", n))
	}
	if len(parts) == 0 {
		return "nothing changes"
	}
	return strings.Join(parts, "; ")
}

// String returns what WriteTo writes.
func (d Diff) String() string {
	var b strings.Builder
	_, _ = d.WriteTo(&b)
	return b.String()
}

// WriteTo writes the summary and then a line for each key, for each agent, and for each change in one, always in the
// same order.
func (d Diff) WriteTo(w io.Writer) (int64, error) {
	out := &lines{w: w}
	out.line("%s", d.Summary())
	for _, c := range d.Keys {
		out.line("  %s", c)
	}
	for _, name := range d.Added {
		out.line("+ %s%s", QuoteKey(Mask(name)), note(d.Enabled, name, "was disabled"))
	}
	for _, name := range d.Removed {
		out.line("- %s%s", QuoteKey(Mask(name)), note(d.Disabled, name, "now disabled"))
	}
	for _, a := range d.Changed {
		out.line("~ %s", QuoteKey(Mask(a.Name)))
		for _, c := range a.Changes {
			out.line("    %s", c)
		}
	}
	return out.written, out.err
}

// note returns a note on the name if it is in a sorted list.
func note(sorted []string, name, text string) string {
	if !holds(sorted, name) {
		return ""
	}
	return " (" + text + ")"
}

func holds(sorted []string, name string) bool {
	_, found := slices.BinarySearch(sorted, name)
	return found
}

// lines writes lines until that fails.
type lines struct {
	w       io.Writer
	written int64
	err     error
}

func (l *lines) line(format string, args ...any) {
	if l.err != nil {
		return
	}
	var n int
	n, l.err = fmt.Fprintf(l.w, format+"\n", args...)
	l.written += int64(n)
}

// Adopt replaces each agent of next that is equal to the agent of that name in old by old's pointer, so that whoever
// knows agents by their pointers sees which are the same. next stays equal to what it was; nobody else may use it
// meanwhile. Added and changed agents are next's, removed ones old's; labels and silences do not count, because an
// agent does not have them. The time it takes grows linearly in agents.
func Adopt(old, next *Config) (added, changed, removed []*check.Agent) {
	i := 0 // where b is in next
	for a, b := range pairs(old.Agents, next.Agents) {
		switch {
		case a == nil:
			added = append(added, b)
		case b == nil:
			removed = append(removed, a)
		case sameAgent(a, b):
			next.Agents[i] = a
		default:
			changed = append(changed, b)
		}
		if b != nil {
			i++
		}
	}
	return added, changed, removed
}

// pairs yields the agents of both lists, which are sorted by name, with nil for one that is missing.
func pairs(old, next []*check.Agent) iter.Seq2[*check.Agent, *check.Agent] {
	return func(yield func(a, b *check.Agent) bool) {
		for i, j := 0, 0; i < len(old) || j < len(next); {
			var a, b *check.Agent
			order := 0
			switch {
			case i == len(old):
				order = 1
			case j == len(next):
				order = -1
			default:
				order = strings.Compare(old[i].Name, next[j].Name)
			}
			if order <= 0 {
				a = old[i]
				i++
			}
			if order >= 0 {
				b = next[j]
				j++
			}
			if !yield(a, b) {
				return
			}
		}
	}
}

// sameAgent tells whether two agents are equal. A test holds it against all fields that there are.
func sameAgent(a, b *check.Agent) bool {
	return a == b || a.Name == b.Name && a.Address == b.Address && a.HealthService == b.HealthService &&
		a.MaxMessage == b.MaxMessage && a.TLS == b.TLS && slices.EqualFunc(a.Checks, b.Checks, check.Check.Equal)
}

// beside is what a configuration has of an agent beside it.
type beside struct {
	labels   map[string]string
	silences map[string][]check.Silence
}

func besideAgent(c *Config, a *check.Agent) beside {
	return beside{c.Labels[a.Name], c.Silences[a.Name]}
}

func (b beside) equal(other beside) bool {
	return maps.Equal(b.labels, other.labels) && sameSilences(b.silences, other.silences)
}

func agentChanges(a, b *check.Agent, before, after beside) []Change {
	out := changes(agentSpec, "", &agentEntry{Agent: *a}, &agentEntry{Agent: *b},
		func(_ *agentEntry, k *key[agentEntry]) bool { return !k.applied })
	out = labelChanges(out, before.labels, after.labels)
	out = silenceChange(out, "", before.silences[""], after.silences[""])
	return append(out, checkChanges(a.Checks, b.Checks, before.silences, after.silences)...)
}

func labelChanges(out []Change, before, after map[string]string) []Change {
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if value, kept := after[name]; !kept || value != before[name] {
			c := Change{Key: join(labelsTable, QuoteKey(name)), Old: Quote(Mask(before[name]))}
			if kept {
				c.New = Quote(Mask(value))
			}
			out = append(out, c)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if _, had := before[name]; !had {
			out = append(out, Change{Key: join(labelsTable, QuoteKey(name)), New: Quote(Mask(after[name]))})
		}
	}
	return out
}

// checkChanges returns the changes of old checks, in their order, then the new ones; silences are by the checks' names.
func checkChanges(old, next []check.Check, before, after map[string][]check.Silence) []Change {
	var out []Change
	rest := make(map[string]*check.Check, len(next))
	for i := range next {
		rest[next[i].Name] = &next[i]
	}
	same := len(old) == len(next)
	for i := range old {
		c := &old[i]
		path := join(checksTable, QuoteKey(Mask(c.Name)))
		other := rest[c.Name]
		delete(rest, c.Name)
		if other == nil {
			out = append(out, Change{Key: path, Old: inlineCheck(c)})
			same = false
			continue
		}
		out = append(out, changes(checkSpec, path+".", writtenCheck(c), writtenCheck(other), (*checkEntry).has)...)
		out = silenceChange(out, path+".", before[c.Name], after[c.Name])
	}
	for i := range next {
		if c := &next[i]; rest[c.Name] != nil {
			out = append(out, Change{Key: join(checksTable, QuoteKey(Mask(c.Name))), New: inlineCheck(c)})
			same = false
		}
	}
	inOrder := slices.EqualFunc(old, next, func(a, b check.Check) bool { return a.Name == b.Name })
	if same && !inOrder {
		out = append(out, Change{Key: checksTable, Old: namesOf(old), New: namesOf(next)})
	}
	return out
}

// inline writes a table on one line, with the keys that it has.
func inline[T any](s *spec[T], table *T, has func(*T, *key[T]) bool) string {
	var items []string
	for i := range s.keys {
		if k := &s.keys[i]; has(table, k) {
			items = append(items, k.name+" = "+format(k.kind, k.field(table), shown))
		}
	}
	return "{ " + strings.Join(items, ", ") + " }"
}

// inlineCheck is inline for a check, whose name is told elsewhere.
func inlineCheck(c *check.Check) string {
	return inline(checkSpec, writtenCheck(c), func(c *checkEntry, k *key[checkEntry]) bool { return k.name != "name" && c.has(k) })
}

func namesOf(checks []check.Check) string {
	names := make([]string, len(checks))
	for i := range checks {
		names[i] = checks[i].Name
	}
	return format(kindList, &names, shown)
}

// sourceChanges returns the changes of old sources, in their order, then the new ones.
func sourceChanges(old, next []Discovery) []Change {
	var out []Change
	path := func(d *Discovery) string { return join(discoveryTable, QuoteKey(d.ID)) }
	rest := make(map[string]*Discovery, len(next))
	for i := range next {
		rest[next[i].ID] = &next[i]
	}
	same := len(old) == len(next)
	for i := range old {
		d := &old[i]
		other := rest[d.ID]
		delete(rest, d.ID)
		if other == nil {
			out = append(out, Change{Key: path(d), Old: inline(d.spec(), d, (*Discovery).has)})
			same = false
			continue
		}
		out = append(out, changes(d.spec(), path(d)+".", d, other, (*Discovery).has)...)
	}
	for i := range next {
		if d := &next[i]; rest[d.ID] != nil {
			out = append(out, Change{Key: path(d), New: inline(d.spec(), d, (*Discovery).has)})
			same = false
		}
	}
	inOrder := slices.EqualFunc(old, next, func(a, b Discovery) bool { return a.ID == b.ID })
	if same && !inOrder {
		out = append(out, Change{Key: discoveryTable, Old: idsOf(old), New: idsOf(next)})
	}
	return out
}

func idsOf(sources []Discovery) string {
	ids := make([]string, len(sources))
	for i := range sources {
		ids[i] = sources[i].ID
	}
	return format(kindList, &ids, shown)
}

// changes returns the keys whose values differ, of those that either has.
func changes[T any](s *spec[T], prefix string, old, next *T, has func(*T, *key[T]) bool) []Change {
	var out []Change
	for i := range s.keys {
		k := &s.keys[i]
		if k.later {
			continue
		}
		before, after := has(old, k), has(next, k)
		if !before && !after || before && after && reflect.DeepEqual(k.field(old), k.field(next)) {
			continue
		}
		c := Change{Key: prefix + k.name}
		if before {
			c.Old = format(k.kind, k.field(old), shown)
		}
		if after {
			c.New = format(k.kind, k.field(next), shown)
		}
		out = append(out, c)
	}
	return out
}
