package daemon_test

import (
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/daemon"
	"github.com/serviceradar/poller/internal/observe"
	"github.com/serviceradar/poller/internal/sim"
)

func TestLoad(t *testing.T) {
	run(t, func(w *world) {
		checker, _ := w.checker("127.2.0.1:1", sim.OK())
		w.start(2*time.Second, time.Second, agents("a", 100, 5, "127.2.0.1:1"))
		w.pass(time.Minute - time.Millisecond)
		for i, cycle := range w.wantWhole(30, 500, 2*time.Second) {
			for key, m := range cycle {
				if !strings.HasPrefix(m, `{"poller_id":"p","agent_id":"`+strings.Split(key, "/")[0]) || strings.Contains(m, `"error"`) {
					t.Fatalf("cycle %d, %s: %s", i, key, m)
				}
			}
		}
		if n := checker.AllCalls(); n != 30*500 {
			t.Errorf("the checkers were asked %d times, want %d", n, 30*500)
		}
		t.Logf("%d runs due, %d asked, %d statuses at core", 30*500, checker.AllCalls(), w.core.Stats().Statuses)
		if ready, conditions := w.daemon.Ready(); !ready {
			t.Errorf("not ready: %+v", conditions)
		}
	})
}

func TestHungChecker(t *testing.T) {
	for _, tt := range []struct {
		name string
		b    sim.Behaviour
		// second is the reason of the second cycle.
		second string
	}{
		{"calls only", sim.Hang(), "timeout circuit_open"},
		{"health too", sim.HangAll(), "circuit_open"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run(t, func(w *world) {
				w.checker("127.2.0.1:1", sim.OK())
				hung, _ := w.checker("127.2.0.2:1", tt.b)
				w.start(10*time.Second, 2*time.Second, agents("good", 10, 3, "127.2.0.1:1")+agents("hung", 1, 5, "127.2.0.2:1"))
				w.pass(24 * time.Second)
				for i, cycle := range w.wantWhole(3, 35, 10*time.Second) {
					want := "timeout"
					if i > 0 {
						want = tt.second
					}
					for key, m := range cycle {
						bad := strings.Contains(m, `"reason":`)
						if bad != strings.HasPrefix(key, "hung") {
							t.Errorf("cycle %d, %s: %s", i, key, m)
						}
						if bad && !containsAny(m, want) {
							t.Errorf("cycle %d, %s: %s, want %s", i, key, m, want)
						}
					}
				}
				hung.Set(sim.OK())
				w.pass(8 * time.Second)
				for key, m := range w.wantWhole(4, 35, 10*time.Second)[3] {
					if strings.Contains(m, "reason") {
						t.Errorf("after the return, %s: %s", key, m)
					}
				}
				if moves := w.breakerMoves("hung000"); !strings.HasPrefix(moves, "open") || !strings.HasSuffix(moves, "half-open closed") {
					t.Errorf("the breaker went %s", moves)
				}
			})
		})
	}
}

func containsAny(s, words string) bool {
	for w := range strings.FieldsSeq(words) {
		if strings.Contains(s, w) {
			return true
		}
	}
	return false
}

func TestCheckerAway(t *testing.T) {
	run(t, func(w *world) {
		_, server := w.checker("127.2.0.1:1", sim.OK())
		w.start(10*time.Second, 2*time.Second, agents("a", 1, 5, "127.2.0.1:1"))
		w.pass(9 * time.Second)
		server.Stop()
		w.pass(10 * time.Second) // the second cycle finds nobody
		w.checker("127.2.0.1:1", sim.OK())
		w.pass(16 * time.Second) // it is back 11 s before the fourth
		for i, cycle := range w.wantWhole(4, 5, 10*time.Second) {
			for key, m := range cycle {
				if away := i == 1; away != strings.Contains(m, `"reason":"unreachable"`) {
					t.Errorf("cycle %d, %s: %s", i, key, m)
				}
			}
		}
	})
}

func TestCoreAway(t *testing.T) {
	run(t, func(w *world) {
		w.checker("127.2.0.1:1", sim.OK())
		// Two agents with equal check names: their report must not go out as a stream.
		w.start(5*time.Second, time.Second, agents("a", 2, 2, "127.2.0.1:1"))
		w.pass(11 * time.Second)
		w.coreServer.Stop()
		w.core.Forget()
		w.pass(30 * time.Second)
		if n := len(w.reports()); n != 3 {
			t.Fatalf("core has %d reports, want those of before", n)
		}
		if ready, said := w.ready("core"); !ready || !strings.Contains(said, "since 2000-01-01T00:00:15Z; reports kept: 6") {
			t.Errorf("ready %v, the condition of core says %q", ready, said)
		}
		if ready, said := w.ready("queue"); !ready || said != "reports that wait for core: 6" {
			t.Errorf("ready %v, the condition of the queue says %q", ready, said)
		}
		w.coreUp()
		w.pass(9*time.Second - time.Millisecond)
		w.wantWhole(10, 4, 5*time.Second)
		t.Logf("core was away for 30s; afterwards it has %d reports in order, each once, with its own time", len(w.reports()))
	})
}

func TestCoreThatRestartsBetweenReports(t *testing.T) {
	run(t, func(w *world) {
		w.checker("127.2.0.1:1", sim.OK())
		w.start(5*time.Second, time.Second, agents("a", 2, 2, "127.2.0.1:1"))
		for range 5 {
			w.pass(4 * time.Second)
			w.coreServer.Stop()
			w.core.Forget()
			w.coreUp()
			w.pass(time.Second)
		}
		w.pass(time.Second)
		w.wantWhole(6, 4, 5*time.Second)
	})
}

func TestStopInTheMiddleOfACycle(t *testing.T) {
	run(t, func(w *world) {
		w.checker("127.2.0.1:1", sim.OK())
		w.checker("127.2.0.3:1", sim.Slow(4*time.Second))
		w.checker("127.2.0.2:1", sim.Hang())
		w.start(30*time.Second, 20*time.Second, agents("good", 10, 2, "127.2.0.1:1")+agents("slow", 1, 2, "127.2.0.3:1")+agents("hung", 1, 2, "127.2.0.2:1"))
		w.pass(time.Second)
		w.stop()
		answered := 0
		for key, m := range w.wantWhole(1, 24, 30*time.Second)[0] {
			unanswered := strings.Contains(m, `"reason":"no_answer"`)
			if hung := strings.HasPrefix(key, "hung"); hung != unanswered {
				t.Errorf("%s: %s", key, m)
			}
			if !unanswered {
				answered++
			}
		}
		for _, e := range w.events { // nobody adds any more
			if dropped, ok := e.(actors.ReportDropped); ok {
				t.Errorf("said to be dropped: %+v", dropped)
			}
		}
		t.Logf("stopped in mid-cycle: %d of 24 had answered or did within half of shutdown_timeout and are at core; the other 2 are no_answer", answered)
	})
}

func TestStopOfWhatDidNotStart(t *testing.T) {
	t.Parallel()
	cfg, _, err := config.Parse("test.toml", []byte("poller_id = \"p\"\nstate_dir = \"memory\"\nsource_ip = \"127.0.0.1\"\nadmin.listen = \"127.0.0.1:0\"\ncore.addresses = [\"127.0.0.1:1\"]\n"), config.Source{})
	if err != nil {
		t.Fatal(err)
	}
	taken, err := observe.ListenAdmin(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Stop(t.Context()) }()
	cfg.Admin.Listen = taken.Address()
	d := daemon.New(daemon.Options{Config: cfg, Log: zerolog.Nop()})
	if err := d.Start(t.Context()); err == nil {
		t.Error("started although the admin address is taken")
	}
	if err := d.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}
