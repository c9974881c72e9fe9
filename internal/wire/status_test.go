package wire

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/proto/monitoring"
)

// TestEnvelope has what checkers in the field answer, and what goes to core for it.
func TestEnvelope(t *testing.T) {
	t.Parallel()
	const (
		process = `{"active":true,"agent_id":"a","poller_id":"p","process_name":"sshd","status":"active"}`
		sysmon  = `{"available":true,"response_time":12,"status":{"host_ip":"10.0.0.7","cpus":[{"core_id":0,"usage_percent":3.50}]}}`
		snmp    = `{"router":{"available":false,"last_poll":"2026-03-01T12:00:00Z","oid_status":{},"host_ip":"10.0.0.9"}}`
		grpc    = `{"address":"127.2.0.1:50051","checked_at":"2026-03-01T12:00:00Z","grpc_service":"","service":"x","status":"SERVING"}`
	)
	for _, tt := range []struct {
		name, kind, message, data string
	}{
		{"process that runs", "process", process, process},
		{"process that does not run", "process", `{"error":"Process x is not running: none"}`, `{"error":"Process x is not running: none"}`},
		{"open port", "port", `{"host":"127.2.0.1","port":50061,"response_time":95382}`, `{"host":"127.2.0.1","port":50061,"response_time":95382}`},
		{"closed port", "port", `{"error":"Port 9 is not accessible: refused"}`, `{"error":"Port 9 is not accessible: refused"}`},
		{"icmp", "icmp", `{"host":"h","response_time":62483,"packet_loss":0,"available":true}`, `{"host":"h","response_time":62483,"packet_loss":0,"available":true}`},
		{"grpc, its status a text", "grpc", grpc, grpc},
		{"sysmon", "sysmon", sysmon, sysmon},
		{"snmp", "snmp", snmp, snmp},
		{"nothing", "unknown", ``, `{}`},
		{"white space", "unknown", " \r\n\t", `{}`},
		{"text", "process", `it runs`, `{"message":"it runs"}`},
		{"text with quotes", "process", `it "runs" \o/ <b>&`, `{"message":"it \"runs\" \\o/ \u003cb\u003e\u0026"}`},
		{"text on lines", "process", "one\ntwo\x00", `{"message":"one\ntwo\u0000"}`},
		{"text that is not ASCII", "process", "läuft 🙂", `{"message":"läuft 🙂"}`},
		{"text that is not UTF-8", "process", "l\xe4uft", `{"message":"l\ufffduft"}`},
		{"half an object", "process", `{"active":tr`, `{"message":"{\"active\":tr"}`},
		{"two objects", "process", `{} {}`, `{"message":"{} {}"}`},
		{"an object that would break out", "process", `1},"data":{"x":2`, `{"message":"1},\"data\":{\"x\":2"}`},
		{"array", "sweep", `[{"b":1,"a":2},[]]`, `[{"b":1,"a":2},[]]`},
		{"bare values", "x", `"text"`, `"text"`},
		{"null", "x", `null`, `null`},
		{"every digit of numbers", "x", `{"n":9007199254740993,"f":0.10000000000000000001,"e":1E+2,"z":-0.0}`, `{"n":9007199254740993,"f":0.10000000000000000001,"e":1E+2,"z":-0.0}`},
		{"order and repetition of keys", "x", `{"z":1,"a":2,"z":3}`, `{"z":1,"a":2,"z":3}`},
		{"spaces and escapes inside", "x", "{ \"a\" :\n\"\\u00e4<\" }", "{ \"a\" :\n\"\\u00e4<\" }"},
		{"spaces around", "x", "\n {\"a\":1}\r\n", `{"a":1}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := statusOf(t, identity(), answered("a", "ssh", tt.kind, tt.message))
			want := &monitoring.ServiceStatus{
				ServiceName: "ssh", ServiceType: tt.kind, AgentId: "a", PollerId: "p", Partition: "default",
				Available: true, ResponseTime: 95382, Source: "getStatus", KvStoreId: "kv",
				Message: []byte(`{"poller_id":"p","agent_id":"a","partition":"default","service_type":"` + tt.kind +
					`","service_name":"ssh","data":` + tt.data + `}`),
			}
			wantEqual(t, "status", want, got)
			wantEqual(t, "message as text", string(want.GetMessage()), string(got.GetMessage()))
			if !json.Valid(got.GetMessage()) {
				t.Errorf("not JSON: %s", got.GetMessage())
			}
		})
	}
}

func TestVerdictIsPassedOn(t *testing.T) {
	t.Parallel()
	st := answered("a", "ssh", "port", `{"available":true}`)
	st.Available = false
	if statusOf(t, identity(), st).GetAvailable() {
		t.Error("the checker said available=false, and core is told true")
	}
	st.Available, st.Message = true, []byte(`{"error":"the target is down"}`)
	if !statusOf(t, identity(), st).GetAvailable() {
		t.Error("the checker said available=true, and core is told false")
	}
}

// TestNoEnvelope: for checks of type sync, and for a core that wants none, it goes as it came.
func TestNoEnvelope(t *testing.T) {
	t.Parallel()
	bare := identity()
	bare.Bare = true
	for _, message := range []string{``, ` {"a": 1} `, `[1]`, `text`, "\xff", "\n"} {
		if got := statusOf(t, identity(), answered("a", "x", "sync", message)).GetMessage(); string(got) != message {
			t.Errorf("type sync, message %q: %q goes to core", message, got)
		}
		if got := statusOf(t, bare, answered("a", "x", "port", message)).GetMessage(); string(got) != message {
			t.Errorf("bare identity, message %q: %q goes to core", message, got)
		}
	}
	const want = `{"error":"no answer","reason":"timeout"}`
	st := failed(check.Timeout, "no answer")
	if got := statusOf(t, bare, st).GetMessage(); string(got) != want {
		t.Errorf("bare failure: %s", got)
	}
	st.Check = &check.Check{Name: "x", Type: "sync"}
	if got := statusOf(t, identity(), st).GetMessage(); string(got) != want {
		t.Errorf("failure of type sync: %s", got)
	}
}

var reasons = []check.Reason{
	check.Timeout, check.Overrun, check.Unreachable, check.TLSFailed, check.Unauthenticated, check.Unimplemented,
	check.BadAnswer, check.TooLarge, check.CircuitOpen, check.NoAnswer, check.Internal,
}

func TestFailure(t *testing.T) {
	t.Parallel()
	for _, reason := range reasons {
		st := failed(reason, "can't connect to \"x\":\n no\u2028 \xff route")
		// Whatever else is set, a failure has no verdict and no message.
		st.Available, st.Message = true, []byte(`{"stale":true}`)
		got := statusOf(t, identity(), st)
		want := `{"poller_id":"p","agent_id":"a","partition":"default","service_type":"port","service_name":"ssh",` +
			`"data":{"error":"can't connect to \"x\":\n no\u2028 \ufffd route","reason":"` + string(reason) + `"}}`
		wantEqual(t, string(reason), want, string(got.GetMessage()))
		if got.GetAvailable() {
			t.Errorf("%s: available=true without a verdict", reason)
		}
		if got.GetResponseTime() != 95382 || got.GetSource() != "getStatus" {
			t.Errorf("%s: response_time %d, source %q", reason, got.GetResponseTime(), got.GetSource())
		}
	}
}

func TestNamesAreEscaped(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		`a"b`, `back\slash`, "läuft", "日本", "🙂", "tab\there", "nul\x00", "del\x7f", "line\nbreak",
		"\u2028", "<&>", `","data":{}}`, "", " ",
	} {
		id := &Identity{PollerID: "p" + name, Partition: "d" + name, SourceIP: "10.0.0.1", MaxMessage: 1 << 20, MaxReport: 1 << 24}
		got := statusOf(t, id, answered("a"+name, "n"+name, "t"+name, `{"x":1}`))
		var envelope struct {
			PollerID    string          `json:"poller_id"`
			AgentID     string          `json:"agent_id"`
			Partition   string          `json:"partition"`
			ServiceType string          `json:"service_type"`
			ServiceName string          `json:"service_name"`
			Data        json.RawMessage `json:"data"`
		}
		if err := json.Unmarshal(got.GetMessage(), &envelope); err != nil {
			t.Errorf("%q: %v in %s", name, err, got.GetMessage())
			continue
		}
		want := envelope
		want.PollerID, want.AgentID, want.Partition = "p"+name, "a"+name, "d"+name
		want.ServiceType, want.ServiceName, want.Data = "t"+name, "n"+name, json.RawMessage(`{"x":1}`)
		wantEqual(t, fmt.Sprintf("envelope of %q", name), want, envelope)
		if got.GetAgentId() != "a"+name || got.GetServiceName() != "n"+name || got.GetServiceType() != "t"+name {
			t.Errorf("the names of the status itself are escaped: %v", got)
		}
	}
}

// TestTooLarge: an answer that makes a report of more than MaxReport bytes is not cut, but said
// to be too large, and what says so fits.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	for _, bare := range []bool{false, true} {
		for _, at := range []time.Time{{}, time.Unix(0, 0), time.Unix(1<<31, 0), time.Unix(1<<62, 0)} {
			t.Run(fmt.Sprintf("bare %v at %d", bare, at.Unix()), func(t *testing.T) {
				t.Parallel()
				id := identity()
				id.Bare, id.MaxMessage, id.MaxReport = bare, 2000, 2000
				whole, refused := 0, 0
				for n := 1500; n <= 2000; n++ {
					reports, err := id.Reports(at, []check.Status{answered("a", "big", "x", strings.Repeat("x", n))})
					if err != nil || len(reports) != 1 {
						t.Fatalf("%d bytes: %d reports, %v", n, len(reports), err)
					}
					if len(reports[0].Body) > id.MaxReport {
						t.Fatalf("an answer of %d bytes makes a report of %d bytes, above %d", n, len(reports[0].Body), id.MaxReport)
					}
					st := unmarshal(t, reports[0].Body).GetServices()[0]
					if st.GetAvailable() {
						whole++
						continue
					}
					refused++
					for _, want := range []string{`"reason":"too_large"`, fmt.Sprintf("answer of %d bytes", n), "above the 2000 that can be kept"} {
						if !strings.Contains(string(st.GetMessage()), want) {
							t.Fatalf("the message does not say %s: %s", want, st.GetMessage())
						}
					}
				}
				if whole < 50 || refused < 50 {
					t.Errorf("%d whole and %d refused: the limit is not where it should be", whole, refused)
				}
			})
		}
	}
}

// TestStatusIsComplete fails when a field of the contract's is forgotten.
func TestStatusIsComplete(t *testing.T) {
	t.Parallel()
	m := statusOf(t, identity(), answered("a", "ssh", "port", "{}")).ProtoReflect()
	for i := range m.Descriptor().Fields().Len() {
		if field := m.Descriptor().Fields().Get(i); !m.Has(field) {
			t.Errorf("%s is not set", field.Name())
		}
	}
}

func TestStatusLeavesItsArgumentAlone(t *testing.T) {
	t.Parallel()
	message := make([]byte, 0, 1000)
	message = append(message, ` {"a":1} `...)
	st := answered("a", "ssh", "port", "")
	st.Message = message
	id := identity()
	first := statusOf(t, id, st).GetMessage()
	want := string(first)
	first[0], first[len(first)-1] = 'X', 'X'
	if string(message) != ` {"a":1} ` || string(message[:20][9:]) != strings.Repeat("\x00", 11) {
		t.Errorf("the message of the status has changed: %q", message[:20])
	}
	if again := statusOf(t, id, st).GetMessage(); string(again) != want {
		t.Errorf("the second time: %s, the first: %s", again, want)
	}
}

func unmarshal(t failer, body []byte) *monitoring.PollerStatusRequest {
	t.Helper()
	r := new(monitoring.PollerStatusRequest)
	if err := proto.Unmarshal(body, r); err != nil {
		t.Fatalf("a report can't be read: %v", err)
	}
	return r
}
