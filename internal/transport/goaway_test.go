package transport

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/internal/wire"
	"github.com/serviceradar/poller/proto/monitoring"
)

// register is what a checker and a core have in common.
type register interface{ Register(grpc.ServiceRegistrar) }

// restless serves on an address and ends its connections in an orderly way after a few ms each.
func restless(t *testing.T, service register, age time.Duration) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: age}))
	service.Register(server)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return l.Addr().String()
}

func results(context.Context, *monitoring.ResultsRequest) (*monitoring.ResultsResponse, error) {
	return &monitoring.ResultsResponse{Data: []byte("[1]")}, nil
}

// TestGoAwayCostsNoStatus: a checker that has each connection end after a moment, in good order,
// answers every call all the same, whatever its method.
func TestGoAwayCostsNoStatus(t *testing.T) {
	t.Parallel()
	behave := sim.Slow(2 * time.Millisecond)
	behave.Results = results
	behave.Chunks = sending(nil, chunked("[1]", "[2]")...).Chunks
	c := newClient(t, restless(t, sim.NewChecker(behave), 10*time.Millisecond), check.TLS{})
	var callers sync.WaitGroup
	for i := range 12 {
		callers.Go(func() {
			for c.Connections() < 8 && t.Context().Err() == nil {
				var err error
				switch i % 4 {
				case 0:
					_, err = c.Results(within(t, long), asking(check.GetResults, "sync"), "")
				case 1:
					_, err = c.Results(within(t, long), asking(check.StreamResults, "sync"), "")
				case 2:
					_, err = c.Health(within(t, long))
				default:
					_, err = c.Ask(within(t, long), ssh)
				}
				if err != nil {
					t.Errorf("caller %d: %v", i, err)
				}
			}
		})
	}
	callers.Wait()
}

// TestGoAwayCostsNoReport: nor does a core that does so lose a report, get one twice, or get its
// poller sent elsewhere.
func TestGoAwayCostsNoReport(t *testing.T) {
	t.Parallel()
	core := new(sim.Core)
	dial, dialed := counting()
	c := newCore(t, CoreConfig{Addresses: []string{restless(t, core, 20*time.Millisecond), nobody}, Dial: dial})
	var want []string
	for n := 0; dialed.Load() < 8 && t.Context().Err() == nil; n++ {
		names := []string{"a/ssh"}
		if n%3 == 0 { // not to be streamed
			names = append(names, "b/ssh")
		}
		mustDeliver(t, c, n, names...)
		want = append(want, fmt.Sprintf("p/1/%d", n))
	}
	var got []string
	for _, d := range core.Deliveries() {
		if !d.Registration() {
			got = append(got, d.ID)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("core took (-want +got):\n%s", diff)
	}
	if dropped := core.Dropped(); len(dropped) > 0 {
		t.Errorf("core acknowledged and lost %d reports", len(dropped))
	}
}

// TestTakenOver: a server stops in good order while calls are under way, and another one takes its
// address. The calls end as if nothing had been, and the next ones are the other's.
func TestTakenOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const address = "127.2.0.1:1"
		var network sim.Net
		serve := func(behave sim.Behaviour) *grpc.Server {
			l, err := network.Listen(address)
			if err != nil {
				t.Fatal(err)
			}
			server := grpc.NewServer()
			sim.NewChecker(behave).Register(server)
			go func() { _ = server.Serve(l) }()
			return server
		}
		c := clientOf(t, &check.Agent{Name: "a", Address: address}, network.Dial)
		server := serve(sim.Slow(time.Second))
		for n := range 20 {
			done := make(chan error)
			for range 3 {
				go func() {
					_, err := c.Ask(within(t, 3*time.Second), ssh)
					done <- err
				}()
			}
			time.Sleep(time.Duration(n) * 50 * time.Millisecond)
			synctest.Wait() // at first there is no connection
			go server.GracefulStop()
			synctest.Wait()
			server = serve(sim.Slow(time.Second))
			if _, err := c.Ask(within(t, 3*time.Second), ssh); err != nil {
				t.Errorf("round %d: after: %v", n, err)
			}
			for range 3 {
				if err := <-done; err != nil {
					t.Errorf("round %d: under way: %v", n, err)
				}
			}
		}
		server.Stop()
	})
}

// refusing serves connections that end each call unread (GOAWAY with stream 0), tries of them, and
// then those of a sound checker.
func refusing(t *testing.T, network *sim.Net, address string, tries int, serve func(net.Listener) *sim.Server) {
	t.Helper()
	front, err := network.Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	const behind = "behind"
	l, err := network.Listen(behind)
	if err != nil {
		t.Fatal(err)
	}
	server := serve(l)
	t.Cleanup(func() {
		_ = front.Close()
		server.Stop()
	})
	go func() {
		for n := 0; ; n++ {
			conn, err := front.Accept()
			if err != nil {
				return
			}
			if n < tries {
				go refuse(conn)
				continue
			}
			sound, err := network.Dial(context.Background(), behind)
			if err != nil {
				_ = conn.Close()
				continue
			}
			for _, way := range [][2]net.Conn{{conn, sound}, {sound, conn}} {
				go func() {
					_, _ = io.Copy(way[0], way[1])
					_ = way[0].Close()
				}()
			}
		}
	}()
}

func refuse(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	_, _ = io.CopyN(io.Discard, conn, int64(len(http2.ClientPreface)))
	framer := http2.NewFramer(conn, conn)
	_ = framer.WriteSettings()
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return
		}
		if _, ok := frame.(*http2.HeadersFrame); ok {
			_ = framer.WriteGoAway(0, http2.ErrCodeNo, nil)
		}
	}
}

// TestRefusedAgainAndAgain: a call that was not looked at is made again, even more than once, but not
// for ever.
func TestRefusedAgainAndAgain(t *testing.T) {
	t.Parallel()
	const address = "127.2.0.1:1"
	for tries, sound := range map[int]bool{1: true, 3: true, 1000: false} {
		t.Run(fmt.Sprintf("a checker, %d times", tries), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				for _, method := range append(both, check.GetStatus) {
					var network sim.Net // for each method
					behave := sending(nil, chunked("[1]")...)
					behave.Results = results
					checker := sim.NewChecker(behave)
					refusing(t, &network, address, tries, func(l net.Listener) *sim.Server { return checker.Serve(l, nil) })
					c := clientOf(t, &check.Agent{Name: "a", Address: address}, network.Dial)
					var err error
					if method == check.GetStatus {
						_, err = c.Ask(within(t, long), ssh)
					} else {
						_, err = c.Results(within(t, long), asking(method, "sync"), "")
					}
					if sound != (err == nil) {
						t.Errorf("%v: %v", method, err)
					}
					if !sound {
						wantFailure(t, method.String(), err, check.Unreachable, address, "draining")
					}
				}
			})
		})
		t.Run(fmt.Sprintf("a core, %d times", tries), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var network sim.Net
				core := new(sim.Core)
				refusing(t, &network, address, tries, func(l net.Listener) *sim.Server { return core.Serve(l, nil) })
				c := newCore(t, CoreConfig{Addresses: []string{address}, Dial: network.Dial})
				if !sound {
					wantError(t, "refused", deliver(t, c, 1, "a/ssh"), wire.Retry, address)
					return
				}
				mustDeliver(t, c, 1, "a/ssh")
				mustDeliver(t, c, 2, "a/ssh", "b/ssh")
				wantTaken(t, core, "stream p/1/1 a/ssh", "unary p/1/2 a/ssh b/ssh")
			})
		})
	}
}
