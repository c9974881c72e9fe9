package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/serviceradar/poller/proto/monitoring"
)

// asker asks a checker over a network in memory.
type asker struct {
	t      *testing.T
	agent  monitoring.AgentServiceClient
	health grpc_health_v1.HealthClient
	server *Server
}

func startChecker(t *testing.T, c *Checker) asker {
	t.Helper()
	var network Net
	l, err := network.Listen("checker")
	if err != nil {
		t.Fatal(err)
	}
	server := c.Serve(l, nil)
	t.Cleanup(server.Stop)
	conn := dial(t, "checker", network.Dial)
	return asker{t, monitoring.NewAgentServiceClient(conn), grpc_health_v1.NewHealthClient(conn), server}
}

func request(agent string) *monitoring.StatusRequest {
	return &monitoring.StatusRequest{AgentId: agent, ServiceName: "ssh", ServiceType: "port", PollerId: "p"}
}

// status asks for a check and tells the answer and how long it took.
func (a asker) status(agent string) string {
	a.t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(a.t.Context(), 10*time.Second)
	defer cancel()
	r, err := a.agent.GetStatus(ctx, request(agent))
	if err != nil {
		return fmt.Sprint(status.Code(err), " ", time.Since(began))
	}
	return fmt.Sprint(r.GetAvailable(), " ", string(r.GetMessage()), " ", time.Since(began))
}

func (a asker) healthOf(service string) string {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), 10*time.Second)
	defer cancel()
	r, err := a.health.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
	if err != nil {
		return status.Code(err).String()
	}
	return r.GetStatus().String()
}

func TestCheckerBehaviours(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		checker := NewChecker(OK())
		ask := startChecker(t, checker)
		const sound = `true {"host":"127.0.0.1","response_time":95382} `
		tests := []struct {
			behaviour    Behaviour
			want, health string
		}{
			{Behaviour{}, sound + "0s", "SERVING"},
			{OK(), sound + "0s", "SERVING"},
			{Unavailable(), `false {"error":"the simulated target is down"} 0s`, "SERVING"},
			{Empty(), "false  0s", "SERVING"},
			{Text("up 3 days"), "true up 3 days 0s", "SERVING"},
			{Slow(2 * time.Second), sound + "2s", "SERVING"},
			{Slow(time.Minute), "DeadlineExceeded 10s", "SERVING"},
			{Failing(codes.Internal, "boom"), "Internal 0s", "SERVING"},
			{Unimplemented(), "Unimplemented 0s", "Unimplemented"},
			{Hang(), "DeadlineExceeded 10s", "SERVING"},
			{HangAll(), "DeadlineExceeded 10s", "DeadlineExceeded"},
		}
		for i, test := range tests {
			checker.Set(test.behaviour)
			if got := ask.status("a"); got != test.want {
				t.Errorf("behaviour %d: %s; want %s", i, got, test.want)
			}
			if got := ask.healthOf(""); got != test.health {
				t.Errorf("behaviour %d: health %s; want %s", i, got, test.health)
			}
		}
		if got := checker.Calls("ssh"); got != len(tests) {
			t.Errorf("calls: %d; want %d", got, len(tests))
		}
	})
}

func TestCheckerHuge(t *testing.T) {
	t.Parallel()
	for _, n := range []int{20, 1000, 5 << 20} {
		r, err := Huge(n).Answer(t.Context(), request("a"))
		if err != nil || len(r.GetMessage()) != n || !json.Valid(r.GetMessage()) {
			t.Errorf("Huge(%d): %d bytes, JSON: %v, %v", n, len(r.GetMessage()), json.Valid(r.GetMessage()), err)
		}
	}
}

func TestCheckerHealthNames(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ask := startChecker(t, NewChecker(OK()))
		for service, want := range map[string]string{
			"": "SERVING", "AgentService": "SERVING", "monitoring.AgentService": "SERVING", "other": "NotFound",
		} {
			if got := ask.healthOf(service); got != want {
				t.Errorf("health of %q: %s; want %s", service, got, want)
			}
		}
		without := NewChecker(OK())
		without.NoHealth = true
		if got := startChecker(t, without).healthOf("AgentService"); got != "Unimplemented" {
			t.Errorf("health without the service: %s; want Unimplemented", got)
		}
	})
}

func TestCheckerStandsForManyAgents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		checker := NewChecker(Text("general"))
		checker.SetAgent("a", Text("a's own"))
		ask := startChecker(t, checker)
		for agent, want := range map[string]string{"a": "true a's own 0s", "b": "true general 0s"} {
			if got := ask.status(agent); got != want {
				t.Errorf("agent %s: %s; want %s", agent, got, want)
			}
		}
		ask.status("b")
		if a, b, all, none := checker.CallsOf("a", "ssh"), checker.CallsOf("b", "ssh"), checker.AllCalls(), checker.Calls("http"); a != 1 || b != 2 || all != 3 || none != 0 {
			t.Errorf("calls of a: %d, of b: %d, all: %d, for another check: %d; want 1, 2, 3, 0", a, b, all, none)
		}
	})
}

func TestCheckerFlaps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bad := Failing(codes.Unavailable, "down")
		bad.Health = func(context.Context) error { return status.Error(codes.Unavailable, "down") }
		ask := startChecker(t, NewChecker(Flapping(3*time.Second, 2*time.Second, bad)))
		var got, health string
		for range 10 {
			for what, answer := range map[*string]string{&got: ask.status("a")[:1], &health: ask.healthOf("")[:1]} {
				*what += answer
			}
			time.Sleep(time.Second)
		}
		if want := "tttUUtttUU"; got != want { // true, or Unavailable
			t.Errorf("answers: %s; want %s", got, want)
		}
		if want := "SSSUUSSSUU"; health != want { // SERVING, or Unavailable
			t.Errorf("health: %s; want %s", health, want)
		}
	})
}

// What hangs must not outlive the server; the leak check at the end looks after its goroutines.
func TestCheckerStopEndsHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ask := startChecker(t, NewChecker(HangAll()))
		ended := make(chan error, 2)
		go func() {
			_, err := ask.agent.GetStatus(t.Context(), request("a"))
			ended <- err
		}()
		go func() {
			_, err := ask.health.Check(t.Context(), new(grpc_health_v1.HealthCheckRequest))
			ended <- err
		}()
		synctest.Wait()
		ask.server.Stop()
		for range 2 {
			if err := <-ended; status.Code(err) != codes.Unavailable {
				t.Errorf("a hanging call as the server stops: %v; want Unavailable", err)
			}
		}
	})
}

func TestCheckerResults(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		checker := NewChecker(OK())
		ask := startChecker(t, checker)
		r := &monitoring.ResultsRequest{AgentId: "a", ServiceName: "sync"}
		drain := func() (n int, err error) {
			s, err := ask.agent.StreamResults(t.Context(), r)
			for err == nil {
				if _, err = s.Recv(); err == nil {
					n++
				}
			}
			return n, err
		}
		if _, err := ask.agent.GetResults(t.Context(), r); status.Code(err) != codes.Unimplemented {
			t.Errorf("GetResults: %v; want Unimplemented", err)
		}
		if _, err := drain(); status.Code(err) != codes.Unimplemented {
			t.Errorf("StreamResults: %v; want Unimplemented", err)
		}
		checker.SetAgent("a", Behaviour{
			Results: func(context.Context, *monitoring.ResultsRequest) (*monitoring.ResultsResponse, error) {
				return &monitoring.ResultsResponse{CurrentSequence: "7"}, nil
			},
			Chunks: func(_ context.Context, _ *monitoring.ResultsRequest, send func(*monitoring.ResultsChunk) error) error {
				return errors.Join(send(new(monitoring.ResultsChunk)), send(new(monitoring.ResultsChunk)))
			},
		})
		if got, err := ask.agent.GetResults(t.Context(), r); err != nil || got.GetCurrentSequence() != "7" {
			t.Errorf("GetResults: sequence %q, %v; want 7", got.GetCurrentSequence(), err)
		}
		if n, err := drain(); n != 2 || status.Code(err) == codes.Unimplemented {
			t.Errorf("StreamResults: %d chunks, %v; want 2", n, err)
		}
	})
}

func TestNet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var network Net
		if _, err := network.Dial(t.Context(), "a"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("nobody listens: %v; want connection refused", err)
		}
		l, err := network.Listen("a")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := network.Listen("a"); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("a second listener: %v; want address in use", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := network.Dial(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("nobody accepts: %v; want deadline exceeded", err)
		}
		dialled := make(chan error, 1)
		go func() {
			_, err := network.Dial(t.Context(), "a")
			dialled <- err
		}()
		synctest.Wait()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if err := <-dialled; !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("closed while dialling: %v; want connection refused", err)
		}
		again, err := network.Listen("a")
		if err != nil {
			t.Fatalf("listen again: %v", err)
		}
		_ = l.Close() // the old one must not free the new one's address
		go func() {
			if c, err := again.Accept(); err == nil {
				_ = c.Close()
			}
		}()
		var c net.Conn
		if c, err = network.Dial(t.Context(), "a"); err != nil {
			t.Fatalf("dial again: %v", err)
		}
		_ = c.Close()
		_ = again.Close()
	})
}
