package transport

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// lending counts the buffers that are lent.
type lending struct{ lent int }

func (l *lending) Get(n int) *[]byte {
	l.lent++
	b := make([]byte, n)
	return &b
}

func (l *lending) Put(*[]byte) { l.lent-- }

// pair returns a connection as gRPC reads from it, and its other end.
func pair(t *testing.T) (*ready, *net.TCPConn) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	below, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = below.Close(); _ = peer.Close() })
	lk := new(link)
	wrapped := &line{Conn: below}
	r, ok := whenReady(&listening{Conn: wrapped, link: lk}, wrapped).(*ready)
	if !ok {
		t.Fatal("a TCP connection is not read when it is ready")
	}
	return r, peer.(*net.TCPConn)
}

// TestReadOnReady: the bytes are the peer's, the first of them are told, and a buffer is lent for nothing but bytes.
func TestReadOnReady(t *testing.T) {
	t.Parallel()
	r, peer := pair(t)
	pool := new(lending)
	go func() { _, _ = peer.Write([]byte("hello")) }()
	var got []byte
	for len(got) < 5 {
		b, n, err := r.ReadOnReady(3, pool)
		if err != nil || n > 3 || pool.lent != 1 {
			t.Fatalf("%d bytes, %v; %d buffers are lent", n, err, pool.lent)
		}
		got = append(got, (*b)[:n]...)
		pool.Put(b)
	}
	if string(got) != "hello" || !r.link.heard.Load() {
		t.Errorf("read %q; the link has heard of it: %v", got, r.link.heard.Load())
	}
	waiting := make(chan error)
	go func() {
		_, _, err := r.ReadOnReady(3, pool)
		waiting <- err
	}()
	_ = peer.Close()
	if err := <-waiting; !errors.Is(err, io.EOF) || pool.lent != 0 {
		t.Errorf("the peer has closed: %v; %d buffers are lent", err, pool.lent)
	}
}

// TestReadOnReadyFails: what ends a connection is told as by Read, for its words decide what people are told.
func TestReadOnReadyFails(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		end  func(r *ready, peer *net.TCPConn)
		want error
	}{
		{"reset", func(_ *ready, peer *net.TCPConn) { _ = peer.SetLinger(0); _ = peer.Close() }, syscall.ECONNRESET},
		{"closed", func(r *ready, _ *net.TCPConn) { _ = r.Close() }, net.ErrClosed},
		{"deadline", func(r *ready, _ *net.TCPConn) { _ = r.SetReadDeadline(time.Now()) }, os.ErrDeadlineExceeded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, peer := pair(t)
			pool := new(lending)
			tt.end(r, peer)
			_, _, err := r.ReadOnReady(3, pool)
			if op, ok := errors.AsType[*net.OpError](err); !ok || !errors.Is(err, tt.want) || op.Addr == nil && !errors.Is(err, net.ErrClosed) || pool.lent != 0 {
				t.Errorf("%v, want %v; %d buffers are lent", err, tt.want, pool.lent)
			}
		})
	}
}
