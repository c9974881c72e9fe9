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

// leases is a check that has results, too: the devices that have got an address.
type leases struct{ devices []map[string]string }

func (leases) Type() string { return "leases" }

func (l leases) Run(context.Context, sdk.Request) (sdk.Answer, error) {
	return sdk.JSON(true, map[string]int{"devices": len(l.devices)})
}

func (l leases) Results(context.Context, sdk.ResultsRequest) (sdk.Results, error) {
	// A poller that has this sequence already is told that there is nothing new.
	return sdk.Results{List: l.devices, Sequence: fmt.Sprint(len(l.devices))}, nil
}

// A check with results. A poller asks for them if the check has a results_interval.
func ExampleGatherer() {
	ctx, stop := context.WithCancel(context.Background())
	l, _ := net.Listen("tcp", "127.0.0.1:0")
	served := make(chan error)
	check := leases{[]map[string]string{{"ip": "192.0.2.7"}, {"ip": "192.0.2.9"}}}
	go func() {
		served <- sdk.ServeListener(ctx, l, []sdk.Check{check}, sdk.Logger(slog.New(slog.DiscardHandler)))
	}()

	conn, _ := grpc.NewClient("passthrough:///"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	for _, last := range []string{"", "2"} {
		r, _ := monitoring.NewAgentServiceClient(conn).GetResults(ctx, &monitoring.ResultsRequest{ServiceType: "leases", LastSequence: last})
		fmt.Println(r.GetHasNewData(), r.GetCurrentSequence(), string(r.GetData()))
	}
	_ = conn.Close()
	stop()
	fmt.Println(<-served)
	// Output:
	// true 2 [{"ip":"192.0.2.7"},{"ip":"192.0.2.9"}]
	// false 2 []
	// <nil>
}
