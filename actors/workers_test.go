package actors

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// busyFor is work that takes a while.
func busyFor(d time.Duration, ran *atomic.Int64) func() {
	return func() {
		ran.Add(1)
		time.Sleep(d)
	}
}

func (w *workers) waiting() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.idle)
}

// TestWorkersAreUsedAgain: one after the other, one worker does it all; at once, there are as many as there is work, and
// only some of them stay.
func TestWorkersAreUsedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var w workers
		var ran atomic.Int64
		for range 10 {
			w.Schedule(busyFor(time.Second, &ran))
			time.Sleep(2 * time.Second)
		}
		if n := w.waiting(); n != 1 || ran.Load() != 10 {
			t.Errorf("%d workers wait after %d works, one after the other", n, ran.Load())
		}
		const many = 2 * mostIdle
		for range many {
			w.Schedule(busyFor(time.Second, &ran))
		}
		synctest.Wait()
		if ran.Load() != 10+many {
			t.Errorf("%d works of %d run at once", ran.Load()-10, many)
		}
		time.Sleep(2 * time.Second)
		if n := w.waiting(); n != mostIdle {
			t.Errorf("%d workers wait after %d works at once, want %d", n, many, mostIdle)
		}
		w.close() // or the bubble's end finds goroutines that wait for ever
	})
}

// TestWorkersEnd: nothing that is scheduled is lost, when it is scheduled while they are closed or after that; and nobody stays.
func TestWorkersEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var w workers
		var ran atomic.Int64
		w.Schedule(busyFor(time.Second, &ran))
		w.Schedule(busyFor(time.Hour, &ran)) // is at it when they are closed
		time.Sleep(2 * time.Second)
		w.close()
		w.Schedule(busyFor(time.Second, &ran))
		time.Sleep(2 * time.Hour)
		if n := w.waiting(); n != 0 || ran.Load() != 3 {
			t.Errorf("%d workers wait, and %d works of 3 ran", n, ran.Load())
		}
	})
}

// TestWorkersAtOnce is for the race detector.
func TestWorkersAtOnce(t *testing.T) {
	t.Parallel()
	var w workers
	var ran atomic.Int64
	var callers, works sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for range 500 {
				works.Add(1)
				w.Schedule(func() {
					ran.Add(1)
					works.Done()
				})
			}
		})
	}
	callers.Wait()
	works.Wait()
	w.close()
	if ran.Load() != 8*500 {
		t.Errorf("%d works of %d ran", ran.Load(), 8*500)
	}
}
