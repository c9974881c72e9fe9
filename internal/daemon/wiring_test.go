package daemon_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/daemon"
	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/proto/monitoring"
)

// These tests start a daemon with keys of its configuration off their defaults, and look whether
// they reach what they are for.

// startWith is start with all of the TOML given, but for what no test is about.
func (w *world) startWith(toml string) {
	w.t.Helper()
	cfg, _, err := config.Parse("test.toml", []byte("admin.listen = \"\"\n"+toml), config.Source{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.daemon = daemon.New(daemon.Options{
		Config: cfg, Log: w.logger(),
		Observe: w.observe, Dial: w.cables.dialer(&w.net), Lookup: w.find,
	})
	if err := w.daemon.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// plain are the keys that a poller needs, with a cycle that is long enough to look at a single one.
const plain = "poller_id = \"p\"\nstate_dir = \"memory\"\nsource_ip = \"127.0.0.1\"\ncore.addresses = [\"" + coreAddress + "\"]\npoll.interval = \"10s\"\n"

// witnessed returns the events of one type, in order.
func witnessed[E actors.Event](w *world) []E {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []E
	for _, e := range w.events {
		if e, ok := e.(E); ok {
			list = append(list, e)
		}
	}
	return list
}

func TestIdentityReachesCoreAndCheckers(t *testing.T) {
	run(t, func(w *world) {
		var mu sync.Mutex
		asked := make(map[string]int)
		w.checker("127.2.0.1:1", sim.Behaviour{Answer: func(_ context.Context, r *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
			mu.Lock()
			defer mu.Unlock()
			asked[r.GetPollerId()]++
			return &monitoring.StatusResponse{Available: true}, nil
		}})
		w.startWith(fmt.Sprintf("poller_id = \"edge-7\"\nstate_dir = \"memory\"\npartition = \"north\"\nsource_ip = \"10.9.8.7\"\nkv_store_id = \"kv-3\"\n"+
			"core.addresses = [%q]\npoll.interval = \"10s\"\n", coreAddress) + agents("a", 2, 2, "127.2.0.1:1"))
		w.pass(11 * time.Second)
		w.wantWhole(2, 4, 10*time.Second)
		// All deliveries, the registrations among them.
		for _, d := range w.core.Deliveries() {
			if d.PollerID != "edge-7" || d.Partition != "north" || d.SourceIP != "10.9.8.7" {
				t.Errorf("a report of %q in partition %q from %q", d.PollerID, d.Partition, d.SourceIP)
			}
			for _, s := range d.Services {
				if s.GetPollerId() != "edge-7" || s.GetPartition() != "north" || s.GetKvStoreId() != "kv-3" {
					t.Errorf("a status of %q in partition %q with kv_store_id %q", s.GetPollerId(), s.GetPartition(), s.GetKvStoreId())
				}
				if m := string(s.GetMessage()); !strings.Contains(m, `"poller_id":"edge-7"`) || !strings.Contains(m, `"partition":"north"`) {
					t.Errorf("a message %s", m)
				}
			}
		}
		mu.Lock()
		defer mu.Unlock()
		if diff := cmp.Diff(map[string]int{"edge-7": 8}, asked); diff != "" {
			t.Errorf("the checker was asked by (-want +got):\n%s", diff)
		}
	})
}

// loopback are the keys of a host that is 127.0.0.1.
const loopback = `"host_ip":"127.0.0.1","ip":"127.0.0.1","host_name":"127.0.0.1","hostname":"127.0.0.1"`

func TestCoreEnvelope(t *testing.T) {
	for envelope, want := range map[string]string{
		config.EnvelopeServiceRadar: `{"poller_id":"p","agent_id":"a000","partition":"default","service_type":"port","service_name":"c0","data":{"message":"as the checker gave it",` + loopback + `,"status":{` + loopback + `}}}`,
		config.EnvelopeBare:         "as the checker gave it",
	} {
		t.Run(envelope, func(t *testing.T) {
			run(t, func(w *world) {
				w.checker("127.2.0.1:1", sim.Text("as the checker gave it"))
				w.startWith(plain + fmt.Sprintf("core.envelope = %q\n", envelope) + agents("a", 1, 1, "127.2.0.1:1"))
				w.pass(time.Second)
				if got := w.wantWhole(1, 1, 10*time.Second)[0]["a000/c0"]; got != want {
					t.Errorf("the message is %s, want %s", got, want)
				}
			})
		})
	}
}

func TestCoreMaxMessage(t *testing.T) {
	const (
		limit  = 100 << 10
		checks = 5 // of each of two agents
	)
	run(t, func(w *world) {
		w.checker("127.2.0.1:1", sim.Text(strings.Repeat("x", 30<<10)))
		w.startWith(plain + fmt.Sprintf("core.max_message = %d\n", limit) + agents("a", 2, checks, "127.2.0.1:1"))
		w.pass(time.Second)
		reports := w.reports()
		if len(reports) != 4 { // of three statuses each, and one of the last
			t.Errorf("the cycle came in %d reports, want 4", len(reports))
		}
		var names []string
		for i, d := range reports {
			if d.Largest > limit {
				t.Errorf("report %d has %d bytes, above %d", i, d.Largest, limit)
			}
			if d.Timestamp != reports[0].Timestamp {
				t.Errorf("report %d has timestamp %d, the first had %d", i, d.Timestamp, reports[0].Timestamp)
			}
			for _, s := range d.Services {
				names = append(names, s.GetAgentId()+"/"+s.GetServiceName())
			}
		}
		var want []string
		for i := range 2 * checks {
			want = append(want, fmt.Sprintf("a%03d/c%d", i/checks, i%checks))
		}
		slices.Sort(names) // they are packed, not in order
		if diff := cmp.Diff(want, names); diff != "" {
			t.Errorf("the checks at core (-want +got):\n%s", diff)
		}
	})
}

func TestCoreTimeout(t *testing.T) {
	run(t, func(w *world) {
		w.core.SetFault(sim.CoreFault{Hang: true, Times: 1})
		w.checker("127.2.0.1:1", sim.OK())
		w.startWith(plain + "core.timeout = \"2s\"\n" + agents("a", 1, 1, "127.2.0.1:1"))
		w.pass(2*time.Second - time.Millisecond)
		if failed := witnessed[actors.DeliveryFailed](w); len(failed) != 0 || w.core.Stats().Calls != 1 {
			t.Errorf("before the timeout: %d calls, failed: %+v", w.core.Stats().Calls, failed)
		}
		w.pass(2 * time.Millisecond)
		failed := witnessed[actors.DeliveryFailed](w)
		if len(failed) != 1 || status.Code(failed[0].Err) != codes.DeadlineExceeded {
			t.Errorf("after the timeout: %+v", failed)
		}
		w.pass(time.Second)
		w.wantWhole(1, 1, 10*time.Second)
		if n := w.core.Stats().Calls; n != 2 {
			t.Errorf("core was called %d times, want 2", n)
		}
	})
}

func TestCoreAddresses(t *testing.T) {
	run(t, func(w *world) {
		w.checker("127.2.0.1:1", sim.OK())
		w.startWith(strings.Replace(plain, "[", `["127.1.0.9:1", `, 1) + agents("a", 1, 1, "127.2.0.1:1"))
		w.pass(time.Second)
		w.wantWhole(1, 1, 10*time.Second)
		if n := len(witnessed[actors.DeliveryFailed](w)); n != 1 {
			t.Errorf("%d deliveries failed, want that to the first address", n)
		}
	})
}

// TestSpoolBounds looks which reports are left of an outage of a minute, in which seven are made.
// The oldest one, which is on its way, is never dropped.
func TestSpoolBounds(t *testing.T) {
	for name, tt := range map[string]struct {
		keys  string
		want  []int64 // the seconds since the start
		cause string  // that the others are told to be dropped for
	}{
		"all fit":     {"", []int64{0, 10, 20, 30, 40, 50, 60}, ""},
		"max_age":     {"max_age = \"30s\"\n", []int64{0, 30, 40, 50, 60}, "within spool.max_age"},
		"drop_oldest": {"max_bytes = \"350KiB\"\nwhen_full = \"drop_oldest\"\n", []int64{0, 50, 60}, "no room for it: spool.max_bytes"},
		"drop_newest": {"max_bytes = \"350KiB\"\nwhen_full = \"drop_newest\"\n", []int64{0, 10, 20}, "no room for it: spool.max_bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(w *world) {
				w.checker("127.2.0.1:1", sim.Text(strings.Repeat("x", 100<<10)))
				w.core.SetFault(sim.CoreFault{Code: codes.Unavailable})
				w.startWith(plain + "core.max_message = \"128KiB\"\n[spool]\n" + tt.keys + agents("a", 1, 1, "127.2.0.1:1"))
				began := time.Now().Unix()
				w.pass(61 * time.Second)
				w.core.SetFault(sim.CoreFault{})
				w.pass(8 * time.Second) // a retry comes after 5 s at most
				var got []int64
				for _, d := range w.reports() {
					got = append(got, d.Timestamp-began)
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("the reports at core, in seconds since the start (-want +got):\n%s", diff)
				}
				dropped := witnessed[actors.ReportDropped](w)
				if len(dropped) != 7-len(tt.want) {
					t.Errorf("dropped: %+v, want %d", dropped, 7-len(tt.want))
				}
				for _, d := range dropped {
					if !strings.Contains(d.Cause, tt.cause) {
						t.Errorf("dropped: %+v, want it for %q", d, tt.cause)
					}
				}
			})
		})
	}
}

func TestPollRate(t *testing.T) {
	const (
		n    = 100
		rate = 10
	)
	run(t, func(w *world) {
		began := time.Now()
		var mu sync.Mutex
		first := make(map[string]time.Duration)
		w.checker("127.2.0.1:1", sim.Behaviour{Answer: func(_ context.Context, r *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
			mu.Lock()
			defer mu.Unlock()
			if _, known := first[r.GetAgentId()]; !known {
				first[r.GetAgentId()] = time.Since(began)
			}
			return &monitoring.StatusResponse{Available: true}, nil
		}})
		w.startWith(fmt.Sprintf("poll.rate = %d\n", rate) + strings.Replace(plain, "10s", "30s", 1) + agents("a", n, 1, "127.2.0.1:1"))
		w.pass(29 * time.Second)
		w.wantWhole(1, n, 30*time.Second)
		mu.Lock()
		defer mu.Unlock()
		if len(first) != n {
			t.Fatalf("%d agents were asked, want %d", len(first), n)
		}
		// Names decide which of them starts when, so it is rate in each second only on average.
		var perSecond [n / rate]int
		for agent, at := range first {
			if at >= n/rate*time.Second {
				t.Fatalf("%s was asked first after %v, want all within %ds", agent, at, n/rate)
			}
			perSecond[int(at.Seconds())]++
		}
		if slices.Min(perSecond[:]) == 0 || slices.Max(perSecond[:]) > 2*rate {
			t.Errorf("agents asked first in each second: %v, want about %d", perSecond, rate)
		}
	})
}

// Without a deadline of its own, a stop gives core as long as shutdown_timeout says, and no longer.
func TestShutdownTimeout(t *testing.T) {
	run(t, func(w *world) {
		w.core.SetFault(sim.CoreFault{Hang: true})
		w.checker("127.2.0.1:1", sim.OK())
		w.startWith("shutdown_timeout = \"4s\"\ncore.timeout = \"1h\"\n" + plain + agents("a", 1, 1, "127.2.0.1:1"))
		w.pass(time.Second)
		if _, limited := w.t.Context().Deadline(); limited {
			t.Fatal("the test's context has a deadline, and the daemon's own would not be seen")
		}
		began := time.Now()
		w.stop()
		if took := time.Since(began); took < 3*time.Second || took > 4*time.Second {
			t.Errorf("the stop took %v, want nearly all of the 4s", took)
		}
		if stats := w.core.Stats(); stats.Calls != 1 || stats.Taken != 0 {
			t.Errorf("core has %+v, want one call that hung", stats)
		}
	})
}
