package daemon_test

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/internal/wire"
	"github.com/serviceradar/poller/proto/monitoring"
)

// These tests put the whole poller, over gRPC, before a core with all its traps.

const maxMessage = 3 << 20 // the default

// named answers with the names of agent and check, so that no two answers are the same, and size bytes more.
func named(size int) sim.Behaviour {
	fill := strings.Repeat("x", size)
	return sim.Behaviour{Answer: func(_ context.Context, r *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
		return &monitoring.StatusResponse{Available: true, Message: fmt.Appendf(nil, `{"who":"%s/%s","fill":"%s"}`, r.GetAgentId(), r.GetServiceName(), fill)}, nil
	}}
}

// wantCycles asserts that core has, for each of the cycles, every check of every agent once and with
// its own answer, in the order of the cycles, and no message above the limit.
func (w *world) wantCycles(cycles, agents, checks int) []sim.Delivery {
	w.t.Helper()
	reports := w.reports()
	w.wantCyclesIn(reports, cycles, agents, checks)
	return reports
}

// wantCyclesIn is wantCycles for some of the reports.
func (w *world) wantCyclesIn(reports []sim.Delivery, cycles, agents, checks int) {
	w.t.Helper()
	had := make(map[int64]map[string]bool)
	for i, d := range reports {
		if d.Largest > maxMessage {
			w.t.Errorf("report %s has a message of %d bytes", d.ID, d.Largest)
		}
		if i > 0 && d.Timestamp < reports[i-1].Timestamp {
			w.t.Errorf("report %s goes back in time", d.ID)
		}
		if had[d.Timestamp] == nil {
			had[d.Timestamp] = make(map[string]bool)
		}
		for _, s := range d.Services {
			who := s.GetAgentId() + "/" + s.GetServiceName()
			if had[d.Timestamp][who] {
				w.t.Errorf("%s is there twice at %d", who, d.Timestamp)
			}
			had[d.Timestamp][who] = true
			if !s.GetAvailable() || !strings.Contains(string(s.GetMessage()), `{"who":"`+who+`","fill":"`) {
				w.t.Errorf("%s has the answer %.200s", who, s.GetMessage())
			}
		}
	}
	if len(had) != cycles {
		w.t.Errorf("core has %d cycles, want %d", len(had), cycles)
	}
	for at, all := range had {
		if len(all) != agents*checks {
			w.t.Errorf("core has %d statuses of the cycle at %d, want %d", len(all), at, agents*checks)
		}
	}
}

// TestEqualNames: checks of the same name and type on several agents, which core would glue together
// in a stream.
func TestEqualNames(t *testing.T) {
	for _, tt := range []struct{ agents, size, calls, cycles int }{
		{2, 100, 1, 3},     // one message
		{2, 1 << 20, 2, 3}, // of four statuses, two go into each
		{500, 100, 1, 2},
		{500, 8000, 3, 2}, // 1,000 statuses
	} {
		t.Run(fmt.Sprintf("%d agents, answers of %d bytes", tt.agents, tt.size), func(t *testing.T) {
			run(t, func(w *world) {
				w.checker("127.2.0.1:1", named(tt.size))
				w.startWith(plain + agents("a", tt.agents, 2, "127.2.0.1:1"))
				w.pass(time.Duration(tt.cycles)*10*time.Second - time.Millisecond)
				reports := w.wantCycles(tt.cycles, tt.agents, 2)
				if len(reports) != tt.cycles*tt.calls {
					t.Errorf("%d cycles came in %d calls, want %d each", tt.cycles, len(reports), tt.calls)
				}
				for _, d := range reports[1:] { // the first may be one, to register
					if d.Stream {
						t.Errorf("report %s came in a stream", d.ID)
					}
				}
			})
		})
	}
}

// TestDistinctNames: a cycle that is too large for a message goes in one stream if it can.
func TestDistinctNames(t *testing.T) {
	run(t, func(w *world) {
		w.checker("127.2.0.1:1", named(1<<20))
		w.startWith(plain + agents("a", 1, 8, "127.2.0.1:1"))
		w.pass(30*time.Second - time.Millisecond)
		for _, d := range w.wantCycles(3, 1, 8) {
			if !d.Stream || d.Chunks != 4 {
				t.Errorf("report %s came in a stream: %v, of %d chunks; want 4, of two statuses each", d.ID, d.Stream, d.Chunks)
			}
		}
	})
}

// TestLargeStatuses: one status of many MiB arrives whole, beside others, however it was asked for.
func TestLargeStatuses(t *testing.T) {
	const beside = "[agents.b]\naddress = \"127.2.0.1:1\"\nchecks = [{ name = \"big\", type = \"list\" }, { name = \"small\", type = \"list\" }]\n"
	for _, size := range []int{5 << 20, 10 << 20, 60 << 20} {
		message := append(append([]byte(`["`), bytes.Repeat([]byte("abcdefghijklmno\\n"), size>>4)...), `"]`...)
		for how, results := range map[string]string{"GetStatus": "", "GetResults": `, results_interval = "1m", stream = false`, "StreamResults": `, results_interval = "1m", stream = true`} {
			if size > 10<<20 && how != "StreamResults" {
				continue // more of the same, and slow under the race detector
			}
			t.Run(fmt.Sprintf("%d MiB by %s", size>>20, how), func(t *testing.T) {
				run(t, func(w *world) {
					w.checker("127.2.0.1:1", sim.Text(`{"small":true}`))
					w.checker("127.2.0.2:1", listing(message))
					w.startWith(plain + "[agents.a]\naddress = \"127.2.0.2:1\"\nmax_message = \"64MiB\"\n" +
						"checks = [{ name = \"big\", type = \"list\"" + results + " }]\n" + beside)
					w.pass(20*time.Second - time.Millisecond)
					w.wantWholeMessage("a/big", message)
				})
			})
		}
	}
}

// listing answers with a message however it is asked; as a stream, with the same element twice.
func listing(message []byte) sim.Behaviour {
	return sim.Behaviour{
		Answer: func(context.Context, *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
			return &monitoring.StatusResponse{Available: true, Message: message}, nil
		},
		Results: func(context.Context, *monitoring.ResultsRequest) (*monitoring.ResultsResponse, error) {
			return &monitoring.ResultsResponse{Available: true, Data: message}, nil
		},
		Chunks: func(_ context.Context, _ *monitoring.ResultsRequest, send func(*monitoring.ResultsChunk) error) error {
			return send(&monitoring.ResultsChunk{Data: message, IsFinal: true, TotalChunks: 1})
		},
	}
}

// wantWholeMessage wants a status with exactly that message within the envelope, once a cycle or once
// at all, and the statuses of agent b in every cycle.
func (w *world) wantWholeMessage(who string, message []byte) {
	w.t.Helper()
	found, beside := 0, 0
	for _, d := range w.reports() {
		if d.Largest > maxMessage {
			w.t.Errorf("report %s has a message of %d bytes", d.ID, d.Largest)
		}
		for _, s := range d.Services {
			if s.GetAgentId() == "b" {
				beside++
				continue
			}
			if s.GetAgentId()+"/"+s.GetServiceName() != who {
				continue
			}
			found++
			_, data, _ := bytes.Cut(s.GetMessage(), []byte(`"data":`))
			if !s.GetAvailable() || !bytes.Equal(bytes.TrimSuffix(data, []byte("}")), message) {
				w.t.Errorf("%s has %d bytes, want %d and what is around them: %.200s", who, len(s.GetMessage()), len(message), s.GetMessage())
			}
		}
	}
	if found == 0 || beside != 4 {
		w.t.Errorf("core has %s %d times and %d statuses beside, want it at least once, and 4", who, found, beside)
	}
}

// TestTooLargeToKeep: what could not be kept for core is said to be too large, and nothing else suffers.
func TestTooLargeToKeep(t *testing.T) {
	run(t, func(w *world) {
		w.checker("127.2.0.1:1", listing([]byte(`["`+strings.Repeat("x", 5<<20)+`"]`)))
		w.checker("127.2.0.2:1", sim.OK())
		w.startWith(plain + "spool.max_bytes = \"4MiB\"\n[agents.a]\naddress = \"127.2.0.1:1\"\nmax_message = \"64MiB\"\n" +
			"checks = [{ name = \"big\", type = \"list\" }]\n" + agents("b", 1, 1, "127.2.0.2:1"))
		w.pass(10*time.Second - time.Millisecond)
		all := w.wantWhole(1, 2, 10*time.Second)[0]
		if got := all["a/big"]; !strings.Contains(got, `"reason":"too_large"`) || !strings.Contains(got, "above the 4194304 that can be kept") {
			t.Errorf("the large one: %s", got)
		}
	})
}

// TestAnswerAboveTheAgentsLimit: 4 MiB by default, and a key of the agent's says otherwise.
func TestAnswerAboveTheAgentsLimit(t *testing.T) {
	run(t, func(w *world) {
		w.checker("127.2.0.1:1", sim.Huge(5<<20))
		toml := plain
		for _, agent := range []struct{ name, limit string }{{"a", ""}, {"b", "max_message = \"6MiB\"\n"}} {
			toml += "[agents." + agent.name + "]\naddress = \"127.2.0.1:1\"\n" + agent.limit + "checks = [{ name = \"" + agent.name + "\", type = \"list\" }]\n"
		}
		w.startWith(toml)
		w.pass(10*time.Second - time.Millisecond)
		all := w.wantWhole(1, 2, 10*time.Second)[0]
		if got := all["a/a"]; !strings.Contains(got, `"reason":"too_large"`) || !strings.Contains(got, "max_message") {
			t.Errorf("by default: %.300s", got)
		}
		if got := all["b/b"]; len(got) < 5<<20 {
			t.Errorf("with a larger limit: %.300s", got)
		}
		if moved := w.breakerMoves("a"); moved != "" {
			t.Errorf("the breaker moved: %s", moved)
		}
	})
}

// TestCoreThatForgets: core restarts between any two reports and knows nobody any more; a report that
// is not a stream would be dropped and acknowledged.
func TestCoreThatForgets(t *testing.T) {
	for name, equal := range map[string]int{"names that differ": 1, "equal names": 2} {
		t.Run(name, func(t *testing.T) {
			run(t, func(w *world) {
				w.checker("127.2.0.1:1", named(100))
				w.startWith(plain + agents("a", equal, 3, "127.2.0.1:1"))
				for range 5 {
					w.pass(10 * time.Second)
					w.coreServer.Stop()
					w.core.Forget()
					w.pass(100 * time.Millisecond)
					w.coreUp()
				}
				w.pass(5 * time.Second)
				w.wantCycles(6, equal, 3)
			})
		})
	}
}

// TestAnswersOfCore: whatever core answers, for as long as it does, all that it does not refuse for
// good arrives whole, once and in order afterwards.
func TestAnswersOfCore(t *testing.T) {
	faults := map[string]sim.CoreFault{"received=false": {NotReceived: true}, "hangs": {Hang: true}, "slow": {Delay: 4 * time.Second}}
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		faults[code.String()] = sim.CoreFault{Code: code}
	}
	lost := map[string]bool{codes.InvalidArgument.String(): true, codes.OutOfRange.String(): true}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			run(t, func(w *world) {
				w.checker("127.2.0.1:1", named(100))
				w.start(10*time.Second, time.Second, agents("a", 3, 2, "127.2.0.1:1"))
				w.pass(15 * time.Second) // two cycles are there
				fault.Times = 2
				w.core.SetFault(fault)
				w.pass(65*time.Second - time.Millisecond)
				set := 0
				for _, f := range witnessed[actors.DeliveryFailed](w) {
					if f.Outcome == wire.SetAside {
						set++
					}
				}
				if want := map[bool]int{true: 2}[lost[name]]; set != want {
					t.Errorf("%d reports were set aside, want %d", set, want)
				}
				w.wantCycles(8-set, 3, 2)
			})
		})
	}
}

// TestCoreWithASmallerLimit: core takes no message as large as ours may be. All arrives in halves and
// slices that it does take.
func TestCoreWithASmallerLimit(t *testing.T) {
	for name, n := range map[string]int{"names that differ": 1, "equal names": 2} {
		t.Run(name, func(t *testing.T) {
			run(t, func(w *world) {
				w.core.SetFault(sim.CoreFault{MaxMessage: 300 << 10})
				w.checker("127.2.0.1:1", named(500<<10))
				w.startWith(plain + agents("a", n, 3, "127.2.0.1:1"))
				w.pass(30 * time.Second)
				w.stop()
				var who []string
				for _, d := range w.reports() {
					if d.Largest > 300<<10 {
						t.Errorf("report %s has a message of %d bytes", d.ID, d.Largest)
					}
					if d.Timestamp == w.reports()[0].Timestamp {
						for _, s := range d.Services {
							who = append(who, s.GetAgentId()+"/"+s.GetServiceName())
						}
					}
				}
				slices.Sort(who)
				if len(slices.Compact(who)) != 3*n || len(who) != 3*n {
					t.Errorf("of the first cycle core has %q", who)
				}
			})
		})
	}
}

// TestHostNames: the address of a name is looked up beside, and is in the first report already, for all
// names are asked for at the start.
func TestHostNames(t *testing.T) {
	run(t, func(w *world) {
		w.lookup = func(_ context.Context, name string) ([]netip.Addr, error) {
			if name == "hung.example" {
				time.Sleep(time.Hour)
			}
			return []netip.Addr{netip.MustParseAddr("192.0.2.9")}, nil
		}
		w.checker("127.2.0.1:1", sim.Slow(100*time.Millisecond))
		w.startWith(plain + "[agents.a]\naddress = \"127.2.0.1:1\"\nchecks = [{ name = \"db\", type = \"port\", details = \"db.example:5432\" }," +
			" { name = \"hung\", type = \"port\", details = \"hung.example:1\" }]\n")
		w.pass(time.Second)
		all := w.wantWhole(1, 2, 10*time.Second)[0]
		if got := all["a/db"]; !strings.Contains(got, `"host_ip":"192.0.2.9","ip":"192.0.2.9","host_name":"db.example"`) {
			t.Errorf("the one that is known: %s", got)
		}
		if got := all["a/hung"]; !strings.Contains(got, `"host_name":"hung.example"`) || strings.Contains(got, "host_ip") {
			t.Errorf("the one that is not: %s", got)
		}
	})
}

// TestPoorAnswers: a checker that names nothing and measures nothing is reported under the names that
// it was asked with, and with the time that the call took.
func TestPoorAnswers(t *testing.T) {
	run(t, func(w *world) {
		const took = 50 * time.Millisecond
		w.checker("127.2.0.1:1", sim.Behaviour{
			Answer: func(context.Context, *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
				time.Sleep(took)
				return &monitoring.StatusResponse{Available: true}, nil
			},
			Results: func(context.Context, *monitoring.ResultsRequest) (*monitoring.ResultsResponse, error) {
				time.Sleep(took)
				return &monitoring.ResultsResponse{Available: true}, nil
			},
		})
		w.startWith(plain + "[agents.a]\naddress = \"127.2.0.1:1\"\nchecks = [{ name = \"x\", type = \"port\" }," +
			" { name = \"y\", type = \"list\", results_interval = \"1m\" }]\n")
		w.pass(20*time.Second - time.Millisecond)
		seen := make(map[string]bool)
		for _, d := range w.reports() {
			for _, s := range d.Services {
				seen[s.GetServiceName()] = true
				if s.GetAgentId() != "a" || s.GetPollerId() != "p" || !slices.Contains([]string{"port", "list"}, s.GetServiceType()) || !s.GetAvailable() {
					t.Errorf("reported as %v", s)
				}
				if got := time.Duration(s.GetResponseTime()); got < took || got > took+10*time.Millisecond {
					t.Errorf("%s: response time %v, want what the call took, %v", s.GetServiceName(), got, took)
				}
			}
		}
		if len(seen) != 2 {
			t.Errorf("core has %v, want both checks", seen)
		}
	})
}

// TestHealthOfAllKinds: whatever a checker says of its health, or if it says nothing, its answers count.
func TestHealthOfAllKinds(t *testing.T) {
	for name, health := range map[string]func(context.Context) error{
		"no such service": func(context.Context) error { return status.Error(codes.NotFound, "unknown service") },
		"not implemented": func(context.Context) error {
			return status.Error(codes.Unimplemented, "unknown service grpc.health.v1.Health")
		},
		"an error": func(context.Context) error { return status.Error(codes.Internal, "no idea") },
		"hangs": func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(w *world) {
				b := named(10)
				b.Health = health
				w.checker("127.2.0.1:1", b)
				w.startWith(plain + agents("a", 1, 2, "127.2.0.1:1") +
					strings.Replace(agents("b", 1, 2, "127.2.0.1:1"), "]\n", "]\nhealth_service = \"somebody.Else\"\n", 1))
				w.pass(60*time.Second - time.Millisecond)
				w.wantCycles(6, 2, 2)
				if moved := w.breakerMoves("a000") + w.breakerMoves("b000"); moved != "" {
					t.Errorf("a breaker moved: %s", moved)
				}
			})
		})
	}
}
