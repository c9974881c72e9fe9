package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// How packets go out.
const (
	// mostQueued bounds the packets that wait for a connection; the oldest go first.
	mostQueued = 256
	// tooOld is the age from which a packet is not sent any more: an old ping or beat says nothing that is still true.
	tooOld = 500 * time.Millisecond
	// dialTimeout is how long a connection may take to come about, on machines that are busy.
	dialTimeout = time.Second
	// dialAgain is the first delay after a connection failed, maxDialAgain the longest.
	dialAgain, maxDialAgain = 100 * time.Millisecond, time.Second
	// peerIdle is how long a peer is remembered without anything to send.
	peerIdle = time.Minute
)

var (
	errTooLarge = fmt.Errorf("a packet of more than %d bytes", maxPacket)
	errOld      = errors.New("they waited for too long")
	errFull     = errors.New("too many wait")
	errDelayed  = errors.New("a connection to it has just failed")
)

// packet is one that is to be sent.
type packet struct {
	body  []byte
	since time.Time
}

// peer sends packets to an address. Its goroutine connects if there is no link; it ends when nothing was to be sent for a while.
type peer struct {
	t       *transport
	address string
	queue   chan packet

	// dialed ends the handshake that is under way, because there is a link. Nil if there is none; t.mu is for it.
	dialed func()
	// notBefore is when to connect next, and delay how long to wait if that fails.
	notBefore time.Time
	delay     time.Duration
	err       error // of the last attempt
}

// put queues a packet, in place of the oldest if there are too many. t.mu is held.
func (p *peer) put(pkt packet) {
	for {
		select {
		case p.queue <- pkt:
			return
		default:
		}
		select {
		case <-p.queue:
			p.t.drop(p.address, errFull, 1)
		default:
		}
	}
}

func (p *peer) run() {
	idle := time.NewTimer(peerIdle)
	defer idle.Stop()
	for {
		select {
		case <-p.t.ctx.Done():
			return
		case <-idle.C:
			if p.retire() {
				return
			}
		case pkt := <-p.queue:
			p.send(pkt)
		}
		idle.Reset(peerIdle)
	}
}

// retire takes the peer out, unless there is something to send again.
func (p *peer) retire() bool {
	p.t.mu.Lock()
	defer p.t.mu.Unlock()
	if len(p.queue) > 0 {
		return false
	}
	delete(p.t.peers, p.address)
	return true
}

func (p *peer) send(pkt packet) {
	l := p.t.newest(p.address)
	if l == nil {
		if l = p.connect(); l == nil {
			p.dropAll(1)
			return
		}
	}
	if time.Since(pkt.since) > tooOld {
		p.t.drop(p.address, errOld, 1)
		return
	}
	if err := p.t.send(p.address, l, pkt.body); err != nil {
		p.t.drop(p.address, unreached(err), 1) // the next goes by another link
	}
}

// connect returns a link, if it is time to make one, or there is one meanwhile.
func (p *peer) connect() *link {
	if time.Now().Before(p.notBefore) {
		return nil
	}
	ctx, cancel := context.WithTimeout(p.t.ctx, dialTimeout)
	defer cancel()
	p.dialing(cancel)
	l, err := p.t.dialLink(ctx, p.address)
	p.dialing(nil)
	if err == nil {
		p.t.wg.Go(func() { p.t.serve(l) })
	} else if l = p.t.newest(p.address); l == nil { // he has not connected to us either
		p.fail(err)
		return nil
	}
	p.delay, p.err = 0, nil
	return l
}

func (p *peer) dialing(cancel func()) {
	p.t.mu.Lock()
	defer p.t.mu.Unlock()
	p.dialed = cancel
}

// fail delays the next connection.
func (p *peer) fail(err error) {
	p.delay = min(max(dialAgain, 2*p.delay), maxDialAgain)
	p.notBefore, p.err = time.Now().Add(p.delay), err
}

// dropAll drops what is queued, and some more: it would be old by the time of the next connection.
func (p *peer) dropAll(more int) {
	for {
		select {
		case <-p.queue:
			more++
		default:
			err := p.err
			if err == nil {
				err = errDelayed
			}
			p.t.drop(p.address, err, more)
			return
		}
	}
}
