package sdk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/serviceradar/poller/proto/monitoring"
)

const (
	// defaultRun bounds a run for which the poller sets no deadline.
	defaultRun = 30 * time.Second
	// maxMargin is the most that is taken off the poller's deadline, for the answer's way back.
	maxMargin = 500 * time.Millisecond
)

// agent serves monitoring.AgentService. Results it has none: those methods stay Unimplemented.
type agent struct {
	monitoring.UnimplementedAgentServiceServer
	checks map[string]Check
	types  string
	log    *slog.Logger
	slots  chan struct{}
	// typeSlots are those of the types with a limit of their own.
	typeSlots map[string]chan struct{}
}

// GetStatus runs one check.
func (a *agent) GetStatus(ctx context.Context, r *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
	check := a.checks[r.GetServiceType()]
	if check == nil {
		// Not a gRPC error: that is how checkers in the field answer.
		return &monitoring.StatusResponse{Message: errorMessage(fmt.Sprintf(
			"unknown check type %q; this checker knows %s", r.GetServiceType(), a.types))}, nil
	}
	runCtx, cancel := runContext(ctx, time.Now())
	defer cancel()
	// Those of the type come first: who waits for them must not keep other types from running.
	if slots := a.typeSlots[r.GetServiceType()]; slots != nil {
		if !take(runCtx, slots) {
			return nil, status.Errorf(codes.ResourceExhausted,
				"%d checks of type %s were running all the time, as many as this checker runs at once: poll it less often or raise the limit of that type",
				cap(slots), r.GetServiceType())
		}
		defer func() { <-slots }()
	}
	if !take(runCtx, a.slots) {
		return nil, status.Errorf(codes.ResourceExhausted,
			"%d checks were running all the time, as many as this checker runs at once: poll it less often or raise its limit", cap(a.slots))
	}
	defer func() { <-a.slots }()
	began := time.Now()
	answer, err := a.run(runCtx, check, Request{
		Name: r.GetServiceName(), Type: r.GetServiceType(), Details: r.GetDetails(), Port: r.GetPort(),
		AgentID: r.GetAgentId(), PollerID: r.GetPollerId(),
	})
	if ctx.Err() != nil { // nobody waits for it any more
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	if err != nil {
		if p, ok := errors.AsType[panicError](err); ok {
			return nil, status.Error(codes.Internal, p.Error())
		}
		answer = Answer{Message: errorMessage(err.Error())}
	}
	if answer.ResponseTime <= 0 {
		answer.ResponseTime = time.Since(began)
	}
	return &monitoring.StatusResponse{
		Available: answer.Available, Message: answer.Message, ResponseTime: answer.ResponseTime.Nanoseconds(),
		ServiceName: r.GetServiceName(), ServiceType: r.GetServiceType(),
		AgentId: r.GetAgentId(), PollerId: r.GetPollerId(),
	}, nil
}

// take waits for a slot until ctx ends, and tells whether it has one.
func take(ctx context.Context, slots chan<- struct{}) bool {
	select {
	case slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// runContext returns the context for a run, which ends a tenth, at most maxMargin, before ctx.
func runContext(ctx context.Context, now time.Time) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithDeadline(ctx, now.Add(defaultRun))
	}
	return context.WithDeadline(ctx, deadline.Add(-min(deadline.Sub(now)/10, maxMargin)))
}

// panicError tells a panic from a check's verdict.
type panicError string

func (e panicError) Error() string { return string(e) }

// run runs the check; a panic becomes a panicError.
func (a *agent) run(ctx context.Context, check Check, r Request) (answer Answer, err error) {
	defer func() {
		if p := recover(); p != nil {
			a.log.Error("a check panicked", "type", r.Type, "check", r.Name, "agent", r.AgentID,
				"panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = panicError(strings.ToValidUTF8(fmt.Sprintf("check type %s panicked: %v", r.Type, p), "?"))
		}
	}()
	return check.Run(ctx, r)
}

// errorMessage is how checkers tell an error to people.
func errorMessage(text string) []byte {
	message, _ := json.Marshal(map[string]string{"error": text}) // can't fail: strings only
	return message
}
