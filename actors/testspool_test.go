package actors_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/config"
)

// testSpool is a spool that is told, by operation, to block or fail. It is a memory otherwise, but for what it
// sets aside.
type testSpool struct {
	actors.Spool

	mu      sync.Mutex
	faults  map[string]func(n int) error // before the n-th of an operation
	behind  map[string]func(n int) error // after it
	calls   map[string]int
	durable bool     // what is kept outlives the process
	log     []string // of what removes reports, or is to
	aside   [][]byte
	states  []map[string]string
}

func (s *testSpool) before(operation string, fault func(n int) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.faults == nil {
		s.faults = make(map[string]func(int) error)
	}
	s.faults[operation] = fault
}

func (s *testSpool) after(operation string, fault func(n int) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.behind == nil {
		s.behind = make(map[string]func(int) error)
	}
	s.behind[operation] = fault
}

// count returns how often an operation was begun.
func (s *testSpool) count(operation string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[operation]
}

// do does an operation between its faults.
func (s *testSpool) do(operation string, work func() error) error {
	s.mu.Lock()
	if s.calls == nil {
		s.calls = make(map[string]int)
	}
	s.calls[operation]++
	n, before, after := s.calls[operation], s.faults[operation], s.behind[operation]
	s.mu.Unlock()
	if before != nil {
		if err := before(n); err != nil {
			return err
		}
	}
	err := work()
	if err == nil && after != nil {
		err = after(n)
	}
	return err
}

func (s *testSpool) note(words ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, fmt.Sprint(words...))
}

func (s *testSpool) Append(id string, at time.Time, body []byte, state map[string]string) (tooOld, noRoom []string, err error) {
	err = s.do("append", func() error {
		s.mu.Lock()
		s.states = append(s.states, state)
		s.mu.Unlock()
		tooOld, noRoom, err = s.Spool.Append(id, at, body, state)
		return err
	})
	return tooOld, noRoom, err
}

func (s *testSpool) Next() (id string, body []byte, ok bool, err error) {
	err = s.do("next", func() error {
		id, body, ok, err = s.Spool.Next()
		return err
	})
	return id, body, ok, err
}

func (s *testSpool) Ack(id string) {
	_ = s.do("ack", func() error {
		s.note("ack ", id)
		s.Spool.Ack(id)
		return nil
	})
}

func (s *testSpool) SetAside(id string, body []byte, reason string) error {
	return s.do("set aside", func() error {
		s.note("set aside ", id, ": ", reason)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.aside = append(s.aside, body)
		return nil
	})
}

func (s *testSpool) Safe() error {
	return s.do("safe", func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.durable {
			return nil
		}
		return s.Spool.Safe()
	})
}

// runSpool is run with a testSpool.
func runSpool(t *testing.T, cfg *config.Config, test func(w *world, s *testSpool)) {
	t.Helper()
	s := new(testSpool)
	run(t, cfg, func(w *world) { test(w, s) }, func(o *actors.Options) { s.Spool, o.Spool = o.Spool, s })
}

// hangFrom returns a fault that blocks from the n-th call on, until release is closed.
func hangFrom(n int, release <-chan struct{}) func(int) error {
	return func(call int) error {
		if call >= n {
			<-release
		}
		return nil
	}
}
