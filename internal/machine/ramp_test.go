package machine_test

import (
	"slices"
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/machine"
)

func TestRamp(t *testing.T) {
	t.Parallel()
	const s, m = time.Second, time.Minute
	for _, tt := range []struct {
		name     string
		weight   int
		interval time.Duration
		losses   int
		step     time.Duration
	}{
		{"one interval", 1, 10 * s, 0, 10 * s},
		{"a weight", 7, 10 * s, 0, 10 * s},
		{"no weight", 0, 10 * s, 0, 10 * s},
		{"a short interval", 1, s / 2, 0, s},
		{"the shortest", 1, s, 0, s},
		{"the longest", 1, 30 * s, 0, 30 * s},
		{"a long interval", 1, time.Hour, 0, 30 * s},
		{"the first loss", 1, 10 * s, 1, 10 * s},
		{"the second", 1, 10 * s, 2, 20 * s},
		{"the third", 1, 10 * s, 3, 40 * s},
		{"the fifth", 1, 10 * s, 5, 160 * s},
		{"the sixth", 1, 10 * s, 6, 5 * m},
		{"any number", 1, time.Hour, 1 << 40, 5 * m},
		{"fewer than none", 1, 10 * s, -1, 10 * s},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := machine.NewRamp(tt.weight, tt.interval)
			whole := 1000 * tt.weight
			at := func(when string, now time.Time, want int) {
				t.Helper()
				if got := r.Weight(now); got != want {
					t.Errorf("%s: weight %d, want %d", when, got, want)
				}
			}
			at("without a lease", start.Add(time.Hour), whole/4)
			for _, begin := range []time.Time{start, start.Add(1000 * time.Hour)} {
				r.Restart(begin, tt.losses)
				at("before it began", begin.Add(-time.Hour), whole/4)
				at("at first", begin, whole/4)
				for i := 1; i <= 3; i++ {
					step := begin.Add(time.Duration(i) * tt.step)
					at("just before a step", step.Add(-1), i*whole/4)
					at("after a step", step, (i+1)*whole/4)
				}
				at("long after", begin.Add(100*time.Hour), whole)
			}
		})
	}
}

// Another weight counts at once, another interval from the next lease on.
func TestRampReconfigure(t *testing.T) {
	t.Parallel()
	r := machine.NewRamp(2, 10*time.Second)
	r.Restart(start, 0)
	r.Reconfigure(4, 20*time.Second)
	var got []int
	for _, after := range []time.Duration{0, 10 * time.Second, 20 * time.Second, 30 * time.Second} {
		got = append(got, r.Weight(start.Add(after)))
	}
	r.Restart(start, 0)
	got = append(got, r.Weight(start.Add(19*time.Second)), r.Weight(start.Add(20*time.Second)))
	if want := []int{1000, 2000, 3000, 4000, 1000, 2000}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
