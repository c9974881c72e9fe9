package conformance

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/wire"
	"github.com/serviceradar/poller/proto/monitoring"
)

// resultsRequest asks for results of the type that should have some, or of the good check's.
func (s *subject) resultsRequest(last string) *monitoring.ResultsRequest {
	return &monitoring.ResultsRequest{
		ServiceName: checkName, ServiceType: cmp.Or(s.Results, s.Type), Details: s.Details,
		AgentId: agentName, PollerId: pollerName, LastSequence: last,
	}
}

// absent judges a check that has no results by a method. Other is the method that has them perhaps.
func (s *subject) absent(err error, other bool) (Finding, bool) {
	switch code := status.Code(err); {
	case code == codes.Unimplemented && (s.Results == "" || other):
		return passed("Unimplemented: no results here"), true
	case code == codes.Unimplemented:
		return failed(fmt.Sprintf("Unimplemented, for type %q", s.Results),
			"implement StreamResults, or GetResults if all fits into a message, for the type given with --results"), true
	case code == codes.NotFound && s.Results == "":
		return passed("%s: no results here", saying(err)), true
	case err != nil:
		f := s.broken("results of "+cmp.Or(s.Results, s.Type), err)
		f.Advice = "answer with results, or with Unimplemented if a check has none: " + f.Advice
		return f, true
	}
	return Finding{}, false
}

func (s *subject) getResults(ctx context.Context, last string) (*monitoring.ResultsResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	r, err := s.agent.GetResults(ctx, s.resultsRequest(last), grpc.WaitForReady(true))
	if t := cmp.Or(s.Results, s.Type); t != check.TypeSweep && t != check.TypeSync { // these are asked for in chunks
		s.largest = max(s.largest, proto.Size(r))
	}
	return r, err
}

func getResults(ctx context.Context, s *subject) Finding {
	r, err := s.getResults(ctx, "")
	if f, done := s.absent(err, s.streams(ctx)); done {
		return f
	}
	sequence := r.GetCurrentSequence()
	switch {
	case !r.GetAvailable():
		return failed("available=false, "+quote(r.GetData()), "set available=true when there are results")
	case !json.Valid(r.GetData()):
		return failed("data is no JSON: "+quote(r.GetData()), "write data with a JSON library, as a list; [] if it is empty")
	case !r.GetHasNewData():
		return failed("has_new_data=false, though last_sequence was empty", "an empty last_sequence asks for all that there is: set has_new_data=true")
	case sequence == "":
		return advise("no current_sequence", "give a mark in current_sequence: without it a poller asks for all results each time")
	}
	again, err := s.getResults(ctx, sequence)
	switch {
	case err != nil:
		return s.broken(fmt.Sprintf("results since %q", sequence), err)
	case again.GetHasNewData() && again.GetCurrentSequence() == sequence:
		return failed(fmt.Sprintf("has_new_data=true since %q, and current_sequence is still that", sequence),
			"set has_new_data=false when last_sequence is the current one, or count current_sequence up")
	case len(again.GetData()) > 0 && !json.Valid(again.GetData()):
		return failed(fmt.Sprintf("data since %q is no JSON: %s", sequence, quote(again.GetData())), "with nothing new, let data be [] (of a sweep: {})")
	}
	return passed("%d bytes, sequence %q; since then has_new_data=%v", len(r.GetData()), sequence, again.GetHasNewData())
}

// streams tells whether the check has results in chunks.
func (s *subject) streams(ctx context.Context) bool {
	_, err := s.stream(ctx, s.resultsRequest(""))
	return err == nil
}

// stream returns all chunks, also those after the final one.
func (s *subject) stream(ctx context.Context, r *monitoring.ResultsRequest) ([]*monitoring.ResultsChunk, error) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	stream, err := s.agent.StreamResults(ctx, r, grpc.WaitForReady(true))
	if err != nil {
		return nil, err
	}
	var chunks []*monitoring.ResultsChunk
	total := 0
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return chunks, nil
		}
		if err != nil {
			return chunks, err
		}
		size := proto.Size(chunk)
		s.largest, total = max(s.largest, size), total+size
		if total > maxLook {
			return chunks, status.Errorf(codes.ResourceExhausted, "the chunks have more than %d bytes, and pollers keep no more", maxLook)
		}
		chunks = append(chunks, chunk)
	}
}

func streamResults(ctx context.Context, s *subject) Finding {
	chunks, err := s.stream(ctx, s.resultsRequest(""))
	_, unary := s.getResults(ctx, "")
	if f, done := s.absent(err, unary == nil); done {
		return f
	}
	answer, f := s.merge(chunks)
	if f.Outcome == Failed {
		return f
	}
	if answer.Sequence == "" {
		return advise("no current_sequence", "give a mark in current_sequence, the same in all chunks: without it a poller asks for all results each time")
	}
	again, err := s.stream(ctx, s.resultsRequest(answer.Sequence))
	if err != nil {
		return s.broken(fmt.Sprintf("results since %q", answer.Sequence), err)
	}
	if _, f := s.merge(again); f.Outcome == Failed {
		f.Found = fmt.Sprintf("since %q: %s", answer.Sequence, f.Found)
		return f
	}
	return passed("chunks: %d, merged %d bytes, sequence %q; chunks since then: %d", len(chunks), len(answer.Message), answer.Sequence, len(again))
}

// merge joins chunks as a poller does; what it returns failed if that can't be done.
func (s *subject) merge(chunks []*monitoring.ResultsChunk) (check.Answer, Finding) {
	finals, first := 0, ""
	for i, chunk := range chunks {
		if chunk.GetIsFinal() {
			finals++
		}
		if i == 0 {
			first = chunk.GetCurrentSequence()
		} else if sequence := chunk.GetCurrentSequence(); sequence != first {
			return check.Answer{}, failed(fmt.Sprintf("current_sequence is %q in chunk 0 and %q in chunk %d", first, sequence, i), "give all chunks of a stream the same current_sequence")
		}
	}
	if finals != 1 || !chunks[len(chunks)-1].GetIsFinal() {
		return check.Answer{}, failed(fmt.Sprintf("%d of %d chunks have is_final", finals, len(chunks)),
			"set is_final in the last chunk and in no other, also if there is only one: without it a poller takes the stream for cut off, and reports nothing of it")
	}
	merger := wire.NewMerger(&check.Check{Name: checkName, Type: cmp.Or(s.Results, s.Type), Method: check.StreamResults}, maxLook)
	for _, chunk := range chunks {
		if _, err := merger.Add(chunk); err != nil {
			return check.Answer{}, failed(err.Error(), "number chunks from 0 in chunk_index, give all the same total_chunks, "+
				"and let each be a JSON list, or an object with the list under hosts (for type sweep)")
		}
	}
	answer, err := merger.Answer()
	if err != nil {
		return check.Answer{}, failed(err.Error(), "end the stream with a chunk that has is_final")
	}
	return answer, Finding{}
}

func streamUnknown(ctx context.Context, s *subject) Finding {
	r := s.resultsRequest("")
	r.ServiceType = "conformance-no-such-type"
	chunks, err := s.stream(ctx, r)
	const instead = "end the stream with NotFound for what the checker does not know, or with Unimplemented if it has no results at all"
	var f Finding
	switch status.Code(err) {
	case codes.NotFound, codes.Unimplemented:
		f = passed("%v", status.Code(err))
	case codes.OK:
		f = advise(fmt.Sprintf("%d chunks and no error", len(chunks)), instead)
	default:
		f = s.broken("StreamResults", err)
		f.Advice = instead
		return f
	}
	if bad, ok := s.well(ctx, "it"); !ok {
		return bad
	}
	return f
}
