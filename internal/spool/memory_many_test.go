package spool

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// TestMemoryPromisesNothingBeyondTheProcess: neither what it keeps nor what it is to set aside.
func TestMemoryPromisesNothingBeyondTheProcess(t *testing.T) {
	t.Parallel()
	m := NewMemory(Config{MaxBytes: 100, MaxAge: time.Hour})
	_, _, _ = m.Append("a", start, []byte("x"), nil)
	_, _, _, _ = m.Next()
	if err := m.SetAside("a", []byte("x"), "refused"); !errors.Is(err, ErrInMemory) {
		t.Errorf("SetAside: %v", err)
	}
	if id, _, ok, _ := m.Next(); !ok || id != "a" {
		t.Error("SetAside has removed the report")
	}
	if err := m.Safe(); !errors.Is(err, ErrInMemory) {
		t.Errorf("Safe: %v", err)
	}
}

// TestMemoryByManyAtOnce: several append the same reports, as restarted reporters do, while one delivers. Each
// report is delivered once, and those of each of them in order.
func TestMemoryByManyAtOnce(t *testing.T) {
	t.Parallel()
	const writers, each = 4, 200
	m := NewMemory(Config{MaxBytes: MemoryLimit, MaxAge: time.Hour})
	var all sync.WaitGroup
	for w := range writers {
		for range 2 { // the predecessor's call and the successor's
			all.Go(func() {
				for n := range each {
					if tooOld, noRoom, err := m.Append(fmt.Sprint(w, "/", n), start, []byte("x"), nil); tooOld != nil || noRoom != nil || err != nil {
						t.Errorf("append: %v, %v, %v", tooOld, noRoom, err)
					}
					_, _ = m.Kept()
				}
			})
		}
	}
	written := make(chan struct{})
	go func() { all.Wait(); close(written) }()
	var next [writers]int
	for delivered := 0; delivered < writers*each; {
		id, _, ok, _ := m.Next()
		if !ok {
			select {
			case <-written:
				if kept, _ := m.Kept(); kept == 0 {
					t.Fatalf("%d reports were delivered, want %d", delivered, writers*each)
				}
			default:
			}
			continue
		}
		var w, n int
		if _, err := fmt.Sscanf(id, "%d/%d", &w, &n); err != nil || next[w] != n {
			t.Fatalf("%s is delivered when number %d of it was due (%v)", id, next[w], err)
		}
		next[w]++
		delivered++
		m.Ack(id)
	}
	<-written
	if kept, bytes := m.Kept(); kept != 0 || bytes != 0 {
		t.Errorf("%d reports of %d bytes are left", kept, bytes)
	}
}
