package daemon_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/internal/tlsid"
	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
)

// servers returns the credentials of a server.
func servers(t *testing.T, id check.TLS) credentials.TransportCredentials {
	t.Helper()
	cfg, err := tlsid.Server(id)
	if err != nil {
		t.Fatal(err)
	}
	return credentials.NewTLS(cfg)
}

func TestMutualTLS(t *testing.T) {
	run(t, func(w *world) {
		ca, strangers := tlsidtest.NewCA(w.t), tlsidtest.NewCA(w.t)
		w.coreServer.Stop()
		w.coreUp(servers(w.t, ca.Issue(w.t, "core", tlsidtest.Hosts("127.1.0.1"))))
		w.checker("127.2.0.1:1", sim.OK(), servers(w.t, ca.Issue(w.t, "checker", tlsidtest.Hosts("127.2.0.1"))))
		w.checker("127.2.0.2:1", sim.OK(), servers(w.t, strangers.Issue(w.t, "stranger", tlsidtest.Hosts("127.2.0.2"))))
		w.checker("127.2.0.3:1", sim.OK(), servers(w.t, ca.Issue(w.t, "other name", tlsidtest.Hosts("elsewhere"))))
		w.checker("127.2.0.4:1", sim.OK()) // plaintext
		mine := ca.Issue(w.t, "poller")
		w.start(5*time.Second, 2*time.Second,
			agents("good", 2, 2, "127.2.0.1:1")+agents("stranger", 1, 1, "127.2.0.2:1")+
				agents("misnamed", 1, 1, "127.2.0.3:1")+agents("plain", 1, 1, "127.2.0.4:1")+
				fmt.Sprintf("[tls]\nmode = \"mtls\"\ncert_file = %q\nkey_file = %q\nca_file = %q\n", mine.CertFile, mine.KeyFile, mine.CAFile))
		w.pass(14 * time.Second)
		for i, cycle := range w.wantWhole(3, 7, 5*time.Second) {
			for key, m := range cycle {
				good := strings.HasPrefix(key, "good")
				if good == strings.Contains(m, "reason") || !good && !strings.Contains(m, `"reason":"tls"`) {
					t.Errorf("cycle %d, %s: %s", i, key, m)
				}
			}
		}
	})
}

func TestCoreOfStrangersGetsNothing(t *testing.T) {
	run(t, func(w *world) {
		ca, strangers := tlsidtest.NewCA(w.t), tlsidtest.NewCA(w.t)
		w.coreServer.Stop()
		w.coreUp(servers(w.t, strangers.Issue(w.t, "core", tlsidtest.Hosts("127.1.0.1"))))
		w.start(5*time.Second, 2*time.Second, fmt.Sprintf("[tls]\nmode = \"tls\"\nca_file = %q\n", ca.File))
		w.pass(11 * time.Second)
		if n := len(w.reports()); n != 0 {
			t.Errorf("%d reports went to a stranger", n)
		}
		if _, d := w.ready("core"); !strings.Contains(d, "reports kept: 3") || !strings.Contains(d, "certificate") {
			t.Errorf("the condition of core says %q", d)
		}
	})
}
