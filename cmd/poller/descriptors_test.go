package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/sim"
)

// withDescriptors is a command that runs the poller with a limit to its file descriptors, soft and hard.
func withDescriptors(t *testing.T, limit int, file string) *exec.Cmd {
	t.Helper()
	return exec.CommandContext(t.Context(), "sh", "-c", `ulimit -n "$1" && exec "$2" run -c "$3"`, "sh", fmt.Sprint(limit), binary, file)
}

// TestTooFewDescriptors: a poller that could not connect to all its agents says so, and does not start.
func TestTooFewDescriptors(t *testing.T) {
	t.Parallel()
	cmd := withDescriptors(t, 64, configFile(t, twoAgents, "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	const want = "poller: the poller may need 152 file descriptors (2 for the agents' connections and lookups, 150 for all else), but the process can have no more than 64; " +
		"raise its limit: LimitNOFILE=152 in the systemd unit, --ulimit nofile=152 for a container, ulimit -n 152 in a shell\n"
	if err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.HasSuffix(stderr.String(), want) {
		t.Errorf("error %v, exit code %d, stderr:\n%s\nwant:\n%s", err, cmd.ProcessState.ExitCode(), stderr.String(), want)
	}
}

// TestJustEnoughDescriptors: with as many as it wants the poller reaches all its agents.
func TestJustEnoughDescriptors(t *testing.T) {
	t.Parallel()
	const agents = 300
	core, address := startCore(t)
	text := fmt.Sprintf("poller_id = \"p\"\nsource_ip = \"127.0.0.1\"\nstate_dir = %q\nadmin.listen = \"127.0.0.1:0\"\ncore.addresses = [%q]\npoll.interval = \"5s\"\n", t.TempDir(), address)
	to := checker(t, sim.OK())
	for i := range agents {
		text += fmt.Sprintf("[agents.a%d]\naddress = %q\nchecks = [{ name = \"c\", type = \"port\", details = \"127.0.0.1:22\" }]\n", i, to)
	}
	p := startCommand(t, withDescriptors(t, agents+150, configFile(t, "%s", text)))
	p.await(t, "poller started")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	got, err := core.Await(ctx, func(all []sim.Delivery) bool { return len(all) > 0 && len(all[len(all)-1].Services) > 0 })
	if err != nil {
		t.Fatal(err)
	}
	cycle := got[len(got)-1].Services
	for _, s := range cycle {
		if !s.GetAvailable() {
			t.Errorf("%s: %s", s.GetAgentId(), s.GetMessage())
		}
	}
	if len(cycle) != agents {
		t.Errorf("the first cycle has %d statuses, want %d", len(cycle), agents)
	}
	p.signal(t)
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
