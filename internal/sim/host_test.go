package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/datadriven"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/serviceradar/poller/proto/monitoring"
)

// TestHosts has the faults of testdata/hosts done to hosts, and compares what callers see of them. Its
// directives, each with a fault to a line: checker, core.
func TestHosts(t *testing.T) {
	t.Parallel()
	datadriven.RunTest(t, "testdata/hosts", func(t *testing.T, d *datadriven.TestData) string {
		t.Helper()
		var out strings.Builder
		for line := range strings.Lines(d.Input) {
			fault, err := ParseFault(line)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			if fault.String() != strings.TrimSpace(line) {
				t.Errorf("%q is written as %q", line, fault)
			}
			synctest.Test(t, func(t *testing.T) {
				try := tryChecker
				if d.Cmd == "core" {
					try = tryCore
				}
				fmt.Fprintf(&out, "%v: %s\n", fault, try(t, fault))
			})
		}
		return out.String()
	})
}

// took is how a call ended, and when.
func took(began time.Time, err error) string {
	what := "ok"
	if err != nil {
		what = status.Code(err).String()
	}
	if d := time.Since(began).Round(100 * time.Millisecond); d > 0 {
		what += fmt.Sprint(" after ", d)
	}
	return what
}

// counted counts who dials.
func counted(network *Net, dials *atomic.Int64) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, address string) (net.Conn, error) {
		dials.Add(1)
		return network.Dial(ctx, address)
	}
}

// wantDials: a fault of calls leaves the connection alone, and GOAWAY, of which nobody feels anything
// else, does not.
func wantDials(t *testing.T, fault Fault, dials int64) {
	t.Helper()
	switch fault.Kind {
	case KindGoAway:
		if dials < 2 {
			t.Errorf("%v: %d connections; want another after the first", fault, dials)
		}
	case KindFine, KindHang, KindHangAll, KindSlow, KindError, KindHuge, KindBadJSON, KindEarly, KindNotReceived:
		if dials != 1 {
			t.Errorf("%v: %d connections, want 1", fault, dials)
		}
	case KindDown, KindFrozen, KindSilent, KindGarbage, KindHTTP1, KindReset:
	}
}

// tryChecker tells what comes of a status, a stream and a health check while a checker has a fault,
// over a connection that was there before, and whether all is well when it is mended.
func tryChecker(t *testing.T, fault Fault) string {
	t.Helper()
	var network Net
	host, err := NewChecker(Behaviour{}).NewHost(Listing(3, time.Millisecond), nil, func() (net.Listener, error) { return network.Listen("checker") })
	if err != nil {
		t.Fatal(err)
	}
	defer host.Stop()
	if host.Set(Fault{Kind: KindNotReceived}) == nil {
		t.Error("a checker can have a fault of a core")
	}
	var dials atomic.Int64
	conn := dial(t, "checker", counted(&network, &dials))
	agent := monitoring.NewAgentServiceClient(conn)
	calls := map[string]func(context.Context) error{
		"status": func(ctx context.Context) error {
			_, err := agent.GetStatus(ctx, request("a"))
			return err
		},
		"stream": func(ctx context.Context) error {
			stream, err := agent.StreamResults(ctx, new(monitoring.ResultsRequest))
			if err != nil {
				return err
			}
			for final := false; ; {
				chunk, err := stream.Recv()
				if errors.Is(err, io.EOF) && !final {
					return status.Error(codes.DataLoss, "no last chunk")
				}
				if errors.Is(err, io.EOF) {
					return nil
				}
				if err != nil {
					return err
				}
				final = chunk.GetIsFinal()
			}
		},
		"health": func(ctx context.Context) error {
			_, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, new(grpc_health_v1.HealthCheckRequest))
			return err
		},
	}
	said := tryFault(t, host, conn, fault, calls, "status", "stream", "health")
	wantDials(t, fault, dials.Load())
	return said
}

func tryCore(t *testing.T, fault Fault) string {
	t.Helper()
	var network Net
	core := new(Core)
	host, err := core.NewHost(nil, func() (net.Listener, error) { return network.Listen("core") })
	if err != nil {
		t.Fatal(err)
	}
	defer host.Stop()
	var dials atomic.Int64
	conn := dial(t, "core", counted(&network, &dials))
	client := monitoring.NewPollerServiceClient(conn)
	calls := map[string]func(context.Context) error{"report": func(ctx context.Context) error {
		before := len(core.Deliveries())
		received, err := stream(ctx, client, chunk(0, 1))
		switch taken := len(core.Deliveries()) > before; {
		case err != nil && taken:
			return status.Error(codes.DataLoss, "it was taken")
		case err == nil && !received:
			return status.Error(codes.FailedPrecondition, "it was not received")
		}
		return err
	}}
	said := tryFault(t, host, conn, fault, calls, "report")
	wantDials(t, fault, dials.Load())
	if !core.Knows("p") {
		said += ", and does not know the poller"
	}
	return said
}

// tryFault makes the calls, one after the other, with a fault and then without it.
func tryFault(t *testing.T, host *Host, conn *grpc.ClientConn, fault Fault, calls map[string]func(context.Context) error, names ...string) string {
	t.Helper()
	call := func(name string) string {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		began := time.Now()
		return name + " " + took(began, calls[name](ctx))
	}
	for _, name := range names {
		if got := call(name); got != name+" ok" {
			t.Errorf("before the fault: %s", got)
		}
	}
	if err := host.Set(fault); err != nil {
		t.Fatal(err)
	}
	time.Sleep(10 * time.Millisecond) // for what comes and goes
	var said []string
	for _, name := range names {
		said = append(said, call(name))
	}
	if err := host.Set(Fault{}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(5 * time.Second) // longer than gRPC waits before it connects again
	conn.Connect()
	for _, name := range names {
		if got := call(name); got != name+" ok" {
			t.Errorf("after the fault: %s", got)
		}
	}
	return strings.Join(said, ", ")
}
