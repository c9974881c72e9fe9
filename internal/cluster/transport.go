package cluster

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/quic-go/quic-go"
)

// What bounds the transport.
const (
	// acceptTimeout is how long somebody who connects may take to show that he is a node of the cluster.
	acceptTimeout = 2 * time.Second
	// mostUnknown bounds how many do so at the same time, over TCP and again over UDP: handshakes cost, and anybody may begin one.
	mostUnknown = 64
	// unackedFor is for how long a connection stays on which nothing comes any more from the other side, and for how long TCP tries to send what
	// nobody acknowledges: two leases' terms. It is of no use then, but a line that loses much may do better soon, and to connect anew
	// takes more packets.
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

// transport carries what memberlist says: packets as datagrams of QUIC, and streams over one TCP connection each, all of them with
// certificates on both sides, or open to anybody. Nothing that a stranger sends gets to memberlist.
type transport struct {
	cluster  string
	listener *net.TCPListener
	socket   *net.UDPConn // at the listener's address
	identity atomic.Pointer[identity]
	// refuse is told of strangers, drop of packets that are not sent to an address, for a reason.
	refuse func(address net.Addr, reason string)
	drop   func(address string, err error, packets int)

	packets chan *memberlist.Packet
	streams chan net.Conn
	unknown chan struct{} // has a place for each who has connected by TCP and not shown that he is a node
	callers chan struct{} // the same for UDP

	quic *quic.Transport
	open tls.Certificate // what a node without an identity shows, for QUIC has no other way

	ctx  context.Context // ends with the transport
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu    sync.Mutex
	peers map[string]*peer
	conns map[*conn]struct{}
	links map[string][]*link // the newest last
}

// identity is what a node shows of itself: the configurations for those who connect to it, and for connecting to a host; nil
// means that there is none, and nobody is verified.
type identity struct {
	server *tls.Config
	client func(host string) (*tls.Config, error)
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

// start has the transport listen to those who connect.
func (t *transport) start(ctx context.Context) error {
	t.packets = make(chan *memberlist.Packet)
	t.streams = make(chan net.Conn)
	t.unknown = make(chan struct{}, mostUnknown)
	t.callers = make(chan struct{}, mostUnknown)
	t.peers = make(map[string]*peer)
	t.conns = make(map[*conn]struct{})
	t.links = make(map[string][]*link)
	t.ctx, t.stop = context.WithCancel(context.WithoutCancel(ctx))
	if err := t.startPackets(); err != nil {
		return err
	}
	t.wg.Go(t.accept)
	return nil
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

// Hasten sets the options of a TCP connection between two nodes: what is lost is sent again soon.
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
	c, err := t.letIn(tcp)
	<-t.unknown
	if err != nil {
		if t.ctx.Err() == nil && !t.peerIsLate(tcp.RemoteAddr(), err) {
			t.refuse(tcp.RemoteAddr(), err.Error())
		}
		return
	}
	select {
	case t.streams <- c: // memberlist closes it
	case <-t.ctx.Done():
		_ = c.Close()
	}
}

// letIn lets a node of the cluster in. An error says why somebody is refused; the connection is closed then.
func (t *transport) letIn(tcp *net.TCPConn) (c *conn, err error) {
	raw := net.Conn(tcp)
	if config := t.identity.Load().server; config != nil {
		raw = tls.Server(tcp, config)
	}
	if c, err = t.own(raw); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = c.Close()
		}
	}()
	_ = c.SetDeadline(time.Now().Add(acceptTimeout))
	if secure, ok := raw.(*tls.Conn); ok {
		if err := secure.HandshakeContext(t.ctx); err != nil {
			return c, strange(err)
		}
	}
	if err := t.greet(c, forStream); err != nil {
		return c, err
	}
	_ = c.SetDeadline(time.Time{})
	return c, nil
}

// greet hears who has connected, and welcomes a node of the cluster that wants what connections of this kind are for.
func (t *transport) greet(with io.ReadWriter, kind byte) error {
	var head [2]byte
	if _, err := io.ReadFull(with, head[:]); err != nil {
		return strange(err)
	}
	switch {
	case head[0] == 0x16 && kind == forStream && t.identity.Load().server == nil:
		return errors.New("it speaks TLS, and this node is configured for plaintext: configure all nodes alike")
	case head[0] != kind:
		return errors.New("it does not speak the cluster's language: another program, or a node of another version")
	}
	name := make([]byte, head[1])
	if _, err := io.ReadFull(with, name); err != nil {
		return strange(err)
	}
	if string(name) != t.cluster {
		_, _ = with.Write([]byte{otherCluster})
		return fmt.Errorf("it is a node of the cluster %q, and this is one of %q: one of them has the wrong name or seeds", name, t.cluster)
	}
	if _, err := with.Write([]byte{welcome}); err != nil {
		return strange(err)
	}
	return nil
}

// introduce says who we are and what for we have connected, and waits to be welcomed.
func (t *transport) introduce(to io.ReadWriter, kind byte) error {
	head := []byte{kind, byte(len(t.cluster))} //nolint:gosec // at most 255
	if _, err := to.Write(append(head, t.cluster...)); err != nil {
		return err
	}
	var answer [1]byte
	if _, err := io.ReadFull(to, answer[:]); err != nil {
		return err
	}
	switch answer[0] {
	case welcome:
		return nil
	case otherCluster:
		return fmt.Errorf("it is not a node of the cluster %q: check the clusters' names and the seeds", t.cluster)
	}
	return errors.New("it does not speak the cluster's language: another program, or a node of another version")
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
	p.put(packet{bytes.Clone(b), now})
	return now, nil
}

// DialTimeout is DialAddressTimeout.
func (t *transport) DialTimeout(address string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: address}, timeout)
}

// DialAddressTimeout connects for a stream.
func (t *transport) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.dial(to.Addr, timeout)
}

// dial connects, and lets the other side find out who we are. The timeout is for all of that. Errors don't name the address.
func (t *transport) dial(address string, timeout time.Duration) (_ *conn, err error) {
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
	at := t.address() // others know us by it, as they do by QUIC
	raw, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: at.IP, Zone: at.Zone}}).DialContext(ctx, "tcp", address)
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
	if err := t.introduce(c, forStream); err != nil {
		return nil, unfriendly(err)
	}
	_ = c.SetDeadline(time.Time{})
	return c, nil
}

// PacketCh has the packets that have come.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh has the streams that have come.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// hangUp closes all connections. Who needs one makes a new one.
func (t *transport) hangUp() {
	t.mu.Lock()
	for c := range t.conns {
		_ = c.Conn.Close()
		delete(t.conns, c)
	}
	links := slices.Concat(slices.Collect(maps.Values(t.links))...)
	t.mu.Unlock()
	for _, l := range links {
		l.close()
	}
}

// Shutdown ends everything, and waits for that.
func (t *transport) Shutdown() error {
	t.stop()
	err := t.listener.Close()
	t.hangUp() // tells the others that connections for packets are over, too
	_ = t.quic.Close()
	err = cmp.Or(err, t.socket.Close())
	t.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// samePorts bounds how often a port that TCP has free is tried for UDP.
const samePorts = 10

// listen listens at host:port by TCP and UDP. It has to be one at which others reach us.
func listen(ctx context.Context, address string) (*net.TCPListener, *net.UDPConn, error) {
	host, port, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	number, wrong := strconv.ParseUint(port, 10, 16)
	if err = cmp.Or(err, wrong); err != nil || ip == nil || ip.IsUnspecified() {
		return nil, nil, fmt.Errorf("cluster: listen on %q: it has to be an IP address at which the other nodes reach this one, and a port, "+
			"such as 10.0.0.1:7946", address)
	}
	for tries := 1; ; tries++ {
		tcp, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(ip.String(), strconv.FormatUint(number, 10)))
		if err != nil {
			return nil, nil, fmt.Errorf("cluster: listen on %s: %w: choose an address of this machine, and a port that nothing else has", address, err)
		}
		udp, err := new(net.ListenConfig).ListenPacket(ctx, "udp", tcp.Addr().String())
		if err == nil {
			return tcp.(*net.TCPListener), udp.(*net.UDPConn), nil
		}
		_ = tcp.Close()
		if number != 0 || tries == samePorts {
			return nil, nil, fmt.Errorf("cluster: listen on %s by UDP: %w: choose a port that nothing else has, neither by TCP nor by UDP", address, err)
		}
	}
}
