package transport

import (
	"context"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/serviceradar/poller/internal/check"
)

// TestEvenDeadline: it is told late by a step at most, and not at all early; a short one as it is.
func TestEvenDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct{ left, told time.Duration }{
			{5 * time.Second, 5*time.Second + evenStep},
			{5*time.Second - time.Microsecond, 5 * time.Second},
			{5*time.Second - evenStep, 5 * time.Second},
			{evenFrom, evenFrom + evenStep},
			{evenFrom - 1, evenFrom - 1},
			{time.Millisecond, time.Millisecond},
			{-time.Second, -time.Second},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), tt.left)
			told, ok := even{ctx}.Deadline()
			cancel()
			if !ok || time.Until(told) != tt.told {
				t.Errorf("with %v left, %v are told", tt.left, time.Until(told))
			}
		}
		if _, ok := (even{t.Context()}).Deadline(); ok {
			t.Error("a context without a deadline has one")
		}
	})
}

// TestDeadlinesAreToldAlike: of many calls with the same timeout a checker is told only few different ones.
func TestDeadlinesAreToldAlike(t *testing.T) {
	t.Parallel()
	const calls = 50
	told := make(chan string, calls)
	address := tcp(t, func(_ context.Context, conn net.Conn) {
		_, _ = io.CopyN(io.Discard, conn, int64(len(http2.ClientPreface)))
		framer := http2.NewFramer(conn, conn)
		framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		_ = framer.WriteSettings()
		for {
			frame, err := framer.ReadFrame()
			if err != nil {
				return
			}
			if headers, ok := frame.(*http2.MetaHeadersFrame); ok {
				for _, field := range headers.Fields {
					if field.Name == "grpc-timeout" {
						told <- field.Value
					}
				}
				_ = framer.WriteHeaders(http2.HeadersFrameParam{
					StreamID: headers.StreamID, EndHeaders: true, EndStream: true,
					BlockFragment: block(":status", "200", "content-type", "application/grpc", "grpc-status", "13"),
				})
			}
		}
	})
	c := newClient(t, address, check.TLS{})
	for range calls {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if _, err := c.Ask(ctx, ssh); err == nil {
			t.Error("an error is no error")
		}
		cancel()
	}
	different := make(map[string]bool)
	for range calls {
		select {
		case value := <-told:
			different[value] = true
		case <-time.After(5 * time.Second):
			t.Fatal("not each call told a deadline")
		}
	}
	if len(different) > calls/5 {
		t.Errorf("%d calls told %d different timeouts: %v", calls, len(different), different)
	}
}
