package observe_test

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/serviceradar/poller/internal/observe"
)

func TestVisible(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                `` + "",
		`{"a": "ü 漢 ñ é", "b": "\\"}`:     `{"a": "ü 漢 ñ é", "b": "\\"}`,
		"a\u00a0b":                        "a\u00a0b",
		"\x1b[2J\x1b]0;title\a":           `\x1b[2J\x1b]0;title\a`,
		"\x00\b\v\f\x7f":                  `\x00\b\v\f\x7f`,
		"\u202etxt.exe\u2066\u200b\ufeff": `\u202etxt.exe\u2066\u200b\ufeff`,
		"\u009b31m\u2028":                 `\u009b31m\u2028`,
		"\xff\xc3":                        `\xff\xc3`,
		"\ufffd":                          "\ufffd",
		"a\nb\tc\r":                       `a\nb\tc\r`,
	} {
		if got := observe.Visible(text); got != want {
			t.Errorf("%q is shown as %s, want %s", text, got, want)
		}
	}
	for text, want := range map[string]string{
		"":                       "",
		"one line":               "one line",
		"{\r\n\t\"a\": 1\r\n}\n": "{\n>>\t\"a\": 1\n>>}",
		"real\rfake\x1b[A":       `real\rfake\x1b[A`,
		"ok\nto core   fake":     "ok\n>>to core   fake",
	} {
		if got := observe.VisibleLines(text, ">>"); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
}

func FuzzVisible(f *testing.F) {
	f.Add("\x1b[2J\u202e\xff\r\n\t ü")
	f.Fuzz(func(t *testing.T, text string) {
		for _, r := range observe.VisibleLines(text, "  ") {
			if r != '\n' && r != '\t' && !strconv.IsGraphic(r) {
				t.Errorf("%q is shown with %q", text, r)
			}
		}
		if strings.ContainsAny(observe.Visible(text), "\n\t\r\x1b") {
			t.Errorf("%q is shown as %q", text, observe.Visible(text))
		}
	})
}

func TestVisibleJSON(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                   "",
		"{\n \"a\": [1e40, \"ü 漢\"]\n}\n":    "{\n \"a\": [1e40, \"ü 漢\"]\n}\n",
		"[\"\u202etxt\", \"\u009b31m\x7f\"]": `["\u202etxt", "\u009b31m\u007f"]`,
		"\"\U000e0001\"":                     `"\udb40\udc01"`,
		"\"\xff\"":                           `"\ufffd"`,
	} {
		got := observe.VisibleJSON([]byte(text))
		if string(got) != want {
			t.Errorf("%q is shown as %s, want %s", text, got, want)
		}
		var before, after any
		if json.Unmarshal([]byte(text), &before) == nil && (json.Unmarshal(got, &after) != nil || !reflect.DeepEqual(before, after)) {
			t.Errorf("%q means something else: %s", text, got)
		}
	}
}
