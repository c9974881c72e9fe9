package sim

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/proto/monitoring"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// dial returns a connection that ends with the test.
func dial(t *testing.T, addr string, dialer func(context.Context, string) (net.Conn, error)) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(dialer))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// startCore serves core over a network in memory and returns a client of it.
func startCore(t *testing.T, c *Core) monitoring.PollerServiceClient {
	t.Helper()
	var network Net
	l, err := network.Listen("core")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Serve(l, nil).Stop)
	return monitoring.NewPollerServiceClient(dial(t, "core", network.Dial))
}

// chunk returns the i-th of n chunks of poller p's report.
func chunk(i, n int32, services ...*monitoring.ServiceStatus) *monitoring.PollerStatusChunk {
	return &monitoring.PollerStatusChunk{
		PollerId: "p", Partition: "default", SourceIp: "10.0.0.1", Timestamp: 1000,
		ChunkIndex: i, TotalChunks: n, IsFinal: i == n-1, Services: services,
	}
}

// report returns a unary report of poller p.
func report(services ...*monitoring.ServiceStatus) *monitoring.PollerStatusRequest {
	return &monitoring.PollerStatusRequest{
		PollerId: "p", Partition: "default", SourceIp: "10.0.0.1", Timestamp: 1000, Services: services,
	}
}

func service(agent, name, message string) *monitoring.ServiceStatus {
	return &monitoring.ServiceStatus{AgentId: agent, ServiceName: name, ServiceType: "port", Message: []byte(message)}
}

func stream(ctx context.Context, c monitoring.PollerServiceClient, chunks ...*monitoring.PollerStatusChunk) (bool, error) {
	s, err := c.StreamStatus(ctx)
	if err != nil {
		return false, err
	}
	for _, chunk := range chunks {
		if err := s.Send(chunk); err != nil {
			break // the answer says why
		}
	}
	r, err := s.CloseAndRecv()
	return r.GetReceived(), err
}

// brief writes deliveries down to look at: S or U, the id, and agent/name=message of each status.
func brief(deliveries []Delivery) []string {
	var lines []string
	for _, d := range deliveries {
		line := "U " + d.ID
		if d.Stream {
			line = "S " + d.ID
		}
		for _, s := range d.Services {
			line += fmt.Sprintf(" %s/%s=%s", s.GetAgentId(), s.GetServiceName(), s.GetMessage())
		}
		lines = append(lines, line)
	}
	return lines
}

func wantDeliveries(t *testing.T, got []Delivery, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, brief(got)); diff != "" {
		t.Errorf("deliveries (-want +got):\n%s", diff)
	}
}

func wantReceived(t *testing.T, what string, received bool, err error) {
	t.Helper()
	if err != nil || !received {
		t.Errorf("%s: received=%v, %v; want true, no error", what, received, err)
	}
}

func TestCoreRegistersOnlyOnStreams(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var core Core
		client := startCore(t, &core)
		send := func(id string) {
			ctx := metadata.AppendToOutgoingContext(t.Context(), reportIDKey, id)
			r, err := client.ReportStatus(ctx, report(service("a", "ssh", "{}")))
			wantReceived(t, id, r.GetReceived(), err)
		}
		send("p/1/1")
		received, err := stream(t.Context(), client, chunk(0, 1))
		wantReceived(t, "registration", received, err)
		if !core.Knows("p") || core.Knows("q") {
			t.Errorf("knows p: %v, q: %v; want true, false", core.Knows("p"), core.Knows("q"))
		}
		send("p/1/2")
		core.Forget()
		send("p/1/3")

		wantDeliveries(t, core.Deliveries(), "S ", "U p/1/2 a/ssh={}")
		wantDeliveries(t, core.Dropped(), "U p/1/1 a/ssh={}", "U p/1/3 a/ssh={}")
		if d := core.Deliveries(); !d[0].Registration() || d[1].Registration() {
			t.Errorf("registrations: %v, %v; want true, false", d[0].Registration(), d[1].Registration())
		}
		if diff := cmp.Diff(CoreStats{Calls: 4, Taken: 2, Dropped: 2, Statuses: 1}, core.Stats()); diff != "" {
			t.Errorf("stats (-want +got):\n%s", diff)
		}
		if v := core.Violations(); len(v) > 0 {
			t.Errorf("violations: %q", v)
		}
	})
}

func TestCoreNeedsPollerID(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var core Core
		client := startCore(t, &core)
		nameless := report()
		nameless.PollerId = ""
		if _, err := client.ReportStatus(t.Context(), nameless); status.Code(err) != codes.Unknown {
			t.Errorf("a report without poller_id: %v; want Unknown", err)
		}
		if _, err := stream(t.Context(), client); status.Code(err) != codes.Unknown {
			t.Errorf("a stream without chunks: %v; want Unknown", err)
		}
		wantDeliveries(t, core.Deliveries())
	})
}

func TestCoreAssemblesByKeyAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var core Core
		client := startCore(t, &core)
		received, err := stream(t.Context(), client,
			chunk(0, 3, service("a", "big", "[1,"), service("a", "ssh", "x")),
			chunk(1, 3, service("a", "big", "2,")),
			chunk(2, 3, service("a", "big", "3]")))
		wantReceived(t, "one status in slices", received, err)
		if v := core.Violations(); len(v) > 0 {
			t.Errorf("violations: %q", v)
		}
		received, err = stream(t.Context(), client,
			chunk(0, 1, service("a", "ssh", "x"), service("b", "ssh", "y"), service("a", "ssh", "z")))
		wantReceived(t, "equal keys", received, err)
		wantDeliveries(t, core.Deliveries(), "S  a/big=[1,2,3] a/ssh=x", "S  a/ssh=xyz")
		wantViolations(t, &core, `agents "a" and "b" with the key "ssh:port"`, `two statuses of agent "a" with the key "ssh:port"`)
	})
}

func wantViolations(t *testing.T, core *Core, want ...string) {
	t.Helper()
	got := core.Violations()
	if len(got) != len(want) {
		t.Errorf("violations: %q; want %d", got, len(want))
		return
	}
	for i := range want {
		if !strings.Contains(got[i], want[i]) {
			t.Errorf("violation %q; want in it %q", got[i], want[i])
		}
	}
}

func TestCoreViolations(t *testing.T) {
	t.Parallel()
	later := chunk(0, 1)
	later.Timestamp = 2000
	lonely := chunk(0, 1)
	lonely.SourceIp = ""
	for name, test := range map[string]struct {
		streams [][]*monitoring.PollerStatusChunk
		want    []string
	}{
		"in order":        {[][]*monitoring.PollerStatusChunk{{chunk(0, 2), chunk(1, 2)}, {later}, {later}}, nil},
		"backwards":       {[][]*monitoring.PollerStatusChunk{{later}, {chunk(0, 1)}}, []string{"timestamp 1000 after one with 2000"}},
		"no source_ip":    {[][]*monitoring.PollerStatusChunk{{lonely}}, []string{`source_ip ""`}},
		"index":           {[][]*monitoring.PollerStatusChunk{{chunk(1, 3), chunk(1, 3), chunk(2, 3)}}, []string{"chunk 0 has chunk_index 1"}},
		"no final":        {[][]*monitoring.PollerStatusChunk{{chunk(0, 2)}}, []string{"ended after 1 chunks without is_final"}},
		"total":           {[][]*monitoring.PollerStatusChunk{{chunk(0, 3), chunk(1, 2)}}, []string{"total_chunks 2, the first had 3", "stream of 2 chunks has total_chunks 3"}},
		"another's chunk": {[][]*monitoring.PollerStatusChunk{{chunk(0, 2), {PollerId: "q", ChunkIndex: 1, TotalChunks: 2, IsFinal: true}}}, []string{"differs from the first"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var core Core
				client := startCore(t, &core)
				for _, chunks := range test.streams {
					received, err := stream(t.Context(), client, chunks...)
					wantReceived(t, "stream", received, err)
				}
				wantViolations(t, &core, test.want...)
			})
		})
	}
}

func TestCoreFaults(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var core Core
		client := startCore(t, &core)
		// try sends one stream and tells how it went and how long it took.
		try := func(f CoreFault) string {
			core.SetFault(f)
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			received, err := stream(ctx, client, chunk(0, 1))
			return fmt.Sprint(received, " ", status.Code(err), " ", time.Since(began))
		}
		for _, test := range []struct {
			fault CoreFault
			want  string
			taken int
		}{
			{CoreFault{}, "true OK 0s", 1},
			{CoreFault{Delay: 2 * time.Second}, "true OK 2s", 1},
			{CoreFault{Delay: 20 * time.Second}, "false DeadlineExceeded 10s", 0},
			{CoreFault{Hang: true, Code: codes.Internal}, "false DeadlineExceeded 10s", 0},
			{CoreFault{Code: codes.Unavailable, NotReceived: true}, "false Unavailable 0s", 0},
			{CoreFault{NotReceived: true}, "false OK 0s", 0},
			{CoreFault{Hang: true, AfterTaking: true}, "false DeadlineExceeded 10s", 1},
			{CoreFault{Code: codes.Unavailable, AfterTaking: true}, "false Unavailable 0s", 1},
			{CoreFault{AfterTaking: true}, "true OK 0s", 1},
		} {
			before := len(core.Deliveries())
			if got := try(test.fault); got != test.want {
				t.Errorf("%+v: %s; want %s", test.fault, got, test.want)
			}
			if got := len(core.Deliveries()) - before; got != test.taken {
				t.Errorf("%+v: %d reports taken; want %d", test.fault, got, test.taken)
			}
		}
		first := try(CoreFault{NotReceived: true, Times: 2})
		second, err := stream(t.Context(), client, chunk(0, 1))
		third, err2 := stream(t.Context(), client, chunk(0, 1))
		if first != "false OK 0s" || second || !third || err != nil || err2 != nil {
			t.Errorf("a fault for 2 calls: %s, %v, %v (%v, %v)", first, second, third, err, err2)
		}
	})
}

func TestCoreMessageLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var core Core
		client := startCore(t, &core)
		_, err := client.ReportStatus(t.Context(), report(service("a", "big", strings.Repeat("x", 4<<20))))
		if status.Code(err) != codes.ResourceExhausted {
			t.Errorf("a report above 4 MiB: %v; want ResourceExhausted", err)
		}
	})
}

// TestCoreMaxMessage: the limit is for each message, and what is above it neither arrives nor registers.
func TestCoreMaxMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var core Core
		client := startCore(t, &core)
		wantExhausted := func(what string, err error) {
			t.Helper()
			if status.Code(err) != codes.ResourceExhausted || !strings.Contains(status.Convert(err).Message(), "larger than max") {
				t.Errorf("%s: %v; want ResourceExhausted, larger than max", what, err)
			}
		}
		part := func(n int) *monitoring.ServiceStatus { return service("a", "big", strings.Repeat("x", n)) }
		unary := report(part(500))
		limit := proto.Size(unary)
		core.SetFault(CoreFault{MaxMessage: limit})
		_, err := stream(t.Context(), client, chunk(0, 3, part(10)), chunk(1, 3, part(501)), chunk(2, 3, part(10)))
		wantExhausted("a stream with a message above the limit", err)
		if core.Knows("p") {
			t.Error("what is refused registers the poller")
		}
		received, err := stream(t.Context(), client, chunk(0, 2, part(400)), chunk(1, 2, part(401)))
		wantReceived(t, "a stream above the limit, whose messages are not", received, err)
		r, err := client.ReportStatus(t.Context(), unary)
		wantReceived(t, "a report at the limit", r.GetReceived(), err)
		_, err = client.ReportStatus(t.Context(), report(part(501)))
		wantExhausted("a report above the limit", err)
		core.SetFault(CoreFault{MaxMessage: limit, Times: 1})
		_, err = client.ReportStatus(t.Context(), report(part(501)))
		wantExhausted("a report above the limit, once", err)
		r, err = client.ReportStatus(t.Context(), report(part(501)))
		wantReceived(t, "a report above the limit that was", r.GetReceived(), err)

		var sizes []int
		for _, d := range core.Deliveries() {
			sizes = append(sizes, len(d.Services[0].GetMessage()))
		}
		if diff := cmp.Diff([]int{801, 500, 501}, sizes); diff != "" {
			t.Errorf("sizes of what was taken (-want +got):\n%s", diff)
		}
	})
}

// TestCoreTellsMessages: how many there were, and the size of the largest as it came.
func TestCoreTellsMessages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var core Core
		client := startCore(t, &core)
		small, middle := chunk(0, 3, service("a", "big", "[1,")), chunk(1, 3, service("a", "big", "2,3,4,5,6,7,8,9,"))
		received, err := stream(t.Context(), client, small, middle, chunk(2, 3, service("a", "big", "0]")))
		wantReceived(t, "three chunks", received, err)
		received, err = stream(t.Context(), client, chunk(0, 1))
		wantReceived(t, "one chunk", received, err)
		unary := report(service("a", "ssh", "{}"), service("a", "web", "{}"))
		r, err := client.ReportStatus(t.Context(), unary)
		wantReceived(t, "a report", r.GetReceived(), err)
		type messages struct{ Chunks, Largest int }
		var got []messages
		for _, d := range core.Deliveries() {
			got = append(got, messages{d.Chunks, d.Largest})
		}
		want := []messages{{3, proto.Size(middle)}, {1, proto.Size(chunk(0, 1))}, {0, proto.Size(unary)}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("messages (-want +got):\n%s", diff)
		}
	})
}

func TestCoreDiscards(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var told []Delivery
		core := &Core{Discard: true, OnDelivery: func(d Delivery) { told = append(told, d) }}
		client := startCore(t, core)
		received, err := stream(t.Context(), client, chunk(0, 1, service("a", "ssh", "{}")))
		wantReceived(t, "stream", received, err)
		wantDeliveries(t, told, "S  a/ssh={}")
		wantDeliveries(t, core.Deliveries())
		if got := core.Stats().Taken; got != 1 {
			t.Errorf("taken: %d; want 1", got)
		}
	})
}

func TestCoreAwait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var core Core
		client := startCore(t, &core)
		go func() {
			for range 3 {
				time.Sleep(time.Second)
				_, _ = stream(t.Context(), client, chunk(0, 1))
			}
		}()
		began := time.Now()
		got, err := core.Await(t.Context(), func(d []Delivery) bool { return len(d) == 3 })
		if err != nil || len(got) != 3 || time.Since(began) != 3*time.Second {
			t.Errorf("Await = %d deliveries, %v after %v; want 3 after 3s", len(got), err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := core.Await(ctx, func([]Delivery) bool { return false }); err == nil {
			t.Error("Await outlived its context")
		}
	})
}
