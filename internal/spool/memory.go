// Package spool keeps the reports that the reporter has taken and core has not acknowledged.
package spool

import (
	"container/list"
	"slices"
	"time"
)

// MemoryLimit bounds what a Memory keeps, whatever it is configured to.
const MemoryLimit = 64 << 20

// remembered is how many of the last ids a Memory knows again after they are gone: more than
// there can be reports whose appending nobody confirmed.
const remembered = 1024

// Config bounds a spool.
type Config struct {
	// MaxBytes bounds the bodies kept; a Memory keeps at most MemoryLimit.
	MaxBytes int64
	// MaxAge is how long a report is kept for core.
	MaxAge time.Duration
	// DropNewest refuses new reports when there is no room, instead of dropping the oldest.
	DropNewest bool
}

// Memory is a queue of reports in memory: what it keeps ends with the process. It keeps the
// order of appending and is bounded in bytes and age. It is used by one goroutine at a time.
type Memory struct {
	cfg    Config
	queue  list.List // of record, oldest first
	lent   bool      // Next returned the oldest: it is on its way to core and not dropped
	bytes  int64
	recent []appended // the latest, a ring
	next   int
}

// appended is an id that Append knows again.
type appended struct {
	id      string
	refused bool // there was no room for the report
}

type record struct {
	id   string
	at   time.Time
	body []byte
}

// NewMemory returns an empty queue.
func NewMemory(cfg Config) *Memory {
	cfg.MaxBytes = min(cfg.MaxBytes, MemoryLimit)
	return &Memory{cfg: cfg}
}

// Append keeps a report, which took place at, and returns the ids of the reports dropped for it: first
// those that are too old by at, then those that there is no room for, which may be the report itself. An
// id that was appended before changes nothing; if there was no room for it then, there is none now. It
// never fails.
func (m *Memory) Append(id string, at time.Time, body []byte) (tooOld, noRoom []string, err error) {
	if i := slices.IndexFunc(m.recent, func(a appended) bool { return a.id == id }); i >= 0 {
		if m.recent[i].refused {
			return nil, []string{id}, nil
		}
		return nil, nil, nil
	}
	size := int64(len(body))
	// Dropping helps only a report that has room beside the one on its way to core.
	canFit := m.lentBytes()+size <= m.cfg.MaxBytes
	for e := m.droppable(); e != nil; e = m.droppable() {
		if at.Sub(e.Value.(record).at) > m.cfg.MaxAge {
			tooOld = append(tooOld, m.remove(e))
			continue
		}
		if inTheWay := m.bytes+size > m.cfg.MaxBytes && canFit && !m.cfg.DropNewest; !inTheWay {
			break
		}
		noRoom = append(noRoom, m.remove(e))
	}
	if m.bytes+size > m.cfg.MaxBytes {
		m.remember(appended{id: id, refused: true})
		return tooOld, append(noRoom, id), nil
	}
	m.remember(appended{id: id})
	m.queue.PushBack(record{id: id, at: at, body: body})
	m.bytes += size
	return tooOld, noRoom, nil
}

// droppable returns the oldest report that is not on its way to core.
func (m *Memory) droppable() *list.Element {
	if e := m.queue.Front(); e == nil || !m.lent {
		return e
	}
	return m.queue.Front().Next()
}

func (m *Memory) lentBytes() int64 {
	if e := m.queue.Front(); e != nil && m.lent {
		return int64(len(e.Value.(record).body))
	}
	return 0
}

// Next returns the oldest report, which stays, and is not dropped, until Ack.
func (m *Memory) Next() (id string, body []byte, ok bool) {
	e := m.queue.Front()
	if e == nil {
		return "", nil, false
	}
	m.lent = true
	r := e.Value.(record)
	return r.id, r.body, true
}

// Ack removes the oldest report, if it has this id.
func (m *Memory) Ack(id string) {
	if e := m.queue.Front(); e != nil && e.Value.(record).id == id {
		m.remove(e)
		m.lent = false
	}
}

// Kept tells how many reports there are, and the bytes of their bodies.
func (m *Memory) Kept() (reports int, bytes int64) { return m.queue.Len(), m.bytes }

func (m *Memory) remove(e *list.Element) (id string) {
	r := m.queue.Remove(e).(record)
	m.bytes -= int64(len(r.body))
	return r.id
}

func (m *Memory) remember(a appended) {
	if len(m.recent) < remembered {
		m.recent = append(m.recent, a)
		return
	}
	m.recent[m.next] = a
	m.next = (m.next + 1) % remembered
}
