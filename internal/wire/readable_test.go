package wire

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/proto/monitoring"
)

func TestReadable(t *testing.T) {
	t.Parallel()
	reports, err := identity().Reports(time.Unix(1_700_000_000, 0), []check.Status{
		answered("a", "web", "http", `{"n": 12345678901234567890.10, "s": "<&>"}`),
		failed(check.Timeout, "took too long"),
	})
	if err != nil || len(reports) != 1 {
		t.Fatal(len(reports), err)
	}
	readable, err := Readable(reports[0].Body)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(readable); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"poller_id": "p"`, `"partition": "default"`, `"source_ip": "10.0.0.1"`, `"kv_store_id": "kv"`, `"timestamp": 1700000000`,
		`"service_name": "web"`, `"service_type": "http"`, `"agent_id": "a"`, `"available": true`, `"available": false`,
		`"response_time": 95382`, `"source": "getStatus"`, `"message_as": "json"`, `"n": 12345678901234567890.10`, `"s": "<&>"`, "took too long",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%s is not in %s", want, &b)
		}
	}
	if n, err := CountStatuses(reports[0].Body); n != 2 || err != nil {
		t.Errorf("%d statuses, %v", n, err)
	}
}

func TestReadableMessages(t *testing.T) {
	t.Parallel()
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for _, tt := range []struct{ message, as, want string }{
		{`{"a":[1e400,-0]}`, "json", `{"a":[1e400,-0]}`},
		{`null`, "json", `null`},
		{deep(9000), "json", deep(9000)},
		{deep(9990), "text", `"` + deep(9990) + `"`},
		{``, "text", `""`},
		{`{"a":`, "text", `"{\"a\":"`},
		{"OK \x1b[2J", "text", `"OK \u001b[2J"`},
		{"\"\xff\"", "base64", `"Iv8i"`},
		{"\xff\x00", "base64", `"/wA="`},
	} {
		body, err := proto.Marshal(&monitoring.PollerStatusRequest{Services: []*monitoring.ServiceStatus{{Message: []byte(tt.message)}}})
		if err != nil {
			t.Fatal(err)
		}
		readable, err := Readable(body)
		if err != nil {
			t.Fatal(err)
		}
		got, err := json.MarshalIndent(map[string]any{"report": readable}, "", "")
		if want := flat([]byte(`"message": ` + tt.want)); err != nil || readable.Services[0].MessageAs != tt.as || !strings.Contains(flat(got), want) {
			t.Errorf("%.40q is %s: %.300s, %v", tt.message, readable.Services[0].MessageAs, got, err)
		}
	}
}

// flat is a JSON text without white space.
func flat(text []byte) string { return strings.Join(strings.Fields(string(text)), "") }

func TestReadableOfNoReport(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"\x0a\xff", "\x00", "\x0a\x05ab", "\xff\xff\xff"} {
		if r, err := Readable([]byte(body)); err == nil {
			t.Errorf("%q is %+v", body, r)
		}
		if n, err := CountStatuses([]byte(body)); err == nil {
			t.Errorf("%q has %d statuses", body, n)
		}
	}
	if r, err := Readable(nil); err != nil || r.Services == nil {
		t.Errorf("%+v, %v: an empty report is one", r, err)
	}
}
