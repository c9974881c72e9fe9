package actors_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/assertion"
	"github.com/serviceradar/poller/internal/check"
)

// asserts compiles expressions anew, as each load of a configuration does.
func asserts(t *testing.T, texts ...string) *check.Assertions {
	t.Helper()
	list := make([]*assertion.Assertion, len(texts))
	for i, text := range texts {
		a, err := assertion.Compile(text)
		if err != nil {
			t.Fatal(err)
		}
		list[i] = a
	}
	return assertion.All(list)
}

// asserting returns a configuration of agents with a check each, of whose answers the same is asserted. Its poll interval is
// 2 s.
func asserting(t *testing.T, agents int, texts ...string) *config.Config {
	cfg := settings(agents, 1, 2*time.Second, time.Second)
	for _, a := range cfg.Agents {
		a.Checks[0].Assert = asserts(t, texts...)
	}
	return cfg
}

// messages answers with one message after the other, then with the last; those that begin with a minus are of an unavailable
// check.
func messages(list ...string) func(context.Context, *check.Check) (check.Answer, error) {
	var n atomic.Int64
	return func(context.Context, *check.Check) (check.Answer, error) {
		text, down := strings.CutPrefix(list[min(int(n.Add(1)), len(list))-1], "-")
		return check.Answer{Available: !down, Message: []byte(text), ResponseTime: time.Millisecond}, nil
	}
}

// heard returns what core has of an agent's check, a line for each cycle.
func (w *world) heard(agent string) string {
	w.t.Helper()
	var out strings.Builder
	for _, d := range w.core.all() {
		for _, s := range d.req.GetServices() {
			if s.GetAgentId() != agent {
				continue
			}
			var message struct {
				Data          json.RawMessage
				Error, Reason string
				Confirming    int
			}
			if err := json.Unmarshal(s.GetMessage(), &message); err != nil {
				w.t.Errorf("%s: %v", s.GetMessage(), err)
			}
			data, _, _ := strings.Cut(string(message.Data), `,"host_ip"`)
			fmt.Fprintf(&out, "%v %s", s.GetAvailable(), data)
			if message.Reason != "" {
				fmt.Fprintf(&out, " %s: %s", message.Reason, message.Error)
			}
			if message.Confirming > 0 {
				fmt.Fprintf(&out, " (%d)", message.Confirming)
			}
			out.WriteByte('\n')
		}
	}
	return out.String()
}

// An answer that does not meet an assertion makes its check unavailable, with the answer; the breaker takes no notice, and with
// the next answer that does all is well. What the checker itself says stands.
func TestAssert(t *testing.T) {
	cfg := asserting(t, 3, "data.packet_loss < 20", "response_time < 0.5")
	cfg.Breaker.Failures = 2
	cfg.Agents[1].Checks[0].Confirm = 2
	cfg.Agents[2].Checks[0].Assert = nil
	run(t, cfg, func(w *world) {
		for _, c := range w.checkers {
			c.ask = messages(`{"packet_loss":0}`, `{"packet_loss":35}`, `{"packet_loss":36}`, `{}`, `-{"packet_loss":100}`, `text`, `{"packet_loss":1}`)
		}
		w.start()
		w.pass(14*time.Second - time.Millisecond)
		w.want("core heard of a000", w.heard("a000"), `true {"packet_loss":0
false {"packet_loss":35 assertion: data.packet_loss < 20 does not hold: data.packet_loss is 35
false {"packet_loss":36 assertion: data.packet_loss < 20 does not hold: data.packet_loss is 36
false {"host_ip":"127.0.0.1","ip":"127.0.0.1","host_name":"127.0.0.1","hostname":"127.0.0.1","status":{"host_ip":"127.0.0.1","ip":"127.0.0.1","host_name":"127.0.0.1","hostname":"127.0.0.1"}} assertion: `+
			`data.packet_loss < 20 does not hold: data has no packet_loss
false {"packet_loss":100
false {"message":"text" assertion: data.packet_loss < 20 does not hold: the answer is no JSON: "text"
true {"packet_loss":1
`)
		w.wantTold("a001", "u 1 d d d d u")
		w.wantTold("a002", "u u u u d u u")
		if moved := seen[actors.BreakerChanged](w); len(moved) > 0 {
			t.Errorf("breakers moved: %+v", moved)
		}
		byReason := 0
		for _, e := range seen[actors.CycleClosed](w) {
			byReason += e.ByReason[check.Assertion]
		}
		if byReason != 2*4 {
			t.Errorf("%d statuses are counted as assertion, want %d", byReason, 2*4)
		}
		var told []string
		for _, e := range seen[actors.ChecksChanged](w) {
			for _, c := range e.Changes {
				if e.Agent == "a000" {
					told = append(told, fmt.Sprintf("%v %s %s", c.Available, c.Reason, c.Detail))
				}
			}
		}
		w.want("told of a000", strings.Join(told, "\n")+"\n", `false assertion data.packet_loss < 20 does not hold: data.packet_loss is 35
false  {"packet_loss":100}
false assertion data.packet_loss < 20 does not hold: the answer is no JSON: "text"
true  `+"\n")
	})
}

// The time of a call stands in where the checker measured none.
func TestAssertResponseTime(t *testing.T) {
	cfg := asserting(t, 1, "response_time < 0.5")
	run(t, cfg, func(w *world) {
		var n atomic.Int64
		w.checkers["a000"].ask = func(ctx context.Context, c *check.Check) (check.Answer, error) {
			answer, err := slow(time.Duration(n.Add(1))*400*time.Millisecond)(ctx, c)
			answer.ResponseTime = 0
			return answer, err
		}
		w.start()
		w.pass(4*time.Second - time.Millisecond)
		if got := w.heard("a000"); !strings.HasPrefix(got, "true ") || !strings.HasSuffix(got, " assertion: response_time < 0.5 does not hold: response_time is 0.8\n") {
			t.Errorf("core heard: %s", got)
		}
	})
}

// A reload that compiles the same assertions touches nobody, and one with another assertion neither connections nor breakers.
func TestReloadOfAssertions(t *testing.T) {
	cfg := asserting(t, 2, "data.x < 2")
	runChangeable(t, cfg, func(w *world, c *changeable) {
		dials := countDials(w)
		for _, peer := range w.checkers {
			peer.ask = messages(`{"x":1}`)
		}
		w.start()
		w.pass(3 * time.Second)
		again := func(texts ...string) func(a *check.Agent) {
			return func(a *check.Agent) { a.Checks[0].Assert = asserts(t, texts...) }
		}
		now := cfg
		load := func(a001 func(a *check.Agent)) {
			next := with(cfg, map[string]*check.Agent{"a000": changed(cfg.Agents[0], again("data.x < 2")), "a001": changed(cfg.Agents[1], a001)})
			config.Adopt(now, next) // as the daemon's load does
			w.reload(c, next)
			now = next
		}
		load(again("data.x < 1"))
		w.pass(2 * time.Second)
		load(func(a *check.Agent) { a.Checks[0].Assert = nil })
		w.pass(3*time.Second - time.Millisecond)
		w.want("core has", w.statusesOf("a000/c0", "a001/c0"), "up up\nup up\nup assertion\nup up\n")
		var told []string
		for _, e := range seen[actors.Reloaded](w) {
			told = append(told, fmt.Sprint(e.Added, e.Changed, e.Removed))
		}
		w.want("told", strings.Join(told, "\n")+"\n", "[] [a001] []\n[] [a001] []\n")
		if want := map[string]int{"a000 at 127.0.0.1:1": 1, "a001 at 127.0.0.1:1": 1}; fmt.Sprint(dials) != fmt.Sprint(want) {
			t.Errorf("connections: %v, want %v", dials, want)
		}
	})
}
