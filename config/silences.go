package config

import (
	"maps"
	"slices"
	"strings"

	"github.com/serviceradar/poller/internal/check"
)

const sampleSilence = `{ from = 2026-03-01T22:00:00Z, to = 2026-03-02T06:00:00Z, reason = "new disks" }`

// silences reads the silences of a table.
func (r *agentReader) silences(array *node) []check.Silence {
	if array.kind != nodeArray {
		r.value(array, "found %s, want a list of tables: write silence = [%s] or such", array.found(), sampleSilence)
		return nil
	}
	list := make([]check.Silence, 0, len(array.elems))
	for _, n := range array.elems {
		if n.kind != nodeTable {
			r.value(n, "found %s, want a table: write %s or such", n.found(), sampleSilence)
			continue
		}
		list = append(list, r.silence(n))
	}
	return list
}

func (r *agentReader) silence(n *node) check.Silence {
	var s check.Silence
	well := map[string]*node{}
	w := &walker[check.Silence]{
		spec: silenceSpec, problems: r.problems,
		set: func(k *key[check.Silence], value any, kid *node) {
			store(k.field(&s), value)
			well[k.name] = kid
		},
	}
	w.walk(n, "")
	w.missing(n)
	switch from, to := well["from"], well["to"]; {
	case from == nil || to == nil:
	case !s.From.Before(s.To):
		r.value(to, "found %s, which is not later than its beginning, %s", to.found(), from.found())
	case !r.now.Before(s.To):
		place := n.path()
		if where := n.where(); where != "" {
			place += " (" + where + ")"
		}
		r.over = append(r.over, place)
	}
	return s
}

// warnOver names the silences that do nothing any more.
func (r *agentReader) warnOver() {
	const most = 5
	list := r.over
	if len(list) == 0 {
		return
	}
	slices.Sort(list)
	more := ""
	if len(list) > most {
		list, more = list[:most], " and more"
	}
	r.warn("silences that are over and can be removed: %s%s", strings.Join(list, ", "), more)
}

// silence adds silences of a check, or without a name of the agent.
func (a *agentEntry) silence(name string, list []check.Silence) {
	if len(list) == 0 {
		return
	}
	if a.silences == nil {
		a.silences = map[string][]check.Silence{}
	}
	a.silences[name] = list
}

// silence adds the silences of an agent, or without a name those for all.
func (c *Config) silence(agent string, silences map[string][]check.Silence) {
	if len(silences) == 0 {
		return
	}
	if c.Silences == nil {
		c.Silences = check.Silences{}
	}
	c.Silences[agent] = silences
}

// sameSilences tells whether two agents have equal silences, or a check of theirs.
func sameSilences(a, b map[string][]check.Silence) bool {
	return maps.EqualFunc(a, b, slices.Equal[[]check.Silence])
}

// silenceChange appends the change of a table's silences, if there is one; its path ends with a dot.
func silenceChange(out []Change, path string, old, next []check.Silence) []Change {
	if slices.Equal(old, next) {
		return out
	}
	return append(out, Change{Key: path + silenceKey, Old: inlineSilences(old), New: inlineSilences(next)})
}

// inlineSilences writes silences on one line; empty if there are none.
func inlineSilences(list []check.Silence) string {
	if len(list) == 0 {
		return ""
	}
	tables := make([]string, len(list))
	for i := range list {
		var items []string
		for j := range silenceSpec.keys {
			k := &silenceSpec.keys[j]
			items = append(items, k.name+" = "+format(k.kind, k.field(&list[i]), shown))
		}
		tables[i] = "{ " + strings.Join(items, ", ") + " }"
	}
	return "[" + strings.Join(tables, ", ") + "]"
}
