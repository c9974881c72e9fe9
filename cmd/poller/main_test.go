package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/sim"
)

// binary is the poller as it is shipped, built once.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "poller")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "poller")
	out, err := exec.CommandContext(context.Background(), "go", "build", "-o", binary, ".").CombinedOutput()
	if err != nil {
		panic(fmt.Sprintf("go build: %v\n%s", err, out))
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// TestCommands also links the program into the tests: they run a binary that they build, and without
// that go test would take a result that it remembers for that of a program that has changed.
func TestCommands(t *testing.T) {
	t.Parallel()
	var names []string
	for _, c := range command().Commands() {
		names = append(names, c.Name())
	}
	if got, want := strings.Join(names, " "), "cluster convert diff drain move once reload run spool validate version"; got != want {
		t.Errorf("commands %q, want %q", got, want)
	}
}

// result is how a run of the program ended.
type result struct {
	code           int
	stdout, stderr string
}

func poller(t *testing.T, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(exit, err)
	}
	return result{code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
}

func configFile(t *testing.T, format string, args ...any) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "poller.toml")
	if err := os.WriteFile(file, fmt.Appendf(nil, format, args...), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func checker(t *testing.T, b sim.Behaviour) string {
	t.Helper()
	server, err := sim.NewChecker(b).Start("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return server.Addr()
}

const twoAgents = `
poller_id = "p"
state_dir = "memory"
source_ip = "127.0.0.1"
admin.listen = "127.0.0.1:0"
shutdown_timeout = "6s"
core.addresses = [%q]
poll = { interval = "2s", timeout = "1s" }
log.level = "debug"
[agents.one]
address = %q
checks = [{ name = "a", type = "port", details = "127.0.0.1:22" }, { name = "b", type = "port", details = "127.0.0.1:23" }]
[agents.two]
address = %q
checks = [{ name = "a", type = "port", details = "127.0.0.1:22" }]
`

func TestValidate(t *testing.T) {
	t.Parallel()
	good := configFile(t, twoAgents, "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")
	if r := poller(t, "validate", "-c", good); r.code != 0 || !strings.Contains(r.stdout, "2 agents") {
		t.Errorf("good file: %+v", r)
	}
	disabled := configFile(t, twoAgents+"disabled = true\n", "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")
	if r := poller(t, "validate", "-c", disabled); r.code != 0 || r.stdout != "the configuration is right: 1 agent, 1 disabled\n" {
		t.Errorf("a disabled agent: %+v", r)
	}
	sources := configFile(t, twoAgents+"[discovery]\nfile = [{ paths = [\"/not/there.json\"], profile = \"web\" }]\n"+
		"http = [{ url = \"http://127.0.0.1:1/\", profile = \"web\" }]\n[[profiles.web.checks]]\nname = \"a\"\ntype = \"port\"\n",
		"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")
	if r := poller(t, "validate", "-c", sources); r.code != 0 || r.stdout != "the configuration is right: 2 agents, more from 2 sources, not looked at\n" {
		t.Errorf("sources: %+v", r)
	}
	printed := poller(t, "validate", "-c", good, "--print")
	if printed.code != 0 || !strings.Contains(printed.stdout, `poller_id = "p"`) {
		t.Errorf("--print: %+v", printed)
	}
	again := configFile(t, "%s", printed.stdout)
	if r := poller(t, "validate", "-c", again, "--print"); r.stdout != printed.stdout {
		t.Errorf("what was printed does not print itself: %+v", r)
	}
	bad := configFile(t, "poller_id = 7\n[pol]\n[core]\naddresses = [\"127.0.0.1:1\"]\ntimout = \"1s\"\n")
	r := poller(t, "validate", "-c", bad)
	for _, want := range []string{":1:13: poller_id", ":2:2: pol", `did you mean "poll"`, ":5:1: core.timout", "3 errors"} {
		if !strings.Contains(r.stderr, want) {
			t.Errorf("the errors lack %q: %s", want, r.stderr)
		}
	}
	if r.code != 1 || r.stdout != "" {
		t.Errorf("bad file: %+v", r)
	}
	if r := poller(t, "validate", "-c", filepath.Join(t.TempDir(), "none.toml")); r.code != 1 || !strings.Contains(r.stderr, "none.toml") {
		t.Errorf("missing file: %+v", r)
	}
}

func TestValidateLooksAtCertificateFiles(t *testing.T) {
	t.Parallel()
	file := configFile(t, twoAgents+"tls = { mode = \"tls\", ca_file = \"none.pem\" }\n", "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")
	r := poller(t, "validate", "-c", file)
	for _, want := range []string{"for agent two", "none.pem", "there is no such file"} {
		if !strings.Contains(r.stderr, want) {
			t.Errorf("the error lacks %q: %s", want, r.stderr)
		}
	}
	if r.code != 1 {
		t.Errorf("exit code %d", r.code)
	}
}

func TestArguments(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"poller run -c p.toml": {"run", "p.toml", "-c", "x"},
		"with -c FILE":         {"run", "-c", ""},
		"no configuration":     {"validate"},
	} {
		if r := poller(t, args...); r.code != 1 || !strings.Contains(r.stderr, want) {
			t.Errorf("%q: %+v, want %q", args, r, want)
		}
	}
}

func TestOnce(t *testing.T) {
	t.Parallel()
	file := configFile(t, twoAgents, "127.0.0.1:1", checker(t, sim.OK()), checker(t, sim.Unavailable()))
	r := poller(t, "once", "-c", file)
	if r.code != 1 || len(strings.Split(strings.TrimSpace(r.stdout), "\n")) != 4 {
		t.Errorf("all: %+v", r)
	}
	if r := poller(t, "once", "-c", file, "--agent", "one"); r.code != 0 || strings.Count(r.stdout, "yes") != 2 {
		t.Errorf("one agent: %+v", r)
	}
	r = poller(t, "once", "-c", file, "--agent", "one", "--check", "b")
	for _, want := range []string{"answer    {", `envelope  {"poller_id":"p","agent_id":"one","partition":"default","service_type":"port","service_name":"b","data":{`, "took ", `to core   service_name="b" available="true" service_type="port"`, `source="getStatus" kv_store_id=""`} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("one check lacks %q: %+v", want, r)
		}
	}
	if r := poller(t, "once", "-c", file, "--agent", "three"); r.code != 1 || !strings.Contains(r.stderr, "one/a, one/b, two/a") {
		t.Errorf("no such agent: %+v", r)
	}
	nobody := configFile(t, twoAgents, "127.0.0.1:1", "127.0.0.1:2", checker(t, sim.Hang()))
	r = poller(t, "once", "-c", nobody)
	for _, want := range []string{"unreachable", "is the checker running there?", "timeout", "connected to 127.0.0.1:"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("broken checkers: no %q in %+v", want, r)
		}
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	if r := poller(t, "version"); r.code != 0 || !strings.HasPrefix(r.stdout, "poller ") || !strings.Contains(r.stdout, "go1.") {
		t.Errorf("version: %+v", r)
	}
}

// running is a poller that runs.
type running struct {
	cmd   *exec.Cmd
	log   io.Closer // our end of its log
	lines chan map[string]any
}

func start(t *testing.T, file string) *running {
	t.Helper()
	return startCommand(t, exec.CommandContext(t.Context(), binary, "run", "-c", file))
}

func startCommand(t *testing.T, cmd *exec.Cmd) *running {
	t.Helper()
	r := &running{cmd: cmd, lines: make(chan map[string]any, 1<<16)}
	r.cmd.Env = append(cmd.Environ(), "XDG_STATE_HOME="+t.TempDir()) // for those that keep their state where it is by default
	stderr, err := r.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	r.log = stderr
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(r.lines)
		for s := bufio.NewScanner(stderr); s.Scan(); {
			line := make(map[string]any)
			if json.Unmarshal(s.Bytes(), &line) != nil {
				line["message"] = s.Text()
			}
			r.lines <- line
		}
	}()
	return r
}

// await returns the first further log line with this message.
func (r *running) await(t *testing.T, message string) map[string]any {
	t.Helper()
	var seen []any
	for line := range r.lines {
		if m, ok := line["message"].(string); ok && strings.HasPrefix(m, message) {
			return line
		}
		seen = append(seen, line["message"])
	}
	t.Fatalf("the poller ended without the line %q: %v", message, seen)
	return nil
}

func (r *running) signal(t *testing.T) {
	t.Helper()
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

// signalUntil sends signals until there is a log line with this message.
func (r *running) signalUntil(t *testing.T, message string) {
	t.Helper()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			_ = r.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		case line, ok := <-r.lines:
			if !ok {
				t.Fatalf("the poller ended without the line %q", message)
			}
			if m, _ := line["message"].(string); strings.HasPrefix(m, message) {
				return
			}
		}
	}
}

// end waits for the process and returns its exit code.
func (r *running) end() int {
	for range r.lines {
		continue // until stderr is closed
	}
	_ = r.cmd.Wait() // the exit code says it all
	return r.cmd.ProcessState.ExitCode()
}

// startCore starts a core and returns it with its address.
func startCore(t *testing.T) (core *sim.Core, address string) {
	t.Helper()
	core = new(sim.Core)
	server, err := core.Start("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return core, server.Addr()
}

func TestRun(t *testing.T) {
	t.Parallel()
	core, address := startCore(t)
	p := start(t, configFile(t, twoAgents, address, checker(t, sim.OK()), checker(t, sim.Slow(100*time.Millisecond))))
	admin, _ := p.await(t, "poller started")["admin"].(string)
	if code, body := get(t, admin, "/healthz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("healthz: %d %s", code, body)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := core.Await(ctx, func(d []sim.Delivery) bool { return len(d) >= 2 }); err != nil {
		t.Fatal(err)
	}
	if code, body := get(t, admin, "/readyz"); code != http.StatusOK || !strings.Contains(body, `"ready": true`) {
		t.Errorf("readyz: %d %s", code, body)
	}
	p.await(t, "cycle closed")
	wantMetrics(t, admin)
	p.signal(t)
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for i, d := range core.Deliveries() {
		if !d.Registration() && len(d.Services) != 3 {
			t.Errorf("report %d has %d statuses", i, len(d.Services))
		}
		for _, s := range d.Services {
			if !s.GetAvailable() && !strings.Contains(string(s.GetMessage()), "no_answer") {
				t.Errorf("report %d: %v", i, s)
			}
		}
	}
	if v := core.Violations(); len(v) != 0 {
		t.Errorf("violations: %v", v)
	}
}

// wantMetrics asserts what a poller with twoAgents tells Prometheus after its first cycle.
func wantMetrics(t *testing.T, admin string) {
	t.Helper()
	code, body := get(t, admin, "/metrics")
	if code != http.StatusOK {
		t.Fatalf("metrics: %d %s", code, body)
	}
	var ours []string
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "poller_") && !strings.Contains(line, "_bucket{") && !strings.HasSuffix(line, " 0\n") {
			ours = append(ours, line)
		}
	}
	t.Logf("%d lines in all; of the poller's own, those that are not 0:\n%s", strings.Count(body, "\n"), strings.Join(ours, ""))
	for _, want := range []string{
		"poller_agents 2\n", "poller_checks 3\n", `poller_breakers{state="closed"} 2`, "poller_checker_connections 2\n", "poller_cycle_statuses 3\n",
		`poller_ready{condition="cycle"} 1`, `poller_runs_total{reason="",result="available",type="port"} `, "poller_config_last_reload_successful 1\n",
		`poller_deliveries_total{outcome="delivered"} `, "poller_build_info{goversion=\"go1.", "go_goroutines ", "process_resident_memory_bytes ",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the metrics lack %q", want)
		}
	}
	if strings.Contains(body, "protoactor") || strings.Contains(body, "probe_") {
		t.Error("the metrics tell of the actor framework, or of each check")
	}
}

func TestStopWhileCoreIsAwaySaysWhatIsLost(t *testing.T) {
	t.Parallel()
	p := start(t, configFile(t, twoAgents, "127.0.0.1:1", checker(t, sim.OK()), checker(t, sim.OK())))
	p.await(t, "core did not take a report")
	p.signal(t)
	if n, _ := p.await(t, "poller stopped before core had taken all")["kept"].(float64); n < 1 {
		t.Errorf("%v reports are said to be lost", n)
	}
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestNobodyReadsTheLog: the end of the log's reader is not the poller's.
func TestNobodyReadsTheLog(t *testing.T) {
	t.Parallel()
	core, address := startCore(t)
	p := start(t, configFile(t, twoAgents, address, checker(t, sim.OK()), checker(t, sim.OK())))
	p.await(t, "poller started")
	if err := p.log.Close(); err != nil {
		t.Fatal(err)
	}
	had := len(core.Deliveries())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	// The log's level is debug, so that there are lines with each report.
	if _, err := core.Await(ctx, func(d []sim.Delivery) bool { return len(d) >= had+2 }); err != nil {
		t.Fatal(err)
	}
	p.signal(t)
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d, want 0: an orderly stop", code)
	}
}

func TestSecondSignalLeavesAtOnce(t *testing.T) {
	t.Parallel()
	// Core and the checkers do not exist or hang: an orderly stop would take its time.
	p := start(t, configFile(t, twoAgents, "127.0.0.1:1", checker(t, sim.HangAll()), "127.0.0.1:2"))
	p.await(t, "poller started")
	p.signal(t)
	p.await(t, "stopping")
	p.signalUntil(t, "poller: second signal")
	if code := p.end(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
}

// TestSignalThatComesTwice: timeout(1) sends its signal to the process and then to its group; that
// is no second one.
func TestSignalThatComesTwice(t *testing.T) {
	t.Parallel()
	p := start(t, configFile(t, twoAgents, "127.0.0.1:1", checker(t, sim.OK()), "127.0.0.1:2"))
	p.await(t, "poller started")
	// While the process is stopped they wait, and so come together.
	for _, s := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGTERM, syscall.SIGINT, syscall.SIGCONT} {
		if err := p.cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	p.await(t, "poller stopped")
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

func TestAdminAddressInUse(t *testing.T) {
	t.Parallel()
	taken := checker(t, sim.OK())
	file := configFile(t, strings.Replace(twoAgents, "127.0.0.1:0", taken, 1), "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")
	if r := poller(t, "run", "-c", file); r.code != 1 || !strings.Contains(r.stderr, "admin.listen") || !strings.Contains(r.stderr, "in use") {
		t.Errorf("%+v", r)
	}
}

func get(t *testing.T, address, path string) (code int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}
