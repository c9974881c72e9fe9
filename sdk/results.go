package sdk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/serviceradar/poller/proto/monitoring"
)

// Gatherer is implemented by a Check that has results besides its status: a long list of what it has
// found, such as hosts or devices. Pollers ask for them where results_interval is configured.
//
// Served are both methods of the contract. GetResults sends the list in one message, and pollers take
// none above their max_message, by default 4 MiB. StreamResults, which pollers use for the types sweep
// and sync, cuts it into chunks of about 1 MiB, all of which may come to 64 MiB; an element of the list
// is never cut. To a Check that is no Gatherer the answer is Unimplemented, to an unknown type NotFound.
type Gatherer interface {
	// Results returns what there is beyond the poller's sequence, or all that there is: the poller
	// passes it on as it is. It should end when ctx does; it is called from many goroutines at once.
	//
	// An error that wraps ErrNoResults is answered with the code NotFound. Any other is answered to
	// GetResults as available=false, with its text, and to StreamResults, which has no such flag, with
	// the code Unknown; the poller stays at its sequence.
	Results(ctx context.Context, req ResultsRequest) (Results, error)
}

// ErrNoResults says that nothing is configured of which there could be results: pollers report
// not_found.
var ErrNoResults = errors.New("there are no such results")

// ResultsRequest is what a poller asks. Its fields are those of Request but for LastSequence.
type ResultsRequest struct {
	Name, Type, Details, AgentID, PollerID string
	// LastSequence is the Sequence of the last results that the poller has safe; empty for all that
	// there are.
	LastSequence string
}

// Results is what a check has found.
type Results struct {
	// List is what json.Marshal makes a list of: a slice, or a json.RawMessage with a list in it. nil is
	// an empty one.
	List any
	// Sweep is what stands beside the list in results of type sweep, where the list is called hosts: a
	// struct or a map that json.Marshal makes an object of, without the key hosts, and far below 1 MiB.
	// It must be nil in results of any other type.
	Sweep any
	// Sequence marks how far these results go, in at most 16 KiB; pollers send it back with the next
	// request and don't look into it. If it is the LastSequence of the request, and not empty, there is
	// nothing new, and List and Sweep are not looked at.
	Sequence string
}

const (
	// chunkSize is the most that a chunk has of the list, in bytes, unless a single element is larger. It
	// is a quarter of what pollers take.
	chunkSize = 1 << 20
	// maxSequence is the longest sequence that pollers take, in bytes.
	maxSequence = 16 << 10
	// typeSweep is the type whose results are an object.
	typeSweep = "sweep"
)

// GetResults answers with a check's results in one message.
func (a *agent) GetResults(ctx context.Context, r *monitoring.ResultsRequest) (*monitoring.ResultsResponse, error) {
	gatherer, err := a.gatherer(r)
	if err != nil {
		return nil, err
	}
	response := &monitoring.ResultsResponse{
		ServiceName: r.GetServiceName(), ServiceType: r.GetServiceType(), AgentId: r.GetAgentId(), PollerId: r.GetPollerId(),
	}
	var refused error
	err = a.run(ctx, callerOf(r), func(ctx context.Context) {
		began := time.Now()
		found, err := gather(ctx, gatherer, r)
		response.ResponseTime = time.Since(began).Nanoseconds()
		response.Timestamp = time.Now().Unix()
		switch {
		case errors.Is(err, ErrNoResults):
			refused = failure(codes.NotFound, err.Error())
		case err != nil:
			// New, or it would not be reported; and asked for again from where the poller is.
			response.HasNewData, response.Data, response.CurrentSequence = true, errorMessage(err.Error()), r.GetLastSequence()
		default:
			response.Available, response.HasNewData, response.CurrentSequence = true, found.news, found.sequence
			response.Data = found.around(found.list, true)
		}
	})
	if err != nil {
		return nil, err
	}
	if refused != nil {
		return nil, refused
	}
	return response, nil
}

// StreamResults answers with a check's results in chunks.
func (a *agent) StreamResults(r *monitoring.ResultsRequest, stream grpc.ServerStreamingServer[monitoring.ResultsChunk]) error {
	gatherer, err := a.gatherer(r)
	if err != nil {
		return err
	}
	var got *found
	var refused error
	err = a.run(stream.Context(), callerOf(r), func(ctx context.Context) {
		f, err := gather(ctx, gatherer, r)
		switch {
		case errors.Is(err, ErrNoResults):
			refused = failure(codes.NotFound, err.Error())
		case err != nil:
			refused = failure(codes.Unknown, err.Error())
		default:
			got = f
		}
	})
	if err != nil {
		return err
	}
	if refused != nil {
		return refused
	}
	return got.send(stream.Send) // without a slot: a poller that does not read keeps nobody else's checks from running
}

func callerOf(r *monitoring.ResultsRequest) caller {
	return caller{r.GetServiceType(), r.GetServiceName(), r.GetAgentId()}
}

// gatherer returns who has the results, or a gRPC error that says that nobody has.
func (a *agent) gatherer(r *monitoring.ResultsRequest) (Gatherer, error) {
	check := a.checks[r.GetServiceType()]
	if check == nil {
		return nil, failure(codes.NotFound, a.unknown(r.GetServiceType()))
	}
	gatherer, ok := check.(Gatherer)
	if !ok {
		return nil, status.Errorf(codes.Unimplemented, "checks of type %q have no results: ask for their status", r.GetServiceType())
	}
	return gatherer, nil
}

// found is Results as they go on the wire.
type found struct {
	news     bool
	sweep    bool
	list     []byte // the elements, with commas between them
	beside   []byte // of a sweep: the other members, with a comma after them if there are any
	sequence string
}

// gather asks for results and makes JSON of them.
func gather(ctx context.Context, gatherer Gatherer, r *monitoring.ResultsRequest) (*found, error) {
	results, err := gatherer.Results(ctx, ResultsRequest{
		Name: r.GetServiceName(), Type: r.GetServiceType(), Details: r.GetDetails(),
		AgentID: r.GetAgentId(), PollerID: r.GetPollerId(), LastSequence: r.GetLastSequence(),
	})
	if err != nil {
		return nil, err
	}
	f := &found{sweep: r.GetServiceType() == typeSweep, sequence: results.Sequence}
	if n := len(f.sequence); n > maxSequence {
		return nil, fmt.Errorf("the sequence of the results has %d bytes, above %d: let it be a mark, not data", n, maxSequence)
	}
	if f.sequence != "" && f.sequence == r.GetLastSequence() {
		return f, nil
	}
	f.news = true
	if f.list, err = inside(results.List, "[]"); err != nil {
		return nil, fmt.Errorf("the list of the results %w", err)
	}
	if results.Sweep == nil {
		return f, nil
	}
	if !f.sweep {
		return nil, fmt.Errorf("results of type %q have a Sweep: only those of type %s may", r.GetServiceType(), typeSweep)
	}
	if f.beside, err = inside(results.Sweep, "{}"); err != nil {
		return nil, fmt.Errorf("what stands beside the hosts of the sweep %w", err)
	}
	var members map[string]json.RawMessage
	_ = json.Unmarshal(bytes.Join([][]byte{[]byte("{"), f.beside, []byte("}")}, nil), &members) // has just been written
	if _, there := members["hosts"]; there {
		return nil, errors.New("what stands beside the hosts of the sweep has the key hosts itself: the hosts go into List")
	}
	if len(f.beside) > 0 {
		f.beside = append(f.beside, ',')
	}
	return f, nil
}

// inside returns v as JSON without its brackets; nothing of null.
func inside(v any, brackets string) ([]byte, error) {
	data, err := json.Marshal(v)
	switch {
	case err != nil:
		return nil, fmt.Errorf("can't be written as JSON: %w", err)
	case string(data) == "null":
		return nil, nil
	case data[0] != brackets[0]:
		return nil, fmt.Errorf("is no JSON %s, but comes of a %T", brackets, v)
	}
	return data[1 : len(data)-1], nil
}

// around returns a part of the list as one message has it.
func (f *found) around(part []byte, first bool) []byte {
	switch {
	case f.sweep && !f.news:
		return []byte("{}") // what ServiceRadar's agent says
	case !f.sweep:
		return bytes.Join([][]byte{[]byte("["), part, []byte("]")}, nil)
	case first:
		return bytes.Join([][]byte{[]byte("{"), f.beside, []byte(`"hosts":[`), part, []byte("]}")}, nil)
	default:
		return bytes.Join([][]byte{[]byte(`{"hosts":[`), part, []byte("]}")}, nil)
	}
}

// send sends the list in chunks, of which there is one at least.
func (f *found) send(send func(*monitoring.ResultsChunk) error) error {
	parts := cut(f.list, chunkSize)
	for i, part := range parts {
		err := send(&monitoring.ResultsChunk{
			Data:            f.around(part, i == 0),
			IsFinal:         i == len(parts)-1,
			ChunkIndex:      int32(i),
			TotalChunks:     int32(len(parts)), //nolint:gosec // there is no such list in memory
			CurrentSequence: f.sequence,
			Timestamp:       time.Now().Unix(),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// cut cuts elements between them, so that each part has as many as fit into size bytes, but one at
// least. The elements are JSON as json.Marshal writes it.
func cut(elements []byte, size int) [][]byte {
	var parts [][]byte
	from, comma := 0, 0 // where this part begins, and the last place to end it
	end := func(at int) {
		if at-from > size && comma > from {
			parts = append(parts, elements[from:comma])
			from = comma + 1
		}
		comma = at
	}
	depth, inString := 0, false
	for i := 0; i < len(elements); i++ {
		switch c := elements[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			depth--
		case c == ',' && depth == 0:
			end(i)
		}
	}
	end(len(elements))
	return append(parts, elements[from:])
}
