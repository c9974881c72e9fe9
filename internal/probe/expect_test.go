package probe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

func TestLookup(t *testing.T) {
	t.Parallel()
	const text = `{"status": "up", "data": {"items": [{"state": "down", "n": 3}, [true, null]], "a.b": {"~/": 1.5}}, "": 7, "end": }`
	for path, want := range map[string]string{
		"status": `"up"`, "data.items.0.state": `"down"`, "data.items.0.n": "3", "data.items.1.1": "null", "data.items.1": "[true, null]",
		"/data/a.b/~0~1": "1.5", "/status": `"up"`, "/": "7",
	} {
		if got, err := lookup([]byte(text), path); err != nil || string(got) != want {
			t.Errorf("%s: %s, %v; want %s", path, got, err, want)
		}
	}
	for path, want := range map[string]error{
		"data.none": errNothingThere, "data.items.2": errNothingThere, "data.items.x": errNothingThere, "data.items.-1": errNothingThere,
		"status.x": errNothingThere, "data.items.1.1.x": errNothingThere, "data.items.1.2": errNothingThere, "data.a.b": errNothingThere,
		"end": nil, "none": nil, "": nil, // it is no JSON there, or up to there
	} {
		if got, err := lookup([]byte(text), path); err == nil || (want != nil && !errors.Is(err, want)) || (want == nil && errors.Is(err, errNothingThere)) {
			t.Errorf("%s: %s, %v; want %v", path, got, err, want)
		}
	}
	if got, err := lookup([]byte(` [1, {"a": "x"}] `), ""); err != nil || string(got) != `[1, {"a": "x"}]` {
		t.Errorf("all of it: %s, %v", got, err)
	}
}

func TestJudgeBody(t *testing.T) {
	t.Parallel()
	const body = `{"status": "up", "count": 3, "big": 12345678901234567890, "who": "hunter2", "list": [1, 2.0]}`
	for options, want := range map[string]unmet{
		`"contains":"up"`:                          {},
		`"not_contains":"down"`:                    {},
		`"matches":"\"count\": \\d,"`:              {},
		`"json":{"status":"up","count":3.0}`:       {},
		`"json":{"big":12345678901234567890}`:      {},
		`"json":{"list":[1.0,2]}`:                  {},
		`"contains":"down"`:                        {"contains", `the body does not contain "down"`, `{"status": "up", `},
		`"not_contains":"3, "`:                     {"not_contains", `the body contains "3, ", which it must not`, `3, "big"`},
		`"matches":"^up"`:                          {"matches", `the body does not match "^up"`, `{"status"`},
		`"json":{"status":"down"}`:                 {"json status", `the body has "up" at "status", not "down"`, `"up"`},
		`"json":{"status":"up","count":"3"}`:       {"json count", `has 3 at "count", not "3"`, "3"},
		`"json":{"big":12345678901234567891}`:      {"json big", `has 12345678901234567890 at "big", not 12345678901234567891`, "12345678901234567890"},
		`"json":{"none":null}`:                     {"json none", `the body has nothing at "none"; it begins with "{`, `{"status": "up", `},
		`"json":{"who":"me"}`:                      {"json who", `has "[hidden]" at "who", not "me"`, `"[hidden]"`},
		`"not_contains":"hunter"`:                  {"not_contains", "which it must not", "hunter"},
		`"contains":"x","json":{"status":"other"}`: {"contains", "", ""},
	} {
		o, err := parseHTTP(`{"target":"http://a/",` + options + `}`)
		if err != nil {
			t.Fatal(err)
		}
		got := o.judgeBody(t.Context(), []byte(body), false, o.hider(Credentials{Password: "hunter2"}))
		if want.option == "" {
			if got != nil {
				t.Errorf("%s: %+v; want nothing unmet", options, got)
			}
			continue
		}
		if got == nil || got.option != want.option || !strings.Contains(got.why, want.why) || !strings.HasPrefix(got.found, want.found) ||
			strings.Contains(got.found+got.why, "hunter2") {
			t.Errorf("%s: %+v; want %+v", options, got, want)
		}
	}
}

func TestJudgeBodyThatIsNoJSON(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		"":                  `it is empty, or ends too soon`,
		"<html>":            `can't be read as JSON as far as "a": byte 0 is not JSON`,
		`{"b": 1`:           "it ends too soon, after 7 bytes",
		`{"b": 1, "b": 2}`:  "an object has a key twice, at byte 9",
		`{"a": {"x": 1`:     "it ends too soon",
		`{"a": {"x": oops}`: "byte 12 is not JSON",
	} {
		got := judgeJSON([]byte(body), "the body", "a", []byte("1"), strings.NewReplacer())
		if got == nil || got.option != "json a" || !strings.Contains(got.why, want) || got.found != body {
			t.Errorf("%s: %+v; want %s", body, got, want)
		}
	}
}

// Such a pattern takes minutes for a MiB, and none of them longer than the check has.
func TestMatchesEndsInTime(t *testing.T) {
	t.Parallel()
	pattern, err := compile(strings.Repeat("(a?){1000}", 10) + "b")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if matches(ctx, pattern, bytes.Repeat([]byte("a"), maxBody)) {
		t.Error("it matches")
	}
	if took := time.Since(began); took < 100*time.Millisecond || took > 10*time.Second {
		t.Errorf("it took %v; want a little more than 100ms", took)
	}
	o, err := parseHTTP(`{"target":"http://a/","matches":"b"}`)
	if err != nil {
		t.Fatal(err)
	}
	if got := o.judgeBody(ctx, []byte("aaa"), false, o.hider(Credentials{})); got == nil || !strings.Contains(got.why, "the check's time ended") {
		t.Errorf("%+v", got)
	}
}

// FuzzLookup compares it with encoding/json, which reads all of a text.
func FuzzLookup(f *testing.F) {
	f.Add(`{"a":[1,{"b":null}]}`, "a.1.b")
	f.Add(`[[[]]]`, "0.0")
	f.Add(`{"a.b":1}`, "/a.b")
	f.Add(`{"a":`, "a")
	f.Fuzz(func(t *testing.T, text, path string) {
		got, err := lookup([]byte(text), path)
		var all any
		if !jsontext.Value(text).IsValid() || json.Unmarshal([]byte(text), &all) != nil || strings.HasPrefix(path, "/") {
			return // it may go wrong behind the value, and encoding/json lets keys pass that come twice
		}
		want, there := all, true
		for step := range strings.SplitSeq(path, ".") {
			if path == "" {
				break
			}
			switch in := want.(type) {
			case map[string]any:
				want, there = in[step]
			case []any:
				index, err := strconv.ParseUint(step, 10, 31)
				if there = err == nil && int(index) < len(in); there {
					want = in[index]
				}
			default:
				there = false
			}
			if !there {
				break
			}
		}
		if there != (err == nil) {
			t.Fatalf("%q in %s: there %v, %v", path, text, there, err)
		}
		var found any
		if err == nil && json.Unmarshal(got, &found) != nil {
			t.Fatalf("%q in %s: %s is not JSON", path, text, got)
		}
		a, _ := json.Marshal(found)
		b, _ := json.Marshal(want)
		if err == nil && !bytes.Equal(a, b) {
			t.Errorf("%q in %s: %s; want %s", path, text, a, b)
		}
	})
}
