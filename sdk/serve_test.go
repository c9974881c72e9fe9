package sdk

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/tlsid"
	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
)

func TestServeErrors(t *testing.T) {
	t.Parallel()
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	missing := filepath.Join(t.TempDir(), "missing.pem")
	for name, test := range map[string]struct {
		addr   string
		checks []Check
		opts   []Option
		want   string
	}{
		"no checks":   {"127.0.0.1:0", nil, nil, "there are none"},
		"empty type":  {"127.0.0.1:0", []Check{Func("", nil)}, nil, "empty Type"},
		"two alike":   {"127.0.0.1:0", []Check{block, block}, nil, `two checks have the Type "block"`},
		"limit":       {"127.0.0.1:0", []Check{block}, []Option{MaxInFlight(0)}, "MaxInFlight is 0"},
		"type limit":  {"127.0.0.1:0", []Check{block}, []Option{Limit("block", 0)}, "the Limit of block is 0"},
		"whose limit": {"127.0.0.1:0", []Check{block}, []Option{Limit("other", 1)}, `no such check: there are block`},
		"stop":        {"127.0.0.1:0", []Check{block}, []Option{StopTimeout(-time.Second)}, "StopTimeout is -1s"},
		"half TLS":    {"127.0.0.1:0", []Check{block}, []Option{TLS("cert.pem", "", "")}, "a certificate file and a key file"},
		"missing TLS": {"127.0.0.1:0", []Check{block}, []Option{TLS(missing, missing, "")}, missing},
		"taken":       {taken.Addr().String(), []Check{block}, nil, taken.Addr().String() + ": bind: address already in use: is it host:port, free"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := Serve(t.Context(), test.addr, test.checks, test.opts...)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Serve: %v; want %q in it", err, test.want)
			}
		})
	}
}

// A listener is closed also when there is nothing to serve, and its own end is an error.
func TestServeListenerEnds(t *testing.T) {
	t.Parallel()
	listen := func() net.Listener {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	l := listen()
	if err := ServeListener(t.Context(), l, nil); err == nil {
		t.Error("no error for no checks")
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is open: %v", err)
	}
	if err := ServeListener(t.Context(), l, []Check{block}, Logger(slog.New(slog.DiscardHandler))); !errors.Is(err, net.ErrClosed) {
		t.Errorf("serving on a closed listener: %v; want net.ErrClosed", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ServeListener(ended, listen(), []Check{block}, Logger(slog.New(slog.DiscardHandler))); err != nil {
		t.Errorf("a context that has ended: %v; want nil", err)
	}
}

// serveTLS serves over mTLS on loopback and returns the address.
func serveTLS(t *testing.T, id check.TLS) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- ServeListener(ctx, l, []Check{block}, TLS(id.CertFile, id.KeyFile, id.CAFile), Logger(slog.New(slog.DiscardHandler)))
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("ServeListener: %v", err)
		}
	})
	return l.Addr().String()
}

func dialTLS(t *testing.T, addr string, id check.TLS) *grpc.ClientConn {
	t.Helper()
	config, err := tlsid.Client(id, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestMutualTLSAndReflection(t *testing.T) {
	t.Parallel()
	ca, stranger := tlsidtest.NewCA(t), tlsidtest.NewCA(t)
	addr := serveTLS(t, ca.Issue(t, "checker"))
	conn := dialTLS(t, addr, ca.Issue(t, "poller"))
	if _, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), new(grpc_health_v1.HealthCheckRequest)); err != nil {
		t.Errorf("with a certificate: %v", err)
	}
	s, err := grpc_reflection_v1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(&grpc_reflection_v1.ServerReflectionRequest{
		MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{},
	}); err != nil {
		t.Fatal(err)
	}
	r, err := s.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(r.String(), "monitoring.AgentService") {
		t.Errorf("reflection lists %v; want monitoring.AgentService", r.GetListServicesResponse())
	}
	_ = s.CloseSend()
	_, _ = s.Recv()

	// Trusts the checker, but has no certificate of its authority.
	foreign := stranger.Issue(t, "poller")
	foreign.CAFile = ca.File
	_, err = grpc_health_v1.NewHealthClient(dialTLS(t, addr, foreign)).Check(t.Context(), new(grpc_health_v1.HealthCheckRequest))
	if status.Code(err) != codes.Unavailable {
		t.Errorf("with a stranger's certificate: %v; want Unavailable", err)
	}
}
