package spool

import (
	"slices"
	"syscall"
	"testing"

	"pgregory.net/rapid"
)

// TestDiskFails is TestCrashes on a disk that fails and works again: it is full, or reads and writes end with an error.
func TestDiskFails(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := &crashRun{promise: newPromise(t, drawBounds(t))}
		r.memoryLimit = rapid.SampledFrom([]int64{300, 1000, 1 << 20}).Draw(t, "memory limit")
		r.open()
		t.Repeat(map[string]func(*rapid.T){
			"append":     r.drawAppend,
			"append 2":   r.drawAppend,
			"next":       func(*rapid.T) { r.next() },
			"unreadable": func(*rapid.T) { r.unreadable() },
			"ack":        func(*rapid.T) { r.ack() },
			"deliver":    func(t *rapid.T) { r.deliver(rapid.IntRange(1, 8).Draw(t, "reports")) },
			"aside": func(t *rapid.T) {
				if r.lent != 0 {
					r.setAside(rapid.IntRange(0, 300).Draw(t, "size"))
				}
			},
			"bounds": func(t *rapid.T) { r.setBounds(drawBounds(t)) },
			"reopen": func(t *rapid.T) {
				r.close()
				r.crashed(drawEnd(t))
				r.open()
			},
			"crash": func(t *rapid.T) {
				r.openFailing = r.drawOpening(t)
				r.crashed(drawEnd(t))
				r.open()
			},
			"arm":  func(t *rapid.T) { r.arm(t) },
			"fail": r.drawFault,
			"full": func(t *rapid.T) {
				r.breaks()
				r.c.limit(r.c.usedBytes()+rapid.IntRange(-1, 4).Draw(t, "sectors")*diskSector, rapid.Bool().Draw(t, "copy on write"))
			},
			"mend": func(*rapid.T) {
				r.c.mend()
				r.c.limit(-1, false)
				r.failing = false
			},
			"": func(t *rapid.T) {
				if r.c.dead {
					r.crashed(drawEnd(t))
					r.open()
				}
				r.look()
			},
		})
		r.crashed(drawEnd(t))
	})
}

func (m *promise) breaks() { m.faulty, m.failing = true, true }

func (r *crashRun) drawFault(t *rapid.T) {
	r.breaks()
	r.c.fail(drawFault(t, r.c.steps(), opCreate|opWrite|opTruncate|opSync|opRename|opRemove|opSyncDirectory))
}

// drawFault draws a fault of one or all of some kinds.
func drawFault(t *rapid.T, steps int, kinds op) fault {
	each := []op{kinds}
	for o := opCreate; o <= opList; o <<= 1 {
		if o&kinds != 0 {
			each = append(each, o)
		}
	}
	return fault{
		ops:   rapid.SampledFrom(each).Draw(t, "ops"),
		name:  rapid.SampledFrom([]string{"", "", "*.seg", "marks*"}).Draw(t, "name"),
		from:  steps + rapid.IntRange(0, 4).Draw(t, "from"),
		times: rapid.IntRange(0, 3).Draw(t, "times"),
		done:  rapid.SampledFrom([]int{0, 0, 1, 60, 1000}).Draw(t, "done"),
		err:   rapid.SampledFrom([]error{syscall.EIO, syscall.EIO, syscall.ENOSPC}).Draw(t, "error"),
	}
}

// unreadable asks for the next report while nothing can be read.
func (m *promise) unreadable() {
	before := slices.Clone(m.c.faults)
	m.c.fail(fault{ops: opRead})
	id, _, ok, err := m.disk.Next()
	m.c.faults = before
	switch {
	case err != nil:
	case ok != (len(m.kept) > 0), ok && id != m.kept[0].id:
		m.t.Fatalf("Next: %q, %v", id, ok)
	case ok:
		m.lent = m.kept[0].n
	}
	m.next()
}

// drawOpening opens while the disk is full, or fails: all that there was has to be there afterwards.
func (r *crashRun) drawOpening(t *rapid.T) func(*crashFiles) {
	how := rapid.SampledFrom([]string{"", "full", "fail"}).Draw(t, "opening")
	if how == "" {
		return nil
	}
	return func(c *crashFiles) {
		if r.breaks(); how == "full" {
			c.limit(c.usedBytes(), rapid.Bool().Draw(t, "copy on write"))
		} else {
			c.fail(drawFault(t, c.steps(), 2*opList-1))
		}
		d, err := open(c, r.cfg)
		if err == nil {
			_ = d.Close()
		} else if how == "full" {
			t.Fatalf("open with a full disk: %v", err)
		}
		if n := c.openFiles(); n != 0 {
			t.Fatalf("%d files are open after open: %v", n, err)
		}
		c.mend()
		c.limit(-1, false)
		r.openFailing = nil
	}
}
