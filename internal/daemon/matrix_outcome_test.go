package daemon_test

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/proto/monitoring"
)

// outcome is what one run came to: a reason and its detail, or ok or unavailable, which are verdicts.
type outcome struct{ reason, detail string }

func (o outcome) String() string { return o.reason + " " + o.detail }

var detailIn = regexp.MustCompile(`"error":"((?:[^"\\]|\\.)*)"`)

func outcomeOf(s *monitoring.ServiceStatus) outcome {
	o := outcome{reason: reasonIn(s.GetMessage())}
	switch {
	case o.reason == "" && s.GetAvailable():
		return outcome{reason: "ok"}
	case o.reason == "":
		return outcome{reason: "unavailable"}
	}
	if detail := detailIn.FindSubmatch(s.GetMessage()); detail != nil {
		o.detail = string(detail[1])
	}
	return o
}

// outcomes returns what the victim's runs came to, in order, and asserts that core has each cycle
// once, in order, with one status of each check but the stream, whose results come when they end; and
// that the bystanders were asked in time and have verdicts.
func (c *cell) outcomes() (status, stream []outcome) {
	c.t.Helper()
	type key struct {
		at  int64
		who string
	}
	seen := make(map[key]int)
	var times []int64
	for _, d := range c.reports() {
		if len(times) == 0 || times[len(times)-1] != d.Timestamp {
			times = append(times, d.Timestamp)
		}
		for _, s := range d.Services {
			who := s.GetAgentId() + "/" + s.GetServiceName()
			seen[key{d.Timestamp, who}]++
			switch o := outcomeOf(s); {
			case who == "victim/status":
				status = append(status, o)
			case who == "victim/stream":
				stream = append(stream, o)
			case o.reason != "ok":
				c.t.Errorf("the cycle at %d has %s: %s", d.Timestamp, who, s.GetMessage())
			}
		}
	}
	for i, at := range times {
		if want := times[0] + int64(i); at != want {
			c.t.Errorf("cycle %d has timestamp %d, want %d", i, at, want)
		}
		for _, who := range []string{"victim/status", "bystander000/c0", "bystander001/c0"} {
			if n := seen[key{at, who}]; n != 1 {
				c.t.Errorf("cycle %d has %s %d times", i, who, n)
			}
		}
	}
	c.wantOthersUntouched(len(times))
	return status, stream
}

func (c *cell) wantOthersUntouched(cycles int) {
	c.t.Helper()
	for _, agent := range []string{"bystander000", "bystander001"} {
		times := c.times(agent)
		if len(times) != cycles {
			c.t.Errorf("%s was asked %d times in %d cycles", agent, len(times), cycles)
		}
		for i, at := range times {
			if late := at.Sub(times[0]) - time.Duration(i)*cellInterval; late.Abs() > time.Millisecond {
				c.t.Errorf("%s was asked %v late in cycle %d", agent, late, i)
			}
		}
	}
	for _, closed := range witnessed[actors.CycleClosed](c.world) {
		if closed.Took > cellTimeout+cellInterval/4 {
			c.t.Errorf("cycle %d closed after %v", closed.Cycle, closed.Took)
		}
	}
}

// What a fault does to the victim's breaker.
type opens int

const (
	never  opens = iota
	stays        // it opens, and no probe finds the checker back
	again        // probes do, and then it fails again
	mayTry       // it depends on when the fault comes and goes
)

// wantBreaker asserts that the victim's breaker moved as it may, and the others' not at all.
func (c *cell) wantBreaker(o opens) {
	c.t.Helper()
	state := "closed"
	var moves []string
	for _, e := range witnessed[actors.BreakerChanged](c.world) {
		legal := slices.Contains([]string{"closed open", "open half-open", "half-open open", "half-open closed"}, e.From+" "+e.To)
		if e.Agent != "victim" || e.From != state || !legal {
			c.t.Errorf("%s's breaker went from %s to %s, and was %s", e.Agent, e.From, e.To, state)
		}
		state = e.To
		moves = append(moves, state)
	}
	if c.mended.IsZero() {
		return
	}
	got := strings.Join(moves, " ")
	if want := map[opens]string{
		never: "^$", stays: "^open half-open closed$", again: "^open (half-open open )+half-open closed$", mayTry: "^(.*closed)?$",
	}[o]; !regexp.MustCompile(want).MatchString(got) {
		c.t.Errorf("the breaker went %q, want %s", got, want)
	}
}

// wantUnder asserts what the runs of one check come to that begin or are under way while the fault is
// there: the first is as under says, unless that is nil, and the others as other says, or not made
// because the breaker is open.
func (c *cell) wantUnder(name string, runs []outcome, under, other *regexp.Regexp, o opens) {
	c.t.Helper()
	failures := 0
	for i, got := range runs {
		switch {
		case i == 0 && under != nil:
			if !under.MatchString(got.String()) {
				c.t.Errorf("%s: the run under way came to %q, want %s", name, got, under)
			}
		case got.reason == string(check.CircuitOpen):
			if o == never || failures < 2 { // five in a row, of two checks
				c.t.Errorf("%s: run %d was not made after %d failures", name, i, failures)
			}
		case !other.MatchString(got.String()):
			c.t.Errorf("%s: run %d came to %q, want %s", name, i, got, other)
		case o == stays && failures > 3:
			c.t.Errorf("%s: run %d came to %q, and the breaker should be open", name, i, got)
		}
		if got.reason != "ok" && got.reason != string(check.CircuitOpen) {
			failures++
		}
	}
}

// wantBack asserts that the runs due cellBack or more after the return have verdicts, and returns how
// long after it the first was due since when all have.
func (c *cell) wantBack(name string, runs []outcome) time.Duration {
	c.t.Helper()
	back := time.Duration(0)
	for i, got := range runs {
		after := c.due(c.first + c.lasts + i).Sub(c.mended)
		if got.reason == "ok" {
			continue
		}
		back = after + cellInterval
		if after >= cellBack {
			c.t.Errorf("%s: the run due %v after the return came to %q", name, after, got)
		}
	}
	if want := int(cellBack/cellInterval) + 2; len(runs) != want {
		c.t.Errorf("%s: %d runs were due after the return, want %d", name, len(runs), want)
	}
	return back
}

// reasons are those that runs came to, in the order of their first.
func reasons(outcomes []outcome) string {
	var all []string
	for _, o := range outcomes {
		if !slices.Contains(all, o.reason) {
			all = append(all, o.reason)
		}
	}
	return cmp.Or(strings.Join(all, ", "), "nothing")
}
