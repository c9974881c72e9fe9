package sdk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/status"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/transport"
	"github.com/serviceradar/poller/proto/monitoring"
)

// gathering is a check of a type whose results are what f returns.
type gathering struct {
	Check
	f func(context.Context, ResultsRequest) (Results, error)
}

func (g gathering) Results(ctx context.Context, r ResultsRequest) (Results, error) {
	return g.f(ctx, r)
}

func gathers(checkType string, f func(context.Context, ResultsRequest) (Results, error)) Check {
	return gathering{Func(checkType, block.Run), f}
}

// has is a check whose results are always the same.
func has(checkType string, r Results) Check {
	return gathers(checkType, func(context.Context, ResultsRequest) (Results, error) { return r, nil })
}

// fails is a check that has an error instead of results.
func fails(checkType string, err error) Check {
	return gathers(checkType, func(context.Context, ResultsRequest) (Results, error) { return Results{}, err })
}

func asking(checkType, last string) *monitoring.ResultsRequest {
	return &monitoring.ResultsRequest{
		ServiceName: "name", ServiceType: checkType, Details: "10.0.0.0/24", AgentId: "agent", PollerId: "poller", LastSequence: last,
	}
}

// get asks for results in one message and tells the answer, or the error's code and text.
func (c *checker) get(ctx context.Context, r *monitoring.ResultsRequest) string {
	a, err := c.agent.GetResults(ctx, r)
	if err != nil {
		return fmt.Sprintf("%s: %s", status.Code(err), status.Convert(err).Message())
	}
	return fmt.Sprintf("available=%v news=%v %q %s", a.GetAvailable(), a.GetHasNewData(), a.GetCurrentSequence(), a.GetData())
}

// chunks asks for results in chunks, and returns them and the error that ended them.
func (c *checker) chunks(ctx context.Context, r *monitoring.ResultsRequest) ([]*monitoring.ResultsChunk, error) {
	stream, err := c.agent.StreamResults(ctx, r)
	if err != nil {
		return nil, err
	}
	var all []*monitoring.ResultsChunk
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, chunk)
	}
}

// stream is get with chunks.
func (c *checker) stream(ctx context.Context, r *monitoring.ResultsRequest) string {
	all, err := c.chunks(ctx, r)
	if err != nil {
		return fmt.Sprintf("%s: %s", status.Code(err), status.Convert(err).Message())
	}
	var b strings.Builder
	for _, chunk := range all {
		_, _ = fmt.Fprintf(&b, "%d/%d final=%v %q %s", chunk.GetChunkIndex(), chunk.GetTotalChunks(), chunk.GetIsFinal(),
			chunk.GetCurrentSequence(), chunk.GetData())
	}
	return b.String()
}

func TestResults(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		checks := []Check{
			block,
			has("devices", Results{List: []int{1, 2}, Sequence: "7"}),
			has("none", Results{Sequence: "7"}),
			has("unmarked", Results{List: json.RawMessage(`[ "a" ]`)}),
			has("sweep", Results{List: []string{"h"}, Sweep: map[string]any{"network": "10.0.0.0/24"}, Sequence: "7"}),
			gathers("request", func(_ context.Context, r ResultsRequest) (Results, error) { return Results{List: []any{r}}, nil }),
			fails("error", errors.New(`no "route"`)),
			fails("long error", errors.New(strings.Repeat("\xff", 1<<20))),
			fails("missing", fmt.Errorf("lan: %w", ErrNoResults)),
			has("object", Results{List: map[string]int{}}),
			has("channel", Results{List: make(chan int)}),
			has("beside", Results{Sweep: struct{}{}}),
			has("long", Results{Sequence: strings.Repeat("x", maxSequence+1)}),
			gathers("panic", func(context.Context, ResultsRequest) (Results, error) { panic("boom \xff") }),
			has("panics late", Results{List: []json.Marshaler{panics{}}}),
		}
		c := serveChecks(t, checks)
		for _, test := range []struct{ checkType, last, get, stream string }{
			{"devices", "", `available=true news=true "7" [1,2]`, `0/1 final=true "7" [1,2]`},
			{"devices", "6", `available=true news=true "7" [1,2]`, `0/1 final=true "7" [1,2]`},
			{"devices", "7", `available=true news=false "7" []`, `0/1 final=true "7" []`},
			{"none", "", `available=true news=true "7" []`, `0/1 final=true "7" []`},
			{"unmarked", "", `available=true news=true "" ["a"]`, `0/1 final=true "" ["a"]`},
			{"sweep", "", `available=true news=true "7" {"network":"10.0.0.0/24","hosts":["h"]}`, `0/1 final=true "7" {"network":"10.0.0.0/24","hosts":["h"]}`},
			{"sweep", "7", `available=true news=false "7" {}`, `0/1 final=true "7" {}`},
			{
				"request", "6", `available=true news=true "" [{"Name":"name","Type":"request","Details":"10.0.0.0/24","AgentID":"agent","PollerID":"poller","LastSequence":"6"}]`,
				`0/1 final=true "" [{"Name":"name","Type":"request","Details":"10.0.0.0/24","AgentID":"agent","PollerID":"poller","LastSequence":"6"}]`,
			},
			{"error", "6", `available=false news=true "6" {"error":"no \"route\""}`, `Unknown: no "route"`},
			{"missing", "6", `NotFound: lan: there are no such results`, `NotFound: lan: there are no such results`},
			{
				"object", "", `available=false news=true "" {"error":"the list of the results is no JSON [], but comes of a map[string]int"}`,
				`Unknown: the list of the results is no JSON [], but comes of a map[string]int`,
			},
			{
				"channel", "", `available=false news=true "" {"error":"the list of the results can't be written as JSON: json: unsupported type: chan int"}`,
				`Unknown: the list of the results can't be written as JSON: json: unsupported type: chan int`,
			},
			{
				"beside", "", `available=false news=true "" {"error":"results of type \"beside\" have a Sweep: only those of type sweep may"}`,
				`Unknown: results of type "beside" have a Sweep: only those of type sweep may`,
			},
			{
				"long", "", `available=false news=true "" {"error":"the sequence of the results has 16385 bytes, above 16384: let it be a mark, not data"}`,
				`Unknown: the sequence of the results has 16385 bytes, above 16384: let it be a mark, not data`,
			},
			{"panic", "", `Internal: check type panic panicked: boom ?`, `Internal: check type panic panicked: boom ?`},
			{"panics late", "", `Internal: check type panics late panicked: late`, `Internal: check type panics late panicked: late`},
			{"block", "", `Unimplemented: checks of type "block" have no results: ask for their status`, `Unimplemented: checks of type "block" have no results: ask for their status`},
		} {
			if got := c.get(t.Context(), asking(test.checkType, test.last)); got != test.get {
				t.Errorf("GetResults of %s since %q: %s\nwant %s", test.checkType, test.last, got, test.get)
			}
			if got := c.stream(t.Context(), asking(test.checkType, test.last)); got != test.stream {
				t.Errorf("StreamResults of %s since %q: %s\nwant %s", test.checkType, test.last, got, test.stream)
			}
		}
		for _, got := range []string{c.get(t.Context(), asking("other", "")), c.stream(t.Context(), asking("other", ""))} {
			if !strings.HasPrefix(got, `NotFound: unknown check type "other"; this checker knows beside, `) {
				t.Errorf("unknown type: %s; want NotFound", got)
			}
		}
		if got := c.stream(t.Context(), asking("long error", "")); got != "Unknown: ? …" {
			t.Errorf("an error of 1 MiB that is no text: %.100s; want its beginning", got)
		}
		if got := c.stream(t.Context(), asking(strings.Repeat("x", 1<<20), "")); len(got) > 5<<10 {
			t.Errorf("an unknown type of 1 MiB: an error of %d bytes; want its beginning", len(got))
		}
		c.stop()
		if err := <-c.result; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if n := strings.Count(c.log.String(), `"a check panicked"`); n != 4 {
			t.Errorf("the log tells of %d panics; want 4", n)
		}
	})
}

// panics panics when it is written.
type panics struct{}

func (panics) MarshalJSON() ([]byte, error) { panic("late") }

func TestSweepsBesides(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct {
			beside any
			want   string
		}{
			{nil, `{"hosts":[1]}`},
			{struct{}{}, `{"hosts":[1]}`},
			{struct {
				Total int `json:"total_hosts"`
			}{3}, `{"total_hosts":3,"hosts":[1]}`},
			{map[string]any{"hosts": nil}, `{"error":"what stands beside the hosts of the sweep has the key hosts itself: the hosts go into List"}`},
			{[]int{}, `{"error":"what stands beside the hosts of the sweep is no JSON {}, but comes of a []int"}`},
		} {
			c := serveChecks(t, []Check{has("sweep", Results{List: []int{1}, Sweep: test.beside})})
			r, err := c.agent.GetResults(t.Context(), asking("sweep", ""))
			if err != nil || string(r.GetData()) != test.want {
				t.Errorf("%v: %s, %v; want %s", test.beside, r.GetData(), err, test.want)
			}
			c.stop()
			if err := <-c.result; err != nil {
				t.Errorf("Serve: %v", err)
			}
		}
	})
}

func TestResultsResponse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := serveChecks(t, []Check{gathers("slow", func(context.Context, ResultsRequest) (Results, error) {
			time.Sleep(time.Second)
			return Results{}, nil
		})})
		r, err := c.agent.GetResults(t.Context(), asking("slow", ""))
		if err != nil {
			t.Fatal(err)
		}
		if r.GetServiceName() != "name" || r.GetServiceType() != "slow" || r.GetAgentId() != "agent" || r.GetPollerId() != "poller" {
			t.Errorf("the answer does not say to what: %v", r)
		}
		if r.GetResponseTime() != time.Second.Nanoseconds() || r.GetTimestamp() != time.Now().Unix() {
			t.Errorf("response time %v, timestamp %d; want 1s, %d", time.Duration(r.GetResponseTime()), r.GetTimestamp(), time.Now().Unix())
		}
		all, err := c.chunks(t.Context(), asking("slow", ""))
		if err != nil || len(all) != 1 || all[0].GetTimestamp() != time.Now().Unix() {
			t.Errorf("chunks %v, %v; want one of now", all, err)
		}
	})
}

// TestResultsKeepToTheRules: deadlines, the limit and the stop hold for results as for status.
func TestResultsKeepToTheRules(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		waits := func(ctx context.Context, _ ResultsRequest) (Results, error) {
			<-ctx.Done()
			return Results{}, ctx.Err()
		}
		c := serveChecks(t, []Check{gathers("waits", waits), gathers("slow", func(context.Context, ResultsRequest) (Results, error) {
			time.Sleep(3 * time.Second)
			return Results{Sequence: "7"}, nil
		})}, MaxInFlight(1))
		within := func(d time.Duration, ask func(context.Context, *monitoring.ResultsRequest) string) (string, time.Duration) {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			began := time.Now()
			return ask(ctx, asking("waits", "")), time.Since(began)
		}
		if got, took := within(10*time.Second, c.get); !strings.HasPrefix(got, "available=false") || took != 9500*time.Millisecond {
			t.Errorf("GetResults: %s after %v; want a verdict after 9.5s", got, took)
		}
		if got, took := within(10*time.Second, c.stream); got != "Unknown: context deadline exceeded" || took != 9500*time.Millisecond {
			t.Errorf("StreamResults: %s after %v; want an error after 9.5s", got, took)
		}
		answers := make(chan string, 1)
		go func() { answers <- c.stream(t.Context(), asking("slow", "")) }()
		synctest.Wait()
		for name, ask := range map[string]func(context.Context, *monitoring.ResultsRequest) string{"GetResults": c.get, "StreamResults": c.stream} {
			if got, _ := within(time.Second, ask); !strings.HasPrefix(got, "ResourceExhausted: 1 checks were running") {
				t.Errorf("%s beside another: %s; want ResourceExhausted", name, got)
			}
		}
		c.stop()
		if err := <-c.result; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if got := <-answers; got != `0/1 final=true "7" []` {
			t.Errorf("results under way: %s; want them whole", got)
		}
	})
}

func TestCut(t *testing.T) {
	t.Parallel()
	list, err := json.Marshal([]any{1, `a "b\", [c] {`, []int{2, 3}, nil, map[string]any{"k, ": []any{"]", "\\"}}, "", strings.Repeat("x", 40), 4})
	if err != nil {
		t.Fatal(err)
	}
	elements := list[1 : len(list)-1]
	for size := range len(elements) + 1 {
		parts := cut(elements, size)
		if got := bytes.Join(parts, []byte(",")); !bytes.Equal(got, elements) {
			t.Fatalf("size %d: joined again %s; want %s", size, got, elements)
		}
		for i, part := range parts {
			var of []any
			if err := json.Unmarshal(fmt.Appendf(nil, "[%s]", part), &of); err != nil {
				t.Fatalf("size %d: %s: %v", size, part, err)
			}
			if len(part) > size && len(of) != 1 {
				t.Errorf("size %d: a part has %d bytes and %d elements: %s", size, len(part), len(of), part)
			}
			if i > 0 && len(parts[i-1])+1+len(part) <= size {
				t.Errorf("size %d: %s and %s fit into one", size, parts[i-1], part)
			}
		}
	}
	if parts := cut(nil, 10); len(parts) != 1 || len(parts[0]) != 0 {
		t.Errorf("of nothing: %q; want one part", parts)
	}
}

// TestWhoDoesNotReadKeepsNobody: a poller that asks for results and does not read them has no part in the limit of runs.
func TestWhoDoesNotReadKeepsNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := serveChecks(t, []Check{
			has("sync", Results{List: []string{strings.Repeat("a", 1<<20), strings.Repeat("b", 1<<20), strings.Repeat("c", 1<<20)}, Sequence: "7"}),
			Func("quick", func(context.Context, Request) (Answer, error) { return Answer{Available: true}, nil }),
		}, MaxInFlight(1))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if _, err := c.agent.StreamResults(ctx, asking("sync", "")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		asked, done := context.WithTimeout(t.Context(), 5*time.Second)
		defer done()
		if r, err := c.agent.GetStatus(asked, &monitoring.StatusRequest{ServiceType: "quick"}); err != nil || !r.GetAvailable() {
			t.Errorf("another check: %v, %v", r, err)
		}
	})
}

// TestPollerMergesResults has the poller's own client ask over a real connection, for more than fits
// into a message.
func TestPollerMergesResults(t *testing.T) {
	t.Parallel()
	type host struct {
		Address string `json:"address"`
		Note    string `json:"note"`
	}
	var hosts []host
	for i := range 5000 {
		hosts = append(hosts, host{fmt.Sprintf("10.0.%d.%d", i/256, i%256), strings.Repeat("[\"x,", 250)})
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- ServeListener(ctx, l, []Check{
			has("sync", Results{List: hosts, Sequence: "7"}),
			has("sweep", Results{List: hosts, Sweep: map[string]string{"network": "10.0.0.0/16"}, Sequence: "7"}),
		}, Logger(slog.New(slog.DiscardHandler)))
	}()
	client, err := transport.NewChecker(&check.Agent{Name: "a", Address: l.Addr().String()}, transport.CheckerConfig{PollerID: "p", MaxResults: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = client.Close()
		stop()
		if err := <-served; err != nil {
			t.Errorf("ServeListener: %v", err)
		}
	}()
	list, err := json.Marshal(hosts)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < 5<<20 {
		t.Fatalf("the list has %d bytes, which fit into one message", len(list))
	}
	for kind, want := range map[string]string{"sync": string(list), "sweep": fmt.Sprintf(`{"network":"10.0.0.0/16","hosts":%s}`, list)} {
		asked := &check.Check{Name: "lan", Type: kind, Method: check.StreamResults}
		answer, err := client.Results(ctx, asked, "")
		if err != nil || string(answer.Message) != want || answer.Sequence != "7" {
			t.Errorf("%s: %d bytes, sequence %q, %v; want %d bytes as they are, 7", kind, len(answer.Message), answer.Sequence, err, len(want))
		}
		nothing, err := client.Results(ctx, asked, "7")
		if err != nil || nothing.Nothing != (kind == "sweep") || nothing.Sequence != "7" || len(nothing.Message) > 2 {
			t.Errorf("%s again: %+v, %v; want nothing new", kind, nothing, err)
		}
	}
	_, err = client.Results(ctx, &check.Check{Name: "lan", Type: "other", Method: check.StreamResults}, "")
	if f, ok := errors.AsType[*check.Failure](err); !ok || f.Reason != check.NotFound {
		t.Errorf("an unknown type: %v; want %s", err, check.NotFound)
	}
	if _, err = client.Results(ctx, &check.Check{Name: "lan", Type: "sync", Method: check.GetResults}, ""); err == nil {
		t.Error("5 MB in one message were taken")
	}
}
