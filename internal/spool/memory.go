package spool

import (
	"container/list"
	"errors"
	"sync"
	"time"
)

// ErrInMemory says why what a Memory keeps is lost with the process.
var ErrInMemory = errors.New("reports are kept in memory only")

// Memory is a queue of reports in memory: what it keeps ends with the process. It keeps the
// order of appending and is bounded in bytes and age. It is safe for concurrent use and never blocks.
type Memory struct {
	mu     sync.Mutex
	cfg    Config
	queue  list.List // of memoryRecord, oldest first
	lent   bool      // Next returned the oldest: it is on its way to core and not dropped
	bytes  int64
	recent recent
}

type memoryRecord struct {
	id   string
	at   time.Time
	body []byte
}

// NewMemory returns an empty queue.
func NewMemory(cfg Config) *Memory {
	m := new(Memory)
	m.SetBounds(cfg)
	return m
}

// SetBounds changes the bounds. Smaller ones hold from the next Append on, which drops, and returns, what they leave no
// room for; with DropNewest that is the new report, for as long as too much is kept.
func (m *Memory) SetBounds(cfg Config) {
	m.mu.Lock()
	defer m.mu.Unlock()
	cfg.MaxBytes = min(cfg.MaxBytes, MemoryLimit)
	m.cfg = cfg
}

// Append keeps a report, which took place at, and returns the ids of the reports dropped for it: first
// those that are too old by at, then those that there is no room for, which may be the report itself. An
// id that was appended before changes nothing; if there was no room for it then, there is none now. The
// state is for a next process, of which a Memory knows nothing. It never fails.
func (m *Memory) Append(id string, at time.Time, body []byte, _ map[string]string) (tooOld, noRoom []string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if known, refused := m.recent.find(id); known {
		if refused {
			noRoom = []string{id}
		}
		return nil, noRoom, nil
	}
	size := int64(len(body))
	// Dropping helps only a report that has room beside the one on its way to core. But what is kept may be too much
	// by itself, if the bounds were changed.
	canFit := m.lentBytes()+size <= m.cfg.MaxBytes
	for e := m.droppable(); e != nil; e = m.droppable() {
		if at.Sub(e.Value.(memoryRecord).at) > m.cfg.MaxAge {
			tooOld = append(tooOld, m.remove(e))
			continue
		}
		inTheWay := canFit && m.bytes+size > m.cfg.MaxBytes || m.bytes > m.cfg.MaxBytes
		if !inTheWay || m.cfg.DropNewest {
			break
		}
		noRoom = append(noRoom, m.remove(e))
	}
	if m.bytes+size > m.cfg.MaxBytes {
		m.recent.add(id, true)
		return tooOld, append(noRoom, id), nil
	}
	m.recent.add(id, false)
	m.queue.PushBack(memoryRecord{id: id, at: at, body: body})
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
		return int64(len(e.Value.(memoryRecord).body))
	}
	return 0
}

// Next returns the oldest report, which stays, and is not dropped, until Ack. It never fails.
func (m *Memory) Next() (id string, body []byte, ok bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.queue.Front()
	if e == nil {
		return "", nil, false, nil
	}
	m.lent = true
	r := e.Value.(memoryRecord)
	return r.id, r.body, true, nil
}

// Ack removes the oldest report, if it has this id.
func (m *Memory) Ack(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.queue.Front(); e != nil && e.Value.(memoryRecord).id == id {
		m.remove(e)
		m.lent = false
	}
}

// SetAside keeps nothing: there is no place where people could find it later. It returns ErrInMemory.
func (m *Memory) SetAside(string, []byte, string) error { return ErrInMemory }

// Kept tells how many reports there are, and the bytes of their bodies.
func (m *Memory) Kept() (reports int, bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.queue.Len(), m.bytes
}

// Holding tells what is kept.
func (m *Memory) Holding() Holding {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := Holding{Reports: m.queue.Len(), Bytes: m.bytes}
	if e := m.queue.Front(); e != nil {
		h.Oldest = e.Value.(memoryRecord).at
	}
	return h
}

// Safe returns ErrInMemory: nothing outlives the process.
func (m *Memory) Safe() error { return ErrInMemory }

func (m *Memory) remove(e *list.Element) (id string) {
	r := m.queue.Remove(e).(memoryRecord)
	m.bytes -= int64(len(r.body))
	return r.id
}
