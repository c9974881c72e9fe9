package daemon_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/internal/sim"
)

// told returns the level, message and agent of the log's lines about agents; for summaries what they left
// out. It is for after the stop.
func (w *world) told() []string {
	w.t.Helper()
	var all []string
	for line := range bytes.Lines(w.log.Bytes()) {
		var l struct {
			Level, Message, Agent, Reason string
			Checks                        []string
			LeftOut                       []string `json:"left_out"`
		}
		if err := json.Unmarshal(line, &l); err != nil {
			w.t.Fatal(err)
		}
		message, _, _ := strings.Cut(l.Message, ":")
		if l.Agent != "" || l.LeftOut != nil {
			all = append(all, strings.Join(strings.Fields(fmt.Sprintln(l.Level, message, l.Agent, strings.Join(l.Checks, " "), l.Reason, strings.Join(l.LeftOut, ", "))), " "))
		}
	}
	return all
}

// TestOneBadChecker: the log of a poller whose one checker goes away and returns, among others.
func TestOneBadChecker(t *testing.T) {
	run(t, func(w *world) {
		w.log = new(bytes.Buffer)
		_, server := w.checker("127.2.0.1:1", sim.OK())
		w.checker("127.2.0.2:1", sim.OK())
		w.start(10*time.Second, 2*time.Second, agents("bad", 1, 5, "127.2.0.1:1")+agents("good", 20, 5, "127.2.0.2:1"))
		w.pass(15 * time.Second)
		server.Stop()
		w.pass(time.Minute)
		if ready, said := w.ready("checkers"); !ready || said != "1 of 21 breakers are open: bad000" {
			t.Errorf("ready %v, the condition of the checkers says %q", ready, said)
		}
		w.checker("127.2.0.1:1", sim.OK())
		w.pass(time.Minute)
		if ready, said := w.ready("checkers"); !ready || said != "" {
			t.Errorf("ready %v, the condition of the checkers says %q", ready, said)
		}
		w.stop()
		if diff := cmp.Diff([]string{
			"warn checks have no verdict bad000 c0 c1 c2 c3 c4 unreachable",
			"warn breaker opened bad000",
			"info breaker closed bad000",
			"info checks are available again bad000 c0 c1 c2 c3 c4",
		}, w.told()); diff != "" {
			t.Errorf("the log (-want +got):\n%s", diff)
		}
	})
}

// TestFourHundredBadCheckers go away at once and return: the poller stays ready, says who they are, and
// its log stays short.
func TestFourHundredBadCheckers(t *testing.T) {
	run(t, func(w *world) {
		w.log = new(bytes.Buffer)
		_, server := w.checker("127.2.0.1:1", sim.OK())
		w.start(12*time.Second, 2*time.Second, agents("a", 400, 5, "127.2.0.1:1"))
		w.pass(13 * time.Second)
		server.Stop()
		w.pass(12 * time.Second)
		want := "400 of 400 breakers are open: a000, a001, a002, a003, a004, a005, a006, a007, a008, a009, …"
		if ready, said := w.ready("checkers"); !ready || said != want {
			t.Errorf("ready %v, the condition of the checkers says %q, want %q", ready, said, want)
		}
		w.checker("127.2.0.1:1", sim.OK())
		w.pass(24 * time.Second)
		if ready, said := w.ready("checkers"); !ready || said != "" {
			t.Errorf("ready %v, the condition of the checkers says %q", ready, said)
		}
		w.stop()
		var summaries []string
		lines, counted := w.told(), 0
		for _, line := range lines {
			if !strings.Contains(line, "too much happened at once") {
				counted++
				continue
			}
			summaries = append(summaries, line)
			for field := range strings.FieldsSeq(line) {
				var n int
				if _, err := fmt.Sscan(field, &n); err == nil {
					counted += n
				}
			}
		}
		// Two lines for each that goes, two for each that returns: told or counted, not one is missing.
		if counted != 4*400 {
			t.Errorf("%d lines are told or counted, want %d; the summaries: %q", counted, 4*400, summaries)
		}
		if len(lines) > 250 {
			t.Errorf("the log has %d lines", len(lines))
		}
		t.Logf("400 checkers with 2,000 checks went away and returned: %d lines, of them %d summaries: %s", len(lines), len(summaries), strings.Join(summaries, "; "))
	})
}

// TestStopTellsWhatWasLeftOut: the daemon stops within the window of the flood.
func TestStopTellsWhatWasLeftOut(t *testing.T) {
	run(t, func(w *world) {
		w.log = new(bytes.Buffer)
		w.start(10*time.Second, 2*time.Second, agents("a", 100, 1, "127.2.0.1:1"))
		w.pass(3 * time.Second)
		w.stop()
		said := w.told()
		if last := said[len(said)-1]; len(said) != 51 || !strings.Contains(last, "left out, and") || !strings.Contains(last, "50 × checks have no verdict: unreachable") {
			t.Errorf("%d lines, the last: %s", len(said), last)
		}
	})
}

// TestNoDescriptorLeft: what the poller lacks for its connections is not said of the checkers, and no breaker opens.
func TestNoDescriptorLeft(t *testing.T) {
	run(t, func(w *world) {
		w.checker("127.2.0.1:1", sim.OK())
		w.cables.fail(&net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", syscall.EMFILE)})
		w.start(10*time.Second, 2*time.Second, agents("a", 3, 5, "127.2.0.1:1"))
		w.pass(31 * time.Second)
		if ready, said := w.ready("core"); !strings.Contains(said, "LimitNOFILE") {
			t.Errorf("ready %v, the condition of core says %q", ready, said)
		}
		w.cables.fail(nil)
		w.pass(15 * time.Second)
		for i, cycle := range w.wantWhole(5, 15, 10*time.Second) {
			for key, m := range cycle {
				if out := i < 4; out != (strings.Contains(m, `"reason":"no_answer"`) && strings.Contains(m, "LimitNOFILE")) {
					t.Errorf("cycle %d, %s: %s", i, key, m)
				}
			}
		}
		if moves := witnessed[actors.BreakerChanged](w); len(moves) != 0 {
			t.Errorf("breakers moved: %v", moves)
		}
	})
}
