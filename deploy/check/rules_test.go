package check

import (
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
)

func readRules(t *testing.T) []rulefmt.Rule {
	t.Helper()
	groups, errs := rulefmt.ParseFile("../prometheus/poller.rules.yml", false, model.LegacyValidation, parser.NewParser(parser.Options{}), slog.Default())
	for _, err := range errs {
		t.Error(err)
	}
	if groups == nil {
		t.FailNow()
	}
	var rules []rulefmt.Rule
	for _, g := range groups.Groups {
		rules = append(rules, g.Rules...)
	}
	return rules
}

var inTemplate = regexp.MustCompile(`\$labels\.([a-z_]+)`)

// TestRulesNameWhatThereIs: Prometheus takes the rules, they go by metrics and labels that there are, and say what to do.
func TestRulesNameWhatThereIs(t *testing.T) {
	t.Parallel()
	metrics, names := readExposed(t), make(map[string]bool)
	for _, r := range readRules(t) {
		problems, with := metrics.problems(r.Expr)
		for _, label := range inTemplate.FindAllStringSubmatch(r.Annotations["summary"]+r.Annotations["description"], -1) {
			if !slices.Contains(with, label[1]) {
				problems = append(problems, fmt.Sprintf("its result has no label %q", label[1]))
			}
		}
		if names[r.Alert] || r.Alert == "" {
			problems = append(problems, "the name is empty, or of two")
		}
		names[r.Alert] = true
		if s := r.Labels["severity"]; s != "warning" && s != "critical" {
			problems = append(problems, "severity is "+s)
		}
		if len(r.Annotations["summary"]) < 20 || len(r.Annotations["description"]) < 60 {
			problems = append(problems, "it does not say what is wrong and what to do")
		}
		for _, p := range problems {
			t.Errorf("%s: %s", r.Alert, p)
		}
	}
}

// target is what Prometheus adds to each series of a poller, series of a sound poller what the alerts look at. Samples are 1m apart.
const target = `job="poller", instance="edge-1:9464"`

const sound = `
	up 1x120
	poller_build_info{version="v1"} 1x120
	poller_ready{condition="core"} 1x120
	poller_cycles_missed_total 0x120
	poller_run_lateness_seconds_bucket{le="0.001"} 0+100x120
	poller_run_lateness_seconds_bucket{le="0.5"} 0+100x120
	poller_run_lateness_seconds_bucket{le="2.5"} 0+100x120
	poller_run_lateness_seconds_bucket{le="+Inf"} 0+100x120
	poller_runs_total{type="port", result="available", reason=""} 0+100x120
	poller_runs_total{type="port", result="failed", reason="overrun"} 0x120
	poller_reports_dropped_total{cause="no_room"} 0x120
	poller_spool_oldest_report_age_seconds 0x120
	poller_spool_max_age_seconds 604800x120
	poller_spool_bytes 4096x120
	poller_spool_max_bytes 1073741824x120
	poller_spool_failures_total{operation="append"} 0x120
	poller_deliveries_total{outcome="delivered"} 0+2x120
	poller_deliveries_total{outcome="retry"} 0x120
	poller_deliveries_total{outcome="hold"} 0x120
	poller_deliveries_total{outcome="set_aside"} 0x120
	poller_config_last_reload_successful 1x120
	poller_tls_certificate_expiry_timestamp_seconds{file="a.pem"} 8640000x120
	poller_actors_parked{actor="agent"} 0x120
	poller_actor_restarts_total{actor="agent"} 0x120
	poller_panics_recovered_total 0x120
	poller_breakers{state="closed"} 100x120
	poller_breakers{state="open"} 0x120
	process_open_fds 150x120
	process_max_fds 65536x120
	poller_cluster_leased 1x120
	poller_cluster_minority 0x120
	poller_cluster_members 3x120
	poller_cluster_size 3x120
	poller_cluster_agents_claimed 0x120
	poller_cluster_config_differs 0x120
	poller_cluster_doubled_runs_total 0x120
	poller_cluster_clock_offset_seconds 0.002x120
	probe_success{agent="a", check="ssh", type="port"} 1x120`

// spoiled says by which samples, in place of the sound poller's of the same series, an alert fires; if there is more than one that
// does, it has them all.
var spoiled = []struct{ with, fires string }{
	{`up 1x100 0x20`, "PollerDown"},
	{`poller_ready{condition="core"} 1x100 0x20`, "PollerNotReady"},
	{`poller_cycles_missed_total 0x110 3x10`, "PollerCyclesMissed"},
	{"poller_run_lateness_seconds_bucket{le=\"0.001\"} 0+90x120\npoller_run_lateness_seconds_bucket{le=\"0.5\"} 0+90x120", "PollerRunsLate"},
	{"poller_run_lateness_seconds {{schema:0 count:10 sum:20 offset:1 buckets:[10]}}+{{schema:0 count:10 sum:20 offset:1 buckets:[10]}}x120", "PollerRunsLate"}, // a native one
	{`poller_runs_total{type="port", result="failed", reason="overrun"} 0+2x120`, "PollerOverruns"},
	{`poller_reports_dropped_total{cause="no_room"} 0x115 7x5`, "PollerReportsLost"},
	{`poller_spool_oldest_report_age_seconds 0+60x120`, "PollerSpoolOld"},
	{`poller_spool_oldest_report_age_seconds 550000x120`, "PollerSpoolNearlyTooOld PollerSpoolOld"},
	{"poller_spool_max_age_seconds 600x120\npoller_spool_oldest_report_age_seconds 550x120", "PollerSpoolNearlyTooOld"},
	{`poller_spool_bytes 600000000x120`, "PollerSpoolLarge"},
	{"poller_spool_max_bytes 2147483648x120\npoller_spool_bytes 600000000x120", ""},
	{`poller_spool_failures_total{operation="append"} 0x110 0+1x10`, "PollerSpoolFailing"},
	{"poller_deliveries_total{outcome=\"delivered\"} 50x120\npoller_deliveries_total{outcome=\"retry\"} 0+1x120", "PollerDeliveriesFailing"},
	{`poller_deliveries_total{outcome="retry"} 0+1x120`, ""}, // some are delivered
	{`poller_deliveries_total{outcome="hold"} 0+1x120`, "PollerDeliveriesHeld"},
	{`poller_deliveries_total{outcome="set_aside"} 0x100 1x20`, "PollerReportsSetAside"},
	{`poller_config_last_reload_successful 1x100 0x20`, "PollerReloadFailed"},
	{`poller_tls_certificate_expiry_timestamp_seconds{file="a.pem"} 864000x120`, "PollerCertificateExpires"},
	{`poller_tls_certificate_expiry_timestamp_seconds{file="a.pem"} 86400x120`, "PollerCertificateExpiresSoon"},
	{`poller_actors_parked{actor="agent"} 2x120`, "PollerActorsParked"},
	{`poller_actor_restarts_total{actor="agent"} 0x110 0+1x10`, "PollerActorsRestarting"},
	{`poller_panics_recovered_total 0x110 1x10`, "PollerPanics"},
	{"poller_breakers{state=\"closed\"} 80x120\npoller_breakers{state=\"open\"} 20x120", "PollerBreakersOpen"},
	{`process_open_fds 60000x120`, "PollerDescriptorsNearLimit"},
	{`poller_cluster_leased 1x118 0x2`, "PollerNodeMayNotPoll"},
	{`poller_cluster_leased 1x119 0x1`, ""}, // not for long enough
	{`poller_cluster_members 3x110 2x10`, "PollerNodeMissing"},
	{`poller_cluster_members 3x115 4x5`, ""},
	{`poller_cluster_minority 0x118 1x2`, "PollerNodesWithoutMajority"},
	{`poller_cluster_agents_claimed 0x110 12x10`, "PollerAgentsWait"},
	{`poller_cluster_agents_claimed 12x118 0x1 12x1`, ""}, // others
	{`poller_cluster_config_differs 0x104 1x16`, "PollerConfigurationsDiffer"},
	{`poller_cluster_config_differs 0x110 1x10`, ""}, // the files are being copied
	{`poller_cluster_doubled_runs_total 0x115 7x5`, "PollerAgentsPolledTwice"},
	{`poller_cluster_clock_offset_seconds 0.3x120`, "PollerClocksDiffer"},
	{`probe_success{agent="a", check="ssh", type="port"} 1x110 0x10`, "CheckFailing"},
	{`poller_ready{condition="core"} 1x118 0x2`, ""}, // not for long enough
}

// TestAlertsFire: no alert fires for a sound poller, and each does for what it is about, after two hours by Prometheus' own engine.
func TestAlertsFire(t *testing.T) {
	t.Parallel()
	rules, tried := readRules(t), make(map[string]bool)
	if got := firing(t, rules, seriesOf("")); got != "" {
		t.Errorf("of a sound poller there fire %s", got)
	}
	if got := firing(t, rules, ""); got != "PollerAbsent" {
		t.Errorf("without any poller there fires %q", got)
	}
	tried["PollerAbsent"] = true
	for _, tt := range spoiled {
		for name := range strings.FieldsSeq(tt.fires) {
			tried[name] = true
		}
		if got := firing(t, rules, seriesOf(tt.with)); got != tt.fires {
			t.Errorf("with %s there fires %q, want %q", tt.with, got, tt.fires)
		}
	}
	for _, r := range rules {
		if !tried[r.Alert] {
			t.Errorf("nothing tries %s", r.Alert)
		}
	}
}

// seriesOf returns the series of a poller that is sound but for some, each with the labels of its target.
func seriesOf(with string) string {
	samples := make(map[string]string)
	for line := range strings.Lines(sound + "\n" + with) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		end := strings.IndexAny(line, " {")
		if line[end] == '{' {
			end = strings.IndexByte(line, '}') + 1
		}
		samples[line[:end]] = line[end:]
	}
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(samples)) {
		labelled := strings.TrimSuffix(name, "}") + ", " + target + "}"
		if !strings.Contains(name, "{") {
			labelled = name + "{" + target + "}"
		}
		fmt.Fprintf(&text, "\t%s%s\n", labelled, samples[name])
	}
	return text.String()
}

// firing returns the names of the alerts that fire two hours after the first samples, sorted: whose expression has had
// a result for as long as they want.
func firing(t *testing.T, rules []rulefmt.Rule, series string) string {
	t.Helper()
	storage := promqltest.LoadedStorage(t, "load 1m\n"+series)
	engine := promqltest.NewTestEngine(t, false, 0, 100_000)
	now := time.Unix(0, 0).Add(2 * time.Hour)
	var names []string
	for _, r := range rules {
		q, err := engine.NewRangeQuery(t.Context(), storage, nil, r.Expr, now.Add(-time.Duration(r.For)), now, 30*time.Second)
		if err != nil {
			t.Fatalf("%s: %v", r.Alert, err)
		}
		result := q.Exec(t.Context())
		matrix, err := result.Matrix()
		if err != nil {
			t.Fatalf("%s: %v", r.Alert, err)
		}
		steps := int(time.Duration(r.For)/(30*time.Second)) + 1
		if slices.ContainsFunc(matrix, func(s promql.Series) bool { return len(s.Floats) == steps }) {
			names = append(names, r.Alert)
		}
		q.Close()
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), " ")
}
