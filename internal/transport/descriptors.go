package transport

import (
	"errors"
	"net"
	"strings"
	"syscall"
)

// noDescriptor returns what to do if a connection could not be made for want of a file descriptor, which is no
// fault of the peer's; empty if that is not why.
func noDescriptor(err error) string {
	switch {
	case isError(err, syscall.EMFILE):
		return "the poller has as many file descriptors as it may have: raise its limit: " +
			"LimitNOFILE in the systemd unit, --ulimit nofile for a container, ulimit -n in a shell"
	case isError(err, syscall.ENFILE):
		return "the system has no file descriptor left for the poller: look who has them all, or raise fs.file-max"
	}
	return ""
}

// isError is errors.Is, but for the lookup of a name, whose error has nothing but the words of its cause.
func isError(err error, cause syscall.Errno) bool {
	if lookup, ok := errors.AsType[*net.DNSError](err); ok {
		return strings.HasSuffix(lookup.Err, cause.Error())
	}
	return errors.Is(err, cause)
}
