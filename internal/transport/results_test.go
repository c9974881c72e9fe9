package transport

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
	"github.com/serviceradar/poller/proto/monitoring"
)

// asking returns a check for results.
func asking(method check.Method, kind string) *check.Check {
	return &check.Check{Name: "lan", Type: kind, Details: "10.0.0.0/24", Method: method}
}

type send func(*monitoring.ResultsChunk) error

// streaming is a behaviour that answers StreamResults.
func streaming(answer func(ctx context.Context, send send) error) sim.Behaviour {
	return sim.Behaviour{Chunks: func(ctx context.Context, _ *monitoring.ResultsRequest, send func(*monitoring.ResultsChunk) error) error {
		return answer(ctx, send)
	}}
}

// sending is a behaviour that answers StreamResults with these chunks and nothing wrong, or with an
// error after them.
func sending(err error, chunks ...*monitoring.ResultsChunk) sim.Behaviour {
	return streaming(func(_ context.Context, send send) error {
		for _, chunk := range chunks {
			if err := send(chunk); err != nil {
				return err
			}
		}
		return err
	})
}

// chunked returns data as numbered chunks; the last is final.
func chunked(data ...string) []*monitoring.ResultsChunk {
	var chunks []*monitoring.ResultsChunk
	for i, d := range data {
		chunks = append(chunks, &monitoring.ResultsChunk{
			Data: []byte(d), ChunkIndex: int32(i), TotalChunks: int32(len(data)), IsFinal: i == len(data)-1,
			CurrentSequence: fmt.Sprintf("s%d", i), Timestamp: 1000,
		})
	}
	return chunks
}

// both are the methods by which results are asked for.
var both = []check.Method{check.GetResults, check.StreamResults}

// wantNoResults wants a failure and with it nothing of an answer.
func wantNoResults(t *testing.T, answer check.Answer, err error, reason check.Reason, words ...string) {
	t.Helper()
	wantFailure(t, "Results", err, reason, words...)
	if diff := cmp.Diff(check.Answer{}, answer); diff != "" {
		t.Errorf("a part of an answer comes with the failure (-want +got):\n%s", diff)
	}
}

func TestResultsRequest(t *testing.T) {
	t.Parallel()
	for _, method := range both {
		asked := make(chan *monitoring.ResultsRequest, 1)
		server := startChecker(t, sim.NewChecker(sim.Behaviour{
			Results: func(_ context.Context, r *monitoring.ResultsRequest) (*monitoring.ResultsResponse, error) {
				asked <- proto.CloneOf(r)
				return new(monitoring.ResultsResponse), nil
			},
			Chunks: func(_ context.Context, r *monitoring.ResultsRequest, send func(*monitoring.ResultsChunk) error) error {
				asked <- proto.CloneOf(r)
				return send(chunked("[]")[0])
			},
		}), nil)
		c := newClient(t, server.Addr(), check.TLS{})
		for _, last := range []string{"", "s-41"} {
			if _, err := c.Results(within(t, long), asking(method, "sync"), last); err != nil {
				t.Fatalf("%v: %v", method, err)
			}
			if diff := cmp.Diff(&monitoring.ResultsRequest{
				ServiceName: "lan", ServiceType: "sync", AgentId: "a", PollerId: "p", Details: "10.0.0.0/24", LastSequence: last,
			}, <-asked, protocmp.Transform()); diff != "" {
				t.Errorf("%v: request (-want +got):\n%s", method, diff)
			}
		}
	}
}

func TestGetResults(t *testing.T) {
	t.Parallel()
	const data = "[ {\"n\": 1.50}\xff ]"
	for _, tt := range []struct {
		name, kind string
		response   *monitoring.ResultsResponse
		want       check.Answer
	}{
		{
			"available", "snmp",
			&monitoring.ResultsResponse{
				Available: true, Data: []byte(data), ResponseTime: 95382, CurrentSequence: "s-42", HasNewData: true,
				ServiceName: "another", ServiceType: "sweep", AgentId: "somebody else", // what it calls itself is nothing to us
			},
			check.Answer{Available: true, Message: []byte(data), ResponseTime: 95382, Sequence: "s-42"},
		},
		{
			"unavailable", "snmp",
			&monitoring.ResultsResponse{Data: []byte("{}"), CurrentSequence: "s-43", HasNewData: true},
			check.Answer{Message: []byte("{}"), Sequence: "s-43"},
		},
		{"empty", "snmp", new(monitoring.ResultsResponse), check.Answer{}},
		{
			"a sweep with nothing new", "sweep", &monitoring.ResultsResponse{Available: true, CurrentSequence: "s-42"},
			check.Answer{Available: true, Sequence: "s-42", Nothing: true},
		},
		{
			"a sweep", "sweep", &monitoring.ResultsResponse{Available: true, HasNewData: true},
			check.Answer{Available: true},
		},
		{
			"a sync with nothing new", "sync", &monitoring.ResultsResponse{Available: true, Data: []byte("[]")},
			check.Answer{Available: true, Message: []byte("[]")},
		},
		{
			"another with nothing new", "snmp", &monitoring.ResultsResponse{Available: true, Data: []byte("[]")},
			check.Answer{Available: true, Message: []byte("[]")},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := startChecker(t, sim.NewChecker(sim.Behaviour{
				Results: func(context.Context, *monitoring.ResultsRequest) (*monitoring.ResultsResponse, error) {
					return tt.response, nil
				},
			}), nil)
			answer, err := newClient(t, server.Addr(), check.TLS{}).Results(within(t, long), asking(check.GetResults, tt.kind), "s-41")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, answer); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
		})
	}
}

func TestStreamResults(t *testing.T) {
	t.Parallel()
	unnumbered := []*monitoring.ResultsChunk{{Data: []byte("[1]"), CurrentSequence: "s0"}, {Data: []byte("[2]")}, {IsFinal: true}}
	for _, tt := range []struct {
		name, kind string
		chunks     []*monitoring.ResultsChunk
		want       check.Answer
	}{
		{"one chunk", "sync", chunked(`[{"n": 1.50}]`), check.Answer{Message: []byte(`[{"n": 1.50}]`), Sequence: "s0"}},
		{"lists", "sync", chunked(`[1, 2]`, `[]`, `[3]`), check.Answer{Message: []byte(`[1, 2,3]`), Sequence: "s2"}},
		{
			"objects", "sync", chunked(`{"devices":[{"ip":"a"}],"n":1}`, `[{"ip":"b"}]`, `{"n":2,"data":[{"ip":"c"}]}`),
			check.Answer{Message: []byte(`[{"ip":"a"},{"ip":"b"},{"ip":"c"}]`), Sequence: "s2"},
		},
		{
			"a sweep", "sweep", chunked(`{"network":"10.0.0.0/24","hosts":[{"host":"a"}],"total":2}`, `{"hosts":[{"host":"b"}],"total":3}`),
			check.Answer{Message: []byte(`{"network":"10.0.0.0/24","hosts":[{"host":"a"},{"host":"b"}],"total":2}`), Sequence: "s1"},
		},
		{"a sweep of lists", "sweep", chunked(`[1]`, `[2]`), check.Answer{Message: []byte(`{"hosts":[1,2]}`), Sequence: "s1"}},
		{"without numbers", "sync", unnumbered, check.Answer{Message: []byte(`[1,2]`), Sequence: "s0"}},
		{"nothing", "sync", chunked(""), check.Answer{Message: []byte("[]"), Sequence: "s0"}},
		{"a sweep with nothing new", "sweep", chunked(""), check.Answer{Sequence: "s0", Nothing: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := startChecker(t, sim.NewChecker(sending(nil, tt.chunks...)), nil)
			answer, err := newClient(t, server.Addr(), check.TLS{}).Results(within(t, long), asking(check.StreamResults, tt.kind), "")
			if err != nil {
				t.Fatal(err)
			}
			tt.want.Available = true
			if diff := cmp.Diff(tt.want, answer); diff != "" {
				t.Errorf("answer (-want +got):\n%s\nmessage: %s", diff, answer.Message)
			}
		})
	}
}

// TestNoResults has the ways to get none from a checker that is there. Whatever came before the
// failure is not reported.
func TestNoResults(t *testing.T) {
	t.Parallel()
	failing := func(code codes.Code, text string) sim.Behaviour {
		b := sending(status.Error(code, text))
		b.Results = func(context.Context, *monitoring.ResultsRequest) (*monitoring.ResultsResponse, error) {
			return nil, status.Error(code, text)
		}
		return b
	}
	stopping := func(code codes.Code, text string) sim.Behaviour {
		return sending(status.Error(code, text), chunked("[1]", "[2]", "[3]")[:2]...)
	}
	stream := []check.Method{check.StreamResults}
	for _, tt := range []struct {
		name    string
		behave  sim.Behaviour
		methods []check.Method
		reason  check.Reason
		words   []string
	}{
		{"has none", sim.OK(), both, check.Unimplemented, []string{"does not know"}},
		{"has no such", failing(codes.NotFound, "no sweep configured"), both, check.NotFound, []string{"no sweep configured", "name and type", "configured at the checker?"}},
		{"does not let us", failing(codes.PermissionDenied, "not you"), both, check.Unauthenticated, []string{"not you", "rights"}},
		{"fails", failing(codes.Internal, "nil map"), both, check.BadAnswer, []string{"Internal", "nil map", "log"}},
		{"says that something of its own is not there", failing(codes.Unavailable, "no database"), both, check.BadAnswer, []string{"Unavailable", "no database"}},
		{"ends without a last chunk", sending(nil, chunked("[1]", "[2]", "[3]")[:2]...), stream, check.BadAnswer, []string{"after 2 chunks", "none of which was said to be the last", "log"}},
		{"ends without any chunk", sending(nil), stream, check.BadAnswer, []string{"after 0 chunks", "none of which was said to be the last"}},
		{"leaves a chunk out", sending(nil, chunked("[1]", "[2]", "[3]")[1:]...), stream, check.BadAnswer, []string{"chunk 1 of the results came where chunk 0 was due"}},
		{"sends no JSON", sending(nil, chunked("[1]", "text")...), stream, check.BadAnswer, []string{"chunk 1 of the results", "JSON"}},
		{"sends no list", sending(nil, chunked(`{"n":1}`)...), stream, check.BadAnswer, []string{"chunk 0 of the results", "no list", "hosts", "n"}},
		{"fails in midst", stopping(codes.Internal, "nil map"), stream, check.BadAnswer, []string{"Internal", "nil map", "log"}},
		{"loses its database in midst", stopping(codes.Unavailable, "no database"), stream, check.BadAnswer, []string{"Unavailable", "no database", "log"}},
		{"says in midst that it was cancelled", stopping(codes.Canceled, "no time"), stream, check.BadAnswer, []string{"Canceled", "no time"}},
		{"says in midst that its own deadline passed", stopping(codes.DeadlineExceeded, "slow database"), stream, check.BadAnswer, []string{"DeadlineExceeded", "slow database"}},
		{"finds in midst that there is none", stopping(codes.NotFound, "sweep was deleted"), stream, check.NotFound, []string{"sweep was deleted"}},
	} {
		for _, method := range tt.methods {
			t.Run(tt.name+", "+method.String(), func(t *testing.T) {
				t.Parallel()
				server := startChecker(t, sim.NewChecker(tt.behave), nil)
				c := newClient(t, server.Addr(), check.TLS{})
				answer, err := c.Results(within(t, long), asking(method, "sync"), "")
				wantNoResults(t, answer, err, tt.reason, append(tt.words, server.Addr())...)
				if tt.reason == check.Unimplemented || tt.reason == check.Unauthenticated {
					wantFailure(t, "Results", err, tt.reason, method.String())
				}
				if answer, err := c.Ask(within(t, long), ssh); err != nil || !answer.Available {
					t.Errorf("Ask, thereafter: %+v, %v", answer, err)
				}
				if n := c.Connections(); n != 1 {
					t.Errorf("%d connections, want 1: it is kept", n)
				}
			})
		}
	}
}

// TestResultsWithoutConnection: results have the words of any other call for it.
func TestResultsWithoutConnection(t *testing.T) {
	t.Parallel()
	me := tlsidtest.NewCA(t).Issue(t, "poller")
	plain := startChecker(t, sim.NewChecker(sim.OK()), nil).Addr()
	for _, method := range both {
		answer, err := newClient(t, nobody, check.TLS{}).Results(within(t, long), asking(method, "sync"), "")
		wantNoResults(t, answer, err, check.Unreachable, nobody, "refused", "is the checker running there?")
		answer, err = newClient(t, plain, me).Results(within(t, long), asking(method, "sync"), "")
		wantNoResults(t, answer, err, check.TLSFailed, plain, "tls.mode")
	}
}

// hanging is a behaviour that sends two of three chunks and then nothing more. It tells when it has,
// and when its context has ended.
func hanging() (behave sim.Behaviour, sent, ended <-chan struct{}) {
	s, e := make(chan struct{}, 1), make(chan struct{}, 1)
	return streaming(func(ctx context.Context, send send) error {
		defer func() { e <- struct{}{} }()
		for _, chunk := range chunked("[1]", "[2]", "[3]")[:2] {
			if err := send(chunk); err != nil {
				return err
			}
		}
		s <- struct{}{}
		<-ctx.Done()
		return nil
	}), s, e
}

// TestResultsEnd: in the midst of a stream, too, a call ends with its context, its client and its
// connection, and so does the checker's.
func TestResultsEnd(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		end    func(cancel context.CancelFunc, c *Checker, server *sim.Server)
		reason check.Reason
		words  string
	}{
		{"with their context", func(cancel context.CancelFunc, _ *Checker, _ *sim.Server) { cancel() }, check.NoAnswer, "given up"},
		{"with Close", func(_ context.CancelFunc, c *Checker, _ *sim.Server) { _ = c.Close() }, check.NoAnswer, "given up"},
		{"with the connection", func(_ context.CancelFunc, _ *Checker, s *sim.Server) { s.Stop() }, check.Unreachable, "lost"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			behave, sent, ended := hanging()
			server := startCheckerAt(t, sim.NewChecker(behave), ownHost()+":0", nil)
			c := newClient(t, server.Addr(), check.TLS{})
			ctx, cancel := context.WithCancel(within(t, long))
			defer cancel()
			go func() {
				<-sent
				// Once this is answered, what was sent before has come, too.
				if _, err := c.Ask(within(t, long), ssh); err != nil {
					t.Errorf("Ask: %v", err)
				}
				tt.end(cancel, c, server)
			}()
			answer, err := c.Results(ctx, asking(check.StreamResults, "sync"), "")
			wantNoResults(t, answer, err, tt.reason, server.Addr(), tt.words)
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				t.Error("it ended only with the deadline")
			}
			<-ended
		})
	}
}

// inMemory serves a checker in a synctest bubble and returns its client, connected.
func inMemory(t *testing.T, behave sim.Behaviour) *Checker {
	t.Helper()
	const address = "127.2.0.1:50051"
	var network sim.Net
	l, err := network.Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.NewChecker(behave).Serve(l, nil).Stop)
	c := clientOf(t, &check.Agent{Name: "a", Address: address}, network.Dial)
	connect(t, c)
	return c
}

// TestResultsHang: the deadline is kept to the moment.
func TestResultsHang(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		method check.Method
		behave func() sim.Behaviour // made in the bubble, whose its channels must be
	}{
		"with GetResults": {check.GetResults, func() sim.Behaviour {
			return sim.Behaviour{Results: func(ctx context.Context, _ *monitoring.ResultsRequest) (*monitoring.ResultsResponse, error) {
				<-ctx.Done()
				time.Sleep(time.Millisecond) // or this answer may be there before the caller's own deadline
				return new(monitoring.ResultsResponse), nil
			}}
		}},
		"before the first chunk": {check.StreamResults, func() sim.Behaviour {
			return streaming(func(ctx context.Context, _ send) error {
				<-ctx.Done()
				time.Sleep(time.Millisecond) // or this answer may be there before the caller's own deadline
				return nil
			})
		}},
		"in midst": {check.StreamResults, func() sim.Behaviour {
			behave, _, _ := hanging()
			return behave
		}},
		"and never end": {check.StreamResults, func() sim.Behaviour {
			return streaming(func(ctx context.Context, send send) error {
				for ctx.Err() == nil {
					if err := send(&monitoring.ResultsChunk{Data: []byte("[1]")}); err != nil {
						return err
					}
					time.Sleep(300 * time.Millisecond)
				}
				return nil
			})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := inMemory(t, tt.behave())
				began := time.Now()
				answer, err := c.Results(within(t, 2*time.Second), asking(tt.method, "sync"), "")
				wantNoResults(t, answer, err, check.Timeout, c.agent.Address, "connected to", tt.method.String(), "within 2s")
				if took := time.Since(began); took != 2*time.Second {
					t.Errorf("it took %v, want 2s", took)
				}
			})
		})
	}
}

// TestResultsGivenUp: a checker that keeps our deadline may end a stream a moment before it. It is out
// of time all the same.
func TestResultsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := inMemory(t, streaming(func(_ context.Context, send send) error {
			time.Sleep(2*time.Second - deadlineSlack/2)
			return send(chunked("[1]", "[2]")[0])
		}))
		answer, err := c.Results(within(t, 2*time.Second), asking(check.StreamResults, "sync"), "")
		wantNoResults(t, answer, err, check.Timeout, c.agent.Address, "connected to", "busy or hung")
	})
}
