package sdk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/proto/monitoring"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// checker is a served set of checks, and a client of it.
type checker struct {
	conn   *grpc.ClientConn
	agent  monitoring.AgentServiceClient
	stop   context.CancelFunc // ends Serve's context
	result <-chan error       // what Serve returned
	log    *bytes.Buffer      // to be read once Serve has returned
}

func serveChecks(t *testing.T, checks []Check, opts ...Option) *checker {
	t.Helper()
	var network sim.Net
	l, err := network.Listen("checker")
	if err != nil {
		t.Fatal(err)
	}
	log := new(bytes.Buffer)
	opts = append([]Option{Logger(slog.New(slog.NewJSONHandler(log, nil)))}, opts...)
	ctx, stop := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		result <- ServeListener(ctx, l, checks, opts...)
		close(result)
	}()
	conn, err := grpc.NewClient("passthrough:///checker",
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(network.Dial))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = conn.Close()
		for range result { // a test that stopped it has read it already
		}
	})
	return &checker{conn, monitoring.NewAgentServiceClient(conn), stop, result, log}
}

// ask asks for a check of a type and tells the answer, or the error's code and text.
func (c *checker) ask(ctx context.Context, checkType string) string {
	r, err := c.agent.GetStatus(ctx, &monitoring.StatusRequest{
		ServiceName: "name", ServiceType: checkType, Details: "host:1", Port: 2, AgentId: "agent", PollerId: "poller",
	})
	if err != nil {
		return fmt.Sprintf("%s: %s", status.Code(err), status.Convert(err).Message())
	}
	return fmt.Sprintf("%v %s", r.GetAvailable(), r.GetMessage())
}

// block runs until its context ends.
var block = Func("block", func(ctx context.Context, _ Request) (Answer, error) {
	<-ctx.Done()
	return Answer{}, ctx.Err()
})

func TestAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := serveChecks(t, []Check{
			Func("up", func(context.Context, Request) (Answer, error) { return JSON(true, map[string]int{"users": 3}) }),
			Func("text", func(context.Context, Request) (Answer, error) { return Answer{Message: []byte("it is down")}, nil }),
			Func("request", func(_ context.Context, r Request) (Answer, error) {
				return Answer{Available: true, Message: fmt.Append(nil, r)}, nil
			}),
			Func("error", func(context.Context, Request) (Answer, error) {
				return Answer{Available: true, Message: []byte("?")}, errors.New(`no "route"`)
			}),
			Func("internal", func(context.Context, Request) (Answer, error) {
				return Answer{}, status.Error(codes.Internal, "an upstream's")
			}),
			Func("unmarshallable", func(context.Context, Request) (Answer, error) { return JSON(true, make(chan int)) }),
			Func("panic", func(context.Context, Request) (Answer, error) { panic("boom \xff") }),
		})
		for checkType, want := range map[string]string{
			"up":             `true {"users":3}`,
			"text":           `false it is down`,
			"request":        `true {name request host:1 2 agent poller}`,
			"error":          `false {"error":"no \"route\""}`,
			"internal":       `false {"error":"rpc error: code = Internal desc = an upstream's"}`,
			"unmarshallable": `false {"error":"the check's answer can't be written as JSON: json: unsupported type: chan int"}`,
			"panic":          `Internal: check type panic panicked: boom ?`,
			"other":          `false {"error":"unknown check type \"other\"; this checker knows error, internal, panic, request, text, unmarshallable, up"}`,
		} {
			if got := c.ask(t.Context(), checkType); got != want {
				t.Errorf("type %s: %s\nwant %s", checkType, got, want)
			}
		}
		c.stop()
		if err := <-c.result; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if log := c.log.String(); !strings.Contains(log, `"a check panicked"`) || !strings.Contains(log, "sdk_test.go") {
			t.Errorf("the panic is not logged with its stack: %s", log)
		}
	})
}

func TestResponse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := serveChecks(t, []Check{
			Func("slow", func(context.Context, Request) (Answer, error) {
				time.Sleep(time.Second)
				return Answer{}, nil
			}),
			Func("measured", func(context.Context, Request) (Answer, error) {
				return Answer{ResponseTime: time.Millisecond}, nil
			}),
		})
		for checkType, want := range map[string]time.Duration{"slow": time.Second, "measured": time.Millisecond} {
			r, err := c.agent.GetStatus(t.Context(), &monitoring.StatusRequest{
				ServiceName: "n", ServiceType: checkType, AgentId: "a", PollerId: "p",
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := time.Duration(r.GetResponseTime()); got != want {
				t.Errorf("%s: response time %v; want %v", checkType, got, want)
			}
			if r.GetServiceName() != "n" || r.GetServiceType() != checkType || r.GetAgentId() != "a" || r.GetPollerId() != "p" {
				t.Errorf("%s: the answer does not say to what: %v", checkType, r)
			}
		}
		// An unknown type is answered with nothing but the reason, as checkers in the field do.
		r, err := c.agent.GetStatus(t.Context(), &monitoring.StatusRequest{ServiceName: "n", ServiceType: "x", AgentId: "a"})
		if err != nil || r.GetServiceName() != "" || r.GetServiceType() != "" || r.GetAgentId() != "" || r.GetAvailable() {
			t.Errorf("unknown type: %v, %v; want empty fields", r, err)
		}
	})
}

func TestVerdictArrivesBeforeTheDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := serveChecks(t, []Check{block})
		for timeout, want := range map[time.Duration]time.Duration{
			0:                30 * time.Second,
			time.Second:      900 * time.Millisecond,
			10 * time.Second: 9500 * time.Millisecond,
		} {
			ctx, cancel := t.Context(), context.CancelFunc(func() {})
			if timeout > 0 {
				ctx, cancel = context.WithTimeout(ctx, timeout)
			}
			began := time.Now()
			got := c.ask(ctx, "block")
			took := time.Since(began)
			cancel()
			if got != `false {"error":"context deadline exceeded"}` || took != want {
				t.Errorf("timeout %v: %s after %v; want a verdict after %v", timeout, got, took, want)
			}
		}
	})
}

func TestMaxInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := serveChecks(t, []Check{block}, MaxInFlight(2))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for range 2 {
			go c.ask(ctx, "block")
		}
		synctest.Wait()
		began := time.Now()
		third, cancelThird := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancelThird()
		got := c.ask(third, "block")
		if took := time.Since(began); !strings.HasPrefix(got, "ResourceExhausted: 2 checks were running") || took != 9500*time.Millisecond {
			t.Errorf("a third run: %s after %v; want ResourceExhausted just before its deadline", got, took)
		}
		waited := make(chan string, 1)
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			waited <- c.ask(ctx, "block")
		}()
		synctest.Wait()
		cancel()
		if got := <-waited; !strings.HasPrefix(got, "false") {
			t.Errorf("a run that waited for its turn: %s; want a verdict", got)
		}
		synctest.Wait()
		short, cancelShort := context.WithTimeout(t.Context(), time.Second)
		defer cancelShort()
		if got := c.ask(short, "block"); !strings.HasPrefix(got, "false") {
			t.Errorf("once the others have ended: %s; want a verdict", got)
		}
	})
}

// A type that is at its limit waits without keeping others from running.
func TestLimitOfAType(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		quick := Func("quick", func(context.Context, Request) (Answer, error) { return Answer{Available: true}, nil })
		c := serveChecks(t, []Check{block, quick}, MaxInFlight(3), Limit("block", 1))
		first := make(chan string, 1)
		go func() { first <- c.ask(t.Context(), "block") }() // for 30 s
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		others := make(chan string, 5)
		for range cap(others) {
			go func() { others <- c.ask(ctx, "block") }()
		}
		synctest.Wait()
		began := time.Now()
		if got := c.ask(t.Context(), "quick"); got != "true " || time.Since(began) != 0 {
			t.Errorf("another type: %s after %v; want its answer at once", got, time.Since(began))
		}
		for range cap(others) {
			if got := <-others; !strings.HasPrefix(got, "ResourceExhausted: 1 checks of type block were running all the time") {
				t.Errorf("beyond the limit: %s", got)
			}
		}
		if got := <-first; !strings.HasPrefix(got, "false") {
			t.Errorf("within the limit: %s; want a verdict", got)
		}
		// The turn is free again.
		if got := c.ask(t.Context(), "block"); !strings.HasPrefix(got, "false") {
			t.Errorf("afterwards: %s; want a verdict", got)
		}
	})
}

func TestStopLetsRunsFinish(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := serveChecks(t, []Check{Func("slow", func(context.Context, Request) (Answer, error) {
			time.Sleep(3 * time.Second)
			return Answer{Available: true}, nil
		})})
		answer := make(chan string, 1)
		go func() { answer <- c.ask(t.Context(), "slow") }()
		synctest.Wait()
		began := time.Now()
		c.stop()
		if err := <-c.result; err != nil || time.Since(began) != 3*time.Second {
			t.Errorf("Serve = %v after %v; want nil after 3s", err, time.Since(began))
		}
		if got := <-answer; got != "true " {
			t.Errorf("the run under way: %s; want its verdict", got)
		}
	})
}

func TestStopIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var ended atomic.Int32
		c := serveChecks(t, []Check{block, Func("deaf", func(context.Context, Request) (Answer, error) {
			<-release
			ended.Add(1)
			return Answer{}, nil
		})}, StopTimeout(2*time.Second))
		answers := make(chan string, 2)
		for _, checkType := range []string{"block", "deaf"} {
			go func() { answers <- c.ask(t.Context(), checkType) }()
		}
		synctest.Wait()
		began := time.Now()
		c.stop()
		if err := <-c.result; err != nil || time.Since(began) != 3*time.Second {
			t.Errorf("Serve = %v after %v; want nil after 2s and 1s more", err, time.Since(began))
		}
		if ended.Load() != 0 {
			t.Error("the run that ignores its context has ended")
		}
		for range 2 {
			if got := <-answers; !strings.HasPrefix(got, "Unavailable") {
				t.Errorf("a run under way: %s; want Unavailable", got)
			}
		}
		if !strings.Contains(c.log.String(), "left behind") {
			t.Errorf("the log does not tell of the run left behind: %s", c.log)
		}
		close(release)
	})
}

func TestHealthAndResults(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := serveChecks(t, []Check{block})
		for name, want := range map[string]codes.Code{
			"": codes.OK, "AgentService": codes.OK, "monitoring.AgentService": codes.OK, "other": codes.NotFound,
		} {
			r, err := grpc_health_v1.NewHealthClient(c.conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: name})
			if status.Code(err) != want || err == nil && r.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
				t.Errorf("health of %q: %v, %v; want %v", name, r.GetStatus(), err, want)
			}
		}
		if _, err := c.agent.GetResults(t.Context(), &monitoring.ResultsRequest{ServiceType: "block"}); status.Code(err) != codes.Unimplemented {
			t.Errorf("GetResults: %v; want Unimplemented", err)
		}
		s, err := c.agent.StreamResults(t.Context(), &monitoring.ResultsRequest{ServiceType: "block"})
		if err == nil {
			_, err = s.Recv()
		}
		if status.Code(err) != codes.Unimplemented {
			t.Errorf("StreamResults: %v; want Unimplemented", err)
		}
	})
}
