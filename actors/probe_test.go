package actors_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/internal/check"
)

// dialed lets a world note, in seconds since it started, when connections to its one checker are made.
func dialed(w *world) *[]float64 {
	began, dials := time.Now(), new([]float64)
	twin := w.checkers["a000"]
	w.o.Dial = func(*check.Agent) (actors.Checker, error) {
		twin.set(func(*checker) { *dials = append(*dials, time.Since(began).Seconds()) })
		return twin, nil
	}
	return dials
}

func wantDials(w *world, dials *[]float64, want ...float64) {
	w.t.Helper()
	w.checkers["a000"].set(func(*checker) {
		if diff := cmp.Diff(want, *dials); diff != "" {
			w.t.Errorf("connections were made after seconds (-want +got):\n%s", diff)
		}
		*dials = nil
	})
}

// TestConnectionsOfProbes: the first probe makes a new connection, and so do others after 3 s and every
// minute; when the checker was back and is lost again that begins anew.
func TestConnectionsOfProbes(t *testing.T) {
	cfg := settings(1, 5, 10*time.Second, time.Second)
	run(t, cfg, func(w *world) {
		c := w.checkers["a000"]
		lost := func(ctx context.Context) (string, error) { _, err := hang(ctx, nil); return "", err }
		c.ask, c.health = hang, lost
		dials := dialed(w)
		w.start()
		w.pass(140 * time.Second) // the breaker opens after 1 s
		wantDials(w, dials, 0, 3.9, 6.9, 66.9, 126.9)
		for _, s := range w.byCheck(w.core.all()[2].req.GetServices()) {
			if said := string(s.GetMessage()); !strings.Contains(said, "circuit_open") || !strings.Contains(said, "the last failure: connected, but no answer") {
				t.Errorf("while the breaker is open: %s", said)
			}
		}
		c.set(func(c *checker) { c.ask, c.health = up, serving })
		w.pass(15 * time.Second)
		wantDials(w, dials)
		c.set(func(c *checker) { c.ask, c.health = hang, lost })
		w.pass(15 * time.Second) // until 170 s; the runs at 160 s fail
		wantDials(w, dials, 163.8, 166.8)
	})
}

// TestProbeWaitsForItsConnection: one probe goes on for as long as there is none, and ends when a new
// connection takes its place.
func TestProbeWaitsForItsConnection(t *testing.T) {
	run(t, settings(1, 5, 10*time.Second, time.Second), func(w *world) {
		began := time.Now()
		var waits []time.Duration // from when until when
		c := w.checkers["a000"]
		c.ask = refuse
		c.connect = func(ctx context.Context) error {
			from := time.Since(began)
			<-ctx.Done()
			c.set(func(*checker) { waits = append(waits, from, time.Since(began)) })
			return ctx.Err()
		}
		dials := dialed(w)
		w.start()
		w.pass(70 * time.Second)
		want := []time.Duration{3 * time.Second, 6 * time.Second, 6 * time.Second, 66 * time.Second}
		c.set(func(*checker) {
			if !slices.Equal(waits, want) {
				t.Errorf("probes waited from and until %v, want %v", waits, want)
			}
			c.connect = nil
		})
		wantDials(w, dials, 0, 3, 6, 66)
		w.pass(20 * time.Second)
		if n := c.closed.Load(); n != 3 {
			t.Errorf("%d connections were closed, want all but the last, the 4th", n)
		}
	})
}

// TestProbeHasUntilTheNext: a checker may take its time to answer for its health; one that does not answer is given up in the
// moment in which it is asked again.
func TestProbeHasUntilTheNext(t *testing.T) {
	run(t, settings(1, 5, 10*time.Second, time.Second), func(w *world) {
		began := time.Now()
		var asked, ended []time.Duration
		takes := time.Hour
		c := w.checkers["a000"]
		c.ask = hang
		c.health = func(ctx context.Context) (string, error) {
			var after time.Duration
			c.set(func(*checker) { asked, after = append(asked, time.Since(began)), takes })
			select {
			case <-time.After(after):
				return "SERVING", nil
			case <-ctx.Done():
				c.set(func(*checker) { ended = append(ended, time.Since(began)) })
				return "", ctx.Err()
			}
		}
		w.start()
		w.pass(17 * time.Second) // the breaker opens after 1 s
		c.set(func(c *checker) {
			if len(asked) != 5 || !slices.Equal(ended, asked[1:]) {
				t.Errorf("asked at %v, given up at %v", asked, ended)
			}
			takes, c.ask = 2900*time.Millisecond, up
		})
		w.pass(15 * time.Second)
		if said := string(w.core.all()[3].req.GetServices()[0].GetMessage()); strings.Contains(said, "circuit_open") {
			t.Errorf("though its health is answered within breaker.probe: %s", said)
		}
	})
}

// TestProbesWithoutHealth: where nobody is asked for health, only a new connection shows anything.
func TestProbesWithoutHealth(t *testing.T) {
	cfg := settings(1, 5, 10*time.Second, time.Second)
	cfg.Agents[0].HealthService = check.NoHealth
	run(t, cfg, func(w *world) {
		w.checkers["a000"].ask = hang
		dials := dialed(w)
		w.start()
		w.pass(40 * time.Second)
		wantDials(w, dials, 0, 3.9, 13.8, 24, 33.9) // once in each cycle, after the trial
	})
}

// TestProbesWithoutHealthFindWhatIsFar: a connection may take longer than it is from one probe to the next, each time.
func TestProbesWithoutHealthFindWhatIsFar(t *testing.T) {
	cfg := settings(1, 5, 10*time.Second, time.Second)
	cfg.Agents[0].HealthService = check.NoHealth
	run(t, cfg, func(w *world) {
		c := w.checkers["a000"]
		c.ask = hang
		c.connect = func(ctx context.Context) error {
			select {
			case <-time.After(4 * time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		found := 0
		w.hook = func(e actors.Event) {
			if e, ok := e.(actors.BreakerChanged); ok && e.To == "half-open" {
				found++
			}
		}
		w.start()
		w.pass(100 * time.Second)
		if found < 4 {
			t.Errorf("the checker was found %d times in 100 s", found)
		}
	})
}

// TestResultsAreNoTrial: a half-open breaker does not wait for results, which may take long.
func TestResultsAreNoTrial(t *testing.T) {
	cfg := settings(1, 1, 10*time.Second, time.Second)
	cfg.Breaker.Failures = 1
	cfg.Agents[0].Checks = append(cfg.Agents[0].Checks, check.Check{
		Name: "sweep", Type: "sweep", Method: check.StreamResults, Interval: 10 * time.Second, Timeout: 9 * time.Second,
	})
	run(t, cfg, func(w *world) {
		c := w.checkers["a000"]
		c.ask = refuse
		c.results = func(ctx context.Context, chk *check.Check, _ string) (check.Answer, error) { return hang(ctx, chk) }
		began := time.Now()
		var opened []time.Duration
		w.hook = func(e actors.Event) {
			if e, ok := e.(actors.BreakerChanged); ok && e.To == "open" {
				opened = append(opened, time.Since(began))
			}
		}
		w.start()
		w.pass(25 * time.Second)
		if want := []time.Duration{0, 10 * time.Second, 20 * time.Second}; !slices.Equal(opened, want) {
			t.Errorf("the breaker opened after %v, want %v", opened, want)
		}
	})
}

// TestProbesBeginTogether: agents look for their checkers at the same few moments, whenever their breakers opened, and none waits
// longer than breaker.probe.
func TestProbesBeginTogether(t *testing.T) {
	cfg := settings(40, 1, 10*time.Second, time.Second)
	cfg.Breaker.Failures = 1
	run(t, cfg, func(w *world) {
		var mu sync.Mutex
		last, moments, probes := make(map[string]time.Time), make(map[time.Time]int), 0
		for name, c := range w.checkers {
			c.ask = func(ctx context.Context, _ *check.Check) (check.Answer, error) {
				mu.Lock()
				defer mu.Unlock()
				last[name] = time.Now()
				return refuse(ctx, nil)
			}
			c.health = func(ctx context.Context) (string, error) {
				mu.Lock()
				defer mu.Unlock()
				if since := time.Since(last[name]); since > 3*time.Second || since < 2700*time.Millisecond {
					t.Errorf("%s is looked for %v after the time before", name, since)
				}
				last[name] = time.Now()
				moments[time.Now()]++
				probes++
				return gone(ctx)
			}
		}
		began := time.Now()
		w.start()
		w.pass(18 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		for at := range moments {
			if since := at.Sub(began); since%(300*time.Millisecond) != 0 {
				t.Errorf("probes begin after %v", since)
			}
		}
		if probes < 40*4 || len(last) != 40 {
			t.Errorf("%d probes of %d agents at %d moments", probes, len(last), len(moments))
		}
	})
}
