package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
)

// column is a value in the table.
type column struct {
	heading, format string
	of              func(measured, *sized) float64
}

func columns() []column {
	perAgents := func(v float64, s *sized) float64 { return v / float64(s.Agents) * 1000 }
	return []column{
		{"CPU ms/1,000 checks", "%.1f", func(m measured, _ *sized) float64 { return m.CPU }},
		{"RSS MB", "%.0f", func(m measured, _ *sized) float64 { return m.RSS }},
		{"peak MB", "%.0f", func(m measured, _ *sized) float64 { return m.Peak }},
		{"MB/1,000 agents", "%.1f", func(m measured, s *sized) float64 { return perAgents(m.RSS, s) }},
		{"goroutines/1,000 agents", "%.0f", func(m measured, s *sized) float64 { return perAgents(m.Goroutines, s) }},
		{"interval error p50 ms", "%.2f", func(m measured, _ *sized) float64 { return m.ErrorP50 }},
		{"p99", "%.2f", func(m measured, _ *sized) float64 { return m.ErrorP99 }},
		{"max", "%.1f", func(m measured, _ *sized) float64 { return m.ErrorMax }},
		{"last asked → core ms", "%.0f", func(m measured, _ *sized) float64 { return m.ToCore }},
		{"max", "%.0f", func(m measured, _ *sized) float64 { return m.ToCoreMax }},
	}
}

// table is a table for each size, in Markdown, and the verdicts.
func (r *report) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %d CPUs, cycles of %s; medians of the rounds\n", r.Go, r.CPUs, r.Interval)
	for i := range r.Sizes {
		b.WriteString(r.Sizes[i].table())
	}
	if len(r.Verdicts) > 0 {
		b.WriteString("\nbudgets, by medians of the rounds' ratios\n\n")
		w := tabwriter.NewWriter(&b, 0, 0, 1, ' ', 0)
		_, _ = fmt.Fprint(w, "| size\t| what\t| is\t| at most\t|\n|:--\t|:--\t|:--\t|:--\t|\n")
		for _, v := range r.Verdicts {
			_, _ = fmt.Fprintf(w, "| %s\t| %s\t| %s\t| %.2f\t|\n", v.Size, v.What, v.is(), v.Most)
		}
		_ = w.Flush()
	}
	return b.String()
}

func (s *sized) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%d agents × %d checks, %d rounds of %d cycles", s.Agents, s.Checks, len(s.Rounds), s.Cycles)
	if !s.Together {
		b.WriteString("; one after the other, for want of file descriptors, so that the CPU's times can't be judged")
	}
	b.WriteString("\n\n")
	w := tabwriter.NewWriter(&b, 0, 0, 1, ' ', 0)
	line := func(name string, cell func(column) string) {
		_, _ = fmt.Fprintf(w, "| %s\t", name)
		for _, c := range columns() {
			_, _ = fmt.Fprintf(w, "| %s\t", cell(c))
		}
		_, _ = fmt.Fprint(w, "|\n")
	}
	line("", func(c column) string { return c.heading })
	line(":--", func(column) string { return "--:" })
	for _, subject := range subjects() {
		line(subject.name, func(c column) string {
			return fmt.Sprintf(c.format, s.of(subject, func(m measured) float64 { return c.of(m, s) }))
		})
	}
	line("disk ÷ slots", func(c column) string {
		return fmt.Sprintf("%.2f×", s.beside(onDisk, inSlots, func(m measured) float64 { return c.of(m, s) }))
	})
	_ = w.Flush()
	return b.String()
}
