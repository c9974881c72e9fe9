// Package sim holds simulated cores and checkers, and a network in memory to reach them over. It
// is for tests, benchmarks and the demo; nothing of it runs in production.
//
// Guarantees:
//   - Everything works on loopback as well as in a testing/synctest bubble, over Net or any other
//     listener in memory; time is the bubble's there.
//   - Faults may be changed at any time from any goroutine, and hold for the calls from then on.
//   - Calls that hang end with their context, so with the caller's deadline or connection, and
//     with the server: when Server.Stop returns, no goroutine of it is left.
//
// An address that is reachable and never answers needs no simulation: a listener on which nobody
// accepts is one.
package sim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
)

// Server is a core or a checker that listens.
type Server struct {
	server *grpc.Server
	addr   net.Addr
	served chan struct{}
}

func start(addr string, creds credentials.TransportCredentials, register func(grpc.ServiceRegistrar)) (*Server, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("start a simulated server: %w", err)
	}
	return serve(l, creds, register), nil
}

func serve(l net.Listener, creds credentials.TransportCredentials, register func(grpc.ServiceRegistrar)) *Server {
	options := []grpc.ServerOption{
		grpc.WaitForHandlers(true),
		// One process may hold thousands of connections.
		grpc.ReadBufferSize(4 << 10), grpc.WriteBufferSize(4 << 10),
	}
	if creds != nil {
		options = append(options, grpc.Creds(creds))
	}
	s := &Server{server: grpc.NewServer(options...), addr: l.Addr(), served: make(chan struct{})}
	register(s.server)
	go func() {
		defer close(s.served)
		_ = s.server.Serve(l) // ends with Stop, and then there is nothing to say
	}()
	return s
}

// Addr is where the server listens, or did.
func (s *Server) Addr() string { return s.addr.String() }

// Stop closes the listener, cuts all connections and waits for the calls to end. It may be called
// again.
func (s *Server) Stop() {
	s.server.Stop()
	<-s.served
}

// Net is a network in memory, for synctest bubbles. Its addresses are any text. The zero Net is
// ready to use; it is safe for use from any goroutine.
type Net struct {
	mu        sync.Mutex
	listeners map[string]*netListener
}

type netListener struct {
	*bufconn.Listener
	net  *Net
	addr string
}

// Network is part of net.Addr.
func (l *netListener) Network() string { return "sim" }

// String is part of net.Addr.
func (l *netListener) String() string { return l.addr }

// Addr is the address it was made with.
func (l *netListener) Addr() net.Addr { return l }

// Close frees the address. Connections stay.
func (l *netListener) Close() error {
	l.net.mu.Lock()
	if l.net.listeners[l.addr] == l {
		delete(l.net.listeners, l.addr)
	}
	l.net.mu.Unlock()
	return l.Listener.Close()
}

// Listen listens on an address that nobody listens on.
func (n *Net) Listen(addr string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners[addr] != nil {
		return nil, &net.OpError{Op: "listen", Net: "sim", Err: fmt.Errorf("%s: %w", addr, syscall.EADDRINUSE)}
	}
	if n.listeners == nil {
		n.listeners = make(map[string]*netListener)
	}
	l := &netListener{Listener: bufconn.Listen(16 << 10), net: n, addr: addr}
	n.listeners[addr] = l
	return l, nil
}

// Dial connects to an address. Where nobody listens the connection is refused at once; where
// somebody listens and does not accept it waits for ctx to end.
func (n *Net) Dial(ctx context.Context, addr string) (net.Conn, error) {
	n.mu.Lock()
	l := n.listeners[addr]
	n.mu.Unlock()
	if l == nil {
		return nil, refused(addr)
	}
	conn, err := l.DialContext(ctx)
	if err != nil && !errors.Is(err, ctx.Err()) {
		return nil, refused(addr) // closed meanwhile
	}
	return conn, err
}

func refused(addr string) error {
	return &net.OpError{Op: "dial", Net: "sim", Err: fmt.Errorf("%s: %w", addr, syscall.ECONNREFUSED)}
}

// wait returns after d, or with an error as soon as ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}
