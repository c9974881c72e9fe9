package daemon_test

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/internal/transport"
)

// cables are the daemon's connections. A host can vanish from them, as one does that loses its power or
// its way: nothing of it is heard any more, not even that it is gone. The zero cables are ready to use.
type cables struct {
	mu       sync.Mutex
	dialed   map[string]time.Time // when an address was first dialed
	held     map[string]map[*cable]bool
	vanished map[string]bool
	failure  error // of whatever is dialed; nil if none
	laid     int   // connections in all
}

// cable is the daemon's end of one.
type cable struct {
	net.Conn
	closed chan struct{}
	dead   chan struct{} // closed when the host has vanished
	once   sync.Once
	end    func()
}

func (w *cables) dialer(network *sim.Net) transport.Dialer {
	return func(ctx context.Context, address string) (net.Conn, error) {
		if err := w.dialing(address); err != nil {
			return nil, err
		}
		for again := time.Second; w.gone(address); again *= 2 { // as TCP asks a host that says nothing
			select {
			case <-time.After(again):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		conn, err := network.Dial(ctx, address)
		if err != nil {
			return nil, err
		}
		return w.hold(address, conn), nil
	}
}

func (w *cables) dialing(address string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dialed == nil {
		w.dialed, w.held = make(map[string]time.Time), make(map[string]map[*cable]bool)
	}
	if _, before := w.dialed[address]; !before {
		w.dialed[address] = time.Now()
		w.held[address] = make(map[*cable]bool)
	}
	return w.failure
}

// fail lets whatever is dialed from now on fail, if err is not nil.
func (w *cables) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failure = err
}

func (w *cables) gone(address string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.vanished[address]
}

func (w *cables) hold(address string, conn net.Conn) *cable {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := &cable{Conn: conn, closed: make(chan struct{}), dead: make(chan struct{})}
	c.end = func() {
		close(c.closed)
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.held[address], c)
	}
	w.held[address][c] = true
	w.laid++
	return c
}

// vanish lets a host vanish.
func (w *cables) vanish(address string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.vanished == nil {
		w.vanished = make(map[string]bool)
	}
	w.vanished[address] = true
	for c := range w.held[address] {
		close(c.dead)
	}
}

// appear lets it come back, knowing nothing of the connections that there were.
func (w *cables) appear(address string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.vanished, address)
}

// since returns when an address was first dialed; zero if it was not.
func (w *cables) since(address string) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dialed[address]
}

// made returns how many connections there have been.
func (w *cables) made() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.laid
}

// counts returns how many connections the daemon has, by address.
func (w *cables) counts() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	counts := make(map[string]int)
	for address, held := range w.held {
		counts[address] = len(held)
	}
	return counts
}

// Read is the daemon's.
func (c *cable) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	select {
	case <-c.dead:
		<-c.closed
		return 0, net.ErrClosed
	default:
		return n, err
	}
}

// Write is the daemon's, too. What is written to nobody goes into a buffer.
func (c *cable) Write(b []byte) (int, error) {
	select {
	case <-c.dead:
		return len(b), nil
	default:
		return c.Conn.Write(b)
	}
}

// Close ends it.
func (c *cable) Close() error {
	c.once.Do(c.end)
	return c.Conn.Close()
}
