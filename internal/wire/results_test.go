package wire

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/proto/monitoring"
)

func TestResults(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		kind, name string
		news       bool
		nothing    bool
	}{
		{"sweep", "network", false, true},
		{"sweep", "network", true, false},
		{"sync", "devices", false, false},
		{"sweep", "my sync", false, false},
		{"grpc", "sync", false, false},
		{"snmp", "router", false, false},
	} {
		got := Results(&check.Check{Name: tt.name, Type: tt.kind, Method: check.GetResults}, &monitoring.ResultsResponse{
			Available: true, Data: []byte(`[1]`), CurrentSequence: "7", HasNewData: tt.news, ServiceName: "ignored",
		})
		want := check.Answer{Available: true, Message: []byte(`[1]`), Sequence: "7", Nothing: tt.nothing}
		wantEqual(t, fmt.Sprintf("%s %q, news: %v", tt.kind, tt.name, tt.news), want, got)
	}
}

// devices returns n devices in chunks, as the elements of lists.
func devices(n, chunks int) []string {
	parts := make([]string, chunks)
	for c := range parts {
		var b strings.Builder
		for i := c * n / chunks; i < (c+1)*n/chunks; i++ {
			if b.Len() > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, `{"device_id":"default:10.%d.%d.%d","hostname":"device-%06d","mac":"00:11:22:33:44:55","score":%d.50}`,
				i>>16, i>>8&255, i&255, i, i)
		}
		parts[c] = b.String()
	}
	return parts
}

// in returns lists as chunks of the given form: "array", or the key that the list stands under.
func in(form string, parts []string) [][]byte {
	data := make([][]byte, len(parts))
	for i, part := range parts {
		if form == "array" {
			data[i] = []byte("[" + part + "]")
		} else {
			data[i] = []byte(`{"network":"10.0.0.0/8","` + form + `":[` + part + `],"total_hosts":100000}`)
		}
	}
	return data
}

// TestMergeManyDevices merges 100,000 devices in 200 chunks, in each form that there is.
func TestMergeManyDevices(t *testing.T) {
	t.Parallel()
	parts := devices(100_000, 200)
	list := "[" + strings.Join(parts, ",") + "]"
	for _, form := range []string{"array", "hosts", "devices", "results", "entries", "data"} {
		for _, kind := range []string{check.TypeSync, check.TypeSweep} {
			if kind == check.TypeSweep && form != "array" && form != "hosts" && form != "data" {
				continue // found like the others
			}
			got := mustMerge(t, &check.Check{Name: "x", Type: kind, Method: check.StreamResults}, in(form, parts))
			want := list
			switch {
			case kind == check.TypeSweep && form == "array":
				want = `{"hosts":` + want + `}`
			case kind == check.TypeSweep:
				want = `{"network":"10.0.0.0/8","hosts":` + want + `,"total_hosts":100000}`
			}
			if got.Sequence != "seq-200" || string(got.Message) != want {
				t.Errorf("%s as %s: %d bytes, want %d; sequence %q", kind, form, len(got.Message), len(want), got.Sequence)
			}
		}
	}
}

func mustMerge(t *testing.T, c *check.Check, data [][]byte) check.Answer {
	t.Helper()
	m := NewMerger(c, 64<<20)
	for i := range data {
		last, err := m.Add(&monitoring.ResultsChunk{
			Data: data[i], ChunkIndex: int32(i), TotalChunks: int32(len(data)), IsFinal: i == len(data)-1, CurrentSequence: fmt.Sprintf("seq-%d", i+1),
		})
		if err != nil || last != (i == len(data)-1) {
			t.Fatalf("chunk %d: last %v, %v", i, last, err)
		}
	}
	answer, err := m.Answer()
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// TestMergeMemory: while chunks come in, what is held stays below twice of what they come to; a little
// above that if they have no numbers, so that nobody can know how many are still to come.
func TestMergeMemory(t *testing.T) { // not parallel: it measures the heap
	for most, chunks := range map[float64]int32{2: 200, 2.2: 0} {
		mergeMemory(t, chunks, most)
	}
}

func mergeMemory(t *testing.T, total int32, most float64) {
	t.Helper()
	const chunks = 200
	data := in("hosts", devices(100_000, chunks))
	m := NewMerger(&check.Check{Name: "x", Type: check.TypeSweep, Method: check.StreamResults}, 64<<20)
	base, peak := heap(), uint64(0)
	// held runs a step, and takes what was in use before it and all that it allocated to be held at once.
	held := func(step func()) {
		before := heap()
		allocated := totalAlloc()
		step()
		peak = max(peak, before-base+totalAlloc()-allocated)
	}
	for i := range data {
		held(func() {
			// As gRPC does, a copy for each chunk, which nobody keeps.
			chunk := &monitoring.ResultsChunk{Data: bytes.Clone(data[i]), TotalChunks: total, IsFinal: i == chunks-1}
			if total > 0 {
				chunk.ChunkIndex = int32(i)
			}
			if _, err := m.Add(chunk); err != nil {
				t.Fatal(err)
			}
		})
	}
	var answer check.Answer
	held(func() {
		var err error
		if answer, err = m.Answer(); err != nil {
			t.Fatal(err)
		}
	})
	ratio := float64(peak) / float64(len(answer.Message))
	t.Logf("%d chunks, said to be %d, come to %d bytes; at most %d bytes were held, %.2f times that", chunks, total, len(answer.Message), peak, ratio)
	if ratio >= most {
		t.Errorf("%.2f times of the merged data were held, want less than %v times", ratio, most)
	}
	runtime.KeepAlive(data)
}

func totalAlloc() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.TotalAlloc
}

// heap returns the bytes in use.
func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// TestMergeBounds: what a checker says of itself makes nobody reserve memory for it.
func TestMergeBounds(t *testing.T) {
	t.Parallel()
	list := &check.Check{Name: "x", Type: "x", Method: check.StreamResults}
	m := NewMerger(list, 1<<20)
	_, err := m.Add(&monitoring.ResultsChunk{Data: []byte(`[1]`), TotalChunks: maxChunks + 1})
	if err == nil || !strings.Contains(err.Error(), "too_large: the results come in more than 65536 chunks") {
		t.Errorf("said to be more than %d chunks: %v", maxChunks, err)
	}
	// One that is much larger than all others.
	m = NewMerger(list, 64<<20)
	data := []byte("[" + strings.Repeat("1,", 1<<19) + "1]")
	for i := range int32(100) {
		if _, err := m.Add(&monitoring.ResultsChunk{Data: data, ChunkIndex: i, TotalChunks: 100, IsFinal: i == 99}); err != nil {
			t.Fatal(err)
		}
		data = nil
	}
	if answer, err := m.Answer(); err != nil || cap(answer.Message) > 2<<20 {
		t.Errorf("an answer of %d bytes keeps %d, %v", len(answer.Message), cap(answer.Message), err)
	}
	m = NewMerger(list, 1<<20)
	for i := range maxChunks {
		if _, err := m.Add(&monitoring.ResultsChunk{}); err != nil {
			t.Fatalf("chunk %d: %v", i, err)
		}
	}
	_, err = m.Add(&monitoring.ResultsChunk{IsFinal: true})
	if err == nil || !strings.Contains(err.Error(), "too_large: the results come in more than 65536 chunks") {
		t.Errorf("more than %d chunks: %v", maxChunks, err)
	}
}

func BenchmarkMerge(b *testing.B) {
	data := in("hosts", devices(100_000, 200))
	c := &check.Check{Name: "x", Type: check.TypeSweep, Method: check.StreamResults}
	b.SetBytes(int64(len(bytes.Join(data, nil))))
	b.ReportAllocs()
	for b.Loop() {
		m := NewMerger(c, 64<<20)
		for i := range data {
			if _, err := m.Add(&monitoring.ResultsChunk{Data: data[i], ChunkIndex: int32(i), TotalChunks: 200, IsFinal: i == 199}); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := m.Answer(); err != nil {
			b.Fatal(err)
		}
	}
}
