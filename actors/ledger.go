package actors

import (
	"slices"
	"strings"
	"time"

	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
	"github.com/serviceradar/poller/internal/wire"
)

// ledger is what must survive the poller: where the schedule and the results of checks stand, the open
// cycles, the runs that no cycle waits for, and the reports that the reporter has not confirmed. Root
// keeps it and hands it to each incarnation of the poller, which alone uses it while it runs.
type ledger struct {
	// config is the configuration that schedule follows.
	config   *config.Config
	schedule *machine.Schedule
	// open are the cycles that have begun and not closed, oldest first. They close in this order.
	open []*machine.Cycle
	// background are the runs of results. What they came to while no cycle was open is in ended,
	// and goes into the next.
	background machine.Background
	ended      []check.Status
	// sequences are where the results of checks stand: with those that the reporter has safe. Pending
	// are those that it does not have yet: until it has, there is nowhere to ask on from.
	sequences map[sequenceKey]string
	pending   map[sequenceKey]bool
	// owed are the runs of results that were due while it was not known from where to ask.
	owed map[sequenceKey]check.Run
	// confirmations are what core does not hear of yet. The cycle whose statuses they have noted is noted, until it is
	// closed: it may be closed twice, if the poller fails at that.
	confirmations machine.Confirmations
	noted         *machine.Cycle
	// falls has the number of each agent's last failure after which its runs were filled in.
	falls map[string]int
	// share is what this node has of its cluster's agents; nil without a cluster.
	*share
	// untaken are the reports that the reporter has not confirmed, oldest first.
	untaken []report
	// reports counts reports, for their ids.
	reports uint64
	// latest is the greatest cycle time so far; behind tells that the clock has not reached it again.
	latest time.Time
	behind bool
}

type sequenceKey struct{ agent, check string }

// apart stands between the names of an agent and its check in the keys of states; no name has it.
const apart = "\x00"

// StateKey is the key in Options.State of where the results of an agent's check stand.
func StateKey(agent, check string) string { return agent + apart + check }

// newLedger returns the ledger of a process that begins, with what its predecessors' reports left as state.
func newLedger(s *machine.Schedule, state map[string]string) *ledger {
	l := &ledger{
		schedule: s, sequences: make(map[sequenceKey]string), pending: make(map[sequenceKey]bool),
		owed: make(map[sequenceKey]check.Run), falls: make(map[string]int),
	}
	for key, sequence := range state {
		if agent, check, ok := strings.Cut(key, apart); ok {
			l.sequences[sequenceKey{agent, check}] = sequence
		}
	}
	return l
}

// state is where results stand once the report is safe, as newLedger takes it in the next process.
func (r *report) state() map[string]string {
	if len(r.sequences) == 0 {
		return nil
	}
	state := make(map[string]string, len(r.sequences))
	for _, s := range r.sequences {
		state[StateKey(s.Agent, s.Check)] = s.Value
	}
	return state
}

// lastSequence returns where the results of an agent's check stand; false if that is not known,
// because they are being asked for, or are on their way to the reporter.
func (l *ledger) lastSequence(run *check.Run) (string, bool) {
	key := sequenceKey{run.Agent.Name, run.Check.Name}
	return l.sequences[key], !l.pending[key] && !l.background.Has(run)
}

// nothingNew takes the sequence of an answer that has nothing to report, and so can't be lost.
func (l *ledger) nothingNew(status *check.Status) {
	if key := keyOf(status); status.Sequence != "" && !l.pending[key] {
		l.sequences[key] = status.Sequence
	}
}

// include puts the status of results into the newest cycle, or keeps it for the next one.
func (l *ledger) include(status check.Status) {
	if status.Sequence != "" {
		l.pending[keyOf(&status)] = true
	}
	if len(l.open) == 0 {
		l.ended = append(l.ended, status)
		return
	}
	l.open[len(l.open)-1].Include(status)
}

func keyOf(st *check.Status) sequenceKey { return sequenceKey{st.Agent.Name, st.Check.Name} }

// opened adds a cycle, and what ended while there was none.
func (l *ledger) opened(c *machine.Cycle) {
	l.open = append(l.open, c)
	for _, status := range l.ended {
		c.Include(status)
	}
	l.ended = nil
}

// cycle returns an open cycle.
func (l *ledger) cycle(index int64) (*machine.Cycle, bool) {
	for _, c := range l.open {
		if c.Index() == index {
			return c, true
		}
	}
	return nil, false
}

// stamp returns the time for a cycle that begins at: at, or the latest so far if the clock was set
// back, because core must never see time go back. SetBack is by how much, the first time only.
func (l *ledger) stamp(at time.Time) (stamped time.Time, setBack time.Duration) {
	if !at.Before(l.latest) {
		l.latest, l.behind = at, false
		return at, 0
	}
	if !l.behind {
		l.behind, setBack = true, l.latest.Sub(at)
	}
	return l.latest, setBack
}

// mark marks the statuses of a cycle that is being closed with what core is to know beside them.
func (l *ledger) mark(c *machine.Cycle, statuses []check.Status, silences check.Silences) {
	if l.noted != c {
		l.noted = c
		for i := range statuses {
			l.confirmations.Note(&statuses[i])
		}
	}
	silenced := silences.InForce(c.Time())
	if silenced == nil {
		return
	}
	for i := range statuses {
		st := &statuses[i]
		st.Silenced = silenced.Of(st.Agent.Name, st.Check.Name)
	}
}

// closed replaces the oldest open cycle, which has these statuses, by its reports.
func (l *ledger) closed(c *machine.Cycle, statuses []check.Status, reports []wire.Report, now time.Time, id func(n uint64) string) {
	l.open, l.noted = slices.Delete(l.open, 0, 1), nil
	for i := range statuses { // what is in no report is on its way no more
		if statuses[i].Sequence != "" {
			delete(l.pending, keyOf(&statuses[i]))
		}
	}
	for _, r := range reports {
		for _, s := range r.Sequences {
			l.pending[sequenceKey{s.Agent, s.Check}] = true
		}
		l.reports++
		l.untaken = append(l.untaken, report{
			id: id(l.reports), cycle: c.Index(), time: c.Time(), body: r.Body, sequences: r.Sequences, closed: now,
		})
	}
}

// take forgets a report that the reporter has, or could not keep. Only with those that it has do the
// results of checks move on, so that others are asked for again.
func (l *ledger) take(id string, kept bool) {
	i := slices.IndexFunc(l.untaken, func(r report) bool { return r.id == id })
	if i < 0 {
		return
	}
	for _, s := range l.untaken[i].sequences {
		key := sequenceKey{s.Agent, s.Check}
		delete(l.pending, key)
		if kept {
			l.sequences[key] = s.Value
		}
	}
	l.untaken = slices.Delete(l.untaken, i, i+1)
}

// forgetSent lets the reports that are not taken be sent again at once.
func (l *ledger) forgetSent() {
	for i := range l.untaken {
		l.untaken[i].sent = time.Time{}
	}
}

// oldestCycle returns the reports of the oldest cycle that wait to be taken, as sent now. It tells whether some of
// them were sent before.
func (l *ledger) oldestCycle(now time.Time) (reports []report, again bool) {
	for i := range l.untaken {
		r := &l.untaken[i]
		if r.cycle != l.untaken[0].cycle {
			break
		}
		again = again || r.again
		r.sent, r.again = now, true
		reports = append(reports, *r)
	}
	return reports, again
}

// surplus removes and returns the reports of the oldest cycles, if those of more than two wait to be taken
// and it was closed before. Cycles that close together, after the process stood still, are not surplus
// yet: the reporter has not had the time.
func (l *ledger) surplus(before time.Time) []report {
	var dropped []report
	for l.untakenCycles() > 2 && l.untaken[0].closed.Before(before) {
		for oldest := l.untaken[0].cycle; l.untaken[0].cycle == oldest; {
			dropped = append(dropped, l.untaken[0])
			l.take(l.untaken[0].id, false)
		}
	}
	return dropped
}

// untakenCycles counts the cycles whose reports wait to be taken.
func (l *ledger) untakenCycles() int {
	n := 0
	for i := range l.untaken {
		if i == 0 || l.untaken[i].cycle != l.untaken[i-1].cycle {
			n++
		}
	}
	return n
}
