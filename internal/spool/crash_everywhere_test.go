package spool

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// everywhere is a scenario that has all that a Disk does; each part ends at once after a crash.
var everywhere = []func(m *promise){
	func(m *promise) { m.open() },
	func(m *promise) { m.append(10, 0, "a") },
	func(m *promise) { m.append(300, time.Minute, "b") },
	func(m *promise) { m.append(40, 0, "a") },
	func(m *promise) { m.next() },
	func(m *promise) { m.append(0, time.Minute, "") },
	func(m *promise) { m.setAside(100) },
	func(m *promise) { m.ack() },
	func(m *promise) { m.append(900, 0, "c") },
	func(m *promise) { m.close() },
	func(m *promise) { m.disk = nil; m.open() },
	func(m *promise) { m.append(20, time.Minute, "a") },
	func(m *promise) { m.deliver(2) },
	func(m *promise) { m.append(200, 0, "b") },
	func(m *promise) { m.append(200, 0, "") },
	func(m *promise) { m.append(200, 0, "a") },
	func(m *promise) { m.next() },
	func(m *promise) { m.append(3600, 0, "b") }, // drops, but for the one that is lent
	func(m *promise) { m.append(500, 0, "b") },
	func(m *promise) { m.ack() },
	func(m *promise) { m.append(10, 18*time.Minute, "a") },
	func(m *promise) { m.append(10, 3*time.Minute, "") }, // drops for their age
	func(m *promise) { m.append(7000, 0, "c") },          // is refused
	func(m *promise) { m.close() },
	func(m *promise) { m.disk = nil; m.open() },
	func(m *promise) { m.append(30, 0, "a") },
	func(m *promise) { m.deliver(3) },
	func(m *promise) { m.append(10, 0, "") },
	func(m *promise) { m.deliver(1) },
	func(m *promise) { m.append(10, 0, "a") },
	func(m *promise) { m.close() },
}

// TestCrashEverywhere crashes at each step of a scenario, a write at several places of it, and looks at much
// of what that may leave.
func TestCrashEverywhere(t *testing.T) {
	t.Parallel()
	whole := playUntil(t, 0, 0)
	tried := 0
	for step := 1; step <= whole.c.steps(); step++ {
		size := whole.c.trace[step-1].size
		for _, done := range slices.Compact([]int{0, min(1, size), min(27, size), size / 2, max(size-1, 0), size}) {
			m := playUntil(t, step, done)
			what := fmt.Sprintf("%s, %d done", m.c.describe(step), done)
			for seed := range uint64(12) {
				tried++
				m.copy(t, what).crashed([]func(int) int{allOld, allNew, rand.New(rand.NewPCG(seed, 0)).IntN}[min(seed, 2)])
			}
			killed := m.copy(t, what)
			killed.crashed(nil)
			killed.copy(t, what+", killed and without power").crashed(rand.New(rand.NewPCG(uint64(step), 0)).IntN)
			if killed.open() {
				killed.append(10, 0, "z")
				killed.copy(t, what+", killed, opened and without power").crashed(allOld)
			}
		}
	}
	t.Logf("%d steps, %d losses of power", whole.c.steps(), tried)
}

// playUntil plays the scenario up to a crash.
func playUntil(t rapid.TB, step, done int) *promise {
	m := newPromise(t, Config{MaxBytes: 4096, MaxAge: 20 * time.Minute})
	m.c.crashAt(step, done)
	for _, part := range everywhere {
		if m.c.dead {
			break
		}
		part(m)
	}
	return m
}

// copy returns a promise that can be tried apart; the Disk is not copied.
func (m *promise) copy(t rapid.TB, what string) *promise {
	c := *m
	c.t = named{t, what}
	c.kept, c.gone, c.states, c.asides = slices.Clone(m.kept), slices.Clone(m.gone), slices.Clone(m.states), maps.Clone(m.asides)
	return &c
}

// named says in which case a test failed.
type named struct {
	rapid.TB
	what string
}

func (n named) Fatalf(format string, args ...any) {
	n.Helper()
	n.TB.Fatalf("%s: %s", n.what, fmt.Sprintf(format, args...))
}

// TestCrashInOpening loses the power at each step of an opening that follows the end of the process.
func TestCrashInOpening(t *testing.T) {
	t.Parallel()
	for _, end := range []func(int) int{allOld, allNew} {
		for _, done := range []int{0, 30, 1 << 20} {
			for step := 1; ; step++ {
				m := newPromise(named{t, fmt.Sprintf("step %d, %d done", step, done)}, Config{MaxBytes: 4096, MaxAge: 20 * time.Minute})
				m.open()
				m.append(10, 0, "a")
				m.append(200, 0, "b")
				m.deliver(1)
				m.c.crashAt(m.c.steps()+2, 0) // in the sync
				m.append(20, 0, "a")
				m.crashed(nil)
				m.c.crashAt(step, done)
				if m.open() {
					break
				}
				m.crashed(end)
				m.open()
			}
		}
	}
}
