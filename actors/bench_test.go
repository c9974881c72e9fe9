package actors_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/spool"
	"github.com/serviceradar/poller/internal/wire"
)

// One operation is one cycle of a whole system whose agents are all due at once, and whose checkers answer
// at once. The times are from the moment at which the cycle was to begin until its last status is there, and
// the poller has made its report. What is allocated is all that is between two cycles, so the delivery, too.
func BenchmarkCycle(b *testing.B) {
	for _, agents := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("agents=%d", agents), func(b *testing.B) {
			const checks, interval = 5, time.Second
			cfg := settings(agents, checks, interval, interval*3/4)
			cfg.Poll.Rate = 1_000_000 // one slot
			twin := &checker{ask: up, health: serving, connections: func() uint64 { return 1 }}
			id := wire.Identity{PollerID: cfg.PollerID, MaxMessage: int(cfg.Core.MaxMessage), MaxReport: spool.MemoryLimit}
			if err := id.Prepare(cfg.Agents); err != nil {
				b.Fatal(err)
			}
			closed := make(chan actors.CycleClosed, 100)
			sys, err := actors.Start(actors.Options{
				Config:   cfg,
				Identity: id,
				Dial:     func(*check.Agent) (actors.Checker, error) { return twin, nil },
				Core:     forgetful{},
				Spool:    spool.NewMemory(spool.Config{MaxBytes: spool.MemoryLimit, MaxAge: time.Hour}),
				Observe: func(e actors.Event) {
					if e, ok := e.(actors.CycleClosed); ok {
						closed <- e
					}
				},
				Log: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				b.Fatal(err)
			}
			<-closed // in the first one everything grows
			var took time.Duration
			b.ReportAllocs()
			for b.Loop() {
				e := <-closed
				if e.Statuses != agents*checks || e.Unavailable != 0 || len(e.ByReason) > 0 {
					b.Fatalf("a cycle went wrong: %+v", e)
				}
				took += e.Took
			}
			perCycle := float64(took.Nanoseconds()) / float64(b.N)
			b.ReportMetric(perCycle, "ns/op") // most of the time nothing is due
			b.ReportMetric(perCycle/float64(agents*checks), "ns/check")
			if err := sys.Stop(b.Context()); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// forgetful is a core that takes everything and keeps nothing.
type forgetful struct{}

func (forgetful) Deliver(context.Context, wire.Delivery) error { return nil }
