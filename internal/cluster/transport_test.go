package cluster

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/tlsid"
	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
)

// long is what a test waits for something that is bound to happen.
const long = 20 * time.Second

const clusterName = "test"

// carrier is a transport without memberlist, and what it told.
type carrier struct {
	*transport
	refused chan string
	dropped chan error
}

// carry starts a transport with an identity; without one it is plaintext.
func carry(t *testing.T, id check.TLS) *carrier {
	t.Helper()
	return carryAt(t, "127.0.0.1:0", id)
}

func carryAt(t *testing.T, at string, id check.TLS) *carrier {
	t.Helper()
	l, s, err := listen(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	return carryOn(t, l, s, id)
}

func carryOn(t *testing.T, l *net.TCPListener, s *net.UDPConn, id check.TLS) *carrier {
	t.Helper()
	server, err := tlsid.ServerFiles(id.CertFile, id.KeyFile, id.CAFile, func(err error) { t.Errorf("files were read again: %v", err) })
	if err != nil {
		t.Fatal(err)
	}
	c := &carrier{refused: make(chan string, 1000), dropped: make(chan error, 10_000)}
	c.transport = &transport{
		cluster: clusterName, listener: l, socket: s,
		refuse: func(_ net.Addr, reason string) { c.refused <- reason },
		drop: func(_ string, err error, packets int) {
			for range packets {
				c.dropped <- err
			}
		},
	}
	c.identity.Store(&identity{server, func(host string) (*tls.Config, error) { return tlsid.Client(id, host) }})
	if err := c.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Shutdown(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func (c *carrier) at() string { return c.address().String() }

// wait returns what comes out of a channel.
func wait[T any](t *testing.T, what string, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(long):
		t.Fatalf("no %s within %v", what, long)
	}
	return v
}

// tells wants it to refuse somebody, with words.
func (c *carrier) tells(t *testing.T, words string) {
	t.Helper()
	if got := wait(t, "refusal", c.refused); !strings.Contains(got, words) {
		t.Errorf("refused: %s; want in it: %s", got, words)
	} else if strings.Contains(got, "CRYPTO_ERROR") {
		t.Errorf("refused in words of QUIC: %s", got)
	}
}

func mutual(t *testing.T) (ca *tlsidtest.CA, id check.TLS) {
	t.Helper()
	ca = tlsidtest.NewCA(t)
	return ca, ca.Issue(t, "node")
}

// TestStreams: they go both ways, and end with the transport.
func TestStreams(t *testing.T) {
	t.Parallel()
	_, id := mutual(t)
	a, b := carryAt(t, "127.0.0.2:0", id), carry(t, id)
	out, err := a.DialTimeout(b.at(), long)
	if err != nil {
		t.Fatal(err)
	}
	in := wait(t, "stream", b.streams)
	if got := host(in.RemoteAddr()); got != "127.0.0.2" {
		t.Errorf("it comes from %s, and not from where it listens", got)
	}
	for _, way := range [][2]net.Conn{{out, in}, {in, out}} {
		if _, err := way[0].Write([]byte("hello")); err != nil {
			t.Error(err)
		}
		got := make([]byte, 5)
		if _, err := io.ReadFull(way[1], got); err != nil || string(got) != "hello" {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if err := b.Shutdown(); err != nil {
		t.Error(err)
	}
	if n, err := out.Read(make([]byte, 1)); err == nil {
		t.Errorf("read %d bytes after the other end's shutdown", n)
	}
	if _, err := b.DialTimeout(a.at(), long); err == nil {
		t.Error("connected after the shutdown")
	}
	if _, err := b.WriteTo(nil, a.at()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("sent after the shutdown: %v", err)
	}
}

// dialRaw connects to it and says something, and returns the connection.
func (c *carrier) dialRaw(t *testing.T, say string) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", c.at())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(long))
	if _, err := conn.Write([]byte(say)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// hangsUp wants the other side to end a connection.
func hangsUp(t *testing.T, conn net.Conn) {
	t.Helper()
	_, err := io.Copy(io.Discard, conn)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Error("it does not hang up")
	}
}

// TestStrangers: they are refused, and it is told why; they learn what is wrong as far as they can.
func TestStrangers(t *testing.T) {
	t.Parallel()
	ca, id := mutual(t)
	other := tlsidtest.NewCA(t)
	stranger := other.Issue(t, "node")
	stranger.CAFile = ca.File // it lets us in, but we don't it
	trusts := id
	trusts.CAFile = other.File // it is one of ours, but takes us for a stranger
	past := time.Now().AddDate(-1, 0, 0)
	expired := ca.Issue(t, "node", tlsidtest.Valid(past, past.AddDate(0, 1, 0)))
	elsewhere := ca.Issue(t, "node", tlsidtest.Hosts("10.0.0.1"))
	noName := check.TLS{Mode: check.TLSServer, CAFile: ca.File}
	const (
		notAccepted = "its certificate is not accepted"
		notShown    = "could not show that it is a node"
		ofAnother   = `it is not a node of the cluster "other"`
		isAnother   = `it is a node of the cluster "other", and this is one of "test"`
	)
	for name, test := range map[string]struct {
		server, client check.TLS
		cluster        string
		// What the client and the server are told by TCP, and by UDP.
		want, refused, wantUDP, refusedUDP string
	}{
		"plaintext to TLS": {id, check.TLS{}, clusterName, "", "it does not speak TLS", "it does not accept our certificate", "didn't provide a certificate"},
		"TLS to plaintext": {check.TLS{}, id, clusterName, "", "it speaks TLS, and this node is configured for plaintext", notAccepted, notShown},
		"no certificate":   {id, noName, clusterName, "", "didn't provide a certificate", "it does not accept our certificate", "didn't provide a certificate"},
		"another authority": {
			id, stranger, clusterName, "", "not of the cluster's authorities", "it does not accept our certificate", "not of the cluster's authorities",
		},
		"we are strangers":    {id, trusts, clusterName, notAccepted, notShown, notAccepted, notShown},
		"expired":             {id, expired, clusterName, "", "its certificate is not valid", "it does not accept our certificate", "its certificate is not valid"},
		"for another address": {elsewhere, id, clusterName, notAccepted, notShown, notAccepted, notShown},
		"another cluster":     {id, id, "other", ofAnother, isAnother, "it is not a node of ", isAnother},
		"another plain cluster": {
			check.TLS{}, check.TLS{}, "other", ofAnother, isAnother, "it is not a node of ", isAnother,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := carry(t, test.server)
			a := carry(t, check.TLS{})
			a.cluster = test.cluster
			config := func(host string) (*tls.Config, error) {
				config, err := tlsid.Client(test.client, host)
				if name == "expired" { // tlsid would not have it
					config, err = tlsid.Client(id, host)
					pair, e := tls.LoadX509KeyPair(expired.CertFile, expired.KeyFile)
					config.Certificates, err = []tls.Certificate{pair}, errors.Join(err, e)
				}
				return config, err
			}
			a.identity.Store(&identity{client: config})
			_, err := a.DialTimeout(b.at(), long)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("connecting: %v; want in it: %s", err, test.want)
			}
			b.tells(t, test.refused)
			if _, err := a.dialLink(t.Context(), b.at()); err == nil || !strings.Contains(err.Error(), test.wantUDP) {
				t.Errorf("connecting by UDP: %v; want in it: %s", err, test.wantUDP)
			}
			b.tells(t, test.refusedUDP)
			if l := b.newest(a.at()); l != nil {
				t.Error("there is a connection for packets")
			}
			select {
			case s := <-b.streams:
				t.Errorf("a stream from %s", s.RemoteAddr())
			case p := <-b.packets:
				t.Errorf("a packet from %s", p.From)
			default:
			}
		})
	}
}

func TestBabble(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ say, refused string }{
		"packets": {"p\x04" + clusterName, "does not speak the cluster's language"},
		"http":    {"GET / HTTP/1.1\r\n\r\n", "does not speak the cluster's language"},
		"nothing": {"", "did not show within 2s that it is a node"},
		"half":    {"s\x04te", "did not show within 2s that it is a node"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := carry(t, check.TLS{})
			conn := c.dialRaw(t, test.say)
			hangsUp(t, conn)
			c.tells(t, test.refused)
		})
	}
	t.Run("hangs up", func(t *testing.T) {
		t.Parallel()
		c := carry(t, check.TLS{})
		_ = c.dialRaw(t, "s").Close()
		c.tells(t, "hung up before it showed that it is a node")
	})
}

const hello = "s\x04" + clusterName

// TestManyUnknown: those who connect and say nothing don't take all there is; when they are gone others get in.
func TestManyUnknown(t *testing.T) {
	t.Parallel()
	c := carry(t, check.TLS{})
	for range mostUnknown {
		c.unknown <- struct{}{}
	}
	hangsUp(t, c.dialRaw(t, ""))
	c.tells(t, "too many connect at the same time")
	for range mostUnknown {
		<-c.unknown
	}
	for range mostUnknown + 1 { // those who get in take no place
		c.dialRaw(t, hello)
		wait(t, "stream", c.streams)
	}
	for range mostUnknown + 1 { // and those who are refused give theirs back
		hangsUp(t, c.dialRaw(t, "nonsense"))
		c.tells(t, "does not speak the cluster's language")
	}
}

func TestListenErrors(t *testing.T) {
	t.Parallel()
	taken := carry(t, check.TLS{})
	for address, want := range map[string]string{
		"":               "IP address at which the other nodes reach this one",
		"localhost:7946": "IP address",
		"0.0.0.0:7946":   "IP address",
		"[::]:7946":      "IP address",
		"127.0.0.1":      "IP address",
		"127.0.0.1:http": "IP address",
		"127.0.0.1:-1":   "IP address",
		taken.at():       "a port that nothing else has",
	} {
		if _, _, err := listen(t.Context(), address); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("listen(%q): %v; want in it: %s", address, err, want)
		}
	}
	udp, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.77:0") // where nobody else has a port by TCP
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = udp.Close() }()
	const want = "by UDP: "
	if _, _, err := listen(t.Context(), udp.LocalAddr().String()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a port that UDP has: %v; want in it: %s", err, want)
	}
}

// TestPeerIsNoStranger: a peer is no stranger for what a line loses, from whatever port it connects; what it should not show, and who is no peer, is told.
func TestPeerIsNoStranger(t *testing.T) {
	t.Parallel()
	tr := &transport{peers: map[string]*peer{"192.0.2.7:7946": nil}}
	for _, tt := range []struct {
		address string
		err     error
		want    bool
	}{
		{"192.0.2.7:7946", errSilent, true},
		{"192.0.2.7:40123", errSilent, true},
		{"192.0.2.7:40123", errHungUp, true},
		{"192.0.2.7:40123", errors.New("its certificate is not valid"), false},
		{"192.0.2.70:7946", errSilent, false},
	} {
		if got := tr.peerIsLate(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(tt.address)), tt.err); got != tt.want {
			t.Errorf("%s, %v: %v", tt.address, tt.err, got)
		}
	}
}
