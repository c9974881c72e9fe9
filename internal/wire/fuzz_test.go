package wire

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/serviceradar/poller/internal/check"
)

// FuzzEnvelope: whatever a checker answers and whatever the names, core gets JSON, with all in it
// that the checker said.
func FuzzEnvelope(f *testing.F) {
	for _, message := range []string{
		``, ` `, `{}`, `{"a":1}`, `[1,2]`, `null`, `1e400`, `"\ud800"`, `text`, `{"a":`, "\xff", "\"\xff\"", "\ufeff{}", "\u00a0",
		`1},"data":{"x":2`, "\x00", "\u2028", `{"z":1,"a":2,"z":3}`,
	} {
		f.Add([]byte(message), "p", "a", "port", "ssh", "")
	}
	f.Add([]byte(`{}`), "p\"", "a\\", "t\x00", "\xff", "")
	f.Add([]byte(`{}`), "p", "a", "sync", "ssh", "no \"route\"\n")
	f.Fuzz(func(t *testing.T, message []byte, poller, agent, kind, name, detail string) {
		if len(message) > 5000 {
			t.Skip("beyond what JSON parsers nest")
		}
		id := &Identity{PollerID: poller, Partition: poller, SourceIP: "10.0.0.1", MaxMessage: 1 << 20, MaxReport: 1 << 24}
		st := answered(agent, name, kind, string(message))
		if detail != "" {
			st.Reason, st.Detail = check.Unreachable, detail
		}
		out, err := id.Status(st)
		if !utf8.ValidString(poller) || !utf8.ValidString(agent) || !utf8.ValidString(kind) || !utf8.ValidString(name) {
			if err == nil {
				t.Fatal("names that are not UTF-8 are let pass: nobody could read the report")
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		got := out.GetMessage()
		if kind == check.TypeSync && detail == "" {
			if !bytes.Equal(got, message) {
				t.Fatalf("%q becomes %q", message, got)
			}
			return
		}
		data := json.RawMessage(got)
		if kind != check.TypeSync {
			var envelope map[string]json.RawMessage
			if err := json.Unmarshal(got, &envelope); err != nil || len(envelope) != 6 {
				t.Fatalf("%v, %d keys: %q", err, len(envelope), got)
			}
			for key, want := range map[string]string{
				"poller_id": poller, "agent_id": agent, "partition": poller, "service_type": kind, "service_name": name,
			} {
				wantText(t, key, envelope[key], want)
			}
			data = envelope["data"]
		}
		trimmed := trim(message)
		var inside map[string]json.RawMessage
		switch {
		case detail != "":
			if err := json.Unmarshal(data, &inside); err != nil || len(inside) != 2 {
				t.Fatalf("%v: %q", err, data)
			}
			wantText(t, "error", inside["error"], detail)
			wantText(t, "reason", inside["reason"], string(check.Unreachable))
		case len(trimmed) == 0:
			if string(data) != "{}" {
				t.Fatalf("nothing becomes %q", data)
			}
		case json.Valid(trimmed):
			if !bytes.Equal(data, trimmed) {
				t.Fatalf("%q becomes %q", trimmed, data)
			}
		default:
			if err := json.Unmarshal(data, &inside); err != nil || len(inside) != 1 {
				t.Fatalf("%v: %q", err, data)
			}
			wantText(t, "message", inside["message"], string(trimmed))
		}
	})
}

// wantText wants a JSON string; each byte that is not UTF-8 becomes the replacement character.
func wantText(t *testing.T, what string, data json.RawMessage, want string) {
	t.Helper()
	var got string
	if err := json.Unmarshal(data, &got); err != nil || got != string([]rune(want)) {
		t.Fatalf("%s: %q, %v; want %q", what, got, err, want)
	}
}
