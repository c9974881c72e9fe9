package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

const (
	// interval is the nodes' poll.interval.
	interval = time.Second
	// recent is what counts as now: every agent is polled in it.
	recent = interval + interval/2
	// early is how much sooner than it should a cycle may begin, for nodes know what time it is no better.
	early = interval / 50
	// toldWrong is how many of the doubled runs are told in full.
	toldWrong = 5
)

// runs is who polled which agent when, as the checkers saw it, and what the script did meanwhile. It is safe for concurrent use.
type runs struct {
	began time.Time

	mu      sync.Mutex
	agents  map[string]*lately
	deeds   []*deed // in order of time; runs belong to the last
	doubles []string
}

// lately is what is known of the runs of an agent.
type lately struct {
	at   time.Time // of the last run; before the first one, when all began
	node string    // of the last run; empty before the first one
	runs []run     // those that may still count as recent
}

type run struct {
	node string
	at   time.Time
}

// kind is what a deed does to a node.
type kind int

const (
	begins  kind = iota // all nodes are new
	goes                // others should poll its agents
	returns             // it should take its share
	ends                // all are asked to end
)

// deed is something that the script did, and what came of it until the next one.
type deed struct {
	kind kind
	node string // that it was done to; empty if to all
	what string // such as "a was killed"
	at   time.Time
	// stood says that the node stood still, and when it goes on knows nothing of what happened meanwhile. A call that it was about to make
	// may come late, so its runs are not held against it.
	stood bool

	due     int             // how many agents others should poll, or some node
	waiting map[string]bool // those that nobody has polled yet
	moved   map[string]bool // agents that another node polls than before
	taken   map[string]bool // when a node returns: agents that it took from others
	first   time.Duration   // how long after the deed it polled the first of them
	last    time.Duration   // how long after the deed the last of them was polled, or of those that waited
	gap     time.Duration   // the longest between two runs of an agent, the second of which was in its time
	doubled int             // runs that came twice, but for those that may
	spared  int             // those
	told    bool            // what followed
}

func newRuns(agents []string, now time.Time) *runs {
	r := &runs{began: now, agents: make(map[string]*lately)}
	for _, name := range agents {
		r.agents[name] = &lately{at: now}
	}
	return r
}

// did notes that the script is about to do something.
func (r *runs) did(d deed, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d.at, d.waiting, d.moved, d.taken = now, make(map[string]bool), make(map[string]bool), make(map[string]bool)
	for name, a := range r.agents {
		if d.kind == begins || d.kind == goes && a.node == d.node {
			d.waiting[name] = true
		}
	}
	d.due = len(d.waiting)
	r.deeds = append(r.deeds, &d)
}

// note takes a run. There must have been a deed.
func (r *runs) note(agent, node string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a, d := r.agents[agent], r.deeds[len(r.deeds)-1]
	if a == nil {
		return // nobody else's
	}
	after := now.Sub(d.at)
	d.gap = max(d.gap, now.Sub(a.at))
	if d.waiting[agent] && node != d.node {
		delete(d.waiting, agent)
		d.last = after
	}
	if a.node != "" && a.node != node {
		d.moved[agent] = true
		if d.kind == returns && node == d.node && !d.taken[agent] {
			if d.last = after; len(d.taken) == 0 {
				d.first = after
			}
			d.taken[agent] = true
		}
	}
	a.runs = slices.DeleteFunc(a.runs, func(o run) bool { return now.Sub(o.at) > recent })
	if i := slices.IndexFunc(a.runs, func(o run) bool { return o.node != node && cycle(o.at).Equal(cycle(now)) }); i >= 0 {
		r.double(d, agent, a.runs[i], run{node, now})
	}
	a.runs = append(a.runs, run{node, now})
	a.at, a.node = now, node
}

// cycle is when the cycle of a run has begun: all nodes have the same grid, on which an agent is due once in each cycle. Two runs may
// still follow each other closely, for an agent that nobody polls is run at once by who takes it, however soon the next cycle begins.
func cycle(at time.Time) time.Time { return at.Add(early).Truncate(interval) }

// double counts two runs where there should have been one.
func (r *runs) double(d *deed, agent string, one, other run) {
	if d.stood && (one.node == d.node || other.node == d.node) {
		d.spared++
		return
	}
	d.doubled++
	if len(r.doubles) < toldWrong {
		r.doubles = append(r.doubles, fmt.Sprintf("%s was polled by %s and %s within %v, %s after the begin (%s)",
			agent, one.node, other.node, other.at.Sub(one.at).Round(time.Millisecond), seconds(other.at.Sub(r.began)), d.what))
	}
}

// now returns how many agents each node polled lately, and for how long the agent that waits longest has not been polled.
func (r *runs) now(now time.Time) (shares map[string]int, gap time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	shares = make(map[string]int)
	for _, a := range r.agents {
		nodes := a.turns(now)
		slices.Sort(nodes)
		for _, node := range slices.Compact(nodes) {
			shares[node]++
		}
		gap = max(gap, now.Sub(a.at))
	}
	return shares, gap
}

// turns returns which nodes polled an agent lately, one after the other.
func (a *lately) turns(now time.Time) []string {
	var nodes []string
	for _, o := range a.runs {
		if now.Sub(o.at) <= recent {
			nodes = append(nodes, o.node)
		}
	}
	return slices.Compact(nodes)
}

// news says what followed the last deed, once: as soon as that is clear, or when its time is over. Else it is empty.
func (r *runs) news(over bool) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.deeds) == 0 {
		return ""
	}
	d := r.deeds[len(r.deeds)-1]
	settled := (d.kind == begins || d.kind == goes) && len(d.waiting) == 0
	if d.told || d.kind == ends || !settled && !over {
		return ""
	}
	d.told = true
	return d.what + ": " + d.followed() + fmt.Sprintf(" (longest gap %s)", seconds(d.gap))
}

// followed says what came of a deed.
func (d *deed) followed() string {
	left := len(d.waiting)
	switch {
	case d.kind == returns && len(d.taken) == 0:
		return "it took no agent"
	case d.kind == returns:
		return fmt.Sprintf("it took %s, the first after %s, the last after %s", agents(len(d.taken)), seconds(d.first), seconds(d.last))
	case d.kind == begins && left > 0:
		return fmt.Sprintf("%d of %s not polled", left, were(d.due))
	case d.kind == begins:
		return fmt.Sprintf("all %s polled after %s", were(d.due), seconds(d.last))
	case d.due == 0:
		return "it polled no agent"
	case left > 0:
		return fmt.Sprintf("%d of its %s not polled by others", left, were(d.due))
	}
	return fmt.Sprintf("its %s polled by others after %s", were(d.due), seconds(d.last))
}

// alone returns an error unless every agent was polled lately, and by one node, or by one and from then on by another: it may have moved.
func (r *runs) alone(now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var wrong []string
	for _, name := range slices.Sorted(maps.Keys(r.agents)) {
		switch turns := r.agents[name].turns(now); len(turns) {
		case 0:
			wrong = append(wrong, name+" by none")
		case 1, 2:
		default:
			wrong = append(wrong, name+" by "+strings.Join(turns, ", then "))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("in the last %v not every agent was polled by exactly one node: %s", recent, some(wrong))
}

// some is as much of a list as can be read.
func some(list []string) string {
	const most = 8
	if n := len(list); n > most {
		return fmt.Sprintf("%s; and %d more", strings.Join(list[:most], "; "), n-most)
	}
	return strings.Join(list, "; ")
}

// summary has a row for each deed.
func (r *runs) summary() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "AT\tWHAT\tMOVED\tLONGEST GAP\tDOUBLED") // a Builder takes everything
	for _, d := range r.deeds {
		doubled := fmt.Sprint(d.doubled)
		if d.spared > 0 {
			doubled += fmt.Sprintf(", and %d by the one that stood still", d.spared)
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", seconds(d.at.Sub(r.began)), d.what, agents(len(d.moved)), seconds(d.gap), doubled)
	}
	_ = w.Flush()
	return b.String()
}

// verdict returns an error if something was polled twice that should not have been.
func (r *runs) verdict() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	doubled := 0
	for _, d := range r.deeds {
		doubled += d.doubled
	}
	if doubled == 0 {
		return nil
	}
	return fmt.Errorf("%d runs doubled: %s", doubled, strings.Join(r.doubles, "; "))
}

func agents(n int) string {
	if n == 1 {
		return "1 agent"
	}
	return fmt.Sprintf("%d agents", n)
}

func were(n int) string {
	if n == 1 {
		return agents(n) + " was"
	}
	return agents(n) + " were"
}

// seconds is a time as people read it.
func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
