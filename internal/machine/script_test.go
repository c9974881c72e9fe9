package machine_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// A script drives one machine: each directive of a file under testdata is an event, and the text
// below it is all that the machine said and what state it is in then. Run the tests with -rewrite
// after a change that is meant, and read the difference.
type script interface {
	do(t *testing.T, d *datadriven.TestData) string
}

func TestScripts(t *testing.T) {
	t.Parallel()
	for dir, begin := range map[string]func() script{
		"schedule": func() script { return new(scheduleScript) },
		"cycle":    func() script { return new(cycleScript) },
		"breaker":  func() script { return new(breakerScript) },
		"restarts": func() script { return new(restartsScript) },
	} {
		t.Run(dir, func(t *testing.T) {
			t.Parallel()
			datadriven.Walk(t, "testdata/"+dir, func(t *testing.T, path string) {
				t.Parallel()
				s := begin()
				datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) (out string) {
					t.Helper()
					if p := panics(func() { out = s.do(t, d) }); p != nil {
						out = fmt.Sprintf("panic: %v", p)
					}
					return out
				})
			})
		})
	}
}

// durationArg returns the argument key; 0 if there is none.
func durationArg(t *testing.T, d *datadriven.TestData, key string) time.Duration {
	t.Helper()
	var s string
	if !d.MaybeScanArgs(t, key, &s) {
		return 0
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		d.Fatalf(t, "%s: %v", key, err)
	}
	return v
}

// at returns the time that the argument key is after start.
func at(t *testing.T, d *datadriven.TestData, key string) time.Time {
	t.Helper()
	return start.Add(durationArg(t, d, key))
}

// since says how long after start a time is.
func since(at time.Time) string {
	if d := at.Sub(start); d >= 0 {
		return "+" + d.String()
	}
	return at.Sub(start).String()
}

// each returns what f returns for each line of a directive's input.
func each(d *datadriven.TestData, f func(words []string) string) string {
	var out strings.Builder
	for line := range strings.Lines(d.Input) {
		if words := strings.Fields(line); len(words) > 0 {
			fmt.Fprintf(&out, "%s: %s\n", strings.Join(words, " "), f(words))
		}
	}
	return out.String()
}
