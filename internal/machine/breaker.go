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
	// HalfOpen lets runs through on trial: the first that is answered closes the breaker, and it
	// opens when all that are under way have failed.
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
//	   └───── a trial succeeds ─────┼──────────────────────────┘ │
//	                                └───── all trials fail ──────┘
//
// A trial is all runs that are due together, not one of them: one check that always fails would
// else keep its checker's sound checks from ever being asked again.
type Breaker struct {
	threshold  int
	state      BreakerState
	failures   int
	trials     int    // HalfOpen: runs under way
	generation uint64 // from 1, the next with each transition; outcomes of an older one are stale
}

// Permit is the leave to ask the checker once; its outcome goes back with it. The zero Permit,
// which goes with a refusal, is no leave: its outcome is ignored.
type Permit struct {
	generation uint64
	trial      bool // the breaker waits for its outcome before it opens again
}

// Outcome is what a run says of the checker.
type Outcome int

// The outcomes of a run.
const (
	// Answered: the checker works, whatever it answered.
	Answered Outcome = iota
	// Broken: it does not.
	Broken
	// Untold: the run came to nothing for reasons of our own.
	Untold
)

// NewBreaker returns a breaker that opens after threshold failures in a row. A restarted agent's
// begins half-open, for nobody knows what became of its checker meanwhile.
func NewBreaker(threshold int, state BreakerState) *Breaker {
	return &Breaker{threshold: threshold, state: state, generation: 1}
}

// SetThreshold changes how many failures in a row open the breaker, from the next one on.
func (b *Breaker) SetThreshold(threshold int) { b.threshold = threshold }

// Reset closes the breaker: it is about another checker from now on, of which nothing is known.
func (b *Breaker) Reset() {
	b.state, b.trials, b.failures = Closed, 0, 0
	b.generation++
}

// Resume goes on where another node's breaker was, after so many failures in a row: open, or closed. What is under way says nothing any more.
func (b *Breaker) Resume(open bool, failures int) {
	b.Reset()
	b.failures = failures
	if open {
		b.becomeOpen()
	}
}

// State returns the breaker's state.
func (b *Breaker) State() BreakerState { return b.state }

// Failures returns how many failures there were in a row.
func (b *Breaker) Failures() int { return b.failures }

// Ask tells whether a run may ask the checker; if so, its outcome must be reported.
func (b *Breaker) Ask() (Permit, bool) {
	switch b.state {
	case Closed:
		return Permit{generation: b.generation}, true
	case Open:
		return Permit{}, false
	case HalfOpen:
		b.trials++
		return Permit{generation: b.generation, trial: true}, true
	}
	panic("machine: breaker in " + b.state.String())
}

// AskAside is Ask for a run that may take long: when half-open, the breaker does not wait for it.
func (b *Breaker) AskAside() (Permit, bool) {
	return Permit{generation: b.generation}, b.state != Open
}

// Report takes the outcome of a run that was let through. Outcomes from before the last
// transition are ignored.
func (b *Breaker) Report(p Permit, outcome Outcome) {
	if p.generation != b.generation {
		return
	}
	if p.trial {
		b.trials--
	}
	switch outcome {
	case Untold:
	case Answered:
		b.failures = 0
		if b.state == HalfOpen {
			b.becomeClosed()
		}
	case Broken:
		b.failures++
		if b.state == HalfOpen && b.trials == 0 || b.state == Closed && b.failures >= b.threshold {
			b.becomeOpen()
		}
	}
}

// Probed takes the outcome of a probe; one that comes when the breaker is no longer open is ignored.
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
	b.state, b.trials = state, 0
	b.generation++
}
