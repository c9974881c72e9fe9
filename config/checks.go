package config

import (
	"slices"
	"strconv"
	"time"

	"github.com/serviceradar/poller/internal/assertion"
	"github.com/serviceradar/poller/internal/check"
)

// ownChecks reads the checks that an agent has of its own, and puts their names into names.
func (r *agentReader) ownChecks(array *node, entry *agentEntry, names map[string]*node) {
	nodes := r.checkNodes(array)
	if entry.Checks == nil && len(nodes) > 0 { // for good, so of the right size
		entry.Checks = make([]check.Check, 0, len(nodes))
	}
	for _, n := range nodes {
		c := r.check(n, checkSpec)
		r.unique(names, n, c.Name)
		entry.Checks = append(entry.Checks, c.complete(entry.timeout, r.config.Poll.Timeout))
		entry.silence(c.Name, c.silences)
	}
}

// checkNodes returns the checks of an agent or a profile.
func (r *agentReader) checkNodes(array *node) []*node {
	if array.kind != nodeArray {
		r.value(array, "found %s, want an array of tables: write [[%s]] before each check", array.found(), array.path())
		return nil
	}
	nodes := make([]*node, 0, len(array.elems))
	for _, n := range array.elems {
		if n.kind != nodeTable {
			r.value(n, "found %s, want a table: write [[%s]] before each check", n.found(), array.path())
			continue
		}
		nodes = append(nodes, n)
	}
	return nodes
}

// check reads a check, as far as that does not depend on its agent.
func (r *agentReader) check(n *node, s *spec[checkEntry]) *checkEntry {
	c := &checkEntry{}
	s.setDefaults(c)
	w := &walker[checkEntry]{
		spec: s, problems: r.problems,
		set: func(k *key[checkEntry], value any, _ *node) { store(k.field(c), value) },
	}
	if n.kids[silenceKey] != nil { // few have it
		w.other = map[string]func(*node){silenceKey: func(kid *node) { c.silences = r.silences(kid) }}
	}
	w.walk(n, "")
	w.missing(n)
	r.method(c, n)
	r.assert(c, n.kids["assert"])
	if written := n.kids["timeout"]; written != nil {
		r.timeout(c, written)
	}
	return c
}

// unique reports a name that an earlier check of the agent has.
func (r *agentReader) unique(names map[string]*node, n *node, name string) {
	written := n.kids["name"]
	if written == nil || name == "" {
		return
	}
	if first := names[name]; first != nil {
		where := "above"
		if first.doc.name != "" {
			line, _ := first.doc.position(int(first.off))
			where = "on line " + strconv.Itoa(line)
		}
		r.value(written, "found %s again, the check %s has that name; names are unique within an agent", foundText(name), where)
		return
	}
	names[name] = written
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
	if confirm := n.kids["confirm"]; confirm != nil {
		r.key(confirm, confirm.path(), "of no use beside results_interval: results are passed on as they come; leave it out")
	}
	if assert := n.kids["assert"]; assert != nil {
		r.key(assert, assert.path(), "of no use beside results_interval: results are passed on as they come; leave it out")
		c.asserted = nil
	}
	c.Confirm = 1
	c.Interval = c.resultsInterval
	r.interval(&c.Check, results)
	c.Method = check.GetResults
}

// compiled is what became of an expression.
type compiled struct {
	*assertion.Assertion
	err error
}

// assert compiles the assertions of a check, if they are written as they should be.
func (r *agentReader) assert(c *checkEntry, written *node) {
	list := make([]*assertion.Assertion, len(c.asserted))
	for i, text := range c.asserted {
		known, ok := r.assertions[text]
		if !ok {
			known.Assertion, known.err = assertion.Compile(text)
			if r.assertions == nil {
				r.assertions = map[string]compiled{}
			}
			r.assertions[text] = known
		}
		if known.err != nil {
			r.value(written.elems[i], "found %s, %v", foundText(text), known.err)
		}
		list[i] = known.Assertion
	}
	if len(list) > 0 && !slices.Contains(list, nil) {
		c.Assert = assertion.All(list)
	}
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

// timeout checks the one that is written.
func (r *agentReader) timeout(c *checkEntry, written *node) {
	switch {
	case !c.HasResults():
		r.fitsCycle(r.config, place{node: written}, written.path(), c.Timeout)
	// Results are waited for by no cycle.
	case c.Timeout > c.Interval && c.Interval > 0:
		r.value(written, "found %q above the check's results_interval, which is %q; write at most that, or a longer results_interval",
			formatDuration(c.Timeout), formatDuration(c.Interval))
	}
}

// complete returns the check of an agent, with the nearest default for its timeout: the agent's, 0 for none, or
// poll.timeout. Whether results are streamed goes by name and type, if it is not written.
func (c *checkEntry) complete(agents, polls time.Duration) check.Check {
	out := c.Check
	if out.Timeout == 0 {
		out.Timeout = polls
		if agents > 0 {
			out.Timeout = agents
		}
	}
	if c.HasResults() && (c.stream == nil && streams(&out) || c.stream != nil && *c.stream) {
		out.Method = check.StreamResults
	}
	return out
}

// streams tells whether a check's results are streamed by default: those that are large, and that
// checkers in the field offer as streams.
func streams(c *check.Check) bool {
	return c.IsSync() || c.Type == check.TypeSweep
}
