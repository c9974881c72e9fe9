package sdk

import (
	"context"
	"encoding/json"
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

// agent serves monitoring.AgentService.
type agent struct {
	monitoring.UnimplementedAgentServiceServer
	checks map[string]Check
	types  string
	log    *slog.Logger
	slots  chan struct{}
	// typeSlots are those of the types with a limit of their own.
	typeSlots map[string]chan struct{}
}

// unknown says that there is no check of a type.
func (a *agent) unknown(checkType string) string {
	return fmt.Sprintf("unknown check type %q; this checker knows %s", checkType, a.types)
}

// GetStatus runs one check.
func (a *agent) GetStatus(ctx context.Context, r *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
	check := a.checks[r.GetServiceType()]
	if check == nil {
		// Not a gRPC error: that is how checkers in the field answer.
		return &monitoring.StatusResponse{Message: errorMessage(a.unknown(r.GetServiceType()))}, nil
	}
	request := Request{
		Name: r.GetServiceName(), Type: r.GetServiceType(), Details: r.GetDetails(), Port: r.GetPort(),
		AgentID: r.GetAgentId(), PollerID: r.GetPollerId(),
	}
	var answer Answer
	err := a.run(ctx, caller{request.Type, request.Name, request.AgentID}, func(ctx context.Context) {
		began := time.Now()
		var verdict error
		if answer, verdict = check.Run(ctx, request); verdict != nil {
			answer = Answer{Message: errorMessage(verdict.Error())}
		}
		if answer.ResponseTime <= 0 {
			answer.ResponseTime = time.Since(began)
		}
	})
	if err != nil {
		return nil, err
	}
	return &monitoring.StatusResponse{
		Available: answer.Available, Message: answer.Message, ResponseTime: answer.ResponseTime.Nanoseconds(),
		ServiceName: r.GetServiceName(), ServiceType: r.GetServiceType(),
		AgentId: r.GetAgentId(), PollerId: r.GetPollerId(),
	}, nil
}

// caller is who is asked for what, for the log.
type caller struct{ checkType, check, agent string }

// run calls f once there is a slot for it, with the context of a run. All that it returns are gRPC
// errors: there was no slot, f panicked, or nobody waits for the answer any more.
func (a *agent) run(ctx context.Context, c caller, f func(context.Context)) (err error) {
	runCtx, cancel := runContext(ctx, time.Now())
	defer cancel()
	// Those of the type come first: who waits for them must not keep other types from running.
	if slots := a.typeSlots[c.checkType]; slots != nil {
		if !take(runCtx, slots) {
			return status.Errorf(codes.ResourceExhausted,
				"%d checks of type %s were running all the time, as many as this checker runs at once: poll it less often or raise the limit of that type",
				cap(slots), c.checkType)
		}
		defer func() { <-slots }()
	}
	if !take(runCtx, a.slots) {
		return status.Errorf(codes.ResourceExhausted,
			"%d checks were running all the time, as many as this checker runs at once: poll it less often or raise its limit", cap(a.slots))
	}
	defer func() { <-a.slots }()
	defer func() {
		p := recover()
		if p != nil {
			a.log.Error("a check panicked", "type", c.checkType, "check", c.check, "agent", c.agent,
				"panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = failure(codes.Internal, fmt.Sprintf("check type %s panicked: %v", c.checkType, p))
		}
		if ctx.Err() != nil {
			err = status.FromContextError(ctx.Err()).Err()
		}
	}()
	f(runCtx)
	return nil
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

// failure is a gRPC error, whose text travels in a header: pollers read none above 256 KiB, other clients
// less.
func failure(code codes.Code, text string) error {
	const most = 4 << 10
	if len(text) > most {
		text = text[:most] + " …"
	}
	return status.Error(code, strings.ToValidUTF8(text, "?"))
}

// errorMessage is how checkers tell an error to people.
func errorMessage(text string) []byte {
	message, _ := json.Marshal(map[string]string{"error": text}) // can't fail: strings only
	return message
}
