package daemon_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/proto/monitoring"
)

// flapping is a target that is up in one run of three.
func flapping() sim.Behaviour {
	var n atomic.Int64
	return sim.Behaviour{Answer: func(context.Context, *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
		return &monitoring.StatusResponse{Available: n.Add(1)%3 == 1, Message: []byte(`{"error":"no route"}`)}, nil
	}}
}

// saidOf returns what core knows of an agent's check, a word for each cycle.
func (w *world) saidOf(agent string) string {
	w.t.Helper()
	var words []string
	for _, d := range w.reports() {
		for _, s := range d.Services {
			if s.GetAgentId() != agent {
				continue
			}
			var envelope struct {
				Data       json.RawMessage
				Confirming int
				Silenced   string
			}
			if err := json.Unmarshal(s.GetMessage(), &envelope); err != nil || len(envelope.Data) < len("{}") {
				w.t.Errorf("%s: %v", s.GetMessage(), err)
			}
			word := map[bool]string{true: "up", false: "down"}[s.GetAvailable()]
			if envelope.Confirming > 0 {
				word += fmt.Sprint("?", envelope.Confirming)
			}
			if envelope.Silenced != "" {
				word += "(" + envelope.Silenced + ")"
			}
			words = append(words, word)
		}
	}
	return strings.Join(words, " ")
}

// A target that flaps never turns unavailable at core, one that stays down does with the third run, and is back at once; while
// there is a silence core is told so. The second silence comes with a reload, which touches nothing else, and ends by itself; the
// first one goes with it.
func TestConfirmAndSilence(t *testing.T) {
	run(t, func(w *world) {
		began := time.Now()
		silence := func(table string, from, to time.Duration, reason string) string {
			return fmt.Sprintf("[[%s.silence]]\nfrom = %s\nto = %s\nreason = %q\n",
				table, began.Add(from).Format(time.RFC3339), began.Add(to).Format(time.RFC3339), reason)
		}
		all := ""
		for i, name := range []string{"f", "d", "x"} {
			all += agents(name, 1, 1, fmt.Sprintf("127.2.0.%d:1", i+1)) + "confirm = 3\n"
		}
		w.checker("127.2.0.1:1", flapping())
		down, _ := w.checker("127.2.0.2:1", sim.OK())
		_, away := w.checker("127.2.0.3:1", sim.OK())
		f := w.startChangeable(all + silence("agents.x000", 8*time.Second, 12*time.Second, "new disks"))
		w.pass(3 * time.Second) // cycles begin every 2 s
		down.Set(sim.Unavailable())
		away.Stop()
		w.pass(6 * time.Second)
		f.more = all + silence("agents.d000.checks", 10*time.Second, 14*time.Second, "moves")
		w.reload()
		w.pass(4 * time.Second)
		down.Set(sim.OK())
		w.pass(5*time.Second - time.Millisecond)
		for name, want := range map[string]string{
			"f000": "up up?1 up?2 up up?1 up?2 up up?1 up?2",
			"d000": "up up up?1 up?2 down down(moves) down(moves) up up",
			"x000": "up up up?1 up?2 down(new disks) down down down down",
		} {
			if got := w.saidOf(name); got != want {
				t.Errorf("core knows of %s: %s\nwant: %s", name, got, want)
			}
		}
	})
}
