// Package transport speaks gRPC to checkers and to core. Its clients hold one connection each and
// turn what goes wrong into words: which peer, what was tried, why it failed, what to look at.
// Every call ends with its context, whatever the peer does.
package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/tlsid"
)

// Dialer opens the network connection to a host:port; it is a net.Dialer's, or a test's twin.
type Dialer func(ctx context.Context, address string) (net.Conn, error)

// Reconnecting starts quickly and never waits longer than maxBackoff, so that a peer that
// returned is found soon. Nothing here asks for an attempt at once, because grpc-go 1.85's
// ResetConnectBackoff iterates over a map without its lock, which can end the process.
const (
	maxBackoff = 3 * time.Second
	jitter     = 0.2
	// dialTimeout is after what time the peer's host is asked for the connection anew: it may have come
	// back, and the kernel asks more and more rarely.
	dialTimeout = 5 * time.Second
	// connectTimeout bounds all that, and the wait for the process's first word. If that ends, its host
	// tells; if it hangs, a new try would be no better, and costs as much as ten calls.
	connectTimeout = 2 * time.Minute
	bufferSize     = 4 << 10
	// maxHeaders bounds the headers of an answer, with the words of an error, in bytes. gRPC would
	// keep 16 MiB of them.
	maxHeaders = 256 << 10
)

var errOver = errors.New("the connection is over")

// link watches the connections below a grpc.ClientConn: gRPC itself tells neither when there is
// a new one nor, but in prose, why there is none.
type link struct {
	dial Dialer
	// once lets only one connection come about.
	once bool
	// within is the time in which a dead peer is found.
	within time.Duration
	// stall is how long a peer may let us wait before it reads what we write; 0 is for ever.
	stall time.Duration
	// open counts the connections of this and other links that are open; may be nil.
	open *atomic.Int64

	line   atomic.Pointer[line]  // the last connection
	shakes atomic.Bool           // the last attempt got a connection, whose handshake has not ended
	made   atomic.Uint64         // connections made so far
	ended  atomic.Uint64         // changes when one of them ends, before the calls on it do
	heard  atomic.Bool           // the peer has said something over the last one made
	failed atomic.Pointer[error] // why the last attempt failed; nil if it did not
	tls    atomic.Bool           // the last attempt failed in the handshake
}

func (l *link) connect(ctx context.Context, address string) (net.Conn, error) {
	if l.once && l.made.Load() > 0 {
		return nil, errOver
	}
	l.shakes.Store(false)
	conn, err := l.dialHost(ctx, address)
	if err != nil {
		return nil, err
	}
	l.failed.Store(nil) // why earlier attempts failed is of no interest any more
	l.shakes.Store(true)
	below := &line{Conn: conn, stall: l.stall}
	l.line.Store(below)
	return below, nil
}

// dialHost dials until the host answers, if only by refusing. With once there is somebody who knows
// another address, and so one try.
func (l *link) dialHost(ctx context.Context, address string) (net.Conn, error) {
	for {
		try, cancel := context.WithTimeout(ctx, dialTimeout)
		conn, err := l.dial(try, address)
		silent := try.Err() != nil
		cancel()
		if err == nil {
			return conn, nil
		}
		l.fail(err, false)
		if l.once || !silent || ctx.Err() != nil {
			return nil, err
		}
	}
}

// press says that a call is over, and that what it left behind may not wait for a peer that does not
// read.
func (l *link) press() {
	if below := l.line.Load(); below != nil {
		below.press()
	}
}

// patience bounds one attempt to connect.
func (l *link) patience() time.Duration {
	if l.once {
		return dialTimeout
	}
	return connectTimeout
}

func (l *link) fail(err error, handshake bool) {
	l.tls.Store(handshake)
	l.failed.Store(&err)
}

// lastError returns why the last attempt to connect failed, and whether it was the handshake.
func (l *link) lastError() (handshake bool, err error) {
	if p := l.failed.Load(); p != nil {
		return l.tls.Load(), *p
	}
	return false, nil
}

// mute tells whether the last connection was made and the peer has said nothing over it. A gRPC
// server speaks first. With TLS 1.3 one that refuses our certificate says so only after the
// handshake, and what it says may be lost with the connection.
func (l *link) mute() bool { return l.made.Load() > 0 && !l.heard.Load() }

// serverPreface is in what gRPC says of a peer whose first word it waited for, or did not like.
const serverPreface = "server preface"

// notConnected tells of what gRPC says whether it is of an attempt that did not get as far as a connection.
func notConnected(said string) bool {
	return strings.Contains(said, "while dialing") || strings.Contains(said, "handshake failed")
}

// silent tells of a connection that came to nothing whether the peer let us wait, rather than hung
// up. Waited is whether our own time was up; gRPC, too, gives up connecting after a while.
func silent(said string, waited bool) bool {
	if !strings.Contains(said, serverPreface) {
		return waited
	}
	return strings.Contains(said, net.ErrClosed.Error()) || strings.Contains(said, io.ErrClosedPipe.Error())
}

// brokeProtocol tells of a connection that has served whether it ended for what the peer said on it.
func brokeProtocol(said string) bool {
	const reading = "error reading from server: "
	return strings.Contains(said, reading+"connection error: ") || strings.Contains(said, reading+"http2: ")
}

// listening is a connection that tells its link of the first word and of the end.
type listening struct {
	net.Conn
	link  *link
	heard bool
	over  atomic.Bool
}

func (l *listening) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	if n > 0 {
		l.hear()
	}
	return n, err
}

// hear says that the peer has said something.
func (l *listening) hear() {
	if !l.heard {
		l.heard = true
		l.link.heard.Store(true)
	}
}

// Close is what gRPC does with any connection that has ended, before it ends the calls on it.
func (l *listening) Close() error {
	l.link.ended.Add(1)
	if l.link.open != nil && l.over.CompareAndSwap(false, true) { // it may be closed again
		l.link.open.Add(-1)
	}
	return l.Conn.Close()
}

// watched are transport credentials that tell a link of each handshake; plaintext has one, too.
type watched struct {
	credentials.TransportCredentials
	link *link
}

func (w watched) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := w.TransportCredentials.ClientHandshake(ctx, authority, raw)
	w.link.shakes.Store(false)
	if err != nil {
		w.link.fail(err, true)
		return nil, nil, err
	}
	w.link.failed.Store(nil)
	w.link.heard.Store(false)
	w.link.made.Add(1)
	if w.link.open != nil {
		w.link.open.Add(1)
	}
	l := &listening{Conn: conn, link: w.link}
	if conn == raw { // plaintext
		return whenReady(l, raw), info, nil
	}
	return l, info, nil
}

func (w watched) Clone() credentials.TransportCredentials {
	return watched{w.TransportCredentials.Clone(), w.link}
}

func secured(id check.TLS) bool { return id.Mode != "" && id.Mode != check.TLSNone }

// newConn returns a lazy connection to address: it costs nothing until it is used. Its identity is asked for now, and
// stays what it is; errors are of its files.
func newConn(address string, id check.TLS, identities *tlsid.Store, l *link, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	creds := insecure.NewCredentials()
	config, err := identities.Client(id, host)
	if err != nil {
		return nil, err
	}
	if config != nil {
		creds = credentials.NewTLS(config)
	}
	if l.dial == nil {
		l.dial = dialer(l.within, nil)
	}
	// The dialer resolves names, anew for each connection, and says so if it can't.
	return grpc.NewClient("passthrough:///"+address, append(more,
		grpc.WithTransportCredentials(watched{creds, l}),
		grpc.WithContextDialer(l.connect),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: jitter,
				MaxDelay: time.Duration(float64(maxBackoff) / (1 + jitter)),
			},
			MinConnectTimeout: l.patience(),
		}),
		// One connection for each of thousands of peers: no buffer larger than a usual answer.
		grpc.WithReadBufferSize(bufferSize),
		grpc.WithWriteBufferSize(bufferSize),
		grpc.WithMaxHeaderListSize(maxHeaders),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(),
	)...)
}
