package actors

import (
	"time"

	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
	"github.com/serviceradar/poller/internal/wire"
)

// Event is something that people or metrics want to know; its types are below. They are plain
// values, safe to keep, but for CycleClosed.Runs.
type Event any

// Observer takes events, from many goroutines at once. It must not block: actors wait for it.
type Observer func(Event)

// ActorFailed says: an actor panicked and will be started again after Delay. It is Parked if it used
// up its restart budget; then it gets one try per window.
type ActorFailed struct {
	Actor  string
	Cause  string
	Stack  string
	Delay  time.Duration
	Parked bool
}

// ActorRestarted says: a failed actor runs again.
type ActorRestarted struct{ Actor string }

// PanicRecovered says: a panic that ended nothing: in a call on behalf of an actor, whose run or
// delivery failed by it, or in an actor that was stopping anyway.
type PanicRecovered struct {
	Actor string
	Cause string
	Stack string
}

// ReportSplit says: core found a report, or a part of one, too large, and gets it in Parts; or in
// chunks of at most Limit bytes if that is one.
type ReportSplit struct {
	ID    string
	Parts int
	Limit int
}

// NoResults says: a checker that is asked for the results of a check has none to offer. The check is
// asked on, and not reported.
type NoResults struct {
	Agent, Check string
	Detail       string
}

// BreakerChanged says: an agent's breaker moved, for a Cause.
type BreakerChanged struct {
	Agent    string
	From, To string
	Cause    string
}

// HealthTold says: what a checker says of its health on a new connection. It decides nothing.
type HealthTold struct {
	Agent  string
	Health string
}

// ChecksChanged says: the statuses of these checks, which were asked together, differ in availability
// or reason from what was told of them last. They are in the order of the configuration. circuit_open is
// no change: nothing new is known of a check that was not asked, and BreakerChanged tells why it was not.
type ChecksChanged struct {
	Agent   string
	Changes []Change
}

// StatusDiscarded says: an answer that came after its run had been given a status.
type StatusDiscarded struct{ Agent, Check string }

// CycleClosed says: a cycle went to the reporter.
type CycleClosed struct {
	Cycle    int64
	Time     time.Time
	Statuses int
	// Unavailable counts verdicts; ByReason counts what there is no verdict on.
	Unavailable int
	ByReason    map[check.Reason]int
	// Took is how long after its planned begin the cycle closed.
	Took time.Duration
	// Runs are its statuses, as they are: one that is only being confirmed is unavailable here, and in the numbers above.
	// Nobody may change them. To keep them would keep what all checkers said.
	Runs []check.Status
}

// summary sums a cycle up that took so long.
func summary(c *machine.Cycle, statuses []check.Status, took time.Duration) CycleClosed {
	e := CycleClosed{Cycle: c.Index(), Time: c.Time(), Statuses: len(statuses), Took: took, Runs: statuses}
	for i := range statuses {
		switch st := &statuses[i]; {
		case st.Reason != "":
			if e.ByReason == nil {
				e.ByReason = make(map[check.Reason]int)
			}
			e.ByReason[st.Reason]++
		case !st.Available:
			e.Unavailable++
		}
	}
	return e
}

// CyclesMissed says: the process did not run for so long that these cycles were left out entirely.
type CyclesMissed struct{ Cycles int64 }

// ClockSetBack says: the wall clock went back; timestamps stand still until it has caught up.
type ClockSetBack struct{ By time.Duration }

// ReportTaken says: the reporter has the report safe. Kept is how many are now.
type ReportTaken struct {
	ID   string
	Kept int
}

// SpoolFailed says: a report could not be kept safe; it stays with the poller, which tries again.
type SpoolFailed struct {
	ID  string
	Err error
}

// SpoolUnreadable says: the oldest report can't be read; it is tried again after RetryIn.
type SpoolUnreadable struct {
	Err     error
	RetryIn time.Duration
}

// Loss says in a word why a report is lost.
type Loss string

// Why reports are lost, a fixed list.
const (
	// LostTooOld: core did not take it within spool.max_age.
	LostTooOld Loss = "too_old"
	// LostNoRoom: there was no room for it in the spool.
	LostNoRoom Loss = "no_room"
	// LostNotTaken: the reporter did not take it in time.
	LostNotTaken Loss = "not_taken"
	// LostStopped: the poller stopped before it was taken.
	LostStopped Loss = "stopped"
	// LostUnfit: the statuses of a cycle can't be made a report.
	LostUnfit Loss = "unfit"
)

// Losses are all of them.
var Losses = [...]Loss{LostTooOld, LostNoRoom, LostNotTaken, LostStopped, LostUnfit}

// ReportDropped says: a report is lost, and why: in a word, and in Cause for people.
type ReportDropped struct {
	ID    string
	Loss  Loss
	Cause string
}

// ReportDelivered says: core acknowledged the report. Kept is how many are left.
type ReportDelivered struct {
	ID   string
	Took time.Duration
	Kept int
}

// DeliveryFailed says: core did not take the report, which is kept and tried again after RetryIn,
// unless Outcome is wire.SetAside: then it is given up, and was set aside for people to look at, or is
// Lost.
type DeliveryFailed struct {
	ID      string
	Outcome wire.Outcome
	Err     error
	// Lost is why it could not be set aside; nil if it was, and with any other Outcome.
	Lost error
	// Took is how long the delivery took.
	Took    time.Duration
	Attempt int
	RetryIn time.Duration
	Kept    int
}

// DeadLetter says: a message found nobody. What matters is sent again or filled in.
type DeadLetter struct{ To, Type string }

// Reloaded says: these settings are in effect. Nothing changed if Config is as before.
type Reloaded struct {
	Config *config.Config
	// Added, Changed and Removed are names of agents, sorted.
	Added, Changed, Removed []string
	// Renewed counts TLS identities whose files changed.
	Renewed int
	// Err is what else could not be used, as ReloadFailed says once.
	Err error
}

// ReloadFailed says: there are new settings that can't be used; the present ones stay.
type ReloadFailed struct{ Err error }

// Adopted says: this node polls these agents from now on; Given of them were handed over by other nodes, the others nobody polled. It
// comes before whatever else is told of them.
type Adopted struct {
	Agents []string
	Given  int
}

// HandedOver says: these agents are other nodes' from now on.
type HandedOver struct{ Agents []string }

// Suspended says: this node polls nothing until it has asked the others again, because its lease is over, or is another one now.
type Suspended struct{ Agents int }

// Dismissed says: these agents, which were suspended, are other nodes' from now on.
type Dismissed struct{ Agents []string }

// Claiming says: this node is to poll so many agents more, and does not yet, because others have not said that they don't poll them. It is
// told when that begins, every second while it lasts, and once with no agents when it is over.
type Claiming struct {
	Agents int
	// Waiting says of how many of them each node has not said so.
	Waiting map[string]int
	// For is how long there have been such agents without a break.
	For time.Duration
}

// Ordered says: another node told this one to do something; Refused is why it does not, or empty.
type Ordered struct{ By, What, Refused string }

// Pinned says: people want a node to poll these agents, or without its name, that they go where they belong by themselves again. By is the
// node that told this one; it is empty if people have told it themselves.
type Pinned struct {
	Agents   []string
	Node, By string
}

// RemoteRefused says: something came to the port of remoting that is no node's, or that nobody can read; Total counts the one or the other.
type RemoteRefused struct {
	What  string
	Total uint64
}

// EnvelopeUnknown says: another node sends what this one does not know, and ignores; Total counts them.
type EnvelopeUnknown struct {
	Kind, Version uint32
	Total         uint64
}

// Doubled says: another node polled an agent while this one did, so many times.
type Doubled struct {
	Agent string
	Runs  int
}

// ClusterChanged says: nodes came or went, or changed their configurations, or this one gained or lost its lease, or the clock of one
// has begun or ceased to differ much. Nobody may change the view.
type ClusterChanged struct{ View *machine.View }
