package daemon_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/sim"
)

// verify asserts what must hold whatever happened that day.
func (d *day) verify(t *testing.T) {
	t.Helper()
	if len(d.kills) == 0 {
		d.complain(t, "no actor was killed")
	}
	cycles := d.cycles(t)
	for _, a := range d.agents {
		d.verifyBreaker(t, a, cycles)
		spans := d.script.Spans(a.name, d.length)
		for _, c := range a.checks {
			if c.results {
				d.verifyResults(t, a, c, cycles, spans)
			} else {
				d.verifyStatuses(t, a, c, cycles, spans)
			}
		}
	}
}

// complain fails the test, with not more than a page of words.
func (d *day) complain(t *testing.T, format string, args ...any) {
	t.Helper()
	if d.complaints++; d.complaints <= 30 {
		t.Errorf(format, args...)
	}
}

// cycles returns the statuses of each cycle, by agent/check. It asserts that there is one report for each
// cycle, in order; it may come in parts, and twice, one after the other, with the same id.
func (d *day) cycles(t *testing.T) []map[string]dayStatus {
	t.Helper()
	var all []map[string]dayStatus
	last := dayReport{}
	for _, r := range d.reports {
		if r.id == last.id {
			if d.doubled++; !d.answerLost(r.at) {
				d.complain(t, "report %s came again at %v, and nobody lost core's answer", r.id, r.at)
			}
			continue
		}
		if wholeID(r.id) != wholeID(last.id) {
			all = append(all, make(map[string]dayStatus))
		}
		cycle := len(all) - 1
		if want := d.begun.Unix() + int64(cycle)*int64(dayInterval/time.Second); r.timestamp != want {
			d.complain(t, "report %s has the time of cycle %v; it is in the place of cycle %d",
				r.id, float64(r.timestamp-d.begun.Unix())/dayInterval.Seconds(), cycle)
		}
		for _, s := range r.statuses {
			key := s.agent + "/" + s.check
			// A reporter that is killed between the parts of a report begins it again.
			if _, twice := all[cycle][key]; twice && !d.answerLost(r.at) {
				d.complain(t, "cycle %d has %s twice", cycle, key)
			}
			all[cycle][key] = s
		}
		last = r
	}
	if want := int(d.length / dayInterval); len(all) != want {
		d.complain(t, "core has %d cycles, want %d", len(all), want)
	}
	return all
}

// answerLost tells whether core's answer to a report that came again at a time may have been lost: by a
// fault of core that began or ended since, or because who waited for it was killed.
func (d *day) answerLost(at time.Duration) bool {
	const since = 30 * time.Second // longer than a delivery and the pause after it take
	for _, s := range d.script.Spans("core", d.length) {
		loses := slices.Contains([]sim.Kind{sim.KindFrozen, sim.KindSilent, sim.KindReset, sim.KindDown}, s.Fault.Kind)
		if loses && s.From <= at && at-since <= s.To {
			return true
		}
	}
	return slices.ContainsFunc(d.kills, func(k dayKill) bool {
		return k.actor == "reporter" && k.at <= at && at-since <= k.at
	})
}

// wholeID returns the id of the report that a part belongs to.
func wholeID(id string) string {
	whole, _, _ := strings.Cut(id, ".")
	return whole
}

func (d *day) verifyStatuses(t *testing.T, a dayAgent, c dayCheck, cycles []map[string]dayStatus, spans []sim.Span) {
	t.Helper()
	for k := range cycles {
		s, there := cycles[k][a.name+"/"+c.name]
		if due := int64(k)%c.every == 0; there != due {
			d.complain(t, "cycle %d: %s/%s is due: %v, has a status: %v", k, a.name, c.name, due, there)
			continue
		}
		if !there {
			continue
		}
		begin, killed := time.Duration(k)*dayInterval, d.killed(k, a.name)
		if want, known := wanted(spans, begin); known && !want.allows(s) && (!killed || s.reason != "no_answer") {
			d.complain(t, "cycle %d (%v): %s/%s is %s, want %s", k, begin, a.name, c.name, s, want)
		}
		if !killed {
			d.verifyOpen(t, a, k, s, cycles)
		}
	}
}

func (s dayStatus) String() string {
	if s.reason != "" {
		return s.reason
	}
	return fmt.Sprintf("available=%v", s.available)
}

// killed tells whether an actor was killed that may have cost an agent's runs of a cycle their answers.
func (d *day) killed(cycle int, agent string) bool {
	return slices.ContainsFunc(d.kills, func(k dayKill) bool {
		at := int(k.at / dayInterval)
		return (k.actor == agent || k.actor == "poller") && (at == cycle || at == cycle-1)
	})
}

// expectation is what a status of a host with a fault has to be.
type expectation struct {
	available bool
	reasons   []string
}

func (e expectation) allows(s dayStatus) bool {
	if s.available != e.available {
		return false
	}
	return s.reason == "" && len(e.reasons) == 0 || slices.Contains(e.reasons, s.reason)
}

func (e expectation) String() string { return fmt.Sprintf("available=%v %v", e.available, e.reasons) }

// ofStatus is what statuses come to while a fault has been there for a while.
var ofStatus = map[sim.Kind][]string{
	sim.KindDown:    {"unreachable", "circuit_open"},
	sim.KindFrozen:  {"timeout", "unreachable", "circuit_open"},
	sim.KindSilent:  {"timeout", "unreachable", "circuit_open"},
	sim.KindGarbage: {"bad_answer", "unreachable", "circuit_open"}, // over a connection that there was, over a new one
	sim.KindHTTP1:   {"bad_answer", "unreachable", "circuit_open"},
	sim.KindReset:   {"unreachable", "circuit_open"},
	sim.KindHang:    {"timeout"}, // it answers for its health, and so is asked again each time
	sim.KindHangAll: {"timeout", "circuit_open"},
	sim.KindHuge:    {"too_large"},
}

// wanted returns what a status has to be whose run begins at a time; false if that is not certain
// because the fault begins, ends, or comes and goes about then.
func wanted(spans []sim.Span, begin time.Duration) (expectation, bool) {
	const started = time.Second // by which the run has started
	i := slices.IndexFunc(spans, func(s sim.Span) bool { return begin < s.To })
	s := spans[i]
	if s.Fault.Good > 0 || begin-s.From < daySettled && i > 0 || begin+started+dayTimeout >= s.To {
		return expectation{}, false
	}
	f := s.Fault
	switch f.Kind {
	case sim.KindSlow:
		if f.For > dayTimeout {
			return expectation{reasons: []string{"timeout"}}, true
		}
	case sim.KindError:
		if f.Code.String() == "PermissionDenied" {
			return expectation{reasons: []string{"unauthenticated"}}, true
		}
		return expectation{reasons: []string{"bad_answer"}}, true
	default:
		if reasons, bad := ofStatus[f.Kind]; bad {
			return expectation{reasons: reasons}, true
		}
	}
	return expectation{available: true}, true
}

// verifyOpen asserts that nothing is asked while the breaker is open, that it is the reason only then, and
// that it is not closed after too many failures.
func (d *day) verifyOpen(t *testing.T, a dayAgent, cycle int, s dayStatus, cycles []map[string]dayStatus) {
	t.Helper()
	at := d.begun.Add(time.Duration(cycle) * dayInterval)
	state, sure := "closed", true
	for _, m := range d.moves[a.name] {
		if m.at.Before(at) {
			state = m.to
		} else if m.at.Before(at.Add(time.Second)) {
			sure = false // it moves about when the run starts
		}
	}
	if open := s.reason == "circuit_open"; sure && open != (state == "open") {
		d.complain(t, "cycle %d: %s/%s is %s while the breaker is %s", cycle, a.name, s.check, s, state)
	}
	if sure && state == "closed" && len(a.checks) == 1 && cycle > 0 && d.failuresUpTo(cycle-1, a, cycles) >= dayFailures {
		d.complain(t, "cycle %d: the breaker of %s is closed after %d failures in a row", cycle, a.name, dayFailures)
	}
}

// verifyBreaker asserts that a breaker moves as it may.
func (d *day) verifyBreaker(t *testing.T, a dayAgent, cycles []map[string]dayStatus) {
	t.Helper()
	state := "closed"
	for _, m := range d.moves[a.name] {
		if m.from != "" && m.from != state {
			d.complain(t, "the breaker of %s moves from %s, and was %s", a.name, m.from, state)
		}
		if move := m.from + " " + m.to; !slices.Contains([]string{
			" half-open", "closed open", "open half-open", "half-open closed", "half-open open",
		}, move) {
			d.complain(t, "the breaker of %s moves %s", a.name, move)
		}
		if m.from == "closed" && len(a.checks) == 1 && d.failuresUpTo(int(m.at.Sub(d.begun)/dayInterval), a, cycles) < dayFailures {
			d.complain(t, "the breaker of %s opens at %v, before it failed %d times in a row", a.name, m.at.Sub(d.begun), dayFailures)
		}
		state = m.to
	}
	if state == "open" {
		d.complain(t, "the breaker of %s is open at the end, and all has been well for a while", a.name)
	}
}

// failuresUpTo counts the failures in a row, up to a cycle, of an agent with one check.
func (d *day) failuresUpTo(cycle int, a dayAgent, cycles []map[string]dayStatus) int {
	n := 0
	for k := cycle; k >= 0; k-- {
		switch cycles[k][a.name+"/"+a.checks[0].name].reason {
		case "timeout", "unreachable", "bad_answer":
			n++
		default:
			return n
		}
	}
	return n
}

// verifyResults asserts that each run of results has one status, in the cycle in which it was due or the
// next one.
func (d *day) verifyResults(t *testing.T, a dayAgent, c dayCheck, cycles []map[string]dayStatus, spans []sim.Span) {
	t.Helper()
	for k := 0; k < len(cycles); k += int(c.every) {
		n := 0
		for at := k; at < min(k+int(c.every), len(cycles)); at++ {
			if s, there := cycles[at][a.name+"/"+c.name]; there {
				n++
				if want, known := wanted(spans, time.Duration(k)*dayInterval); known && want.available && !s.available &&
					!d.killed(k, a.name) && !soundOnlyForStatuses(spans, time.Duration(k)*dayInterval) {
					d.complain(t, "cycle %d: the results of %s/%s are %s, want them available", at, a.name, c.name, s)
				}
				if at > k+1 {
					d.complain(t, "cycle %d: the results of %s/%s come late: %s", at, a.name, c.name, s)
				}
			}
		}
		if n != 1 && k+1 < len(cycles) {
			d.complain(t, "cycle %d: the results of %s/%s came %d times", k, a.name, c.name, n)
		}
	}
}

// soundOnlyForStatuses tells of a time whether the fault then is none to statuses alone.
func soundOnlyForStatuses(spans []sim.Span, at time.Duration) bool {
	i := slices.IndexFunc(spans, func(s sim.Span) bool { return at < s.To })
	return slices.Contains([]sim.Kind{sim.KindBadJSON, sim.KindEarly}, spans[i].Fault.Kind)
}

// tally counts the statuses by what they came to.
func (d *day) tally() string {
	counts := make(map[string]int)
	for _, r := range d.reports {
		for _, s := range r.statuses {
			counts[s.String()]++
		}
	}
	var list []string
	for what, n := range counts {
		list = append(list, fmt.Sprint(what, " ", n))
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}
