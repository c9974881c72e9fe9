package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/proto/monitoring"
	"github.com/serviceradar/poller/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// found runs the tests against a checker and returns what they came to, by their names.
func found(t *testing.T, target Target) map[string]Finding {
	t.Helper()
	target.Type, target.Details = "good", "10.0.0.1"
	findings, err := Run(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	if len(findings) != len(tests) {
		t.Errorf("%d findings; want %d", len(findings), len(tests))
	}
	by := make(map[string]Finding)
	for _, f := range findings {
		by[f.Test] = f
		if (f.Outcome == Passed) != (f.Advice == "") || f.Found == "" {
			t.Errorf("%s: %+v; want what was found, and advice if it has not passed", f.Test, f)
		}
	}
	return by
}

// lists is a check with results.
type lists struct {
	sdk.Check
	results sdk.Results
}

func (l lists) Results(context.Context, sdk.ResultsRequest) (sdk.Results, error) {
	return l.results, nil
}

// TestServedBySDK: what is made with the SDK has nothing to change.
func TestServedBySDK(t *testing.T) {
	t.Parallel()
	good := func(_ context.Context, r sdk.Request) (sdk.Answer, error) {
		if r.Details == "" {
			return sdk.Answer{}, errors.New("no details")
		}
		time.Sleep(time.Millisecond) // a target's time
		return sdk.JSON(true, map[string]int{"users": 3})
	}
	many := make([]string, 3<<10)
	for i := range many {
		many[i] = strings.Repeat("x", 1<<10)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- sdk.ServeListener(ctx, l, []sdk.Check{
			sdk.Func("good", good),
			lists{sdk.Func("sweep", good), sdk.Results{List: many, Sweep: map[string]string{"network": "10.0.0.0/24"}, Sequence: "7"}},
			lists{sdk.Func("devices", good), sdk.Results{List: []int{1}, Sequence: "7"}},
			lists{sdk.Func("unmarked", good), sdk.Results{List: []int{1}}},
		}, sdk.Logger(slog.New(slog.DiscardHandler)))
	}()
	defer func() {
		stop()
		if err := <-served; err != nil {
			t.Errorf("ServeListener: %v", err)
		}
	}()
	for results, want := range map[string]Outcome{"": Passed, "sweep": Passed, "devices": Passed, "unmarked": Advice} {
		for name, f := range found(t, Target{Address: l.Addr().String(), Results: results, Timeout: 10 * time.Second}) {
			if of := strings.HasSuffix(name, "Results"); f.Outcome != Passed && (!of || f.Outcome != want) {
				t.Errorf("results %q: %+v", results, f)
			} else if of && f.Outcome != want {
				t.Errorf("results %q: %+v; want %s", results, f, want)
			}
		}
	}
	f := found(t, Target{Address: l.Addr().String(), Results: "good", Timeout: 10 * time.Second})
	if got := f["StreamResults"]; got.Outcome != Failed || !strings.Contains(got.Advice, "implement StreamResults") {
		t.Errorf("results that are not there: %+v", got)
	}
}

// answering is a sound checker but for how it answers the good check.
func answering(change func(*monitoring.StatusResponse)) sim.Behaviour {
	return sim.Behaviour{Answer: func(_ context.Context, r *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
		return sound(r, change), nil
	}}
}

func sound(r *monitoring.StatusRequest, change func(*monitoring.StatusResponse)) *monitoring.StatusResponse {
	if r.GetServiceType() != "good" {
		return &monitoring.StatusResponse{Message: []byte(`{"error":"unknown"}`)}
	}
	a := &monitoring.StatusResponse{
		Available: true, Message: []byte("{}"), ResponseTime: 1000,
		ServiceName: r.GetServiceName(), ServiceType: r.GetServiceType(), AgentId: r.GetAgentId(), PollerId: r.GetPollerId(),
	}
	change(a)
	return a
}

func asIs(*monitoring.StatusResponse) {}

// chunked is a sound checker but for its chunks.
func chunked(chunks ...*monitoring.ResultsChunk) sim.Behaviour {
	b := answering(asIs)
	b.Chunks = func(_ context.Context, r *monitoring.ResultsRequest, send func(*monitoring.ResultsChunk) error) error {
		if r.GetServiceType() != "good" {
			return status.Error(codes.NotFound, "unknown")
		}
		for _, chunk := range chunks {
			if err := send(chunk); err != nil {
				return err
			}
		}
		return nil
	}
	return b
}

// resulting is a sound checker but for what GetResults answers.
func resulting(r *monitoring.ResultsResponse) sim.Behaviour {
	b := answering(asIs)
	b.Results = func(context.Context, *monitoring.ResultsRequest) (*monitoring.ResultsResponse, error) { return r, nil }
	return b
}

// oneAtATime takes 30 ms for each call, and does not heed its end.
func oneAtATime() sim.Behaviour {
	var mu sync.Mutex
	return sim.Behaviour{Answer: func(_ context.Context, r *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
		mu.Lock()
		defer mu.Unlock()
		<-time.After(30 * time.Millisecond)
		return sound(r, asIs), nil
	}}
}

// failing has an error for some requests.
func failing(which func(*monitoring.StatusRequest) bool, code codes.Code) sim.Behaviour {
	return sim.Behaviour{Answer: func(_ context.Context, r *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
		if which(r) {
			return nil, status.Error(code, "Exception calling application: \x1b[2J'NoneType'")
		}
		return sound(r, asIs), nil
	}}
}

func unknown(r *monitoring.StatusRequest) bool   { return r.GetServiceType() != "good" }
func noDetails(r *monitoring.StatusRequest) bool { return r.GetDetails() == "" }

// large is JSON that does not fit into a message.
var large = fmt.Appendf(nil, "[%q]", bytes.Repeat([]byte("x"), maxMessage))

func list(index, total int32, final bool, data, sequence string) *monitoring.ResultsChunk {
	return &monitoring.ResultsChunk{Data: []byte(data), ChunkIndex: index, TotalChunks: total, IsFinal: final, CurrentSequence: sequence}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		behaviour sim.Behaviour
		test      string
		outcome   Outcome
		advice    string
	}{
		"hangs":               {sim.Hang(), "a good check", Failed, "answer before the call's deadline"},
		"hangs in health":     {sim.HangAll(), "health", Failed, "answer health checks at once"},
		"unavailable":         {sim.Unavailable(), "a good check", Failed, "set available=true"},
		"no checker":          {sim.Unimplemented(), "a good check", Failed, "implement GetStatus"},
		"text":                {sim.Text("it works"), "the message", Advice, "write JSON"},
		"no message":          {sim.Text(""), "the message", Advice, "tell people more"},
		"a number":            {sim.Text("17"), "the message", Advice, "let it be an object"},
		"broken JSON":         {sim.Text(`{'a': 1}`), "the message", Failed, "with a JSON library"},
		"any type works":      {sim.OK(), "an unknown type", Failed, "look at service_type"},
		"milliseconds":        {answering(func(a *monitoring.StatusResponse) { a.ResponseTime = 3 }), "the response time", Advice, "not in milliseconds"},
		"not measured":        {answering(func(a *monitoring.StatusResponse) { a.ResponseTime = 0 }), "the response time", Advice, "measure how long"},
		"a time of day":       {answering(func(a *monitoring.StatusResponse) { a.ResponseTime = time.Now().UnixNano() }), "the response time", Failed, "not a time of day"},
		"negative":            {answering(func(a *monitoring.StatusResponse) { a.ResponseTime = -1 }), "the response time", Failed, "monotonic"},
		"longer than it took": {answering(func(a *monitoring.StatusResponse) { a.ResponseTime = int64(time.Hour) }), "the response time", Advice, "if it was asked in this call"},
		"names nobody":        {answering(func(a *monitoring.StatusResponse) { a.AgentId = "" }), "names in the answer", Advice, "repeat the request's names"},
		"too large": {answering(func(a *monitoring.StatusResponse) {
			a.Message = large
		}), "sizes of answers", Failed, "in chunks of 1 MiB"},
		"one at a time":       {oneAtATime(), "50 calls at once", Failed, "serve calls side by side"},
		"unknown type fails":  {failing(unknown, codes.Unknown), "an unknown type", Failed, "look at service_type"},
		"unknown type error":  {failing(unknown, codes.InvalidArgument), "an unknown type", Advice, "available=false"},
		"empty details fail":  {failing(noDetails, codes.Internal), "empty details", Failed, "check what is in details"},
		"empty details error": {failing(noDetails, codes.InvalidArgument), "empty details", Advice, "available=false"},

		"no is_final":     {chunked(list(0, 2, false, "[1]", "s"), list(1, 2, false, "[2]", "s")), "StreamResults", Failed, "set is_final in the last chunk"},
		"final too soon":  {chunked(list(0, 2, true, "[1]", "s"), list(1, 2, true, "[2]", "s")), "StreamResults", Failed, "in no other"},
		"no chunk":        {chunked(), "StreamResults", Failed, "also if there is only one"},
		"numbers from 1":  {chunked(list(1, 2, false, "[1]", "s"), list(2, 2, true, "[2]", "s")), "StreamResults", Failed, "number chunks from 0"},
		"total grows":     {chunked(list(0, 1, false, "[1]", "s"), list(1, 2, true, "[2]", "s")), "StreamResults", Failed, "the same total_chunks"},
		"text in a chunk": {chunked(list(0, 1, true, "hosts", "s")), "StreamResults", Failed, "a JSON list"},
		"two sequences":   {chunked(list(0, 2, false, "[1]", "s"), list(1, 2, true, "[2]", "t")), "StreamResults", Failed, "the same current_sequence"},
		"no sequence":     {chunked(list(0, 1, true, "[1]", "")), "StreamResults", Advice, "without it a poller asks for all"},
		"right chunks":    {chunked(list(0, 2, false, "[1]", "s"), list(1, 2, true, "[2]", "s")), "StreamResults", Passed, ""},

		"results broken":      {resulting(&monitoring.ResultsResponse{Available: true, HasNewData: true, Data: []byte("[1,]")}), "GetResults", Failed, "with a JSON library"},
		"results unavailable": {resulting(&monitoring.ResultsResponse{HasNewData: true, Data: []byte("[]")}), "GetResults", Failed, "set available=true"},
		"results not new":     {resulting(&monitoring.ResultsResponse{Available: true, Data: []byte("[]")}), "GetResults", Failed, "set has_new_data=true"},
		"always new":          {resulting(&monitoring.ResultsResponse{Available: true, HasNewData: true, Data: []byte("[]"), CurrentSequence: "s"}), "GetResults", Failed, "set has_new_data=false when"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, err := sim.NewChecker(test.behaviour).Start("127.0.0.1:0", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer server.Stop()
			timeout := 30 * time.Second
			if strings.HasPrefix(name, "hangs") {
				timeout = 200 * time.Millisecond
			}
			f := found(t, Target{Address: server.Addr(), Timeout: timeout})
			if got := f[test.test]; got.Outcome != test.outcome || !strings.Contains(got.Advice, test.advice) {
				t.Errorf("%+v; want %s with %q", got, test.outcome, test.advice)
			}
			if data, err := json.Marshal(f); err != nil || bytes.ContainsRune(data, '\x1b') {
				t.Errorf("%s, %v", data, err)
			}
			for other, got := range f {
				if got.Outcome == Failed && test.outcome != Failed && other != "an unknown type" {
					t.Errorf("%s failed too: %+v", other, got)
				}
				if strings.ContainsRune(got.Found, '\x1b') {
					t.Errorf("%s: %q can command a terminal", other, got.Found)
				}
			}
		})
	}
}

// TestChecksThatEnd: one that ends is found out, and what comes after says that it is gone.
func TestChecksThatEnd(t *testing.T) {
	t.Parallel()
	var server *sim.Server
	var stopped sync.WaitGroup
	started := make(chan struct{})
	server, err := sim.NewChecker(sim.Behaviour{Answer: func(ctx context.Context, r *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
		if noDetails(r) {
			<-started
			stopped.Go(server.Stop)
			<-ctx.Done()
		}
		return sound(r, asIs), nil
	}}).Start("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	close(started)
	f := found(t, Target{Address: server.Addr(), Timeout: 2 * time.Second})
	stopped.Wait()
	if got := f["empty details"]; got.Outcome != Failed || !strings.Contains(got.Advice, "the checker ended or cut the connection") {
		t.Errorf("%+v; want that it ended", got)
	}
	if got := f["details of 64 KiB"]; got.Outcome != Failed || !strings.Contains(got.Advice, "the checker is gone") {
		t.Errorf("%+v; want that it is gone", got)
	}
}

func TestNoConnection(t *testing.T) {
	t.Parallel()
	findings, err := Run(t.Context(), Target{Address: "127.0.0.1:1", Type: "good", Timeout: 300 * time.Millisecond})
	if f, ok := errors.AsType[*check.Failure](err); !ok || f.Reason != check.Unreachable || findings != nil {
		t.Errorf("nobody listens: %v, %v; want %s", findings, err, check.Unreachable)
	}
	_, err = Run(t.Context(), Target{
		Address: "127.0.0.1:1", Type: "good", Timeout: time.Second,
		TLS: check.TLS{Mode: check.TLSServer, CAFile: "missing.pem"},
	})
	if err == nil || !strings.Contains(err.Error(), "missing.pem") {
		t.Errorf("no authorities: %v; want the file named", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, Target{Address: "127.0.0.1:1", Type: "good", Timeout: time.Second}); err == nil {
		t.Error("no error though nobody waits for it")
	}
}
