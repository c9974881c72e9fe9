package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/sim"
)

// write replaces a file, as editors and those who deliver files do.
func write(t *testing.T, file, format string, args ...any) {
	t.Helper()
	if err := os.WriteFile(file+".new", fmt.Appendf(nil, format, args...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

const another = "\n[agents.another]\naddress = %q\n[[agents.another.checks]]\nname = \"x\"\ntype = \"port\"\n"

// awaitAtCore waits until the last report has the other agent, or has not.
func awaitAtCore(t *testing.T, core *sim.Core, has bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := core.Await(ctx, func(all []sim.Delivery) bool {
		return len(all) > 0 && strings.Contains(fmt.Sprint(all[len(all)-1].Services), "another") == has
	}); err != nil {
		t.Errorf("core's last report has the other agent: not %v: %v", has, err)
	}
}

// A file that changes is seen, and goes into effect; one that is wrong is told, and does not; SIGHUP does the same.
func TestReload(t *testing.T) {
	t.Parallel()
	core, address := startCore(t)
	ok := checker(t, sim.OK())
	file := configFile(t, twoAgents, address, ok, ok)
	p := start(t, file)
	p.await(t, "poller started")
	write(t, file, twoAgents+another, address, ok, ok, ok)
	line := p.await(t, "configuration reloaded")
	if line["added"] != 1.0 || fmt.Sprint(line["added_agents"]) != "[another]" || line["removed"] != 0.0 {
		t.Errorf("the log says %v", line)
	}
	awaitAtCore(t, core, true)
	write(t, file, twoAgents+another+"addres = 1\n", address, ok, ok, ok)
	line = p.await(t, "configuration not reloaded")
	if text := fmt.Sprint(line["problems"]); !strings.Contains(text, file+":") || !strings.Contains(text, "addres: unknown key") {
		t.Errorf("the log says %v", line)
	}
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	p.await(t, "configuration not reloaded") // again, because somebody asked
	write(t, file, twoAgents, address, ok, ok)
	p.await(t, "configuration reloaded")
	awaitAtCore(t, core, false)
	p.signal(t)
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// The admin server goes where the configuration says.
func TestReloadMovesTheAdminServer(t *testing.T) {
	t.Parallel()
	free, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	next := free.Addr().String()
	_ = free.Close() // to be used just now
	file := configFile(t, twoAgents, "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")
	p := start(t, file)
	before := p.await(t, "poller started")["admin"].(string)
	write(t, file, strings.Replace(twoAgents, "127.0.0.1:0", next, 1), "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")
	p.await(t, "configuration reloaded")
	if code, _ := get(t, next, "/healthz"); code != 200 {
		t.Errorf("the new address answers with %d", code)
	}
	if conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", before); err == nil {
		_ = conn.Close()
		t.Error("the old address still answers")
	}
	p.signal(t)
	p.await(t, "stopping")
	p.signalUntil(t, "poller: second signal")
	p.end()
}

// Included files are watched, also after the file that includes them was broken.
func TestReloadOfIncludedFiles(t *testing.T) {
	t.Parallel()
	file := configFile(t, "include = [\"agents.d/*.toml\"]\n"+twoAgents, "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")
	included := filepath.Join(filepath.Dir(file), "agents.d", "more.toml")
	if err := os.Mkdir(filepath.Dir(included), 0o700); err != nil {
		t.Fatal(err)
	}
	p := start(t, file)
	p.await(t, "poller started")
	write(t, included, another, "127.0.0.1:4")
	if line := p.await(t, "configuration reloaded"); line["added"] != 1.0 {
		t.Errorf("the log says %v", line)
	}
	write(t, file, "include = [\n")
	p.await(t, "configuration not reloaded")
	write(t, file, "include = [\"agents.d/*.toml\"]\n"+twoAgents, "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")
	p.await(t, "configuration looked at again: nothing of it changed")
	write(t, included, strings.Replace(another, `"x"`, `"y"`, 1), "127.0.0.1:4")
	if line := p.await(t, "configuration reloaded"); line["changed"] != 1.0 {
		t.Errorf("the log says %v", line)
	}
	p.signal(t)
	p.await(t, "stopping")
	p.signalUntil(t, "poller: second signal")
	p.end()
}
