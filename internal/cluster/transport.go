package cluster

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

// What bounds the transport.
const (
	// acceptTimeout is how long somebody who connects may take to show that he is a node of the cluster.
	acceptTimeout = 2 * time.Second
	// mostUnknown bounds how many do so at the same time: handshakes cost, and anybody may begin one.
	mostUnknown = 64
	// packetsIdle is how long a connection for packets may be without any. Beats come four times a second.
	packetsIdle = time.Minute
	// unackedFor is for how long the kernel tries to send what nobody acknowledges: two leases' terms. It is of no use then, but a line that
	// loses much may do better soon, and to connect anew takes more packets.
	unackedFor = 2 * term
	// maxPacket bounds a packet. memberlist's are far smaller, and so are beats.
	maxPacket = 64 << 10
)

// What a connection begins with: its kind, the length of the cluster's name in a byte, and that name. The answer is one byte.
const (
	forPackets byte = 'p'
	forStream  byte = 's'

	welcome      byte = 'w'
	otherCluster byte = 'o'
)

// transport carries what memberlist says: packets over one connection to each peer, and streams over one each, all of them
// TLS with certificates on both sides, or plaintext. Nothing that a stranger sends gets to memberlist.
type transport struct {
	cluster  string
	listener *net.TCPListener
	identity atomic.Pointer[identity]
	// refuse is told of strangers, drop of packets that are not sent to an address, for a reason.
	refuse func(address net.Addr, reason string)
	drop   func(address string, err error, packets int)

	packets chan *memberlist.Packet
	streams chan net.Conn
	unknown chan struct{} // has a place for each who has not shown that he is a node

	ctx  context.Context // ends with the transport
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu    sync.Mutex
	peers map[string]*peer
	conns map[*conn]struct{}
}

// identity is what a node shows of itself: the configurations for those who connect to it, and for connecting to a host; nil
// means plaintext.
type identity struct {
	server *tls.Config
	client func(host string) (*tls.Config, error)
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

// start has the transport listen to those who connect.
func (t *transport) start(ctx context.Context) {
	t.packets = make(chan *memberlist.Packet)
	t.streams = make(chan net.Conn)
	t.unknown = make(chan struct{}, mostUnknown)
	t.peers = make(map[string]*peer)
	t.conns = make(map[*conn]struct{})
	t.ctx, t.stop = context.WithCancel(context.WithoutCancel(ctx))
	t.wg.Go(t.accept)
}

// conn is a connection that the transport closes when it ends.
type conn struct {
	net.Conn
	t *transport
}

func (c *conn) Close() error {
	c.t.mu.Lock()
	delete(c.t.conns, c)
	c.t.mu.Unlock()
	return c.Conn.Close()
}

// own has the transport close a connection when it ends, or at once if it has.
func (t *transport) own(raw net.Conn) (*conn, error) {
	c := &conn{raw, t}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ctx.Err() != nil {
		_ = raw.Close()
		return nil, net.ErrClosed
	}
	t.conns[c] = struct{}{}
	return c, nil
}

// Hasten sets the options of a connection between two nodes: what is lost is sent again soon.
func Hasten(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetNoDelay(true) // Go's default, and too much depends on it
		hasten(tcp, unackedFor)
	}
}

func (t *transport) accept() {
	for {
		tcp, err := t.listener.AcceptTCP()
		switch {
		case t.ctx.Err() != nil:
			if err == nil {
				_ = tcp.Close()
			}
			return
		case err != nil: // there is no file descriptor left, or they have hung up already
			select {
			case <-time.After(10 * time.Millisecond):
			case <-t.ctx.Done():
			}
			continue
		}
		select {
		case t.unknown <- struct{}{}:
			t.wg.Go(func() { t.admit(tcp) })
		default:
			t.refuse(tcp.RemoteAddr(), "too many connect at the same time without showing that they are nodes of the cluster")
			_ = tcp.Close()
		}
	}
}

// admit finds out who connects, and serves nodes of the cluster. It gives back the place in t.unknown.
func (t *transport) admit(tcp *net.TCPConn) {
	Hasten(tcp)
	c, kind, err := t.greet(tcp)
	<-t.unknown
	if err != nil {
		if t.ctx.Err() == nil {
			t.refuse(tcp.RemoteAddr(), err.Error())
		}
		return
	}
	if kind == forPackets {
		t.receive(c)
		return
	}
	select {
	case t.streams <- c: // memberlist closes it
	case <-t.ctx.Done():
		_ = c.Close()
	}
}

// greet lets a node of the cluster in, and says what it connects for. An error says why somebody is refused; the connection is closed then.
func (t *transport) greet(tcp *net.TCPConn) (c *conn, kind byte, err error) {
	raw := net.Conn(tcp)
	config := t.identity.Load().server
	if config != nil {
		raw = tls.Server(tcp, config)
	}
	if c, err = t.own(raw); err != nil {
		return nil, 0, err
	}
	defer func() {
		if err != nil {
			_ = c.Close()
		}
	}()
	_ = c.SetDeadline(time.Now().Add(acceptTimeout))
	if secure, ok := raw.(*tls.Conn); ok {
		if err := secure.HandshakeContext(t.ctx); err != nil {
			return c, 0, strange(err)
		}
	}
	var head [2]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return c, 0, strange(err)
	}
	kind = head[0]
	switch {
	case kind == 0x16 && config == nil:
		return c, 0, errors.New("it speaks TLS, and this node is configured for plaintext: configure all nodes alike")
	case kind != forPackets && kind != forStream:
		return c, 0, errors.New("it does not speak the cluster's language: another program, or a node of another version")
	}
	name := make([]byte, head[1])
	if _, err := io.ReadFull(c, name); err != nil {
		return c, 0, strange(err)
	}
	if string(name) != t.cluster {
		_, _ = c.Write([]byte{otherCluster})
		return c, 0, fmt.Errorf("it is a node of the cluster %q, and this is one of %q: one of them has the wrong name or seeds", name, t.cluster)
	}
	if _, err := c.Write([]byte{welcome}); err != nil {
		return c, 0, strange(err)
	}
	_ = c.SetDeadline(time.Time{})
	return c, kind, nil
}

// strange says what is wrong with somebody who does not get to say that he is a node.
func strange(err error) error {
	var plain tls.RecordHeaderError
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var net net.Error
	switch {
	case errors.As(err, &plain):
		return errors.New("it does not speak TLS: another program, or a node that is configured for plaintext")
	case errors.As(err, &unknown):
		return fmt.Errorf("its certificate is not of the cluster's authorities (ca_file): issue it one that is: %w", err)
	case errors.As(err, &invalid):
		return fmt.Errorf("its certificate is not valid: issue it another one: %w", err)
	case errors.As(err, &net) && net.Timeout():
		return fmt.Errorf("it did not show within %v that it is a node", acceptTimeout)
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("it hung up before it showed that it is a node")
	}
	return fmt.Errorf("it could not show that it is a node: %w", err)
}

// receive hands the packets of a connection to memberlist, until it ends.
func (t *transport) receive(c *conn) {
	defer func() { _ = c.Close() }()
	// A beat is one read.
	in := make([]byte, 0, 4<<10)
	for {
		_ = c.SetReadDeadline(time.Now().Add(packetsIdle))
		var packet []byte
		var err error
		if packet, in, err = readPacket(c, in); err != nil {
			if errors.Is(err, errTooLarge) {
				t.refuse(c.RemoteAddr(), err.Error())
			}
			return
		}
		select {
		case t.packets <- &memberlist.Packet{Buf: packet, From: c.RemoteAddr(), Timestamp: time.Now()}:
		case <-t.ctx.Done():
			return
		}
	}
}

func (t *transport) address() *net.TCPAddr { return t.listener.Addr().(*net.TCPAddr) }

// FinalAdvertiseAddr returns where we listen: others reach us there.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	at := t.address()
	if four := at.IP.To4(); four != nil {
		return four, at.Port, nil
	}
	return at.IP, at.Port, nil
}

// WriteTo is WriteToAddress.
func (t *transport) WriteTo(b []byte, address string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: address})
}

// WriteToAddress has a packet sent soon, or not at all. It never blocks.
func (t *transport) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	now := time.Now()
	if len(b) > maxPacket {
		return now, fmt.Errorf("packet for %s: %d bytes: %w", to.Addr, len(b), errTooLarge)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ctx.Err() != nil {
		return now, net.ErrClosed
	}
	p := t.peers[to.Addr]
	if p == nil {
		p = &peer{t: t, address: to.Addr, queue: make(chan packet, mostQueued)}
		t.peers[to.Addr] = p
		t.wg.Go(p.run)
	}
	p.put(packet{frame(b), now})
	return now, nil
}

// DialTimeout is DialAddressTimeout.
func (t *transport) DialTimeout(address string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: address}, timeout)
}

// DialAddressTimeout connects for a stream.
func (t *transport) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.dial(to.Addr, forStream, timeout)
}

// dial connects, and lets the other side find out who we are. The timeout is for all of that. Errors don't name the address.
func (t *transport) dial(address string, kind byte, timeout time.Duration) (_ *conn, err error) {
	ctx, cancel := context.WithTimeout(t.ctx, timeout)
	defer cancel()
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", address, err)
	}
	config, err := t.identity.Load().client(host)
	if err != nil {
		return nil, err
	}
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, unfriendly(err)
	}
	Hasten(raw)
	if config != nil {
		raw = tls.Client(raw, config)
	}
	c, err := t.own(raw)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = c.Close()
		}
	}()
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	if secure, ok := raw.(*tls.Conn); ok {
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, unfriendly(err)
		}
	}
	head := []byte{kind, byte(len(t.cluster))} //nolint:gosec // at most 255
	if _, err := c.Write(append(head, t.cluster...)); err != nil {
		return nil, unfriendly(err)
	}
	var answer [1]byte
	if _, err := io.ReadFull(c, answer[:]); err != nil {
		return nil, unfriendly(err)
	}
	switch answer[0] {
	case welcome:
	case otherCluster:
		return nil, fmt.Errorf("it is not a node of the cluster %q: check the clusters' names and the seeds", t.cluster)
	default:
		return nil, errors.New("it does not speak the cluster's language: another program, or a node of another version")
	}
	_ = c.SetDeadline(time.Time{})
	return c, nil
}

// unfriendly says what went wrong with a host to which we connected.
func unfriendly(err error) error {
	var op *net.OpError
	var plain tls.RecordHeaderError
	var verification *tls.CertificateVerificationError
	switch {
	case errors.As(err, &plain):
		return errors.New("it does not speak TLS: another program, or a node that is configured for plaintext")
	case errors.As(err, &verification):
		return fmt.Errorf("its certificate is not accepted: it has to be of the cluster's authorities (ca_file), "+
			"and for the address or server_name: %w", verification.Err)
	case errors.As(err, &op) && op.Op == "remote error": // an alert
		return fmt.Errorf("it does not accept our certificate, which has to be of the authorities it goes by: %w", err)
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET):
		return errors.New("it hung up without a word: is it a node of this cluster, with TLS configured as here?")
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New("it did not answer in time: does it run, and does nothing on the way drop what is sent to it?")
	case op != nil:
		return op.Err // without addresses: our port is another one each time
	}
	return err
}

// PacketCh has the packets that have come.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh has the streams that have come.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// hangUp closes all connections. Who needs one makes a new one.
func (t *transport) hangUp() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.conns {
		_ = c.Conn.Close()
		delete(t.conns, c)
	}
}

// Shutdown ends everything, and waits for that.
func (t *transport) Shutdown() error {
	t.stop()
	err := t.listener.Close()
	t.hangUp()
	t.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// listen listens at host:port, which has to be one at which others reach us.
func listen(ctx context.Context, address string) (*net.TCPListener, error) {
	host, port, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	number, wrong := strconv.ParseUint(port, 10, 16)
	if err = cmp.Or(err, wrong); err != nil || ip == nil || ip.IsUnspecified() {
		return nil, fmt.Errorf("cluster: listen on %q: it has to be an IP address at which the other nodes reach this one, and a port, "+
			"such as 10.0.0.1:7946", address)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(ip.String(), strconv.FormatUint(number, 10)))
	if err != nil {
		return nil, fmt.Errorf("cluster: listen on %s: %w: choose an address of this machine, and a port that nothing else has", address, err)
	}
	return l.(*net.TCPListener), nil
}
