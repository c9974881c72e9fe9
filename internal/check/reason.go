package check

import "fmt"

// Reason says why a run came to no verdict of the checker. The empty Reason means that it did.
type Reason string

// The reasons, a fixed list: core and dashboards may rely on it.
const (
	// Timeout: connected, but no answer before the run's deadline.
	Timeout Reason = "timeout"
	// Overrun: the check's previous call had not returned when this run was due, or too many
	// agents were being polled until the next one was.
	Overrun Reason = "overrun"
	// Unreachable: no connection to the checker.
	Unreachable Reason = "unreachable"
	// TLSFailed: the handshake failed.
	TLSFailed Reason = "tls"
	// Unauthenticated: the checker refused who we are or what we may do.
	Unauthenticated Reason = "unauthenticated"
	// Unimplemented: the peer does not know the method.
	Unimplemented Reason = "unimplemented"
	// NotFound: the checker has no results of that name.
	NotFound Reason = "not_found"
	// BadAnswer: the checker answered with an error or with something that can't be read.
	BadAnswer Reason = "bad_answer"
	// TooLarge: the answer exceeds the message limit.
	TooLarge Reason = "too_large"
	// Assertion: the checker says available, but its answer is not what the check asserts.
	Assertion Reason = "assertion"
	// CircuitOpen: not asked, because the checker failed before and has not come back.
	CircuitOpen Reason = "circuit_open"
	// NoAnswer: the run was never answered for: its agent was restarting, or the poller was
	// stopping, stood still, is overloaded or has no file descriptor left.
	NoAnswer Reason = "no_answer"
	// Internal: a fault of ours.
	Internal Reason = "internal"
)

// Reasons are all of them.
var Reasons = [...]Reason{
	Timeout, Overrun, Unreachable, TLSFailed, Unauthenticated, Unimplemented,
	NotFound, BadAnswer, TooLarge, Assertion, CircuitOpen, NoAnswer, Internal,
}

// CheckerBroken tells whether the reason speaks against the checker itself, and so counts for
// its breaker. A checker that refuses us, lacks a method, answers too much or what nobody wants is alive: asking it
// again costs nothing, and hiding the reason behind an open breaker would help nobody.
func (r Reason) CheckerBroken() bool {
	switch r {
	case Timeout, Unreachable, TLSFailed, BadAnswer:
		return true
	case Overrun, Unauthenticated, Unimplemented, NotFound, TooLarge, Assertion, CircuitOpen, NoAnswer, Internal:
		return false
	}
	return false
}

// Failure is the error of a call to a checker or to core, with its reason.
type Failure struct {
	Reason Reason
	// Detail says what was tried, on what, why it failed, and what to do.
	Detail string
	// Err is the cause, if there is one to unwrap.
	Err error
}

// Failf returns a Failure with a formatted Detail.
func Failf(reason Reason, err error, format string, args ...any) *Failure {
	return &Failure{Reason: reason, Detail: fmt.Sprintf(format, args...), Err: err}
}

func (f *Failure) Error() string { return string(f.Reason) + ": " + f.Detail }

func (f *Failure) Unwrap() error { return f.Err }
