package transport

import (
	"context"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
)

// frozen is a peer that takes as much as anybody may send it, and then reads nothing, like a process
// that stands still: its kernel takes what fits, and says so.
func frozen(conn net.Conn) {
	_, _ = io.CopyN(io.Discard, conn, int64(len(http2.ClientPreface)))
	framer := http2.NewFramer(conn, conn)
	_ = framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	_ = framer.WriteWindowUpdate(0, 1<<30)
}

// heap returns how much of it is in use, in bytes.
func heap() uint64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// wordy is a check whose request takes room.
var wordy = &check.Check{Name: "ssh", Type: "port", Details: strings.Repeat("x", 64<<10)}

// TestFrozen: calls that a frozen peer does not read end with their deadline, a second later nothing is
// left of them, and Close does not wait for the peer. It measures the heap, and so runs alone.
func TestFrozen(t *testing.T) {
	for _, secure := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			const address = "127.2.0.1:1"
			var network sim.Net
			l, err := network.Listen(address)
			if err != nil {
				t.Fatal(err)
			}
			agent, peer := &check.Agent{Name: "a", Address: address}, frozen
			if secure {
				ca := tlsidtest.NewCA(t)
				agent.TLS = ca.Issue(t, "poller")
				agent.TLS.ServerName = "checker"
				creds := serverCreds(t, ca.Issue(t, "checker"))
				peer = func(conn net.Conn) {
					if conn, _, err := creds.ServerHandshake(conn); err == nil {
						frozen(conn)
					}
				}
			}
			front(t, l, peer)
			var c *Checker
			labelled(t, func() { c = clientOf(t, agent, network.Dial) })
			goroutinesBefore, before := goroutines(t), heap()
			const rounds, each, deadline = 40, 50, 200 * time.Millisecond
			for range rounds {
				var calls sync.WaitGroup
				labelled(t, func() {
					for range each {
						calls.Go(func() { askFrozen(t, c, deadline) })
					}
				})
				calls.Wait()
			}
			time.Sleep(time.Second)
			if after := heap(); after > before+8<<20 {
				t.Errorf("TLS %t: %d calls leave %d bytes each", secure, rounds*each, (after-before)/(rounds*each))
			}
			fewGoroutines(t, "after the calls", goroutinesBefore+ofConnection)
			began := time.Now()
			_ = c.Close()
			if took := time.Since(began); took > closing {
				t.Errorf("TLS %t: Close took %v", secure, took)
			}
			fewGoroutines(t, "after Close", 0)
		})
	}
}

func askFrozen(t *testing.T, c *Checker, deadline time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	began := time.Now()
	_, err := c.Ask(ctx, wordy)
	if err == nil {
		t.Error("somebody answers")
	}
	if took := time.Since(began); took > deadline {
		t.Errorf("it took %v, the deadline was after %v", took, deadline)
	}
}

// TestCloseFrozen: nor does Close wait in the midst of calls. This is with a real kernel's buffers.
func TestCloseFrozen(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	front(t, l, frozen)
	address := l.Addr().String()
	var conn *writes
	dial := dialer(0, nil)
	c := clientOf(t, &check.Agent{Name: "a", Address: address}, func(ctx context.Context, address string) (net.Conn, error) {
		below, err := dial(ctx, address)
		conn = &writes{Conn: below}
		return conn, err
	})
	connect(t, c)
	failures := make(chan error)
	const calls = 300 // more than kernels keep
	for range calls {
		go func() {
			_, err := c.Ask(within(t, long), wordy)
			failures <- err
		}()
	}
	conn.stuck(t)
	began := time.Now()
	_ = c.Close()
	for range calls {
		wantFailure(t, "Ask", <-failures, check.NoAnswer, address, "given up")
	}
	if took := time.Since(began); took > closing+500*time.Millisecond {
		t.Errorf("Close took %v", took)
	}
}

// writes counts the Writes on a connection.
type writes struct {
	net.Conn
	begun, done atomic.Int64
}

func (w *writes) Write(b []byte) (int, error) {
	w.begun.Add(1)
	defer w.done.Add(1)
	return w.Conn.Write(b)
}

// stuck waits until a Write has not come to an end for a moment.
func (w *writes) stuck(t *testing.T) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for last, ctx := int64(0), within(t, long); ; {
		begun := w.begun.Load()
		if begun > w.done.Load() && begun == last {
			return
		}
		last = begun
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("the peer reads all")
		}
	}
}
