package spool

import (
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A longer look, as with another seed:
//
//	go test ./internal/spool -run 'Crashes|DiskFails' -rapid.checks=20000 -rapid.seed=1

// TestCrashes does anything in any order, with an end of the process or of the power at any step of it, and
// holds what the package's comment promises.
func TestCrashes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := &crashRun{promise: newPromise(t, drawBounds(t))}
		r.reopen(t)
		t.Repeat(map[string]func(*rapid.T){
			"append":   r.drawAppend,
			"append 2": r.drawAppend,
			"append 3": r.drawAppend,
			"again":    func(t *rapid.T) { r.again(rapid.IntRange(1, r.n+1).Draw(t, "number")) },
			"next":     func(*rapid.T) { r.next() },
			"ack":      func(*rapid.T) { r.ack() },
			"deliver":  func(t *rapid.T) { r.deliver(rapid.IntRange(1, 8).Draw(t, "reports")) },
			"aside": func(t *rapid.T) {
				if r.lent != 0 {
					r.setAside(rapid.IntRange(0, 300).Draw(t, "size"))
				}
			},
			"bounds": func(t *rapid.T) { r.setBounds(drawBounds(t)) },
			"reopen": func(t *rapid.T) {
				r.arm(t)
				if r.close() {
					r.c.crashAt(0, 0)
				}
				r.end(t)
			},
			"crash": func(t *rapid.T) { r.end(t) },
			"arm":   func(t *rapid.T) { r.arm(t) },
			"": func(t *rapid.T) {
				if r.c.dead {
					r.end(t)
				}
				r.look()
			},
		})
		r.end(t)
	})
}

// crashRun draws what a promise has to stand.
type crashRun struct{ *promise }

func drawBounds(t *rapid.T) Config {
	return Config{
		MaxBytes:   rapid.SampledFrom([]int64{1500, 9 << 10, 40 << 10}).Draw(t, "max bytes"),
		MaxAge:     rapid.SampledFrom([]time.Duration{20 * time.Minute, 20 * time.Minute, 3 * time.Minute}).Draw(t, "max age"),
		DropNewest: rapid.Bool().Draw(t, "drop newest"),
	}
}

func (r *crashRun) drawAppend(t *rapid.T) {
	segment := int(r.cfg.MaxBytes / 16)
	size := rapid.OneOf(rapid.IntRange(0, 60), rapid.IntRange(0, segment), rapid.IntRange(0, 2*segment), rapid.IntRange(0, int(r.cfg.MaxBytes)+100)).Draw(t, "size")
	minutes := rapid.SampledFrom([]int{0, 0, 0, 1, 1, 2, 5, 25}).Draw(t, "minutes")
	r.append(size, time.Duration(minutes)*time.Minute, rapid.SampledFrom([]string{"", "", "a", "b"}).Draw(t, "key"))
}

func (m *promise) deliver(n int) {
	for range n {
		if m.c.dead || len(m.kept) == 0 {
			return
		}
		m.next()
		m.ack()
	}
}

// arm makes a step to come crash.
func (r *crashRun) arm(t *rapid.T) {
	r.c.crashAt(r.c.steps()+rapid.IntRange(1, 14).Draw(t, "step"), rapid.SampledFrom([]int{0, 0, 1, 30, 100, 600, 1 << 20}).Draw(t, "done"))
}

// end ends the process, or the power, wherever that is, and opens again.
func (r *crashRun) end(t *rapid.T) {
	r.crashed(drawEnd(t))
	r.reopen(t)
}

// reopen opens, with crashes thereby.
func (r *crashRun) reopen(t *rapid.T) {
	for range rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(t, "crashes in open") {
		r.arm(t)
		if r.open() {
			r.c.crashAt(0, 0)
			return
		}
		r.crashed(drawEnd(t))
	}
	r.open()
}

// drawEnd returns how a loss of power chooses; nil if the process only ends.
func drawEnd(t *rapid.T) func(int) int {
	switch rapid.SampledFrom([]string{"kill", "oldest", "newest", "any", "any", "any"}).Draw(t, "end") {
	case "kill":
		return nil
	case "oldest":
		return allOld
	case "newest":
		return allNew
	}
	return rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)).IntN
}
