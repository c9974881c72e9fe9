package probe

import (
	"strings"
	"testing"
	"time"
)

type options struct {
	Target   string   `json:"target"`
	Contains string   `json:"contains"`
	Within   duration `json:"within"`
	Status   []int    `json:"status"`
	Follow   bool     `json:"follow"`
}

func TestParse(t *testing.T) {
	t.Parallel()
	for details, want := range map[string]options{
		"":                     {},
		" https://a.example/ ": {Target: "https://a.example/"},
		`{"target": " a:1 ", "contains": "x", "within": "1.5s", "status": [200, 204], "follow": true}`: {
			Target: "a:1", Contains: "x", Within: duration(1500 * time.Millisecond), Status: []int{200, 204}, Follow: true,
		},
		"{}\n": {},
	} {
		var got options
		err := parse(details, &got.Target, &got)
		if err != nil || got.Target != want.Target || got.Contains != want.Contains || got.Within != want.Within ||
			len(got.Status) != len(want.Status) || got.Follow != want.Follow {
			t.Errorf("%q: %+v, %v; want %+v", details, got, err, want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	t.Parallel()
	for details, want := range map[string]string{
		`{"target": "hunter2", "wihtin": "1s"}`:  `unknown field "wihtin"`,
		`{"target": "hunter2"`:                   "character 20: the JSON ends too soon",
		`{"target": "hunter2",}`:                 "character 22: invalid character '}'",
		`{"target": "hunter2"} {"target": "b"}`:  "go on after the JSON object",
		`{"target": "hunter2", "within": 5}`:     `5 is no duration: write one in quotes, such as "5s"`,
		`{"target": "hunter2", "within": "5"}`:   `"5" is no duration`,
		`{"target": "hunter2", "within": "-5s"}`: `"-5s" is no duration`,
		`{"target": "hunter2", "status": "200"}`: "status is a string: write a list",
		`{"target": "hunter2", "follow": 1}`:     "follow is a number: write true or false",
		`{"target": 1}`:                          "target is a number: write text in quotes",
	} {
		var got options
		err := parse(details, &got.Target, &got)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v; want %s", details, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"", "a:1", `{"target":"a"}`, `{"within":"1s"}`, `{"status":[1,2]}`, "{}{}", "{"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, details string) {
		var got options
		err := parse(details, &got.Target, &got)
		if err == nil && strings.TrimSpace(got.Target) != got.Target {
			t.Errorf("the target of %q has spaces around it: %q", details, got.Target)
		}
		if err != nil && !strings.HasPrefix(strings.TrimSpace(details), "{") {
			t.Errorf("%q is a target alone: %v", details, err)
		}
	})
}
