package config

import (
	"strconv"
	"strings"

	"github.com/serviceradar/poller/internal/check"
)

// agentReader reads [agents].
type agentReader struct {
	*layers
	config *Config
	dir    string
}

// read returns all agents of the table, sorted by name. There may be no table; more than one is an
// error by now, but each is read.
func (r *agentReader) read(tables []*node) []*check.Agent {
	none := true
	var written []*node
	for _, table := range tables {
		if table.kind != nodeTable {
			r.value(table, "found %s, want a table for each agent: write [agents.NAME]", table.found())
			none = false
		}
		written = append(written, table.sortedKids()...)
	}
	if len(written) == 0 {
		if none {
			r.warn("no agents configured: only heartbeats are reported")
		}
		return nil
	}
	agents := make([]*check.Agent, 0, len(written))
	var idle []string
	for _, n := range written {
		if n.kind != nodeTable {
			r.value(n, "found %s, want a table: write [%s]", n.found(), n.path())
			continue
		}
		agent := r.agent(n)
		agents = append(agents, agent)
		checks := n.kids[checksTable]
		if len(agent.Checks) == 0 && !n.twice && (checks == nil || checks.kind == nodeArray) {
			idle = append(idle, agent.Name)
		}
	}
	r.warnIdle(idle)
	sortAgents(agents)
	return agents
}

func (r *agentReader) agent(n *node) *check.Agent {
	entry := agentEntry{Agent: check.Agent{Name: n.key}}
	if want := wantName(n.key); want != "" {
		r.key(n, n.path(), "found %s as an agent's name, %s", foundText(n.key), want)
	}
	agentSpec.setDefaults(&entry)
	var checks []*node
	modeBad := false
	w := &walker[agentEntry]{
		spec: agentSpec, problems: r.problems,
		set:   func(k *key[agentEntry], value any, _ *node) { store(k.field(&entry), value) },
		bad:   func(name string) { modeBad = modeBad || name == "tls.mode" },
		other: map[string]func(*node){checksTable: func(kid *node) { checks = append(checks, kid) }},
	}
	w.walk(n, "")
	w.missing(n)
	if written := n.kids["timeout"]; written != nil {
		r.fitsCycle(r.config, place{node: written}, written.path(), entry.timeout)
	}
	switch tls := n.kids["tls"]; {
	case tls == nil:
		entry.TLS = r.config.TLS
	case tls.kind == nodeTable && tls.kids["mode"] == nil && !mayBeModeless(r.problems, &r.config.TLS, place{node: tls}, tls.path()):
	case tls.kind == nodeTable && !modeBad:
		checkIdentity(r.problems, &entry.TLS, tls.path(), func(key string) place {
			if written := tls.kids[key]; written != nil {
				return place{node: written}
			}
			return place{node: tls}
		})
		resolvePaths(&entry.TLS, r.dir)
	}
	for _, array := range checks { // more than one is an error by now
		entry.Checks = append(entry.Checks, r.checks(array, &entry)...)
	}
	return &entry.Agent
}

func (r *agentReader) checks(array *node, entry *agentEntry) []check.Check {
	if array.kind != nodeArray {
		r.value(array, "found %s, want an array of tables: write [[%s]] before each check", array.found(), array.path())
		return nil
	}
	checks := make([]check.Check, len(array.elems))
	names := make(map[string]*node, len(array.elems))
	for i, n := range array.elems {
		if n.kind != nodeTable {
			r.value(n, "found %s, want a table: write [[%s]] before each check", n.found(), array.path())
			continue
		}
		c := &checkEntry{}
		w := &walker[checkEntry]{
			spec: checkSpec, problems: r.problems,
			set: func(k *key[checkEntry], value any, _ *node) { store(k.field(c), value) },
		}
		w.walk(n, "")
		w.missing(n)
		r.unique(names, n, &c.Check)
		r.method(c, n)
		r.timeout(c, n.kids["timeout"], entry)
		checks[i] = c.Check
	}
	return checks
}

// unique reports a name that an earlier check of the agent has.
func (r *agentReader) unique(names map[string]*node, n *node, c *check.Check) {
	written := n.kids["name"]
	if written == nil || c.Name == "" {
		return
	}
	if first := names[c.Name]; first != nil {
		where := "above"
		if r.doc.name != "" {
			line, _ := r.doc.position(int(first.off))
			where = "on line " + strconv.Itoa(line)
		}
		r.value(written, "found %s again, the check %s has that name; names are unique within an agent", foundText(c.Name), where)
		return
	}
	names[c.Name] = written
}

// method says how a check is asked, and how often.
func (r *agentReader) method(c *checkEntry, n *node) {
	interval, results, stream := n.kids["interval"], n.kids["results_interval"], n.kids["stream"]
	if results == nil {
		if stream != nil {
			r.key(stream, stream.path(), "of no use without results_interval, which has the check asked for results; write that too, or leave this out")
		}
		r.interval(&c.Check, interval)
		return
	}
	if interval != nil {
		r.key(interval, interval.path(), "of no use beside results_interval: the check is asked for its results, at that interval, and for nothing else; leave one of them out")
	}
	c.Interval = c.resultsInterval
	r.interval(&c.Check, results)
	c.Method = check.GetResults
	if c.stream == nil && streams(&c.Check) || c.stream != nil && *c.stream {
		c.Method = check.StreamResults
	}
}

// streams tells whether a check's results are streamed by default: those that are large, and that
// checkers in the field offer as streams.
func streams(c *check.Check) bool {
	return c.IsSync() || c.Type == check.TypeSweep
}

// interval applies the default, or reports what is no whole multiple of a cycle.
func (r *agentReader) interval(c *check.Check, written *node) {
	cycle := r.config.Poll.Interval
	if written == nil {
		c.Interval = cycle
		return
	}
	past := c.Interval % cycle // 0, too, for what was reported already
	if r.bad["poll.interval"] || past == 0 {
		return
	}
	below, above := c.Interval-past, c.Interval-past+cycle
	nearest := strconv.Quote(formatDuration(above))
	if below > 0 {
		nearest = strconv.Quote(formatDuration(below)) + " or " + nearest
	}
	r.value(written, "found %s, want a whole multiple of poll.interval, which is %q; write %s",
		written.found(), formatDuration(cycle), nearest)
}

// timeout applies the nearest default: the agent's, then poll.timeout.
func (r *agentReader) timeout(c *checkEntry, written *node, entry *agentEntry) {
	switch {
	case written != nil && c.HasResults():
		// Results are waited for by no cycle.
		if c.Timeout > c.Interval && c.Interval > 0 {
			r.value(written, "found %q above the check's results_interval, which is %q; write at most that, or a longer results_interval",
				formatDuration(c.Timeout), formatDuration(c.Interval))
		}
	case written != nil:
		r.fitsCycle(r.config, place{node: written}, written.path(), c.Timeout)
	case entry.timeout > 0:
		c.Timeout = entry.timeout
	default:
		c.Timeout = r.config.Poll.Timeout
	}
}

// warnIdle names the agents without checks, as many as a person would read.
func (r *agentReader) warnIdle(names []string) {
	if len(names) == 0 {
		return
	}
	const most = 5
	names = sortedQuoted(names)
	more := ""
	if len(names) > most {
		more = " and " + strconv.Itoa(len(names)-most) + " more"
		names = names[:most]
	}
	r.warn("agents without checks are asked nothing: %s%s; add [[agents.NAME.checks]]", strings.Join(names, ", "), more)
}
