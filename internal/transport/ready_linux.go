package transport

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"google.golang.org/grpc/mem"
)

// ready is a plaintext connection that needs a buffer only while there is something to read. gRPC looks for
// ReadOnReady; without it each connection would hold a buffer for as long as it lives. Calls of it must not overlap.
type ready struct {
	*listening
	raw  syscall.RawConn
	read func(fd uintptr) (done bool)

	// What the call under way works with, here lest each call allocates it.
	pool mem.BufferPool
	size int
	into *[]byte
	n    int
	err  error
}

// whenReady returns conn, with ReadOnReady if that is to be had for what is below it.
func whenReady(conn *listening, below net.Conn) net.Conn {
	if l, ok := below.(*line); ok {
		below = l.Conn
	}
	tcp, ok := below.(*net.TCPConn)
	if !ok {
		return conn
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return conn // closed already
	}
	r := &ready{listening: conn, raw: raw}
	r.read = r.readNow
	return r
}

// ReadOnReady waits until there is something to read, and reads it into a buffer of the pool, which the caller puts back.
func (r *ready) ReadOnReady(size int, pool mem.BufferPool) (*[]byte, int, error) {
	r.pool, r.size = pool, size
	err := r.raw.Read(r.read)
	into, n := r.into, r.n
	if err == nil && r.err != nil {
		err = &net.OpError{Op: "read", Net: "tcp", Source: r.LocalAddr(), Addr: r.RemoteAddr(), Err: os.NewSyscallError("read", r.err)}
	} else if err == nil && n == 0 {
		err = io.EOF
	}
	r.pool, r.into, r.n, r.err = nil, nil, 0, nil
	if err != nil {
		if into != nil {
			pool.Put(into)
		}
		return nil, 0, err
	}
	r.hear()
	return into, n, nil
}

// readNow reads; false if there was nothing to read.
func (r *ready) readNow(fd uintptr) (done bool) {
	b := r.pool.Get(r.size)
	for {
		// Not unix.Read: the race detector knows how this one and net's own calls go together.
		n, err := syscall.Read(int(fd), *b)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err == nil {
			r.into, r.n = b, n
			return true
		}
		r.pool.Put(b)
		if errors.Is(err, syscall.EAGAIN) {
			return false
		}
		r.err = err
		return true
	}
}
