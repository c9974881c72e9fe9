package daemon_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
)

// TestConnectionsOfSeldomAgents: those all of whose checks run every five minutes have connections, in
// plaintext or with TLS, only while runs are under way; one with a check that runs more often keeps its own.
func TestConnectionsOfSeldomAgents(t *testing.T) {
	const (
		seldom, often, secure = "127.2.0.1:1", "127.2.0.2:1", "127.2.0.3:1"
		fiveMinutes           = "interval = \"5m\"\n" // of the check before it
	)
	run(t, func(w *world) {
		ca := tlsidtest.NewCA(w.t)
		w.checker(seldom, sim.Slow(time.Second))
		w.checker(often, sim.Slow(time.Second))
		w.checker(secure, sim.Slow(time.Second), servers(w.t, ca.Issue(w.t, "checker", tlsidtest.Hosts("127.2.0.3"))))
		mine := ca.Issue(w.t, "poller")
		w.start(time.Minute, 10*time.Second, agents("seldom", 1, 1, seldom)+fiveMinutes+agents("other", 1, 1, seldom)+fiveMinutes+agents("often", 1, 2, often)+fiveMinutes+
			agents("secure", 1, 1, secure)+fiveMinutes+
			fmt.Sprintf("[agents.secure000.tls]\nmode = \"mtls\"\ncert_file = %q\nkey_file = %q\nca_file = %q\n", mine.CertFile, mine.KeyFile, mine.CAFile))
		want := func(when string, seldoms, secures int) {
			t.Helper()
			counts := w.cables.counts()
			delete(counts, coreAddress)
			if diff := cmp.Diff(map[string]int{seldom: seldoms, often: 1, secure: secures}, counts); diff != "" {
				t.Errorf("%s: connections (-want +got):\n%s", when, diff)
			}
		}
		for cycle := range 3 {
			w.pass(500 * time.Millisecond)
			want(fmt.Sprintf("during cycle %d", cycle), 2, 1)
			w.pass(time.Second)
			want(fmt.Sprintf("after cycle %d", cycle), 0, 0)
			w.pass(5*time.Minute - 1501*time.Millisecond)
			want(fmt.Sprintf("just before cycle %d", cycle+1), 0, 0)
			w.pass(time.Millisecond)
		}
		w.pass(30 * time.Second)
		statuses := make(map[string]int)
		for _, d := range w.reports() {
			for _, s := range d.Services {
				if statuses[s.GetAgentId()]++; !s.GetAvailable() {
					t.Errorf("%s/%s: %s", s.GetAgentId(), s.GetServiceName(), s.GetMessage())
				}
			}
		}
		if diff := cmp.Diff(map[string]int{"seldom000": 4, "other000": 4, "often000": 16 + 4, "secure000": 4}, statuses); diff != "" {
			t.Errorf("statuses at core by agent (-want +got):\n%s", diff)
		}
		if told := witnessed[actors.HealthTold](w); len(told) != 4 {
			t.Errorf("health was told %d times, want once by each agent: %+v", len(told), told)
		}
	})
}
