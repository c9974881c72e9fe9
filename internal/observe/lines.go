package observe

import (
	"io"
	"slices"
	"sync/atomic"
)

// lines is a writer that never waits: what is written goes on to w, from a goroutine of its own. If w is too slow, the oldest of
// the lines that wait are left out, and missed tells how many once w goes on. While nothing is written it does nothing, for to
// look every now and then is dear: a process that wakes up twenty times a second needs as much of the CPU for that as for the
// checks of hundreds of agents. Safe for concurrent use.
type lines struct {
	w       io.Writer
	missed  func(lines int)
	waiting chan []byte
	leftOut atomic.Int64 // and not told yet
	closing chan struct{}
	ended   chan struct{}
}

// newLines returns lines of which at most so many wait.
func newLines(w io.Writer, most int, missed func(lines int)) *lines {
	l := &lines{w: w, missed: missed, waiting: make(chan []byte, most), closing: make(chan struct{}), ended: make(chan struct{})}
	go l.run()
	return l
}

func (l *lines) Write(line []byte) (int, error) {
	kept := slices.Clone(line) // its memory is the caller's
	for {
		select {
		case l.waiting <- kept:
			return len(line), nil
		default:
		}
		select {
		case <-l.waiting:
			l.leftOut.Add(1)
		default: // there is room again
		}
	}
}

// close has what waits written, after which ended is closed. What is written later is lost. Call it once.
func (l *lines) close() { close(l.closing) }

func (l *lines) run() {
	defer close(l.ended)
	for {
		select {
		case line := <-l.waiting:
			l.write(line)
		case <-l.closing:
			l.writeRest()
			return
		}
	}
}

func (l *lines) writeRest() {
	for {
		select {
		case line := <-l.waiting:
			l.write(line)
		default:
			return
		}
	}
}

func (l *lines) write(line []byte) {
	if n := l.leftOut.Swap(0); n > 0 {
		l.missed(int(n))
	}
	_, _ = l.w.Write(line) // there is nobody to tell
}
