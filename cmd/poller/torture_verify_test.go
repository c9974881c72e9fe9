//go:build torture && linux

package main

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/internal/spool"
)

const (
	// processing is how long after it was sent core may take a report whose sender is dead, or whose connection is cut.
	processing = time.Second
	// mayHaveNoVerdict is how many runs in a hundred may have none, because the machine was too slow for them.
	mayHaveNoVerdict = 20
)

// atCore is a report at core.
type atCore struct {
	sim.Delivery
	boot, number uint64
}

// tally is what is counted.
type tally struct {
	t        *testing.T
	mistakes int

	taken, missing, early, torn, most  int
	reports, afterKill, afterCut       int
	statuses, noVerdict, news, repeats int
	reasons                            map[string]int
}

// complain is for what may come by the thousand.
func (y *tally) complain(format string, args ...any) {
	y.t.Helper()
	if y.mistakes++; y.mistakes <= 20 {
		y.t.Errorf(format, args...)
	}
}

func (tt *torture) verify() {
	tt.t.Helper()
	y := &tally{t: tt.t, reasons: make(map[string]int)}
	all := tt.reports(y)
	first := tt.verifyOrder(y, all)
	tt.verifyLives(y, first, all)
	verifyNumbers(y, first)
	verifyStatuses(y, first)
	tt.verifyNews(y, first)
	for _, v := range tt.core.Violations() {
		y.complain("violation: %s", v)
	}
	if n := len(tt.core.Dropped()); n > 0 {
		y.complain("core dropped %d reports of a poller that it did not know", n)
	}
	left := tt.verifySpool(y)
	if y.mistakes > 20 {
		tt.t.Errorf("%d mistakes in all", y.mistakes)
	}
	tt.t.Logf(`%v, -seed=%d
kills       %d, %d of them before the poller had said that it was started; %d times a second poller was refused the directory
core        away for %.0f %% of the time, in %d calls or so
taken       %d reports, by the log up to each kill; up to %d were kept at a time
at core     %d reports, %d of the taken are missing
came twice  %d: %d after a kill, %d because core's answer was cut off
statuses    %d, %d of them without a verdict: %v
results     asked for %d times, %d news, %d of them came again, the others once
spool       %d times a kill left a record cut short; in the end no reports, and the files %s`,
		time.Since(tt.began).Round(time.Second), tt.seed, len(tt.lives)-1, y.early, tt.refused,
		100*tt.outages.away.Seconds()/tt.outages.ran.Seconds(), tt.core.Stats().Calls, y.taken, y.most, y.reports, y.missing,
		y.afterKill+y.afterCut, y.afterKill, y.afterCut, y.statuses, y.noVerdict, y.reasons, len(tt.source.from), y.news, y.repeats, y.torn, left)
}

// reports are all, in the order in which they came.
func (tt *torture) reports(y *tally) []atCore {
	var all []atCore
	for _, d := range tt.core.Deliveries() {
		if d.Registration() {
			continue
		}
		a := atCore{Delivery: d}
		parts := strings.Split(d.ID, "/")
		if len(parts) == 3 && parts[0] == "p" {
			boot, err1 := strconv.ParseUint(parts[1], 36, 64)
			number, err2 := strconv.ParseUint(parts[2], 10, 64)
			if a.boot, a.number = boot, number; err1 == nil && err2 == nil {
				all = append(all, a)
				continue
			}
		}
		y.complain("core has a report with the id %q", d.ID)
	}
	return all
}

// verifyOrder wants reports in order. One that came may only come again while none has come after it, and only
// if something kept core's answer from the poller: a kill or a cut, each of which can do that to one report. It
// returns the first arrivals.
func (tt *torture) verifyOrder(y *tally, all []atCore) []atCore {
	var kills, cuts moments
	for _, l := range tt.lives[:len(tt.lives)-1] {
		kills = append(kills, l.killed)
	}
	cuts = tt.outages.cuts
	var first []atCore
	for i, a := range all {
		if i == 0 {
			first = append(first, a)
			continue
		}
		before := all[i-1]
		switch c := cmp.Or(cmp.Compare(a.boot, before.boot), cmp.Compare(a.number, before.number)); {
		case c > 0:
			first = append(first, a)
		case c < 0:
			y.complain("report %s came after %s", a.ID, before.ID)
		case kills.use(before.At, a.At):
			y.afterKill++
		case cuts.use(before.At.Add(-processing), a.At):
			y.afterCut++
		case kills.use(before.At.Add(-processing), a.At):
			y.afterKill++
		default:
			y.complain("report %s came twice, at %v and %v, without any reason", a.ID, before.At, a.At)
		}
	}
	y.reports = len(first)
	return first
}

// moments are in order, and each may be used once.
type moments []time.Time

// use uses the earliest between two times; false if there is none.
func (m *moments) use(from, to time.Time) bool {
	i, _ := slices.BinarySearchFunc(*m, from, time.Time.Compare)
	if i == len(*m) || (*m)[i].After(to) {
		return false
	}
	*m = slices.Delete(*m, i, i+1)
	return true
}

// verifyLives wants what each process said to be true, each to have a boot number of its own, and nothing in its log that
// there must not be. What it said to be delivered must not come after its end.
func (tt *torture) verifyLives(y *tally, first, all []atCore) {
	came := make(map[string]bool)
	for _, a := range first {
		came[a.ID] = true
	}
	last := make(map[string]time.Time)
	for _, a := range all {
		last[a.ID] = a.At
	}
	boots := make(map[string]int) // in which life
	for i, l := range tt.lives {
		for _, id := range l.taken {
			if y.taken++; !came[id] {
				y.missing++
				y.complain("report %s was taken in life %d, and core does not have it", id, i+1)
			}
			boot := id[:strings.LastIndexByte(id, '/')]
			if in, known := boots[boot]; known && in != i {
				y.complain("lives %d and %d have the same boot number: %s", in+1, i+1, id)
			}
			boots[boot] = i
		}
		for _, id := range l.delivered {
			if last[id].After(l.ended) {
				y.complain("report %s came again after the end of life %d, which knew that core had it", id, i+1)
			}
		}
		for _, line := range l.wrong {
			y.complain("life %d has the line %s", i+1, line)
		}
		if !l.started {
			y.early++
		}
		y.most = max(y.most, l.most)
		if y.torn += l.torn; l.torn > 1 {
			y.complain("life %d found %d files that are cut short: a process writes one at a time", i+1, l.torn)
		}
	}
}

// verifyNumbers wants those of each boot to be without gaps: none was lost that no log tells of.
func verifyNumbers(y *tally, first []atCore) {
	for i, a := range first {
		want := uint64(1)
		if i > 0 && first[i-1].boot == a.boot {
			want = first[i-1].number + 1
		}
		if a.number != want {
			y.complain("report %s came where number %d of its boot was due", a.ID, want)
		}
	}
}

// verifyStatuses wants each report to have one status of each check, and none that was there before. Only the last report,
// in whose cycle the poller was stopped, may lack some.
func verifyStatuses(y *tally, first []atCore) {
	asked := make(map[checkOf]int)
	for i, a := range first {
		seen := make(map[checkOf]bool)
		for _, s := range a.Services {
			k := checkOf{s.GetAgentId(), s.GetServiceName()}
			answer, err := readAnswer(s)
			if err != nil {
				y.complain("report %s: %v", a.ID, err)
			}
			if y.statuses++; answer.Reason != "" && !s.GetAvailable() {
				y.noVerdict++
				y.reasons[answer.Reason]++
			}
			if k == (checkOf{victim(victims - 1), newsCheck}) { // it is there if there is news, or a failure to get them
				continue
			}
			if seen[k] {
				y.complain("report %s has two statuses of %v", a.ID, k)
			}
			if seen[k] = true; answer.Reason != "" && !s.GetAvailable() {
				continue
			}
			if !s.GetAvailable() || answer.Asked <= asked[k] {
				y.complain("report %s has answer %d of %v after answer %d: %s", a.ID, answer.Asked, k, asked[k], s.GetMessage())
			}
			asked[k] = answer.Asked
		}
		if n := len(seen); n > victims*checksOf || n < victims*checksOf && i < len(first)-1 {
			y.complain("report %s has %d statuses", a.ID, n)
		}
		for k := range seen {
			if !isVictims(k) {
				y.complain("report %s has a status of %v, which there is not", a.ID, k)
			}
		}
	}
	if y.noVerdict*100 > y.statuses*mayHaveNoVerdict {
		y.complain("%d of %d statuses are without a verdict, which a slow machine can't explain", y.noVerdict, y.statuses)
	}
}

func isVictims(k checkOf) bool {
	agent, err1 := strconv.Atoi(strings.TrimPrefix(k.agent, "a"))
	check, err2 := strconv.Atoi(strings.TrimPrefix(k.check, "c"))
	return err1 == nil && err2 == nil && agent < victims && check < checksOf && k.agent == victim(agent)
}

// verifyNews wants results to have come one after the other: those that begin after what core has were skipped. In the
// end core has all that was ever given as known.
func (tt *torture) verifyNews(y *tally, first []atCore) {
	for _, a := range first {
		for _, s := range a.Services {
			answer, err := readAnswer(s)
			if s.GetServiceName() != newsCheck || err != nil || answer.Reason != "" {
				continue
			}
			if answer.From > y.news {
				y.complain("report %s has the results after %d, and those after %d are missing", a.ID, answer.From, y.news)
			}
			y.repeats += max(y.news-answer.From, 0)
			y.news = max(y.news, answer.To)
		}
	}
	if most := slices.Max(append(tt.source.from, 0)); most > y.news {
		y.complain("results were asked for from %d on, and core has them up to %d", most, y.news)
	}
	if y.news == 0 {
		y.complain("core has no results")
	}
	if y.repeats > 0 { // where they stand is kept with the report that has them
		y.complain("%d results came again in other reports", y.repeats)
	}
}

// verifySpool wants nothing to be left in the spool, and returns the files that there are.
func (tt *torture) verifySpool(y *tally) string {
	if err := spool.Look(tt.spoolDirectory(), func(e spool.Entry) error {
		y.complain("the spool has %s, %s: %s", e.ID, e.Kind, e.Reason)
		return nil
	}); err != nil {
		y.complain("%v", err)
	}
	files, err := os.ReadDir(tt.spoolDirectory())
	if err != nil {
		y.complain("%v", err)
	}
	var names []string
	segments := 0
	for _, f := range files {
		names = append(names, f.Name())
		switch filepath.Ext(f.Name()) {
		case ".seg":
			segments++
		default:
			if !slices.Contains([]string{"lock", "marks", "reserve"}, f.Name()) {
				y.complain("the spool has a file %s", f.Name())
			}
		}
	}
	if segments > 1 {
		y.complain("the spool has %d segments without reports", segments)
	}
	return strings.Join(names, ", ")
}
