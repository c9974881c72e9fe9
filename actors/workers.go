package actors

import "sync"

// mostIdle is how many workers wait for work at most, about as many as a slot has runs: 25 agents with some checks each. Each
// has a stack of some kB.
const mostIdle = 128

// workers are goroutines that are used again. A new one begins with a small stack, and what actors and calls do needs a
// larger one, which is got by copying: that took a quarter of the time of a check's way through the actors. They are the
// framework's dispatcher, too. Safe for concurrent use; the zero workers are ready.
type workers struct {
	mu     sync.Mutex
	idle   []chan func() // the last that got idle is used first: its stack is likely to be in the CPU's cache
	closed bool
}

// Schedule runs work in a goroutine. It is part of actor.Dispatcher.
func (w *workers) Schedule(work func()) {
	w.mu.Lock()
	last := len(w.idle) - 1
	if last < 0 {
		w.mu.Unlock()
		go w.run(work)
		return
	}
	next := w.idle[last]
	w.idle = w.idle[:last]
	w.mu.Unlock()
	next <- work
}

// Throughput is how many messages an actor may handle before others get a turn, as with the framework's own.
func (w *workers) Throughput() int { return 300 }

func (w *workers) run(work func()) {
	next := make(chan func(), 1)
	for ok := true; ok; work, ok = <-next {
		work()
		if !w.offer(next) {
			return
		}
	}
}

// offer offers a worker that has nothing to do; false if it is not wanted any more.
func (w *workers) offer(next chan func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || len(w.idle) == mostIdle {
		return false
	}
	w.idle = append(w.idle, next)
	return true
}

// close ends the workers that are idle, and others when they have done their work. What is scheduled later is done, too.
func (w *workers) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, next := range w.idle {
		close(next)
	}
	w.idle = nil
}
