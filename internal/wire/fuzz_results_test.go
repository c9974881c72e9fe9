package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/proto/monitoring"
)

// FuzzMerge: whatever chunks a checker sends, they come to a clear failure, or to JSON with all the
// elements of all lists in their order, never above the limit. Each line of the input is a chunk.
func FuzzMerge(f *testing.F) {
	for _, chunks := range []string{
		"[1]\n[2,3]", "{\"hosts\":[1]}\n{\"hosts\":[2]}", "null\n\n[]", "{\"a\":1,\"devices\":[[1],{}],\"hosts\":null}", "[1", "{\"data\":\"x\"}", "17", "[1] 2",
		"{\"hosts\":[1],\"hosts\":[2]}", "{\"h\\u006fsts\":[1]}", "[\"\xff\"]", "{\"results\":[1.50],\"entries\":[]}",
	} {
		f.Add([]byte(chunks), true, true, uint16(100))
		f.Add([]byte(chunks), false, false, uint16(10))
	}
	f.Fuzz(func(t *testing.T, input []byte, sweep, numbered bool, limit uint16) {
		if len(input) > 5000 {
			t.Skip("beyond what JSON parsers nest")
		}
		c := &check.Check{Name: "x", Type: "list", Method: check.StreamResults}
		if sweep {
			c.Type = check.TypeSweep
		}
		data := bytes.Split(input, []byte("\n"))
		m := NewMerger(c, int(limit))
		for i := range data {
			chunk := &monitoring.ResultsChunk{Data: data[i], IsFinal: i == len(data)-1}
			if numbered {
				chunk.ChunkIndex, chunk.TotalChunks = int32(i), int32(len(data))
			}
			if last, err := m.Add(chunk); err != nil {
				wantClearFailure(t, err)
				return
			} else if last != chunk.GetIsFinal() {
				t.Fatalf("chunk %d of %d is said to be the last: %v", i, len(data), last)
			}
			if cap(m.merged) > max(int(limit), 1) {
				t.Fatalf("%d bytes are held, above %d", cap(m.merged), limit)
			}
		}
		answer, err := m.Answer()
		if err != nil {
			t.Fatal(err)
		}
		if !answer.Nothing {
			wantMerged(t, c, data, answer.Message, int(limit))
		}
	})
}

func wantClearFailure(t *testing.T, err error) {
	t.Helper()
	f, ok := errors.AsType[*check.Failure](err)
	if !ok || f.Reason != check.BadAnswer && f.Reason != check.TooLarge || len(f.Detail) < 20 {
		t.Fatalf("%#v", err)
	}
}

// wantMerged merges by decoding.
func wantMerged(t *testing.T, c *check.Check, data [][]byte, got []byte, limit int) {
	t.Helper()
	if len(got) > limit && string(got) != "[]" {
		t.Fatalf("%d bytes, above %d", len(got), limit)
	}
	want := []any{}
	for _, chunk := range data {
		if len(trim(chunk)) > 0 {
			want = append(want, elements(t, chunk)...)
		}
	}
	merged := decode(t, got)
	if c.Type == check.TypeSweep {
		merged = merged.(map[string]any)["hosts"]
	}
	if list, ok := merged.([]any); !ok || !reflect.DeepEqual(slices.Clip(list), slices.Clip(want)) && len(list)+len(want) > 0 {
		t.Fatalf("%q come to %q", data, got)
	}
}

func elements(t *testing.T, chunk []byte) []any {
	t.Helper()
	switch v := decode(t, chunk).(type) {
	case []any:
		return v
	case map[string]any:
		for _, key := range listKeys {
			if list, ok := v[key].([]any); ok {
				return list
			}
		}
	}
	return nil
}

// FuzzFit: a cycle comes to reports that fit and together have everything once; so do the parts of
// what core finds too large. Each byte of the input is a status: its name, its agent and its size.
func FuzzFit(f *testing.F) {
	f.Add([]byte{}, uint16(100), uint16(1))
	f.Add([]byte("a"), uint16(100), uint16(5))
	f.Add([]byte{0, 1, 2, 3, 255, 254, 8, 9, 128}, uint16(0), uint16(3))
	f.Add([]byte{255, 255, 255, 255}, uint16(4000), uint16(20))
	f.Fuzz(func(t *testing.T, input []byte, most, times uint16) {
		if len(input) > 60 {
			t.Skip("more of the same")
		}
		id := identity()
		id.MaxMessage = 1000 + int(most)%5000
		id.MaxReport = id.MaxMessage * (1 + int(times)%20)
		var statuses []check.Status
		for i, b := range input {
			size := int(b) * int(b) / 8 * (1 + i%3)
			st := answered([]string{"a", "b"}[b%2], []string{"x", "y", "z"}[i%3], "t", string(bytes.Repeat([]byte("7"), size)))
			statuses = append(statuses, st)
		}
		wantReports(t, id, at, statuses)
		reports, err := id.Reports(at, statuses)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range reports {
			wantParts(t, Delivery{ID: "r", Body: r.Body, Limit: id.MaxMessage})
		}
	})
}

// wantParts makes a delivery smaller until it can't be made smaller any more.
func wantParts(t failer, whole Delivery) {
	t.Helper()
	parts, done := []Delivery{whole}, []Delivery{}
	ids := map[string]bool{}
	for steps := 0; len(parts) > 0; steps++ {
		if steps > 1000 {
			t.Fatalf("it never ends")
		}
		part := parts[0]
		r := unmarshal(t, part.Body)
		if len(part.Body) > part.Limit || part.InChunks {
			wantStream(t, r, part.Limit)
		}
		smaller, ok := part.Smaller()
		if !ok {
			if !part.InChunks || len(r.GetServices()) > 1 {
				t.Fatalf("%d statuses of %d bytes are given up without chunks", len(r.GetServices()), len(part.Body))
			}
			done, parts = append(done, part), parts[1:]
			continue
		}
		if len(smaller) == 1 && (!smaller[0].InChunks || smaller[0].ID != part.ID || !bytes.Equal(smaller[0].Body, part.Body)) {
			t.Fatalf("one part that is no slices of the same: %+v", smaller[0])
		}
		parts = append(smaller, parts[1:]...)
	}
	joined := unmarshal(t, whole.Body)
	joined.Services = nil
	for _, part := range done {
		if ids[part.ID] {
			t.Fatalf("two parts are called %s", part.ID)
		}
		ids[part.ID] = true
		joined.Services = append(joined.Services, unmarshal(t, part.Body).GetServices()...)
	}
	if want := unmarshal(t, whole.Body); !proto.Equal(want, joined) {
		t.Fatalf("%d statuses are in the parts, %d in the whole", len(joined.GetServices()), len(want.GetServices()))
	}
}

// TestEncodingJSONAgrees: a checker's answer is JSON if encoding/json, which core has, takes it.
func TestEncodingJSONAgrees(t *testing.T) {
	t.Parallel()
	deep := bytes.Repeat([]byte("["), 10_001)
	for _, text := range [][]byte{
		[]byte(`{}`), []byte(`{"a":1,"a":2}`), []byte("\"\xff\""), []byte(`"\ud800"`), []byte(`1e999`), []byte(`01`), []byte(`{"a":1,}`), []byte(`[1,]`),
		[]byte("\"\x01\""), []byte("\ufeff{}"), []byte(`nul`), []byte(`{} {}`), []byte(`{a:1}`), []byte(`'a'`), deep, append(deep, bytes.Repeat([]byte("]"), 10_001)...),
	} {
		if got, want := scanErr(text) == nil, json.Valid(text); got != want {
			t.Errorf("%.40q is JSON: %v, want %v", text, got, want)
		}
	}
}

// TestDeepAnswers: what is JSON by itself, but would be too deep within the envelope, is kept as text.
func TestDeepAnswers(t *testing.T) {
	t.Parallel()
	for depth, isText := range map[int]bool{9_998: false, 9_999: false, 10_000: true} {
		for _, message := range []string{
			strings.Repeat("[", depth) + strings.Repeat("]", depth),
			strings.Repeat(`{"a\"[":`, depth-1) + "{}" + strings.Repeat("}", depth-1),
		} {
			st := answered("a", "x", "t", message)
			st.Agent.Address = "10.0.0.1:1"
			got := statusOf(t, identity(), st).GetMessage()
			if !json.Valid(got) {
				t.Errorf("%d deep: core gets what is no JSON", depth)
			}
			if bytes.Contains(got, []byte(`"data":{"message":`)) != isText {
				t.Errorf("%d deep: %.200s, want text: %v", depth, got, isText)
			}
		}
	}
}
