package transport

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
	"github.com/serviceradar/poller/proto/monitoring"
)

func TestAsk(t *testing.T) {
	t.Parallel()
	asked := make(chan *monitoring.StatusRequest, 1)
	server := startChecker(t, sim.NewChecker(sim.Behaviour{
		Answer: func(_ context.Context, r *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
			asked <- proto.CloneOf(r)
			return &monitoring.StatusResponse{
				Available: true, Message: []byte("{ \"n\": 1.50 }\xff"), ResponseTime: 95382,
				ServiceName: "icmp_check", AgentId: "somebody else", // what it calls itself is nothing to us
			}, nil
		},
	}), nil)
	answer, err := newClient(t, server.Addr(), check.TLS{}).Ask(within(t, long), ssh)
	if err != nil {
		t.Fatal(err)
	}
	want := check.Answer{Available: true, Message: []byte("{ \"n\": 1.50 }\xff"), ResponseTime: 95382}
	if diff := cmp.Diff(want, answer); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	request := <-asked
	if diff := cmp.Diff(&monitoring.StatusRequest{
		ServiceName: "ssh", ServiceType: "port", AgentId: "a", PollerId: "p", Details: "127.2.0.1:22", Port: 22,
	}, request, protocmp.Transform()); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	for m, i := request.ProtoReflect(), 0; i < m.Descriptor().Fields().Len(); i++ {
		if field := m.Descriptor().Fields().Get(i); !m.Has(field) {
			t.Errorf("%s of the request is not set", field.Name())
		}
	}
}

func TestAskForEmptyAnswers(t *testing.T) {
	t.Parallel()
	server := startChecker(t, sim.NewChecker(sim.Empty()), nil)
	answer, err := newClient(t, server.Addr(), check.TLS{}).Ask(within(t, long), ssh)
	if err != nil || answer.Available || len(answer.Message) > 0 {
		t.Errorf("%+v, %v; want the checker's verdict, which is unavailable", answer, err)
	}
}

// TestAnswersThatAreNone: the checker is there, and answers no verdict.
func TestAnswersThatAreNone(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		behave   sim.Behaviour
		deadline time.Duration
		reason   check.Reason
		words    []string
	}{
		{"hangs", sim.Hang(), 200 * time.Millisecond, check.Timeout, []string{"connected to", "GetStatus", "busy or hung"}},
		{"hangs, its health check too", sim.HangAll(), 200 * time.Millisecond, check.Timeout, []string{"connected to"}},
		{"fails", sim.Failing(codes.Unknown, "disk on fire"), long, check.BadAnswer, []string{"Unknown", "disk on fire", "log"}},
		{"fails inside", sim.Failing(codes.Internal, "nil map"), long, check.BadAnswer, []string{"Internal", "nil map"}},
		{"says that something of its own is not there", sim.Failing(codes.Unavailable, "no database"), long, check.BadAnswer, []string{"Unavailable", "no database"}},
		{"says that its own deadline passed", sim.Failing(codes.DeadlineExceeded, "slow database"), long, check.BadAnswer, []string{"DeadlineExceeded", "slow database"}},
		{"says that it was cancelled", sim.Failing(codes.Canceled, "no time"), long, check.BadAnswer, []string{"Canceled", "no time"}},
		{"has too much to do", sim.Failing(codes.ResourceExhausted, "quota"), long, check.BadAnswer, []string{"ResourceExhausted", "quota"}},
		{"has never heard of it", sim.Failing(codes.NotFound, "no such check"), long, check.BadAnswer, []string{"NotFound", "no such check"}},
		{"does not know us", sim.Failing(codes.Unauthenticated, "who is this"), long, check.Unauthenticated, []string{"who is this", "certificate"}},
		{"does not let us", sim.Failing(codes.PermissionDenied, "not you"), long, check.Unauthenticated, []string{"not you", "rights"}},
		{"knows no such method", sim.Unimplemented(), long, check.Unimplemented, []string{"GetStatus", "a checker's?"}},
		{"answers too much", sim.Huge(5 << 20), long, check.TooLarge, []string{"5242", "larger than max", "answer less"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := startChecker(t, sim.NewChecker(tt.behave), nil)
			c := newClient(t, server.Addr(), check.TLS{})
			connect(t, c)
			_, err := c.Ask(within(t, tt.deadline), ssh)
			wantFailure(t, "Ask", err, tt.reason, append(tt.words, server.Addr())...)
			if f, ok := errors.AsType[*check.Failure](err); ok && f.Unwrap() == nil {
				t.Error("the cause is lost")
			}
		})
	}
}

// connect waits for the connection, so that a short deadline is for the call alone.
func connect(t *testing.T, c *Checker) {
	t.Helper()
	c.cc.Connect()
	if err := c.awaitReady(within(t, long), time.Now()); err != nil {
		t.Fatal(err)
	}
}

// raw is a codec that sends bytes as they are.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error) { return v.([]byte), nil }
func (raw) Unmarshal([]byte, any) error   { return nil }
func (raw) Name() string                  { return "proto" }

func TestGarbage(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.ForceServerCodec(raw{}), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		return s.SendMsg([]byte("\xff\xff\xffgarbage"))
	}))
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	_, err = newClient(t, l.Addr().String(), check.TLS{}).Ask(within(t, long), ssh)
	wantFailure(t, "Ask", err, check.BadAnswer, l.Addr().String(), "unmarshal")
}

// TestNoConnection has all the ways not to get a connection. Asked first, and for health then,
// which waits for a connection, the client gives the same reason.
func TestNoConnection(t *testing.T) {
	t.Parallel()
	plain := func(t *testing.T) string { return startChecker(t, sim.NewChecker(sim.OK()), nil).Addr() }
	ours, strangers := tlsidtest.NewCA(t), tlsidtest.NewCA(t)
	secured := func(id check.TLS) func(t *testing.T) string {
		return func(t *testing.T) string {
			return startChecker(t, sim.NewChecker(sim.OK()), serverCreds(t, id)).Addr()
		}
	}
	mtls, anybody := ours.Issue(t, "checker"), ours.Issue(t, "checker")
	anybody.Mode = check.TLSServer
	me := ours.Issue(t, "poller")
	noCertificate, otherName, otherCA := me, me, strangers.Issue(t, "poller")
	noCertificate.Mode = check.TLSServer
	otherName.ServerName = "elsewhere.example"
	otherCA.CAFile = ours.File

	for _, tt := range []struct {
		name   string
		serve  func(t *testing.T) string
		id     check.TLS
		reason check.Reason
		words  []string
	}{
		{"nobody listens", nobody, check.TLS{}, check.Unreachable, []string{"refused", "is the checker running there?"}},
		{"nobody listens, TLS", nobody, me, check.Unreachable, []string{"refused", "is the checker running there?"}},
		{"closes at once", func(t *testing.T) string {
			return tcp(t, func(context.Context, net.Conn) {})
		}, check.TLS{}, check.Unreachable, []string{"does not speak gRPC", "right port"}},
		{"speaks HTTP/1", serveHTTP, check.TLS{}, check.Unreachable, []string{"does not speak gRPC", "HTTP/1.1", "right port"}},
		{"wants TLS", secured(anybody), check.TLS{}, check.Unreachable, []string{"does not speak gRPC", "does it want TLS?"}},
		{"knows no TLS", plain, me, check.TLSFailed, []string{"tls.mode"}},
		{"speaks HTTP/1, TLS", serveHTTP, me, check.TLSFailed, []string{"tls.mode"}},
		{"has a stranger's certificate", secured(strangers.Issue(t, "checker")), me, check.TLSFailed, []string{"unknown authority", "certificates"}},
		{"has another name", secured(mtls), otherName, check.TLSFailed, []string{"elsewhere.example", "server_name"}},
		{"has another address", secured(ours.Issue(t, "checker", tlsidtest.Hosts("127.9.9.9"))), me, check.TLSFailed, []string{"127.9.9.9", "server_name"}},
		{"wants our certificate", secured(mtls), noCertificate, check.TLSFailed, []string{"certificates"}},
		{"does not trust our certificate", secured(mtls), otherCA, check.TLSFailed, []string{"certificates"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			address := tt.serve(t)
			c := newClient(t, address, tt.id)
			began := time.Now()
			_, err := c.Ask(within(t, long), ssh)
			wantFailure(t, "Ask", err, tt.reason, append(tt.words, address)...)
			if took := time.Since(began); took > long/2 {
				t.Errorf("it took %v to say so", took)
			}
			_, err = c.Ask(within(t, long), ssh) // now that gRPC waits before it connects again
			wantFailure(t, "Ask again", err, tt.reason, append(tt.words, address)...)
			_, err = c.Health(within(t, 200*time.Millisecond))
			wantFailure(t, "Health", err, tt.reason, address)
		})
	}
}

// serveHTTP serves HTTP/1 and returns its address.
func serveHTTP(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: long}
	server.Protocols = new(http.Protocols)
	server.Protocols.SetHTTP1(true)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return l.Addr().String()
}

// TestSilence: the peer accepts, and says nothing, with and without TLS. Only the deadline ends that.
func TestSilence(t *testing.T) {
	t.Parallel()
	silent := func(ctx context.Context, _ net.Conn) { <-ctx.Done() }
	me := tlsidtest.NewCA(t).Issue(t, "poller")
	for hint, id := range map[string]check.TLS{"right port": {}, "does the checker run there": me} {
		t.Run("TLS mode "+string(id.Mode), func(t *testing.T) {
			t.Parallel()
			address := tcp(t, silent)
			c := newClient(t, address, id)
			_, err := c.Ask(within(t, 200*time.Millisecond), ssh)
			wantFailure(t, "Ask", err, check.Unreachable, address, "no connection within 2", hint)
			_, err = c.Health(within(t, 200*time.Millisecond))
			wantFailure(t, "Health", err, check.Unreachable, address, "no connection within 2")
		})
	}
}

// TestRefusedCertificateWhoseReasonIsLost: with TLS 1.3 the refusal comes after the handshake, and
// the connection may be gone before it was read, or while we still write.
func TestRefusedCertificateWhoseReasonIsLost(t *testing.T) {
	t.Parallel()
	ca := tlsidtest.NewCA(t)
	creds := serverCreds(t, ca.Issue(t, "checker"))
	for name, end := range map[string]func(conn net.Conn){
		"closed": func(conn net.Conn) { _ = conn.Close() },
		"reset":  func(conn net.Conn) { _ = conn.(*net.TCPConn).SetLinger(0) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := tcp(t, func(_ context.Context, conn net.Conn) {
				if _, _, err := creds.ServerHandshake(conn); err == nil {
					end(conn)
				}
			})
			for range 10 {
				_, err := newClient(t, address, ca.Issue(t, "poller")).Ask(within(t, long), ssh)
				wantFailure(t, "Ask", err, check.TLSFailed, address, "certificates")
			}
		})
	}
}

func TestMutualTLS(t *testing.T) {
	t.Parallel()
	ca := tlsidtest.NewCA(t)
	server := startChecker(t, sim.NewChecker(sim.OK()), serverCreds(t, ca.Issue(t, "checker")))
	byName := ca.Issue(t, "poller")
	byName.ServerName = "checker"
	for _, id := range []check.TLS{ca.Issue(t, "poller"), byName} {
		c := newClient(t, server.Addr(), id)
		if answer, err := c.Ask(within(t, long), ssh); err != nil || !answer.Available {
			t.Errorf("Ask: %+v, %v", answer, err)
		}
		if health, err := c.Health(within(t, long)); err != nil || health != "SERVING" {
			t.Errorf("Health: %q, %v", health, err)
		}
	}
}

func TestNewCheckerReadsTLSFiles(t *testing.T) {
	t.Parallel()
	whole := tlsidtest.NewCA(t).Issue(t, "poller")
	for name, spoil := range map[string]func(*check.TLS){
		"/no/such/cert.pem": func(id *check.TLS) { id.CertFile = "/no/such/cert.pem" },
		"/no/such/key.pem":  func(id *check.TLS) { id.KeyFile = "/no/such/key.pem" },
		"/no/such/ca.pem":   func(id *check.TLS) { id.CAFile = "/no/such/ca.pem" },
		"mode":              func(id *check.TLS) { id.Mode = "sometimes" },
	} {
		id := whole
		spoil(&id)
		c, err := NewChecker(&check.Agent{Name: "a", Address: "127.0.0.1:1", TLS: id}, "p", nil)
		wantFailure(t, name, err, check.TLSFailed, "127.0.0.1:1", name)
		if c != nil {
			t.Errorf("%s: there is a client all the same", name)
		}
	}
}

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
	_, err := c.Health(within(t, 200*time.Millisecond))
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
	if !c.cc.WaitForStateChange(within(t, long), connectivity.Ready) {
		t.Fatal("the client has not seen the end of its connection")
	}
}

func TestConnections(t *testing.T) {
	t.Parallel()
	checker := sim.NewChecker(sim.OK())
	server := startChecker(t, checker, nil)
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
				for began := time.Now(); time.Since(began) < away; time.Sleep(100 * time.Millisecond) {
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
	server := startChecker(t, sim.NewChecker(sim.OK()), nil)
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
	server := startChecker(t, sim.NewChecker(sim.Failing(codes.Internal, strings.Repeat("ä", 100_000))), nil)
	_, err := newClient(t, server.Addr(), check.TLS{}).Ask(within(t, long), ssh)
	wantFailure(t, "Ask", err, check.BadAnswer, server.Addr(), "ää", "see the checker's log")
	if f, ok := errors.AsType[*check.Failure](err); ok && len(f.Detail) > 2000 {
		t.Errorf("the detail has %d bytes", len(f.Detail))
	}
}
