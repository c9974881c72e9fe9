package machine

import (
	"slices"
	"time"

	"github.com/serviceradar/poller/internal/check"
)

// pending is a run that has not ended.
type pending struct {
	check.Run
	begun bool // for Background
	at    int  // its place in the expiry
}

// expiry holds the runs that have not ended as a binary heap, the one that has to end first in front. So to
// look for what is due costs nothing while nothing is, and the end of a run a few steps, however many runs
// a cycle has: most end within milliseconds, and few are pending at once.
type expiry []*pending

func (e *expiry) add(p *pending) {
	*e = append(*e, p)
	e.up(len(*e) - 1)
}

func (e *expiry) remove(p *pending) {
	last := len(*e) - 1
	moved := (*e)[last]
	(*e)[last] = nil
	*e = (*e)[:last]
	if moved != p {
		e.put(moved, p.at)
		e.restore(moved)
	}
}

// due removes the runs that had to end by then, and returns them in the order in which they were added.
func (e *expiry) due(by time.Time) []*pending {
	var out []*pending
	for len(*e) > 0 && !(*e)[0].Deadline.After(by) {
		out = append(out, (*e)[0])
		e.remove((*e)[0])
	}
	return inOrder(out)
}

// where removes the runs for which which holds, and returns them in the order in which they were added.
// It looks at all that are pending.
func (e *expiry) where(which func(*pending) bool) []*pending {
	var out []*pending
	for _, p := range *e {
		if which(p) {
			out = append(out, p)
		}
	}
	for _, p := range out {
		e.remove(p)
	}
	return inOrder(out)
}

func inOrder(runs []*pending) []*pending {
	slices.SortFunc(runs, func(a, b *pending) int { return a.ID.Seq - b.ID.Seq })
	return runs
}

// runsOf returns a copy; nil of none.
func runsOf(list []*pending) []check.Run {
	if len(list) == 0 {
		return nil
	}
	runs := make([]check.Run, len(list))
	for i, p := range list {
		runs[i] = p.Run
	}
	return runs
}

// next returns when the first run has to end; false if none is pending.
func (e expiry) next() (time.Time, bool) {
	if len(e) == 0 {
		return time.Time{}, false
	}
	return e[0].Deadline, true
}

// restore puts a run whose deadline or place changed where it belongs.
func (e expiry) restore(p *pending) {
	e.up(p.at)
	e.down(p.at)
}

func (e expiry) put(p *pending, at int) { e[at], p.at = p, at }

func (e expiry) up(at int) {
	p := e[at]
	for at > 0 {
		parent := (at - 1) / 2
		if !p.Deadline.Before(e[parent].Deadline) {
			break
		}
		e.put(e[parent], at)
		at = parent
	}
	e.put(p, at)
}

func (e expiry) down(at int) {
	p := e[at]
	for {
		child := 2*at + 1
		if child+1 < len(e) && e[child+1].Deadline.Before(e[child].Deadline) {
			child++
		}
		if child >= len(e) || !e[child].Deadline.Before(p.Deadline) {
			break
		}
		e.put(e[child], at)
		at = child
	}
	e.put(p, at)
}
