package daemon_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/proto/monitoring"
)

// An assertion from the configuration reaches core with the checker's own words, and says at once when all is well again. A
// reload that is about something else leaves it, and the agent, alone; one that takes it away counts with the next cycle.
func TestAssert(t *testing.T) {
	run(t, func(w *world) {
		var loss atomic.Int64
		w.checker("127.2.0.1:1", sim.Behaviour{Answer: func(context.Context, *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
			return &monitoring.StatusResponse{Available: true, Message: fmt.Appendf(nil, `{"host_ip":"192.0.2.1","host_name":"x","status":{"packet_loss":%d}}`, loss.Load())}, nil
		}})
		w.checker("127.2.0.2:1", sim.OK())
		asserting := agents("a", 1, 1, "127.2.0.1:1") + `assert = ["data.status.packet_loss < 20"]` + "\n"
		f := w.startChangeable(asserting)
		w.pass(3 * time.Second) // cycles begin every 2 s
		loss.Store(35)
		w.pass(2 * time.Second)
		f.more = asserting + agents("b", 1, 1, "127.2.0.2:1")
		w.reload()
		w.pass(2 * time.Second)
		loss.Store(0)
		w.pass(2 * time.Second)
		loss.Store(36)
		f.more = agents("a", 1, 1, "127.2.0.1:1")
		w.reload()
		w.pass(2*time.Second - time.Millisecond)
		if got, want := w.saidOf("a000"), "up up down down up up"; got != want {
			t.Errorf("core knows: %s\nwant: %s", got, want)
		}
		for _, d := range w.reports() {
			for _, s := range d.Services {
				const said = `"data":{"host_ip":"192.0.2.1","host_name":"x","status":{"packet_loss":35`
				const why = `,"error":"data.status.packet_loss < 20 does not hold: data.status.packet_loss is 35","reason":"assertion"}`
				message := string(s.GetMessage())
				if !s.GetAvailable() && (!strings.Contains(message, said) || !strings.HasSuffix(message, why)) {
					t.Errorf("core heard %s", message)
				}
			}
		}
	})
}
