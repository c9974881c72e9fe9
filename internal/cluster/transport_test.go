package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

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
	l, err := listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, err := tlsid.Server(id)
	if err != nil {
		t.Fatal(err)
	}
	c := &carrier{refused: make(chan string, 1000), dropped: make(chan error, 10_000)}
	c.transport = &transport{
		cluster: clusterName, listener: l,
		refuse: func(_ net.Addr, reason string) { c.refused <- reason },
		drop: func(_ string, err error, packets int) {
			for range packets {
				c.dropped <- err
			}
		},
	}
	c.identity.Store(&identity{server, func(host string) (*tls.Config, error) { return tlsid.Client(id, host) }})
	c.start(t.Context())
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
	}
}

func mutual(t *testing.T) (ca *tlsidtest.CA, id check.TLS) {
	t.Helper()
	ca = tlsidtest.NewCA(t)
	return ca, ca.Issue(t, "node")
}

// TestPackets: they come, in order, whole, over one connection.
func TestPackets(t *testing.T) {
	t.Parallel()
	_, id := mutual(t)
	for name, id := range map[string]check.TLS{"mtls": id, "plaintext": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := carry(t, id), carry(t, id)
			var from net.Addr
			for _, size := range []int{1, 0, 1400, 5000, maxPacket, 3} {
				sent := bytes.Repeat([]byte{byte(size)}, size)
				if _, err := a.WriteTo(sent, b.at()); err != nil {
					t.Fatal(err)
				}
				got := wait(t, "packet", b.packets)
				if !bytes.Equal(got.Buf, sent) {
					t.Errorf("got %d bytes, want %d", len(got.Buf), size)
				}
				if from != nil && from.String() != got.From.String() {
					t.Errorf("from %s, and before from %s", got.From, from)
				}
				from = got.From
			}
			if _, err := a.WriteTo(make([]byte, maxPacket+1), b.at()); !errors.Is(err, errTooLarge) {
				t.Errorf("too large: %v", err)
			}
		})
	}
}

// TestManyPackets: several that come in one read, or in parts, are told apart.
func TestManyPackets(t *testing.T) {
	t.Parallel()
	var all []byte
	for i := range 300 {
		all = append(all, frame(bytes.Repeat([]byte{byte(i)}, i*7))...)
	}
	for _, most := range []int{1, 3, 1000, 100_000} {
		r := &slow{all, most}
		in := make([]byte, 0, 64)
		for i := range 300 {
			var got []byte
			var err error
			if got, in, err = readPacket(r, in); err != nil || !bytes.Equal(got, bytes.Repeat([]byte{byte(i)}, i*7)) {
				t.Fatalf("reads of %d: packet %d: %d bytes, %v", most, i, len(got), err)
			}
		}
		if _, _, err := readPacket(r, in); !errors.Is(err, io.EOF) {
			t.Errorf("at the end: %v", err)
		}
	}
}

// slow gives so many bytes at a time.
type slow struct {
	left []byte
	most int
}

func (s *slow) Read(b []byte) (int, error) {
	if len(s.left) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), s.most)], s.left)
	s.left = s.left[n:]
	return n, nil
}

// TestStreams: they go both ways, and end with the transport.
func TestStreams(t *testing.T) {
	t.Parallel()
	_, id := mutual(t)
	a, b := carry(t, id), carry(t, id)
	out, err := a.DialTimeout(b.at(), long)
	if err != nil {
		t.Fatal(err)
	}
	in := wait(t, "stream", b.streams)
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
	for name, test := range map[string]struct {
		server, client check.TLS
		cluster        string
		want           string // of what the client is told
		refused        string
	}{
		"plaintext to TLS":      {id, check.TLS{}, clusterName, "", "it does not speak TLS"},
		"TLS to plaintext":      {check.TLS{}, id, clusterName, "", "it speaks TLS, and this node is configured for plaintext"},
		"no certificate":        {id, check.TLS{Mode: check.TLSServer, CAFile: ca.File}, clusterName, "", "didn't provide a certificate"},
		"another authority":     {id, stranger, clusterName, "", "not of the cluster's authorities"},
		"we are strangers":      {id, trusts, clusterName, "its certificate is not accepted", "could not show that it is a node"},
		"expired":               {id, expired, clusterName, "", "its certificate is not valid"},
		"for another address":   {elsewhere, id, clusterName, "its certificate is not accepted", "could not show that it is a node"},
		"another cluster":       {id, id, "other", `it is not a node of the cluster "other"`, `it is a node of the cluster "other", and this is one of "test"`},
		"another plain cluster": {check.TLS{}, check.TLS{}, "other", `it is not a node of the cluster "other"`, `it is a node of the cluster "other"`},
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
			select {
			case s := <-b.streams:
				t.Errorf("a stream from %s", s.RemoteAddr())
			default:
			}
		})
	}
}

func TestBabble(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ say, refused string }{
		"http":    {"GET / HTTP/1.1\r\n\r\n", "does not speak the cluster's language"},
		"nothing": {"", "did not show within 2s that it is a node"},
		"half":    {"p\x04te", "did not show within 2s that it is a node"},
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
		_ = c.dialRaw(t, "p").Close()
		c.tells(t, "hung up before it showed that it is a node")
	})
}

const hello = "p\x04" + clusterName

// TestOversize: a packet that is too large ends the connection, before it is read.
func TestOversize(t *testing.T) {
	t.Parallel()
	c := carry(t, check.TLS{})
	conn := c.dialRaw(t, hello+string(frame([]byte("x")))+string(binary.BigEndian.AppendUint32(nil, maxPacket+1)))
	if got := wait(t, "packet", c.packets); string(got.Buf) != "x" {
		t.Errorf("got %q", got.Buf)
	}
	hangsUp(t, conn)
	c.tells(t, "more than 65536 bytes")
}

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
		c.dialRaw(t, hello+string(frame([]byte("x"))))
		wait(t, "packet", c.packets)
	}
	for range mostUnknown + 1 { // and those who are refused give theirs back
		hangsUp(t, c.dialRaw(t, "nonsense"))
		c.tells(t, "does not speak the cluster's language")
	}
}

// TestQueue: to write never blocks, and what waits is bounded; the oldest go.
func TestQueue(t *testing.T) {
	t.Parallel()
	// Somebody who takes connections, and says nothing.
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c := carry(t, check.TLS{})
	const more = 100
	for range mostQueued + more + 1 {
		if _, err := c.WriteTo([]byte("x"), l.Addr().String()); err != nil {
			t.Fatal(err)
		}
	}
	full, failed := 0, 0
	for range mostQueued + more + 1 { // in the end all of them are dropped
		switch err := wait(t, "drop", c.dropped); {
		case errors.Is(err, errFull):
			full++
		case strings.Contains(err.Error(), "did not answer in time"):
			failed++
		default:
			t.Errorf("dropped: %v", err)
		}
	}
	if full < more || full > more+1 { // one may be on its way already
		t.Errorf("%d were dropped for others, and %d with the connection", full, failed)
	}
}

// TestOldPackets: what has waited for too long is not sent.
func TestOldPackets(t *testing.T) {
	t.Parallel()
	a, b := carry(t, check.TLS{}), carry(t, check.TLS{})
	p := &peer{t: a.transport, address: b.at()}
	p.send(packet{frame([]byte("old")), time.Now().Add(-tooOld - time.Second)})
	if err := wait(t, "drop", a.dropped); !errors.Is(err, errOld) {
		t.Errorf("dropped: %v", err)
	}
	p.send(packet{frame([]byte("new")), time.Now()})
	if got := wait(t, "packet", b.packets); string(got.Buf) != "new" {
		t.Errorf("got %q", got.Buf)
	}
}

// TestRetire: a peer to which nothing is sent goes, unless there is something again at that moment; the next packet makes another.
func TestRetire(t *testing.T) {
	t.Parallel()
	a, b := carry(t, check.TLS{}), carry(t, check.TLS{})
	p := &peer{t: a.transport, address: b.at(), queue: make(chan packet, mostQueued)}
	a.peers[b.at()] = p
	if _, err := a.WriteTo([]byte("x"), b.at()); err != nil {
		t.Fatal(err)
	}
	if p.retire() {
		t.Error("it goes though there is something to send")
	}
	<-p.queue
	if !p.retire() {
		t.Error("it stays though there is nothing to send")
	}
	if _, err := a.WriteTo([]byte("y"), b.at()); err != nil {
		t.Fatal(err)
	}
	if got := wait(t, "packet", b.packets); string(got.Buf) != "y" || len(p.queue) != 0 {
		t.Errorf("got %q", got.Buf)
	}
}

// TestPeerReturns: after a peer's end and return packets get there again; each attempt in between is delayed.
func TestPeerReturns(t *testing.T) {
	t.Parallel()
	a, b := carry(t, check.TLS{}), carry(t, check.TLS{})
	if _, err := a.WriteTo([]byte("1"), b.at()); err != nil {
		t.Fatal(err)
	}
	wait(t, "packet", b.packets)
	at := b.at()
	if err := b.Shutdown(); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 20 {
		_, _ = a.WriteTo([]byte("lost"), at)
		<-tick.C
	}
	if err := wait(t, "drop", a.dropped); err == nil {
		t.Error("dropped without a reason")
	}
	l, err := listen(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	again := &transport{cluster: clusterName, listener: l}
	again.identity.Store(&identity{})
	again.start(t.Context())
	defer func() { _ = again.Shutdown() }()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	for {
		_, _ = a.WriteTo([]byte("2"), at)
		select {
		case got := <-again.packets:
			if string(got.Buf) != "2" { // what was sent while it was away is gone
				continue
			}
			return
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("no packet comes")
		}
	}
}

// TestEnded: once a connection is known to have ended, the next packet goes over another, and none is lost.
func TestEnded(t *testing.T) {
	t.Parallel()
	a, b := carry(t, check.TLS{}), carry(t, check.TLS{})
	p := &peer{t: a.transport, address: b.at()}
	for i := range byte(3) {
		p.send(packet{frame([]byte{i}), time.Now()})
		if got := wait(t, "packet", b.packets); got.Buf[0] != i {
			t.Errorf("got %v, want %d", got.Buf, i)
		}
		b.hangUp()
		for tick := time.NewTicker(time.Millisecond); !p.ended.Load(); {
			wait(t, "tick", tick.C)
		}
	}
}

// TestHangUp: all connections are made anew.
func TestHangUp(t *testing.T) {
	t.Parallel()
	a, b := carry(t, check.TLS{}), carry(t, check.TLS{})
	var from net.Addr
	for i := range 3 {
		var got *memberlist.Packet
		for got == nil { // the first may go into a connection that is about to end
			if _, err := a.WriteTo([]byte{byte('0' + i)}, b.at()); err != nil {
				t.Fatal(err)
			}
			select {
			case got = <-b.packets:
				if got.Buf[0] != byte('0'+i) { // it was sent twice
					got = nil
				}
			case <-time.After(50 * time.Millisecond):
			}
		}
		if from != nil && from.String() == got.From.String() {
			t.Error("the connection of before is in use")
		}
		from = got.From
		b.hangUp()
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
		if l, err := listen(t.Context(), address); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("listen(%q): %v, %v; want in it: %s", address, l, err, want)
		}
	}
}
