package cluster

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/check"
)

// TestQueue: to write never blocks, and what waits is bounded; the oldest go.
func TestQueue(t *testing.T) {
	t.Parallel()
	// Somebody who takes packets, and says nothing.
	l, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c := carry(t, check.TLS{})
	const more = 100
	for range mostQueued + more + 1 {
		if _, err := c.WriteTo([]byte("x"), l.LocalAddr().String()); err != nil {
			t.Fatal(err)
		}
	}
	full, failed := 0, 0
	for range mostQueued + more + 1 { // in the end all of them are dropped
		switch err := wait(t, "drop", c.dropped); {
		case errors.Is(err, errFull):
			full++
		case strings.Contains(err.Error(), "does nothing on the way drop UDP to it"):
			failed++
		default:
			t.Errorf("dropped: %v", err)
		}
	}
	if full < more || full > more+1 { // one may be on its way already
		t.Errorf("%d were dropped for others, and %d with the connection", full, failed)
	}
}

// TestOldPackets: what has waited for too long is not sent.
func TestOldPackets(t *testing.T) {
	t.Parallel()
	a, b := carry(t, check.TLS{}), carry(t, check.TLS{})
	p := &peer{t: a.transport, address: b.at()}
	p.send(packet{[]byte("old"), time.Now().Add(-tooOld - time.Second)})
	if err := wait(t, "drop", a.dropped); !errors.Is(err, errOld) {
		t.Errorf("dropped: %v", err)
	}
	p.send(packet{[]byte("new"), time.Now().Add(long)})
	if got := wait(t, "packet", b.packets); string(got.Buf) != "new" {
		t.Errorf("got %q", got.Buf)
	}
}

// TestRetire: a peer to which nothing is sent goes, unless there is something again at that moment; the next packet makes another.
func TestRetire(t *testing.T) {
	t.Parallel()
	a, b := carry(t, check.TLS{}), carry(t, check.TLS{})
	p := &peer{t: a.transport, address: b.at(), queue: make(chan packet, mostQueued)}
	a.peers[b.at()] = p
	if _, err := a.WriteTo([]byte("x"), b.at()); err != nil {
		t.Fatal(err)
	}
	if p.retire() {
		t.Error("it goes though there is something to send")
	}
	<-p.queue
	if !p.retire() {
		t.Error("it stays though there is nothing to send")
	}
	if a.sends(t, []byte("y"), b); len(p.queue) != 0 {
		t.Error("it got something to send after it went")
	}
}

// TestPeerReturns: after a peer's end and return packets get there again; each attempt in between is delayed.
func TestPeerReturns(t *testing.T) {
	t.Parallel()
	a, b := carry(t, check.TLS{}), carry(t, check.TLS{})
	a.sends(t, []byte("1"), b)
	at := b.at()
	if err := b.Shutdown(); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 20 {
		_, _ = a.WriteTo([]byte("lost"), at)
		<-tick.C
	}
	if err := wait(t, "drop", a.dropped); err == nil {
		t.Error("dropped without a reason")
	}
	again := carryAt(t, at, check.TLS{})
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	for {
		_, _ = a.WriteTo([]byte("2"), at)
		select {
		case got := <-again.packets:
			if string(got.Buf) != "2" { // what was sent while it was away is gone
				continue
			}
			return
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("no packet comes")
		}
	}
}

// TestEnded: once a link is known to have ended, the next packet goes by another, and none is lost.
func TestEnded(t *testing.T) {
	t.Parallel()
	a, b := carry(t, check.TLS{}), carry(t, check.TLS{})
	p := &peer{t: a.transport, address: b.at()}
	for i := range byte(3) {
		p.send(packet{[]byte{i}, time.Now().Add(long)})
		if got := wait(t, "packet", b.packets); got.Buf[0] != i {
			t.Errorf("got %v, want %d", got.Buf, i)
		}
		l := a.newest(b.at())
		b.hangUp()
		wait(t, "end of the link", l.conn.Context().Done())
	}
}

// TestReachedMeanwhile: who waits for a node that does not answer, and hears from it then, waits no longer.
func TestReachedMeanwhile(t *testing.T) {
	t.Parallel()
	a := carry(t, check.TLS{})
	l, silent, err := listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := silent.LocalAddr().String()
	if _, err := a.WriteTo([]byte("x"), at); err != nil {
		t.Fatal(err)
	}
	if _, _, err := silent.ReadFrom(make([]byte, 2*datagram)); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	a.mu.Lock()
	p := a.peers[at]
	if end := p.dialed; end != nil {
		p.dialed = sync.OnceFunc(func() { end(); close(ended) })
	} else {
		t.Error("it does not connect")
	}
	a.mu.Unlock()
	b := carryOn(t, l, silent, check.TLS{})
	b.sends(t, nil, a)
	wait(t, "end of the attempt", ended)
	a.sends(t, []byte("x"), b) // the first, or another if that is too old
}
