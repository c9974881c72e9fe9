package cluster

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// boundUnacked has the kernel give a connection up when the peer's has not acknowledged data for a time.
func boundUnacked(conn *net.TCPConn, after time.Duration) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return // closed already
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(after.Milliseconds()))
	})
}
