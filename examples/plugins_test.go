//go:build plugins && linux

// Package examples_test runs the examples as real processes: the poller, as it is shipped, asks them and
// reports to a simulated core.
package examples_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/proto/monitoring"
)

const (
	interval = time.Second
	// backWithin is the promise: how long after its return a plugin is right again. Core hears of it at the end of the
	// cycle.
	backWithin = 5 * time.Second
	long       = time.Minute
	// files are in the queue: three chunks of results.
	files = 2500
)

const config = `
poller_id = "p"
state_dir = "memory"
source_ip = "127.0.0.1"
admin.listen = "127.0.0.1:0"
core.addresses = [%q]
poll = { interval = "1s", timeout = "800ms" }
[agents.python]
address = %q
checks = [
  { name = "queue", type = "queue", details = "orders" },
  { name = "files", type = "queue", details = "orders", results_interval = "1s" },
  { name = "files for sync", type = "queue", details = "orders", results_interval = "1s" },
]
[agents.node]
address = %q
checks = [{ name = "orders", type = "orders", details = "orders.log" }]
[agents.garbage]
address = %q
checks = [{ name = "a", type = "port", details = "127.0.0.1:22" }]
[agents.steady]
address = %q
checks = [{ name = "a", type = "port", details = "127.0.0.1:22" }]
`

// plugin is an example that runs.
type plugin struct {
	agent, check string
	command      []string
	test         []string // arguments of checker test
	address      string
	cmd          *exec.Cmd
}

// start starts the plugin where it was before, and returns when it listens.
func (p *plugin) start(t *testing.T) {
	t.Helper()
	if p.address == "" {
		p.address = "127.0.0.1:0"
	}
	p.cmd = exec.CommandContext(t.Context(), p.command[0], append(p.command[1:], "--listen", p.address)...)
	p.cmd.Stderr = os.Stderr
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cmd := p.cmd
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	port, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on port ")
	if err != nil || !ok {
		t.Fatalf("%s said %q: %v", p.agent, line, err)
	}
	p.address = "127.0.0.1:" + port
}

// programs builds the poller and the checker.
func programs(t *testing.T) (poller, checker string) {
	t.Helper()
	dir := t.TempDir()
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", dir, "../cmd/poller", "../cmd/checker").CombinedOutput()
	if err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return filepath.Join(dir, "poller"), filepath.Join(dir, "checker")
}

// python returns the interpreter that has grpc: Debian's, unless another has it, too.
func python(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"/usr/bin/python3", "python3"} {
		if exec.CommandContext(t.Context(), name, "-c", "import grpc, google.protobuf").Run() == nil {
			return name
		}
	}
	t.Fatal("no python3 has the module grpc: apt-get install python3-grpcio python3-protobuf")
	return ""
}

// plugins starts the examples.
func plugins(t *testing.T) []*plugin {
	t.Helper()
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "orders"), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range files {
		if err := os.WriteFile(filepath.Join(root, "orders", fmt.Sprintf("%04d", i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	soon := time.Now().Add(time.Hour).UTC().Format(time.RFC3339) // so that it is within the last minute all the time
	if err := os.WriteFile(filepath.Join(root, "orders.log"), []byte(soon+" order 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	all := []*plugin{
		{
			agent: "python", check: "queue", command: []string{python(t), "python/checker.py", "--root", root, "--max-age", "3600"},
			test: []string{"--type", "queue", "--details", "orders", "--results", "queue"},
		},
		{
			agent: "node", check: "orders", command: []string{"node", "node/checker.js", "--root", root},
			test: []string{"--type", "orders", "--details", "orders.log"},
		},
	}
	for _, p := range all {
		p.start(t)
	}
	return all
}

// garbage accepts connections and speaks no gRPC.
func garbage(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("\x00\xff\x17 220 what is it? \r\n\r\n" + strings.Repeat("\xde\xad", 100)))
			_ = conn.Close()
		}
	})
	t.Cleanup(func() { _ = l.Close(); open.Wait() })
	return l.Addr().String()
}

// world is the poller, and core.
type world struct{ core *sim.Core }

// begin runs the poller against the plugins until the test's end.
func begin(t *testing.T, poller string, all []*plugin) *world {
	t.Helper()
	w := &world{core: new(sim.Core)}
	core, err := w.core.Start("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(core.Stop)
	steady, err := sim.NewChecker(sim.OK()).Start("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(steady.Stop)
	file := filepath.Join(t.TempDir(), "poller.toml")
	text := fmt.Sprintf(config, core.Addr(), all[0].address, all[1].address, garbage(t), steady.Addr())
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), poller, "run", "-c", file, "--log.level", "error")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return w
}

// await waits for a status that came in after a time and is as wanted, and returns when it came in.
func (w *world) await(t *testing.T, after time.Time, what string, want func(*monitoring.ServiceStatus) bool) time.Time {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	var at time.Time
	_, err := w.core.Await(ctx, func(all []sim.Delivery) bool {
		for _, d := range all {
			for _, s := range d.Services {
				if d.At.After(after) && want(s) {
					at = d.At
					return true
				}
			}
		}
		return false
	})
	if err != nil {
		t.Fatalf("core did not get %s: %v", what, err)
	}
	return at
}

// of is a status of the plugin's check.
func (p *plugin) of(available bool) func(*monitoring.ServiceStatus) bool {
	return func(s *monitoring.ServiceStatus) bool {
		return s.GetAgentId() == p.agent && s.GetServiceName() == p.check && s.GetAvailable() == available
	}
}

func TestPlugins(t *testing.T) {
	poller, checker := programs(t)
	all := plugins(t)
	for _, p := range all {
		out, err := exec.CommandContext(t.Context(), checker, append([]string{"test", p.address}, p.test...)...).CombinedOutput()
		if err != nil {
			t.Errorf("checker test of %s: %v", p.agent, err)
		}
		t.Logf("checker test of %s:\n%s", p.agent, out)
	}
	w := begin(t, poller, all)
	began := time.Now()
	for _, p := range all {
		w.await(t, began, "a verdict of "+p.agent, p.of(true))
	}
	w.await(t, began, "the files in the queue in one message", func(s *monitoring.ServiceStatus) bool {
		var message struct{ Data []struct{ File string } }
		return s.GetServiceName() == "files" && s.GetAvailable() && json.Unmarshal(s.GetMessage(), &message) == nil &&
			len(message.Data) == files
	})
	w.await(t, began, "the files in the queue in chunks", func(s *monitoring.ServiceStatus) bool {
		var bare []struct{ File string } // as everything for sync
		return s.GetServiceName() == "files for sync" && s.GetAvailable() && json.Unmarshal(s.GetMessage(), &bare) == nil &&
			len(bare) == files
	})
	w.await(t, began, "that the garbage is unavailable", func(s *monitoring.ServiceStatus) bool {
		return s.GetAgentId() == "garbage" && !s.GetAvailable() && strings.Contains(string(s.GetMessage()), `"reason"`)
	})
	faults := []struct {
		name     string
		strike   func(*plugin) error
		comeBack func(*plugin)
	}{
		{"kill -9", func(p *plugin) error {
			err := p.cmd.Process.Kill()
			_ = p.cmd.Wait() // that it was killed
			return err
		}, func(p *plugin) { p.start(t) }},
		{"SIGSTOP", func(p *plugin) error { return p.cmd.Process.Signal(syscall.SIGSTOP) }, func(p *plugin) {
			if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
		}},
	}
	var quiet []period // in which a plugin was not there
	for _, fault := range faults {
		for _, p := range all {
			away := period{agent: p.agent, from: time.Now()}
			if err := fault.strike(p); err != nil {
				t.Fatal(err)
			}
			w.await(t, time.Now(), fault.name+" of "+p.agent, p.of(false))
			fault.comeBack(p)
			back := time.Now()
			away.to = w.await(t, back, p.agent+" after "+fault.name, p.of(true))
			quiet = append(quiet, away)
			took := away.to.Sub(back)
			t.Logf("%-7s of %-6s right again at core after %v", fault.name, p.agent, took.Round(time.Millisecond))
			if took > backWithin+interval {
				t.Errorf("%s: %s was right again after %v; want at most %v and a cycle", fault.name, p.agent, took, backWithin)
			}
		}
	}
	others(t, w.core.Deliveries(), began, quiet)
}

// period is when a plugin was away.
type period struct {
	agent    string
	from, to time.Time
}

// others wants of each check, in each cycle since all were seen, one status, and an available one but
// while its plugin was away.
func others(t *testing.T, deliveries []sim.Delivery, began time.Time, quiet []period) {
	t.Helper()
	checks := map[string]string{"steady": "a", "python": "queue", "node": "orders"}
	counted := make(map[string]int)
	last := make(map[string]int64)
	for _, d := range deliveries {
		for _, s := range d.Services {
			agent := s.GetAgentId()
			if checks[agent] != s.GetServiceName() || s.GetServiceName() == "" {
				continue
			}
			counted[agent]++
			if previous := last[agent]; previous != 0 && d.Timestamp-previous > 2 { // cycles have whole seconds only
				t.Errorf("%s has no status between %d and %d", agent, previous, d.Timestamp)
			}
			last[agent] = d.Timestamp
			away := false
			for _, q := range quiet {
				away = away || q.agent == agent && d.At.After(q.from) && !d.At.After(q.to)
			}
			if !s.GetAvailable() && !away && d.At.Sub(began) > 2*interval {
				t.Errorf("%s was there and is unavailable in the cycle of %d: %s", agent, d.Timestamp, s.GetMessage())
			}
		}
	}
	if counted["steady"] < 10 || counted["steady"] != counted["python"] || counted["steady"] != counted["node"] {
		t.Errorf("statuses: %v; want of all the same number", counted)
	}
	t.Logf("statuses: %v", counted)
}
