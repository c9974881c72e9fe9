package daemon

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rs/zerolog"
)

// Lines about single agents share a budget of floodLines for each floodWindow. When a switch dies,
// hundreds of agents say the same within a cycle: the first few of them tell a person what happens, and
// the summary tells how far it goes. Fifty is more than a screen, and what a few agents that flap come to
// in ten seconds is far below it; ten seconds is about as long as one wants to wait for the summary. The
// first line of each kind has its place in any case: a panic must not go down among breakers that open. Of one
// agent there are no more than floodOfAgent: more than it has to say if something happens to it, so that one that
// flaps takes none of the others' places.
const (
	floodLines   = 50
	floodOfAgent = 5
	floodWindow  = 10 * time.Second
	floodNames   = 5 // agents that the summary names
)

// flood keeps the budget and counts what is beyond it. A window begins with the first line after the
// last one was over.
type flood struct {
	began time.Time
	lines int
	of    map[string]int  // lines by agent
	told  map[string]bool // kinds
	left  leftOut
}

// leftOut is what was beyond the budget.
type leftOut struct {
	lines int
	level zerolog.Level // the highest of them
	kinds map[string]int
	// agents are all whose lines were left out; some are the first of them.
	agents map[string]bool
	some   []string
}

// admit tells whether a line of a kind about an agent is within the budget; if not, it is counted.
func (f *flood) admit(now time.Time, level zerolog.Level, agent, kind string) bool {
	if f.over(now) {
		f.began, f.lines, f.of, f.told = now, 0, make(map[string]int), make(map[string]bool)
	}
	if f.lines < floodLines && f.of[agent] < floodOfAgent || !f.told[kind] {
		f.lines++
		f.of[agent]++
		f.told[kind] = true
		return true
	}
	f.left.add(level, agent, kind)
	return false
}

func (f *flood) over(now time.Time) bool { return !now.Before(f.began.Add(floodWindow)) }

// rest is how long the window will last.
func (f *flood) rest(now time.Time) time.Duration { return f.began.Add(floodWindow).Sub(now) }

// end returns what was left out, and forgets it; false if nothing was.
func (f *flood) end() (leftOut, bool) {
	left := f.left
	f.left = leftOut{}
	return left, left.lines > 0
}

func (l *leftOut) add(level zerolog.Level, agent, kind string) {
	if l.lines == 0 {
		*l = leftOut{level: level, kinds: make(map[string]int), agents: make(map[string]bool)}
	}
	l.lines++
	l.level = max(l.level, level)
	l.kinds[kind]++
	if !l.agents[agent] && len(l.some) < floodNames {
		l.some = append(l.some, agent)
	}
	l.agents[agent] = true
}

// counts says how many lines of each kind there were, the most first.
func (l *leftOut) counts() []string {
	kinds := slices.SortedFunc(maps.Keys(l.kinds), func(x, y string) int {
		return cmp.Or(l.kinds[y]-l.kinds[x], cmp.Compare(x, y))
	})
	for i, kind := range kinds {
		kinds[i] = fmt.Sprintf("%d × %s", l.kinds[kind], kind)
	}
	return kinds
}
