package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"sync"
	"time"
)

// steady is a long run of the poller.
type steady struct {
	size                    string
	interval, length, every time.Duration
}

const (
	// mostGrowth is by how much memory may be above what it was at the first look. The collector's rhythm alone makes a part
	// of that.
	mostGrowth = 1.1
	// settled is when a process that has begun has seen all that it needs. From then on memory is judged.
	settled = time.Minute
)

func (s *steady) run(ctx context.Context, out io.Writer) error {
	size, err := parseSize(s.size)
	if err != nil {
		return err
	}
	if s.interval < 2*time.Second || s.every < s.interval || s.length < 2*s.every || s.every%s.interval != 0 {
		return errors.New("cycles of at least 2s; look at least twice, each time after some whole cycles")
	}
	looks, cyclesPerLook := int(s.length/s.every), int(s.every/s.interval)
	programs, err := build(ctx)
	if err != nil {
		return err
	}
	defer programs.close()
	r, err := plan{size: size, interval: s.interval, cycles: looks*cyclesPerLook - 1}.begin(ctx, programs, onDisk)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "%v every %v for %v, with the spool on disk\n%8s%10s%12s%14s%14s%20s\n",
		size, s.interval, s.length, "after", "RSS MB", "goroutines", "descriptors", "statuses", "CPU ms/1,000 checks")
	grown := s.watch(ctx, out, r, looks, cyclesPerLook)
	stopping := time.Now()
	if err := r.end(grown); err != nil {
		return err
	}
	judged := "nothing grew"
	if s.every < settled {
		judged = fmt.Sprintf("goroutines and descriptors did not grow (memory is judged if the looks are %v apart)", settled)
	}
	_, err = fmt.Fprintf(out, "%d statuses at core, one for each time that a check was asked, in its cycle; %s; it stopped within %v\n",
		r.world.core.Stats().Statuses, judged, time.Since(stopping).Round(10*time.Millisecond))
	return err
}

// watch looks at the process every now and then, and returns an error if it grew after the first time.
func (s *steady) watch(ctx context.Context, out io.Writer, r *running, looks, cyclesPerLook int) error {
	var first, before usage
	var goroutines int
	var errs []error
	if _, _, err := r.look(ctx, 0); err != nil { // which takes memory, and so must come before the first one, too
		return err
	}
	for look := range looks {
		u, n, err := r.look(ctx, (look+1)*cyclesPerLook-1)
		if err != nil {
			return err
		}
		cost := ms(u.cpu-before.cpu) / float64(cyclesPerLook*r.size.all()) * 1000
		_, _ = fmt.Fprintf(out, "%8v%10.0f%12d%14d%14d%20.1f\n", time.Duration(look+1)*s.every, u.rss, n, u.descriptors, r.world.core.Stats().Statuses, cost)
		if before = u; look == 0 {
			first, goroutines = u, n
			continue
		}
		const few = 20 // of what comes and goes
		if s.every >= settled && u.rss > first.rss*mostGrowth || n > goroutines+few || u.descriptors > first.descriptors+few {
			errs = append(errs, fmt.Errorf("after %v: %.0f MB, %d goroutines, %d descriptors, which were %.0f, %d and %d at the first look",
				time.Duration(look+1)*s.every, u.rss, n, u.descriptors, first.rss, goroutines, first.descriptors))
		}
	}
	return errors.Join(errs...)
}

// idle is what agents take between cycles that are far apart.
type idle struct {
	size     string
	interval time.Duration
	cycles   int
}

const (
	// connected is an interval with which agents stay connected, apart the shortest with which they do not.
	connected = 110 * time.Second
	apart     = 2 * time.Minute
	// mostIdle is the budget between cycles, in MB for 1,000 agents.
	mostIdle = 30
)

// run compares two pollers at the same time: one whose agents are polled seldom, and one that polls as many just often
// enough that they stay connected.
func (i *idle) run(ctx context.Context, out io.Writer) error {
	size, err := parseSize(i.size)
	if err != nil {
		return err
	}
	if i.interval < apart || i.cycles < 1 {
		return fmt.Errorf("with intervals below %v agents stay connected; and look at one cycle at least", apart)
	}
	programs, err := build(ctx)
	if err != nil {
		return err
	}
	defer programs.close()
	if err := enoughDescriptors(2 * size.agents); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "%v, between cycles; to be at most %d MB/1,000 agents with an interval of %v\n%10s%8s%10s%18s%26s%14s\n",
		size, mostIdle, i.interval, "interval", "cycle", "RSS MB", "MB/1,000 agents", "goroutines/1,000 agents", "descriptors")
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1)
	var lines sync.Mutex
	watch := func(interval time.Duration, cycles int, most float64) error {
		err := i.watch(ctx, programs, plan{size: size, interval: interval, cycles: cycles - 1}, func(cycle int, mb float64, rest string) error {
			lines.Lock()
			defer lines.Unlock()
			_, _ = fmt.Fprintf(out, "%10v%8d%10.0f%18.1f%s\n", interval, cycle, mb, mb*1000/float64(size.agents), rest)
			if mb*1000/float64(size.agents) > most {
				return errBudget
			}
			return nil
		})
		if err != nil {
			cancel(err) // the other need not go on
		}
		return err
	}
	go func() { done <- watch(connected, int(i.interval*time.Duration(i.cycles)/connected), math.Inf(1)) }()
	err = watch(i.interval, i.cycles, mostIdle)
	return errors.Join(err, <-done)
}

// watch tells what a poller takes at the end of each cycle.
func (i *idle) watch(ctx context.Context, programs *programs, p plan, tell func(cycle int, mb float64, rest string) error) error {
	r, err := p.begin(ctx, programs, onDisk)
	if err != nil {
		return err
	}
	look := func(cycle int) error {
		u, n, err := r.look(ctx, cycle)
		if err != nil {
			return err
		}
		return tell(cycle+1, u.rss, fmt.Sprintf("%26.0f%14d", float64(n)*1000/float64(p.size.agents), u.descriptors))
	}
	for cycle := 0; err == nil && cycle <= r.cycles; cycle++ {
		err = look(cycle)
	}
	return r.end(err)
}

// profile is a profile of a subject at work.
type profile struct {
	size             string
	interval, length time.Duration
	kind, subject    string
}

func (p *profile) run(ctx context.Context, file string) error {
	size, err := parseSize(p.size)
	if err != nil {
		return err
	}
	which := slices.IndexFunc(subjects(), func(s subject) bool { return s.name == p.subject })
	switch {
	case which < 0:
		return fmt.Errorf("--of %q: no such subject", p.subject)
	case !slices.Contains([]string{"profile", "heap", "allocs", "goroutine"}, p.kind):
		return fmt.Errorf("--kind %q: no such profile", p.kind)
	case p.interval < 2*time.Second || p.length < p.interval:
		return errors.New("run at least one cycle of 2s")
	}
	programs, err := build(ctx)
	if err != nil {
		return err
	}
	defer programs.close()
	return p.write(ctx, programs, subjects()[which], size, file)
}

func (p *profile) write(ctx context.Context, programs *programs, s subject, size size, file string) error {
	cycles := int(p.length / p.interval)
	r, err := plan{size: size, interval: p.interval, cycles: cycles}.begin(ctx, programs, s)
	if err != nil {
		return err
	}
	text, err := p.take(ctx, r)
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	return r.end(err)
}

// take takes the profile when the last cycle is quiet: of what is there then, or of what was done since the first.
func (p *profile) take(ctx context.Context, r *running) ([]byte, error) {
	span := fmt.Sprintf("?seconds=%d", int(time.Duration(r.cycles)*p.interval/time.Second))
	query := map[string]string{"profile": span, "allocs": span, "heap": "?gc=1"}[p.kind]
	from := 0
	if query != span {
		from = r.cycles
	}
	if err := r.untilQuiet(ctx, from); err != nil {
		return nil, err
	}
	return r.get(ctx, p.kind+query)
}
