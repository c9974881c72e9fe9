package machine_test

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/serviceradar/poller/internal/machine"
)

func TestBackoff(t *testing.T) {
	t.Parallel()
	const (
		ms  = time.Millisecond
		all = 1 - 0x1p-53 // the greatest float64 below 1
	)
	for _, tt := range []struct {
		name           string
		n              int
		initial, limit time.Duration
		jitter         float64
		want           time.Duration
	}{
		{"first", 0, 100 * ms, time.Second, 0, 50 * ms},
		{"first, half of the jitter", 0, 100 * ms, time.Second, 0.5, 75 * ms},
		{"first, all of the jitter", 0, 100 * ms, time.Second, all, 100*ms - 1},
		{"second", 1, 100 * ms, time.Second, 0, 100 * ms},
		{"fourth", 3, 100 * ms, time.Second, 0, 400 * ms},
		{"fifth, at the limit", 4, 100 * ms, time.Second, 0, 500 * ms},
		{"exactly the limit", 1, 500 * ms, time.Second, 0, 500 * ms},
		{"just below the limit", 1, 500*ms - 2, time.Second, 0, 500*ms - 2},
		{"never more than the limit", 1 << 40, 100 * ms, time.Second, all, time.Second - 1},
		{"the limit below the initial delay", 0, 10 * time.Second, time.Second, 0, 500 * ms},
		{"no overflow", 1000, time.Nanosecond, math.MaxInt64, 0, math.MaxInt64 / 2},
		{"fewer than none", -1, 100 * ms, time.Second, 0, 50 * ms},
		{"none", 1 << 20, 0, time.Second, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := machine.Backoff(tt.n, tt.initial, tt.limit, tt.jitter); got != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

// Back-off never shrinks with another failure, and stays within its bounds.
func TestBackoffBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		initial := time.Duration(rapid.Int64Range(1, math.MaxInt64).Draw(t, "initial"))
		limit := time.Duration(rapid.Int64Range(1, math.MaxInt64).Draw(t, "limit"))
		jitter := rapid.Float64Range(0, 1-0x1p-53).Draw(t, "jitter")
		n := rapid.IntRange(0, 100).Draw(t, "n")
		got := machine.Backoff(n, initial, limit, jitter)
		if got < min(initial, limit)/2 || got > limit {
			t.Fatalf("%v is out of [%v, %v]", got, min(initial, limit)/2, limit)
		}
		if next := machine.Backoff(n+1, initial, limit, jitter); next < got {
			t.Fatalf("%v, and then only %v", got, next)
		}
	})
}

// failure is what an actor's history holds of one.
type failure struct {
	at     time.Time
	ran    time.Duration // how long the actor had run until then, altogether
	parked bool
}

// An actor may fail as it likes: delays stay within their bounds, there are never more restarts in
// a window than the budget allows, and it is parked only when that would happen, or when a try
// did not outlive a window.
func TestRestarts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := machine.RestartPolicy{
			Initial: time.Duration(rapid.IntRange(1, 1000).Draw(t, "initial in ms")) * time.Millisecond,
			Budget:  rapid.IntRange(0, 6).Draw(t, "budget"),
			Window:  time.Duration(rapid.IntRange(1, 120).Draw(t, "window in s")) * time.Second,
		}
		p.Max = p.Initial * time.Duration(rapid.IntRange(1, 100).Draw(t, "max"))
		r := machine.NewRestarts(p)
		life := rapid.OneOf(
			rapid.Int64Range(0, int64(p.Window)/8),
			rapid.Int64Range(0, 3*int64(p.Window)),
			rapid.Just(int64(p.Window)), rapid.Just(int64(p.Window)-1),
		)
		var past []failure
		var ran time.Duration
		started := start
		for range rapid.IntRange(1, 60).Draw(t, "failures") {
			lived := time.Duration(life.Draw(t, "life"))
			now := started.Add(lived)
			ran += lived
			delay, parked := r.Failed(now, rapid.Float64Range(0, 1-0x1p-53).Draw(t, "jitter"))

			inWindow, wasParked := 0, false
			for _, f := range past {
				if !f.parked && ran-f.ran < p.Window {
					inWindow++
				}
			}
			if len(past) > 0 {
				wasParked = past[len(past)-1].parked
			}
			want := inWindow+1 > p.Budget
			if wasParked {
				want = lived < p.Window || p.Budget == 0
			}
			if parked != want {
				t.Fatalf("parked: %v, want %v: it lived %v, was parked: %v, and was restarted %d times in the window",
					parked, want, lived, wasParked, inWindow)
			}
			if parked && delay != p.Window {
				t.Fatalf("parked for %v, want the window of %v", delay, p.Window)
			}
			if !parked && (delay < p.Initial/2 || delay > p.Max) {
				t.Fatalf("restarted after %v, out of [%v, %v]", delay, p.Initial/2, p.Max)
			}
			past = append(past, failure{at: now, ran: ran, parked: parked})
			started = now.Add(delay)
		}
		checkBudget(t, past, p)
	})
}

// checkBudget looks at each window that ends with a failure.
func checkBudget(t *rapid.T, past []failure, p machine.RestartPolicy) {
	for i, last := range past {
		restarts, tries := 0, 0
		for _, f := range past[:i+1] {
			switch in := last.at.Sub(f.at) < p.Window; {
			case in && f.parked:
				tries++
			case in:
				restarts++
			}
		}
		if restarts > p.Budget || tries > 1 {
			t.Fatalf("%d restarts and %d tries within %v, the budget is %d", restarts, tries, p.Window, p.Budget)
		}
	}
}

// A history holds no more failures than the budget, however many there were.
func TestRestartsMemory(t *testing.T) { //nolint:paralleltest // AllocsPerRun allows no other test.
	r := machine.NewRestarts(machine.RestartPolicy{Initial: time.Millisecond, Max: time.Second, Budget: 10, Window: time.Minute})
	now := start
	fail := func(apart time.Duration) {
		for range 5000 {
			now = now.Add(apart)
			r.Failed(now, 0.5)
		}
	}
	for _, apart := range []time.Duration{time.Second, 6 * time.Second, 7 * time.Second, time.Minute, 3 * time.Minute} {
		if n := testing.AllocsPerRun(3, func() { fail(apart) }); n > 0 {
			t.Errorf("%v allocations in 5,000 failures, %v apart", n, apart)
		}
	}
}
