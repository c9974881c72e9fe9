package main

import (
	"fmt"
	"slices"
)

// The budgets, as ratios.
const (
	mostCPU      = 1.2    // of the loop's, with the reports in memory
	mostOnDisk   = 1.15   // of that, with the spool on disk
	mostMemory   = 1.2    // of the loop's
	mostLateness = 1. / 3 // of the interval error of a loop that starts all at once, in the 99th percentile
	mostLinear   = 1.15   // of the cost of a check with a tenth of the agents
	// judgedFrom is from how many agents on the budgets hold: with few, what is there anyway weighs most.
	judgedFrom = 1000
)

// verdict is a budget and what it came to.
type verdict struct {
	Size string  `json:"size"`
	What string  `json:"what"`
	Is   float64 `json:"is"`
	Most float64 `json:"at_most"`
}

func (v verdict) kept() bool { return v.Is <= v.Most }

func (v verdict) is() string {
	if v.kept() {
		return fmt.Sprintf("%.2f", v.Is)
	}
	return fmt.Sprintf("**%.2f**", v.Is)
}

func kept(all []verdict) bool {
	return !slices.ContainsFunc(all, func(v verdict) bool { return !v.kept() })
}

func verdicts(sizes []sized) []verdict {
	var all []verdict
	for i := range sizes {
		s := &sizes[i]
		if s.Agents < judgedFrom || len(s.Rounds) == 0 {
			continue
		}
		if s.Together { // else the machine differs by more than the budgets from one to the next
			all = append(all,
				verdict{s.Size, "CPU, poller in memory ÷ loop in slots", s.beside(inMemory, inSlots, cpu), mostCPU},
				verdict{s.Size, "CPU, poller on disk ÷ in memory", s.beside(onDisk, inMemory, cpu), mostOnDisk},
			)
		}
		all = append(all,
			verdict{s.Size, "RSS, poller in memory ÷ loop in slots", s.beside(inMemory, inSlots, rss), mostMemory},
			verdict{s.Size, "RSS, poller on disk ÷ loop in slots", s.beside(onDisk, inSlots, rss), mostMemory},
			verdict{s.Size, "p99 interval error, poller on disk ÷ loop, all at once", s.beside(onDisk, allAtOnce, errorP99), mostLateness},
		)
		if len(s.Tenth) > 0 {
			all = append(all, verdict{s.Size, "CPU, poller on disk ÷ the same with a tenth of the agents", median(s.Tenth), mostLinear})
		}
	}
	return all
}

func cpu(m measured) float64 { return m.CPU }

func rss(m measured) float64 { return m.RSS }

func errorP99(m measured) float64 { return m.ErrorP99 }
