package spool

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestOutage holds the bounds over an outage longer than they are, and counts what is dropped. What exactly that
// is the promise says, at each step.
func TestOutage(t *testing.T) {
	t.Parallel()
	const segments = 16 // of the bound
	for _, bound := range []string{"bytes", "age"} {
		for _, dropNewest := range []bool{false, true} {
			for _, lent := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, newest %v, lent %v", bound, dropNewest, lent), func(t *testing.T) {
					t.Parallel()
					cfg := Config{MaxBytes: segments * 4096, MaxAge: 200 * time.Minute, DropNewest: dropNewest}
					minute := time.Duration(0)
					if bound == "age" {
						cfg.MaxBytes, minute = 1<<20, time.Minute
					}
					m := newPromise(rapid.TB(t), cfg)
					m.open()
					m.append(30, 0, "")
					if lent {
						m.next()
					}
					const n = 1000
					for i := range n {
						m.append(i%300, minute, "")
						m.look()
						if i%50 == 0 && lent {
							m.setAside(200)
						}
						most := cfg.MaxBytes + cfg.MaxBytes/10 + 2*cfg.MaxBytes/segments
						extra := m.disk.segmentSize/32 + 2*diskSector + int64(len(m.c.names))*diskSector // the reserve, the marks, the rest of a sector
						if used := int64(m.c.usedBytes()); used > most+extra {
							t.Fatalf("%d bytes are used, for at most %d", used, most+extra)
						}
					}
					if m.close(); m.n != n+1 || len(m.kept) == n+1 {
						t.Errorf("%d appended, %d kept: that was no outage", m.n, len(m.kept))
					}
					if first := m.kept[0].n; dropNewest && bound == "bytes" && first != 1 || lent && first != 1 {
						t.Errorf("the first kept is report %d", first)
					}
					m.crashed(nil)
				})
			}
		}
	}
}

// TestTimesOutOfOrder: a report is not dropped for its age while an older one stays, nor does that lose others.
func TestTimesOutOfOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := newPromise(t, Config{MaxBytes: 9 << 10, MaxAge: 20 * time.Minute})
		m.open()
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				m.append(rapid.IntRange(0, 300).Draw(t, "size"), time.Duration(rapid.IntRange(-6, 8).Draw(t, "minutes"))*time.Minute, "")
			},
			"deliver": func(*rapid.T) { m.deliver(1) },
			"reopen": func(t *rapid.T) {
				m.crashed(drawEnd(t))
				m.open()
			},
			"": func(*rapid.T) { m.look() },
		})
	})
}
