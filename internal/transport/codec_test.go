package transport

import (
	"context"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/serviceradar/poller/proto/monitoring"
)

// acceptor is a core that tells how reports come, and takes all.
type acceptor struct {
	monitoring.UnimplementedPollerServiceServer
	as     []string // content types of unary reports
	pieces [][]string
}

func (a *acceptor) ReportStatus(ctx context.Context, r *monitoring.PollerStatusRequest) (*monitoring.PollerStatusResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	a.as = append(a.as, md.Get("content-type")...)
	var names []string
	for _, s := range r.GetServices() {
		names = append(names, s.GetAgentId()+"/"+s.GetServiceName())
	}
	a.pieces = append(a.pieces, names)
	return &monitoring.PollerStatusResponse{Received: true}, nil
}

func (*acceptor) StreamStatus(s monitoring.PollerService_StreamStatusServer) error {
	for {
		chunk, err := s.Recv()
		if err != nil {
			return err
		}
		if chunk.GetIsFinal() {
			return s.SendAndClose(&monitoring.PollerStatusResponse{Received: true})
		}
	}
}

// TestVerbatim: a report that is sent as it is comes as any other, by the content type that every gRPC server knows.
func TestVerbatim(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	core, server := new(acceptor), grpc.NewServer()
	monitoring.RegisterPollerServiceServer(server, core)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	c := newCore(t, CoreConfig{Addresses: []string{l.Addr().String()}})
	mustDeliver(t, c, 1, "a/ssh") // with which it is registered
	mustDeliver(t, c, 2, "a/ssh", "b/ssh")
	if len(core.as) != 1 || core.as[0] != "application/grpc" || len(core.pieces[0]) != 2 || core.pieces[0][1] != "b/ssh" {
		t.Errorf("unary reports came as %q, with %q", core.as, core.pieces)
	}
}
