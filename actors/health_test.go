package actors_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/internal/check"
)

// greeter is what a checker says of its health, and how often it was asked.
type greeter struct {
	asked       atomic.Int64
	connections atomic.Uint64
}

// greet lets a checker count how often its health is asked, and answer with health.
func greet(c *checker, health func(ctx context.Context) (string, error)) *greeter {
	g := new(greeter)
	g.connections.Store(1)
	c.set(func(c *checker) {
		c.connections = g.connections.Load
		c.health = func(ctx context.Context) (string, error) {
			g.asked.Add(1)
			return health(ctx)
		}
	})
	return g
}

func TestHealthIsAskedOncePerConnection(t *testing.T) {
	run(t, settings(2, 3, 10*time.Second, 2*time.Second), func(w *world) {
		renewed, steady := greet(w.checkers["a000"], serving), greet(w.checkers["a001"], serving)
		want := func(when string, first, second int64) {
			t.Helper()
			if a, b := renewed.asked.Load(), steady.asked.Load(); a != first || b != second {
				t.Errorf("%s: health was asked %d and %d times, want %d and %d", when, a, b, first, second)
			}
		}
		w.start()
		w.pass(time.Second)
		want("after the first cycle", 1, 1)
		w.pass(20 * time.Second)
		want("after the third", 1, 1)
		renewed.connections.Store(2)
		w.pass(8 * time.Second)
		want("on a new connection, before anybody was asked over it", 1, 1)
		w.pass(2 * time.Second)
		want("in the first cycle on a new connection", 2, 1)
		w.pass(30 * time.Second)
		want("three cycles later", 2, 1)

		told := make(map[string]int)
		for _, e := range seen[actors.HealthTold](w) {
			if e.Health != "SERVING" {
				t.Errorf("%+v, want SERVING", e)
			}
			told[e.Agent]++
		}
		if diff := cmp.Diff(map[string]int{"a000": 2, "a001": 1}, told); diff != "" {
			t.Errorf("HealthTold by agent (-want +got):\n%s", diff)
		}
	})
}

func TestHealthIsNotAskedOfACheckerWithoutIt(t *testing.T) {
	cfg := settings(1, 3, 10*time.Second, 2*time.Second)
	cfg.Agents[0].HealthService = check.NoHealth
	run(t, cfg, func(w *world) {
		g := greet(w.checkers["a000"], serving)
		w.start()
		for range 3 {
			w.pass(10 * time.Second)
			g.connections.Add(1)
		}
		w.pass(time.Second)
		if n := w.checkers["a000"].calls(); n != 4*3 {
			t.Errorf("the checker was asked %d times, want %d", n, 4*3)
		}
		if n, told := g.asked.Load(), seen[actors.HealthTold](w); n != 0 || len(told) != 0 {
			t.Errorf("health was asked %d times, and told: %+v", n, told)
		}
	})
}

// What a checker says of its health is told and decides nothing, for it may be about something else.
func TestHealthDecidesNothing(t *testing.T) {
	for name, tt := range map[string]struct {
		health func(ctx context.Context) (string, error)
		told   []actors.HealthTold
		panics int
	}{
		"serving":     {health: serving, told: []actors.HealthTold{{Agent: "a000", Health: "SERVING"}}},
		"not serving": {health: func(context.Context) (string, error) { return "NOT_SERVING", nil }, told: []actors.HealthTold{{Agent: "a000", Health: "NOT_SERVING"}}},
		"error":       {health: gone},
		"hangs":       {health: func(ctx context.Context) (string, error) { _, err := hang(ctx, nil); return "", err }},
		"panics":      {health: func(context.Context) (string, error) { panic("a bug") }, panics: 1},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := settings(1, 3, 10*time.Second, 2*time.Second)
			cfg.Breaker.Failures = 1 // if it counted at all, it would count now
			run(t, cfg, func(w *world) {
				g := greet(w.checkers["a000"], tt.health)
				w.start()
				w.pass(31 * time.Second)
				for i, cycle := range w.wantWhole(4) {
					for key, s := range cycle {
						if !s.GetAvailable() {
							t.Errorf("cycle %d, %s: %s", i, key, s.GetMessage())
						}
					}
				}
				if n := g.asked.Load(); n != 1 {
					t.Errorf("health was asked %d times, want once", n)
				}
				if diff := cmp.Diff(tt.told, seen[actors.HealthTold](w)); diff != "" {
					t.Errorf("HealthTold (-want +got):\n%s", diff)
				}
				if changes, moves := seen[actors.ChecksChanged](w), seen[actors.BreakerChanged](w); len(changes)+len(moves) > 0 {
					t.Errorf("statuses changed: %+v; the breaker moved: %+v", changes, moves)
				}
				if n := len(seen[actors.PanicRecovered](w)); n != tt.panics {
					t.Errorf("%d panics were recovered, want %d", n, tt.panics)
				}
				if failed := seen[actors.ActorFailed](w); len(failed) > 0 {
					t.Errorf("actors failed: %+v", failed)
				}
			})
		})
	}
}
