package transport

import (
	"context"
	"net"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/sim"
)

// nameServer is a name server that knows one address for every name.
type nameServer struct {
	address atomic.Pointer[[4]byte]
	asked   atomic.Int64
}

func (n *nameServer) set(t *testing.T, host string) {
	t.Helper()
	address := [4]byte(net.ParseIP(host).To4())
	n.address.Store(&address)
}

// serve starts the name server and returns a resolver that asks it.
func (n *nameServer) serve(t *testing.T) *net.Resolver {
	t.Helper()
	conn, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		b := make([]byte, 1500)
		for {
			size, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			answer, err := n.answer(b[:size])
			if err != nil {
				t.Errorf("the question makes no sense: %v", err)
			}
			_, _ = conn.WriteTo(answer, from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func (n *nameServer) answer(question []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil {
		return nil, err
	}
	m.Response, m.Additionals = true, nil
	if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
		n.asked.Add(1)
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 3600},
			Body:   &dnsmessage.AResource{A: *n.address.Load()},
		}}
	}
	return m.Pack()
}

// TestNamesAreFollowed: a name is looked up for each connection, so that one which moved is found
// where it is, however long its old address was to hold.
func TestNamesAreFollowed(t *testing.T) {
	t.Parallel()
	var n nameServer
	dial := dialer(0, n.serve(t))
	homes := []string{ownHost(), ownHost()}
	checkers, cores := []*sim.Checker{sim.NewChecker(sim.OK()), sim.NewChecker(sim.OK())}, []*sim.Core{{}, {}}
	const port, corePort = ":50051", ":50052"
	c := clientOf(t, &check.Agent{Name: "a", Address: "checker.test." + port}, dial)
	core := newCore(t, CoreConfig{Addresses: []string{"core.test." + corePort}, Dial: dial})
	for i, home := range homes {
		n.set(t, home)
		checker, its := startCheckerAt(t, checkers[i], home+port, nil), startCore(t, cores[i], home+corePort)
		for range 2 {
			if _, err := c.Ask(within(t, long), ssh); err != nil {
				t.Errorf("Ask at home %d: %v", i, err)
			}
			mustDeliver(t, core, i, "a/ssh")
		}
		if got := checkers[i].AllCalls(); got != 2 {
			t.Errorf("the checker of home %d was asked %d times, want 2", i, got)
		}
		if got := len(cores[i].Deliveries()); got != 2 {
			t.Errorf("the core of home %d has %d deliveries, want 2", i, got)
		}
		if got := n.asked.Load(); got != 2*int64(i+1) {
			t.Errorf("%d names were looked up by home %d, want one for each connection", got, i)
		}
		checker.Stop()
		its.Stop()
		lost(t, c)
		lostCore(t, core)
	}
}

// lostCore waits until the client has seen that its connection is gone.
func lostCore(t *testing.T, c *Core) {
	t.Helper()
	ctx := within(t, long)
	for state := c.conn.cc.GetState(); !gone(state); state = c.conn.cc.GetState() {
		if !c.conn.cc.WaitForStateChange(ctx, state) {
			t.Fatal("the client has not seen the end of its connection")
		}
	}
}
