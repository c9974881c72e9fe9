package daemon_test

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/daemon"
	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
)

// written is a configuration file in memory.
type written struct{ head, more string }

func (f *written) load(targets map[string][]config.Target, _ fs.FS) config.Loaded {
	cfg, warnings, err := config.Parse("test.toml", []byte(f.head+f.more), config.Source{Targets: targets})
	return config.Loaded{Config: cfg, Warnings: warnings, Err: err}
}

// startChangeable is start with a configuration that can be written anew.
func (w *world) startChangeable(more string) *written {
	w.t.Helper()
	f := &written{
		head: fmt.Sprintf("poller_id = \"p\"\nstate_dir = \"memory\"\nsource_ip = \"127.0.0.1\"\nadmin.listen = \"\"\ncore.addresses = [%q]\ncore.timeout = \"3s\"\n"+
			"[poll]\ninterval = \"2s\"\ntimeout = \"1s\"\n", coreAddress),
		more: more,
	}
	loaded := f.load(nil, nil)
	if loaded.Err != nil {
		w.t.Fatal(loaded.Err)
	}
	w.daemon = daemon.New(daemon.Options{
		Config: loaded.Config, Load: f.load, Log: w.logger(),
		Observe: w.observe, Dial: w.cables.dialer(&w.net), Lookup: w.find,
	})
	if err := w.daemon.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return f
}

func (w *world) reload() {
	w.t.Helper()
	if err := w.daemon.Reload(w.t.Context()); err != nil {
		w.t.Error(err)
	}
}

// eventsOf returns the events of a type.
func eventsOf[E actors.Event](w *world) []E {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []E
	for _, e := range w.events {
		if e, ok := e.(E); ok {
			all = append(all, e)
		}
	}
	return all
}

func TestReload(t *testing.T) {
	run(t, func(w *world) {
		w.checker("127.2.0.1:1", sim.OK())
		f := w.startChangeable(agents("a", 2, 2, "127.2.0.1:1") + agents("b", 2, 2, "127.2.0.1:1"))
		w.pass(3 * time.Second)
		f.more = agents("a", 2, 2, "127.2.0.1:1") + agents("c", 1, 2, "127.2.0.1:1")
		w.reload()
		w.pass(5*time.Second - time.Millisecond)
		var sizes []int
		for _, d := range w.reports() {
			sizes = append(sizes, len(d.Services))
		}
		if fmt.Sprint(sizes) != "[8 8 6 6]" {
			t.Errorf("core has reports of %v statuses", sizes)
		}
		if open := w.cables.counts()["127.2.0.1:1"]; open != 3 {
			t.Errorf("%d connections to the checker are open, want 3", open)
		}
	})
}

// Who asks right after the start is answered, too.
func TestReloadAtOnce(t *testing.T) {
	run(t, func(w *world) {
		f := w.startChangeable("")
		f.more = "rate = 7\n"
		began := time.Now()
		w.reload()
		if took := time.Since(began); took > time.Second || len(eventsOf[actors.Reloaded](w)) != 1 {
			t.Errorf("the reload took %v, and %d were told", took, len(eventsOf[actors.Reloaded](w)))
		}
	})
}

// Another core gets what follows, and an idle connection to the one before does not stay.
func TestReloadOfCore(t *testing.T) {
	run(t, func(w *world) {
		var other sim.Core
		l, err := w.net.Listen("127.1.0.2:50052")
		if err != nil {
			t.Fatal(err)
		}
		server := other.Serve(l, nil)
		defer server.Stop()
		w.checker("127.2.0.1:1", sim.OK())
		f := w.startChangeable(agents("a", 1, 1, "127.2.0.1:1"))
		w.pass(3 * time.Second)
		f.head = strings.Replace(f.head, coreAddress, "127.1.0.2:50052", 1)
		w.reload()
		w.pass(time.Second - time.Millisecond)
		if open := w.cables.counts()[coreAddress]; open != 0 {
			t.Errorf("%d connections to the core before are open", open)
		}
		w.pass(4 * time.Second)
		if n, m := len(w.reports()), len(other.Deliveries()); n != 2 || m != 2 {
			t.Errorf("the first core has %d reports and the second %d, want 2 and 2", n, m)
		}
	})
}

// What can't be, or can't be while the poller runs, changes nothing, and is told.
func TestReloadRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(f *written)
		want   string
	}{
		"a slip":        {func(f *written) { f.more += "pol = 1\n" }, "test.toml:16:1: agents.a000.checks[0].pol: unknown key"},
		"another id":    {func(f *written) { f.head = strings.Replace(f.head, `"p"`, `"q"`, 1) }, `poller_id can't change from "p" to "q" while the poller runs`},
		"another place": {func(f *written) { f.head = strings.Replace(f.head, `"memory"`, `"/var/lib/p"`, 1) }, `state_dir can't change from "memory" to "/var/lib/p"`},
		"the format":    {func(f *written) { f.more += "[log]\nformat = \"json\"\n" }, `log.format can't change from "auto" to "json"`},
		"a cluster":     {func(f *written) { f.more += "[cluster]\nenabled = true\nsize = 1\n" }, "cluster.enabled can't change from false to true while the poller runs"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(w *world) {
				w.checker("127.2.0.1:1", sim.OK())
				f := w.startChangeable(agents("a", 1, 1, "127.2.0.1:1"))
				was := *f
				w.pass(time.Second)
				tt.change(f)
				err := w.daemon.Reload(w.t.Context())
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("reload: %v, want %s", err, tt.want)
				}
				ready, detail := w.ready("config")
				if !ready || !strings.Contains(detail, "not reloaded, the configuration before stays in use") || !strings.Contains(detail, tt.want) {
					t.Errorf("ready %v, %s", ready, detail)
				}
				w.pass(2 * time.Second)
				w.wantWhole(2, 1, 2*time.Second)
				*f = was
				w.reload()
				if _, detail := w.ready("config"); detail != "" {
					t.Errorf("the configuration is as it was, and the condition says %q", detail)
				}
				if n := len(eventsOf[actors.ReloadFailed](w)); n != 1 {
					t.Errorf("told %d times", n)
				}
			})
		})
	}
}

// Limits and the level of the log follow, too; a poll interval that changes makes cycles of its own.
func TestReloadOfSettings(t *testing.T) {
	run(t, func(w *world) {
		checker, _ := w.checker("127.2.0.1:1", sim.OK())
		f := w.startChangeable("rate = 1000\n" + agents("a", 3, 1, "127.2.0.1:1"))
		w.pass(3 * time.Second)
		f.head = strings.Replace(f.head, `interval = "2s"`, `interval = "1s"`, 1)
		f.more = "max_in_flight = 1\n[spool]\nmax_bytes = \"3MiB\"\n[breaker]\nfailures = 1\n[restart]\nbudget = 3\n" + agents("a", 3, 1, "127.2.0.1:1")
		w.reload()
		w.pass(1500 * time.Millisecond)
		w.wantSamples(map[string]string{`poller_spool_max_bytes`: "3.145728e+06", `poller_spool_max_age_seconds`: "604800"})
		if n := len(w.reports()); n != 4 { // at 0, 2, 3 and 4 s
			t.Errorf("core has %d reports, want 4", n)
		}
		checker.Set(sim.Hang())
		w.pass(2 * time.Second)
		if opened := len(eventsOf[actors.BreakerChanged](w)); opened == 0 {
			t.Error("no breaker opened after one failure")
		}
		reports := w.reports()
		text := fmt.Sprint(reports[len(reports)-1].Services)
		if !strings.Contains(text, "poll.max_in_flight = 1") {
			t.Errorf("nobody had to wait: %s", text)
		}
	})
}

// New certificates are used for new connections, which are made at once; broken files change nothing, also for connections
// that are made meanwhile.
func TestReloadRenewsCertificates(t *testing.T) {
	run(t, func(w *world) {
		ca := tlsidtest.NewCA(w.t)
		theirs := servers(w.t, ca.Issue(w.t, "checker", tlsidtest.Hosts("127.2.0.1")))
		_, server := w.checker("127.2.0.1:1", sim.OK(), theirs)
		w.coreServer.Stop()
		w.coreUp(servers(w.t, ca.Issue(w.t, "core", tlsidtest.Hosts("127.1.0.1"))))
		mine, next := ca.Issue(w.t, "poller"), ca.Issue(w.t, "poller")
		w.startChangeable(agents("a", 2, 1, "127.2.0.1:1") +
			fmt.Sprintf("[tls]\nmode = \"mtls\"\ncert_file = %q\nkey_file = %q\nca_file = %q\n", mine.CertFile, mine.KeyFile, mine.CAFile))
		w.pass(3 * time.Second)
		replace := func(name, by string) {
			text, err := os.ReadFile(by)
			if err == nil {
				err = os.WriteFile(name, text, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		replace(mine.CertFile, next.CertFile) // and not yet its key
		w.reload()
		if _, detail := w.ready("tls"); !strings.Contains(detail, "those before stay in use") || !strings.Contains(detail, mine.KeyFile) {
			t.Errorf("the condition of certificates says %q", detail)
		}
		server.Stop()
		w.pass(100 * time.Millisecond)
		w.checker("127.2.0.1:1", sim.OK(), theirs)
		w.pass(1900 * time.Millisecond)
		before := w.cables.made()
		replace(mine.KeyFile, next.KeyFile)
		w.reload()
		if _, detail := w.ready("tls"); detail != "" {
			t.Errorf("the certificates are well, and the condition says %q", detail)
		}
		w.pass(time.Millisecond)
		for address, n := range w.cables.counts() {
			if n != 0 {
				t.Errorf("%d connections to %s show the certificate before", n, address)
			}
		}
		w.pass(3*time.Second - 2*time.Millisecond)
		for i, cycle := range w.wantWhole(4, 2, 2*time.Second) {
			for name, message := range cycle {
				if strings.Contains(message, "reason") {
					t.Errorf("cycle %d, %s: %s", i, name, message)
				}
			}
		}
		if after := w.cables.made(); after != before+3 {
			t.Errorf("%d connections were made with the new certificate, want one to core and one for each agent", after-before)
		}
	})
}

func TestReloadWithoutAWay(t *testing.T) {
	run(t, func(w *world) {
		w.start(2*time.Second, time.Second, "")
		if err := w.daemon.Reload(w.t.Context()); err == nil {
			t.Error("a configuration that can't be loaded again was")
		}
	})
}
