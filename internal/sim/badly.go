package sim

import (
	"bytes"
	"context"
	"time"

	"google.golang.org/grpc/status"

	"github.com/serviceradar/poller/proto/monitoring"
)

// badly returns the base behaviour with a fault of calls.
func badly(base Behaviour, f Fault) Behaviour {
	switch f.Kind {
	case KindHang, KindHangAll:
		b := before(base, hang)
		if f.Kind == KindHangAll {
			b.Health = hang
		}
		return b
	case KindSlow:
		return before(base, func(ctx context.Context) error { return wait(ctx, f.For) })
	case KindError:
		return before(base, func(context.Context) error { return status.Error(f.Code, "simulated fault of the checker") })
	case KindHuge:
		fill := bytes.Repeat([]byte("x"), f.Size)
		return changed(base, func([]byte) []byte { return append(append([]byte(`{"data":"`), fill...), `"}`...) })
	case KindBadJSON:
		return changed(base, func(message []byte) []byte { return message[:len(message)/2] })
	case KindEarly:
		return early(base)
	case KindFine, KindDown, KindFrozen, KindSilent, KindGarbage, KindHTTP1, KindReset, KindGoAway, KindNotReceived:
	}
	return base
}

// before has something happen before each answer, or instead of it if that fails.
func before(base Behaviour, first func(context.Context) error) Behaviour {
	b := Behaviour{Health: base.Health}
	b.Answer = func(ctx context.Context, r *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
		if err := first(ctx); err != nil {
			return nil, err
		}
		return base.answer(ctx, r)
	}
	if base.Results != nil {
		b.Results = func(ctx context.Context, r *monitoring.ResultsRequest) (*monitoring.ResultsResponse, error) {
			if err := first(ctx); err != nil {
				return nil, err
			}
			return base.Results(ctx, r)
		}
	}
	if base.Chunks != nil {
		b.Chunks = func(ctx context.Context, r *monitoring.ResultsRequest, send func(*monitoring.ResultsChunk) error) error {
			if err := first(ctx); err != nil {
				return err
			}
			return base.Chunks(ctx, r, send)
		}
	}
	return b
}

// changed has messages and data changed on their way.
func changed(base Behaviour, change func([]byte) []byte) Behaviour {
	b := Behaviour{Health: base.Health}
	b.Answer = func(ctx context.Context, r *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
		answer, err := base.answer(ctx, r)
		if err == nil {
			answer.Message = change(answer.GetMessage())
		}
		return answer, err
	}
	if base.Results != nil {
		b.Results = func(ctx context.Context, r *monitoring.ResultsRequest) (*monitoring.ResultsResponse, error) {
			answer, err := base.Results(ctx, r)
			if err == nil {
				answer.Data = change(answer.GetData())
			}
			return answer, err
		}
	}
	if base.Chunks != nil {
		b.Chunks = func(ctx context.Context, r *monitoring.ResultsRequest, send func(*monitoring.ResultsChunk) error) error {
			return base.Chunks(ctx, r, func(chunk *monitoring.ResultsChunk) error {
				chunk.Data = change(chunk.GetData())
				return send(chunk)
			})
		}
	}
	return b
}

// early has streams end, as if all were well, before their last chunk.
func early(base Behaviour) Behaviour {
	b := base
	if base.Chunks != nil {
		b.Chunks = func(ctx context.Context, r *monitoring.ResultsRequest, send func(*monitoring.ResultsChunk) error) error {
			return base.Chunks(ctx, r, func(chunk *monitoring.ResultsChunk) error {
				if chunk.GetIsFinal() {
					return nil
				}
				return send(chunk)
			})
		}
	}
	return b
}

// Listing has results besides answers like OK's: an object with a list of hosts, in chunks for who
// wants them, with pause before each but the first.
func Listing(chunks int, pause time.Duration) Behaviour {
	hosts := []byte(`{"network":"10.0.0.0/24","hosts":[{"host":"10.0.0.1"}]}`)
	return Behaviour{
		Results: func(context.Context, *monitoring.ResultsRequest) (*monitoring.ResultsResponse, error) {
			return &monitoring.ResultsResponse{Available: true, Data: hosts, HasNewData: true, CurrentSequence: "1"}, nil
		},
		Chunks: func(ctx context.Context, _ *monitoring.ResultsRequest, send func(*monitoring.ResultsChunk) error) error {
			for i := range chunks {
				if i > 0 {
					if err := wait(ctx, pause); err != nil {
						return err
					}
				}
				err := send(&monitoring.ResultsChunk{
					Data: hosts, ChunkIndex: int32(i), TotalChunks: int32(chunks), IsFinal: i == chunks-1, CurrentSequence: "1", //nolint:gosec // few.
				})
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
}
