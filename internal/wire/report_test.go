package wire

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/proto/monitoring"
)

// TestReports: whatever the statuses, they all arrive, once, in as few calls as hold them.
func TestReports(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		id := &Identity{
			PollerID: "p", Partition: "default", SourceIP: "10.0.0.1",
			KVStoreID:  rapid.SampledFrom([]string{"", "kv"}).Draw(t, "kv"),
			Bare:       rapid.Bool().Draw(t, "bare"),
			MaxMessage: rapid.IntRange(1000, 5000).Draw(t, "max"),
		}
		id.MaxReport = id.MaxMessage * rapid.IntRange(1, 10).Draw(t, "times")
		at := time.Unix(rapid.Int64().Draw(t, "at"), 0)
		statuses := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) check.Status { return drawStatus(t, id.MaxReport) }), 0, 30).Draw(t, "statuses")
		wantReports(t, id, at, statuses)
	})
}

// failer is a testing.T, or a rapid.T.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// wantReports wants of the reports of a cycle that each fits where it has to go, and that together
// they have all statuses, each once and whole.
func wantReports(t failer, id *Identity, at time.Time, statuses []check.Status) {
	t.Helper()
	reports, err := id.Reports(at, statuses)
	if err != nil {
		t.Fatalf("Reports: %v", err)
	}
	if len(reports) == 0 {
		t.Fatalf("no report: the heartbeat is missing")
	}
	var got []*monitoring.ServiceStatus
	unary, total := []*monitoring.PollerStatusRequest{}, 0
	for i, r := range reports {
		if len(r.Body) > id.MaxReport {
			t.Fatalf("report %d has %d bytes, above %d", i, len(r.Body), id.MaxReport)
		}
		request := unmarshal(t, r.Body)
		wantHeading(t, id, at, request)
		if len(r.Body) > id.MaxMessage {
			wantStream(t, request, id.MaxMessage)
		} else {
			unary = append(unary, request)
		}
		total += len(request.GetServices())
		got = append(got, request.GetServices()...)
	}
	wantAll(t, id, statuses, got)
	whole := sizeOf(id, at, got)
	if len(reports) > 1 && (whole <= id.MaxMessage || total == 0 || whole <= id.MaxReport && Streamable(&monitoring.PollerStatusRequest{Services: got})) {
		t.Fatalf("%d reports where one would do", len(reports))
	}
	for i, r := range unary {
		for _, later := range unary[i+1:] { // they were filled before
			if n := proto.Size(later) + sizeWithin(proto.Size(r.GetServices()[0])); n <= id.MaxMessage {
				t.Fatalf("a status of message %d fits into a later one, which would have %d of %d bytes", i, n, id.MaxMessage)
			}
		}
	}
}

func wantHeading(t failer, id *Identity, at time.Time, r *monitoring.PollerStatusRequest) {
	t.Helper()
	heading := proto.CloneOf(r)
	heading.Services = nil
	if want := (&monitoring.PollerStatusRequest{
		PollerId: "p", Partition: "default", SourceIp: "10.0.0.1", KvStoreId: id.KVStoreID, Timestamp: at.Unix(),
	}); !proto.Equal(heading, want) {
		t.Fatalf("heading: %v, want %v", heading, want)
	}
}

// wantAll wants the statuses, each once, in order but for those that are too large for a message.
func wantAll(t failer, id *Identity, statuses []check.Status, got []*monitoring.ServiceStatus) {
	t.Helper()
	if len(got) != len(statuses) {
		t.Fatalf("%d statuses arrive of %d", len(got), len(statuses))
	}
	left := make([]*monitoring.ServiceStatus, len(statuses))
	for i, st := range statuses {
		left[i] = statusOf(t, id, st)
	}
	for _, g := range got {
		i := slices.IndexFunc(left, func(want *monitoring.ServiceStatus) bool { return proto.Equal(g, want) })
		if i < 0 {
			t.Fatalf("a status of %s/%s with %d bytes was not asked for, or is there twice", g.GetAgentId(), g.GetServiceName(), len(g.GetMessage()))
		}
		left = slices.Delete(left, i, i+1)
	}
}

// wantStream wants that a report goes in chunks of at most limit bytes, from which core's rule makes
// the same statuses again.
func wantStream(t failer, r *monitoring.PollerStatusRequest, limit int) {
	t.Helper()
	chunks := Chunks(r, limit)
	var again []*monitoring.ServiceStatus
	byKey := make(map[string]*monitoring.ServiceStatus)
	for i, chunk := range chunks {
		if n := proto.Size(chunk); n > limit {
			t.Fatalf("chunk %d has %d bytes, above %d", i, n, limit)
		}
		if int(chunk.GetChunkIndex()) != i || int(chunk.GetTotalChunks()) != len(chunks) || chunk.GetIsFinal() != (i == len(chunks)-1) {
			t.Fatalf("chunk %d of %d says it is %d of %d, the last: %v", i, len(chunks), chunk.GetChunkIndex(), chunk.GetTotalChunks(), chunk.GetIsFinal())
		}
		if chunk.GetPollerId() != r.GetPollerId() || chunk.GetTimestamp() != r.GetTimestamp() || chunk.GetPartition() != r.GetPartition() ||
			chunk.GetSourceIp() != r.GetSourceIp() || chunk.GetKvStoreId() != r.GetKvStoreId() {
			t.Fatalf("the heading of chunk %d is not the report's", i)
		}
		for _, st := range chunk.GetServices() {
			key := st.GetServiceName() + ":" + st.GetServiceType()
			if whole := byKey[key]; whole != nil {
				whole.Message = append(whole.GetMessage(), st.GetMessage()...)
				continue
			}
			byKey[key] = proto.CloneOf(st)
			again = append(again, byKey[key])
		}
	}
	if got, want := (&monitoring.PollerStatusRequest{Services: again}), (&monitoring.PollerStatusRequest{Services: r.GetServices()}); !proto.Equal(got, want) {
		t.Fatalf("core would have %d statuses, which differ from the %d that were sent", len(again), len(r.GetServices()))
	}
}

// drawStatus has an eye for sizes about the limit.
func drawStatus(t *rapid.T, limit int) check.Status {
	size := rapid.OneOf(
		rapid.IntRange(0, 40), rapid.IntRange(0, limit), rapid.IntRange(limit-300, limit+10),
	).Draw(t, "size")
	fill := rapid.SampledFrom([]string{"x", "\"", "\x01", "ä"}).Draw(t, "fill")
	st := answered(
		rapid.SampledFrom([]string{"a", "agent-with-a-long-name"}).Draw(t, "agent"),
		rapid.SampledFrom([]string{"ssh", `"`, "läuft"}).Draw(t, "check"),
		rapid.SampledFrom([]string{"port", "sync"}).Draw(t, "type"),
		strings.Repeat(fill, size/len(fill)))
	st.Available = rapid.Bool().Draw(t, "available")
	if rapid.IntRange(0, 3).Draw(t, "verdict") == 0 {
		st.Reason = rapid.SampledFrom(reasons).Draw(t, "reason")
		st.Detail = strings.Repeat(fill, size/len(fill))
	}
	return st
}

// TestReportsFillUp: a report may have exactly MaxMessage bytes.
func TestReportsFillUp(t *testing.T) {
	t.Parallel()
	at := time.Unix(1000, 0)
	statuses := []check.Status{answered("a", "x", "port", "{}"), answered("b", "y", "port", "[]"), answered("c", "z", "port", "")}
	whole, err := identity().Reports(at, statuses)
	if err != nil {
		t.Fatal(err)
	}
	for less, want := range map[int][]int{-1: {3}, 0: {3}, 1: {1, 2}} {
		id := identity()
		id.MaxMessage = len(whole[0].Body) - less
		id.MaxReport = id.MaxMessage // or all would go in one stream
		reports, err := id.Reports(at, statuses)
		if err != nil {
			t.Fatal(err)
		}
		var got []int
		for _, r := range reports {
			got = append(got, len(unmarshal(t, r.Body).GetServices()))
		}
		wantEqual(t, fmt.Sprintf("statuses by report with room for all less %d bytes", less), want, got)
	}
}

func TestReportOfNothing(t *testing.T) {
	t.Parallel()
	for _, statuses := range [][]check.Status{nil, {}} {
		reports, err := identity().Reports(time.Unix(1000, 0), statuses)
		if err != nil || len(reports) != 1 {
			t.Fatalf("%d reports, %v; want one, the heartbeat", len(reports), err)
		}
		wantEqual(t, "the heartbeat", &monitoring.PollerStatusRequest{
			PollerId: "p", Partition: "default", SourceIp: "10.0.0.1", KvStoreId: "kv", Timestamp: 1000,
		}, unmarshal(t, reports[0].Body))
	}
}

// TestReportsThatCannotBeMarshalled: proto3 has no text that is not UTF-8, and nothing may be lost
// in silence.
func TestReportsThatCannotBeMarshalled(t *testing.T) {
	t.Parallel()
	reports, err := identity().Reports(time.Unix(1000, 0), []check.Status{
		answered("a", "good", "port", "{}"), answered("a", "bad\xff", "port", "{}"),
	})
	if err == nil || !strings.Contains(err.Error(), `check "bad\xff"`) || !strings.Contains(err.Error(), "UTF-8") {
		t.Errorf("%d reports, error %v", len(reports), err)
	}
}

// TestHello: a stream that only registers has the heading, and no status.
func TestHello(t *testing.T) {
	t.Parallel()
	r := new(monitoring.PollerStatusRequest)
	fill(t, r.ProtoReflect())
	want := Chunks(r, 1<<20)
	want[0].Services = nil
	wantEqual(t, "hello", want, Hello(r))
}

// TestOneChunk goes by the descriptors, so that a field that one of the messages gets later is
// not forgotten here.
func TestOneChunk(t *testing.T) {
	t.Parallel()
	r := new(monitoring.PollerStatusRequest)
	fill(t, r.ProtoReflect())
	chunk := Chunks(r, 1<<20)[0].ProtoReflect()
	own := map[protoreflect.Name]any{"is_final": true, "chunk_index": int32(0), "total_chunks": int32(1)}
	fields := chunk.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		source := r.ProtoReflect().Descriptor().Fields().ByName(field.Name())
		switch want, isOwn := own[field.Name()]; {
		case isOwn:
			if got := chunk.Get(field).Interface(); got != want {
				t.Errorf("%s is %v, want %v", field.Name(), got, want)
			}
		case source == nil:
			t.Errorf("%s is new in the chunk: what is it in a report's only chunk?", field.Name())
		default:
			if got, want := chunk.Get(field), r.ProtoReflect().Get(source); !got.Equal(want) {
				t.Errorf("%s is %v, want %v", field.Name(), got, want)
			}
		}
	}
	fields = r.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		if name := fields.Get(i).Name(); chunk.Descriptor().Fields().ByName(name) == nil {
			t.Errorf("%s of the report has no place in the chunk", name)
		}
	}
}

// fill sets every field of a message to something of its own.
func fill(t *testing.T, m protoreflect.Message) {
	t.Helper()
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		switch field := fields.Get(i); {
		case field.IsList():
			for range 2 {
				fill(t, m.Mutable(field).List().AppendMutable().Message())
			}
		case field.Kind() == protoreflect.StringKind:
			m.Set(field, protoreflect.ValueOfString(string(field.Name())))
		case field.Kind() == protoreflect.BytesKind:
			m.Set(field, protoreflect.ValueOfBytes([]byte(field.Name())))
		case field.Kind() == protoreflect.BoolKind:
			m.Set(field, protoreflect.ValueOfBool(true))
		case field.Kind() == protoreflect.Int64Kind:
			m.Set(field, protoreflect.ValueOfInt64(1000+int64(i)))
		default:
			t.Fatalf("%s is a %s: fill it, too", field.FullName(), field.Kind())
		}
	}
}

func TestStreamable(t *testing.T) {
	t.Parallel()
	type key struct{ agent, name, kind string }
	for _, tt := range []struct {
		what string
		keys []key
		want bool
	}{
		{"nothing", nil, true},
		{"one", []key{{"a", "ssh", "port"}}, true},
		{"all differ", []key{{"a", "ssh", "port"}, {"a", "ssh", "process"}, {"a", "web", "port"}}, true},
		{"two agents, equal names and types", []key{{"a", "ssh", "port"}, {"b", "ssh", "port"}}, false},
		{"the first and the last", []key{{"a", "ssh", "port"}, {"a", "web", "port"}, {"a", "ssh", "port"}}, false},
		{"keys that are equal only when joined, as core joins them", []key{{"a", "x:y", "z"}, {"a", "x", "y:z"}}, false},
		{"empty names", []key{{"a", "", ""}, {"b", "", ""}}, false},
	} {
		r := new(monitoring.PollerStatusRequest)
		for _, k := range tt.keys {
			r.Services = append(r.Services, &monitoring.ServiceStatus{AgentId: k.agent, ServiceName: k.name, ServiceType: k.kind})
		}
		if got := Streamable(r); got != tt.want {
			t.Errorf("%s: Streamable is %v", tt.what, got)
		}
	}
}
