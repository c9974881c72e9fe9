package observe_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/observe"
)

// TestPerCheck: the series of a check tell of its last status, and go with it.
func TestPerCheck(t *testing.T) {
	t.Parallel()
	agents := fleet(3, 2, 6)
	m := observe.NewMetrics(sources(true))
	m.Agents(agents)
	of := func(agent, chk int, st check.Status) check.Status {
		st.Agent, st.Check = agents[agent], &agents[agent].Checks[chk]
		return st
	}
	m.CycleClosed([]check.Status{
		of(0, 0, check.Status{Available: true, ResponseTime: time.Second / 4, Asked: true, Took: time.Second}),
		of(1, 0, check.Status{ResponseTime: time.Second / 2}),
		of(1, 1, check.Status{Reason: check.Timeout, ResponseTime: 4 * time.Second}),
		of(2, 1, check.Status{Available: true}),
	}, time.Second)
	const (
		well    = `{agent="agent-00000",check="check-0",type="type-0"}`
		silent  = `{agent="agent-00000",check="check-1",type="type-1"}`
		down    = `{agent="agent-00001",check="check-0",type="type-2"}`
		failing = `{agent="agent-00001",check="check-1",type="type-3"}`
		timeout = `{agent="agent-00001",check="check-1",reason="timeout",type="type-3"}`
		gone    = `{agent="agent-00002",check="check-1",type="type-5"}`
	)
	want(t, m, map[string]string{
		"probe_success" + well: "1", "probe_duration_seconds" + well: "0.25",
		"probe_success" + silent: "", "probe_duration_seconds" + silent: "", // it has not reported
		"probe_success" + down: "0", "probe_duration_seconds" + down: "0.5",
		"probe_success" + failing: "0", "probe_duration_seconds" + failing: "4",
		"probe_failure_reason" + timeout: "1", "probe_success" + gone: "1",
	})
	// Agents come anew, as from a file that was read again; of what is not in it any more nothing is left.
	agents = fleet(3, 2, 6)
	agents[1].Checks = agents[1].Checks[1:]
	m.Agents(agents[:2])
	want(t, m, map[string]string{
		"probe_success" + well: "1", "probe_success" + down: "", "probe_failure_reason" + timeout: "1", "probe_success" + gone: "",
	})
	m.CycleClosed([]check.Status{
		of(1, 0, check.Status{Available: true, ResponseTime: time.Second}),
		of(2, 1, check.Status{Available: true}), // of the cycle that was open
	}, time.Second)
	want(t, m, map[string]string{
		"probe_success" + well: "1", "probe_success" + failing: "1", "probe_failure_reason" + timeout: "", "probe_success" + gone: "",
	})
}

// TestSeriesAreBounded: without metrics per check, how many series there are depends on neither agents nor checks, and on
// types of checks only as far as 32 of them.
func TestSeriesAreBounded(t *testing.T) {
	t.Parallel()
	series := func(agents, types int, perCheck bool) int {
		m := observe.NewMetrics(sources(perCheck))
		list := fleet(agents, 5, types)
		m.Agents(list)
		m.CycleClosed(cycle(list), time.Second)
		for _, a := range list {
			m.BreakerMoved(a.Name, "open")
			m.ActorFailed("agent", a.Name, true)
			m.TLSExpiry(a.Name+".pem", time.Unix(1e9, 0))
		}
		began := time.Now()
		w := scrape(t, m, openMetrics)
		took := time.Since(began)
		n := 0
		for line := range strings.Lines(w.Body.String()) {
			if ours(line) {
				n++
			}
		}
		t.Logf("%d agents × 5 checks of %d types, per check: %v: %d series, %d bytes, %v", agents, types, perCheck, n, w.Body.Len(), took)
		return n
	}
	few, many, types := series(100, 5, false), series(10_000, 5, false), series(10_000, 1000, false)
	if few != many || types > 1000 {
		t.Errorf("%d series with 100 agents, %d with 10,000, and %d with 1,000 types: want no more, and at most 1,000", few, many, types)
	}
	if got, want := series(10_000, 5, true)-many, 2*50_000+1000; got != want {
		t.Errorf("with metrics per check there are %d series more, want %d: two for each check, and one for each of the 1,000 that failed", got, want)
	}
}

// BenchmarkCycleClosed is what the metrics cost the poller for each run, most of all: an actor waits for it. A run costs
// about 55 µs of CPU in all.
func BenchmarkCycleClosed(b *testing.B) {
	for _, perCheck := range []bool{false, true} {
		b.Run(fmt.Sprintf("perCheck=%v", perCheck), func(b *testing.B) {
			agents := fleet(10_000, 5, 5)
			m, statuses := observe.NewMetrics(sources(perCheck)), cycle(agents)
			m.Agents(agents)
			b.ReportAllocs()
			for b.Loop() {
				m.CycleClosed(statuses, time.Second)
			}
			perRun := float64(b.Elapsed().Nanoseconds()) / float64(b.N) / float64(len(statuses))
			b.ReportMetric(perRun, "ns/run")
			b.ReportMetric(perRun/55_000*100, "%-of-a-run")
		})
	}
}

// BenchmarkScrape is a scrape with 10,000 agents × 5 checks.
func BenchmarkScrape(b *testing.B) {
	for _, perCheck := range []bool{false, true} {
		for name, accept := range map[string]string{"text": openMetrics, "protobuf": protobuf} {
			b.Run(fmt.Sprintf("perCheck=%v/%s", perCheck, name), func(b *testing.B) {
				agents := fleet(10_000, 5, 5)
				m := observe.NewMetrics(sources(perCheck))
				m.Agents(agents)
				m.CycleClosed(cycle(agents), time.Second)
				for b.Loop() {
					scrape(b, m, accept)
				}
			})
		}
	}
}
