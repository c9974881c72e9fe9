package actors_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/check"
)

// confirming returns a configuration of agents with a check each, of which core is to hear after so many runs. Its poll
// interval is 2 s.
func confirming(agents int, confirm uint8) *config.Config {
	cfg := settings(agents, 1, 2*time.Second, time.Second)
	for _, a := range cfg.Agents {
		a.Checks[0].Confirm = confirm
	}
	return cfg
}

// scripted answers with the verdicts of a script, one letter each: u for one that is available, d for one that is not; then
// with the last.
func scripted(verdicts string) func(context.Context, *check.Check) (check.Answer, error) {
	var n atomic.Int64
	return func(context.Context, *check.Check) (check.Answer, error) {
		i := min(int(n.Add(1)), len(verdicts)) - 1
		return check.Answer{Available: verdicts[i] == 'u', Message: []byte(`{}`), ResponseTime: time.Millisecond}, nil
	}
}

// told returns what core was told of an agent's checks, a word for each: u, d, or the number of runs so far; with the
// reason of a silence after it.
func (w *world) told(agent string) string {
	w.t.Helper()
	var words []string
	for _, d := range w.core.all() {
		for _, s := range d.req.GetServices() {
			if s.GetAgentId() != agent {
				continue
			}
			var message struct {
				Confirming int
				Silenced   string
			}
			if err := json.Unmarshal(s.GetMessage(), &message); err != nil {
				w.t.Errorf("%s: %v", s.GetMessage(), err)
			}
			word := map[bool]string{true: "u", false: "d"}[s.GetAvailable()]
			if message.Confirming > 0 {
				word = fmt.Sprint(message.Confirming)
				if !s.GetAvailable() {
					w.t.Errorf("unavailable, and it is still to be confirmed: %s", s.GetMessage())
				}
			}
			words = append(words, word+message.Silenced)
		}
	}
	return strings.Join(words, " ")
}

func (w *world) wantTold(agent, want string) {
	w.t.Helper()
	if got := w.told(agent); got != want {
		w.t.Errorf("core was told of %s: %s\nwant: %s", agent, got, want)
	}
}

// Core hears of the third unavailable run in a row, and of a recovery at once; what is counted and logged is what the checker
// says.
func TestConfirm(t *testing.T) {
	cfg := confirming(3, 3)
	cfg.Agents[2].Checks[0].Confirm = 0
	run(t, cfg, func(w *world) {
		unavailable := 0
		w.hook = func(e actors.Event) {
			if closed, ok := e.(actors.CycleClosed); ok {
				w.mu.Lock()
				unavailable += closed.Unavailable
				w.mu.Unlock()
			}
		}
		for _, name := range []string{"a000", "a001", "a002"} {
			w.checkers[name].ask = scripted("uddudddddud")
		}
		w.start()
		w.pass(22*time.Second - time.Millisecond)
		w.wantTold("a000", "u 1 2 u 1 2 d d d u 1")
		w.wantTold("a001", "u 1 2 u 1 2 d d d u 1")
		w.wantTold("a002", "u d d u d d d d d u d")
		if unavailable != 3*8 {
			t.Errorf("%d verdicts were told as unavailable, want %d", unavailable, 3*8)
		}
		if changes := seen[actors.ChecksChanged](w); len(changes) != 3*5 {
			t.Errorf("%d changes were told, want %d", len(changes), 3*5)
		}
	})
}

// Whatever there is no verdict for counts, also what nobody was asked for.
func TestConfirmFailures(t *testing.T) {
	cfg := confirming(2, 3)
	cfg.Breaker.Failures = 2
	run(t, cfg, func(w *world) {
		w.checkers["a000"].ask, w.checkers["a000"].health = refuse, gone
		w.checkers["a001"].connections = func() uint64 { panic("test fault") } // when an answer has come; in the end it is parked
		w.start()
		w.pass(14*time.Second - time.Millisecond)
		if got := w.statusesOf("a000/c0", "a001/c0"); !strings.HasSuffix(got, "circuit_open no_answer\n") {
			t.Errorf("core has:\n%s", got)
		}
		w.wantTold("a000", "1 2 d d d d d")
		w.wantTold("a001", "u u u u 1 2 d")
	})
}

// A poller that fails while it closes a cycle, before or after the statuses were counted, changes nothing.
func TestConfirmOutlivesThePoller(t *testing.T) {
	cfg := confirming(1, 3)
	cfg.Agents[0].Checks[0].Type, cfg.Agents[0].Checks[0].Details = "icmp", "host.example"
	run(t, cfg, func(w *world) {
		w.checkers["a000"].ask = scripted("udddudd")
		panicAt[actors.CycleClosed](w, 3, 6)
		w.start()
		w.pass(14*time.Second - time.Millisecond)
		w.wantTold("a000", "u 1 2 d u 1 2")
		if n := len(seen[actors.ActorFailed](w)); n != 3 {
			t.Errorf("the poller failed %d times, want 3", n)
		}
	}, func(o *actors.Options) {
		var asked atomic.Int64
		o.Identity.Resolve = func(string) netip.Addr { // of a status that becomes a part of a report
			if asked.Add(1) == 2 {
				panic("test fault in the resolver")
			}
			return netip.Addr{}
		}
	})
}

// A reload keeps what was counted, also of an agent that is changed by it; it forgets what is not configured any more.
func TestConfirmOutlivesReloads(t *testing.T) {
	cfg := confirming(3, 3)
	runChangeable(t, cfg, func(w *world, c *changeable) {
		for _, peer := range w.checkers {
			peer.ask = scripted("d")
		}
		w.start()
		w.pass(time.Second)
		again := func(confirm uint8) func(a *check.Agent) {
			return func(a *check.Agent) { a.Address, a.Checks[0].Confirm = "127.0.0.1:2", confirm }
		}
		w.reload(c, with(cfg, map[string]*check.Agent{"a001": changed(cfg.Agents[1], again(4)), "a002": nil}))
		w.pass(2 * time.Second)
		w.reload(c, with(cfg, map[string]*check.Agent{"a001": changed(cfg.Agents[1], again(4))}))
		w.pass(4 * time.Second)
		w.reload(c, with(cfg, map[string]*check.Agent{
			"a000": changed(cfg.Agents[0], again(9)), "a001": changed(cfg.Agents[1], again(1)), "a002": changed(cfg.Agents[2], again(1)),
		}))
		w.pass(3*time.Second - time.Millisecond)
		w.wantTold("a000", "1 2 d d d")
		w.wantTold("a001", "1 2 3 d d")
		w.wantTold("a002", "1 1 2 d") // it was not there in the second cycle
	})
}

// A check of which core is to hear at once for a while has nothing left from before; and when core hears of a check makes it
// no other, which would be asked at once.
func TestConfirmForAWhile(t *testing.T) {
	cfg := confirming(1, 4)
	cfg.Agents[0].Checks[0].Interval = 4 * time.Second
	runChangeable(t, cfg, func(w *world, c *changeable) {
		w.checkers["a000"].ask = scripted("ddud")
		w.start()
		w.pass(5 * time.Second)
		w.reload(c, with(cfg, map[string]*check.Agent{"a000": changed(cfg.Agents[0], func(a *check.Agent) { a.Checks[0].Confirm = 1 })}))
		w.pass(4 * time.Second)
		w.reload(c, cfg)
		w.pass(11*time.Second - time.Millisecond)
		w.wantTold("a000", "1 2 u 1 2")
	})
}

// A silence is in force for the cycles that begin in it, changes nothing but what core is told of it, and touches no agent
// when it comes and goes.
func TestSilence(t *testing.T) {
	cfg := confirming(3, 2)
	runChangeable(t, cfg, func(w *world, c *changeable) {
		dials := countDials(w)
		w.checkers["a001"].ask = scripted("ddddddu")
		w.start()
		began := time.Now()
		w.pass(time.Second)
		silence := func(from, to time.Duration, reason string) []check.Silence {
			return []check.Silence{{From: began.Add(from), To: began.Add(to), Reason: reason}}
		}
		silent := *cfg
		silent.Silences = check.Silences{
			"":     {"": silence(8*time.Second, 12*time.Second, " all")},
			"a001": {"c0": silence(2*time.Second, 6*time.Second, " disk")},
			"a002": {"": silence(4*time.Second, 10*time.Second, " moves"), "gone": silence(0, time.Hour, " never")},
		}
		w.reload(c, &silent)
		w.pass(8 * time.Second)
		w.reload(c, cfg)
		w.pass(3*time.Second - time.Millisecond)
		w.reload(c, &silent)
		w.pass(2 * time.Second)
		w.wantTold("a000", "u u u u u all u u")
		w.wantTold("a001", "1 d disk d disk d d all d u")
		w.wantTold("a002", "u u u moves u moves u moves u u")
		for _, e := range seen[actors.Reloaded](w) {
			if len(e.Added)+len(e.Changed)+len(e.Removed) > 0 {
				t.Errorf("a silence changed agents: %+v", e)
			}
		}
		if len(dials) != 3 || dials["a001 at 127.0.0.1:1"] != 1 {
			t.Errorf("connections: %v", dials)
		}
	})
}
