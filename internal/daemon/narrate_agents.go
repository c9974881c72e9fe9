package daemon

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/serviceradar/poller/actors"
)

// States of a breaker, as BreakerChanged has them.
const (
	breakerOpen   = "open"
	breakerClosed = "closed"
)

// shownNames is how many names a line of the log or a condition lists.
const shownNames = 10

// budgeted returns the level for a line of a kind about an agent: beyond the budget it is a debug line,
// and counted for the summary. What is not written anyway uses up no budget.
func (n *narrator) budgeted(now time.Time, level zerolog.Level, agent, kind string) zerolog.Level {
	if level <= zerolog.DebugLevel || level < n.log.GetLevel() || n.flood.admit(now, level, agent, kind) {
		return level
	}
	if n.summary == nil { // there may be no other event for a long time
		n.summary = time.AfterFunc(n.flood.rest(now), n.flush)
	}
	return zerolog.DebugLevel
}

// flush tells what was left out so far: when the window is over, and at the stop.
func (n *narrator) flush() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.summary != nil {
		n.summary.Stop()
		n.summary = nil
	}
	if left, ok := n.flood.end(); ok {
		n.summarise(left)
	}
}

func (n *narrator) summarise(left leftOut) {
	n.log.WithLevel(left.level).Int("lines", left.lines).Strs("left_out", left.counts()).
		Int("agents", len(left.agents)).Strs("among_them", left.some).
		Msg("too much happened at once; lines about agents were left out, and only log.level debug shows them all")
}

func (n *narrator) agent(now time.Time, event actors.Event) {
	switch e := event.(type) {
	case actors.BreakerChanged:
		n.breaker(now, e)
	case actors.HealthTold:
		n.log.Debug().Str("agent", e.Agent).Str("health", e.Health).Msg("checker told its health")
	case actors.NoResults:
		const msg = "checker has no results for this check; it is asked on, and not reported until it has some"
		n.log.WithLevel(n.budgeted(now, zerolog.InfoLevel, e.Agent, msg)).Str("agent", e.Agent).Str("check", e.Check).Str("detail", e.Detail).Msg(msg)
	case actors.ChecksChanged:
		n.checksChanged(now, e)
	case actors.StatusDiscarded:
		if n.discarded++; powerOfTwo(n.discarded) { // they come in floods, if at all
			n.log.Warn().Str("agent", e.Agent).Str("check", e.Check).Int("discarded_total", n.discarded).
				Msg("answer came after its run had a status; discarded")
		}
	}
}

// breaker tells of a breaker that opens, and of one that closes after it was told to have opened. What
// is in between are trials. So a restarted agent, whose breaker begins half-open, is told to have opened
// unless its predecessor was, and to have closed only if its predecessor had opened.
func (n *narrator) breaker(now time.Time, e actors.BreakerChanged) {
	level, msg := zerolog.DebugLevel, "breaker changed"
	if !n.has(e.Agent) { // it is gone, and nobody would hear of its end
		return
	}
	switch told := n.open[e.Agent]; {
	case e.To == breakerOpen && !told:
		n.open[e.Agent] = true
		level, msg = zerolog.WarnLevel, "breaker opened: the checker is asked again when a probe finds it back"
	case e.To == breakerClosed && told:
		delete(n.open, e.Agent)
		level, msg = zerolog.InfoLevel, "breaker closed: the checker is back"
	}
	n.log.WithLevel(n.budgeted(now, level, e.Agent, msg)).Str("agent", e.Agent).Str("from", e.From).Str("to", e.To).Str("cause", e.Cause).Msg(msg)
}

// openDetail names the agents whose breakers have opened and not closed since. It is for those who read
// the board: with thousands it would be too much for each event.
func (n *narrator) openDetail() string {
	n.mu.Lock()
	names, agents := keys(n.open), len(n.config.Agents)
	if n.ours != nil {
		agents = len(n.ours)
	}
	n.mu.Unlock()
	if len(names) == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d breakers are open: %s", len(names), agents, some(names))
}

// checksChanged tells an agent's changes, those to the same on one line.
func (n *narrator) checksChanged(now time.Time, e actors.ChecksChanged) {
	for rest := e.Changes; len(rest) > 0; {
		one := rest[0]
		var names []string
		var others []actors.Change
		for _, c := range rest {
			if c.Available == one.Available && c.Reason == one.Reason {
				names = append(names, c.Check)
			} else {
				others = append(others, c)
			}
		}
		rest = others
		n.checksLine(now, e.Agent, one, names)
	}
}

// checksLine tells a change that several checks of an agent have in common, but for the detail.
func (n *narrator) checksLine(now time.Time, agent string, c actors.Change, checks []string) {
	level, msg := zerolog.WarnLevel, "checks have no verdict"
	kind := msg + ": " + string(c.Reason)
	switch {
	case c.Available:
		level, msg = zerolog.InfoLevel, "checks are available again"
		kind = msg
	case c.Reason == "":
		msg = "checks are unavailable, says their checker"
		kind = msg
	}
	line := n.log.WithLevel(n.budgeted(now, level, agent, kind)).Str("agent", agent).Strs("checks", first(checks))
	if more := len(checks) - shownNames; more > 0 {
		line = line.Int("more_checks", more)
	}
	if c.Reason != "" {
		line = line.Str("reason", string(c.Reason))
	}
	if c.Detail != "" {
		line = line.Str("detail", c.Detail)
	}
	line.Msg(msg)
}

// keys returns the members of a set, in any order.
func keys(set map[string]bool) []string {
	names := make([]string, 0, len(set))
	for name := range set {
		names = append(names, name)
	}
	return names
}

// first returns the first of names.
func first(names []string) []string { return names[:min(len(names), shownNames)] }

// some lists the first of names by the alphabet; it sorts them in place.
func some(names []string) string {
	slices.Sort(names)
	if len(names) > shownNames {
		return strings.Join(names[:shownNames], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}
