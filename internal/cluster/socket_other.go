//go:build !linux

package cluster

import (
	"net"
	"time"
)

// hasten is Linux's alone. Elsewhere a dead connection ends when its buffer is full and a write takes too long.
func hasten(*net.TCPConn, time.Duration) {}
