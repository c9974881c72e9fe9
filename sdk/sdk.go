// Package sdk is for authors of checkers in Go: write a Check for each kind of thing that can be
// checked, and Serve them to pollers over gRPC. Checks that find long lists, the hosts of a network
// for one, are Gatherers too.
//
// Guarantees:
//   - Every call is answered: with the check's answer, with an error as a verdict, or with a gRPC
//     error. A panic in a check ends that run only; it is logged with its stack, and the poller
//     gets the code Internal with its text.
//   - A check's Run and Results are called from many goroutines at once, together up to the limit of
//     MaxInFlight; calls above it wait for their turn, and are refused with ResourceExhausted when it
//     does not come before their deadline. What is said here of Run holds for Results, too.
//   - Run's context ends a little before the poller's deadline, so that "the target did not
//     answer in time" still gets through as the check's verdict, rather than as a checker that does
//     not answer. Where the poller sets no deadline it ends after 30 seconds.
//   - When the context of Serve ends, new calls are refused, runs under way may finish for the time
//     of StopTimeout, then their contexts end, and Serve returns. A Run that ignores its context
//     is left behind; it can't hold Serve up.
//   - With TLS of all three files only clients with a certificate of the authorities get in.
//     Without TLS anybody who reaches the address may run checks, so listen on loopback.
//
// Served are the monitoring.AgentService, grpc.health.v1 under the names "", AgentService and
// monitoring.AgentService, and gRPC server reflection.
package sdk

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// Check is one kind of check.
type Check interface {
	// Type is the name by which pollers ask for it; it never changes.
	Type() string
	// Run checks one target. It should end when ctx does. An error is the verdict "not available",
	// its text the reason; for anything else, return an Answer.
	Run(ctx context.Context, req Request) (Answer, error)
}

// Request is what a poller asks.
type Request struct {
	// Name is the check's name in the poller's configuration.
	Name string
	// Type is the check's Type.
	Type string
	// Details is the target, in whatever form the check wants: host:port, a URL, a process name.
	Details string
	// Port is the target's port where it is configured apart from Details; else 0.
	Port int32
	// AgentID and PollerID name the agent, as the poller knows this checker, and the poller.
	AgentID, PollerID string
}

// Answer is a check's verdict.
type Answer struct {
	// Available is the verdict itself: whether the target works.
	Available bool
	// Message is JSON, or plain text, that tells more.
	Message []byte
	// ResponseTime is how long the target took; if 0, what Run took is taken instead.
	ResponseTime time.Duration
}

// JSON returns an answer with v, marshalled, as its message.
func JSON(available bool, v any) (Answer, error) {
	message, err := json.Marshal(v)
	if err != nil {
		return Answer{}, fmt.Errorf("the check's answer can't be written as JSON: %w", err)
	}
	return Answer{Available: available, Message: message}, nil
}

// Func makes a Check of a function.
func Func(checkType string, run func(ctx context.Context, req Request) (Answer, error)) Check {
	return function{checkType, run}
}

type function struct {
	checkType string
	run       func(context.Context, Request) (Answer, error)
}

func (f function) Type() string { return f.checkType }

func (f function) Run(ctx context.Context, req Request) (Answer, error) { return f.run(ctx, req) }
