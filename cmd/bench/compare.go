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
	Size     string                `json:"size"`
	Agents   int                   `json:"agents"`
	Checks   int                   `json:"checks_each"`
	Cycles   int                   `json:"cycles_measured"` // of each run
	Together bool                  `json:"together"`        // those whose cost is compared ran at the same time
	Rounds   []map[string]measured `json:"rounds"`
	// Tenth is, of each round, what a check on disk cost beside one of a poller with a tenth of the agents that ran at the same time.
	Tenth []float64 `json:"cpu_to_tenth,omitempty"`

	size
}

// report is all that is measured, as it is printed with --json.
type report struct {
	Go       string    `json:"go"`
	CPUs     int       `json:"cpus"`
	Interval string    `json:"interval"`
	Sizes    []sized   `json:"sizes"`
	Verdicts []verdict `json:"verdicts"`
}

var (
	errBudget   = errors.New("a budget is not kept")
	errNoBudget = fmt.Errorf("nothing to judge: the budgets hold from %d agents on", judgedFrom)
)

func (c *comparison) run(ctx context.Context, out, progress io.Writer) error {
	r := report{Go: runtime.Version(), CPUs: runtime.NumCPU(), Interval: c.interval.String()}
	for _, text := range c.sizes {
		s, err := parseSize(text)
		if err != nil {
			return err
		}
		r.Sizes = append(r.Sizes, sized{
			Size: s.String(), Agents: s.agents, Checks: s.checks, Cycles: c.cyclesOf(s),
			Together: enoughDescriptors(len(compared())*s.agents) == nil, size: s,
		})
	}
	if c.rounds < 1 || c.cycles != 0 && c.cycles < 2 || c.interval < 2*time.Second {
		return errors.New("measure at least one round of two cycles of 2s")
	}
	programs, err := build(ctx)
	if err != nil {
		return err
	}
	defer programs.close()
	err = c.measure(ctx, programs, &r, progress)
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

// cyclesOf is how many cycles are measured in each run with a size.
func (c *comparison) cyclesOf(s size) int {
	const enough = 25_000 // checks
	if c.cycles > 0 {
		return c.cycles
	}
	return min(max((enough+s.all()-1)/s.all(), 2), 5)
}

// measure measures all sizes in each round, so that they can be compared, too.
func (c *comparison) measure(ctx context.Context, programs *programs, r *report, progress io.Writer) error {
	for round := range c.rounds {
		for i := range r.Sizes {
			s := &r.Sizes[i]
			m, err := c.round(ctx, programs, s, round, progress)
			if err != nil {
				return err
			}
			s.Rounds = append(s.Rounds, m)
			tenth := size{s.agents / 10, s.checks}
			if s.agents%10 != 0 || tenth.agents < judgedFrom || enoughDescriptors(s.agents+tenth.agents) != nil {
				continue
			}
			ratio, err := c.tenth(ctx, programs, s.size, tenth, round, progress)
			if err != nil {
				return err
			}
			s.Tenth = append(s.Tenth, ratio)
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

// round measures each subject once. Those whose cost is compared run at the same time if there are descriptors enough, for the
// machine is another from one minute to the next; a loop that starts all at once would disturb them, and runs alone.
func (c *comparison) round(ctx context.Context, programs *programs, s *sized, round int, progress io.Writer) (map[string]measured, error) {
	p := plan{size: s.size, interval: c.interval, cycles: s.Cycles}
	var groups [][]run
	if s.Together {
		groups = append(groups, nil)
	}
	for _, subject := range compared() {
		if one := (run{p, subject}); s.Together {
			groups[0] = append(groups[0], one)
		} else {
			groups = append(groups, []run{one})
		}
	}
	of := make(map[string]measured)
	for _, group := range turned(append(groups, []run{{p, allAtOnce}}), round) {
		group = turned(group, round)
		all, err := measureTogether(ctx, programs, group)
		if err != nil {
			return nil, err
		}
		for i, m := range all {
			of[group[i].name] = m
			c.tell(progress, round, "%v, %s: %.1f ms/1,000 checks, %.0f MB, p99 %.1f ms", s.size, group[i].name, m.CPU, m.RSS, m.ErrorP99)
		}
	}
	return of, nil
}

// tenth returns what a check on disk costs beside one of a poller with a tenth of the agents that runs at the same time.
func (c *comparison) tenth(ctx context.Context, programs *programs, large, small size, round int, progress io.Writer) (float64, error) {
	sizes := turned([]size{large, small}, round)
	pair := make([]run, len(sizes))
	for i, s := range sizes {
		pair[i] = run{plan{size: s, interval: c.interval, cycles: c.cyclesOf(large)}, onDisk}
	}
	all, err := measureTogether(ctx, programs, pair)
	if err != nil {
		return 0, err
	}
	ratio := all[slices.Index(sizes, large)].CPU / all[slices.Index(sizes, small)].CPU
	c.tell(progress, round, "%v beside %v: %.2f times the CPU's time for a check", large, small, ratio)
	return ratio, nil
}

// turned is a list that begins elsewhere in each round, and every other time runs backwards: nobody is to be first more often.
func turned[T any](list []T, round int) []T {
	first := round / 2 % len(list)
	list = slices.Concat(list[first:], list[:first])
	if round%2 == 1 {
		slices.Reverse(list)
	}
	return list
}

func (c *comparison) tell(progress io.Writer, round int, format string, args ...any) {
	_, _ = fmt.Fprintf(progress, "round %d of %d, %s\n", round+1, c.rounds, fmt.Sprintf(format, args...))
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
