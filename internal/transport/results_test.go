package transport

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/sim"
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

// wantNoResults wants a failure and with it nothing of an answer.
func wantNoResults(t *testing.T, answer check.Answer, err error, reason check.Reason, words ...string) {
	t.Helper()
	wantFailure(t, "Results", err, reason, words...)
	if diff := cmp.Diff(check.Answer{}, answer); diff != "" {
		t.Errorf("a part of an answer comes with the failure (-want +got):\n%s", diff)
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
