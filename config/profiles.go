package config

import (
	"slices"
	"strconv"
	"strings"

	"github.com/serviceradar/poller/internal/check"
)

// profile is a table of [profiles]: checks that are added to those of agents.
type profile struct {
	checks []profileCheck
	// varies tells that there are templates.
	varies bool
	// broken tells that something is wrong with it, so that nothing follows for its agents.
	broken bool
}

// profileCheck is a check of a profile.
type profileCheck struct {
	checkEntry
	name *node // nil if it is not written
	// templates are those of its texts that differ from agent to agent.
	templates []fieldTemplate
}

// fieldTemplate makes one text of a check.
type fieldTemplate struct {
	*textTemplate
	key  *key[checkEntry]
	node *node
}

// profileCheckSpec is checkSpec, but that templates keep the rules only with what they come to.
var profileCheckSpec = func() *spec[checkEntry] {
	keys := make([]key[checkEntry], len(checkSpec.keys))
	for i, k := range checkSpec.keys {
		if want := k.want; want != nil {
			k.want = func(s string) string {
				if isTemplate(s) {
					return ""
				}
				return want(s)
			}
		}
		keys[i] = k
	}
	return newSpec(keys, silenceKey)
}()

// readProfiles reads all profiles, whether an agent has them or not.
func (r *agentReader) readProfiles(nodes []*node) {
	r.profiles = make(map[string]*profile, len(nodes))
	for _, n := range nodes {
		before := len(r.found)
		p := &profile{}
		w := &walker[struct{}]{
			spec: profileSpec, problems: r.problems,
			other: map[string]func(*node){checksTable: func(array *node) {
				names := map[string]*node{}
				for _, n := range r.checkNodes(array) {
					p.checks = append(p.checks, r.profileCheck(n, names))
				}
			}},
		}
		w.walk(n, "")
		p.varies = slices.ContainsFunc(p.checks, func(c profileCheck) bool { return len(c.templates) > 0 })
		p.broken = len(r.found) > before || n.twice
		r.profiles[n.key] = p
	}
}

func (r *agentReader) profileCheck(n *node, names map[string]*node) profileCheck {
	c := profileCheck{checkEntry: *r.check(n, profileCheckSpec), name: n.kids["name"]}
	for i := range profileCheckSpec.keys {
		k := &profileCheckSpec.keys[i]
		text, ok := k.field(&c.checkEntry).(*string)
		if !ok || !isTemplate(*text) {
			continue
		}
		t, bad := parseTemplate(*text)
		if bad != "" {
			r.value(n.kids[k.name], "found %s, %s", foundText(*text), bad)
			continue
		}
		c.templates = append(c.templates, fieldTemplate{textTemplate: t, key: checkSpec.byName[k.name], node: n.kids[k.name]})
	}
	r.unique(names, n, c.Name)
	return c
}

// applyProfile adds the checks of an agent's profile to those of its own, whose names are given.
func (r *agentReader) applyProfile(agent *node, entry *agentEntry, names map[string]*node) {
	p := r.profiles[entry.profile]
	switch {
	case p == nil && !r.incomplete:
		written := agent.kids["profile"]
		r.value(written, "found %s, which is no profile%s", foundText(entry.profile), r.suggestProfile(entry.profile))
		return
	case p == nil || p.broken || len(p.checks) == 0:
		return
	}
	r.expand(p, entry, names, func(text, where *node, msg string) {
		if where == nil {
			where = agent
		}
		r.fault(text, where, entry.Name, msg)
	})
}

// expand adds the checks of a profile to those of an agent, whose names are given. It tells what is wrong with which
// text of the profile, and which check of the agent's own has to do with it; nil for none.
func (r *agentReader) expand(p *profile, entry *agentEntry, names map[string]*node, fault func(text, own *node, msg string)) {
	var values map[string]any
	var others map[string]bool // the names so far, where they may be the same
	if p.varies {
		values = map[string]any{"agent": entry.Name, "address": entry.Address, "labels": entry.labels}
		others = make(map[string]bool, len(p.checks))
	}
	entry.Checks = append(make([]check.Check, 0, len(entry.Checks)+len(p.checks)), entry.Checks...)
	for i := range p.checks {
		c := p.checks[i].checkEntry
		well := true
		for _, t := range p.checks[i].templates {
			if bad := t.apply(&c, values); bad != "" {
				fault(t.node, nil, bad)
				well = false
			}
		}
		switch {
		case !well:
			continue
		case names[c.Name] != nil:
			fault(p.checks[i].name, names[c.Name], foundText(c.Name)+" is the name of a check of its own; names are unique within an agent")
		case others[c.Name]:
			fault(p.checks[i].name, nil, "the name "+foundText(c.Name)+" is that of two checks of this profile; names are unique within an agent")
		}
		if p.varies {
			others[c.Name] = true
		}
		entry.Checks = append(entry.Checks, c.complete(entry.timeout, r.config.Poll.Timeout))
		entry.silence(c.Name, c.silences)
	}
}

// apply sets the text in c, or says why it can't.
func (t *fieldTemplate) apply(c *checkEntry, values map[string]any) string {
	text, bad := t.execute(values)
	if bad != "" {
		return bad
	}
	value, faults := t.key.fromText(text)
	if faults != nil {
		return "it comes to " + strings.TrimPrefix(faults[0].msg, "found ")
	}
	store(t.key.field(c), value)
	return ""
}

// orLeaveOut ends what is suggested to those who need no profile.
const orLeaveOut = ", or leave this out"

// suggestProfile names what could have been meant by a name that is no profile's.
func (r *agentReader) suggestProfile(name string) string {
	text, done := r.suggestions[name]
	if done {
		return text
	}
	known := make([]string, 0, len(r.profiles))
	for k := range r.profiles {
		known = append(known, k)
	}
	switch text = suggestText(name, known); {
	case text != "":
	case len(known) == 0:
		text = "; there are none: write [profiles." + QuoteKey(Mask(name)) + "]" + orLeaveOut
	default:
		text = "; known: " + enumerate(known)
	}
	if r.suggestions == nil {
		r.suggestions = map[string]string{}
	}
	r.suggestions[name] = text
	return text
}

// expansionFault is what is wrong with a text of a profile's check, for some agents.
type expansionFault struct {
	node *node
	msg  string
}

// sufferers are the agents that have such a fault: thousands may have the same.
type sufferers struct {
	first string
	count int
}

// fault notes what an agent has against a text of its profile; where is what the agent has to do with it.
func (r *agentReader) fault(text, where *node, agent, msg string) {
	f := expansionFault{text, msg}
	if r.faults == nil {
		r.faults = map[expansionFault]*sufferers{}
	}
	if r.faults[f] == nil {
		first := foundText(agent)
		if place := where.where(); place != "" {
			first += " (" + place + ")"
		}
		r.faults[f] = &sufferers{first: first}
	}
	r.faults[f].count++
}

// tellFaults reports what was noted, once for all agents that have the same.
func (r *agentReader) tellFaults() {
	for f, s := range r.faults {
		whom := "agent " + s.first
		if s.count > 1 {
			whom = strconv.Itoa(s.count) + " agents, the first of them " + s.first
		}
		r.value(f.node, "found %s; for %s, %s", f.node.found(), whom, f.msg)
	}
}

// enumerate names some things, as many as a person would read.
func enumerate(names []string) string {
	const most = 5
	quoted := sortedQuoted(names)
	if len(quoted) <= most {
		return strings.Join(quoted, ", ")
	}
	return strings.Join(quoted[:most], ", ") + " and " + strconv.Itoa(len(quoted)-most) + " more"
}
