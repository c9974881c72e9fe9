package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

type portOpen struct {
	Host         string `json:"host"`
	Port         int32  `json:"port"`
	ResponseTime int64  `json:"response_time"` // ns
}

type portClosed struct {
	Error string `json:"error"`
}

// Port connects to a TCP port and closes the connection again. Details is host:port, or a host
// alone with the port in Target.Port.
func Port(ctx context.Context, target Target) (Result, error) {
	host, port, err := hostPort(target)
	if err != nil {
		return Result{}, err
	}
	began := time.Now()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
	took := time.Since(began)
	if err == nil {
		_ = conn.Close() // nothing was written that could be lost
		return result(true, took, portOpen{host, port, took.Nanoseconds()})
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return Result{}, fmt.Errorf("look at port %d of %s: %w", port, host, ctx.Err())
	}
	return result(false, took, portClosed{fmt.Sprintf("Port %d is not accessible: %s: %s", port, host, explain(err, took))})
}

// hostPort reads a target of host and port, wherever the port stands.
func hostPort(target Target) (string, int32, error) {
	details := strings.TrimSpace(target.Details)
	host, text, err := net.SplitHostPort(details)
	if err != nil {
		// No port in it, or an IPv6 address without brackets, which can't have one.
		host = strings.TrimSuffix(strings.TrimPrefix(details, "["), "]")
		if strings.ContainsAny(host, ":[]") && net.ParseIP(host) == nil {
			return "", 0, fmt.Errorf("target %q: it is not host:port: write 10.0.0.1:22, host.example:22 or [2001:db8::1]:22", details)
		}
		text = strconv.Itoa(int(target.Port))
	}
	if host == "" {
		return "", 0, fmt.Errorf("target %q: it has no host: write host:port", details)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return "", 0, fmt.Errorf("target %q: its port is %q: write host:port with a port from 1 to 65535", details, text)
	}
	if target.Port != 0 && int64(target.Port) != int64(port) {
		return "", 0, fmt.Errorf("target %q: port %d is given apart from it, too: name one of them", details, target.Port)
	}
	return host, int32(port), nil
}
