package actors_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/check"
)

// withResults returns one agent with a check for its status and one for its results.
func withResults(interval, resultsInterval, timeout time.Duration) *config.Config {
	cfg := settings(1, 1, interval, time.Second)
	cfg.Agents[0].Checks = append(cfg.Agents[0].Checks, check.Check{
		Name: "sweep", Type: "sweep", Method: check.StreamResults, Interval: resultsInterval, Timeout: timeout,
	})
	return cfg
}

// feed is a checker that has a new result each time, beyond the sequence that it is asked from.
type feed struct {
	mu    sync.Mutex
	asked []string // the last sequences
	at    []time.Time
	takes time.Duration
}

func (f *feed) results(ctx context.Context, _ *check.Check, last string) (check.Answer, error) {
	f.mu.Lock()
	f.asked, f.at = append(f.asked, last), append(f.at, time.Now())
	n := len(f.asked)
	f.mu.Unlock()
	select {
	case <-time.After(f.takes):
	case <-ctx.Done():
		return check.Answer{}, check.Failf(check.Timeout, ctx.Err(), "connected, but no answer")
	}
	return check.Answer{Available: true, Message: fmt.Appendf(nil, `[%d]`, n), Sequence: fmt.Sprint("s", n)}, nil
}

func (f *feed) lastSequences() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.asked, ",")
}

// atCore lists the reports: the seconds since the first, and what each has of the results.
func (w *world) atCore() []string {
	var list []string
	all := w.core.all()
	for _, d := range all {
		line := fmt.Sprintf("%ds:", d.req.GetTimestamp()-all[0].req.GetTimestamp())
		for _, s := range d.req.GetServices() {
			if s.GetSource() != "results" {
				continue
			}
			_, data, _ := strings.Cut(string(s.GetMessage()), `"data":`)
			if s.GetAvailable() {
				line += " " + strings.TrimSuffix(data, "}")
			} else {
				_, reason, _ := strings.Cut(data, `"reason":"`)
				reason, _, _ = strings.Cut(reason, `"`)
				line += " " + reason
			}
		}
		list = append(list, line)
	}
	return list
}

func (w *world) wantAtCore(want ...string) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.atCore()); diff != "" {
		w.t.Errorf("at core (-want +got):\n%s", diff)
	}
}

// TestResultsInterval: results are asked for at their own interval, from where the last ones that are
// safe stand, and reported as results.
func TestResultsInterval(t *testing.T) {
	run(t, withResults(10*time.Second, 20*time.Second, time.Second), func(w *world) {
		f := &feed{}
		w.checkers["a000"].ask = shortly
		w.checkers["a000"].results = f.results
		w.start()
		w.pass(50*time.Second - time.Millisecond)
		w.wantAtCore("0s: [1]", "10s:", "20s: [2]", "30s:", "40s: [3]")
		if got := f.lastSequences(); got != ",s1,s2" {
			t.Errorf("asked from %q", got)
		}
	})
}

// TestLongResults: no cycle waits for results; they go into the one that is open when they come, else
// into the next.
func TestLongResults(t *testing.T) {
	for name, tt := range map[string]struct {
		cycle time.Duration // how long a cycle is open
		want  []string
	}{
		"no cycle is open": {0, []string{"0s:", "10s:", "20s:", "30s: [1]", "40s:"}},
		"one is":           {8 * time.Second, []string{"0s:", "10s:", "20s: [1]", "30s:"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := withResults(10*time.Second, time.Minute, time.Minute-time.Second)
			cfg.Agents[0].Checks[0].Timeout = 9 * time.Second
			run(t, cfg, func(w *world) {
				w.checkers["a000"].ask = slow(tt.cycle)
				w.checkers["a000"].results = (&feed{takes: 25 * time.Second}).results
				w.start()
				w.pass(time.Duration(len(tt.want))*10*time.Second - time.Millisecond)
				w.wantAtCore(tt.want...)
			})
		})
	}
}

// TestResultsThatTimeOut have a status like any run; the next are asked from the same sequence.
func TestResultsThatTimeOut(t *testing.T) {
	run(t, withResults(10*time.Second, 20*time.Second, 15*time.Second), func(w *world) {
		f := &feed{}
		w.checkers["a000"].ask = shortly
		w.checkers["a000"].results = func(ctx context.Context, c *check.Check, last string) (check.Answer, error) {
			if last == "s1" && f.lastSequences() == "" {
				f.mu.Lock()
				f.asked = append(f.asked, last)
				f.mu.Unlock()
				return hang(ctx, c)
			}
			return f.results(ctx, c, last)
		}
		w.start()
		w.pass(10 * time.Second)
		f.mu.Lock()
		f.asked = nil // the next one hangs
		f.mu.Unlock()
		w.pass(50*time.Second - time.Millisecond)
		w.wantAtCore("0s: [1]", "10s:", "20s:", "30s:", "40s: timeout [2]", "50s:")
		if got := f.lastSequences(); got != "s1,s1" {
			t.Errorf("asked from %q", got)
		}
	})
}

// TestNothingToReport: no news, and no results at all, are no status; the latter is told once.
func TestNothingToReport(t *testing.T) {
	for name, tt := range map[string]struct {
		answer check.Answer
		err    error
		told   int
	}{
		"no news":    {answer: check.Answer{Available: true, Nothing: true, Sequence: "s9"}},
		"no results": {err: check.Failf(check.Unimplemented, nil, "a does not know StreamResults"), told: 1},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, withResults(10*time.Second, 10*time.Second, time.Second), func(w *world) {
				var asked atomic.Int64
				w.checkers["a000"].ask = shortly
				w.checkers["a000"].results = func(_ context.Context, _ *check.Check, last string) (check.Answer, error) {
					if want := tt.answer.Sequence; asked.Add(1) > 1 && last != want {
						t.Errorf("asked from %q, want the last that was seen, %q", last, want)
					}
					return tt.answer, tt.err
				}
				w.start()
				w.pass(100*time.Second - time.Millisecond)
				w.wantAtCore("0s:", "10s:", "20s:", "30s:", "40s:", "50s:", "60s:", "70s:", "80s:", "90s:")
				if n := asked.Load(); n != 10 {
					t.Errorf("asked %d times, want 10", n)
				}
				told := seen[actors.NoResults](w)
				if len(told) != tt.told || tt.told > 0 && (told[0].Check != "sweep" || !strings.Contains(told[0].Detail, "StreamResults")) {
					t.Errorf("told: %+v, want %d", told, tt.told)
				}
				if moved := seen[actors.BreakerChanged](w); len(moved) > 0 {
					t.Errorf("the breaker moved: %+v", moved)
				}
				if changed := seen[actors.ChecksChanged](w); len(changed) > 0 {
					t.Errorf("told to have changed: %+v", changed)
				}
			})
		})
	}
}

// TestResultsHaveRoomOfTheirOwn: those that take long are no reason for others to wait.
func TestResultsHaveRoomOfTheirOwn(t *testing.T) {
	cfg := settings(4, 1, 10*time.Second, time.Second)
	cfg.Poll.MaxInFlight = 1
	cfg.Agents[1].Checks = append(cfg.Agents[1].Checks, check.Check{
		Name: "sweep", Type: "sweep", Method: check.StreamResults, Interval: 2 * time.Minute, Timeout: 90 * time.Second,
	})
	cfg.Agents[2].Checks = append(cfg.Agents[2].Checks, check.Check{
		Name: "sweep", Type: "sweep", Method: check.StreamResults, Interval: 2 * time.Minute, Timeout: 90 * time.Second,
	})
	run(t, cfg, func(w *world) {
		for _, agent := range []string{"a001", "a002"} {
			w.checkers[agent].results = (&feed{takes: 40 * time.Second}).results
		}
		w.start()
		w.pass(2*time.Minute - time.Millisecond)
		results := 0
		for _, d := range w.core.all() {
			for _, s := range d.req.GetServices() {
				if !s.GetAvailable() {
					t.Errorf("%s/%s at %ds: %s", s.GetAgentId(), s.GetServiceName(), d.req.GetTimestamp(), s.GetMessage())
				}
				if s.GetSource() == "results" {
					results++
				}
			}
		}
		if results != 2 { // one after the other
			t.Errorf("%d results at core, want those of two agents", results)
		}
	})
}

// TestResultsGiveTheirPlaceUp: a run that never ends, or whose agent fails, makes room for others when
// its time is up, or at once.
func TestResultsGiveTheirPlaceUp(t *testing.T) {
	for name, tt := range map[string]struct {
		fails bool
		after time.Duration
	}{
		"it never ends":   {false, 5*time.Second + time.Second}, // the timeout, and the grace
		"its agent fails": {true, 100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := settings(2, 1, time.Minute, time.Second)
			cfg.Poll.MaxInFlight = 1
			for i := range cfg.Agents {
				cfg.Agents[i].Checks = append(cfg.Agents[i].Checks, check.Check{
					Name: "sweep", Type: "sweep", Method: check.StreamResults, Interval: time.Minute, Timeout: 5 * time.Second,
				})
			}
			run(t, cfg, func(w *world) {
				release := make(chan struct{})
				defer close(release)
				var first atomic.Bool
				asked := make(chan time.Duration, 2)
				began := time.Now()
				for _, c := range w.checkers {
					c.ask = shortly
					c.results = func(context.Context, *check.Check, string) (check.Answer, error) {
						asked <- time.Since(began)
						if !first.Swap(true) {
							if tt.fails {
								panicOnce(c)
							}
							<-release
						}
						return check.Answer{Available: true}, nil
					}
				}
				w.start()
				w.pass(30 * time.Second)
				<-asked
				select {
				case at := <-asked:
					if at > tt.after+50*time.Millisecond || at < tt.after-50*time.Millisecond {
						t.Errorf("the other results were asked for after %v, want %v", at, tt.after)
					}
				default:
					t.Error("the other results were not asked for")
				}
			})
		})
	}
}

// TestNewsAfterFailure: that there are no news tells that the checker is well again.
func TestNewsAfterFailure(t *testing.T) {
	run(t, withResults(10*time.Second, 10*time.Second, time.Second), func(w *world) {
		var asked atomic.Int64
		w.checkers["a000"].results = func(context.Context, *check.Check, string) (check.Answer, error) {
			if asked.Add(1) == 1 {
				return check.Answer{}, check.Failf(check.NotFound, nil, "nothing of that name")
			}
			return check.Answer{Available: true, Nothing: true}, nil
		}
		w.start()
		w.pass(20*time.Second - time.Millisecond)
		changed := seen[actors.ChecksChanged](w)
		if len(changed) != 2 || changed[0].Changes[0].Reason != check.NotFound || !changed[1].Changes[0].Available {
			t.Errorf("told: %+v", changed)
		}
	})
}

// TestResultsOfAnAgentThatFails are no_answer at once, like its other runs; the late answer is nobody's.
func TestResultsOfAnAgentThatFails(t *testing.T) {
	run(t, withResults(10*time.Second, 20*time.Second, 19*time.Second), func(w *world) {
		w.checkers["a000"].ask = shortly
		w.checkers["a000"].results = (&feed{takes: 5 * time.Second}).results
		panicOnce(w.checkers["a000"])
		w.start()
		w.pass(30*time.Second - time.Millisecond)
		w.wantAtCore("0s:", "10s: no_answer", "20s:")
		if n := len(seen[actors.ActorFailed](w)); n != 1 {
			t.Errorf("%d actors failed, want the agent once", n)
		}
	})
}

// TestResultsThatNeverEnd: a call that ignores its deadline has its run end without it.
func TestResultsThatNeverEnd(t *testing.T) {
	run(t, withResults(10*time.Second, 20*time.Second, 5*time.Second), func(w *world) {
		release := make(chan struct{})
		w.checkers["a000"].results = func(context.Context, *check.Check, string) (check.Answer, error) {
			<-release
			return check.Answer{Available: true}, nil
		}
		w.start()
		w.pass(30*time.Second - time.Millisecond)
		w.wantAtCore("0s:", "10s: no_answer", "20s: overrun")
		close(release)
		w.pass(time.Millisecond)
		if n := len(seen[actors.StatusDiscarded](w)); n != 1 {
			t.Errorf("%d answers were discarded, want the late one", n)
		}
	})
}

// TestStopWhenResultsHaveNothing: the stop goes on as soon as the last run ends, whatever it comes to.
func TestStopWhenResultsHaveNothing(t *testing.T) {
	run(t, withResults(10*time.Second, time.Minute, 50*time.Second), func(w *world) {
		w.checkers["a000"].results = func(context.Context, *check.Check, string) (check.Answer, error) {
			time.Sleep(2 * time.Second)
			return check.Answer{Nothing: true}, nil
		}
		w.start()
		w.pass(time.Second)
		began := time.Now()
		w.stop()
		if took := time.Since(began); took > 1500*time.Millisecond {
			t.Errorf("stopping took %v, though the last run ended after 1s", took)
		}
	})
}

// TestStopWithResultsUnderWay: what comes until half of the time is still reported. What does not come
// has no status in its place, for that would stand until results are asked for again.
func TestStopWithResultsUnderWay(t *testing.T) {
	for takes, want := range map[time.Duration][]string{
		3 * time.Second:  {"0s:", "2s: [1]"},
		30 * time.Second: {"0s:"},
	} {
		t.Run(takes.String(), func(t *testing.T) {
			run(t, withResults(10*time.Second, time.Minute, 50*time.Second), func(w *world) {
				w.checkers["a000"].ask = shortly
				w.checkers["a000"].results = (&feed{takes: takes}).results
				w.start()
				w.pass(2 * time.Second)
				w.stop()
				got := w.atCore()
				if len(want) == 2 && len(got) == 2 { // the time of the last is that of its end
					got[1] = "2s" + got[1][strings.IndexByte(got[1], ':'):]
				}
				if !slices.Equal(got, want) {
					t.Errorf("at core: %q, want %q", got, want)
				}
				if dropped := seen[actors.ReportDropped](w); len(dropped) > 0 {
					t.Errorf("told to be dropped: %+v", dropped)
				}
			})
		})
	}
}
