package actors_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/internal/spool"
)

// TestSequenceWaitsForTheReport: results move on with the report that carries them, and not before it
// is safe. Whatever fails in between, they are asked for again, never skipped.
func TestSequenceWaitsForTheReport(t *testing.T) {
	t.Run("the reporter can't keep it for a while", func(t *testing.T) {
		run(t, withResults(10*time.Second, 10*time.Second, time.Second), func(w *world) {
			f := &feed{}
			w.checkers["a000"].ask = shortly
			w.checkers["a000"].results = f.results
			w.start()
			w.pass(30*time.Second - time.Millisecond)
			// At 10 s it is not known from where to ask on; then, with the cycle closed, it is.
			w.wantAtCore("0s: [1]", "10s:", "20s: [2]")
			if got := f.lastSequences(); got != ",s1,s2" {
				t.Errorf("asked from %q", got)
			}
		}, func(o *actors.Options) {
			o.Spool = &faultySpool{Spool: o.Spool, fault: func(n int) error {
				if n <= 3 { // until 15 s: it is tried again at 10 s, in the moment in which the next is asked for
					return errors.New("disk full")
				}
				return nil
			}}
		})
	})
	t.Run("it is dropped for want of room", func(t *testing.T) {
		run(t, withResults(10*time.Second, 10*time.Second, time.Second), func(w *world) {
			f := &feed{}
			w.checkers["a000"].ask = shortly
			w.checkers["a000"].results = f.results
			w.start()
			w.pass(30*time.Second - time.Millisecond)
			if got := f.lastSequences(); got != ",," {
				t.Errorf("asked from %q, want from the beginning each time", got)
			}
			if n := len(seen[actors.ReportDropped](w)); n != 3 {
				t.Errorf("%d reports were dropped, want 3", n)
			}
		}, func(o *actors.Options) { o.Spool = spool.NewMemory(spool.Config{MaxBytes: 10, MaxAge: time.Hour}) })
	})
	t.Run("the poller fails", func(t *testing.T) {
		run(t, withResults(10*time.Second, 10*time.Second, time.Second), func(w *world) {
			f := &feed{}
			w.checkers["a000"].ask = shortly
			w.checkers["a000"].results = f.results
			panicAtFirst[actors.CycleClosed](w) // in the poller, with the report on its way
			w.start()
			w.pass(30*time.Second - time.Millisecond)
			w.wantAtCore("0s: [1]", "10s: [2]", "20s: [3]")
			if got := f.lastSequences(); got != ",s1,s2" {
				t.Errorf("asked from %q", got)
			}
		})
	})
}

// TestResultsThatCouldNotBeAskedForAreOwed: they are asked for as soon as it is known from where, not
// at their next turn, which may be far away.
func TestResultsThatCouldNotBeAskedForAreOwed(t *testing.T) {
	run(t, withResults(10*time.Second, 10*time.Second, time.Second), func(w *world) {
		f := &feed{}
		w.checkers["a000"].ask = shortly
		w.checkers["a000"].results = f.results
		began := time.Now()
		w.start()
		w.pass(30*time.Second - time.Millisecond)
		w.wantAtCore("0s: [1]", "10s:", "20s: [2]")
		for i, want := range []time.Duration{0, 15*time.Second + 100*time.Millisecond, 20*time.Second + 100*time.Millisecond} {
			if got := f.at[i].Sub(began); got < want || got > want+50*time.Millisecond {
				t.Errorf("asked number %d at %v, want %v", i, got, want)
			}
		}
		if got := f.lastSequences(); got != ",s1,s2" {
			t.Errorf("asked from %q", got)
		}
	}, func(o *actors.Options) {
		o.Spool = &faultySpool{Spool: o.Spool, fault: func(n int) error {
			if n <= 3 { // until 15 s
				return errors.New("disk full")
			}
			return nil
		}}
	})
}

// TestAgentAndPollerFailTogether: what the agent had under way is filled in, though nobody could tell
// the poller in time, and whichever is back first.
func TestAgentAndPollerFailTogether(t *testing.T) {
	for range 8 { // the order is a matter of chance
		t.Run("", func(t *testing.T) {
			cfg := withResults(10*time.Second, 10*time.Minute, 9*time.Minute)
			run(t, cfg, func(w *world) {
				w.checkers["a000"].ask = slow(50 * time.Millisecond)
				w.checkers["a000"].results = (&feed{takes: 8 * time.Minute}).results
				panicOnce(w.checkers["a000"])
				panicAtFirst[actors.CycleClosed](w) // in the poller, at about the same time
				w.start()
				w.pass(time.Minute - time.Millisecond)
				found := 0
				for _, line := range w.atCore() {
					found += strings.Count(line, "no_answer")
				}
				if found != 1 {
					t.Errorf("at core: %q, want no_answer once", w.atCore())
				}
			})
		})
	}
}

// TestResultsAreNotAskedForTwice: a checker that hangs keeps the cycle open until the next results are
// due; they are not asked for before the last ones are safe.
func TestResultsAreNotAskedForTwice(t *testing.T) {
	cfg := withResults(10*time.Second, 10*time.Second, time.Second)
	cfg.Agents[0].Checks[0].Timeout = 10 * time.Second
	run(t, cfg, func(w *world) {
		f := &feed{}
		w.checkers["a000"].ask = slow(10*time.Second - 51*time.Millisecond) // to the end of its turn
		w.checkers["a000"].results = f.results
		w.start()
		w.pass(60 * time.Second)
		for i, last := range strings.Split(f.lastSequences(), ",") {
			if want := fmt.Sprint("s", i); last != want && i > 0 {
				t.Errorf("the results are asked for from %s, want %s", last, want)
			}
		}
	})
}
