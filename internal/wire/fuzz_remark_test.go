package wire

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/check"
)

// FuzzRemark: whatever a checker answers, what the poller has to say of it goes along, in JSON, and changes nothing of what
// the checker said; and a report with it has the size that it was thought to have.
func FuzzRemark(f *testing.F) {
	for _, message := range []string{
		``, ` `, `{}`, ` { } `, `{"a":1}`, ` {"a": [1.0] } `, `[1,2]`, `null`, `"x"`, `1e400`, `text`, `{"a":`, `{"a":1},"b":2`, "\xff", `{"a":1}}`,
	} {
		f.Add([]byte(message), uint8(2), "disk is replaced", "", false, false)
		f.Add([]byte(message), uint8(0), "\"\n\xff", "", false, true)
		f.Add([]byte(message), uint8(99), "", "", true, true)
		f.Add([]byte(message), uint8(1), "moves", "data.x is \"\xff\"", true, false)
		f.Add([]byte(message), uint8(0), "", "data.x < 3 does not hold", false, true)
		f.Add([]byte(message), uint8(0), "", "", true, false)
		f.Add([]byte(message), uint8(0), "", "", true, true)
	}
	f.Fuzz(func(t *testing.T, message []byte, confirming uint8, silenced, unmet string, minority, bare bool) {
		if len(message) > 5000 {
			t.Skip("beyond what JSON parsers nest")
		}
		id := identity()
		id.Bare = bare
		st := answered("a", "ssh", "port", string(message))
		plain := statusOf(t, id, st).GetMessage()
		st.Fail(unmet)
		if confirming > 0 {
			st.Available, st.Confirming = false, confirming
		}
		st.Silenced, st.Minority = silenced, minority
		reports, err := id.Reports(time.Unix(1000, 0), []check.Status{st, st})
		if err != nil {
			t.Fatal(err)
		}
		for _, service := range unmarshal(t, reports[0].Body).GetServices() {
			if service.GetAvailable() == (unmet != "" && confirming == 0) {
				t.Fatalf("core is told available=%v", service.GetAvailable())
			}
			got := service.GetMessage()
			if confirming == 0 && silenced == "" && unmet == "" && !minority {
				if !bytes.Equal(got, plain) {
					t.Fatalf("nothing to remark, and %q becomes %q", plain, got)
				}
				continue
			}
			var keys map[string]json.RawMessage
			if err := json.Unmarshal(got, &keys); err != nil {
				t.Fatalf("%q becomes %q: %v", message, got, err)
			}
			wantRemarks(t, keys, confirming, silenced, unmet)
			if minority && string(keys["minority"]) != "true" {
				t.Fatalf("minority %q, want true", keys["minority"])
			}
			said := bytes.TrimRight(bytes.TrimSuffix(trim(plain), []byte("}")), " \t\r\n")
			switch object := json.Valid(plain) && trim(plain)[0] == '{'; {
			case object && !bytes.HasPrefix(got, said):
				t.Fatalf("%q becomes %q", plain, got)
			case !object && json.Valid(plain) && !bytes.Equal(keys["message"], trim(plain)):
				t.Fatalf("%q becomes %q", plain, got)
			case !object && !json.Valid(plain) && len(trim(plain)) > 0:
				wantText(t, "message", keys["message"], string(trim(plain)))
			}
		}
	})
}

func wantRemarks(t *testing.T, keys map[string]json.RawMessage, confirming uint8, silenced, unmet string) {
	t.Helper()
	var n uint8
	if confirming > 0 {
		if err := json.Unmarshal(keys["confirming"], &n); err != nil || n != confirming {
			t.Fatalf("confirming %q, want %d", keys["confirming"], confirming)
		}
	}
	if silenced != "" {
		wantText(t, "silenced", keys["silenced"], silenced)
	}
	if unmet != "" {
		wantText(t, "error", keys["error"], unmet)
		wantText(t, "reason", keys["reason"], string(check.Assertion))
	}
}

// An answer that can't be kept is told as any other status is.
func TestRemarkOnTooLarge(t *testing.T) {
	t.Parallel()
	id := identity()
	id.MaxMessage, id.MaxReport = 1000, 2000
	st := answered("a", "ssh", "port", `{"a":"`+string(bytes.Repeat([]byte("x"), 3000))+`"}`)
	st.Available, st.Confirming, st.Silenced, st.Minority = false, 1, "moves", true
	got := statusOf(t, id, st)
	if message := string(got.GetMessage()); !got.GetAvailable() || !bytes.HasSuffix(got.GetMessage(), []byte(`"reason":"too_large"},"confirming":1,"silenced":"moves","minority":true}`)) {
		t.Errorf("available %v, %s", got.GetAvailable(), message)
	}
}
