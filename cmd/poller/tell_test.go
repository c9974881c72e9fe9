package main

import (
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/serviceradar/poller/internal/sim"
)

// TestOnceShowsWhatATerminalWouldObey: nothing that a checker says reaches the terminal as it came.
func TestOnceShowsWhatATerminalWouldObey(t *testing.T) {
	t.Parallel()
	evil := "\x1b[2J\x1b]0;owned\a {\"a\": \"\u202egnp.exe\"}\x00\nto core   available=\"true\"\r\x9b31m"
	says := sim.Text(evil)
	fails := sim.Failing(codes.Internal, strings.ToValidUTF8(evil, ""))
	file := configFile(t, twoAgents, "127.0.0.1:1", checker(t, says), checker(t, fails))
	for _, args := range [][]string{{}, {"--agent", "one", "--check", "a"}, {"--agent", "two"}} {
		r := poller(t, append([]string{"once", "-c", file}, args...)...)
		for i, line := range strings.Split(r.stdout, "\n") {
			if strings.ContainsFunc(line, func(c rune) bool { return !strconv.IsGraphic(c) }) {
				t.Errorf("%v: line %d is %q", args, i+1, line)
			}
			if strings.HasPrefix(line, "to core   available") {
				t.Errorf("%v: the checker wrote line %d", args, i+1)
			}
		}
		if !strings.Contains(r.stdout, `\x1b[2J`) || !strings.Contains(r.stdout, `\u202egnp`) {
			t.Errorf("%v: what it said is not shown: %s", args, r.stdout)
		}
	}
}

// TestWarnings are lines of the log while it runs, and else plain text.
func TestWarnings(t *testing.T) {
	t.Parallel()
	file := configFile(t, twoAgents+"[agents.idle]\naddress = \"127.0.0.1:4\"\n", "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")
	if r := poller(t, "validate", "-c", file); r.code != 0 || !strings.HasPrefix(r.stderr, "warning: agents without checks") {
		t.Errorf("validate: %+v", r)
	}
	p := start(t, file)
	line := <-p.lines
	if w, _ := line["warning"].(string); line["level"] != "warn" || !strings.Contains(w, `"idle"`) {
		t.Errorf("the first line of the log is %v", line)
	}
	p.await(t, "poller started")
	p.signal(t)
	p.end()
}
