package transport

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
	"github.com/serviceradar/poller/internal/wire"
	"github.com/serviceradar/poller/proto/monitoring"
)

// TestPausesBetweenTries: they are random, and never longer than maxBackoff.
func TestPausesBetweenTries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var tries []time.Time
		var network sim.Net // on which nobody listens
		c := clientOf(t, &check.Agent{Name: "a", Address: "127.2.0.1:1"}, func(ctx context.Context, address string) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			tries = append(tries, time.Now())
			return network.Dial(ctx, address)
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := c.Connect(ctx); err == nil {
			t.Error("somebody listens")
		}
		mu.Lock()
		defer mu.Unlock()
		gaps := make(map[time.Duration]bool)
		for i := 1; i < len(tries); i++ {
			gap := tries[i].Sub(tries[i-1])
			gaps[gap] = true
			if gap > maxBackoff {
				t.Errorf("try %d comes %v after the one before, want at most %v", i, gap, maxBackoff)
			}
		}
		if len(tries) < 20 || len(gaps) < len(tries)/2 {
			t.Errorf("%d tries in a minute, with %d pauses that differ", len(tries), len(gaps))
		}
	})
}

// TestRefusedThenHung: why the last attempts failed is not said of the one that is under way.
func TestRefusedThenHung(t *testing.T) {
	t.Parallel()
	authority := tlsidtest.NewCA(t).Issue(t, "poller").CAFile // a certificate would be of another time than the bubble's
	for name, tt := range map[string]struct {
		id    check.TLS
		words string
	}{
		"plaintext": {check.TLS{}, "accepts connections but says nothing"},
		"TLS":       {check.TLS{Mode: check.TLSServer, CAFile: authority}, "does not answer the TLS handshake"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const address = "127.2.0.1:1"
				var network sim.Net
				c := clientOf(t, &check.Agent{Name: "a", Address: address, TLS: tt.id}, network.Dial)
				ask := func() error {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					_, err := c.Ask(ctx, ssh)
					return err
				}
				wantFailure(t, "nobody listens", ask(), check.Unreachable, "can't connect", "refused")
				l, err := network.Listen(address)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = l.Close() }()
				accepted := make(chan net.Conn, 10)
				go func() {
					for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
						accepted <- conn
					}
					close(accepted)
				}()
				defer func() {
					_ = l.Close()
					for conn := range accepted {
						_ = conn.Close()
					}
				}()
				time.Sleep(maxBackoff)
				for range 10 {
					wantFailure(t, "it hangs", ask(), check.Unreachable, tt.words)
					time.Sleep(time.Second)
				}
			})
		})
	}
}

// TestCertificateChanges: a checker that comes back with a certificate of others is told so, and found
// again when it has its own.
func TestCertificateChanges(t *testing.T) {
	t.Parallel()
	ca, others := tlsidtest.NewCA(t), tlsidtest.NewCA(t)
	address := ownHost() + ":50051"
	checker := sim.NewChecker(sim.OK())
	mine, foreign := ca.Issue(t, "checker", tlsidtest.Hosts(address[:len(address)-6])), others.Issue(t, "checker", tlsidtest.Hosts(address[:len(address)-6]))
	c := newClient(t, address, ca.Issue(t, "poller"))
	for _, round := range []struct {
		id    check.TLS
		sound bool
	}{{mine, true}, {foreign, false}, {mine, true}} {
		server := startCheckerAt(t, checker, address, serverCreds(t, round.id))
		if round.sound {
			connect(t, c)
		}
		switch _, err := c.Ask(within(t, long), ssh); {
		case round.sound && err != nil:
			t.Errorf("its own certificate: %v", err)
		case !round.sound:
			wantFailure(t, "a certificate of others", err, check.TLSFailed, address, "unknown authority", "check tls.mode")
		}
		server.Stop()
		if round.sound {
			lost(t, c)
		}
	}
}

// TestWordsOfAProxy: an error that sounds as gRPC's own about a server that goes away is the peer's
// answer all the same, and is asked for once.
func TestWordsOfAProxy(t *testing.T) {
	t.Parallel()
	words := status.Error(codes.Unavailable, "the connection is draining")
	checker := sim.NewChecker(sim.Behaviour{Answer: func(context.Context, *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
		return nil, words
	}})
	c := newClient(t, startChecker(t, checker, nil).Addr(), check.TLS{})
	_, err := c.Ask(within(t, long), ssh)
	wantFailure(t, "Ask", err, check.BadAnswer, "draining")
	if n := checker.AllCalls(); n != 1 {
		t.Errorf("the checker was asked %d times", n)
	}
	core := new(sim.Core)
	core.SetFault(sim.CoreFault{Code: codes.Unavailable, Text: "the connection is draining"})
	client := newCore(t, CoreConfig{Addresses: []string{startCore(t, core, "127.0.0.1:0").Addr()}})
	wantError(t, "a report", deliver(t, client, 1, "a/ssh"), wire.Retry, "draining")
	if n := core.Stats().Calls; n != 1 {
		t.Errorf("core was called %d times", n)
	}
}
