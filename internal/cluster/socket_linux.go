package cluster

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// resendAfter is how long the kernel waits at least before it sends again what was not acknowledged, in place of 200 ms: nodes are near
	// each other, and somebody waits for what they ask each other. Kernels before 6.11 know of no such option.
	resendAfter = 60 * time.Millisecond
	// longestResend bounds how long it waits after many losses, in place of two minutes. Kernels before 6.15 don't have it.
	longestResend = time.Second
)

// hasten has the kernel send again soon what was lost, at first without waiting longer each time as is right for bulk, and give a connection up
// when the peer's kernel has not acknowledged data for a time. What it does not know it does without.
func hasten(conn *net.TCPConn, giveUp time.Duration) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return // closed already
	}
	_ = raw.Control(func(fd uintptr) {
		for _, o := range []struct{ option, value int }{
			{unix.TCP_USER_TIMEOUT, int(giveUp.Milliseconds())},
			{unix.TCP_THIN_LINEAR_TIMEOUTS, 1},
			{unix.TCP_RTO_MIN_US, int(resendAfter.Microseconds())},
			{unix.TCP_RTO_MAX_MS, int(longestResend.Milliseconds())},
		} {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, o.option, o.value)
		}
	})
}
