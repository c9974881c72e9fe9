package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
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

// TestErrorsAfterHeaders: an error that comes alone, after the headers, is the checker's own as well.
func TestErrorsAfterHeaders(t *testing.T) {
	t.Parallel()
	fail := func(ctx context.Context) error {
		if err := grpc.SendHeader(ctx, metadata.Pairs("trace", "1")); err != nil {
			return err
		}
		return status.Error(codes.Unavailable, "no database")
	}
	server := startChecker(t, sim.NewChecker(sim.Behaviour{
		Answer: func(ctx context.Context, _ *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
			return nil, fail(ctx)
		},
		Health: fail,
	}), nil)
	c := newClient(t, server.Addr(), check.TLS{})
	_, err := c.Ask(within(t, long), ssh)
	wantFailure(t, "Ask", err, check.BadAnswer, server.Addr(), "Unavailable", "no database")
	if got, err := c.Health(within(t, long)); err != nil || got != "no database" {
		t.Errorf("Health: %q, %v; want its own words", got, err)
	}
}

// connect waits for the connection, so that a short deadline is for the call alone.
func connect(t *testing.T, c *Checker) {
	t.Helper()
	c.cc.Connect()
	if err := c.Connect(within(t, long)); err != nil {
		t.Fatal(err)
	}
}

// TestHangsWhateverTheConnection: a call that hangs is a timeout, not a lost connection, also when
// the server wants to end the connection, for its age or because it stops, and when it has so many
// calls on it that it takes no more.
func TestHangsWhateverTheConnection(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		options []grpc.ServerOption
		then    func(server *grpc.Server)
	}{
		{"that ends", nil, (*grpc.Server).GracefulStop},
		{"that is full", []grpc.ServerOption{grpc.MaxConcurrentStreams(1)}, func(*grpc.Server) {}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const address = "127.2.0.1:1"
				var network sim.Net
				l, err := network.Listen(address)
				if err != nil {
					t.Fatal(err)
				}
				behave, entered := entering()
				server := grpc.NewServer(tt.options...)
				sim.NewChecker(behave).Register(server)
				go func() { _ = server.Serve(l) }()
				defer server.Stop()
				c := clientOf(t, &check.Agent{Name: "a", Address: address}, network.Dial)
				connect(t, c)
				synctest.Wait() // until the client knows how many calls the server takes
				done := make(chan error)
				for range 2 {
					go func() {
						_, err := c.Ask(within(t, 2*time.Second), ssh)
						done <- err
					}()
				}
				<-entered
				synctest.Wait()
				go tt.then(server)
				for range 2 {
					wantFailure(t, "Ask", <-done, check.Timeout, address, "connected to", "within 2s")
				}
			})
		})
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
	down := func(*testing.T) string { return nobody }
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
		{"nobody listens", down, check.TLS{}, check.Unreachable, []string{"refused", "is the checker running there?"}},
		{"nobody listens, TLS", down, me, check.Unreachable, []string{"refused", "is the checker running there?"}},
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
		{"wants our certificate", secured(mtls), noCertificate, check.TLSFailed, []string{"certificates", "tls.mode"}},
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
	for hint, identity := range map[string]func(t *testing.T) check.TLS{
		"says nothing":                      func(*testing.T) check.TLS { return check.TLS{} },
		"does not answer the TLS handshake": func(t *testing.T) check.TLS { return tlsidtest.NewCA(t).Issue(t, "poller") },
	} {
		t.Run(hint, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const address = "127.2.0.1:1"
				var network sim.Net
				l, err := network.Listen(address)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = l.Close() }()
				go func() {
					for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
						go func() { _, _ = io.Copy(io.Discard, conn) }() // until the client closes
					}
				}()
				c := clientOf(t, &check.Agent{Name: "a", Address: address, TLS: identity(t), HealthService: "AgentService"}, network.Dial)
				_, err = c.Ask(within(t, 200*time.Millisecond), ssh)
				wantFailure(t, "Ask", err, check.Unreachable, address, "no connection within 200ms", hint)
				_, err = c.Health(within(t, 200*time.Millisecond))
				wantFailure(t, "Health", err, check.Unreachable, address, "no connection within 200ms")
			})
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
		c, err := NewChecker(&check.Agent{Name: "a", Address: "127.0.0.1:1", TLS: id}, CheckerConfig{PollerID: "p"})
		wantFailure(t, name, err, check.TLSFailed, "127.0.0.1:1", name)
		if c != nil {
			t.Errorf("%s: there is a client all the same", name)
		}
	}
}
