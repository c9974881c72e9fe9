package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/internal/wire"
)

// TestNoDescriptorForFiles: certificates that can't be read for that are not wrong.
func TestNoDescriptorForFiles(t *testing.T) {
	t.Parallel()
	opening := func(errno syscall.Errno) error {
		return fmt.Errorf("read cert_file: %w", &os.PathError{Op: "open", Path: "poller.pem", Err: errno})
	}
	wantFailure(t, "prepare", unprepared("checker.example:1", opening(syscall.EMFILE)), check.NoAnswer, "checker.example:1", "poller.pem", "LimitNOFILE")
	wantFailure(t, "prepare", unprepared("checker.example:1", opening(syscall.ENOENT)), check.TLSFailed, "checker.example:1", "poller.pem")
}

// TestNoDescriptor: a connection for which we have nothing left is no fault of the peer's, and is not told as
// if it were.
func TestNoDescriptor(t *testing.T) {
	t.Parallel()
	dial := func(errno syscall.Errno) error {
		return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", errno)}
	}
	lookup := func(errno syscall.Errno) error {
		return &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: dial(errno).Error(), Name: "checker.example", IsTemporary: true}}
	}
	for name, tt := range map[string]struct {
		err   error
		words []string
	}{
		"of the process":                {dial(syscall.EMFILE), []string{"too many open files: the poller has", "LimitNOFILE", "ulimit -n"}},
		"of the process, in the lookup": {lookup(syscall.EMFILE), []string{"too many open files: the poller has", "checker.example"}},
		"of the system":                 {dial(syscall.ENFILE), []string{"too many open files in system: the system has", "fs.file-max"}},
		"of the system, in the lookup":  {lookup(syscall.ENFILE), []string{"too many open files in system: the system has"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				fail := func(context.Context, string) (net.Conn, error) { return nil, tt.err }
				c := clientOf(t, &check.Agent{Name: "a", Address: "checker.example:1", HealthService: "AgentService"}, fail)
				for range 2 { // while gRPC waits before it connects again, too
					_, err := c.Ask(within(t, time.Second), ssh)
					wantFailure(t, "Ask", err, check.NoAnswer, append(tt.words, "can't connect to checker.example:1")...)
				}
				_, err := c.Health(within(t, time.Second))
				wantFailure(t, "Health", err, check.NoAnswer, tt.words...)
				wantFailure(t, "Connect", c.Connect(within(t, time.Second)), check.NoAnswer, tt.words...)

				core := newCore(t, CoreConfig{Addresses: []string{"core.example:1"}, Dial: fail})
				wantError(t, "Deliver", deliver(t, core, 1, "a/ssh"), wire.Retry, append(tt.words, "core.example:1")...)
			})
		})
	}
}

// TestDescriptorsAreBack: what was so is of no interest any more.
func TestDescriptorsAreBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var network sim.Net
		var back atomic.Bool
		dial := func(ctx context.Context, address string) (net.Conn, error) {
			if !back.Load() {
				return nil, os.NewSyscallError("socket", syscall.EMFILE)
			}
			return network.Dial(ctx, address)
		}
		c := clientOf(t, &check.Agent{Name: "a", Address: "127.2.0.1:1"}, dial)
		_, err := c.Ask(within(t, long), ssh)
		wantFailure(t, "without", err, check.NoAnswer, "LimitNOFILE")
		back.Store(true)
		time.Sleep(maxBackoff)
		_, err = c.Ask(within(t, long), ssh)
		wantFailure(t, "with", err, check.Unreachable, "is the checker running there?")
		if code := status.Code(errors.Unwrap(err)); code != codes.Unavailable {
			t.Errorf("code %v", code)
		}
	})
}
