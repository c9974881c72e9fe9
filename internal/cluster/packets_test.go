package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/quic-go/quic-go"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/tlsid"
	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
)

// sends has a packet go to another. On a machine that is very busy it may be too old when there is a link.
func (c *carrier) sends(t *testing.T, body []byte, to *carrier) *memberlist.Packet {
	t.Helper()
	for late := time.After(long); ; {
		if _, err := c.WriteTo(body, to.at()); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-to.packets:
			if !bytes.Equal(got.Buf, body) {
				t.Errorf("got %d bytes, want %d: %.20q, want %.20q", len(got.Buf), len(body), got.Buf, body)
			}
			return got
		case err := <-c.dropped:
			t.Log("dropped:", err)
		case <-late:
			t.Fatalf("no packet within %v", long)
		}
	}
}

// TestPackets: they come, whole, from where the sender listens; those that don't fit into a datagram, too.
func TestPackets(t *testing.T) {
	t.Parallel()
	_, id := mutual(t)
	for name, id := range map[string]check.TLS{"mtls": id, "plaintext": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := carry(t, id), carry(t, id)
			for _, size := range []int{1, 0, mostInDatagram, datagram, 5000, maxPacket, 3} {
				if got := a.sends(t, bytes.Repeat([]byte{byte(size)}, size), b); got.From.String() != a.at() {
					t.Errorf("from %s, want %s", got.From, a.at())
				}
			}
			if _, err := a.WriteTo(make([]byte, maxPacket+1), b.at()); !errors.Is(err, errTooLarge) {
				t.Errorf("too large: %v", err)
			}
		})
	}
}

// TestOneLink: what one side has made serves both.
func TestOneLink(t *testing.T) {
	t.Parallel()
	_, id := mutual(t)
	a, b := carry(t, id), carry(t, id)
	for range 3 {
		for _, way := range [][2]*carrier{{a, b}, {b, a}} {
			way[0].sends(t, []byte("x"), way[1])
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.links[b.at()]); n != 1 {
		t.Errorf("%d links", n)
	}
}

// TestFits: most is what memberlist sends in datagrams, which hold up nothing.
func TestFits(t *testing.T) {
	t.Parallel()
	_, id := mutual(t)
	a, b := carry(t, id), carry(t, id)
	l, err := a.dialLink(t.Context(), b.at())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.conn.SendDatagram(make([]byte, mostInDatagram)); err != nil {
		t.Error(err)
	}
	wait(t, "packet", b.packets)
	l.close()
}

// TestManyLarge: what does not fit into datagrams is bounded where nobody takes it, and told.
func TestManyLarge(t *testing.T) {
	t.Parallel()
	a, b := carry(t, check.TLS{}), carry(t, check.TLS{})
	a.sends(t, nil, b)
	const sent = 10 * mostLarge
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for range sent {
		if _, err := a.WriteTo(make([]byte, 2*datagram), b.at()); err != nil {
			t.Fatal(err)
		}
		<-tick.C
	}
	got, dropped := 0, 0
	for ; dropped < sent-2*mostLarge; dropped++ { // so many places there are here, and as many on the way
		if err := wait(t, "drop", a.dropped); !errors.Is(err, errManyLarge) {
			t.Errorf("dropped: %v", err)
		}
	}
	for got+dropped < sent {
		select {
		case <-b.packets:
			got++
		case err := <-a.dropped:
			t.Log("dropped:", err)
			dropped++
		case <-time.After(long):
			t.Fatalf("%d came, %d were dropped", got, dropped)
		}
	}
	if got < mostLarge {
		t.Errorf("%d came", got)
	}
}

// TestAnotherAddress: we hear a node whose certificate is not for where it is, but send it nothing, whoever has connected.
func TestAnotherAddress(t *testing.T) {
	t.Parallel()
	ca, id := mutual(t)
	a, b := carry(t, id), carry(t, ca.Issue(t, "node", tlsidtest.Hosts("10.0.0.1")))
	b.sends(t, []byte("x"), a)
	if a.newest(b.at()) != nil {
		t.Error("we would send by what it has made")
	}
	const want = "its certificate is not accepted"
	if _, err := a.dialLink(t.Context(), b.at()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("connecting: %v; want in it: %s", err, want)
	}
}

// TestKilled: of a node that is killed nobody is told that its links are over; what is sent to it goes by what its next life has made.
func TestKilled(t *testing.T) {
	t.Parallel()
	_, id := mutual(t)
	a, b := carry(t, id), carry(t, id)
	at := b.at()
	a.sends(t, []byte("1"), b)
	_ = b.quic.Close() // which says nothing to anybody
	if err := b.Shutdown(); err != nil {
		t.Fatal(err)
	}
	again := carryAt(t, at, id)
	again.sends(t, []byte("2"), a)
	a.sends(t, []byte("3"), again)
}

// TestSilentLink: a link on which nothing comes ends after a while.
func TestSilentLink(t *testing.T) {
	t.Parallel()
	a, b := carry(t, check.TLS{}), carry(t, check.TLS{})
	a.sends(t, []byte("1"), b)
	l := a.newest(b.at())
	_ = b.quic.Close()
	wait(t, "end of the link", l.conn.Context().Done())
	if l := a.newest(b.at()); l != nil {
		t.Error("it is in use")
	}
}

// TestHangUp: links are made anew, also by who was about to take one in with the identity of before.
func TestHangUp(t *testing.T) {
	t.Parallel()
	_, id := mutual(t)
	a, b := carry(t, id), carry(t, id)
	var before *link
	for i := range byte(3) {
		a.sends(t, []byte{i}, b)
		l := a.newest(b.at())
		if l == before {
			t.Error("the link of before is in use")
		}
		before = l
		b.hangUp()
		wait(t, "end of the link", l.conn.Context().Done())
		var closed *quic.ApplicationError
		if err := context.Cause(l.conn.Context()); !errors.As(err, &closed) || !closed.Remote {
			t.Errorf("it ended by itself: %v", err)
		}
	}
	stale := *a.identity.Load()
	if err := a.add(&link{before.conn, &stale, true}); !errors.Is(err, errRenewed) {
		t.Errorf("a link with another identity: %v", err)
	}
}

// caller is a stranger's socket.
type caller struct {
	net.PacketConn
	// hears says that answers get to him; else they come here.
	hears bool
	heard chan []byte
}

func (c *caller) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := c.PacketConn.ReadFrom(b)
		if c.hears || err != nil {
			return n, from, err
		}
		select {
		case c.heard <- bytes.Clone(b[:n]):
		default:
		}
	}
}

// call has a stranger connect by QUIC. What he speaks is not verified by him.
func (c *carrier) call(t *testing.T, hears bool, protocol string) (*caller, *quic.Conn, error) {
	t.Helper()
	socket, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	from := &caller{socket, hears, make(chan []byte, 1)}
	by := &quic.Transport{Conn: quietly{from}}
	t.Cleanup(func() {
		_ = by.Close()
		_ = socket.Close()
	})
	if !hears { // so it takes a while
		go func() { _, _ = c.callBy(t.Context(), by, protocol) }()
		return from, nil, nil
	}
	conn, err := c.callBy(t.Context(), by, protocol)
	return from, conn, err
}

func (c *carrier) callBy(ctx context.Context, by *quic.Transport, protocol string) (*quic.Conn, error) {
	return by.Dial(ctx, c.socket.LocalAddr(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}}, linkConfig(-1))
}

// over waits until a connection is.
func over(t *testing.T, conn *quic.Conn) {
	t.Helper()
	wait(t, "end of the connection", conn.Context().Done())
}

// TestCallers: strangers by UDP are refused, and it is told why.
func TestCallers(t *testing.T) {
	t.Parallel()
	const language = "does not speak the cluster's language"
	for name, test := range map[string]struct{ say, refused string }{
		"http":    {"GET / HTTP/1.1\r\n\r\n", language},
		"streams": {hello, language},
		"nothing": {"", "did not show within 2s that it is a node"},
		"half":    {"p\x04te", "did not show within 2s that it is a node"},
		"other":   {"p\x05other", `it is a node of the cluster "other"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := carry(t, check.TLS{})
			_, conn, err := c.call(t, true, packetsProtocol)
			if err != nil {
				t.Fatal(err)
			}
			if test.say != "" {
				stream, err := conn.OpenStream()
				if err != nil {
					t.Fatal(err)
				}
				_, _ = stream.Write([]byte(test.say))
			}
			_ = conn.SendDatagram([]byte("x")) // to be heard by nobody
			over(t, conn)
			c.tells(t, test.refused)
			select {
			case p := <-c.packets:
				t.Errorf("a packet from %s", p.From)
			default:
			}
		})
	}
	t.Run("hangs up", func(t *testing.T) {
		t.Parallel()
		c := carry(t, check.TLS{})
		_, conn, err := c.call(t, true, packetsProtocol)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.CloseWithError(0, "please write this to your log")
		c.tells(t, "hung up before it showed that it is a node")
	})
	t.Run("another protocol", func(t *testing.T) {
		t.Parallel()
		c := carry(t, check.TLS{})
		_, _, err := c.call(t, true, "h3")
		if err = unreached(err); !strings.Contains(err.Error(), language) {
			t.Errorf("connecting: %v; want in it: %s", err, language)
		}
		c.tells(t, language)
	})
	t.Run("silent", func(t *testing.T) {
		t.Parallel()
		c := carry(t, check.TLS{})
		_, _, _ = c.call(t, false, packetsProtocol)
		c.tells(t, "did not show within 2s that it is a node")
	})
}

// TestLatePeer: of a node of ours that a line keeps from connecting it is not told that it is a stranger.
func TestLatePeer(t *testing.T) {
	t.Parallel()
	c := carry(t, check.TLS{})
	from, _, _ := c.call(t, false, packetsProtocol)
	wait(t, "answer", from.heard)
	if _, err := c.WriteTo([]byte("x"), from.LocalAddr().String()); err != nil {
		t.Fatal(err)
	}
	for tick := time.NewTicker(10 * time.Millisecond); len(c.callers) > 0; {
		wait(t, "tick", tick.C)
	}
	if err := wait(t, "drop", c.dropped); !strings.Contains(err.Error(), "did not answer in time") {
		t.Errorf("dropped: %v", err)
	}
	select {
	case why := <-c.refused:
		t.Errorf("refused: %s", why)
	default:
	}
}

// TestGarbage: what is no QUIC changes nothing.
func TestGarbage(t *testing.T) {
	t.Parallel()
	a, b := carry(t, check.TLS{}), carry(t, check.TLS{})
	conn, err := new(net.Dialer).DialContext(t.Context(), "udp", b.at())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for size := 0; size < datagram; size += 60 {
		for _, first := range []byte{0x00, 0x40, 0x80, 0xc0, 0xff} {
			if _, err := conn.Write(append([]byte{first, 0, 0, 0, 1}, bytes.Repeat([]byte{byte(size)}, size)...)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := a.sends(t, []byte("x"), b); got.From.String() != a.at() {
		t.Errorf("a packet from %s", got.From)
	}
}

// TestOversize: a packet that is too large ends the connection, before all of it is read.
func TestOversize(t *testing.T) {
	t.Parallel()
	a, c := carry(t, check.TLS{}), carry(t, check.TLS{})
	l, err := a.dialLink(t.Context(), c.at())
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1, maxPacket} {
		stream, err := l.conn.OpenUniStream()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = stream.Write(make([]byte, size))
		_ = stream.Close()
		if got := wait(t, "packet", c.packets); len(got.Buf) != size {
			t.Errorf("got %d bytes, want %d", len(got.Buf), size)
		}
	}
	endless, err := l.conn.OpenUniStream()
	if err != nil {
		t.Fatal(err)
	}
	sent := 0
	for n := 0; err == nil; sent += n {
		n, err = endless.Write(make([]byte, datagram))
	}
	if sent > 4*maxPacket { // what is on its way before it is known is bounded, too
		t.Errorf("%d bytes of it were taken", sent)
	}
	over(t, l.conn)
	c.tells(t, "more than 65536 bytes")
}

// TestManyCallers: those who begin a handshake and don't end it don't take all there is; when they are gone others get in.
func TestManyCallers(t *testing.T) {
	t.Parallel()
	a, c := carry(t, check.TLS{}), carry(t, check.TLS{})
	connect := func() error {
		l, err := a.dialLink(t.Context(), c.at())
		if err == nil {
			l.close()
		}
		return err
	}
	free := func(who string) {
		t.Helper()
		for tick := time.NewTicker(time.Millisecond); len(c.callers) > 0; {
			wait(t, who+" to give its place back", tick.C)
		}
	}
	if err := connect(); err != nil {
		t.Fatal(err)
	}
	free("one who got in")
	a.cluster = "other"
	if err := connect(); err == nil {
		t.Fatal("a stranger got in")
	}
	c.tells(t, `it is a node of the cluster "other"`)
	free("one who was refused")
	for range mostUnknown {
		c.callers <- struct{}{}
	}
	const want = "too many others connect to it"
	if err := connect(); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("connecting: %v; want in it: %s", err, want)
	}
	c.tells(t, "too many connect at the same time")
}

// TestElsewhere: when many connect they have to show first that they are where they say. Who does gets in.
func TestElsewhere(t *testing.T) {
	t.Parallel()
	a, c := carry(t, check.TLS{}), carry(t, check.TLS{})
	for range mostUnknown / 2 {
		c.callers <- struct{}{}
	}
	from, _, _ := c.call(t, false, packetsProtocol)
	const retry = 0xf0 // the type of a packet
	if got := wait(t, "answer", from.heard)[0]; got&retry != retry || len(c.callers) != mostUnknown/2 {
		t.Errorf("somebody who may be elsewhere takes a place, and is answered by a packet of type %#x", got)
	}
	l, err := a.dialLink(t.Context(), c.at())
	if err != nil {
		t.Fatal(err)
	}
	l.close()
}

// TestFiles: who connects by UDP is shown what is in the files now.
func TestFiles(t *testing.T) {
	t.Parallel()
	ca, id := mutual(t)
	a := carry(t, id)
	other := ca.Issue(t, "other")
	server, err := tlsid.Server(other)
	if err != nil {
		t.Fatal(err)
	}
	follows := server.Clone()
	follows.Certificates = nil
	follows.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return server, nil }
	b := carry(t, id)
	b.identity.Store(&identity{follows, func(host string) (*tls.Config, error) { return tlsid.Client(other, host) }})
	l, err := a.dialLink(t.Context(), b.at())
	if err != nil {
		t.Fatal(err)
	}
	if got := l.conn.ConnectionState().TLS.PeerCertificates[0].Subject.CommonName; got != "other" {
		t.Errorf("shown the certificate of %s", got)
	}
	l.close()
}
