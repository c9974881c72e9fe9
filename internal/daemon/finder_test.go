package daemon_test

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/daemon"
	"github.com/serviceradar/poller/internal/sim"
)

// finding is a poller with sources of targets, over real files and a real server. Its checkers and core are simulated.
type finding struct {
	t       *testing.T
	dir     string
	core    sim.Core
	address string                 // of core
	port    string                 // of the checker, at any address of this machine
	list    atomic.Pointer[string] // what the URL answers; an error if it is nil
	events  chan actors.Reloaded
	daemon  *daemon.Daemon
}

func newFinding(t *testing.T) *finding {
	t.Helper()
	t.Parallel()
	f := &finding{t: t, dir: t.TempDir(), events: make(chan actors.Reloaded, 100)}
	core, err := f.core.Start("127.0.0.1:0", nil)
	f.must(err)
	t.Cleanup(core.Stop)
	checker, err := sim.NewChecker(sim.OK()).Start("0.0.0.0:0", nil)
	f.must(err)
	t.Cleanup(checker.Stop)
	_, port, err := net.SplitHostPort(checker.Addr())
	f.must(err)
	f.address, f.port = core.Addr(), port
	inventory := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		list := f.list.Load()
		if list == nil {
			http.Error(w, "out of order", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprint(w, *list)
	}))
	t.Cleanup(inventory.Close)
	f.write("poller.toml", fmt.Sprintf("poller_id = \"p\"\nstate_dir = %q\nsource_ip = \"127.0.0.1\"\nadmin.listen = \"\"\ncore.addresses = [%q]\n"+
		"poll = { interval = \"1s\", timeout = \"900ms\" }\n[[profiles.web.checks]]\nname = \"{{ .labels.site }}\"\ntype = \"port\"\n"+
		"[discovery]\nfile = [{ paths = [\"targets/*.json\"], profile = \"web\" }]\nhttp = [{ url = %q, refresh = \"1s\", profile = \"web\" }]\n",
		f.state(), f.address, inventory.URL))
	return f
}

func (f *finding) state() string {
	dir := filepath.Join(f.dir, "state")
	f.must(os.MkdirAll(dir, 0o700))
	return dir
}

func (f *finding) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// write writes a file that is old enough to be complete.
func (f *finding) write(name, text string) {
	f.t.Helper()
	name = filepath.Join(f.dir, name)
	f.must(os.MkdirAll(filepath.Dir(name), 0o700))
	f.must(os.WriteFile(name+".new", []byte(text), 0o600))
	old := time.Now().Add(-time.Minute)
	f.must(os.Chtimes(name+".new", old, old))
	f.must(os.Rename(name+".new", name))
}

// targets lists names at the checker.
func (f *finding) targets(names ...string) string {
	var groups []string
	for _, name := range names {
		groups = append(groups, fmt.Sprintf(`{"targets":[%q],"labels":{"agent":%q,"site":"s"}}`, "127.0.0."+name[1:]+":"+f.port, name))
	}
	return "[" + strings.Join(groups, ",") + "]"
}

func (f *finding) start() {
	f.t.Helper()
	source := config.Source{File: filepath.Join(f.dir, "poller.toml")}
	load := func(targets map[string][]config.Target, _ fs.FS) config.Loaded {
		source := source
		source.Targets = targets
		return config.Read(source)
	}
	loaded := load(nil, nil)
	f.must(loaded.Err)
	f.daemon = daemon.New(daemon.Options{
		Config: loaded.Config, Files: loaded.Files, Load: load, Log: zerolog.New(zerolog.NewTestWriter(f.t)).Level(zerolog.ErrorLevel),
		Observe: func(e actors.Event) {
			if e, ok := e.(actors.Reloaded); ok {
				f.events <- e
			}
		},
	})
	f.must(f.daemon.Start(f.t.Context()))
	f.t.Cleanup(f.stop)
}

func (f *finding) stop() {
	f.t.Helper()
	if f.daemon != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(f.t.Context()), 20*time.Second)
		defer cancel()
		f.must(f.daemon.Stop(ctx))
		f.daemon = nil
	}
}

// await waits until the agents are these.
func (f *finding) await(names ...string) {
	f.t.Helper()
	for late := time.After(20 * time.Second); ; {
		select {
		case e := <-f.events:
			var agents []string
			for _, a := range e.Config.Agents {
				agents = append(agents, a.Name)
			}
			if slices.Equal(agents, names) {
				return
			}
		case <-late:
			f.t.Fatalf("the agents did not become %q", names)
		}
	}
}

// awaitDetail waits until the condition of discovery says something.
func (f *finding) awaitDetail(want string) {
	f.t.Helper()
	detail := ""
	for began := time.Now(); time.Since(began) < 20*time.Second; <-time.After(10 * time.Millisecond) {
		_, conditions := f.daemon.Ready()
		for _, c := range conditions {
			if c.Name == "discovery" {
				detail = c.Detail
			}
		}
		if strings.Contains(detail, want) {
			return
		}
	}
	f.t.Errorf("the condition of discovery says %q, want %q", detail, want)
}

// Targets become agents, wherever they are listed; errors and garbage change nothing, and are told; what is gone goes.
func TestDiscovery(t *testing.T) {
	f := newFinding(t)
	f.write("targets/a.json", f.targets("t1", "t2"))
	f.start()
	list := f.targets("t5", "t6", "t7")
	f.list.Store(&list)
	f.await("t1", "t2", "t5", "t6", "t7")
	f.write("targets/a.json", f.targets("t1", "t2", "t3"))
	f.await("t1", "t2", "t3", "t5", "t6", "t7")
	f.write("targets/a.json", "[{")
	list = f.targets("t5", "t6")
	f.list.Store(&list)
	f.await("t1", "t2", "t3", "t5", "t6")
	f.awaitDetail("a.json")
	f.list.Store(nil)
	f.write("targets/a.json", f.targets("t1", "t2", "t4"))
	f.await("t1", "t2", "t4", "t5", "t6")
	f.awaitDetail("500")
	if _, err := f.core.Await(t.Context(), func(all []sim.Delivery) bool {
		text := fmt.Sprint(all[max(0, len(all)-1):])
		return strings.Contains(text, "t4") && strings.Contains(text, "t5") && !strings.Contains(text, "t3")
	}); err != nil {
		t.Error(err)
	}
}

// What was found is known after a restart, also if the sources are gone.
func TestDiscoveryOutlivesARestart(t *testing.T) {
	f := newFinding(t)
	f.write("targets/a.json", f.targets("t1"))
	list := f.targets("t5")
	f.list.Store(&list)
	f.start()
	f.await("t1", "t5")
	f.stop()
	f.list.Store(nil)
	f.must(os.RemoveAll(filepath.Join(f.dir, "targets")))
	before := len(f.core.Deliveries())
	f.start()
	deliveries, err := f.core.Await(t.Context(), func(all []sim.Delivery) bool {
		return len(all) > before && len(all[len(all)-1].Services) > 0
	})
	f.must(err)
	if text := fmt.Sprint(deliveries[len(deliveries)-1].Services); !strings.Contains(text, "t1") || !strings.Contains(text, "t5") {
		t.Errorf("the first report after the restart: %s", text)
	}
}

// Targets of which no agents can be made keep nobody else from being polled.
func TestDiscoveryLeavesOut(t *testing.T) {
	f := newFinding(t)
	f.write("targets/a.json", `[{"targets":["127.0.0.1:1"],"labels":{"agent":"siteless"}},`+strings.TrimPrefix(f.targets("t1"), "["))
	f.start()
	list := "[]"
	f.list.Store(&list)
	f.awaitDetail("siteless")
	if _, err := f.core.Await(t.Context(), func(all []sim.Delivery) bool {
		return strings.Contains(fmt.Sprint(all[max(0, len(all)-1):]), "t1")
	}); err != nil {
		t.Error(err)
	}
}

// A configuration that is refused changes nothing, and so not where targets are looked for.
func TestDiscoveryStaysWhenRefused(t *testing.T) {
	f := newFinding(t)
	list := f.targets("t5")
	f.list.Store(&list)
	f.start()
	f.await("t5")
	text, err := os.ReadFile(filepath.Join(f.dir, "poller.toml"))
	f.must(err)
	other, _, _ := strings.Cut(strings.Replace(string(text), `"p"`, `"q"`, 1), "[discovery]")
	f.write("poller.toml", other)
	if err := f.daemon.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "poller_id can't change") {
		t.Errorf("reload: %v", err)
	}
	f.list.Store(nil)
	f.write("poller.toml", strings.Replace(string(text), "900ms", "800ms", 1))
	f.await("t5")
}
