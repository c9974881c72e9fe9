//go:build reload

package daemon_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"
	"google.golang.org/grpc/credentials"

	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/daemon"
	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/internal/tlsid"
	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
)

const certInterval = 2 * time.Second

// TestCertificates replaces certificates while agents are polled over mutual TLS, by the real clock: the poller's own, once with
// a broken file in between, and the authorities, with both trusted for a while. No run and no report may be lost, and each
// time all connections must show the new certificate before long. RELOAD_CERT_AGENTS (500) says how many agents there are.
func TestCertificates(t *testing.T) {
	defer goleak.VerifyNone(t)
	c := newCertificates(t)
	awaitMidSecond()
	began := time.Now()
	d := c.start()
	pause := func(cycles int) { <-time.After(time.Duration(cycles) * certInterval) }
	pause(3)
	c.wantShown("at first")

	next := c.old.Issue(t, "poller")
	tlsidtest.ReplacePair(t, c.mine, next)
	pause(3)
	c.wantShown("after the certificate was replaced")

	if err := os.WriteFile(c.mine.CertFile, []byte("-----BEGIN CERTIFICATE-----\nhalf of it"), 0o600); err != nil {
		t.Fatal(err)
	}
	pause(3)
	if ready, conditions := d.Ready(); !ready || !strings.Contains(fmt.Sprint(conditions), c.mine.CertFile) {
		t.Errorf("a broken file: ready %v, %+v", ready, conditions)
	}
	c.wantShownOf(next, "with a broken file")
	tlsidtest.ReplacePair(t, c.mine, c.old.Issue(t, "poller"))
	pause(3)
	c.wantShown("after the broken file was mended")

	tlsidtest.Replace(t, c.mine.CAFile, c.both)                // both authorities are trusted, here
	pause(3)                                                   // and there from the beginning:
	c.present(c.new)                                           // the others' certificates are of the new one
	tlsidtest.ReplacePair(t, c.mine, c.new.Issue(t, "poller")) // and so is ours
	pause(3)
	tlsidtest.Replace(t, c.mine.CAFile, c.new.File) // the old one is trusted no more
	pause(3)
	c.wantShown("after the authority was replaced")

	cycles := int((time.Since(began)+certInterval/4)/certInterval) + 1
	<-time.After(time.Until(began.Add(time.Duration(cycles)*certInterval - certInterval/4)))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := d.Stop(ctx); err != nil {
		t.Error(err)
	}
	for _, s := range c.servers {
		s.Stop()
	}
	c.verify(cycles)
}

// certificates is what TestCertificates works with.
type certificates struct {
	t        *testing.T
	agents   int
	old, new *tlsidtest.CA
	both     string // a file with both authorities
	mine     check.TLS
	toml     string
	core     sim.Core
	servers  []*sim.Server

	mu      sync.Mutex
	theirs  *tls.Config
	shown   map[string]int // open connections by the serial numbers of the poller's certificates
	refused int
}

func newCertificates(t *testing.T) *certificates {
	t.Helper()
	c := &certificates{
		t: t, agents: fromEnvironment(t, "RELOAD_CERT_AGENTS", 500, strconv.Atoi), old: tlsidtest.NewCA(t), new: tlsidtest.NewCA(t),
		both: filepath.Join(t.TempDir(), "both.pem"), shown: make(map[string]int),
	}
	var bundle []byte
	for _, ca := range []*tlsidtest.CA{c.old, c.new} {
		text, err := os.ReadFile(ca.File)
		if err != nil {
			t.Fatal(err)
		}
		bundle = append(bundle, text...)
	}
	if err := os.WriteFile(c.both, bundle, 0o600); err != nil {
		t.Fatal(err)
	}
	c.mine = c.old.Issue(t, "poller")
	own := filepath.Join(t.TempDir(), "ca.pem") // the authority's own file is not to be replaced
	tlsidtest.Replace(t, own, c.mine.CAFile)
	c.mine.CAFile = own
	c.present(c.old)
	core, err := c.core.Start("127.8.0.1:0", c.creds())
	if err != nil {
		t.Fatal(err)
	}
	checker, err := sim.NewChecker(sim.OK()).Start("127.8.0.2:0", c.creds())
	if err != nil {
		t.Fatal(err)
	}
	c.servers = append(c.servers, core, checker)
	c.toml = fmt.Sprintf("poller_id = \"p\"\nstate_dir = \"memory\"\nsource_ip = \"127.0.0.1\"\nadmin.listen = \"\"\ncore.addresses = [%q]\n"+
		"poll = { interval = %q, timeout = \"1900ms\", rate = %d }\ntls = { mode = \"mtls\", cert_file = %q, key_file = %q, ca_file = %q }\n",
		core.Addr(), certInterval, c.agents, c.mine.CertFile, c.mine.KeyFile, c.mine.CAFile) + agents("a", c.agents, 2, checker.Addr())
	return c
}

// present has the servers show a certificate of an authority from now on. They trust both.
func (c *certificates) present(ca *tlsidtest.CA) {
	c.t.Helper()
	id := ca.Issue(c.t, "server", tlsidtest.Hosts("127.8.0.1", "127.8.0.2"))
	id.CAFile = c.both
	config, err := tlsid.Server(id)
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.theirs = config
}

func (c *certificates) creds() credentials.TransportCredentials {
	return counted{credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.theirs, nil
	}}), c}
}

// counted counts connections while they are open, by the certificates that the poller shows on them.
type counted struct {
	credentials.TransportCredentials
	c *certificates
}

func (k counted) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := k.TransportCredentials.ServerHandshake(raw)
	k.c.mu.Lock()
	defer k.c.mu.Unlock()
	if err != nil {
		k.c.refused++
		return nil, nil, err
	}
	serial := serialOf(info.(credentials.TLSInfo).State.PeerCertificates[0])
	k.c.shown[serial]++
	return &countedConn{Conn: conn, closed: func() {
		k.c.mu.Lock()
		defer k.c.mu.Unlock()
		if k.c.shown[serial]--; k.c.shown[serial] == 0 {
			delete(k.c.shown, serial)
		}
	}}, info, nil
}

func serialOf(cert *x509.Certificate) string { return cert.SerialNumber.String() }

type countedConn struct {
	net.Conn
	once   sync.Once
	closed func()
}

func (k *countedConn) Close() error {
	k.once.Do(k.closed)
	return k.Conn.Close()
}

func (c *certificates) start() *daemon.Daemon {
	c.t.Helper()
	file := filepath.Join(c.t.TempDir(), "poller.toml")
	if err := os.WriteFile(file, []byte(c.toml), 0o600); err != nil {
		c.t.Fatal(err)
	}
	load := func(map[string][]config.Target, fs.FS) config.Loaded { return config.Read(config.Source{File: file}) }
	loaded := load(nil, nil)
	if loaded.Err != nil {
		c.t.Fatal(loaded.Err)
	}
	d := daemon.New(daemon.Options{Config: loaded.Config, Files: loaded.Files, Load: load, Log: zerolog.Nop()})
	if err := d.Start(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	return d
}

// wantShown asserts that all connections show what is in the poller's files.
func (c *certificates) wantShown(when string) {
	c.t.Helper()
	c.wantShownOf(c.mine, when)
}

func (c *certificates) wantShownOf(id check.TLS, when string) {
	c.t.Helper()
	pair, err := tls.LoadX509KeyPair(id.CertFile, id.KeyFile)
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	want := map[string]int{serialOf(pair.Leaf): c.agents + 1}
	if !maps.Equal(c.shown, want) {
		c.t.Errorf("%s: connections by certificate %v, want %v", when, c.shown, want)
	}
}

func (c *certificates) verify(cycles int) {
	c.t.Helper()
	var times []int64
	statuses, bad := 0, 0
	for _, d := range slices.DeleteFunc(c.core.Deliveries(), sim.Delivery.Registration) {
		times = append(times, d.Timestamp)
		statuses += len(d.Services)
		for _, s := range d.Services {
			if !s.GetAvailable() {
				if bad++; bad < 5 {
					c.t.Errorf("a run was lost in the cycle of %v: %s", time.Unix(d.Timestamp, 0), s.GetMessage())
				}
			}
		}
	}
	regular := len(times) == cycles
	for i := 1; i < len(times); i++ {
		regular = regular && times[i]-times[i-1] == int64(certInterval/time.Second)
	}
	c.t.Logf("%d agents; %d cycles at core with %d statuses, of which %d are no answers; %d handshakes failed", c.agents, len(times), statuses, bad, c.refused)
	if !regular || statuses != cycles*c.agents*2 || bad > 0 || c.refused > 0 {
		c.t.Errorf("runs or reports were lost: %v", times)
	}
	for _, v := range c.core.Violations() {
		c.t.Error("violation:", v)
	}
}
