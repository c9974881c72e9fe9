package daemon_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/daemon"
	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/proto/monitoring"
)

// TestOnce: many agents at the same time, those that hang too, and outcomes in the order of the
// configuration, whichever came first. The commands' tests show how they are printed.
func TestOnce(t *testing.T) {
	run(t, func(w *world) {
		checker, _ := w.checker("127.2.0.1:1", sim.OK())
		w.checker("127.2.0.2:1", sim.HangAll())
		cfg, _, err := config.Parse("once.toml", []byte("poller_id = \"p\"\nstate_dir = \"memory\"\nsource_ip = \"127.0.0.1\"\ncore.addresses = [\"127.0.0.1:1\"]\npoll = { interval = \"2s\", timeout = \"1s\" }\n"+
			agents("b", 10, 3, "127.2.0.1:1")+agents("a", 2, 3, "127.2.0.2:1")), config.Source{})
		if err != nil {
			w.t.Fatal(err)
		}
		var want []string
		for _, agent := range cfg.Agents {
			for _, c := range agent.Checks {
				want = append(want, fmt.Sprintf("%s/%s %v", agent.Name, c.Name, agent.Name[0] == 'b'))
			}
		}
		began := time.Now()
		outcomes, err := daemon.Once(w.t.Context(), cfg, daemon.Selection{}, w.net.Dial)
		if err != nil {
			w.t.Fatal(err)
		}
		if took := time.Since(began); took != time.Second {
			w.t.Errorf("it took %v, want as long as the slowest", took)
		}
		var got []string
		for _, o := range outcomes {
			got = append(got, fmt.Sprintf("%s/%s %v", o.Status.Agent.Name, o.Status.Check.Name, o.Status.Available))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			w.t.Errorf("outcomes (-want +got):\n%s", diff)
		}
		outcomes, err = daemon.Once(w.t.Context(), cfg, daemon.Selection{Check: "c1"}, w.net.Dial)
		if err != nil || len(outcomes) != 12 || checker.AllCalls() != 40 {
			w.t.Errorf("one check of each agent: %d outcomes, %d calls in all, error %v", len(outcomes), checker.AllCalls(), err)
		}
	})
}

// TestOnceAsserts: an answer that is not what the check wants is told as why it is unavailable.
func TestOnceAsserts(t *testing.T) {
	run(t, func(w *world) {
		w.checker("127.2.0.1:1", sim.OK())
		cfg, _, err := config.Parse("once.toml", []byte("poller_id = \"p\"\nstate_dir = \"memory\"\nsource_ip = \"127.0.0.1\"\ncore.addresses = [\"127.0.0.1:1\"]\n"+
			agents("a", 1, 1, "127.2.0.1:1")+`assert = ["response_time >= 0", "data.x < 3"]`), config.Source{})
		if err != nil {
			w.t.Fatal(err)
		}
		outcomes, err := daemon.Once(w.t.Context(), cfg, daemon.Selection{}, w.net.Dial)
		if err != nil || len(outcomes) != 1 {
			w.t.Fatalf("%d outcomes, error %v", len(outcomes), err)
		}
		if st := outcomes[0].Status; st.Available || st.Reason != check.Assertion || st.Detail != "data.x < 3 does not hold: data has no x" {
			w.t.Errorf("status %+v", st)
		}
	})
}

// TestOnceWithResults: a check for results is asked for them from the beginning, and the table says
// when there is nothing new.
func TestOnceWithResults(t *testing.T) {
	run(t, func(w *world) {
		w.checker("127.2.0.1:1", listing([]byte(`["device"]`)))
		w.checker("127.2.0.2:1", sim.Behaviour{Chunks: func(_ context.Context, r *monitoring.ResultsRequest, send func(*monitoring.ResultsChunk) error) error {
			return send(&monitoring.ResultsChunk{IsFinal: true, TotalChunks: 1, CurrentSequence: r.GetLastSequence()})
		}})
		cfg, _, err := config.Parse("once.toml", []byte(plain+
			"[agents.a]\naddress = \"127.2.0.1:1\"\nchecks = [{ name = \"devices\", type = \"sync\", results_interval = \"1m\" }]\n"+
			"[agents.b]\naddress = \"127.2.0.2:1\"\nchecks = [{ name = \"network\", type = \"sweep\", results_interval = \"1m\" }]\n"), config.Source{})
		if err != nil {
			w.t.Fatal(err)
		}
		for check, want := range map[string][]string{
			"devices": {"yes", `["device"]`, "by StreamResults", `source="results"`},
			"network": {"yes", "(nothing new, and so nothing to report)"},
		} {
			outcomes, err := daemon.Once(w.t.Context(), cfg, daemon.Selection{Check: check}, w.net.Dial)
			if err != nil {
				w.t.Fatal(err)
			}
			var b strings.Builder
			if err := daemon.PrintOutcomes(&b, cfg, outcomes); err != nil {
				w.t.Fatal(err)
			}
			for _, text := range want {
				if !strings.Contains(b.String(), text) {
					w.t.Errorf("%s: the table lacks %q:\n%s", check, text, b.String())
				}
			}
		}
	})
}

// TestOnceTable: what goes wrong is told at length, what is well is cut.
func TestOnceTable(t *testing.T) {
	t.Parallel()
	agent := &check.Agent{Name: "a"}
	status := &check.Check{Name: "c", Type: "port"}
	results := &check.Check{Name: "r", Type: "sweep", Method: check.StreamResults}
	long := strings.Repeat("0123456789", 50)
	for _, tt := range []struct {
		name   string
		status check.Status
		want   string // the end of the line
	}{
		{"available", check.Status{Check: status, Available: true, Message: []byte(long)}, "  " + long[:100] + "…"},
		{"unavailable", check.Status{Check: status, Message: []byte(long)}, "  " + long[:400] + "…"},
		{"no verdict", check.Status{Check: status, Reason: check.Timeout, Detail: long}, "  " + long},
		{"lines", check.Status{Check: status, Message: []byte("two\r\n\tlines\x1b[A")}, `  two lines\x1b[A`},
		{"no results", check.Status{Check: results, Reason: check.Unimplemented, Detail: "is it a checker's?"}, "  is it a checker's? If it is, it has no results: take results_interval out"},
		{"no such method", check.Status{Check: status, Reason: check.Unimplemented, Detail: "is it a checker's?"}, "  is it a checker's?"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.status.Agent = agent
			var b strings.Builder
			if err := daemon.PrintOutcomes(&b, nil, []daemon.Outcome{{Status: tt.status}, {Status: tt.status}}); err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
			if len(lines) != 3 || !strings.HasSuffix(lines[1], tt.want) || lines[1] != lines[2] {
				t.Errorf("the table is\n%s\nwant lines that end with %s", b.String(), tt.want)
			}
		})
	}
}
