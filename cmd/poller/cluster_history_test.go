package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// What follows judges a cluster by what its checkers saw of it, and by what came to core. It is pure, so that it can be shown to find
// what is wrong; the tests that run clusters have the tag cluster.

// nobody stands for a node where there is none.
const nobody = -1

// sighting is one run of an agent, as its checker saw it.
type sighting struct {
	at   time.Duration // since the observation began
	node int
}

// history has the runs of each agent, in the order in which they came.
type history [][]sighting

// spell is a stretch of time.
type spell struct{ from, to time.Duration }

// stretch is what lies between two runs of an agent. One that there is not is nobody's, at the end of the spell that is looked at.
type stretch struct {
	agent    int
	from, to sighting
}

func (s stretch) length() time.Duration { return s.to.at - s.from.at }

// around is what was seen of an agent at about the time of a stretch.
func (h history) around(s stretch, slack time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "agent %d:", s.agent)
	for _, r := range h[s.agent] {
		if r.at >= s.from.at-slack && r.at <= s.to.at+slack {
			mark := ""
			if r == s.from || r == s.to {
				mark = "*"
			}
			fmt.Fprintf(&b, " %s%s %.3f", mark, nodeName(r.node), r.at.Seconds())
		}
	}
	return b.String()
}

func nodeName(node int) string {
	if node == nobody {
		return "nobody"
	}
	return fmt.Sprintf("n%d", node+1)
}

// findings are what differs from one run of each agent in each interval. All nodes have the same grid, so runs are an interval
// apart whoever makes them; but an orphan is run at once, and then goes back to the grid.
type findings struct {
	runs, moves int
	holes       []stretch // more than tooLong
	doubles     []stretch // less than half an interval apart, by two nodes
	twins       []stretch // the same by one node
	made        int       // the same, but the first is of an orphan, and the second when it was due
	splits      []stretch // a node had the agent, then another, then the first again, within one and a half intervals
	swings      int       // the same within three intervals, which is no more than to and fro
}

// phase is when in an interval an agent is due, by when it was run most.
func phase(all []sighting, every time.Duration) time.Duration {
	const parts = 50
	var counts [parts]int
	for _, r := range all {
		counts[(r.at%every+every)%every*parts/every]++
	}
	most, best := 0, 0
	for i := range counts {
		if n := counts[i] + counts[(i+1)%parts]; n > most {
			most, best = n, i
		}
	}
	return every * time.Duration(best+1) / parts
}

// isDue tells whether a run is on the grid. It may be late.
func isDue(at, phase, every time.Duration) bool {
	const slack = .2
	part := float64(((at-phase)%every+every)%every) / float64(every)
	return part < slack || part > 1-slack
}

// tooLong is what nobody should be without a run: one and a half intervals, and a tenth for runs that are a little late. One due run that was
// missed makes two intervals.
func tooLong(every time.Duration) time.Duration { return every * 8 / 5 }

func (h history) find(every time.Duration, in spell) findings {
	var f findings
	for agent, all := range h {
		f.add(agent, all, every, in)
	}
	return f
}

func (f *findings) add(agent int, all []sighting, every time.Duration, in spell) {
	first, _ := slices.BinarySearchFunc(all, in.from, byTime)
	last := sighting{in.from, nobody}
	if first > 0 {
		last = all[first-1]
	}
	left := map[int]sighting{last.node: last} // by node: its last run
	wasHole := false                          // before last
	due := phase(all, every)
	for _, r := range all[first:] {
		if r.at > in.to {
			break
		}
		f.runs++
		s := stretch{agent, last, r}
		isHole := s.length() > tooLong(every)
		switch near := s.length() < every/2 && last.node != nobody; {
		case isHole:
			f.holes = append(f.holes, s)
		case near && wasHole && isDue(r.at, due, every):
			f.made++
		case near && last.node != r.node:
			f.doubles = append(f.doubles, s)
		case near:
			f.twins = append(f.twins, s)
		}
		if last.node != nobody && last.node != r.node {
			f.moves++
			switch before, was := left[r.node]; {
			case was && r.at-before.at < every*3/2:
				f.splits = append(f.splits, stretch{agent, before, r})
			case was && r.at-before.at <= 3*every:
				f.swings++
			}
		}
		if left[r.node] = r; isHole {
			delete(left, r.node) // that it was run at once counts for nothing
		}
		last, wasHole = r, isHole
	}
	if s := (stretch{agent, last, sighting{in.to, nobody}}); s.length() > tooLong(every) {
		f.holes = append(f.holes, s)
	}
}

func byTime(s sighting, at time.Duration) int { return int(s.at - at) }

// outage is a time in which nodes were away, or the network was not as it should be.
type outage struct {
	victims []int
	// anybody means that there are no victims, but that each node may lose its lease, and gain it again, many times.
	anybody  bool
	at, back time.Duration
	settled  time.Duration // when all was well again after it
}

// gaps are the longest times without a run that the victims' agents had until another node ran them, or until the outage was over.
func (h history) gaps(o outage) []stretch {
	var gaps []stretch
	for agent, all := range h {
		next, _ := slices.BinarySearchFunc(all, o.at, byTime)
		if next == 0 || !slices.Contains(o.victims, all[next-1].node) {
			continue
		}
		var longest stretch
		last := all[next-1]
		for ; ; next++ {
			r := sighting{o.settled, nobody}
			if next < len(all) && all[next].at < o.settled {
				r = all[next]
			}
			if s := (stretch{agent, last, r}); s.length() > longest.length() {
				longest = s
			}
			if !slices.Contains(o.victims, r.node) {
				break
			}
			last = r
		}
		gaps = append(gaps, longest)
	}
	return gaps
}

// withoutStale leaves out what a node that stood still ran at its return, before it could know that others had its agents: for each
// agent the first run, if it stands between two of others that would do without it. It tells how many these were, and how many of
// them were less than half an interval from another.
func (h history) withoutStale(every time.Duration, o outage) (rest history, stale, doubled int) {
	rest = slices.Clone(h)
	for agent, all := range h {
		i, _ := slices.BinarySearchFunc(all, o.back, byTime)
		for i < len(all) && all[i].at < o.back+every && !slices.Contains(o.victims, all[i].node) {
			i++
		}
		if i == 0 || i+1 >= len(all) || all[i].at >= o.back+every || all[i-1].node == all[i].node || all[i+1].node == all[i].node ||
			all[i+1].at-all[i-1].at > every*3/2 {
			continue
		}
		if stale++; all[i].at-all[i-1].at < every/2 || all[i+1].at-all[i].at < every/2 {
			doubled++
		}
		rest[agent] = slices.Delete(slices.Clone(all), i, i+1)
	}
	return rest, stale, doubled
}

// verdict is what became of the agents of a cluster.
type verdict struct {
	findings
	// gaps are those of the victims' agents, late the holes of other agents while an outage lasted. What is left in holes are runs
	// that were missed for no reason.
	gaps, late []stretch
	// prompt are no doubles: see isPrompt.
	prompt []stretch
}

// isPrompt tells of two runs that are close to each other whether that is because an orphan is run at once, without knowing when it was last: they are
// the victim's last run and the orphan's first, or that and the next, which is on the grid again.
func (h history) isPrompt(every time.Duration, s stretch, o outage) bool {
	due := phase(h[s.agent], every)
	if o.anybody { // whoever has lost its lease is followed at once, also by itself; but in their turns agents are run by one node
		inTurn := isDue(s.from.at, due, every) && isDue(s.to.at, due, every)
		return s.to.at > o.at && s.from.at < o.back+2*every && !inTurn
	}
	isOrphan := func(last, first sighting) bool {
		moved := slices.Contains(o.victims, last.node) && !slices.Contains(o.victims, first.node)
		return moved && first.at > o.at && first.at < o.back
	}
	if isOrphan(s.from, s.to) {
		return true
	}
	all := h[s.agent]
	i := slices.Index(all, s.from)
	return i > 0 && isOrphan(all[i-1], s.from) && isDue(s.to.at, due, every)
}

func (h history) judge(every time.Duration, in spell, outages []outage) verdict {
	v := verdict{findings: h.find(every, in)}
	type begin struct {
		agent int
		from  time.Duration
	}
	known := make(map[begin]bool)
	for _, o := range outages {
		for _, g := range h.gaps(o) {
			v.gaps = append(v.gaps, g)
			known[begin{g.agent, g.from.at}] = true
		}
	}
	v.holes = slices.DeleteFunc(v.holes, func(s stretch) bool {
		if known[begin{s.agent, s.from.at}] {
			return true
		}
		isLate := slices.ContainsFunc(outages, func(o outage) bool { return s.from.at < o.back && s.to.at > o.at })
		if isLate {
			v.late = append(v.late, s)
		}
		return isLate
	})
	isPrompt := func(s stretch) bool {
		is := slices.ContainsFunc(outages, func(o outage) bool { return h.isPrompt(every, s, o) })
		if is {
			v.prompt = append(v.prompt, s)
		}
		return is
	}
	v.doubles, v.twins = slices.DeleteFunc(v.doubles, isPrompt), slices.DeleteFunc(v.twins, isPrompt)
	v.splits = slices.DeleteFunc(v.splits, func(s stretch) bool {
		is := slices.ContainsFunc(outages, func(o outage) bool { return o.anybody && h.isLapse(every, s, o) })
		if is {
			v.swings++
		}
		return is
	})
	return v
}

// isLapse tells of a node that had an agent, then had not, and then had it again, whether that is because it lost its lease for a moment: another
// ran the agent at once, and not when it was due.
func (h history) isLapse(every time.Duration, s stretch, o outage) bool {
	due := phase(h[s.agent], every)
	return s.to.at > o.at && s.from.at < o.back+2*every && slices.ContainsFunc(h[s.agent], func(r sighting) bool {
		return r.at >= s.from.at && r.at <= s.to.at && !isDue(r.at, due, every)
	})
}

// of has the runs by these nodes alone.
func (h history) of(nodes []int) history {
	theirs := make(history, len(h))
	for agent, all := range h {
		for _, r := range all {
			if slices.Contains(nodes, r.node) {
				theirs[agent] = append(theirs[agent], r)
			}
		}
	}
	return theirs
}

// count is how many runs there are in a spell.
func (h history) count(in spell) int {
	n := 0
	for _, all := range h {
		from, _ := slices.BinarySearchFunc(all, in.from, byTime)
		to, _ := slices.BinarySearchFunc(all, in.to, byTime)
		n += max(to-from, 0)
	}
	return n
}

// waits are how long after a time each agent was run; those that were not are left out.
func (h history) waits(since time.Duration) []time.Duration {
	var waits []time.Duration
	for _, all := range h {
		if i, _ := slices.BinarySearchFunc(all, since, byTime); i < len(all) {
			waits = append(waits, all[i].at-since)
		}
	}
	return waits
}

// tenure says which node has an agent, and since when.
type tenure struct {
	node        int
	since, last time.Duration // its first run, and its latest
}

func (t *tenure) see(r sighting) {
	if t.last == 0 || t.node != r.node {
		t.node, t.since = r.node, r.at
	}
	t.last = r.at
}

// settled tells how many agents each of the nodes has, and since when nothing has changed. It is an error if that is less than three intervals
// ago, if there are agents that nobody polls now, or if one of the nodes that are up has not at least this part of an even share.
func settled(tenures []tenure, every, now time.Duration, nodes int, up []int, least float64) (shares []int, since time.Duration, err error) {
	shares = make([]int, nodes)
	idle, young := 0, 0
	for _, t := range tenures {
		if t.last == 0 || now-t.last > every*3/2 {
			idle++
			continue
		}
		if now-t.since < 3*every {
			young++
		}
		shares[t.node]++
		since = max(since, t.since)
	}
	if idle > 0 || young > 0 {
		return shares, since, fmt.Errorf("%d agents are not polled, %d not yet for long by the same node; the nodes have %d", idle, young, shares)
	}
	for node, n := range shares {
		due := 0.
		if slices.Contains(up, node) {
			due = float64(len(tenures)) / float64(len(up))
		}
		if n > 0 && due == 0 || float64(n) < math.Floor(due*least) {
			return shares, since, fmt.Errorf("%s has %d agents, and %.0f would be its share; the nodes have %d", nodeName(node), n, due, shares)
		}
	}
	return shares, since, nil
}

// spread is how times are distributed.
func spread(all []time.Duration) string {
	if len(all) == 0 {
		return "none"
	}
	all = slices.Sorted(slices.Values(all))
	var b strings.Builder
	for _, p := range []struct {
		name string
		part float64
	}{{"min", 0}, {"median", .5}, {"p90", .9}, {"p99", .99}, {"max", 1}} {
		fmt.Fprintf(&b, "%s %.2f s, ", p.name, all[int(p.part*float64(len(all)-1))].Seconds())
	}
	return fmt.Sprintf("%sof %d", b.String(), len(all))
}

func lengths(all []stretch) []time.Duration {
	d := make([]time.Duration, len(all))
	for i, s := range all {
		d[i] = s.length()
	}
	return d
}

// longestOf is 0 if there are none.
func longestOf(all []stretch) time.Duration { return slices.Max(append(lengths(all), 0)) }

// median is 0 if there are none.
func median(all []stretch) time.Duration {
	if len(all) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(lengths(all)))[len(all)/2]
}

// receipts is what core has of the answers of agents, which are numbered from 0.
type receipts struct {
	times     [][]uint8 // by agent and number: how often
	noVerdict []int     // by agent: statuses of runs that came to no answer
}

func (r *receipts) take(agent, number int) {
	for len(r.times[agent]) <= number {
		r.times[agent] = append(r.times[agent], 0)
	}
	if r.times[agent][number] < math.MaxUint8 {
		r.times[agent][number]++
	}
}

// compare tells how many answers of those that were given core lacks, but for those whose runs ended without them, and how
// many it has more than once.
func (r *receipts) compare(answered []int) (lost, excused, again int) {
	for agent, n := range answered {
		missing := max(n-len(r.times[agent]), 0)
		for _, times := range r.times[agent] {
			if times == 0 {
				missing++
			}
			if times > 1 {
				again++
			}
		}
		least := min(missing, r.noVerdict[agent])
		lost, excused = lost+missing-least, excused+least
	}
	return lost, excused, again
}
