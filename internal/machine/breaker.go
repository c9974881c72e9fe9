package machine

import (
	"fmt"
	"slices"
)

// BreakerState is what a breaker lets through.
type BreakerState int

// The states of a breaker.
const (
	// Closed lets every run through.
	Closed BreakerState = iota
	// Open lets none through; it waits for a probe that finds the checker back.
	Open
	// HalfOpen lets one run through, whose outcome decides.
	HalfOpen
)

func (s BreakerState) String() string {
	switch s {
	case Closed:
		return "closed"
	case Open:
		return "open"
	case HalfOpen:
		return "half-open"
	}
	return fmt.Sprintf("BreakerState(%d)", int(s))
}

// Breaker keeps an agent from asking a checker that is broken. It counts consecutive failures of
// the checker itself; what the checker says of its targets is nothing to it.
//
//	Closed ──threshold failures──► Open ──probe succeeds──► HalfOpen
//	   ▲                            ▲                          │ │
//	   └────────── trial succeeds ──┼──────────────────────────┘ │
//	                                └─────── trial fails ────────┘
type Breaker struct {
	threshold  int
	state      BreakerState
	failures   int
	trial      bool   // HalfOpen: the one run is under way
	generation uint64 // counts transitions, from 1 on; outcomes of an older one are stale
}

// Permit is the leave to ask the checker once; its outcome goes back with it. The zero Permit is
// none: that is what a run gets that is refused or has to wait.
type Permit struct{ generation uint64 }

// Admission is a breaker's answer to a run.
type Admission int

// The answers of a breaker.
const (
	// Admitted: ask the checker and Report the outcome.
	Admitted Admission = iota
	// Refused: don't ask it.
	Refused
	// Wait: another run is the trial; its outcome decides on this one, too.
	Wait
)

// NewBreaker returns a breaker that opens after threshold failures in a row. A restarted agent's
// begins half-open, for nobody knows what became of its checker meanwhile.
func NewBreaker(threshold int, state BreakerState) *Breaker {
	return &Breaker{threshold: threshold, state: state, generation: 1}
}

// State returns the breaker's state.
func (b *Breaker) State() BreakerState { return b.state }

// Failures returns how many failures there were in a row.
func (b *Breaker) Failures() int { return b.failures }

// Ask decides on a run.
func (b *Breaker) Ask() (Permit, Admission) {
	switch b.state {
	case Closed:
		return Permit{b.generation}, Admitted
	case Open:
		return Permit{}, Refused
	case HalfOpen:
		if b.trial {
			return Permit{}, Wait
		}
		b.trial = true
		return Permit{b.generation}, Admitted
	}
	panic("machine: breaker in " + b.state.String())
}

// Report takes the outcome of an admitted run: whether the checker is broken. Outcomes from
// before the last transition, and of runs that were not admitted, are ignored.
func (b *Breaker) Report(p Permit, broken bool) {
	if p.generation != b.generation {
		return
	}
	if !broken {
		b.failures = 0
		if b.state == HalfOpen {
			b.becomeClosed()
		}
		return
	}
	b.failures++
	if b.state == HalfOpen || b.failures >= b.threshold {
		b.becomeOpen()
	}
}

// Probed takes the outcome of a probe, which there are only in Open.
func (b *Breaker) Probed(back bool) {
	if b.state == Open && back {
		b.becomeHalfOpen()
	}
}

func (b *Breaker) becomeClosed() { b.become(Closed, HalfOpen) }

func (b *Breaker) becomeOpen() { b.become(Open, Closed, HalfOpen) }

func (b *Breaker) becomeHalfOpen() { b.become(HalfOpen, Open) }

func (b *Breaker) become(state BreakerState, from ...BreakerState) {
	if !slices.Contains(from, b.state) {
		panic(fmt.Sprintf("machine: breaker can't become %v from %v", state, b.state))
	}
	b.state, b.trial = state, false
	b.generation++
}
