package daemon_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/serviceradar/poller/internal/sim"
)

// verdicts are what the runs of one check come to under a fault: patterns of a reason and its detail.
type verdicts struct {
	under string // of the run that is under way when it strikes
	old   string // of those over a connection that was there before
	fresh string // of those over a connection that was not
}

// alike are the verdicts under a fault of calls, which spares those that are under way.
func alike(v string) verdicts { return verdicts{under: "^ok ", old: v, fresh: v} }

// expected is a fault, and what the runs and the breaker come to.
type expected struct {
	fault          string
	status, stream verdicts
	breaker        opens
}

var faults = []expected{
	{"down", away, away, stays},
	{gone, vanished, vanished, stays},
	{"frozen", mute, mute, stays},
	{"silent", mute, mute, stays},
	{"garbage", strange, strange, stays},
	{"http1", strange, strange, stays},
	{"reset", cut, cut, stays},
	{"goaway", alike("^ok "), alike("^ok "), never},
	{"goaway 300ms", alike("^ok "), alike("^ok "), never},
	{"hang", alike(noAnswer), alike(noAnswer), again},
	{"hang-all", alike(noAnswer), alike(noAnswer), stays},
	{"slow 200ms", alike("^ok "), alike("^ok "), never},
	{"error Internal", alike("^bad_answer .*GetStatus with error Internal"), alike("^bad_answer .*StreamResults with error Internal"), again},
	// In its own words, which are not those of a connection that is not there.
	{"error Unavailable", alike("^bad_answer .*with error Unavailable"), alike("^bad_answer .*with error Unavailable"), again},
	{"error PermissionDenied", alike("^unauthenticated "), alike("^unauthenticated "), never},
	{"error NotFound", alike("^bad_answer .*with error NotFound"), alike("^not_found "), never},
	// A checker without results is nothing to report.
	{"error Unimplemented", alike("^unimplemented "), alike(unreported), never},
	{"huge 100000", alike("^too_large .*max_message"), alike("^too_large .*max_message"), never},
	{"bad-json", alike("^ok "), alike("^bad_answer .*no JSON"), never},
	{"early", alike("^ok "), alike("^bad_answer .*none of which was said to be the last"), never},
	{"flapping 2.1s 1.7s down", alike("^(ok|unreachable) "), alike("^(ok|unreachable) "), mayTry},
	{"flapping 1.3s 900ms hang", alike("^(ok|timeout) "), alike("^(ok|timeout) "), mayTry},
	{"flapping 700ms 2.9s silent", alike("^(ok|timeout|unreachable) "), alike("^(ok|timeout|unreachable) "), mayTry},
}

const (
	lost       = "^unreachable .*lost or no connection"
	noAnswer   = "^timeout .*but no answer to"
	unreported = "^$"
)

var (
	away = verdicts{lost, "^unreachable .*(can't connect|lost)", "^unreachable .*(can't connect|server preface: EOF)"}
	cut  = verdicts{lost, "^unreachable .*(does not speak gRPC|lost)", "^unreachable .*does not speak gRPC"}
	// Nobody says that it is not there.
	vanished = verdicts{noAnswer, noAnswer, "^unreachable .*(no connection within|says nothing)"}
	mute     = verdicts{noAnswer, noAnswer, "^unreachable .*accepts connections but says nothing"}
	// Nothing is said to who says nothing, as one does who waits for an answer.
	strange = verdicts{noAnswer, "^(bad_answer .*breaks the protocol|unreachable .*(does not speak gRPC|lost))", "^unreachable .*does not speak gRPC"}
)

// moment is when a fault strikes.
type moment struct {
	name   string
	strike func(*cell)
	under  string // the check that has a run under way then
	fresh  bool   // there was no connection before
}

const (
	accepted    = "accepted"
	closingLate = "closing late"
)

var moments = []moment{
	{name: "connecting", fresh: true, strike: func(c *cell) {
		c.strike(c.fault)
		c.begin()
	}},
	// The connection is there, and the process has not said anything over it.
	{name: accepted, fresh: true, strike: func(c *cell) {
		c.strike("frozen")
		c.begin()
		c.strike(c.fault)
	}},
	{name: "idle", strike: (*cell).strikeIdle},
	{name: "in a run", under: "status", strike: func(c *cell) {
		c.begin()
		c.first = 2
		c.at(1, quiet)
		c.until(asking)
		c.strike(c.fault)
	}},
	{name: "in a stream", under: "stream", strike: func(c *cell) {
		c.begin()
		c.first = 2
		c.at(1, quiet)
		c.until(streaming)
		c.strike(c.fault)
	}},
	{name: "closing", strike: func(c *cell) {
		c.strikeIdle()
		c.at(c.first, answerAfter/2)
		c.halt(stopBy)
	}},
	// With the breaker open, or on trial.
	{name: closingLate, strike: func(c *cell) {
		c.strikeIdle()
		c.at(c.first+6, answerAfter/2)
		c.halt(stopBy)
	}},
}

// moments leaves out those that differ in nothing from others.
func (f expected) moments() []moment {
	kind, _, _ := strings.Cut(f.fault, " ")
	return slices.DeleteFunc(slices.Clone(moments), func(m moment) bool {
		ofCalls := slices.Contains([]sim.Kind{sim.KindHang, sim.KindHangAll, sim.KindSlow, sim.KindError, sim.KindHuge, sim.KindBadJSON, sim.KindEarly}, sim.Kind(kind))
		return m.name == accepted && ofCalls || m.name == closingLate && f.breaker == never
	})
}

// TestMatrix has each fault strike at each moment, and looks what the runs come to, what the others
// feel of it, when all is well after the return, and what is left.
func TestMatrix(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	came := make(map[string]result) // what it came to, by fault and moment
	cells := 0
	t.Run("faults", func(t *testing.T) {
		for _, f := range faults {
			for _, m := range f.moments() {
				if cells++; cells%oneIn != 0 {
					continue
				}
				t.Run(f.fault+"/"+m.name, func(t *testing.T) {
					run(t, func(w *world) {
						c := newCell(w, f.fault)
						defer c.victim.Stop()
						m.strike(c)
						if c.stopped < 0 {
							c.recover()
						}
						r := c.want(f, m)
						mu.Lock()
						defer mu.Unlock()
						came[f.fault+m.name] = r
					})
				})
			}
		}
	})
	t.Logf("what the runs came to in %d cells, of %d faults and %d moments:\n%s", len(came), len(faults), len(moments), table(came))
}

// result is what a cell came to.
type result struct {
	status, stream string // reasons, in the order of their first
	back           time.Duration
	stopped        time.Duration
}

// table is for people: a line to each fault, or several if the moments differ.
func table(came map[string]result) string {
	var b strings.Builder
	lines := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprint(lines, "fault\tstrikes\tstatus\tstream\twell after\tstop takes\n")
	for _, f := range faults {
		var order []string
		names, most := make(map[string][]string), make(map[string]result)
		for _, m := range f.moments() {
			r, tried := came[f.fault+m.name]
			if !tried {
				continue
			}
			said := r.status + "\t" + r.stream
			if names[said] == nil {
				order = append(order, said)
			}
			names[said] = append(names[said], m.name)
			most[said] = result{back: max(most[said].back, r.back), stopped: max(most[said].stopped, r.stopped)}
		}
		for _, said := range order {
			_, _ = fmt.Fprintf(lines, "%s\t%s\t%s\t%v\t%v\n", f.fault, strings.Join(names[said], ", "), said, most[said].back, most[said].stopped)
		}
	}
	_ = lines.Flush()
	return b.String()
}

// want asserts all that there is to assert of a cell, and tells what it came to.
func (c *cell) want(f expected, m moment) result {
	c.t.Helper()
	status, stream := c.outcomes()
	c.wantBreaker(f.breaker)
	status, backStatus := c.wantRuns(status, "status", f.status, f.breaker, m)
	stream, backStream := c.wantRuns(stream, "stream", f.stream, f.breaker, m)
	return result{status: reasons(status), stream: reasons(stream), back: max(backStatus, backStream), stopped: c.stopped}
}

// wantRuns asserts what all runs of a check come to. It returns those that the fault was there for, and
// how long after its end all was well.
func (c *cell) wantRuns(runs []outcome, name string, v verdicts, o opens, m moment) (under []outcome, back time.Duration) {
	c.t.Helper()
	if len(runs) < c.first {
		c.t.Fatalf("%s: %d runs, want more than %d", name, len(runs), c.first)
	}
	for i, got := range runs[:c.first] {
		if got.reason != "ok" {
			c.t.Errorf("%s: run %d, before the fault, came to %q", name, i, got)
		}
	}
	under = runs[c.first:]
	if !c.mended.IsZero() {
		after := min(len(under), int(cellBack/cellInterval)+2)
		back = c.wantBack(name, under[len(under)-after:])
		under = under[:len(under)-after]
	}
	begun := c.lasts
	if c.mended.IsZero() {
		begun = len(c.times("bystander000")) - c.first
	}
	first := v.first(name, m)
	switch missing := begun - len(under); {
	case v.old == unreported:
		if want := map[bool]int{true: 1}[first != nil]; len(under) != want {
			c.t.Errorf("%s: %d runs are reported", name, len(under))
		}
	case name == "stream" && c.mended.IsZero() && missing == 1: // under way, and given up
	case missing != 0:
		c.t.Errorf("%s: %d of the %d runs under the fault have no status", name, missing, begun)
	}
	other := v.old
	if m.fresh {
		other = v.fresh
	}
	c.wantUnder(name, under, first, regexp.MustCompile(other), o)
	return under, back
}

// first is what a check's run comes to that was under way, or had been, when the fault struck; nil if
// none was.
func (v verdicts) first(name string, m moment) *regexp.Regexp {
	switch m.under {
	case name:
		return regexp.MustCompile(v.under)
	case "stream":
		return regexp.MustCompile("^ok ") // the status came before
	}
	return nil
}

// TestReturn has a checker return after a short and a long time, between two looks whether it is back and
// between two attempts to connect: the first run due 5 s later has a verdict.
func TestReturn(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	longest := make(map[string]time.Duration)
	t.Run("faults", func(t *testing.T) {
		for _, fault := range []string{"down", gone, "garbage", "hang"} {
			// Until it is noticed; a while; until all pauses are as long as they get, at several points of them.
			for _, lasts := range []int{3, 7, 8, 13, 22, 45, 60, 70, 90, 120} {
				for _, phase := range []time.Duration{150 * time.Millisecond, 650 * time.Millisecond} {
					t.Run(fmt.Sprint(fault, " for ", lasts, " runs and ", phase), func(t *testing.T) {
						run(t, func(w *world) {
							c := newCell(w, fault)
							defer c.victim.Stop()
							c.lasts, c.phase = lasts, phase
							c.strikeIdle()
							c.recover()
							status, stream := c.outcomes()
							back := max(c.wantBack("status", status[c.first+lasts:]), c.wantBack("stream", stream[c.first+lasts:]))
							mu.Lock()
							defer mu.Unlock()
							longest[fault] = max(longest[fault], back)
						})
					})
				}
			}
		}
	})
	t.Logf("well after, at the longest: %v", longest)
}
