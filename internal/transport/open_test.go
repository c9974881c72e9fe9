package transport

import (
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/sim"
)

// TestOpenConnectionsAreCounted: of all clients that share a count, those that are connected; each once, however it ends.
func TestOpenConnectionsAreCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var network sim.Net
		var open atomic.Int64
		listen := func(address string) net.Listener {
			l, err := network.Listen(address)
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		want := func(n int64, when string) {
			t.Helper()
			synctest.Wait()
			if got := open.Load(); got != n {
				t.Errorf("%s %d connections are open, want %d", when, got, n)
			}
		}
		client := func(address string) *Checker {
			c, err := NewChecker(&check.Agent{Name: "a", Address: address}, CheckerConfig{PollerID: "p", Dial: network.Dial, Open: &open})
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		one := sim.NewChecker(sim.OK()).Serve(listen("127.2.0.1:1"), nil)
		two := sim.NewChecker(sim.OK()).Serve(listen("127.2.0.2:1"), nil)
		a, b, nowhere := client("127.2.0.1:1"), client("127.2.0.2:1"), client("127.2.0.3:1")
		want(0, "before the first call")
		for _, c := range []*Checker{a, b, a} {
			if _, err := c.Ask(within(t, time.Second), ssh); err != nil {
				t.Fatal(err)
			}
		}
		_, _ = nowhere.Ask(within(t, time.Second), ssh) // there is nobody
		want(2, "with two checkers")
		one.Stop()
		want(1, "when one is gone")
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		want(0, "when the other's client is closed")
		one = sim.NewChecker(sim.OK()).Serve(listen("127.2.0.1:1"), nil)
		if _, err := a.Ask(within(t, time.Second), ssh); err != nil {
			t.Fatal(err)
		}
		want(1, "when one is back")
		_, _ = a.Close(), nowhere.Close()
		want(0, "at the end")
		one.Stop()
		two.Stop()
	})
}
