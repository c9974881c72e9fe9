package sim

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Script is a course of faults, in the order of their times.
type Script []Step

// Step changes one host's fault.
type Step struct {
	// At is the time since the script began.
	At    time.Duration
	Host  string
	Fault Fault
}

// Span is a time in which a host has a fault, which may be none.
type Span struct {
	// From and To are times since the script began; To is the end, which is not part of it.
	From, To time.Duration
	Fault    Fault
}

// ParseScript returns the script that a text has, a step to a line: the time, the host and its fault
// from then on, as in "1m30s a7 flapping 10s 5s down". Empty lines and those that begin with # are
// left out.
func ParseScript(text string) (Script, error) {
	var s Script
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		step, err := parseStep(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		s = append(s, step)
	}
	slices.SortStableFunc(s, func(a, b Step) int { return cmp.Compare(a.At, b.At) })
	return s, nil
}

func parseStep(line string) (Step, error) {
	at, rest, _ := strings.Cut(line, " ")
	host, fault, _ := strings.Cut(strings.TrimSpace(rest), " ")
	d, err := time.ParseDuration(at)
	if err != nil {
		return Step{}, err
	}
	f, err := ParseFault(fault)
	return Step{At: d, Host: host, Fault: f}, err
}

// String returns the script as ParseScript takes it.
func (s Script) String() string {
	var b strings.Builder
	for _, step := range s {
		fmt.Fprintf(&b, "%v %s %v\n", step.At, step.Host, step.Fault)
	}
	return b.String()
}

// Spans returns what a host is like from the begin to an end: without gaps, in order.
func (s Script) Spans(host string, end time.Duration) []Span {
	spans := []Span{{}}
	for _, step := range s {
		if step.Host != host || step.At >= end {
			continue
		}
		spans[len(spans)-1].To = step.At
		spans = append(spans, Span{From: step.At, Fault: step.Fault})
	}
	spans[len(spans)-1].To = end
	return slices.DeleteFunc(spans, func(span Span) bool { return span.From == span.To })
}

// Play changes the hosts' faults at their times, from now on, and returns after the last step or when
// ctx ends. It fails at a host that is not there, or that can't listen again.
func (s Script) Play(ctx context.Context, hosts map[string]*Host) error {
	began := time.Now()
	for _, step := range s {
		if wait(ctx, step.At-time.Since(began)) != nil {
			return context.Cause(ctx)
		}
		host, ok := hosts[step.Host]
		if !ok {
			return fmt.Errorf("script: there is no host %q", step.Host)
		}
		if err := host.Set(step.Fault); err != nil { //nolint:contextcheck // what repeats goes on after the script.
			return fmt.Errorf("script: %w", err)
		}
	}
	return nil
}

// RandomScript returns a script in which each host has some of the faults, one after the other, for
// shortest to longest, with pauses of shortest to sixteen times longest, until an end at which all are well.
// The same source makes the same script.
func RandomScript(source rand.Source, hosts []string, faults []Fault, shortest, longest, end time.Duration) Script {
	r := rand.New(source) //nolint:gosec // it has to be foretold.
	between := func(low, high time.Duration) time.Duration {
		return (low + time.Duration(r.Int64N(int64(high-low)+1))).Truncate(time.Millisecond)
	}
	var s Script
	for _, host := range hosts {
		for at := between(0, 4*longest); ; {
			until := at + between(shortest, longest)
			if until > end {
				break
			}
			s = append(s, Step{at, host, faults[r.IntN(len(faults))]}, Step{until, host, Fault{Kind: KindFine}})
			at = until + between(shortest, 16*longest)
		}
	}
	slices.SortStableFunc(s, func(a, b Step) int { return cmp.Compare(a.At, b.At) })
	return s
}
