//go:build hung && linux

package main

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"go.uber.org/goleak"

	"github.com/serviceradar/poller/internal/sim"
)

var cycles = flag.Int("cycles", 12, "how many cycles TestHungCheckersCostNobodyElse takes with each fleet, 4 at least")

const (
	timeout = 5 * time.Second
	// warmUp is how many cycles are not measured: in the first, connections are made and breakers open,
	// in the second the checker that froze is found out.
	warmUp = 2
	// What four hundred hung checkers may cost, in parts of the healthy fleet's cost. Of the CPU it is 1.1 to 1.45: what comes on top
	// is to touch what was left alone for seconds, which costs more where others use the CPU's caches; single cycles differ by a tenth.
	dearestCPU, dearest = 1.6, 1.3
	// latest is by how much more than those of the healthy fleet runs of sound agents may be late, but for
	// one in a hundred.
	latest = 250 * time.Millisecond
	// starved is how late a timer of the test itself may be before the machine is to blame for the poller's
	// starts, too: it takes a timeout for its own fault if the run started later than that.
	starved = 100 * time.Millisecond
)

// TestHungCheckersCostNobodyElse runs the poller as it is shipped twice at the same time, each with 2,000
// agents: with one all are well, with the other 400 are hung, each in one of six ways. At the same time,
// because what the machine has to give differs from one minute to the next by more than what is to be
// shown. The agents have the same names with both, and so the same slots. The pollers' processes hold
// nothing but pollers: core and most checkers live here, and the one that freezes in a process of its own.
func TestHungCheckersCostNobodyElse(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	if *cycles < warmUp+2 {
		t.Fatalf("-cycles=%d is too few: %d are not measured", *cycles, warmUp)
	}
	var healthy, hung measured
	t.Run("fleets", func(t *testing.T) {
		t.Run("healthy", func(t *testing.T) {
			t.Parallel()
			healthy = measure(t, healthyFleet)
		})
		t.Run("hung", func(t *testing.T) {
			t.Parallel()
			hung = measure(t, hungFleet)
		})
	})
	if len(healthy.errors) == 0 || len(hung.errors) == 0 {
		t.Fatal("nothing to compare")
	}
	t.Logf("%d cycles of %v, %d of them measured: %d agents × %d checks\n%s", *cycles, interval, *cycles-warmUp, fleetSize, checksEach, compare(healthy, hung))
	for what, cost := range map[string]struct{ ratio, most float64 }{
		"CPU": {hung.cpu / healthy.cpu, dearestCPU}, "RSS": {hung.rss / healthy.rss, dearest},
		"PSS": {hung.pss / healthy.pss, dearest}, "peak RSS": {hung.peak / healthy.peak, dearest},
	} {
		if cost.ratio > cost.most {
			t.Errorf("%s: %.2f times that of the healthy fleet, above %v", what, cost.ratio, cost.most)
		}
	}
	if with, without := quantile(hung.errors, .99), quantile(healthy.errors, .99); with > without+latest {
		t.Errorf("one in a hundred intervals of sound agents is off by more than %v, with the healthy fleet by %v", with, without)
	}
	if last := quantile(hung.delivered, 1); last > 2*interval {
		t.Errorf("a cycle was at core only %v after its begin", last)
	}
}

// measured is what came of one fleet, from the end of the warm-up to the end.
type measured struct {
	cpu            float64         // ms for 1,000 runs that were due, by the median of the cycles
	rss, pss, peak float64         // MB; the first two by the median of the seconds, the peak since the start
	errors         []time.Duration // |actual − planned interval| of the runs of agents that are well, in order
	delivered      []time.Duration // from the begin of a cycle until core had all of it, in order
	machine        []time.Duration // how late a timer of the test itself was, in order: what the machine does to anybody
}

func measure(t *testing.T, muster func(*testing.T, *roll) fleet) measured {
	t.Helper()
	asked, seen := newRoll(), new(book)
	core := &sim.Core{Discard: true, OnDelivery: seen.deliver}
	server, err := core.Start("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	fleet := muster(t, asked)
	pid, _, stop := startQuietly(t, configFile(t, "%s", fleet.toml(server.Addr())))
	began := asked.wait(t)
	lateness := timers(t)

	var m measured
	var cpu, rss, pss []float64
	before := usage{}
	// Until a moment of the last cycle when all its runs have begun, so that the poller has to finish it.
	last := began.Add(time.Duration(*cycles-1)*interval + quiet)
	for at := quiet % time.Second; !began.Add(at).After(last); at += time.Second {
		<-time.After(time.Until(began.Add(at)))
		now := usageOf(t, pid)
		isQuiet := at%interval == quiet
		if isQuiet && at < interval {
			fleet.freeze()
		}
		if at < (warmUp-1)*interval+quiet {
			continue
		}
		if isQuiet && before.cpu > 0 {
			cpu = append(cpu, float64((now.cpu-before.cpu).Microseconds())/(fleetSize*checksEach))
		}
		if isQuiet {
			before = now
		}
		rss, pss, m.peak = append(rss, now.rss), append(pss, now.pss), now.peak
	}
	stop()

	m.machine = lateness()
	m.cpu, m.rss, m.pss = middle(cpu), middle(rss), middle(pss)
	late := quantile(m.machine, 1)
	m.delivered = seen.verify(t, core, fleet, began, late > starved)
	m.errors = asked.verify(t, fleet, began)
	if late > starved {
		t.Logf("this test's own timer was late by %v: where the poller says of a hung checker's run that it stood still itself, that is let pass", late)
	}
	t.Logf("CPU ms per 1,000 checks of each cycle: %.1f", cpu)
	t.Logf("what core got of the runs of each cycle:\n%s", seen.summary(fleet))
	return m
}

// compare is the table of what it costs.
func compare(healthy, hung measured) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintf(w, "\thealthy\thung\tratio\t\n")
	cost := func(what, format string, of func(measured) float64) {
		_, _ = fmt.Fprintf(w, "%s\t"+format+"\t"+format+"\t%.2f\t\n", what, of(healthy), of(hung), of(hung)/of(healthy))
	}
	cost("CPU ms per 1,000 checks, median cycle", "%.1f", func(m measured) float64 { return m.cpu })
	cost("RSS MB, median second", "%.1f", func(m measured) float64 { return m.rss })
	cost("PSS MB, median second", "%.1f", func(m measured) float64 { return m.pss })
	cost("peak RSS MB, warm-up included", "%.1f", func(m measured) float64 { return m.peak })
	times := func(what string, of func(measured) time.Duration) {
		_, _ = fmt.Fprintf(w, "%s\t%.1f\t%.1f\t\t\n", what, of(healthy).Seconds()*1e3, of(hung).Seconds()*1e3)
	}
	for _, p := range []struct {
		name string
		part float64
	}{{"p50", .5}, {"p99", .99}, {"max", 1}} {
		times("|actual − planned interval| of those that are well, ms, "+p.name, func(m measured) time.Duration { return quantile(m.errors, p.part) })
	}
	times("a cycle is at core after its begin, ms, p50", func(m measured) time.Duration { return quantile(m.delivered, .5) })
	times("a cycle is at core after its begin, ms, max", func(m measured) time.Duration { return quantile(m.delivered, 1) })
	times("a timer of this test itself was late, ms, p99", func(m measured) time.Duration { return quantile(m.machine, .99) })
	times("a timer of this test itself was late, ms, max", func(m measured) time.Duration { return quantile(m.machine, 1) })
	_ = w.Flush()
	return b.String()
}
