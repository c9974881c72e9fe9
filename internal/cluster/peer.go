package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
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
	// writeTimeout is how long a packet may take to get into the kernel's buffer.
	writeTimeout = time.Second
	// dialAgain is the first delay after a connection failed, maxDialAgain the longest.
	dialAgain, maxDialAgain = 100 * time.Millisecond, time.Second
	// peerIdle is how long a connection stays without anything to send.
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
	frame []byte
	since time.Time
}

const frameHead = 4

// frame returns a packet with its length before it.
func frame(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, frameHead+len(b)), uint32(len(b))), b...) //nolint:gosec // bounded by maxPacket
}

// readPacket returns the next packet. In is what was read already; it comes back with what belongs to packets after this one.
func readPacket(r io.Reader, in []byte) (packet, rest []byte, err error) {
	for {
		if len(in) >= frameHead {
			size := int(binary.BigEndian.Uint32(in))
			if size > maxPacket {
				return nil, in, errTooLarge
			}
			if end := frameHead + size; len(in) >= end {
				packet = append(packet, in[frameHead:end]...) // a copy: memberlist keeps it
				return packet, in[:copy(in, in[end:])], nil
			} else if cap(in) < end {
				in = append(make([]byte, 0, end), in...)
			}
		}
		n, err := r.Read(in[len(in):cap(in)])
		if in = in[:len(in)+n]; err != nil {
			return nil, in, err
		}
	}
}

// peer sends packets to an address. Its goroutine has the connection; it ends when nothing was to be sent for a while.
type peer struct {
	t       *transport
	address string
	queue   chan packet

	// conn is nil if there is none, or over if it has ended.
	conn  *conn
	ended *atomic.Bool
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
	defer p.hangUp()
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
	if p.conn != nil && p.ended.Load() {
		p.hangUp() // the peer did, when nothing was on its way
	}
	if p.conn == nil && !p.connect() {
		p.dropAll(1)
		return
	}
	now := time.Now()
	if now.Sub(pkt.since) > tooOld {
		p.t.drop(p.address, errOld, 1)
		return
	}
	_ = p.conn.SetWriteDeadline(now.Add(writeTimeout))
	if _, err := p.conn.Write(pkt.frame); err != nil {
		p.hangUp()
		p.fail(err)
		p.dropAll(1)
	}
}

// connect makes a connection, if it is time to.
func (p *peer) connect() bool {
	if time.Now().Before(p.notBefore) {
		return false
	}
	c, err := p.t.dial(p.address, forPackets, dialTimeout)
	if err != nil {
		p.fail(err)
		return false
	}
	ended := new(atomic.Bool)
	p.t.wg.Go(func() {
		// The other side never says anything on it. So this returns when it is over.
		_, _ = c.Read(make([]byte, 1))
		ended.Store(true)
	})
	p.conn, p.ended, p.delay, p.err = c, ended, 0, nil
	return true
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

func (p *peer) hangUp() {
	if p.conn != nil {
		_ = p.conn.Close()
		p.conn = nil
	}
}
