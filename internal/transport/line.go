package transport

import (
	"errors"
	"net"
	"sync"
	"time"
)

const (
	// closing is how long the last words on a connection may take that is being closed. gRPC would wait
	// 5 s for them, and TLS as long again.
	closing = 250 * time.Millisecond
	// pressing is how long a call that has ended may wait for its leftovers to be written.
	pressing = 500 * time.Millisecond
)

// line is a connection below TLS and gRPC, which write to it without a deadline. A peer that reads
// nothing, such as a frozen process, would have them wait for ever, and everything that comes to be
// said meanwhile would pile up. It is safe for concurrent use, as far as a net.Conn is.
type line struct {
	net.Conn
	// stall is how long one Write may take, or up to a quarter less; 0 is for ever.
	stall time.Duration

	mu      sync.Mutex
	writing bool
	pressed bool      // the Write under way has less time than others
	until   time.Time // the deadline that was set last; zero if there is none
	last    time.Time // when all writing ends, once the connection is being closed
}

// Write gives the connection up if it takes too long: the other side has read nothing for so long.
func (l *line) Write(b []byte) (int, error) {
	l.begin()
	n, err := l.Conn.Write(b)
	l.end()
	// After other errors there may still be something to read, such as why.
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		_ = l.Close() // so that the reader, and with it the calls, come to an end
	}
	return n, err
}

func (l *line) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writing, l.pressed = true, false
	var deadline time.Time
	if l.stall > 0 {
		now := time.Now()
		if l.until.Sub(now) >= l.stall*3/4 {
			return // each that is set is a timer of the runtime
		}
		deadline = now.Add(l.stall)
	}
	_ = l.setDeadline(deadline) // an error is the Write's, too
}

func (l *line) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writing = false
}

// setDeadline sets a deadline, or the end of all writing if that comes first.
func (l *line) setDeadline(deadline time.Time) error {
	if !l.last.IsZero() && (deadline.IsZero() || l.last.Before(deadline)) {
		deadline = l.last
	}
	if deadline.IsZero() && l.until.IsZero() {
		return nil
	}
	l.until = deadline
	return l.Conn.SetWriteDeadline(deadline)
}

// press leaves the Write under way, if there is one, little time: a call is over whose words are
// in it or wait behind it, and they must not stay for long.
func (l *line) press() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.writing && !l.pressed {
		l.pressed = true
		_ = l.setDeadline(time.Now().Add(pressing))
	}
}

// SetDeadline, which nobody calls, would pass line by. SetWriteDeadline is what gRPC and TLS do for their last words alone, with seconds to spare for them.
// They get less.
func (l *line) SetWriteDeadline(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last.IsZero() {
		l.last = time.Now().Add(closing)
	}
	return l.setDeadline(t)
}
