package actors

import (
	"log/slog"
	"testing"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/serviceradar/poller/internal/check"
)

// A failure of an agent that went and came back is not taken for one before it, of which the poller has heard: else its runs would not be filled in.
func TestFallsDiffer(t *testing.T) {
	t.Parallel()
	e := new(env)
	e.system = actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }))
	defer e.system.Shutdown()
	e.poller = e.pid(pollerName)
	r := newRoot(e, nil)
	told := make(map[int]bool)
	for range 3 {
		c := &child{name: agentPrefix + "x", spec: &check.Agent{Name: "x"}, gone: true}
		for range 2 {
			r.tellDown(c, "it failed")
			if n := r.falls["x"].n; told[n] || !r.down["x"] {
				t.Errorf("it is told twice that x failed for time %d", n)
			}
			told[r.falls["x"].n] = true
		}
		r.left(nil, c)
	}
}
