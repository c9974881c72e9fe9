package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"time"
)

// comparison is the subjects beside each other.
type comparison struct {
	sizes          []string
	rounds, cycles int
	interval       time.Duration
	json, judge    bool
}

// sized is what came of one size: the measured of each subject in each round.
type sized struct {
	Size   string                `json:"size"`
	Agents int                   `json:"agents"`
	Checks int                   `json:"checks_each"`
	Rounds []map[string]measured `json:"rounds"`
}

// report is all that is measured, as it is printed with --json.
type report struct {
	Go       string    `json:"go"`
	CPUs     int       `json:"cpus"`
	Interval string    `json:"interval"`
	Cycles   int       `json:"cycles_measured"`
	Sizes    []sized   `json:"sizes"`
	Verdicts []verdict `json:"verdicts"`
}

var (
	errBudget   = errors.New("a budget is not kept")
	errNoBudget = fmt.Errorf("nothing to judge: the budgets hold from %d agents on", judgedFrom)
)

func (c *comparison) run(ctx context.Context, out, progress io.Writer) error {
	r := report{Go: runtime.Version(), CPUs: runtime.NumCPU(), Interval: c.interval.String(), Cycles: c.cycles}
	sizes := make([]size, len(c.sizes))
	for i, text := range c.sizes {
		var err error
		if sizes[i], err = parseSize(text); err != nil {
			return err
		}
		r.Sizes = append(r.Sizes, sized{Size: sizes[i].String(), Agents: sizes[i].agents, Checks: sizes[i].checks})
	}
	if c.rounds < 1 || c.cycles < 2 || c.interval < 2*time.Second {
		return errors.New("measure at least one round of two cycles of 2s")
	}
	programs, err := build(ctx)
	if err != nil {
		return err
	}
	defer programs.close()
	err = c.measure(ctx, programs, &r, sizes, progress)
	r.Verdicts = verdicts(r.Sizes)
	err = errors.Join(err, c.print(out, &r)) // also what there is until something went wrong
	switch {
	case c.judge && len(r.Verdicts) == 0:
		err = errors.Join(err, errNoBudget)
	case c.judge && !kept(r.Verdicts):
		err = errors.Join(err, errBudget)
	}
	return err
}

// measure measures all sizes in each round, so that they can be compared, too.
func (c *comparison) measure(ctx context.Context, programs *programs, r *report, sizes []size, progress io.Writer) error {
	for round := range c.rounds {
		for i, s := range sizes {
			m, err := c.round(ctx, programs, s, round, progress)
			if err != nil {
				return err
			}
			r.Sizes[i].Rounds = append(r.Sizes[i].Rounds, m)
		}
	}
	return nil
}

func (c *comparison) print(out io.Writer, r *report) error {
	r.Sizes = slices.DeleteFunc(r.Sizes, func(s sized) bool { return len(s.Rounds) == 0 })
	if !c.json {
		_, err := io.WriteString(out, r.table())
		return err
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

// round measures each subject once. Which one goes first, and in which order, changes with each round.
func (c *comparison) round(ctx context.Context, programs *programs, s size, round int, progress io.Writer) (map[string]measured, error) {
	all, of := subjects(), make(map[string]measured)
	if round%2 == 1 {
		slices.Reverse(all)
	}
	for i := range all {
		subject := all[(i+round/2)%len(all)]
		m, err := plan{size: s, interval: c.interval, cycles: c.cycles}.measure(ctx, programs, subject)
		if err != nil {
			return nil, err
		}
		of[subject.name] = m
		_, _ = fmt.Fprintf(progress, "round %d of %d, %v, %s: %.1f ms/1,000 checks, %.0f MB, p99 %.1f ms\n",
			round+1, c.rounds, s, subject.name, m.CPU, m.RSS, m.ErrorP99)
	}
	return of, nil
}

// of returns the median of a value of a subject over the rounds.
func (s *sized) of(subject subject, value func(measured) float64) float64 {
	return s.ratio(func(round map[string]measured) float64 { return value(round[subject.name]) })
}

// ratio returns the median of what each round comes to.
func (s *sized) ratio(of func(round map[string]measured) float64) float64 {
	values := make([]float64, len(s.Rounds))
	for i, round := range s.Rounds {
		values[i] = of(round)
	}
	return median(values)
}

// beside returns the median of the rounds' ratios of a value of two subjects.
func (s *sized) beside(ours, theirs subject, value func(measured) float64) float64 {
	return s.ratio(func(round map[string]measured) float64 {
		return value(round[ours.name]) / value(round[theirs.name])
	})
}
