package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Target is what a source found.
type Target struct {
	// Name becomes the agent's, Address is the host:port of its checker.
	Name, Address string
	// Labels become the agent's, but that those whose names begin with __ are for templates only. They may be nil.
	Labels map[string]string
}

// maxSkipped bounds Config.Skipped.
const maxSkipped = 100

// discovered makes agents of what the sources found, one at a time.
type discovered struct {
	*agentReader
	// taken are the agents' names, with the address if they were found.
	taken   map[string]string
	skipped []string
	// labels of the target before, and what became of them: the targets of a group have the same.
	labels, kept map[string]string
	labelFault   string
}

// discover adds the agents that the sources have found to those that are written.
func (r *agentReader) discover(targets map[string][]Target) {
	d := &discovered{agentReader: r, taken: make(map[string]string, len(r.config.Agents))}
	for _, a := range r.config.Agents {
		d.taken[a.Name] = ""
	}
	for _, name := range r.config.Disabled {
		d.taken[name] = ""
	}
	for i := range r.config.Discovery {
		source := &r.config.Discovery[i]
		p := r.profiles[source.Profile]
		if p == nil || p.broken { // which is an error by now
			continue
		}
		for j := range targets[source.ID] {
			t := &targets[source.ID][j]
			if bad := d.target(t, p); bad != "" {
				d.skipped = append(d.skipped, fmt.Sprintf("%s: target %s at %s: %s", source.ID, foundText(t.Name), foundText(t.Address), bad))
			}
		}
	}
	slices.Sort(d.skipped)
	r.config.SkippedTotal = len(d.skipped)
	if more := len(d.skipped) - maxSkipped; more > 0 {
		d.skipped = append(d.skipped[:maxSkipped:maxSkipped], "and "+strconv.Itoa(more)+" more")
	}
	r.config.Skipped = d.skipped
}

// nameRule is for names of agents.
var nameRule = text(wantName)

// target makes an agent of a target, or says why it can't.
func (d *discovered) target(t *Target, p *profile) (bad string) {
	switch other, taken := d.taken[t.Name]; {
	case taken && (other == "" || other == t.Address):
		return "" // as it is meant to be
	case taken:
		return "there is an agent of that name already, found at " + foundText(other) + "; names are unique, and the first counts"
	}
	if bad := fits("name", &nameRule, t.Name); bad != "" {
		return bad
	}
	if bad := fits("address", &agentSpec.byName["address"].rule, t.Address); bad != "" {
		return bad
	}
	if bad := d.see(t.Labels); bad != "" {
		return bad
	}
	entry := &agentEntry{labels: t.Labels}
	agentSpec.setDefaults(entry)
	entry.Name, entry.Address, entry.TLS = t.Name, t.Address, d.config.TLS
	d.expand(p, entry, nil, func(text, _ *node, msg string) {
		if bad == "" {
			bad = text.path() + ": " + msg
		}
	})
	if bad != "" {
		return bad
	}
	d.taken[t.Name] = t.Address
	entry.labels = d.kept
	d.config.take(entry)
	return ""
}

// fits says why a text is not what it ought to be.
func fits(what string, r *rule, s string) string {
	if _, bad := r.fromText(s); bad != nil {
		return what + ": " + bad[0].msg
	}
	return ""
}

// see looks at a target's labels, and says what is wrong with them.
func (d *discovered) see(labels map[string]string) string {
	if d.labels != nil && maps.Equal(labels, d.labels) {
		return d.labelFault
	}
	d.labels, d.kept, d.labelFault = labels, nil, ""
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		bad := fits("a label's name", &nameRule, name)
		if bad == "" {
			bad = fits("labels."+QuoteKey(name), &labelRule, labels[name])
		}
		if bad != "" {
			d.labelFault = bad
			return bad
		}
		if strings.HasPrefix(name, "__") {
			continue
		}
		if d.kept == nil {
			d.kept = make(map[string]string, len(labels))
		}
		d.kept[name] = labels[name]
	}
	return ""
}
