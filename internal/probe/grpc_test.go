package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// serveGRPC serves a health service, or none if it is nil, until the test ends.
func serveGRPC(t *testing.T, service grpc_health_v1.HealthServer, options ...grpc.ServerOption) (addr string) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(options...)
	if service != nil {
		grpc_health_v1.RegisterHealthServer(s, service)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-ended; err != nil {
			t.Errorf("the gRPC server ended with %v", err)
		}
	})
	return l.Addr().String()
}

// failing is a health service that has nothing but an error.
type failing struct {
	grpc_health_v1.UnimplementedHealthServer
	err error
}

func (f failing) Check(context.Context, *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	return nil, f.err
}

// hanging does not answer as long as anybody waits.
type hanging struct {
	grpc_health_v1.UnimplementedHealthServer
}

func (hanging) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	<-ctx.Done()
	return nil, status.FromContextError(ctx.Err()).Err()
}

// newHealth knows itself and a shop that is serving, and one that is not.
func newHealth() *health.Server {
	h := health.NewServer()
	h.SetServingStatus("shop", grpc_health_v1.HealthCheckResponse_SERVING)
	h.SetServingStatus("closed", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	return h
}

func TestGRPC(t *testing.T) {
	t.Parallel()
	addr := serveGRPC(t, newHealth())
	for details, service := range map[string]string{addr: "", `{"target": "` + addr + `", "service": "shop"}`: "shop"} {
		r, err := GRPC(t.Context(), Target{Name: "till", Details: details})
		m := unmarshal(t, r)
		if err != nil || !r.Available || r.ResponseTime <= 0 || m["response_time"] != float64(r.ResponseTime) || m["error"] != nil ||
			m["address"] != addr || m["grpc_service"] != service || m["service"] != "till" || m["status"] != "SERVING" {
			t.Errorf("%s: %s, %v", details, r.Message, err)
		}
		checked, _ := m["checked_at"].(string)
		if at, err := time.Parse(time.RFC3339Nano, checked); err != nil || time.Since(at) > time.Minute || at.After(time.Now()) {
			t.Errorf("checked_at: %v, %v", at, err)
		}
	}
	host, port, _ := net.SplitHostPort(addr)
	var number int32
	_, _ = fmt.Sscan(port, &number)
	if r, err := GRPC(t.Context(), Target{Details: host, Port: number}); err != nil || !r.Available {
		t.Errorf("with the port apart: %s, %v", r.Message, err)
	}
	r, err := GRPC(t.Context(), Target{Details: `{"target": "` + addr + `", "service": "closed"}`})
	wantDown(t, r, err, "health of "+addr+`: the server answers NOT_SERVING for the service "closed"`)
	if m := unmarshal(t, r); m["status"] != "NOT_SERVING" {
		t.Errorf("%s", r.Message)
	}
	r, err = GRPC(t.Context(), Target{Details: `{"target": "` + addr + `", "service": "unknown"}`})
	wantDown(t, r, err, `does not know the service "unknown": check the name`)
	if m := unmarshal(t, r); m["status"] != nil {
		t.Errorf("%s", r.Message)
	}
}

func TestGRPCErrors(t *testing.T) {
	t.Parallel()
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	failingWith := func(code codes.Code, words string) string {
		return serveGRPC(t, failing{err: status.Error(code, words)})
	}
	for name, test := range map[string]struct{ addr, want string }{
		"no health service": {serveGRPC(t, nil), "the server has no health service: have it serve grpc.health.v1.Health"},
		"its own error":     {failingWith(codes.Internal, "out of beans"), "the server answered Internal: out of beans"},
		"it wants proof":    {failingWith(codes.Unauthenticated, "who are you?"), "the server answered Unauthenticated: who are you?"},
		"it is away":        {failingWith(codes.Unavailable, "gone fishing"), "gone fishing"},
		"long words":        {failingWith(codes.Internal, strings.Repeat("x", 5000)), strings.Repeat("x", maxWords) + "…"},
		"nobody listens":    {closedAddr, "health of 127.0.0.1:1: connection refused: nothing listens there"},
		"HTTP/1.1":          {strings.TrimPrefix(web.URL, "http://"), `did not answer in HTTP/2: is it a gRPC server, and does it want "tls": true?`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := GRPC(t.Context(), Target{Details: test.addr})
			wantDown(t, r, err, test.want)
			if len(r.Message) > 1000 {
				t.Errorf("the message has %d bytes", len(r.Message))
			}
		})
	}
}

func TestGRPCTLS(t *testing.T) {
	t.Parallel()
	web := func(h2 bool) *httptest.Server {
		s := httptest.NewUnstartedServer(http.NotFoundHandler())
		s.EnableHTTP2 = h2
		s.Config.ErrorLog = log.New(io.Discard, "", 0) // of the handshakes that are to fail
		s.StartTLS()
		t.Cleanup(s.Close)
		return s
	}
	http1, http2 := web(false), web(true)
	trusted := x509.NewCertPool()
	trusted.AddCert(http2.Certificate()) // the same for all, of 127.0.0.1 and example.com
	secure := serveGRPC(t, newHealth(), grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: http2.TLS.Certificates})))
	plain := serveGRPC(t, newHealth())

	for options, roots := range map[string]*x509.CertPool{
		``: trusted, `, "server_name": "example.com"`: trusted, `, "insecure": true`: x509.NewCertPool(),
		`, "insecure": true, "server_name": "other.example"`: x509.NewCertPool(),
	} {
		r, err := GRPC(t.Context(), Target{Details: `{"target": "` + secure + `", "tls": true` + options + `}`, RootCAs: roots})
		if err != nil || !r.Available {
			t.Errorf("%s: %s, %v", options, r.Message, err)
		}
	}
	for name, test := range map[string]struct {
		details string
		roots   *x509.CertPool
		want    string
	}{
		"unknown authority": {`{"target": "` + secure + `", "tls": true}`, x509.NewCertPool(), "certificate signed by unknown authority"},
		"another name":      {`{"target": "` + secure + `", "tls": true, "server_name": "other.example"}`, trusted, "other.example"},
		"TLS is expected":   {secure, trusted, `does it want "tls": true?`},
		"TLS is not spoken": {`{"target": "` + plain + `", "tls": true}`, trusted, `does not speak TLS: leave out "tls"`},
		"HTTP/1.1 over TLS": {`{"target": "` + http1.Listener.Addr().String() + `", "tls": true}`, trusted, "speaks TLS, but not HTTP/2"},
		"HTTP/2, not gRPC":  {`{"target": "` + http2.Listener.Addr().String() + `", "tls": true}`, trusted, "speaks HTTP/2, but not gRPC: unexpected HTTP status code received"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := GRPC(t.Context(), Target{Details: test.details, RootCAs: test.roots})
			wantDown(t, r, err, test.want)
		})
	}
}

func TestGRPCHung(t *testing.T) {
	t.Parallel()
	silent, _ := listen(t)
	hung := serveGRPC(t, hanging{})
	for name, details := range map[string]string{
		"silent": silent, "silent with TLS": `{"target": "` + silent + `", "tls": true}`, "hung": hung,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			r, err := GRPC(ctx, Target{Details: details})
			wantDown(t, r, err, "connected, but there was no answer within")
		})
	}
	canceled, cancel := context.WithCancel(t.Context())
	defer time.AfterFunc(50*time.Millisecond, cancel).Stop()
	if r, err := GRPC(canceled, Target{Details: hung}); !errors.Is(err, context.Canceled) {
		t.Errorf("taken back: %s, %v; want an error", r.Message, err)
	}
	late, cancelLate := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancelLate()
	r, err := GRPC(late, Target{Details: hung})
	wantDown(t, r, err, "no answer within")
}

func TestGRPCLeavesNoConnection(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if r, err := GRPC(ctx, Target{Details: `{"target": "` + l.Addr().String() + `", "tls": true}`}); err != nil || r.Available {
		t.Errorf("a silent target: %s, %v", r.Message, err)
	}
	conn := acceptHandshake(t, l)
	defer func() { _ = conn.Close() }()
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Errorf("the connection is still open: %v", err)
	}
}

func TestParseGRPC(t *testing.T) {
	t.Parallel()
	for details, want := range map[string]string{
		"":                                      "it has no host",
		"host":                                  `its port is "0"`,
		"http://h":                              "the target is a URL",
		`{"target": "h:1", "server_name": "x"}`: `add "tls": true`,
		`{"target": "h:1", "insecure": true}`:   `add "tls": true`,
		`{"target": "h:1", "tls": "yes"}`:       "tls is a string: write true or false",
		`{"target": "h:1", "name": "x"}`:        `unknown field "name"`,
	} {
		if r, err := GRPC(t.Context(), Target{Details: details}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %s, %v; want %s", details, r.Message, err, want)
		}
	}
}

func FuzzParseGRPC(f *testing.F) {
	for _, seed := range []string{"", "host:1", "[::1]:1", `{"target":"host:1","service":"s","tls":true,"server_name":"n","insecure":true}`} {
		f.Add(seed, int32(0))
	}
	f.Add("host", int32(50051))
	f.Fuzz(func(t *testing.T, details string, port int32) {
		o, err := parseGRPC(Target{Details: details, Port: port})
		if err != nil {
			return
		}
		if host, number, err := net.SplitHostPort(o.address); err != nil || host == "" || number == "" || number == "0" {
			t.Errorf("%q, %d: address %q", details, port, o.address)
		}
		if !o.TLS && (o.Insecure || o.ServerName != "") {
			t.Errorf("%q: %+v", details, o)
		}
	})
}
