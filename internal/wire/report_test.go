package wire

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/proto/monitoring"
)

// TestReports: whatever the statuses, they all arrive, once, in order, in as few reports as hold
// them, none of which is too large or without its heading.
func TestReports(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		id := Identity{
			PollerID: "p", Partition: "default", SourceIP: "10.0.0.1",
			KVStoreID:  rapid.SampledFrom([]string{"", "kv"}).Draw(t, "kv"),
			Bare:       rapid.Bool().Draw(t, "bare"),
			MaxMessage: rapid.IntRange(1000, 5000).Draw(t, "max"),
		}
		at := time.Unix(rapid.Int64().Draw(t, "at"), 0)
		statuses := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) check.Status { return drawStatus(t, id.MaxMessage) }), 0, 30).Draw(t, "statuses")

		bodies, err := id.Reports(at, statuses)
		if err != nil {
			t.Fatalf("Reports: %v", err)
		}
		if len(bodies) == 0 {
			t.Fatal("no report: the heartbeat is missing")
		}
		var got []*monitoring.ServiceStatus
		reports := make([]*monitoring.PollerStatusRequest, len(bodies))
		for i, body := range bodies {
			if len(body) > id.MaxMessage {
				t.Fatalf("report %d has %d bytes, above %d", i, len(body), id.MaxMessage)
			}
			r := unmarshal(t, body)
			reports[i] = r
			got = append(got, r.GetServices()...)
			heading := proto.CloneOf(r)
			heading.Services = nil
			if want := (&monitoring.PollerStatusRequest{
				PollerId: "p", Partition: "default", SourceIp: "10.0.0.1", KvStoreId: id.KVStoreID, Timestamp: at.Unix(),
			}); !proto.Equal(heading, want) {
				t.Fatalf("heading of report %d: %v, want %v", i, heading, want)
			}
		}
		if len(got) != len(statuses) {
			t.Fatalf("%d statuses arrive of %d", len(got), len(statuses))
		}
		for i, st := range statuses {
			if want := id.Status(st); !proto.Equal(got[i], want) {
				t.Fatalf("status %d: %v, want %v", i, got[i], want)
			}
			if got[i].GetAvailable() && st.Reason != "" {
				t.Fatalf("status %d is available, its reason is %s", i, st.Reason)
			}
		}
		for i, r := range reports[1:] {
			joined := proto.CloneOf(reports[i])
			if len(r.GetServices()) == 0 {
				t.Fatalf("report %d of %d is empty", i+1, len(reports))
			}
			joined.Services = append(joined.Services, r.GetServices()[0])
			if n := proto.Size(joined); n <= id.MaxMessage {
				t.Fatalf("the first status of report %d fits into the one before, which would have %d of %d bytes", i+1, n, id.MaxMessage)
			}
		}
	})
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
	for less, want := range map[int][]int{-1: {3}, 0: {3}, 1: {2, 1}} {
		id := identity()
		id.MaxMessage = len(whole[0]) - less
		bodies, err := id.Reports(at, statuses)
		if err != nil {
			t.Fatal(err)
		}
		var got []int
		for _, body := range bodies {
			got = append(got, len(unmarshal(t, body).GetServices()))
		}
		wantEqual(t, fmt.Sprintf("statuses by report with room for all less %d bytes", less), want, got)
	}
}

func TestReportOfNothing(t *testing.T) {
	t.Parallel()
	for _, statuses := range [][]check.Status{nil, {}} {
		bodies, err := identity().Reports(time.Unix(1000, 0), statuses)
		if err != nil || len(bodies) != 1 {
			t.Fatalf("%d reports, %v; want one, the heartbeat", len(bodies), err)
		}
		wantEqual(t, "the heartbeat", &monitoring.PollerStatusRequest{
			PollerId: "p", Partition: "default", SourceIp: "10.0.0.1", KvStoreId: "kv", Timestamp: 1000,
		}, unmarshal(t, bodies[0]))
	}
}

// TestReportsThatCannotBeMarshalled: proto3 has no text that is not UTF-8, and nothing may be lost
// in silence.
func TestReportsThatCannotBeMarshalled(t *testing.T) {
	t.Parallel()
	bodies, err := identity().Reports(time.Unix(1000, 0), []check.Status{
		answered("a", "good", "port", "{}"), answered("a", "bad\xff", "port", "{}"),
	})
	if err == nil || !strings.Contains(err.Error(), "report of 2 statuses") || !strings.Contains(err.Error(), "UTF-8") {
		t.Errorf("%d bodies, error %v", len(bodies), err)
	}
}

// TestFinalChunk goes by the descriptors, so that a field that one of the messages gets later is
// not forgotten here.
func TestFinalChunk(t *testing.T) {
	t.Parallel()
	r := new(monitoring.PollerStatusRequest)
	fill(t, r.ProtoReflect())
	chunk := FinalChunk(r).ProtoReflect()
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

func BenchmarkStatus(b *testing.B) {
	id, st := identity(), typical(1)
	b.ReportAllocs()
	b.SetBytes(int64(len(st.Message)))
	for b.Loop() {
		_ = id.Status(st)
	}
}

func BenchmarkReports(b *testing.B) {
	id := identity()
	statuses := make([]check.Status, 1000)
	for i := range statuses {
		statuses[i] = typical(i)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := id.Reports(time.Unix(1000, 0), statuses); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(statuses)), "ns/status")
}

// typical is a status with an answer of 300 bytes.
func typical(i int) check.Status {
	message := fmt.Sprintf(`{"host":"127.2.0.%d","port":50061,"response_time":95382,"text":"`, i%250)
	message += strings.Repeat("x", 298-len(message)) + `"}`
	return answered(fmt.Sprintf("agent-%05d", i/5), fmt.Sprintf("check-%d", i%5), "port", message)
}
