package transport

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/proto/monitoring"
)

// TestAfterTheLastChunk: what comes then, or does not come, is not waited for, and the checker learns
// that nobody listens.
func TestAfterTheLastChunk(t *testing.T) {
	t.Parallel()
	for name, then := range map[string]func(ctx context.Context, send send) error{
		"silence": func(ctx context.Context, _ send) error {
			<-ctx.Done()
			return ctx.Err()
		},
		"more": func(_ context.Context, send send) error {
			for {
				if err := send(&monitoring.ResultsChunk{Data: bytes.Repeat([]byte(" "), 1<<10)}); err != nil {
					return err
				}
			}
		},
		"an error": func(context.Context, send) error { return status.Error(codes.Internal, "can't close the file") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ended := make(chan error, 1)
				c := inMemory(t, streaming(func(ctx context.Context, send send) error {
					for _, chunk := range chunked("[1]", "[2]") {
						if err := send(chunk); err != nil {
							return err
						}
					}
					err := then(ctx, send)
					ended <- err
					return err
				}))
				began := time.Now()
				answer, err := c.Results(within(t, long), asking(check.StreamResults, "sync"), "")
				if err != nil || string(answer.Message) != "[1,2]" {
					t.Errorf("Results: %q, %v", answer.Message, err)
				}
				if err := <-ended; err == nil {
					t.Error("the checker may go on")
				}
				if took := time.Since(began); took != 0 {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

func TestResultsTooLarge(t *testing.T) {
	t.Parallel()
	list := func(n int) string { return "[" + strings.Repeat(" ", n) + "1]" }
	objects := `["` + strings.Repeat("x", 30<<10) + `"]`
	behave := func(data ...string) sim.Behaviour {
		b := sending(nil, chunked(data...)...)
		b.Results = func(context.Context, *monitoring.ResultsRequest) (*monitoring.ResultsResponse, error) {
			return &monitoring.ResultsResponse{Data: []byte(data[0])}, nil
		}
		return b
	}
	stream := []check.Method{check.StreamResults}
	for _, tt := range []struct {
		name       string
		behave     sim.Behaviour
		methods    []check.Method
		maxMessage int64
		maxResults int
		words      []string // of the failure; none if there is none
	}{
		{"above the usual limit", behave(list(5 << 20)), both, 0, 64 << 20, []string{"larger than max", "max_message"}},
		{"within a limit of its own", behave(list(5 << 20)), both, 8 << 20, 64 << 20, nil},
		{"above a limit of its own", behave(list(100 << 10)), both, 64 << 10, 64 << 20, []string{"larger than max", "max_message", "65536"}},
		{"the second chunk", behave("[1]", list(100<<10)), stream, 64 << 10, 64 << 20, []string{"larger than max", "max_message"}},
		{"all together", behave(objects, objects, objects, objects), stream, 64 << 10, 100 << 10, []string{"more than 102400 bytes", "answer less"}},
		{"all together, which may be", behave(objects, objects, objects, objects), stream, 64 << 10, 200 << 10, nil},
	} {
		for _, method := range tt.methods {
			t.Run(tt.name+", "+method.String(), func(t *testing.T) {
				t.Parallel()
				server := startChecker(t, sim.NewChecker(tt.behave), nil)
				c, err := NewChecker(&check.Agent{Name: "a", Address: server.Addr(), MaxMessage: tt.maxMessage},
					CheckerConfig{PollerID: "p", MaxResults: tt.maxResults})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = c.Close() })
				answer, err := c.Results(within(t, long), asking(method, "sync"), "")
				if tt.words != nil {
					wantNoResults(t, answer, err, check.TooLarge, append(tt.words, server.Addr())...)
				} else if err != nil || len(answer.Message) == 0 {
					t.Errorf("Results: %d bytes, %v", len(answer.Message), err)
				}
			})
		}
	}
}

// TestMaxMessage is the same for GetStatus.
func TestMaxMessage(t *testing.T) {
	t.Parallel()
	const size = 5 << 20
	server := startChecker(t, sim.NewChecker(sim.Huge(size)), nil)
	for limit, reason := range map[int64]check.Reason{0: check.TooLarge, 4 << 20: check.TooLarge, size: check.TooLarge, 8 << 20: ""} {
		c := clientOf(t, &check.Agent{Name: "a", Address: server.Addr(), MaxMessage: limit}, nil)
		answer, err := c.Ask(within(t, long), ssh)
		switch {
		case reason != "":
			wantFailure(t, fmt.Sprintf("limit %d", limit), err, reason, server.Addr(), "larger than max", "max_message")
		case err != nil || len(answer.Message) != size:
			t.Errorf("limit %d: %d bytes, %v", limit, len(answer.Message), err)
		}
	}
}

// TestLongSequence: a sequence that no request could carry back is none.
func TestLongSequence(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxSequence+1)
	server := startChecker(t, sim.NewChecker(sim.Behaviour{
		Results: func(context.Context, *monitoring.ResultsRequest) (*monitoring.ResultsResponse, error) {
			return &monitoring.ResultsResponse{Available: true, CurrentSequence: long}, nil
		},
		Chunks: func(_ context.Context, _ *monitoring.ResultsRequest, send func(*monitoring.ResultsChunk) error) error {
			return send(&monitoring.ResultsChunk{IsFinal: true, CurrentSequence: long})
		},
	}), nil)
	for _, method := range []check.Method{check.GetResults, check.StreamResults} {
		_, err := newClient(t, server.Addr(), check.TLS{}).Results(within(t, 20*time.Second), &check.Check{Name: "x", Type: "x", Method: method}, "")
		wantFailure(t, method.String(), err, check.BadAnswer, server.Addr(), "current_sequence of 16385 bytes")
	}
}
