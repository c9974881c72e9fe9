package sim

import (
	"errors"
	"net"
	"sync"
)

// junk is what Garbage answers: no frame of HTTP/2 begins like this.
var junk = []byte("\x00\xff\x13\x37 this is no protocol at all \xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")

const oldWebServer = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 11\r\nConnection: close\r\n\r\nBad Request"

var errCut = errors.New("sim: the connection was cut")

// wires are the connections of a host, between its listener and its server.
type wires struct {
	work sync.WaitGroup // accepting and draining

	mu      sync.Mutex
	kind    Kind
	changed chan struct{} // closed when kind changes; nil if nobody waits
	queue   *queue        // where new connections go
	all     map[*wire]bool
}

// wire is one of them.
type wire struct {
	net.Conn
	of     *wires
	closed chan struct{}
	once   sync.Once
}

func (w *wires) set(k Kind) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.kind != k && w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
	w.kind = k
}

// accept lets what comes to a listener into a server's queue, or what redirect says, until it closes.
func (w *wires) accept(l net.Listener, q *queue) {
	w.redirect(q)
	w.work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			w.take(&wire{Conn: conn, of: w, closed: make(chan struct{})})
		}
	})
}

func (w *wires) redirect(q *queue) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = q
}

func (w *wires) take(c *wire) {
	w.mu.Lock()
	if w.all == nil {
		w.all = make(map[*wire]bool)
	}
	w.all[c] = true
	w.mu.Unlock()
	for {
		w.mu.Lock()
		q := w.queue
		w.mu.Unlock()
		if q.put(c) {
			return
		}
		w.mu.Lock()
		over := w.queue == q // and no other server has taken its place
		w.mu.Unlock()
		if over {
			_ = c.Close()
			return
		}
	}
}

// cut ends all connections.
func (w *wires) cut() {
	w.mu.Lock()
	var all []*wire
	for c := range w.all {
		all = append(all, c)
	}
	w.mu.Unlock()
	for _, c := range all {
		c.cut()
	}
}

// wait waits for what goes on to end, once listener and server are closed.
func (w *wires) wait() { w.work.Wait() }

// state returns the kind of the moment, and a channel that is closed when it is another.
func (w *wires) state() (Kind, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed == nil {
		w.changed = make(chan struct{})
	}
	return w.kind, w.changed
}

// pass waits while the host stands still, and returns what it is like then.
func (c *wire) pass() (Kind, error) {
	for {
		kind, changed := c.of.state()
		if kind != KindFrozen && kind != KindSilent {
			return kind, nil
		}
		select {
		case <-changed:
		case <-c.closed:
			return kind, net.ErrClosed
		}
	}
}

// Read is the server's.
func (c *wire) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		kind, stopped := c.pass()
		switch {
		case stopped != nil:
			return 0, stopped
		case err != nil:
			return n, err
		case kind == KindGarbage:
			_, _ = c.Conn.Write(junk) // who does not want to hear it closes
		case kind == KindHTTP1:
			_, _ = c.Conn.Write([]byte(oldWebServer))
			_ = c.Close()
			return 0, errCut
		case kind == KindReset:
			c.cut()
			return 0, errCut
		default:
			return n, nil
		}
	}
}

// Write is the server's. What it says itself is left out where something else is said for it.
func (c *wire) Write(b []byte) (int, error) {
	switch kind, err := c.pass(); {
	case err != nil:
		return 0, err
	case kind == KindGarbage || kind == KindHTTP1 || kind == KindReset:
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// Close ends the connection in order.
func (c *wire) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.of.mu.Lock()
		delete(c.of.all, c)
		c.of.mu.Unlock()
	})
	return c.Conn.Close()
}

// cut ends the connection with a reset, where there is such a thing.
func (c *wire) cut() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

// queue is a listener whose connections are put into it.
type queue struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newQueue(addr net.Addr) *queue {
	return &queue{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
}

// put hands a connection to who accepts; false once the queue is closed.
func (q *queue) put(c net.Conn) bool {
	select {
	case q.conns <- c:
		return true
	case <-q.done:
		return false
	}
}

// Accept is the server's.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept and put.
func (q *queue) Close() error {
	q.once.Do(func() { close(q.done) })
	return nil
}

// Addr is the host's.
func (q *queue) Addr() net.Addr { return q.addr }
