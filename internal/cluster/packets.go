package cluster

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/quic-go/quic-go"
)

// How packets go over the network.
const (
	// packetsProtocol is what TLS calls what we speak by QUIC.
	packetsProtocol = "poller-packets/1"
	// datagram is the size of all that goes over the network: what every line carries that QUIC goes over at all, so none has to be measured.
	datagram = 1200
	// mostInDatagram is how much of that memberlist may fill; QUIC needs the rest. What is larger goes by a stream of its own.
	mostInDatagram = 1100
	// mostLarge bounds how many packets that don't fit are on their way from a peer at the same time.
	mostLarge = 16
	// largeTimeout is how long one of them may be on its way.
	largeTimeout = time.Second
)

var (
	errManyLarge = fmt.Errorf("%d packets that don't fit into a datagram are on their way already", mostLarge)
	errRenewed   = errors.New("this node has got another identity while it connected")
)

// link is a connection for packets with a peer, whoever of the two made it. What is lost on it is lost, and holds up nothing that comes
// after it: an old beat is of no use.
type link struct {
	conn *quic.Conn
	// id is the identity that we have shown on it.
	id *identity
	// ours says that we would have connected to this peer, so that we may send by it; to hear him it is enough that he is a node.
	ours bool
}

// close ends the link, and has the other side know. Why is nothing that it should know.
func (l *link) close() { _ = l.conn.CloseWithError(0, "") }

// quietly is a socket whose buffers quic-go leaves as they are. Else it would write to standard error where it may not have them as large as a
// download needs. Without the socket itself it also sends no more than one packet at a time, and leaves it to the kernel whether packets may be taken
// to pieces on the way; both is as good here.
type quietly struct{ net.PacketConn }

func (quietly) SetReadBuffer(int) error  { return nil }
func (quietly) SetWriteBuffer(int) error { return nil }

func (t *transport) startPackets() error {
	var reset quic.StatelessResetKey
	_, _ = rand.Read(reset[:]) // never fails
	t.quic = &quic.Transport{
		Conn: quietly{t.socket}, ConnContext: t.meet,
		// Who is one of many has to show first that he is where he says: nobody takes all places with addresses that are not his.
		VerifySourceAddress: func(net.Addr) bool { return len(t.callers) >= mostUnknown/2 },
		// Has peers know at once when a link of this life is over of which they were not told.
		StatelessResetKey: &reset,
	}
	if t.identity.Load().server == nil {
		var err error
		if t.open, err = anybody(); err != nil {
			return fmt.Errorf("cluster: make a certificate, for packets need one also without TLS: %w", err)
		}
	}
	accepting, err := t.quic.Listen(&tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: t.forCaller}, linkConfig(1))
	if err != nil {
		return fmt.Errorf("cluster: listen on %s by QUIC: %w", t.socket.LocalAddr(), err)
	}
	t.wg.Go(func() { t.acceptLinks(accepting) })
	return nil
}

// linkConfig is for links whose peer may open some streams to make himself known.
func linkConfig(introductions int64) *quic.Config {
	return &quic.Config{
		EnableDatagrams: true,
		// A handshake may take twice as long in all.
		HandshakeIdleTimeout: acceptTimeout / 2,
		MaxIdleTimeout:       unackedFor,
		InitialPacketSize:    datagram, DisablePathMTUDiscovery: true,
		MaxIncomingStreams: introductions, MaxIncomingUniStreams: mostLarge,
		InitialStreamReceiveWindow: 2 * maxPacket, MaxStreamReceiveWindow: 2 * maxPacket,
		InitialConnectionReceiveWindow: 4 * maxPacket, MaxConnectionReceiveWindow: 4 * maxPacket,
	}
}

// anybody returns a certificate that says nothing.
func anybody() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	of := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, of, of, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// forCaller is what we show to one who connects, and want of him.
func (t *transport) forCaller(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	config := t.identity.Load().server
	switch {
	case config == nil:
		config = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{t.open}}
	case config.GetConfigForClient != nil: // it follows its files
		var err error
		if config, err = config.GetConfigForClient(hello); err != nil {
			return nil, err
		}
	}
	config = config.Clone()
	config.NextProtos, config.SessionTicketsDisabled = []string{packetsProtocol}, true
	return config, nil
}

// handshaken is under what a connection's context has the channel into which it goes when its handshake is complete.
type handshaken struct{}

// meet is called for each who begins a handshake; ctx is over when that fails, or the connection ends. It gives him a place.
func (t *transport) meet(ctx context.Context, caller *quic.ClientInfo) (context.Context, error) {
	select {
	case t.callers <- struct{}{}:
	default:
		err := errors.New("too many connect at the same time without showing that they are nodes of the cluster")
		t.refuse(caller.RemoteAddr, err.Error())
		return nil, err
	}
	in, id := make(chan *quic.Conn, 1), t.identity.Load()
	t.wg.Go(func() {
		l, err := t.letLinkIn(ctx, in, id)
		<-t.callers
		switch {
		case err == nil:
			t.serve(l)
		case t.ctx.Err() == nil && !errors.Is(err, errRenewed) && !t.peerIsLate(caller.RemoteAddr, err):
			t.refuse(caller.RemoteAddr, err.Error())
		}
	})
	return context.WithValue(ctx, handshaken{}, in), nil
}

// letLinkIn waits until somebody has shown that he is a node of the cluster. An error says why he is refused; the connection is closed then.
func (t *transport) letLinkIn(ctx context.Context, in <-chan *quic.Conn, id *identity) (l *link, err error) {
	var conn *quic.Conn
	select {
	case conn = <-in:
	case <-ctx.Done():
		return nil, strange(context.Cause(ctx))
	}
	code := quic.ApplicationErrorCode(0)
	defer func() {
		if err != nil {
			_ = conn.CloseWithError(code, "")
		}
	}()
	patience, cancel := context.WithTimeout(t.ctx, acceptTimeout)
	defer cancel()
	stream, err := conn.AcceptStream(patience) //nolint:contextcheck // with that of the connection it would not say why the connection has ended
	if err != nil {
		return nil, strange(err)
	}
	_ = stream.SetDeadline(time.Now().Add(acceptTimeout))
	if err := t.greet(stream, forPackets); err != nil {
		code = quic.ApplicationErrorCode(otherCluster) // closing may overtake the answer, which says the same
		return nil, err
	}
	_ = stream.Close()
	l = &link{conn, id, id.accepts(conn)}
	return l, t.add(l)
}

// accepts tells whether we would have connected to somebody who has connected to us.
func (id *identity) accepts(conn *quic.Conn) bool {
	config, err := id.client(host(conn.RemoteAddr()))
	if err != nil {
		return false // connecting says why
	}
	shown := conn.ConnectionState().TLS.PeerCertificates
	if config == nil || len(shown) == 0 {
		return config == nil
	}
	more := x509.NewCertPool()
	for _, c := range shown[1:] {
		more.AddCert(c)
	}
	_, err = shown[0].Verify(x509.VerifyOptions{DNSName: config.ServerName, Roots: config.RootCAs, Intermediates: more})
	return err == nil
}

func host(a net.Addr) string {
	host, _, _ := net.SplitHostPort(a.String())
	return host
}

// peerIsLate tells whether that is all: whoever we send something, too, is no stranger for what a line loses, or for thinking better of it.
func (t *transport) peerIsLate(address net.Addr, err error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !errors.Is(err, errSilent) && !errors.Is(err, errHungUp) {
		return false
	}
	for at := range t.peers { // a stream comes from another port
		if peer, _, _ := net.SplitHostPort(at); peer == host(address) {
			return true
		}
	}
	return false
}

func (t *transport) acceptLinks(accepting *quic.Listener) {
	for {
		conn, err := accepting.Accept(t.ctx)
		if err != nil {
			return
		}
		conn.Context().Value(handshaken{}).(chan *quic.Conn) <- conn
	}
}

// dialLink connects for packets until ctx is over, and then lets the other side find out who we are. Errors don't name the address.
func (t *transport) dialLink(ctx context.Context, address string) (*link, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", address, err)
	}
	id := t.identity.Load()
	config, err := id.client(at.Addr().String())
	if err != nil {
		return nil, err
	}
	if config == nil {
		config = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // no TLS is wanted, and QUIC can't do without
	}
	config = config.Clone()
	config.MinVersion, config.NextProtos = tls.VersionTLS13, []string{packetsProtocol}
	conn, err := t.quic.Dial(ctx, net.UDPAddrFromAddrPort(at), config, linkConfig(-1))
	if err != nil {
		return nil, unreached(err)
	}
	l := &link{conn, id, true}
	if err := t.introduceLink(conn); err != nil {
		l.close()
		return nil, unreached(err)
	}
	return l, t.add(l)
}

// introduceLink is not given up for a link that the peer has made: it may be about to give that up for this one.
func (t *transport) introduceLink(conn *quic.Conn) error {
	stream, err := conn.OpenStream()
	if err != nil {
		return err
	}
	_ = stream.SetDeadline(time.Now().Add(dialTimeout))
	if err := t.introduce(stream, forPackets); err != nil {
		return err
	}
	return stream.Close()
}

// add takes a link in, from now on the newest to its peer: one that was restarted hears nothing by those of before. With an
// error it is closed.
func (t *transport) add(l *link) error {
	at := l.conn.RemoteAddr().String()
	t.mu.Lock()
	if t.ctx.Err() != nil || t.identity.Load() != l.id { // hangUp has not seen it
		t.mu.Unlock()
		l.close()
		return errRenewed
	}
	t.links[at] = append(t.links[at], l)
	if p := t.peers[at]; p != nil && p.dialed != nil && l.ours {
		p.dialed()
	}
	t.mu.Unlock()
	return nil
}

// newest returns a link to send by, or nil.
func (t *transport) newest(address string) *link {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range slices.Backward(t.links[address]) {
		if l.ours && l.conn.Context().Err() == nil {
			return l
		}
	}
	return nil
}

// serve hands the packets of a link to memberlist, until it ends.
func (t *transport) serve(l *link) {
	at := l.conn.RemoteAddr()
	t.wg.Go(func() { t.receiveLarge(l) })
	for {
		b, err := l.conn.ReceiveDatagram(t.ctx)
		if err != nil {
			break
		}
		t.received(b, at)
	}
	l.close()
	t.mu.Lock()
	defer t.mu.Unlock()
	left := slices.DeleteFunc(t.links[at.String()], func(other *link) bool { return other == l })
	if t.links[at.String()] = left; len(left) == 0 {
		delete(t.links, at.String())
	}
}

func (t *transport) received(b []byte, from net.Addr) {
	select {
	case t.packets <- &memberlist.Packet{Buf: b, From: from, Timestamp: time.Now()}:
	case <-t.ctx.Done():
	}
}

// receiveLarge receives what does not fit into a datagram.
func (t *transport) receiveLarge(l *link) {
	places := make(chan struct{}, mostLarge)
	for {
		places <- struct{}{}
		stream, err := l.conn.AcceptUniStream(t.ctx)
		if err != nil {
			return
		}
		t.wg.Go(func() {
			defer func() { <-places }()
			_ = stream.SetReadDeadline(time.Now().Add(largeTimeout))
			b, err := io.ReadAll(io.LimitReader(stream, maxPacket+1))
			switch {
			case len(b) > maxPacket:
				t.refuse(l.conn.RemoteAddr(), errTooLarge.Error())
				l.close()
			case err != nil:
				stream.CancelRead(0)
			default:
				t.received(b, l.conn.RemoteAddr())
			}
		})
	}
}

// send sends a packet by a link. It waits while very much else waits there, at most until the link ends.
func (t *transport) send(address string, l *link, b []byte) error {
	err := l.conn.SendDatagram(b)
	if tooLarge := (*quic.DatagramTooLargeError)(nil); !errors.As(err, &tooLarge) {
		return err
	}
	stream, err := l.conn.OpenUniStream()
	if limit := (*quic.StreamLimitReachedError)(nil); errors.As(err, &limit) {
		return errManyLarge
	} else if err != nil {
		return err
	}
	t.wg.Go(func() {
		_ = stream.SetWriteDeadline(time.Now().Add(largeTimeout))
		_, err := stream.Write(b)
		if err == nil {
			err = stream.Close()
		}
		if err != nil {
			stream.CancelWrite(0)
			t.drop(address, unreached(err), 1)
		}
	})
	return nil
}
