//go:build !linux

package transport

import (
	"net"
	"time"
)

// boundUnacked is Linux's alone. Elsewhere the kernel's own time counts for data that nobody
// acknowledges, and the breaker's probe gives up the connection before that.
func boundUnacked(*net.TCPConn, time.Duration) {}
