package transport

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/internal/wire"
	"github.com/serviceradar/poller/proto/monitoring"
)

// message returns the message of a size, no part of which is like another.
func message(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b)
	return b
}

// large returns the delivery of report n, whose statuses named AGENT/CHECK have messages of a size.
func large(t *testing.T, n, limit, size int, names ...string) wire.Delivery {
	t.Helper()
	id, body := report(t, n, names...)
	r := new(monitoring.PollerStatusRequest)
	if err := proto.Unmarshal(body, r); err != nil {
		t.Fatal(err)
	}
	for _, s := range r.GetServices() {
		s.Message = message(size)
	}
	body, err := proto.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return wire.Delivery{ID: id, Body: body, Limit: limit}
}

// wantMessages wants what a core took, in order, each with the number of messages of its stream; all
// messages within the limit, all statuses whole, and nothing lost or against the contract.
func wantMessages(t *testing.T, core *sim.Core, limit, size int, want ...string) {
	t.Helper()
	got := brief(core)
	for i, d := range core.Deliveries() {
		got[i] = fmt.Sprintf("%s: %d", got[i], d.Chunks)
		if d.Largest > limit {
			t.Errorf("%s has a message of %d bytes, the limit is %d", got[i], d.Largest, limit)
		}
		for _, s := range d.Services {
			if !bytes.Equal(s.GetMessage(), message(size)) {
				t.Errorf("%s: the message of %s is not what it was: %d bytes, want %d", got[i], s.GetServiceName(), len(s.GetMessage()), size)
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("core took (-want +got):\n%s", diff)
	}
	if dropped := core.Dropped(); len(dropped) > 0 {
		t.Errorf("core acknowledged and lost %d reports, the first %s", len(dropped), dropped[0].ID)
	}
	if violations := core.Violations(); len(violations) > 0 {
		t.Errorf("against the contract: %q", violations)
	}
}

func mustDeliverThat(t *testing.T, c *Core, d wire.Delivery) {
	t.Helper()
	if err := c.Deliver(t.Context(), d); err != nil {
		t.Errorf("report %s: %v", d.ID, err)
	}
}

// TestLargeReportWithEqualKeys: a report that an earlier run kept may be larger than a message may be
// now. Core would take the statuses of a stream with equal keys for one; rather, the report goes in
// one message, which core may take, or find too large, and then it is halved.
func TestLargeReportWithEqualKeys(t *testing.T) {
	t.Parallel()
	const limit, size = 100 << 10, 60 << 10
	synctest.Test(t, func(t *testing.T) {
		w := newCores(t, 1)
		c := newCore(t, CoreConfig{Addresses: w.addresses, Dial: w.network.Dial})
		mustDeliverThat(t, c, large(t, 1, limit, size, "a/ssh", "b/ssh"))
		mustDeliverThat(t, c, large(t, 2, limit, size, "a/ssh", "b/ssh"))
		w.cores[0].SetFault(sim.CoreFault{MaxMessage: limit})
		d := large(t, 3, limit, size, "a/ssh", "b/ssh")
		if err := c.Deliver(t.Context(), d); !wire.Exhausted(err) {
			t.Errorf("above core's limit: %v, want ResourceExhausted", err)
		}
		halves, _ := d.Smaller()
		for _, half := range halves {
			mustDeliverThat(t, c, half)
		}
		wantMessages(t, w.cores[0], 2*limit, size, "stream : 1", "unary p/1/1 a/ssh b/ssh: 0", "unary p/1/2 a/ssh b/ssh: 0",
			"unary p/1/3.1 a/ssh: 0", "unary p/1/3.2 b/ssh: 0")
	})
}

// TestHelloIsProgress: what registers the poller, and the report after it, each have the timeout.
func TestHelloIsProgress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newCores(t, 1)
		c := newCore(t, CoreConfig{Addresses: w.addresses, Dial: w.network.Dial, Timeout: 3 * time.Second})
		w.cores[0].SetFault(sim.CoreFault{Delay: 2 * time.Second, Times: 2})
		mustDeliver(t, c, 1, "a/ssh", "b/ssh")
		wantTaken(t, w.cores[0], "stream ", "unary p/1/1 a/ssh b/ssh")
	})
}
