// Package check holds the words of the domain: agents, checks, runs, statuses and the reasons
// for which a status is not the checker's own verdict. They are plain data, but for the function in Assertions: values are not
// changed once they have been handed on, and so are safe to share between goroutines.
package check

import (
	"errors"
	"slices"
	"strings"
	"time"
)

// Agent is one configured checker and all that it is asked.
type Agent struct {
	// Name is unique among the agents; core credits statuses to it.
	Name string
	// Address is the host:port of the checker's gRPC server.
	Address string
	// HealthService is the name asked of grpc.health.v1; NoHealth means never to ask.
	HealthService string
	// MaxMessage bounds one message of the checker's, an answer or a chunk of results, in bytes;
	// 0 means gRPC's default of 4 MiB.
	MaxMessage int64
	// TLS is the identity for the connection.
	TLS TLS
	// Checks are in the order of the configuration, their names unique.
	Checks []Check
}

// NoHealth as a HealthService means that the checker is never asked for its health.
const NoHealth = "-"

// Check is one thing to ask a checker, again and again.
type Check struct {
	// Name is unique within the agent.
	Name string
	// Type is what the checker calls this kind of check.
	Type string
	// Details is the target, in the form that the type wants.
	Details string
	// Port is the target's port for types that want it apart; 0 if none.
	Port int32
	// Method is how the checker is asked.
	Method Method
	// Confirm is how many runs in a row must be unavailable before core is told so; 0 counts as 1. With results it is 1.
	Confirm uint8
	// Interval is a whole multiple of the poll interval.
	Interval time.Duration
	// Timeout is at most the poll interval; with results it is at most Interval.
	Timeout time.Duration
	// Assert is what is wanted of an answer beside; nil if nothing is, as with results.
	Assert *Assertions
}

// Assertions are what an answer has to meet before the check counts as available.
type Assertions struct {
	// Texts are the expressions as written.
	Texts []string
	// Unmet says of an answer which of them it does not meet, and why; empty if it meets them all. It does not panic, and may
	// be called from several goroutines.
	Unmet func(Answer) string
}

// Equal tells whether two are written the same, and so mean the same. Either may be nil.
func (a *Assertions) Equal(other *Assertions) bool {
	if a == nil || other == nil {
		return a == other
	}
	return a == other || slices.Equal(a.Texts, other.Texts)
}

// Method is a method of the contract by which a check is asked.
type Method uint8

// The methods.
const (
	// GetStatus asks for a verdict.
	GetStatus Method = iota
	// GetResults asks for what there is beyond the last sequence.
	GetResults
	// StreamResults is GetResults in chunks, for large answers.
	StreamResults
)

func (m Method) String() string {
	return [...]string{"GetStatus", "GetResults", "StreamResults"}[m]
}

// The types whose results core knows by their type.
const (
	// TypeSweep is what a sweep of a network found: an object with a list of hosts.
	TypeSweep = "sweep"
	// TypeSync is a list of devices to be discovered.
	TypeSync = "sync"
)

// IsSync tells whether the check's results are of TypeSync. ServiceRadar goes by the name, too: its
// own sample has a check "sync" of type grpc.
func (c *Check) IsSync() bool { return c.Type == TypeSync || strings.Contains(c.Name, TypeSync) }

// HasResults tells whether the check is asked for results, rather than for its status.
func (c *Check) HasResults() bool { return c.Method != GetStatus }

// AsksTheSame tells whether another check of the same name asks the same in the same way, whenever it does so, whatever the
// answer has to meet, and whenever core hears of it.
func (c *Check) AsksTheSame(other Check) bool {
	other.Interval, other.Timeout, other.Confirm, other.Assert = c.Interval, c.Timeout, c.Confirm, c.Assert
	return *c == other
}

// Equal tells whether two checks are the same in all. To compare them with == would tell assertions apart that were compiled
// twice.
func (c Check) Equal(other Check) bool {
	same := c.Assert.Equal(other.Assert)
	other.Assert = c.Assert
	return same && c == other
}

// Sequence is where the results of a check stand: what its checker is to be asked from next time.
type Sequence struct{ Agent, Check, Value string }

// RunID names one run for as long as the process lives: its cycle and its place in it.
type RunID struct {
	Cycle int64
	Seq   int
}

// Run is one execution of a check.
type Run struct {
	ID    RunID
	Agent *Agent
	Check *Check
	// Due is when the run was to start, on the monotonic clock.
	Due time.Time
	// Deadline is when the run has a status for certain, on the monotonic clock.
	Deadline time.Time
	// LastSequence is where the results of the check stand; empty for all that there are.
	LastSequence string
}

// Answer is a checker's own verdict on a check.
type Answer struct {
	Available bool
	// Message is JSON or text, as it came.
	Message []byte
	// ResponseTime is what the checker measured; 0 if it did not.
	ResponseTime time.Duration
	// Sequence is where results stand with this answer.
	Sequence string
	// Nothing tells that there are no results since the last sequence, and so nothing to report.
	Nothing bool
}

// Status is what one run came to.
type Status struct {
	ID    RunID
	Agent *Agent
	Check *Check
	// Available is the checker's verdict; false where Reason is set.
	Available bool
	// Asked tells that a call asked the checker, and ended: it began Late after the run was due, and took Took by our own
	// clock. Without it there are neither: nobody was asked, or nobody told what came of it.
	Asked bool
	// Confirming is how many runs in a row were unavailable by now, while that is less than the check's Confirm: core is
	// told that the check is available. 0 if core is told Available.
	Confirming uint8
	Late, Took time.Duration
	// Message is the checker's answer as it came: JSON or text. Empty where Reason is set, unless that is Assertion.
	Message []byte
	// ResponseTime is what the checker measured, else what the call took.
	ResponseTime time.Duration
	// Reason says why there is no verdict of the checker; empty if there is one.
	Reason Reason
	// Detail explains Reason to a person: what was tried, what happened, what to look at.
	Detail string
	// Sequence is where results stand once this status is safe.
	Sequence string
	// Silenced is the reason of the silence that is in force; empty if none is.
	Silenced string
	// Minority tells that the node polls although it has no majority of its cluster: another may have polled the same.
	Minority bool
}

// Answered returns the status of a run that the checker answered after took.
func (r Run) Answered(a Answer, took time.Duration) Status {
	return Status{
		ID: r.ID, Agent: r.Agent, Check: r.Check,
		Available: a.Available, Message: a.Message, ResponseTime: a.responseTime(took),
		Sequence: a.Sequence,
	}
}

func (a *Answer) responseTime(took time.Duration) time.Duration {
	if a.ResponseTime > 0 {
		return a.ResponseTime
	}
	return took
}

// Unmet says which assertion of the check an answer after took does not meet, and why; empty if it meets them all, or if the
// checker itself says that the check is unavailable. It takes as long as it takes to read the answer.
func (r Run) Unmet(a Answer, took time.Duration) string {
	if r.Check.Assert == nil || !a.Available || a.Nothing {
		return ""
	}
	a.ResponseTime = a.responseTime(took)
	return r.Check.Assert.Unmet(a)
}

// Fail makes the status one that does not meet an assertion of its check, if detail is what Unmet said; if that is empty it
// stays as it is. The checker's answer stays in any case.
func (s *Status) Fail(detail string) {
	if detail != "" {
		s.Available, s.Reason, s.Detail = false, Assertion, detail
	}
}

// FailedBy returns the status of a run that an error ended after took: a *Failure says why, any
// other error is a fault of ours.
func (r Run) FailedBy(err error, took time.Duration) Status {
	if f, ok := errors.AsType[*Failure](err); ok {
		return r.Failed(f.Reason, f.Detail, took)
	}
	return r.Failed(Internal, err.Error(), took)
}

// Failed returns the status of a run that came to no verdict.
func (r Run) Failed(reason Reason, detail string, took time.Duration) Status {
	return Status{
		ID: r.ID, Agent: r.Agent, Check: r.Check,
		ResponseTime: took, Reason: reason, Detail: detail,
	}
}
