package wire

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/serviceradar/poller/internal/check"
)

// FuzzEnrich: whatever a checker answers and whatever its target, what it said is in what core gets,
// every digit of it, and nothing but the keys of the host is new.
func FuzzEnrich(f *testing.F) {
	for _, message := range []string{
		`{}`, `{"a":1}`, `{"status":"up"}`, `{"status":null}`, `{"status":{}}`, `{"status":{"host_ip":"1"},"ip":"2"}`, `{"status":[1]}`,
		`{"status":"a","status":"b"}`, `{"status":{"a":1},"status":"b"}`, `{"status":"a","status_text":1}`, `{"hostname":null}`,
		`{"host\u005fip":1}`, `[{"status":1}]`, `"status"`, `{"status" : -0.0 , "x":1e400}`, `{"a":{"status":"deep"}}`, "{\"\xff\":\"\xff\"}",
	} {
		f.Add([]byte(message), "10.0.0.1:22", true)
		f.Add([]byte(message), "host", false)
	}
	f.Add([]byte(`{}`), "http://u@[::1]:80/x", true)
	f.Add([]byte(`{}`), "\xff\"\\", true)
	f.Fuzz(func(t *testing.T, message []byte, target string, known bool) {
		if len(message) > 5000 {
			t.Skip("beyond what JSON parsers nest")
		}
		id := identity()
		if known {
			id.Resolve = func(string) netip.Addr { return netip.MustParseAddr("10.1.1.1") }
		}
		st := answered("a", "x", "port", string(message))
		st.Agent.Address, st.Check.Details = target+":1", target
		f, err := id.newFrame(st.Agent, st.Check)
		if err != nil {
			t.Fatal(err)
		}
		c := contentOf(message, id.host(&f))
		got := c.append(nil)
		if valid := json.Valid(trim(message)); valid != (scanErr(trim(message)) == nil) {
			t.Fatalf("encoding/json finds %q valid: %v; the scanner does not agree", message, valid)
		}
		wantEnriched(t, trim(message), got, &st)
	})
}

func scanErr(text []byte) error {
	_, _, err := read(text)
	return err
}

// wantEnriched compares by decoding both, numbers as they are written.
func wantEnriched(t *testing.T, message, got []byte, st *check.Status) {
	t.Helper()
	after, isObject := decode(t, got).(map[string]any)
	if len(message) == 0 {
		message = []byte("{}")
	}
	if !json.Valid(message) {
		if after["message"] != string([]rune(string(message))) {
			t.Fatalf("text %q becomes %q", message, got)
		}
		return
	}
	before, wasObject := decode(t, message).(map[string]any)
	if !wasObject {
		if !bytes.Equal(message, got) {
			t.Fatalf("%q becomes %q", message, got)
		}
		return
	}
	if !isObject {
		t.Fatalf("%q becomes %q, no object", message, got)
	}
	added := maps.Clone(after)
	for key, value := range before {
		if key == "status" {
			continue
		}
		if !reflect.DeepEqual(after[key], value) {
			t.Fatalf("%q was %v and is %v in %q", key, value, after[key], got)
		}
		delete(added, key)
	}
	wantStatus(t, before, after, got)
	for key := range added {
		if !slices.Contains([]string{"host_ip", "ip", "host_name", "hostname", "status", "status_text"}, key) {
			t.Fatalf("%q is new in %q", key, got)
		}
	}
	for _, pair := range [][2]string{{"host_ip", "ip"}, {"host_name", "hostname"}} {
		_, first := before[pair[0]]
		_, second := before[pair[1]]
		if _, is := added[pair[0]]; is && (first || second) {
			t.Fatalf("%v were filled in though one was there: %q", pair, got)
		}
	}
	if h, name := hostOf(st.Agent, st.Check); !utf8.ValidString(name) || name != "" && !h.known() {
		t.Fatalf("target %q is on host %q", st.Check.Details, name)
	}
}

// wantStatus: an object keeps all it had, anything else but null moves to status_text.
func wantStatus(t *testing.T, before, after map[string]any, got []byte) {
	t.Helper()
	status, had := before["status"]
	_, hadText := before["status_text"]
	object, isObject := status.(map[string]any)
	now, _ := after["status"].(map[string]any)
	switch {
	case !had || status == nil:
	case isObject:
		for key, value := range object {
			if !reflect.DeepEqual(now[key], value) {
				t.Fatalf("status.%s was %v and is %v in %q", key, value, now[key], got)
			}
		}
	case hadText || now == nil:
		if !reflect.DeepEqual(after["status"], status) && !reflect.DeepEqual(after["status_text"], status) {
			t.Fatalf("the status %v is lost in %q", status, got)
		}
	case !reflect.DeepEqual(after["status_text"], status):
		t.Fatalf("the status %v became status_text %v in %q", status, after["status_text"], got)
	}
}

func decode(t *testing.T, text []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%q is no JSON: %v", text, err)
	}
	return v
}
