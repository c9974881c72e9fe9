package sim

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/serviceradar/poller/internal/tlsid"
	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
	"github.com/serviceradar/poller/proto/monitoring"
)

// Down means that the address refuses; up again it remembers.
func TestCoreDownAndUpAgain(t *testing.T) {
	t.Parallel()
	var core Core
	server, err := core.Start("127.4.0.1:0", nil) // an address of its own, so that nobody gets its port while it is down
	if err != nil {
		t.Fatal(err)
	}
	addr := server.Addr()
	conn := dial(t, addr, func(ctx context.Context, addr string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	})
	client := monitoring.NewPollerServiceClient(conn)
	received, err := stream(t.Context(), client, chunk(0, 1))
	wantReceived(t, "before", received, err)

	// A call that hangs when core goes down ends.
	core.SetFault(CoreFault{Hang: true})
	hung := make(chan error, 1)
	go func() {
		_, err := stream(t.Context(), client, chunk(0, 1))
		hung <- err
	}()
	awaitCalls(t, &core, 2)
	server.Stop()
	server.Stop()
	if err := <-hung; status.Code(err) != codes.Unavailable {
		t.Errorf("a call that hangs while core stops: %v; want Unavailable", err)
	}
	if c, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr); err == nil {
		_ = c.Close()
		t.Error("core is down, and its address accepts connections")
	}

	core.SetFault(CoreFault{})
	server, err = core.Start(addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	s, err := client.StreamStatus(t.Context(), grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Send(chunk(0, 1))
	r, err := s.CloseAndRecv()
	wantReceived(t, "after", r.GetReceived(), err)
	wantDeliveries(t, core.Deliveries(), "S ", "S ")
}

// awaitCalls waits for n calls to have come in.
func awaitCalls(t *testing.T, core *Core, n int) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for core.Stats().Calls < n {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatalf("%d calls; want %d", core.Stats().Calls, n)
		}
	}
}

func TestCoreMutualTLS(t *testing.T) {
	t.Parallel()
	ca := tlsidtest.NewCA(t)
	serverTLS, err := tlsid.Server(ca.Issue(t, "core"))
	if err != nil {
		t.Fatal(err)
	}
	clientTLS, err := tlsid.Client(ca.Issue(t, "poller"), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	var core Core
	server, err := core.Start("127.0.0.1:0", credentials.NewTLS(serverTLS))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	conn, err := grpc.NewClient("passthrough:///"+server.Addr(), grpc.WithTransportCredentials(credentials.NewTLS(clientTLS)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	received, err := stream(t.Context(), monitoring.NewPollerServiceClient(conn), chunk(0, 1))
	wantReceived(t, "over mTLS", received, err)
}
