package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/credentials"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/internal/tlsid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// long is the deadline of calls that end long before it.
const long = 20 * time.Second

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// tcp serves a peer that need not speak gRPC; each connection is closed when handle returns.
// It returns its address.
func tcp(t *testing.T, handle func(ctx context.Context, conn net.Conn)) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
	})
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				handle(ctx, conn)
			}()
		}
	}()
	return l.Addr().String()
}

// nobody is a privileged port on which nobody listens.
const nobody = "127.0.0.1:1"

var hosts atomic.Int64

// ownHost returns a loopback address, without a port, for a server of this test alone: when it
// stops, no other test can get its port before the next one listens there.
func ownHost() string {
	n := hosts.Add(1)
	return fmt.Sprintf("127.3.%d.%d", n/250, 1+n%250)
}

// serverCreds returns the credentials of a server with an identity.
func serverCreds(t *testing.T, id check.TLS) credentials.TransportCredentials {
	t.Helper()
	config, err := tlsid.Server(id)
	if err != nil {
		t.Fatal(err)
	}
	return credentials.NewTLS(config)
}

func startChecker(t *testing.T, c *sim.Checker, creds credentials.TransportCredentials) *sim.Server {
	t.Helper()
	return startCheckerAt(t, c, "127.0.0.1:0", creds)
}

func startCheckerAt(t *testing.T, c *sim.Checker, address string, creds credentials.TransportCredentials) *sim.Server {
	t.Helper()
	server, err := c.Start(address, creds)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return server
}

// counting returns the network's dialer and how often it was called.
func counting() (Dialer, *atomic.Int64) {
	n := new(atomic.Int64)
	return func(ctx context.Context, address string) (net.Conn, error) {
		n.Add(1)
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}, n
}

// newClient returns a client of the checker of agent "a" at an address.
func newClient(t *testing.T, address string, id check.TLS) *Checker {
	t.Helper()
	return clientOf(t, &check.Agent{Name: "a", Address: address, TLS: id, HealthService: "AgentService"}, nil)
}

func clientOf(t *testing.T, agent *check.Agent, dial Dialer) *Checker {
	t.Helper()
	c, err := NewChecker(agent, CheckerConfig{PollerID: "p", MaxResults: 64 << 20, Dial: dial})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

var ssh = &check.Check{Name: "ssh", Type: "port", Details: "127.2.0.1:22", Port: 22}

// wantFailure wants a *check.Failure with a reason, whose Detail has all the words.
func wantFailure(t *testing.T, what string, err error, reason check.Reason, words ...string) {
	t.Helper()
	f, ok := errors.AsType[*check.Failure](err)
	if !ok {
		t.Errorf("%s: error %v, want a failure with reason %s", what, err, reason)
		return
	}
	if f.Reason != reason {
		t.Errorf("%s: reason %s (%s), want %s", what, f.Reason, f.Detail, reason)
	}
	for _, word := range words {
		if !strings.Contains(f.Detail, word) {
			t.Errorf("%s: the detail lacks %q: %s", what, word, f.Detail)
		}
	}
}
