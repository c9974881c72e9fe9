package transport

import (
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// unread is a connection that has no room for what is written while it is full, because the peer reads nothing.
type unread struct {
	net.Conn
	full     bool
	deadline time.Time
	sets     int
}

func (u *unread) SetWriteDeadline(t time.Time) error {
	u.deadline, u.sets = t, u.sets+1
	return nil
}

func (u *unread) Write(b []byte) (int, error) {
	if !u.full {
		return len(b), nil
	}
	<-time.After(time.Until(u.deadline))
	return 0, os.ErrDeadlineExceeded
}

func (u *unread) Close() error { return nil }

// TestWriteDeadline: a deadline is set anew only when the last one has come near, and no Write has much less time for it.
func TestWriteDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const stall = 8 * time.Second
		below := new(unread)
		l := &line{Conn: below, stall: stall}
		write := func() {
			if _, err := l.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		for range 100 {
			write()
		}
		if below.sets != 1 {
			t.Errorf("100 writes at once set %d deadlines", below.sets)
		}
		<-time.After(stall / 4)
		write()
		<-time.After(time.Millisecond)
		write()
		if below.sets != 2 {
			t.Errorf("a quarter later, deadlines were set %d times", below.sets)
		}
		<-time.After(10 * stall) // as between two cycles
		write()
		<-time.After(stall / 5)
		began := time.Now()
		below.full = true
		_, err := l.Write([]byte("x"))
		if took := time.Since(began); !errors.Is(err, os.ErrDeadlineExceeded) || took < stall*3/4 || took > stall {
			t.Errorf("a Write that finds no room ended after %v with %v", took, err)
		}
	})
}
