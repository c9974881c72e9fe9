package config

import (
	"slices"
	"strings"
	"time"

	"github.com/serviceradar/poller/internal/check"
)

// agentReader reads [agents] and [profiles].
type agentReader struct {
	*layers
	config   *Config
	profiles map[string]*profile
	// incomplete tells that there may be more profiles.
	incomplete bool
	// suggestions are what follows a name that is no profile's, made once for all agents.
	suggestions map[string]string
	// assertions are those that were compiled, by their texts: many agents may have the same.
	assertions map[string]compiled
	// faults are what agents have against checks of their profiles.
	faults map[expansionFault]*sufferers
	// now is for telling which silences are over; those are in over.
	now  time.Time
	over []string
}

// read reads the agents and profiles of all files.
func (r *agentReader) read(found *tables) {
	r.incomplete = found.partial
	all := &agentEntry{}
	for _, n := range found.silences { // more than one is an error by now
		all.silence("", r.silences(n))
	}
	r.config.silence("", all.silences)
	r.readProfiles(r.entries(found.profiles, "a profile"))
	r.sources(found)
	sources := slices.ContainsFunc(slices.Concat(found.files, found.urls), func(n *node) bool { return n.kind != nodeArray || len(n.elems) > 0 })
	none := !sources && !slices.ContainsFunc(found.agents, func(n *node) bool { return n.kind != nodeTable || len(n.kids) > 0 })
	if none && !found.partial {
		r.warn("no agents configured: only heartbeats are reported")
	}
	var idle []string
	for _, n := range r.entries(found.agents, "an agent") {
		entry := r.agent(n)
		if r.idle(n, entry) {
			idle = append(idle, entry.Name)
		}
		r.config.take(entry)
	}
	r.tellFaults()
	r.warnIdle(idle)
	r.warnOver()
	slices.Sort(r.config.Disabled)
}

// entries returns the tables for each agent, or for each profile, of all files. There may be no table
// around them, or more than one: within a file that is an error by now. Each name may be in one file only.
func (r *agentReader) entries(tables []*node, kind string) []*node {
	var out []*node
	first := map[string]*node{}
	for _, table := range tables {
		if table.kind != nodeTable {
			r.value(table, "found %s, want a table for each %s: write [%s.NAME]", table.found(), strings.TrimSuffix(table.key, "s"), table.path())
			continue
		}
		for _, n := range table.sortedKids() {
			if old := first[n.key]; old != nil && old.doc != n.doc {
				old.twice, n.twice = true, true
				r.key(n, n.path(), "already written in %s; write it once", old.where())
			}
			first[n.key] = n
			if n.kind != nodeTable {
				r.value(n, "found %s, want a table: write [%s]", n.found(), n.path())
				continue
			}
			if want := wantName(n.key); want != "" {
				r.key(n, n.path(), "found %s as %s's name, %s", foundText(n.key), kind, want)
			}
			out = append(out, n)
		}
	}
	return out
}

// take adds an agent to the Config. It copies it, because what only was of use until now would be kept otherwise.
func (c *Config) take(entry *agentEntry) {
	if entry.disabled {
		c.Disabled = append(c.Disabled, entry.Name)
		return
	}
	agent := entry.Agent
	c.Agents = append(c.Agents, &agent)
	if len(entry.labels) > 0 {
		if c.Labels == nil {
			c.Labels = map[string]map[string]string{}
		}
		c.Labels[agent.Name] = entry.labels
	}
	c.silence(agent.Name, entry.silences)
}

func (r *agentReader) agent(n *node) *agentEntry {
	entry := &agentEntry{Agent: check.Agent{Name: n.key}}
	agentSpec.setDefaults(entry)
	var arrays []*node
	modeBad, profileBad := false, false
	w := &walker[agentEntry]{
		spec: agentSpec, problems: r.problems,
		set: func(k *key[agentEntry], value any, _ *node) { store(k.field(entry), value) },
		bad: func(name string) {
			modeBad = modeBad || name == "tls.mode"
			profileBad = profileBad || name == "profile"
		},
		other: map[string]func(*node){
			checksTable: func(kid *node) { arrays = append(arrays, kid) },
			labelsTable: func(kid *node) { r.labels(kid, entry) },
			silenceKey:  func(kid *node) { entry.silence("", r.silences(kid)) },
		},
	}
	w.walk(n, "")
	w.missing(n)
	if written := n.kids["timeout"]; written != nil {
		r.fitsCycle(r.config, place{node: written}, written.path(), entry.timeout)
	}
	r.agentIdentity(n.kids["tls"], entry, modeBad, n.doc.dir)
	names := map[string]*node{}
	for _, array := range arrays { // more than one is an error by now
		r.ownChecks(array, entry, names)
	}
	if entry.profile != "" && !profileBad {
		r.applyProfile(n, entry, names)
	}
	return entry
}

// agentIdentity reads what an agent has written of its identity, nil for nothing.
func (r *agentReader) agentIdentity(tls *node, entry *agentEntry, modeBad bool, dir string) {
	switch {
	case tls == nil:
		entry.TLS = r.config.TLS
		return
	case tls.kind != nodeTable:
		return
	case tls.kids["mode"] == nil && !mayBeModeless(r.problems, &r.config.TLS, place{node: tls}, tls.path()):
	case !modeBad:
		checkIdentity(r.problems, &entry.TLS, tls.path(), func(key string) place {
			if written := tls.kids[key]; written != nil {
				return place{node: written}
			}
			return place{node: tls}
		})
	}
	resolvePaths(&entry.TLS, dir)
}

// labels reads an agent's labels.
func (r *agentReader) labels(table *node, entry *agentEntry) {
	if table.kind != nodeTable {
		r.value(table, `found %s, want a table of names and texts: write labels = { site = "north" } or such`, table.found())
		return
	}
	if entry.labels == nil {
		entry.labels = make(map[string]string, len(table.kids))
	}
	for _, n := range table.sortedKids() {
		if want := wantName(n.key); want != "" {
			r.key(n, n.path(), "found %s as a label's name, %s", foundText(n.key), want)
		}
		value, bad := labelRule.fromNode(n)
		for _, f := range bad {
			r.value(n, "%s", f.msg)
		}
		if bad == nil {
			entry.labels[n.key] = value.(string)
		}
	}
}

// idle tells whether an agent has no checks, as far as that is certain.
func (r *agentReader) idle(n *node, entry *agentEntry) bool {
	if len(entry.Checks) > 0 || entry.disabled || n.twice {
		return false
	}
	if own := n.kids[checksTable]; own != nil && own.kind != nodeArray {
		return false
	}
	p := r.profiles[entry.profile]
	return entry.profile == "" || p != nil && !p.broken
}

func (r *agentReader) warnIdle(names []string) {
	if len(names) > 0 {
		r.warn("agents without checks are asked nothing: %s; add [[agents.NAME.checks]]", enumerate(names))
	}
}
