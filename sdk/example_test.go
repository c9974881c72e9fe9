package sdk_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/serviceradar/poller/proto/monitoring"
	"github.com/serviceradar/poller/sdk"
)

// fileCheck finds out whether a file is there, and how large it is.
type fileCheck struct{}

func (fileCheck) Type() string { return "file" }

func (fileCheck) Run(_ context.Context, req sdk.Request) (sdk.Answer, error) {
	info, err := os.Stat(req.Details)
	if err != nil {
		return sdk.Answer{}, err // not available, and this is why
	}
	return sdk.JSON(true, map[string]any{"file": info.Name(), "size": info.Size()})
}

// A checker with one check. A real one calls sdk.Serve(ctx, "127.0.0.1:50051", …), with a context
// of signal.NotifyContext.
func ExampleServe() {
	ctx, stop := context.WithCancel(context.Background())
	l, _ := net.Listen("tcp", "127.0.0.1:0")
	served := make(chan error)
	go func() {
		served <- sdk.ServeListener(ctx, l, []sdk.Check{fileCheck{}}, sdk.Logger(slog.New(slog.DiscardHandler)))
	}()

	fmt.Println(ask(l.Addr().String(), "example_test.go.missing"))
	fmt.Println(ask(l.Addr().String(), "testdata/motd"))
	stop()
	fmt.Println(<-served)
	// Output:
	// false {"error":"stat example_test.go.missing: no such file or directory"}
	// true {"file":"motd","size":6}
	// <nil>
}

// ask does what a poller does.
func ask(addr, details string) string {
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err.Error()
	}
	defer func() { _ = conn.Close() }()
	r, err := monitoring.NewAgentServiceClient(conn).GetStatus(context.Background(),
		&monitoring.StatusRequest{ServiceName: "motd", ServiceType: "file", Details: details})
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(r.GetAvailable(), " ", string(r.GetMessage()))
}
