package transport

import (
	"crypto/tls"
	"os"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/internal/tlsid"
	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
	"github.com/serviceradar/poller/internal/wire"
)

// gate has the TLS of a server, which can be changed, and knows who came in.
type gate struct {
	t *testing.T

	mu    sync.Mutex
	now   *tls.Config
	shown []string // the serial numbers of the clients' certificates, one for each connection
}

func newGate(t *testing.T, id check.TLS) *gate {
	t.Helper()
	g := &gate{t: t}
	g.change(id)
	return g
}

// change has new connections meet another identity.
func (g *gate) change(id check.TLS) {
	g.t.Helper()
	config, err := tlsid.Server(id)
	if err != nil {
		g.t.Fatal(err)
	}
	config.VerifyConnection = func(state tls.ConnectionState) error {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.shown = append(g.shown, state.PeerCertificates[0].SerialNumber.String())
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now = config
}

func (g *gate) creds() credentials.TransportCredentials {
	return credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.now, nil
	}})
}

// met wants so many connections by now, the last with the certificate of an identity.
func (g *gate) met(connections int, id check.TLS) {
	g.t.Helper()
	pair, err := tls.LoadX509KeyPair(id.CertFile, id.KeyFile)
	if err != nil {
		g.t.Fatal(err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.shown) != connections || g.shown[len(g.shown)-1] != pair.Leaf.SerialNumber.String() {
		g.t.Errorf("connections with the certificates %v; want %d, the last with %v", g.shown, connections, pair.Leaf.SerialNumber)
	}
}

// refresh wants a Refresh that finds other files, or nothing but what can't be used.
func refresh(t *testing.T, store *tlsid.Store, changed bool) {
	t.Helper()
	ids, errs := store.Refresh(time.Now())
	if len(ids) > 0 != changed || len(errs) > 0 == changed {
		t.Errorf("Refresh: %v, %v; want a change: %t", ids, errs, changed)
	}
}

func spoil(t *testing.T, file string) {
	t.Helper()
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestCheckerRotation: a new client shows what the files were at the last look, or before if they are broken. One that
// there is goes on as it was.
func TestCheckerRotation(t *testing.T) {
	t.Parallel()
	ca := tlsidtest.NewCA(t)
	g := newGate(t, ca.Issue(t, "checker"))
	agent := &check.Agent{Name: "a", Address: startChecker(t, sim.NewChecker(sim.OK()), g.creds()).Addr(), TLS: ca.Issue(t, "poller")}
	first, second := ca.Issue(t, "poller"), ca.Issue(t, "poller")
	tlsidtest.ReplacePair(t, agent.TLS, first)
	store := tlsid.NewStore()
	ask := func() *Checker {
		t.Helper()
		c, err := NewChecker(agent, CheckerConfig{PollerID: "p", Identities: store})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if _, err := c.Ask(within(t, long), ssh); err != nil {
			t.Error(err)
		}
		return c
	}
	old := ask()
	g.met(1, first)
	tlsidtest.ReplacePair(t, agent.TLS, second)
	ask()
	g.met(2, first)
	refresh(t, store, true)
	ask()
	g.met(3, second)
	spoil(t, agent.TLS.KeyFile)
	refresh(t, store, false)
	ask()
	g.met(4, second)
	if _, err := old.Ask(within(t, long), ssh); err != nil {
		t.Errorf("the client of before: %v", err)
	}
	g.met(4, second)
}

// TestCoreRotation: after Renew the next delivery goes over a connection with the new certificate, and is a stream.
func TestCoreRotation(t *testing.T) {
	t.Parallel()
	ca := tlsidtest.NewCA(t)
	g, core := newGate(t, ca.Issue(t, "core")), new(sim.Core)
	me, first, second := ca.Issue(t, "poller"), ca.Issue(t, "poller"), ca.Issue(t, "poller")
	tlsidtest.ReplacePair(t, me, first)
	store := tlsid.NewStore()
	c := newCore(t, CoreConfig{Addresses: []string{startCoreTLS(t, core, g).Addr()}, TLS: me, Identities: store})
	mustDeliver(t, c, 1, "a/ssh")
	mustDeliver(t, c, 2, "a/ssh")
	g.met(1, first)
	tlsidtest.ReplacePair(t, me, second)
	refresh(t, store, true)
	c.Renew()
	if c.conn != nil {
		t.Error("nothing is under way, and the connection is still there")
	}
	mustDeliver(t, c, 3, "a/ssh")
	mustDeliver(t, c, 4, "a/ssh")
	g.met(2, second)
	spoil(t, me.CertFile)
	refresh(t, store, false)
	c.Renew() // whoever asks for it
	mustDeliver(t, c, 5, "a/ssh")
	g.met(3, second)
	wantTaken(t, core, "stream p/1/1 a/ssh", "unary p/1/2 a/ssh", "stream p/1/3 a/ssh", "unary p/1/4 a/ssh", "stream p/1/5 a/ssh")
}

// TestCoreAuthorityRotation: the authority changes on both sides, one step after the other, and each report gets
// through; until core comes with the old one again, which nobody trusts any more.
func TestCoreAuthorityRotation(t *testing.T) {
	t.Parallel()
	old, next := tlsidtest.NewCA(t), tlsidtest.NewCA(t)
	me, theirs := old.Issue(t, "poller"), old.Issue(t, "core")
	both := me.CertFile + ".both"
	tlsidtest.Replace(t, both, old.File)
	appendFile(t, both, next.File)
	me.CAFile = me.CertFile + ".ca"
	tlsidtest.Replace(t, me.CAFile, old.File)
	g, core, store := newGate(t, theirs), new(sim.Core), tlsid.NewStore()
	c := newCore(t, CoreConfig{Addresses: []string{startCoreTLS(t, core, g).Addr()}, TLS: me, Identities: store})
	mustDeliver(t, c, 1, "a/ssh")

	tlsidtest.Replace(t, me.CAFile, both)
	refresh(t, store, true)
	c.Renew()
	mustDeliver(t, c, 2, "a/ssh")
	renewed := next.Issue(t, "core")
	renewed.CAFile = both
	g.change(renewed)
	c.Renew()
	mustDeliver(t, c, 3, "a/ssh")
	tlsidtest.ReplacePair(t, me, next.Issue(t, "poller"))
	tlsidtest.Replace(t, me.CAFile, next.File)
	refresh(t, store, true)
	c.Renew()
	mustDeliver(t, c, 4, "a/ssh")
	mustDeliver(t, c, 5, "a/ssh")
	g.met(4, me)
	wantTaken(t, core, "stream p/1/1 a/ssh", "stream p/1/2 a/ssh", "stream p/1/3 a/ssh", "stream p/1/4 a/ssh", "unary p/1/5 a/ssh")

	theirs.CAFile = both
	g.change(theirs)
	c.Renew()
	wantError(t, "the old authority", deliver(t, c, 6, "a/ssh"), wire.Retry, "unknown authority")
	if n := core.Stats().Calls; n != 5 {
		t.Errorf("%d calls", n)
	}
}

func appendFile(t *testing.T, file, by string) {
	t.Helper()
	var all []byte
	for _, from := range []string{file, by} {
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, content...)
	}
	if err := os.WriteFile(file, all, 0o600); err != nil {
		t.Fatal(err)
	}
}

func startCoreTLS(t *testing.T, core *sim.Core, g *gate) *sim.Server {
	t.Helper()
	server, err := core.Start("127.0.0.1:0", g.creds())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return server
}
