package transport

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/wire"
	"github.com/serviceradar/poller/proto/monitoring"
)

// Results asks a check for the results since a sequence, by the check's method, and returns them. In
// chunks they may come to MaxResults bytes.
func (c *Checker) Results(ctx context.Context, chk *check.Check, last string) (check.Answer, error) {
	call := c.newCall(chk.Method.String())
	request := &monitoring.ResultsRequest{
		ServiceName:  chk.Name,
		ServiceType:  chk.Type,
		AgentId:      c.agent.Name,
		PollerId:     c.pollerID,
		Details:      chk.Details,
		LastSequence: last,
	}
	if chk.Method == check.StreamResults {
		return c.streamResults(ctx, call, chk, request)
	}
	var r *monitoring.ResultsResponse
	err := insist(ctx, call.answered, func() (err error) {
		r, err = c.service.GetResults(inEvenSteps(ctx), request, call.options()...)
		return err
	})
	if err != nil {
		return check.Answer{}, c.resultsFailure(ctx, call, err)
	}
	answer := wire.Results(chk, r)
	answer.ResponseTime = time.Duration(r.GetResponseTime())
	return c.withSequence(answer)
}

// maxSequence bounds a sequence, in bytes: it is kept for each check, and goes back with each request.
const maxSequence = 16 << 10

// withSequence refuses an answer whose sequence is none that could be sent back.
func (c *Checker) withSequence(answer check.Answer) (check.Answer, error) {
	if n := len(answer.Sequence); n > maxSequence {
		return check.Answer{}, check.Failf(check.BadAnswer, nil,
			"%s answered with a current_sequence of %d bytes, above %d: nothing of it is reported; see the checker's log", c.agent.Address, n, maxSequence)
	}
	return answer, nil
}

func (c *Checker) streamResults(ctx context.Context, call *call, chk *check.Check, request *monitoring.ResultsRequest) (check.Answer, error) {
	ctx, cancel := context.WithCancel(ctx) // what comes after the last chunk is not waited for
	defer cancel()
	stream, chunk, err := c.openResults(ctx, call, request)
	merger := wire.NewMerger(chk, c.maxResults)
	for ; ; chunk, err = stream.Recv() {
		if errors.Is(err, io.EOF) {
			if !timeIsUp(ctx) {
				break
			}
			err = status.FromContextError(context.DeadlineExceeded).Err() // the checker gave up, and calls it an end
		}
		if err != nil {
			return check.Answer{}, c.resultsFailure(ctx, call, err)
		}
		last, err := merger.Add(chunk)
		if err != nil {
			return check.Answer{}, c.at(err)
		}
		if last {
			break
		}
	}
	answer, err := merger.Answer()
	if err != nil {
		return check.Answer{}, c.at(err)
	}
	return c.withSequence(answer)
}

// openResults asks for chunks and returns the stream, and what came of it first.
func (c *Checker) openResults(ctx context.Context, call *call, request *monitoring.ResultsRequest) (
	stream grpc.ServerStreamingClient[monitoring.ResultsChunk], first *monitoring.ResultsChunk, err error,
) {
	ended := false // by the checker, without a chunk
	err = insist(ctx, call.answered, func() (err error) {
		if stream, err = c.service.StreamResults(inEvenSteps(ctx), request, call.options()...); err != nil {
			return err
		}
		first, err = stream.Recv()
		if ended = errors.Is(err, io.EOF) && len(call.header)+len(call.trailer) > 0; ended {
			return nil
		}
		return err
	})
	if ended {
		err = io.EOF
	}
	return stream, first, err
}

// at adds the checker's address to a failure that does not know it.
func (c *Checker) at(err error) error {
	if f, ok := errors.AsType[*check.Failure](err); ok {
		return check.Failf(f.Reason, err, "%s: %s", c.agent.Address, f.Detail)
	}
	return err
}

// resultsFailure says why there are no results.
func (c *Checker) resultsFailure(ctx context.Context, call *call, err error) *check.Failure {
	if status.Code(err) == codes.NotFound {
		return check.Failf(check.NotFound, err, "%s has no such results: %s: is the check's name and type right, and is this configured at the checker?",
			c.agent.Address, words(err))
	}
	return c.failure(ctx, call, err)
}
