package sim

import (
	"bytes"
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/serviceradar/poller/proto/monitoring"
)

// Behaviour is how a checker behaves. Functions that are nil do what a sound checker does; the
// others may be called from many goroutines at once and end when ctx does.
type Behaviour struct {
	// Answer answers GetStatus. nil: as OK.
	Answer func(ctx context.Context, r *monitoring.StatusRequest) (*monitoring.StatusResponse, error)
	// Health fails health checks. nil: serving.
	Health func(ctx context.Context) error
	// Results answers GetResults. nil: Unimplemented.
	Results func(ctx context.Context, r *monitoring.ResultsRequest) (*monitoring.ResultsResponse, error)
	// Chunks answers StreamResults, a chunk with each send. nil: Unimplemented.
	Chunks func(ctx context.Context, r *monitoring.ResultsRequest, send func(*monitoring.ResultsChunk) error) error
}

// answer answers GetStatus.
func (b Behaviour) answer(ctx context.Context, r *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
	if b.Answer == nil {
		return answerOK(ctx, r)
	}
	return b.Answer(ctx, r)
}

var okMessage = []byte(`{"host":"127.0.0.1","response_time":95382}`)

// OK answers at once that the target is available.
func OK() Behaviour { return Behaviour{Answer: answerOK} }

// Unavailable answers at once that the target is not available.
func Unavailable() Behaviour {
	return answering(false, []byte(`{"error":"the simulated target is down"}`))
}

// Empty answers with nothing in any field.
func Empty() Behaviour {
	return Behaviour{Answer: func(context.Context, *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
		return new(monitoring.StatusResponse), nil
	}}
}

// Text answers with text that need not be JSON.
func Text(text string) Behaviour { return answering(true, []byte(text)) }

// Huge answers with JSON of n bytes.
func Huge(n int) Behaviour {
	const before, after = `{"data":"`, `"}`
	fill := bytes.Repeat([]byte("x"), max(0, n-len(before)-len(after)))
	return answering(true, []byte(before+string(fill)+after))
}

// Slow answers as OK does, but only after d.
func Slow(d time.Duration) Behaviour {
	return Behaviour{Answer: func(ctx context.Context, r *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
		if err := wait(ctx, d); err != nil {
			return nil, err
		}
		return answerOK(ctx, r)
	}}
}

// Failing answers with an error.
func Failing(code codes.Code, text string) Behaviour {
	return Behaviour{Answer: func(context.Context, *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
		return nil, status.Error(code, text)
	}}
}

// Unimplemented knows no method and no health service, like a server that is no checker at all.
func Unimplemented() Behaviour {
	b := Failing(codes.Unimplemented, "unknown service monitoring.AgentService")
	b.Health = func(context.Context) error {
		return status.Error(codes.Unimplemented, "unknown service grpc.health.v1.Health")
	}
	return b
}

// Hang never answers, and says that it is well.
func Hang() Behaviour {
	return Behaviour{Answer: func(ctx context.Context, _ *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
		return nil, hang(ctx)
	}}
}

// HangAll never answers, health checks included.
func HangAll() Behaviour {
	b := Hang()
	b.Health = hang
	return b
}

// Flapping behaves well for a time, then badly for a time, and so on, from now on. It depends on
// the clock alone, so that it can be foretold.
func Flapping(good, bad time.Duration, badly Behaviour) Behaviour {
	began := time.Now()
	isBad := func() bool { return time.Since(began)%(good+bad) >= good }
	return Behaviour{
		Answer: func(ctx context.Context, r *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
			if isBad() && badly.Answer != nil {
				return badly.Answer(ctx, r)
			}
			return answerOK(ctx, r)
		},
		Health: func(ctx context.Context) error {
			if isBad() && badly.Health != nil {
				return badly.Health(ctx)
			}
			return nil
		},
	}
}

func hang(ctx context.Context) error {
	<-ctx.Done()
	return status.FromContextError(ctx.Err()).Err()
}

func answerOK(_ context.Context, r *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
	return answer(r, true, okMessage), nil
}

func answering(available bool, message []byte) Behaviour {
	return Behaviour{Answer: func(_ context.Context, r *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
		return answer(r, available, message), nil
	}}
}

func answer(r *monitoring.StatusRequest, available bool, message []byte) *monitoring.StatusResponse {
	return &monitoring.StatusResponse{
		Available: available, Message: message, ResponseTime: 95382,
		ServiceName: r.GetServiceName(), ServiceType: r.GetServiceType(),
		AgentId: r.GetAgentId(), PollerId: r.GetPollerId(),
	}
}
