package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// quiet is the part of a cycle after which all its agents have started and answered long ago, for the poller starts none in the
// last tenth; what is measured is read then.
const quiet = 0.93

// startWithin is how long a subject may take until it asks its first check.
const startWithin = 30 * time.Second

// measured is what came of one run.
type measured struct {
	CPU         float64 `json:"cpu_ms_per_1000_checks"`
	RSS         float64 `json:"rss_mb"`
	Peak        float64 `json:"peak_rss_mb"`
	Goroutines  float64 `json:"goroutines"`
	Descriptors float64 `json:"descriptors"`
	// How far from the interval the time between two runs of a check was.
	ErrorP50 float64 `json:"interval_error_p50_ms"`
	ErrorP99 float64 `json:"interval_error_p99_ms"`
	ErrorMax float64 `json:"interval_error_max_ms"`
	// From when the last check of a cycle was asked until core had all of the cycle.
	ToCore    float64 `json:"to_core_ms"`
	ToCoreMax float64 `json:"to_core_max_ms"`
}

// plan is what a run is to be.
type plan struct {
	size     size
	interval time.Duration
	cycles   int // beside the first
}

// running is a subject and the world that it polls, from its first cycle on.
type running struct {
	plan
	world *world
	*process
	began time.Time
}

// begin starts a subject and returns when its first cycle has begun.
func (p plan) begin(ctx context.Context, programs *programs, s subject) (*running, error) {
	if err := enoughDescriptors(p.size.agents); err != nil {
		return nil, err
	}
	w, err := newWorld(p.size, p.cycles+1) //nolint:contextcheck // it lives until it is closed
	if err != nil {
		return nil, err
	}
	process, err := programs.start(ctx, s, w, p.interval)
	if err != nil {
		w.close()
		return nil, err
	}
	r := &running{plan: p, world: w, process: process}
	select {
	case <-w.first:
		r.began = time.Now()
		return r, nil
	case <-process.ended:
		err = errors.New("it ended")
	case <-time.After(startWithin):
		err = fmt.Errorf("it asked no check within %v", startWithin)
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	defer w.close()
	return nil, errors.Join(err, process.stop())
}

// untilQuiet waits for the quiet moment of a cycle.
func (r *running) untilQuiet(ctx context.Context, cycle int) error {
	at := r.began.Add(time.Duration((float64(cycle) + quiet) * float64(r.interval)))
	select {
	case <-time.After(time.Until(at)):
		return nil
	case <-r.ended:
		return errors.New("it ended before its time")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// end stops the subject, and returns an error if that, or anything of the run, was not as it should be; failed is one that there
// was before, after which the rest of the run is no matter.
func (r *running) end(failed error) error {
	defer r.world.close()
	if err := errors.Join(failed, r.stop()); err != nil {
		return err
	}
	return r.world.complete(r.cycles+1, r.interval)
}

// run is a subject, and what it is to do.
type run struct {
	plan
	subject
}

// measureTogether runs some subjects at the same time. Each begins a part of a cycle after the one before it, so that their cycles
// do not come to their ends in the same moment. If one fails, the others need not go on.
func measureTogether(ctx context.Context, programs *programs, runs []run) ([]measured, error) {
	all := make([]measured, len(runs))
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var ended sync.WaitGroup
	for i, r := range runs {
		ended.Go(func() {
			var err error
			select {
			case <-time.After(time.Duration(i) * r.interval / time.Duration(len(runs))):
				if all[i], err = r.measure(ctx, programs); err != nil {
					cancel(fmt.Errorf("%s, %v: %w", r.name, r.size, err))
				}
			case <-ctx.Done():
			}
		})
	}
	ended.Wait()
	return all, context.Cause(ctx)
}

// measure runs a subject once.
func (r run) measure(ctx context.Context, programs *programs) (measured, error) {
	active, err := r.begin(ctx, programs, r.subject)
	if err != nil {
		return measured{}, err
	}
	usages, goroutines, err := active.watch(ctx)
	if err = active.end(err); err != nil {
		return measured{}, err
	}
	first, last := usages[0], usages[r.cycles]
	if last.cpu <= first.cpu || last.rss == 0 {
		return measured{}, errors.New("the system says that it used no CPU or no memory")
	}
	m := measured{
		CPU:        ms(last.cpu-first.cpu) / float64(r.cycles*r.size.all()) * 1000,
		Goroutines: float64(goroutines), Descriptors: float64(last.descriptors), Peak: last.peak,
	}
	var rss []float64
	for _, u := range usages[1:] {
		rss = append(rss, u.rss)
	}
	m.RSS = median(rss)
	late := active.world.intervalErrors(r.cycles+1, r.interval)
	m.ErrorP50, m.ErrorP99, m.ErrorMax = ms(quantile(late, .5)), ms(quantile(late, .99)), ms(quantile(late, 1))
	toCore := active.world.toCore(r.cycles + 1)
	m.ToCore, m.ToCoreMax = ms(quantile(toCore, .5)), ms(quantile(toCore, 1))
	return m, nil
}

// look reads what the process has used at the quiet moment of a cycle, and then counts its goroutines.
func (r *running) look(ctx context.Context, cycle int) (u usage, goroutines int, err error) {
	if err = r.untilQuiet(ctx, cycle); err != nil {
		return u, 0, err
	}
	if u, err = usageOf(r.pid); err != nil {
		return u, 0, err
	}
	goroutines, err = r.goroutines(ctx)
	return u, goroutines, err
}

// watch reads what the process has used at the quiet moment of each cycle, and its goroutines at the last.
func (r *running) watch(ctx context.Context) (usages []usage, goroutines int, err error) {
	for cycle := range r.cycles + 1 {
		if err := r.untilQuiet(ctx, cycle); err != nil {
			return nil, 0, err
		}
		u, err := usageOf(r.pid)
		if err != nil {
			return nil, 0, err
		}
		usages = append(usages, u)
	}
	goroutines, err = r.goroutines(ctx)
	return usages, goroutines, err
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// quantile returns the value of a sorted list that is not above the given part of it; 0 of an empty one.
func quantile(sorted []time.Duration, part float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[int(part*float64(len(sorted)-1))]
}

func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	return (values[len(values)/2] + values[(len(values)-1)/2]) / 2
}
