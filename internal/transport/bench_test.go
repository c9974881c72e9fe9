package transport

import (
	"fmt"
	"sync"
	"testing"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/sim"
)

// BenchmarkAsk asks an agent's checks together over its one connection, as a cycle does; both ends are in this process.
func BenchmarkAsk(b *testing.B) {
	server, err := sim.NewChecker(sim.Text(`{"available":true,"response_time":95382,"status":{"load":[0.42,0.37,0.31]}}`)).Start("127.0.0.1:0", nil)
	if err != nil {
		b.Fatal(err)
	}
	defer server.Stop()
	for _, checks := range []int{1, 5} {
		b.Run(fmt.Sprintf("checks=%d", checks), func(b *testing.B) {
			c, err := NewChecker(&check.Agent{Name: "a", Address: server.Addr()}, CheckerConfig{PollerID: "p"})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			b.ReportAllocs()
			for b.Loop() {
				var calls sync.WaitGroup
				for range checks {
					calls.Go(func() {
						if _, err := c.Ask(b.Context(), ssh); err != nil {
							b.Error(err)
						}
					})
				}
				calls.Wait()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*checks), "ns/check")
		})
	}
}
