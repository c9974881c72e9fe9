package transport

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
	"github.com/serviceradar/poller/proto/monitoring"
)

// entering is a behaviour that hangs, and tells when it begins to.
func entering() (sim.Behaviour, <-chan struct{}) {
	entered := make(chan struct{}, 10)
	return sim.Behaviour{Answer: func(ctx context.Context, _ *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
		entered <- struct{}{}
		<-ctx.Done()
		return nil, status.FromContextError(ctx.Err()).Err()
	}}, entered
}

func TestCallsEnd(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		end    func(cancel context.CancelFunc, c *Checker, server *sim.Server)
		reason check.Reason
		words  string
	}{
		{"with their context", func(cancel context.CancelFunc, _ *Checker, _ *sim.Server) { cancel() }, check.NoAnswer, "given up"},
		{"with Close", func(_ context.CancelFunc, c *Checker, _ *sim.Server) { _ = c.Close() }, check.NoAnswer, "given up"},
		{"with the connection", func(_ context.CancelFunc, _ *Checker, s *sim.Server) { s.Stop() }, check.Unreachable, "lost"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			behave, entered := entering()
			server := startChecker(t, sim.NewChecker(behave), nil)
			c := newClient(t, server.Addr(), check.TLS{})
			ctx, cancel := context.WithCancel(within(t, long))
			defer cancel()
			done := make(chan error)
			for range 3 {
				go func() {
					_, err := c.Ask(ctx, ssh)
					done <- err
				}()
			}
			for range 3 {
				<-entered
			}
			tt.end(cancel, c, server)
			for range 3 {
				wantFailure(t, "Ask", <-done, tt.reason, server.Addr(), tt.words)
			}
			if ctx.Err() == context.DeadlineExceeded {
				t.Error("it ended only with the deadline")
			}
		})
	}
}

// TestConnectingEnds: so does the wait for a connection, with health checks and without.
func TestConnectingEnds(t *testing.T) {
	t.Parallel()
	for _, health := range []string{"AgentService", check.NoHealth} {
		for name, end := range map[string]func(context.CancelFunc, *Checker){
			"with its context": func(cancel context.CancelFunc, _ *Checker) { cancel() },
			"with Close":       func(_ context.CancelFunc, c *Checker) { _ = c.Close() },
		} {
			t.Run(name+", health "+health, func(t *testing.T) {
				t.Parallel()
				accepted := make(chan struct{}, 10)
				address := tcp(t, func(ctx context.Context, _ net.Conn) {
					accepted <- struct{}{}
					<-ctx.Done()
				})
				c := clientOf(t, &check.Agent{Name: "a", Address: address, HealthService: health}, nil)
				ctx, cancel := context.WithCancel(within(t, long))
				defer cancel()
				done := make(chan error)
				go func() {
					_, err := c.Health(ctx)
					done <- err
				}()
				<-accepted
				end(cancel, c)
				wantFailure(t, "Health", <-done, check.NoAnswer, address, "given up")
				if ctx.Err() == context.DeadlineExceeded {
					t.Error("it ended only with the deadline")
				}
			})
		}
	}
}

func TestClosed(t *testing.T) {
	t.Parallel()
	c := newClient(t, startChecker(t, sim.NewChecker(sim.OK()), nil).Addr(), check.TLS{})
	if err := c.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	_, err := c.Ask(within(t, long), ssh)
	wantFailure(t, "Ask", err, check.NoAnswer)
	_, err = c.Health(within(t, long))
	wantFailure(t, "Health", err, check.NoAnswer)
}

func TestHealth(t *testing.T) {
	t.Parallel()
	failing := func(code codes.Code, text string) *sim.Checker {
		return sim.NewChecker(sim.Behaviour{Health: func(context.Context) error { return status.Error(code, text) }})
	}
	without := sim.NewChecker(sim.OK())
	without.NoHealth = true
	for _, tt := range []struct {
		name, asked string
		checker     *sim.Checker
		want        string
	}{
		{"its own name", "AgentService", sim.NewChecker(sim.OK()), "SERVING"},
		{"its full name", "monitoring.AgentService", sim.NewChecker(sim.OK()), "SERVING"},
		{"the empty name", "", sim.NewChecker(sim.OK()), "SERVING"},
		{"a name it does not know", "somebody else", sim.NewChecker(sim.OK()), `does not know service "somebody else"`},
		{"no health service", "AgentService", without, "no health service"},
		{"no health service and nobody asks", check.NoHealth, without, "not asked"},
		{"an error", "AgentService", failing(codes.Internal, "can't tell"), "can't tell"},
		{"not for us", "AgentService", failing(codes.PermissionDenied, "not for you"), "not for you"},
		{"unavailable, in its own words", "AgentService", failing(codes.Unavailable, "starting"), "starting"},
		{"deadline exceeded, in its own words", "AgentService", failing(codes.DeadlineExceeded, "slow"), "slow"},
		{"canceled, in its own words", "AgentService", failing(codes.Canceled, "gone"), "gone"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := startChecker(t, tt.checker, nil)
			c := clientOf(t, &check.Agent{Name: "a", Address: server.Addr(), HealthService: tt.asked}, nil)
			for range 2 { // also when there is a connection
				if got, err := c.Health(within(t, long)); err != nil || got != tt.want {
					t.Errorf("Health: %q, %v; want %q", got, err, tt.want)
				}
			}
			if n := c.Connections(); n != 1 {
				t.Errorf("%d connections, want 1", n)
			}
			if answer, err := c.Ask(within(t, long), ssh); err != nil || !answer.Available {
				t.Errorf("Ask: %+v, %v", answer, err)
			}
		})
	}
}

func TestHealthIsNotAsked(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 10)
	server := startChecker(t, sim.NewChecker(sim.Behaviour{Health: func(context.Context) error {
		asked <- struct{}{}
		return nil
	}}), nil)
	c := clientOf(t, &check.Agent{Name: "a", Address: server.Addr(), HealthService: check.NoHealth}, nil)
	if got, err := c.Health(within(t, long)); err != nil || got != "not asked" {
		t.Errorf("Health: %q, %v", got, err)
	}
	if len(asked) > 0 {
		t.Error("the checker was asked")
	}
	server.Stop()
	lost(t, c)
	_, err := c.Health(within(t, time.Second))
	wantFailure(t, "Health without a checker", err, check.Unreachable, server.Addr(), "refused")
}

func TestHealthHangs(t *testing.T) {
	t.Parallel()
	server := startChecker(t, sim.NewChecker(sim.HangAll()), nil)
	c := newClient(t, server.Addr(), check.TLS{})
	connect(t, c)
	_, err := c.Health(within(t, 200*time.Millisecond))
	wantFailure(t, "Health", err, check.Timeout, server.Addr(), "health check")
}

// lost waits until the client has seen that its connection is gone.
func lost(t *testing.T, c *Checker) {
	t.Helper()
	ctx := within(t, long)
	for state := c.cc.GetState(); !gone(state); state = c.cc.GetState() {
		if !c.cc.WaitForStateChange(ctx, state) {
			t.Fatal("the client has not seen the end of its connection")
		}
	}
}

func TestConnections(t *testing.T) {
	t.Parallel()
	checker := sim.NewChecker(sim.OK())
	server := startCheckerAt(t, checker, ownHost()+":0", nil)
	dial, dialed := counting()
	c := clientOf(t, &check.Agent{Name: "a", Address: server.Addr()}, dial)
	if n := c.Connections(); n != 0 || dialed.Load() != 0 {
		t.Errorf("%d connections and %d attempts before the first use", n, dialed.Load())
	}
	for round := range uint64(3) {
		for range 3 {
			if _, err := c.Health(within(t, long)); err != nil {
				t.Errorf("Health: %v", err)
			}
			if _, err := c.Ask(within(t, long), ssh); err != nil {
				t.Errorf("Ask: %v", err)
			}
		}
		if n := c.Connections(); n != round+1 {
			t.Errorf("%d connections in round %d", n, round+1)
		}
		server.Stop()
		lost(t, c)
		if _, err := c.Ask(within(t, long), ssh); err == nil {
			t.Error("somebody answers")
		}
		if n := c.Connections(); n != round+1 {
			t.Errorf("%d connections after round %d: an attempt that failed is counted", n, round+1)
		}
		var err error
		if server, err = checker.Start(server.Addr(), nil); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(server.Stop)
	}
}

// TestOldCauses: what is said of a lost connection is about this one, not about one before.
func TestOldCauses(t *testing.T) {
	t.Parallel()
	behave, entered := entering()
	address := ownHost() + ":50051"
	c := newClient(t, address, check.TLS{})
	_, err := c.Ask(within(t, long), ssh)
	wantFailure(t, "nobody there", err, check.Unreachable, address, "refused")
	server := startCheckerAt(t, sim.NewChecker(behave), address, nil)
	connect(t, c)
	done := make(chan error)
	go func() {
		_, err := c.Ask(within(t, long), ssh)
		done <- err
	}()
	<-entered
	server.Stop()
	if err = <-done; strings.Contains(err.Error(), "refused") {
		t.Errorf("a connection is lost, and the words are those of an earlier failure: %v", err)
	}
	wantFailure(t, "lost", err, check.Unreachable, address, "lost")
}

// TestCertificateRefusedLater: a checker that took our certificate does so no more.
func TestCertificateRefusedLater(t *testing.T) {
	t.Parallel()
	ca := tlsidtest.NewCA(t)
	host := ownHost()
	creds := serverCreds(t, ca.Issue(t, "checker", tlsidtest.Hosts(host)))
	server := startCheckerAt(t, sim.NewChecker(sim.OK()), host+":0", creds)
	c := newClient(t, server.Addr(), ca.Issue(t, "poller"))
	if _, err := c.Ask(within(t, long), ssh); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	lost(t, c)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			if _, _, err := creds.ServerHandshake(conn); err == nil {
				_ = conn.(*net.TCPConn).SetLinger(0)
			}
			_ = conn.Close()
		}
	}()
	_, err = c.Ask(within(t, long), ssh)
	wantFailure(t, "Ask", err, check.TLSFailed, server.Addr(), "certificates")
}

// TestRecovery: a checker that was away, however long, answers soon after it is back.
func TestRecovery(t *testing.T) {
	t.Parallel()
	for _, away := range []time.Duration{time.Second, time.Minute, time.Hour} {
		for _, health := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				const address = "127.2.0.1:50051"
				var network sim.Net
				checker := sim.NewChecker(sim.OK())
				serve := func() *sim.Server {
					l, err := network.Listen(address)
					if err != nil {
						t.Fatal(err)
					}
					return checker.Serve(l, nil)
				}
				server := serve()
				c := clientOf(t, &check.Agent{Name: "a", Address: address}, network.Dial)
				try := func() error {
					ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
					defer cancel()
					if health {
						_, err := c.Health(ctx)
						return err
					}
					_, err := c.Ask(ctx, ssh)
					return err
				}
				if err := try(); err != nil {
					t.Fatal(err)
				}
				server.Stop()
				for began := time.Now(); time.Since(began) < away; time.Sleep(away / 20) {
					if err := try(); err == nil {
						t.Fatal("somebody answers")
					}
				}
				server = serve()
				defer server.Stop()
				began := time.Now()
				for try() != nil {
					time.Sleep(100 * time.Millisecond)
				}
				const limit = maxBackoff + 100*time.Millisecond // between tries
				if took := time.Since(began); took > limit {
					t.Errorf("after %v away (health: %v) it took %v, want at most %v", away, health, took, limit)
				}
			})
		}
	}
}

// TestHungThenBack: the deadline of a call is kept to the moment, and a late answer harms nobody.
func TestHungThenBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var network sim.Net
		l, err := network.Listen("127.2.0.1:1")
		if err != nil {
			t.Fatal(err)
		}
		checker := sim.NewChecker(sim.Slow(3 * time.Second))
		defer checker.Serve(l, nil).Stop()
		c := clientOf(t, &check.Agent{Name: "a", Address: "127.2.0.1:1"}, network.Dial)
		for range 3 {
			began := time.Now()
			_, err = c.Ask(within(t, 2*time.Second), ssh)
			wantFailure(t, "Ask", err, check.Timeout, "127.2.0.1:1", "within 2s")
			if took := time.Since(began); took != 2*time.Second {
				t.Errorf("it took %v, want 2s", took)
			}
		}
		if answer, err := c.Ask(within(t, 4*time.Second), ssh); err != nil || !answer.Available {
			t.Errorf("with time enough: %+v, %v", answer, err)
		}
		if n := c.Connections(); n != 1 {
			t.Errorf("%d connections, want 1: timeouts do not cost one", n)
		}
	})
}

// TestManyAtOnce is for the race detector: one client, used from many goroutines while the
// checker comes and goes.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	server := startCheckerAt(t, sim.NewChecker(sim.OK()), ownHost()+":0", nil)
	c := newClient(t, server.Addr(), check.TLS{})
	done := make(chan struct{})
	const callers = 8
	for range callers {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := range 50 {
				if i%5 == 0 {
					_, _ = c.Health(within(t, 20*time.Millisecond))
				}
				_, err := c.Ask(within(t, long), ssh)
				if f, ok := errors.AsType[*check.Failure](err); err != nil && (!ok || f.Reason != check.Unreachable) {
					t.Errorf("Ask: %v", err)
				}
				_ = c.Connections()
				if i == 25 {
					server.Stop()
				}
			}
		}()
	}
	for range callers {
		<-done
	}
}

// TestLongWords: what a peer says is part of a status, of a log line and of a page; it may say much.
func TestLongWords(t *testing.T) {
	t.Parallel()
	server := startChecker(t, sim.NewChecker(sim.Failing(codes.Internal, strings.Repeat("ä", 30_000))), nil)
	_, err := newClient(t, server.Addr(), check.TLS{}).Ask(within(t, long), ssh)
	wantFailure(t, "Ask", err, check.BadAnswer, server.Addr(), "ää", "see the checker's log")
	if f, ok := errors.AsType[*check.Failure](err); ok && len(f.Detail) > 2000 {
		t.Errorf("the detail has %d bytes", len(f.Detail))
	}
}
