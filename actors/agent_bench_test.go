package actors

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/check"
)

// One operation is one turn of an agent whose checker answers at once: from the message with its runs until
// the last of their statuses is with the poller.
func BenchmarkAgent(b *testing.B) {
	for _, checks := range []int{1, 5} {
		b.Run(fmt.Sprintf("checks=%d", checks), func(b *testing.B) {
			spec := &check.Agent{Name: "a", Checks: make([]check.Check, checks)}
			for i := range spec.Checks {
				spec.Checks[i].Name = strconv.Itoa(i)
			}
			turn := newAgentTurn(b, spec)
			deadline := time.Now().Add(time.Hour)
			b.ReportAllocs()
			for b.Loop() {
				runs := make([]check.Run, checks) // of which the agent keeps hold
				for i := range runs {
					runs[i] = check.Run{Agent: spec, Check: &spec.Checks[i], Deadline: deadline}
				}
				turn(runs)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*checks), "ns/check")
		})
	}
}

// newAgentTurn starts an agent, with nobody around it but one who counts what comes to the poller, and
// returns what sends it runs and waits for all their statuses.
func newAgentTurn(b *testing.B, spec *check.Agent) func([]check.Run) {
	ctx, cancel := context.WithCancel(context.Background())
	quiet := actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) })
	e := &env{
		system: actor.NewActorSystem(quiet), ctx: ctx, cancel: cancel,
		Dial:    func(*check.Agent) (Checker, error) { return prompt{}, nil },
		Observe: func(Event) {},
	}
	e.settings.Store(&Settings{Config: &config.Config{Breaker: config.Breaker{Failures: 5, Probe: time.Second}}})
	left, done := 0, make(chan struct{}) // left is set while no runs are under way
	e.poller = e.system.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
		if m, ok := c.Message().(settled); ok {
			if m.status.Reason != "" {
				b.Errorf("a run failed: %s: %s", m.status.Reason, m.status.Detail)
			}
			if left--; left == 0 {
				done <- struct{}{}
			}
		}
	}))
	var inner *agent
	pid := e.system.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
		if _, ok := c.Message().(*actor.Started); ok {
			inner = newAgent(e, 1, c.Self(), spec, false)
		}
		inner.Receive(c)
	}))
	b.Cleanup(func() {
		if err := e.system.Root.StopFuture(pid).Wait(); err != nil {
			b.Error(err)
		}
		cancel()
		e.calls.Wait()
		e.system.Shutdown()
	})
	return func(runs []check.Run) {
		left = len(runs)
		e.send(pid, runChecks{runs: runs})
		<-done
	}
}

// prompt is a checker that answers at once. It is never asked for anything but statuses and its health.
type prompt struct{ Checker }

func (prompt) Ask(context.Context, *check.Check) (check.Answer, error) {
	return check.Answer{Available: true, Message: []byte(`{"n":1}`), ResponseTime: time.Millisecond}, nil
}
func (prompt) Health(context.Context) (string, error) { return "SERVING", nil }
func (prompt) Connections() uint64                    { return 1 }
func (prompt) Close() error                           { return nil }
