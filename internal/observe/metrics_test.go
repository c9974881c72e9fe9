package observe_test

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/observe"
)

// fleet returns agents with checks of so many types.
func fleet(agents, checks, types int) []*check.Agent {
	list := make([]*check.Agent, agents)
	for i := range list {
		a := &check.Agent{Name: fmt.Sprintf("agent-%05d", i), Checks: make([]check.Check, checks)}
		for j := range a.Checks {
			a.Checks[j] = check.Check{Name: fmt.Sprintf("check-%d", j), Type: fmt.Sprintf("type-%d", (i*checks+j)%types)}
		}
		list[i] = a
	}
	return list
}

func names(agents []*check.Agent) []string {
	list := make([]string, len(agents))
	for i, a := range agents {
		list[i] = a.Name
	}
	return list
}

// cycle returns a status for each check, most of them available.
func cycle(agents []*check.Agent) []check.Status {
	var statuses []check.Status
	for _, a := range agents {
		for j := range a.Checks {
			n := len(statuses)
			st := check.Status{
				Agent: a, Check: &a.Checks[j], Available: true, ResponseTime: time.Millisecond,
				Asked: true, Took: time.Duration(n%5000+500) * time.Microsecond, Late: time.Duration(n%700) * time.Microsecond,
			}
			if n%50 == 0 {
				st.Available, st.Reason = false, check.Reasons[n/50%len(check.Reasons)]
			}
			statuses = append(statuses, st)
		}
	}
	return statuses
}

// sources are those of a poller that keeps a report and has a connection.
func sources(perCheck bool) observe.MetricsSources {
	board := new(observe.Board)
	board.Set(time.Unix(1, 0), "core", true, "")
	board.Set(time.Unix(1, 0), "queue", false, "reports were lost")
	return observe.MetricsSources{
		PerCheck: perCheck, Board: board, Connections: func() int64 { return 3 },
		Spool: func() (int, int64, time.Time) { return 1, 4096, time.Now().Add(-time.Minute) },
		Sources: func() []observe.Source {
			return []observe.Source{{ID: "file:/etc/poller/a.json", Targets: 3, Good: time.Unix(1e9, 0)}}
		},
	}
}

// everything returns metrics in which all has happened that can.
func everything() *observe.Metrics {
	from := sources(true)
	from.Cluster = func() observe.Cluster {
		return observe.Cluster{
			Members: 2, Size: 3, Leased: true, Minority: true, LeasesLost: 4, Held: 20, Differing: 1, ClockOffset: 300 * time.Millisecond, Refused: 5, Ignored: 6, Dropped: 7,
		}
	}
	m := observe.NewMetrics(from)
	agents := fleet(20, 5, 3)
	m.Agents(agents)
	m.Adopted(names(agents), 5)
	m.CycleClosed(cycle(agents), 2*time.Second)
	m.CyclesMissed(2)
	m.ClockSetBack()
	m.BreakerMoved("agent-00001", "open")
	m.ActorFailed("agent", "agent-00002", true)
	m.ActorRestarted("reporter", "reporter")
	m.PanicRecovered()
	m.DeadLetter()
	m.AnswerDiscarded()
	m.Delivered("delivered", 10*time.Millisecond)
	m.ReportTaken()
	m.ReportSplit()
	m.ReportsDropped("no_room", 2)
	m.SpoolFailed("append")
	m.AsideDropped()
	m.Synced(time.Millisecond)
	m.TLSExpiry("/etc/poller/poller.pem", time.Unix(2e9, 0))
	m.SpoolBounds(8192, time.Hour)
	m.ConfigLoaded("0100000000000000", time.Unix(1e9, 0))
	return m
}

// scrape returns what a scrape gets that accepts a media type.
func scrape(t testing.TB, m *observe.Metrics, accept string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept", accept)
	m.Handler().ServeHTTP(w, r)
	return w
}

const (
	plain       = "text/plain"
	openMetrics = "application/openmetrics-text;version=1.0.0"
	protobuf    = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
)

// values returns the samples of a scrape in plain text by name and labels, those of our own families only.
func values(t testing.TB, m *observe.Metrics) map[string]string {
	t.Helper()
	w := scrape(t, m, plain)
	if w.Code != http.StatusOK {
		t.Fatalf("scrape: %d %s", w.Code, w.Body)
	}
	samples := make(map[string]string)
	for line := range strings.Lines(w.Body.String()) {
		if i := strings.LastIndexByte(line, ' '); ours(line) && i > 0 {
			samples[line[:i]] = strings.TrimSpace(line[i+1:])
		}
	}
	return samples
}

func ours(name string) bool {
	return strings.HasPrefix(name, "poller_") || strings.HasPrefix(name, "probe_")
}

// want asserts the values of some samples; "" stands for none.
func want(t *testing.T, m *observe.Metrics, samples map[string]string) {
	t.Helper()
	got := values(t, m)
	for _, name := range slices.Sorted(maps.Keys(samples)) {
		if got[name] != samples[name] {
			t.Errorf("%s is %q, want %q", name, got[name], samples[name])
		}
	}
}

// TestMetricsFollowConventions: the linter of Prometheus' promtool has nothing to say of a scrape with all that there is.
func TestMetricsFollowConventions(t *testing.T) {
	t.Parallel()
	m := everything()
	body := scrape(t, m, plain).Body
	problems, err := promlint.New(body).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	if problems, _ := promlint.New(strings.NewReader("# TYPE a_minutes counter\na_minutes 1\n")).Lint(); len(problems) == 0 {
		t.Error("the linter finds nothing wrong with a counter a_minutes without help")
	}
}

// TestMetricsAreNegotiated: whoever asks for OpenMetrics or protobuf gets it, with units, and the latter with native histograms.
func TestMetricsAreNegotiated(t *testing.T) {
	t.Parallel()
	m := everything()
	for _, tt := range []struct{ accept, contentType, within string }{
		{openMetrics, "application/openmetrics-text; version=1.0.0", "# UNIT poller_run_duration_seconds seconds\n"},
		{openMetrics, "application/openmetrics-text; version=1.0.0", "\n# EOF\n"},
		{openMetrics, "application/openmetrics-text; version=1.0.0", "# TYPE poller_runs counter\n"},
		{plain, "text/plain; version=0.0.4", "# TYPE poller_runs_total counter\n"},
		{protobuf, "application/vnd.google.protobuf", "poller_run_duration_seconds"},
		{"", "text/plain; version=0.0.4", "go_goroutines"},
		{"", "text/plain; version=0.0.4", "process_start_time_seconds"},
	} {
		w := scrape(t, m, tt.accept)
		if got := w.Header().Get("Content-Type"); w.Code != http.StatusOK || !strings.HasPrefix(got, tt.contentType) || !strings.Contains(w.Body.String(), tt.within) {
			t.Errorf("who accepts %q got %d %q; want %q with %q in it", tt.accept, w.Code, got, tt.contentType, tt.within)
		}
	}
}

// TestFailedScrapeSaysWhy: what can't be gathered is an error with its cause, not half of the metrics.
func TestFailedScrapeSaysWhy(t *testing.T) {
	t.Parallel()
	from := sources(false)
	from.Spool = func() (int, int64, time.Time) { panic(errors.New("no spool at hand")) }
	if w := scrape(t, observe.NewMetrics(from), plain); w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "no spool at hand") {
		t.Errorf("got %d: %.200s", w.Code, w.Body)
	}
}

// documented is a row of the table in docs/metrics.md.
var documented = regexp.MustCompile("^\\| `([a-z_]+)` \\| ([a-z]+) \\| (.*) \\| (.*) \\|$")

// TestMetricsAreDocumented: docs/metrics.md has each of our families, with its type, labels and help, and of the libraries' those
// that the dashboard and the alert rules look at. What it has is what deploy/check goes by.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for line := range strings.Lines(string(doc)) {
		if row := documented.FindStringSubmatch(strings.TrimSpace(line)); row != nil {
			got[row[1]] = strings.TrimSpace(line)
		}
	}
	all := rows(t, everything())
	maps.DeleteFunc(all, func(name, _ string) bool { return !ours(name) && got[name] == "" })
	if diff := cmp.Diff(all, got); diff != "" {
		t.Errorf("docs/metrics.md (-want +got):\n%s", diff)
	}
}

// rows returns what the table must have of each family.
func rows(t *testing.T, m *observe.Metrics) map[string]string {
	t.Helper()
	var name, help, kind string
	table := make(map[string]string)
	labelName := regexp.MustCompile(`([a-z_]+)="`)
	for line := range strings.Lines(scrape(t, m, plain).Body.String()) {
		line = strings.TrimSpace(line)
		switch words := strings.SplitN(line, " ", 4); {
		case strings.HasPrefix(line, "# HELP"):
			name, help = words[2], words[3]
		case strings.HasPrefix(line, "# TYPE"):
			kind = words[3]
		case table[name] == "":
			labels := "–"
			for _, found := range labelName.FindAllStringSubmatch(line, -1) {
				if found[1] != "le" {
					labels += ", `" + found[1] + "`"
				}
			}
			table[name] = fmt.Sprintf("| `%s` | %s | %s | %s |", name, kind, strings.TrimPrefix(labels, "–, "), help)
		}
	}
	return table
}

func TestRuns(t *testing.T) {
	t.Parallel()
	agents := fleet(1, 2, 2)
	a := agents[0]
	m := observe.NewMetrics(sources(false))
	m.Agents(agents)
	want(t, m, map[string]string{ // there from the start
		`poller_runs_total{reason="",result="available",type="type-0"}`:     "0",
		`poller_runs_total{reason="timeout",result="failed",type="type-1"}`: "0",
		`poller_run_duration_seconds_count{type="type-0"}`:                  "0",
		`poller_agents`: "1", `poller_checks`: "2", `poller_cycle_statuses`: "0",
	})
	m.CycleClosed([]check.Status{
		{Agent: a, Check: &a.Checks[0], Available: true, Asked: true, Took: 20 * time.Millisecond, Late: 2 * time.Millisecond},
		{Agent: a, Check: &a.Checks[0], Asked: true, Took: 40 * time.Millisecond},
		{Agent: a, Check: &a.Checks[0], Reason: check.Timeout, Asked: true, Took: 4 * time.Second},
		{Agent: a, Check: &a.Checks[0], Reason: check.Overrun},
		{Agent: a, Check: &a.Checks[1], Reason: check.CircuitOpen},
	}, 4*time.Second)
	m.CycleClosed([]check.Status{{Agent: a, Check: &a.Checks[1], Available: true, Asked: true}}, time.Second)
	want(t, m, map[string]string{
		`poller_runs_total{reason="",result="available",type="type-0"}`:          "1",
		`poller_runs_total{reason="",result="unavailable",type="type-0"}`:        "1",
		`poller_runs_total{reason="timeout",result="failed",type="type-0"}`:      "1",
		`poller_runs_total{reason="overrun",result="failed",type="type-0"}`:      "1",
		`poller_runs_total{reason="",result="available",type="type-1"}`:          "1",
		`poller_runs_total{reason="circuit_open",result="failed",type="type-1"}`: "1",
		`poller_run_duration_seconds_count{type="type-0"}`:                       "3",
		`poller_run_duration_seconds_sum{type="type-0"}`:                         "4.06",
		`poller_run_duration_seconds_bucket{type="type-0",le="0.025"}`:           "1",
		`poller_run_duration_seconds_count{type="type-1"}`:                       "1",
		`poller_run_lateness_seconds_count`:                                      "4",
		`poller_run_lateness_seconds_sum`:                                        "0.002",
		`poller_cycle_statuses`:                                                  "1",
		`poller_cycle_duration_seconds_count`:                                    "2",
		`poller_cycle_duration_seconds_sum`:                                      "5",
	})
}

// TestOfTheActors: breakers and parked actors are counted by what was told of them last; agents that are gone do not count.
func TestOfTheActors(t *testing.T) {
	t.Parallel()
	agents := fleet(4, 1, 1)
	m := observe.NewMetrics(sources(false))
	m.Agents(agents)
	m.BreakerMoved("agent-00000", "open")
	m.BreakerMoved("agent-00001", "open")
	m.BreakerMoved("agent-00001", "half-open")
	m.BreakerMoved("agent-00002", "open")
	m.BreakerMoved("agent-00002", "closed")
	m.BreakerMoved("agent-00009", "open") // which is gone
	m.ActorFailed("agent", "agent-00000", true)
	m.ActorFailed("agent", "agent-00001", false)
	m.ActorFailed("agent", "agent-00003", true)
	m.ActorFailed("poller", "poller", true)
	m.ActorRestarted("agent", "agent-00003")
	want(t, m, map[string]string{
		`poller_breakers{state="closed"}`: "2", `poller_breakers{state="half-open"}`: "1", `poller_breakers{state="open"}`: "1",
		`poller_actors_parked{actor="agent"}`: "1", `poller_actors_parked{actor="poller"}`: "1", `poller_actors_parked{actor="reporter"}`: "0",
		`poller_actor_restarts_total{actor="agent"}`: "1", `poller_actor_restarts_total{actor="poller"}`: "0",
	})
	m.Agents(agents[1:])
	want(t, m, map[string]string{
		`poller_breakers{state="closed"}`: "2", `poller_breakers{state="half-open"}`: "1", `poller_breakers{state="open"}`: "0",
		`poller_actors_parked{actor="agent"}`: "0", `poller_actors_parked{actor="poller"}`: "1", `poller_agents`: "3",
	})
}

func TestOfTheProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := everything()
		m.ConfigRejected()
		version, revision := observe.Build()
		want(t, m, map[string]string{
			`poller_ready{condition="core"}`: "1", `poller_ready{condition="queue"}`: "0",
			`poller_checker_connections`: "3",
			`poller_spool_reports`:       "1", `poller_spool_bytes`: "4096", `poller_spool_oldest_report_age_seconds`: "60",
			`poller_spool_max_bytes`: "8192", `poller_spool_max_age_seconds`: "3600",
			`poller_spool_fsync_duration_seconds_sum`: "0.001",
			`poller_config_hash`:                      "1.099511627776e+12", `poller_config_last_reload_successful`: "0",
			`poller_config_last_reload_success_timestamp_seconds`: "1e+09",
			`poller_cycles_missed_total`:                          "2", `poller_reports_dropped_total{cause="no_room"}`: "2",
			`poller_deliveries_total{outcome="delivered"}`:                                                              "1",
			`poller_delivery_duration_seconds_sum{outcome="delivered"}`:                                                 "0.01",
			`poller_spool_failures_total{operation="append"}`:                                                           "1",
			fmt.Sprintf(`poller_build_info{goversion=%q,revision=%q,version=%q}`, runtime.Version(), revision, version): "1",
		})
		from := sources(false)
		from.Spool = func() (int, int64, time.Time) { return 0, 0, time.Time{} }
		want(t, observe.NewMetrics(from), map[string]string{`poller_spool_oldest_report_age_seconds`: "0"})
	})
}

// TestCertificates: of many files those that expire first are shown, and none that is not in use any more.
func TestCertificates(t *testing.T) {
	t.Parallel()
	m := observe.NewMetrics(sources(false))
	for i := range 40 {
		m.TLSExpiry(fmt.Sprintf("%02d.pem", i), time.Unix(int64(2e9-i), 0))
	}
	m.TLSExpiry("38.pem", time.Time{})
	m.TLSExpiry("37.pem", time.Unix(3e9, 0)) // renewed
	var files []string
	for name := range values(t, m) {
		if file, ok := strings.CutPrefix(name, `poller_tls_certificate_expiry_timestamp_seconds{file="`); ok {
			files = append(files, file[:2])
		}
	}
	slices.Sort(files)
	if len(files) != 32 || files[0] != "06" || files[31] != "39" || slices.Contains(files, "38") || slices.Contains(files, "37") {
		t.Errorf("the files are %v", files)
	}
}
