package daemon_test

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/internal/spool"
	"github.com/serviceradar/poller/internal/wire"
)

// samples are what a scrape gets of our own metrics, by name and labels.
func (w *world) samples() map[string]string {
	w.t.Helper()
	answer := httptest.NewRecorder()
	w.daemon.Metrics().Handler().ServeHTTP(answer, httptest.NewRequestWithContext(w.t.Context(), http.MethodGet, "/metrics", nil))
	if answer.Code != http.StatusOK {
		w.t.Fatalf("scrape: %d %s", answer.Code, answer.Body)
	}
	all := make(map[string]string)
	for line := range strings.Lines(answer.Body.String()) {
		if strings.HasPrefix(line, "poller_") || strings.HasPrefix(line, "probe_") {
			end := strings.LastIndexByte(line, ' ')
			all[line[:end]] = strings.TrimSpace(line[end:])
		}
	}
	return all
}

// wantSamples asserts some samples; "" stands for none.
func (w *world) wantSamples(want map[string]string) {
	w.t.Helper()
	got := w.samples()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			w.t.Errorf("%s is %q, want %q", name, got[name], want[name])
		}
	}
}

// TestEventsAreMeasured: each event changes the samples that it should, and no other.
func TestEventsAreMeasured(t *testing.T) {
	agent := &check.Agent{Name: "a000", Checks: []check.Check{{Name: "c0", Type: "port"}}}
	type changes map[string]string
	for _, tt := range []struct {
		event any
		want  changes
	}{
		{actors.CycleClosed{Took: 2 * time.Second, Runs: []check.Status{{Agent: agent, Check: &agent.Checks[0], Reason: check.NoAnswer}}}, changes{
			`poller_runs_total{reason="no_answer",result="failed",type="port"}`: "1", `poller_cycle_statuses`: "1",
			`poller_cycle_duration_seconds_count`: "1", `poller_cycle_duration_seconds_sum`: "2",
			`poller_cycle_duration_seconds_bucket{le="2.5"}`: "1", `poller_cycle_duration_seconds_bucket{le="5"}`: "1",
			`poller_cycle_duration_seconds_bucket{le="10"}`: "1", `poller_cycle_duration_seconds_bucket{le="30"}`: "1",
			`poller_cycle_duration_seconds_bucket{le="60"}`: "1", `poller_cycle_duration_seconds_bucket{le="+Inf"}`: "1",
		}},
		{actors.CyclesMissed{Cycles: 3}, changes{`poller_cycles_missed_total`: "3"}},
		{actors.ClockSetBack{By: time.Hour}, changes{`poller_clock_set_back_total`: "1"}},
		{actors.BreakerChanged{Agent: "a000", From: "closed", To: "open"}, changes{`poller_breakers{state="open"}`: "1", `poller_breakers{state="closed"}`: "1"}},
		{actors.StatusDiscarded{Agent: "a000", Check: "c0"}, changes{`poller_answers_discarded_total`: "1"}},
		{actors.ActorFailed{Actor: "agent/a000", Parked: true}, changes{`poller_actors_parked{actor="agent"}`: "1", `poller_ready{condition="actors"}`: "1"}},
		{actors.ActorFailed{Actor: "reporter", Parked: true}, changes{`poller_actors_parked{actor="reporter"}`: "1", `poller_ready{condition="actors"}`: "0"}},
		{actors.ActorFailed{Actor: "poller"}, changes{}},
		{actors.ActorRestarted{Actor: "agent/a000"}, changes{ // it begins half-open
			`poller_actor_restarts_total{actor="agent"}`: "1", `poller_breakers{state="half-open"}`: "1", `poller_breakers{state="closed"}`: "1",
		}},
		{actors.ActorRestarted{Actor: "poller"}, changes{`poller_actor_restarts_total{actor="poller"}`: "1"}},
		{actors.PanicRecovered{Actor: "root/poller"}, changes{`poller_panics_recovered_total`: "1"}},
		{actors.DeadLetter{To: "root/poller"}, changes{`poller_dead_letters_total`: "1"}},
		{actors.ReportTaken{ID: "r", Kept: 1}, changes{`poller_reports_taken_total`: "1", `poller_ready{condition="cycle"}`: "1"}},
		{actors.ReportSplit{ID: "r", Parts: 2}, changes{`poller_reports_split_total`: "1"}},
		{actors.SpoolFailed{ID: "r", Err: errors.New("disk")}, changes{`poller_spool_failures_total{operation="append"}`: "1", `poller_ready{condition="queue"}`: "0"}},
		{actors.SpoolUnreadable{Err: errors.New("disk")}, changes{`poller_spool_failures_total{operation="read"}`: "1", `poller_ready{condition="queue"}`: "0"}},
		{spool.Lost{Reports: 4, Cause: "damaged"}, changes{`poller_reports_dropped_total{cause="damaged"}`: "4", `poller_ready{condition="queue"}`: "0"}},
		{spool.AsideDropped{ID: "r"}, changes{`poller_spool_aside_dropped_total`: "1"}},
		{spool.Damaged{File: "f"}, changes{}},
		{actors.HealthTold{Agent: "a000"}, changes{}},
	} {
		t.Run(fmt.Sprintf("%T", tt.event), func(t *testing.T) {
			run(t, func(w *world) { w.wantChanges(tt.event, tt.want) })
		})
	}
}

// wantChanges asserts what an event changes, in a poller with two agents that never comes to a cycle's end.
func (w *world) wantChanges(event any, want map[string]string) {
	w.t.Helper()
	w.checker("127.2.0.1:1", sim.HangAll())
	w.start(time.Minute, time.Minute, agents("a", 2, 1, "127.2.0.1:1"))
	w.pass(time.Second) // all is connected
	before := w.samples()
	w.daemon.Tell(event)
	changed := make(map[string]string)
	for name, value := range w.samples() {
		if before[name] != value || want[name] == value {
			changed[name] = value
		}
		if _, known := before[name]; !known && !strings.HasPrefix(name, "poller_delivery_duration_seconds") {
			w.t.Errorf("there was no %s before it", name)
		}
	}
	if diff := cmp.Diff(want, changed); diff != "" {
		w.t.Errorf("%+v changed (-want +got):\n%s", event, diff)
	}
}

// TestDeliveriesAndLossesAreMeasured: each outcome and each cause has its series, from the start on.
func TestDeliveriesAndLossesAreMeasured(t *testing.T) {
	run(t, func(w *world) {
		w.checker("127.2.0.1:1", sim.HangAll())
		w.start(time.Minute, time.Minute, agents("a", 1, 1, "127.2.0.1:1"))
		before := w.samples()
		refused := errors.New("refused")
		w.daemon.Tell(actors.ReportDelivered{ID: "r", Took: time.Second})
		for _, e := range []actors.DeliveryFailed{
			{Outcome: wire.Retry, Took: 2 * time.Second},
			{Outcome: wire.Hold, Took: 3 * time.Second},
			{Outcome: wire.SetAside, Took: 4 * time.Second},
			{Outcome: wire.SetAside, Took: 5 * time.Second, Lost: spool.ErrInMemory},
		} {
			e.ID, e.Err = "r", refused
			w.daemon.Tell(e)
		}
		for _, loss := range actors.Losses {
			w.daemon.Tell(actors.ReportDropped{ID: "r", Loss: loss, Cause: "so it is"})
		}
		for name, value := range w.samples() {
			family, _, _ := strings.Cut(name, "{")
			switch family {
			case "poller_deliveries_total":
				if before[name] != "0" || value != "1" {
					t.Errorf("%s went from %q to %q, want from 0 to 1", name, before[name], value)
				}
			case "poller_reports_dropped_total":
				if damaged := strings.Contains(name, "damaged"); before[name] != "0" || (value == "0") != damaged {
					t.Errorf("%s went from %q to %q", name, before[name], value)
				}
			}
		}
		w.wantSamples(map[string]string{
			`poller_delivery_duration_seconds_sum{outcome="delivered"}`: "1",
			`poller_delivery_duration_seconds_sum{outcome="retry"}`:     "2",
			`poller_delivery_duration_seconds_sum{outcome="hold"}`:      "3",
			`poller_delivery_duration_seconds_sum{outcome="set_aside"}`: "4",
			`poller_delivery_duration_seconds_sum{outcome="lost"}`:      "5",
		})
	})
}

// TestMetricsOfAPoller: what a poller with sound and hung checkers, and with a core that goes away, is like in its metrics.
func TestMetricsOfAPoller(t *testing.T) {
	run(t, func(w *world) {
		w.checker("127.2.0.1:1", sim.Slow(20*time.Millisecond))
		w.checker("127.2.0.2:1", sim.Hang())
		w.start(10*time.Second, 2*time.Second, "[metrics]\nper_check = true\n"+
			agents("good", 3, 2, "127.2.0.1:1")+agents("hung", 1, 5, "127.2.0.2:1"))
		w.wantSamples(map[string]string{
			`poller_agents`: "4", `poller_checks`: "11", `poller_breakers{state="closed"}`: "4", `poller_ready{condition="cycle"}`: "0",
			`poller_runs_total{reason="",result="available",type="port"}`: "0", `poller_config_last_reload_successful`: "1",
		})
		w.pass(9 * time.Second)
		const good, hung = `{agent="good000",check="c0",type="port"}`, `{agent="hung000",check="c0",type="port"}`
		w.wantSamples(map[string]string{
			`poller_runs_total{reason="",result="available",type="port"}`:                   "6",
			`poller_runs_total{reason="timeout",result="failed",type="port"}`:               "5",
			`poller_run_duration_seconds_count{type="port"}`:                                "11",
			`poller_run_duration_seconds_bucket{type="port",le="0.025"}`:                    "6",
			`poller_run_duration_seconds_bucket{type="port",le="1"}`:                        "6",
			`poller_run_lateness_seconds_count`:                                             "11",
			`poller_run_lateness_seconds_sum`:                                               "0",
			`poller_cycle_statuses`:                                                         "11",
			`poller_cycle_duration_seconds_sum`:                                             "2",
			`poller_breakers{state="closed"}`:                                               "3",
			`poller_ready{condition="cycle"}`:                                               "1",
			`poller_checker_connections`:                                                    "4",
			`poller_reports_taken_total`:                                                    "1",
			`poller_deliveries_total{outcome="delivered"}`:                                  "1",
			`poller_spool_reports`:                                                          "0",
			`poller_spool_oldest_report_age_seconds`:                                        "0",
			"probe_success" + good:                                                          "1",
			"probe_success" + hung:                                                          "0",
			"probe_duration_seconds" + hung:                                                 "2",
			`probe_failure_reason{agent="hung000",check="c0",reason="timeout",type="port"}`: "1",
		})
		w.coreServer.Stop()
		w.pass(16 * time.Second) // two more cycles have closed
		w.wantSamples(map[string]string{
			`poller_spool_reports`:                   "2",
			`poller_spool_oldest_report_age_seconds`: "15",
			`poller_reports_taken_total`:             "3",
			`poller_cycle_duration_seconds_count`:    "3",
		})
		if kept := w.samples()["poller_spool_bytes"]; kept == "0" {
			t.Error("the reports that are kept have no bytes")
		}
		w.coreUp()
	})
}
