package transport

import (
	"context"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/internal/wire"
	"github.com/serviceradar/poller/proto/monitoring"
)

// cuttable is a listener that can be cut off: the kernel then drops all that comes for it and its
// connections, unseen by TCP, as a firewall would that has forgotten them.
type cuttable struct {
	*net.TCPListener
	t *testing.T

	mu    sync.Mutex
	conns []*net.TCPConn
}

func listenCuttable(t *testing.T) *cuttable {
	t.Helper()
	var config net.ListenConfig
	config.SetMultipathTCP(false) // such sockets take no filter
	l, err := config.Listen(t.Context(), "tcp", ownHost()+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return &cuttable{TCPListener: l.(*net.TCPListener), t: t}
}

func (l *cuttable) Accept() (net.Conn, error) {
	conn, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, conn)
	return conn, nil
}

func onSocket(t *testing.T, conn syscall.Conn, do func(fd int) error) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err == nil {
		if e := raw.Control(func(fd uintptr) { err = do(int(fd)) }); e != nil {
			err = e
		}
	}
	if err != nil {
		t.Errorf("socket option: %v", err)
	}
}

func dropAll(fd int) error {
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{
		Len: 1, Filter: &unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	})
}

// quiet waits until nothing is on its way to a peer any more, and nothing was for a moment.
func quiet(t *testing.T, conn net.Conn) {
	t.Helper()
	for tick, ctx := time.NewTicker(10*time.Millisecond), within(t, long); ; {
		var info *unix.TCPInfo
		onSocket(t, conn.(*net.TCPConn), func(fd int) (err error) {
			info, err = unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
			return err
		})
		if info != nil && info.Unacked == 0 && info.Last_data_sent > 50 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("the connection does not get quiet")
		}
	}
}

// cut cuts off the listener and the connections it has.
func (l *cuttable) cut() {
	onSocket(l.t, l.TCPListener, dropAll)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range l.conns {
		onSocket(l.t, conn, dropAll)
	}
}

// mend lets new connections come about; the old ones stay cut off.
func (l *cuttable) mend() {
	onSocket(l.t, l.TCPListener, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
	})
}

// cutChecker serves a checker that can be cut off, and returns a client that finds out as soon as it can.
func cutChecker(t *testing.T, behave sim.Behaviour) (*Checker, *cuttable) {
	t.Helper()
	l := listenCuttable(t)
	t.Cleanup(sim.NewChecker(behave).Serve(l, nil).Stop)
	c, err := NewChecker(&check.Agent{Name: "a", Address: l.Addr().String(), HealthService: "AgentService"},
		CheckerConfig{PollerID: "p", FindDead: soonest})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, l
}

// The kernel may take a little longer than it should, and so may we.
const (
	deadInUse = soonest + 2*time.Second
	deadIdle  = soonest + 2*time.Second
)

// answersAgain wants the checker to answer over a new connection, once it is mended.
func answersAgain(t *testing.T, c *Checker, l *cuttable) {
	t.Helper()
	l.mend()
	for range 3 { // the first one may meet an attempt to connect that began before
		if _, err := c.Ask(within(t, long), ssh); err == nil {
			break
		}
	}
	if answer, err := c.Ask(within(t, long), ssh); err != nil || !answer.Available {
		t.Errorf("mended: %+v, %v", answer, err)
	}
	if n := c.Connections(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

// TestDeadWhileIdle: nobody uses the connection, and nobody needs to: it is found dead, and the next
// call goes over a new one.
func TestDeadWhileIdle(t *testing.T) {
	t.Parallel()
	c, l := cutChecker(t, sim.OK())
	if _, err := c.Ask(within(t, long), ssh); err != nil {
		t.Fatal(err)
	}
	quiet(t, c.link.line.Load().Conn)
	l.cut()
	began := time.Now()
	lost(t, c)
	if took := time.Since(began); took > deadIdle {
		t.Errorf("it took %v", took)
	}
	answersAgain(t, c, l)
}

// TestDeadInUse: a call over a connection that is dead ends as soon as that is known.
func TestDeadInUse(t *testing.T) {
	t.Parallel()
	c, l := cutChecker(t, sim.OK())
	if _, err := c.Ask(within(t, long), ssh); err != nil {
		t.Fatal(err)
	}
	l.cut()
	began := time.Now()
	_, err := c.Ask(within(t, long), ssh)
	wantFailure(t, "Ask", err, check.Unreachable, l.Addr().String(), "lost", "timed out")
	if took := time.Since(began); took > deadInUse {
		t.Errorf("it took %v", took)
	}
	answersAgain(t, c, l)
}

// TestDeadInTheMidst: the peer has the whole call, and dies over it.
func TestDeadInTheMidst(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{})
	var once sync.Once
	behave := sim.OK()
	answer := behave.Answer
	behave.Answer = func(ctx context.Context, r *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
		first := false
		once.Do(func() { first = true; close(entered) })
		if first {
			<-ctx.Done()
		}
		return answer(ctx, r)
	}
	c, l := cutChecker(t, behave)
	done := make(chan error, 1)
	go func() {
		_, err := c.Ask(within(t, long), ssh)
		done <- err
	}()
	<-entered
	quiet(t, c.link.line.Load().Conn)
	l.cut()
	began := time.Now()
	wantFailure(t, "Ask", <-done, check.Unreachable, l.Addr().String(), "lost", "timed out")
	if took := time.Since(began); took > deadIdle {
		t.Errorf("it took %v", took)
	}
	answersAgain(t, c, l)
}

// TestIntoTheVoid: the address swallows what is sent to it.
func TestIntoTheVoid(t *testing.T) {
	t.Parallel()
	c, l := cutChecker(t, sim.OK())
	l.cut()
	began := time.Now()
	_, err := c.Ask(within(t, time.Second), ssh)
	wantFailure(t, "Ask", err, check.Unreachable, l.Addr().String(), "no connection within 1")
	if took := time.Since(began); took > deadInUse {
		t.Errorf("it took %v", took)
	}
	l.mend()
	if _, err := c.Ask(within(t, long), ssh); err != nil {
		t.Errorf("mended: %v", err)
	}
}

// TestCoreDead: a report over a dead connection fails as soon as that is known, and is delivered by
// the next try. One that comes later does not even notice.
func TestCoreDead(t *testing.T) {
	t.Parallel()
	for name, idle := range map[string]bool{"in use": false, "idle": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := listenCuttable(t)
			core := new(sim.Core)
			t.Cleanup(core.Serve(l, nil).Stop)
			c := newCore(t, CoreConfig{Addresses: []string{l.Addr().String()}, FindDead: soonest})
			mustDeliver(t, c, 1, "a/ssh")
			quiet(t, c.conn.link.line.Load().Conn)
			l.cut()
			began := time.Now()
			if idle {
				lostCore(t, c)
			} else {
				wantError(t, "dead", deliver(t, c, 2, "a/ssh"), wire.Retry, l.Addr().String(), "timed out")
			}
			if took := time.Since(began); took > deadIdle {
				t.Errorf("it took %v", took)
			}
			l.mend()
			mustDeliver(t, c, 2, "a/ssh")
			wantTaken(t, core, "stream p/1/1 a/ssh", "stream p/1/2 a/ssh")
		})
	}
}

// TestSocketOptions: what was reckoned is on the sockets.
func TestSocketOptions(t *testing.T) {
	t.Parallel()
	const within30 = 30 * time.Second
	l := listenCuttable(t)
	t.Cleanup(sim.NewChecker(sim.OK()).Serve(l, nil).Stop)
	c, err := NewChecker(&check.Agent{Name: "a", Address: l.Addr().String()}, CheckerConfig{FindDead: within30})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	connect(t, c)
	core := newCore(t, CoreConfig{Addresses: []string{startCore(t, new(sim.Core), "127.0.0.1:0").Addr()}, FindDead: within30})
	mustDeliver(t, core, 1, "a/ssh")
	for name, link := range map[string]*link{"checker": c.link, "core": core.conn.link} {
		conn, ok := link.line.Load().Conn.(*net.TCPConn)
		if !ok {
			t.Fatalf("%s: the connection is a %T", name, link.line.Load().Conn)
		}
		for option, want := range map[int]int{
			unix.TCP_KEEPIDLE: 13, unix.TCP_KEEPINTVL: 4, unix.TCP_KEEPCNT: 3, unix.TCP_USER_TIMEOUT: 23_000,
		} {
			onSocket(t, conn, func(fd int) error {
				got, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, option)
				if err == nil && got != want {
					t.Errorf("%s: option %d is %d, want %d", name, option, got, want)
				}
				return err
			})
		}
		onSocket(t, conn, func(fd int) error {
			on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE)
			if err == nil && on == 0 {
				t.Errorf("%s: no probes are sent", name)
			}
			return err
		})
	}
}
