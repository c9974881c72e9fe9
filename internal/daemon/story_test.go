package daemon_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/serviceradar/poller/internal/sim"
)

// TestStories plays the scripts of testdata/stories, each with a daemon of its own, and compares what
// core came to know, how the breakers moved, and what the log says. Directives:
//
//	play agents=N checks=N interval=D timeout=D length=D
//	a script (see sim.ParseScript) with the hosts a0, a1, … and core
func TestStories(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/stories/*")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			datadriven.RunTest(t, file, func(t *testing.T, d *datadriven.TestData) (out string) {
				t.Helper()
				s := newStory(t, d)
				synctest.Test(t, func(t *testing.T) { out = s.play(t) })
				return out
			})
		})
	}
}

type story struct {
	script                    sim.Script
	agents, checks            int
	interval, timeout, length time.Duration
}

func newStory(t *testing.T, d *datadriven.TestData) *story {
	t.Helper()
	script, err := sim.ParseScript(d.Input)
	if err != nil {
		d.Fatalf(t, "%v", err)
	}
	s := &story{script: script}
	d.ScanArgs(t, "agents", &s.agents)
	d.ScanArgs(t, "checks", &s.checks)
	for name, into := range map[string]*time.Duration{"interval": &s.interval, "timeout": &s.timeout, "length": &s.length} {
		var text string
		d.ScanArgs(t, name, &text)
		if *into, err = time.ParseDuration(text); err != nil {
			d.Fatalf(t, "%s: %v", name, err)
		}
	}
	return s
}

// play lets the story take its course and tells what came of it.
func (s *story) play(t *testing.T) string {
	w := &world{t: t, log: new(bytes.Buffer)}
	listen := func(address string) func() (net.Listener, error) {
		return func() (net.Listener, error) { return w.net.Listen(address) }
	}
	hosts := make(map[string]*sim.Host)
	core, err := w.core.NewHost(nil, listen(coreAddress))
	if err != nil {
		t.Fatal(err)
	}
	hosts["core"] = core
	toml := ""
	for i := range s.agents {
		address := fmt.Sprintf("127.2.0.%d:50051", i+1)
		host, err := sim.NewChecker(sim.Behaviour{}).NewHost(sim.Behaviour{}, nil, listen(address))
		if err != nil {
			t.Fatal(err)
		}
		hosts[fmt.Sprint("a", i)] = host
		toml += strings.ReplaceAll(agents("a", 1, s.checks, address), "a000", fmt.Sprint("a", i))
	}
	defer func() {
		w.stop()
		for _, host := range hosts {
			host.Stop()
		}
		w.pass(time.Second)
	}()
	began := time.Now()
	w.start(s.interval, s.timeout, toml)
	if err := s.script.Play(t.Context(), hosts); err != nil {
		t.Error(err)
	}
	time.Sleep(time.Until(began.Add(s.length - time.Millisecond)))
	said := s.tell(w, began)
	w.stop()
	return said + lines(t, w.log)
}

// lines counts the lines of a log by what they say, first those about agents, each agent's in the order in
// which they came first. How often core is tried is a matter of chance, and so are the lines about it.
func lines(t *testing.T, log *bytes.Buffer) string {
	t.Helper()
	var agents, others []string
	counts := make(map[string]int)
	for text := range bytes.Lines(log.Bytes()) {
		var line struct{ Level, Agent, Message, Reason string }
		if err := json.Unmarshal(text, &line); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		what := line.Level + " " + firstClause(line.Message)
		if line.Reason != "" {
			what += ", " + line.Reason
		}
		if line.Agent == "" {
			others = append(others, "log: "+what)
			continue
		}
		what = line.Agent + " log: " + what
		if counts[what]++; counts[what] == 1 {
			agents = append(agents, what)
		}
	}
	slices.SortStableFunc(agents, func(x, y string) int { return strings.Compare(x[:2], y[:2]) })
	for i, what := range agents {
		if n := counts[what]; n > 1 {
			agents[i] += fmt.Sprintf(", %d times", n)
		}
	}
	others = slices.Compact(others[1 : len(others)-1]) // that it started and stopped is no news
	return strings.Join(append(agents, others...), "\n") + "\n"
}

func firstClause(message string) string {
	if i := strings.IndexAny(message, ":;"); i > 0 {
		return message[:i]
	}
	return message
}

// tell says for each check what its statuses were, for each breaker when it moved, and of the reports
// which ones came when the cycle after theirs was over. Times are in cycles, because the pauses between
// tries are never quite the same.
func (s *story) tell(w *world, began time.Time) string {
	var out strings.Builder
	seen := make(map[string][]string)
	var late []string
	next, last := int64(0), ""
	for _, d := range w.reports() {
		if d.ID == last { // core had it, and could not say so in time; that happens or not
			continue
		}
		last = d.ID
		cycle := (d.Timestamp - began.Unix()) / int64(s.interval/time.Second)
		if cycle != next {
			fmt.Fprintf(&out, "report of cycle %d in the place of %d\n", cycle, next)
		}
		next = cycle + 1
		if after := d.At.Sub(began) - time.Duration(cycle)*s.interval; after > 2*s.interval {
			late = append(late, fmt.Sprint(cycle))
		}
		for _, st := range d.Services {
			what := reasonIn(st.GetMessage())
			if what == "" {
				what = map[bool]string{true: "ok", false: "unavailable"}[st.GetAvailable()]
			}
			key := st.GetAgentId() + "/" + st.GetServiceName()
			seen[key] = append(seen[key], what)
		}
	}
	for i := range s.agents {
		agent := fmt.Sprint("a", i)
		for what, checks := range byWords(agent, s.checks, seen) {
			fmt.Fprintf(&out, "%s %s: %s\n", agent, strings.Join(checks, " "), what)
		}
		if moves := w.breakerCycles(agent, began, s.interval); moves != "" {
			fmt.Fprintf(&out, "%s breaker: %s\n", agent, moves)
		}
	}
	fmt.Fprintf(&out, "core: %d cycles", next)
	if len(late) > 0 {
		fmt.Fprintf(&out, ", late: %s", strings.Join(late, ", "))
	}
	return out.String() + "\n"
}

// byWords returns the checks of an agent by what their statuses were, in order.
func byWords(agent string, checks int, seen map[string][]string) iter.Seq2[string, []string] {
	var order []string
	by := make(map[string][]string)
	for i := range checks {
		name := fmt.Sprint("c", i)
		what := runLengths(seen[agent+"/"+name])
		if by[what] == nil {
			order = append(order, what)
		}
		by[what] = append(by[what], name)
	}
	return func(yield func(string, []string) bool) {
		for _, what := range order {
			if !yield(what, by[what]) {
				return
			}
		}
	}
}

// runLengths shortens a list in which words repeat.
func runLengths(list []string) string {
	var out []string
	for i := 0; i < len(list); {
		n := 1
		for i+n < len(list) && list[i+n] == list[i] {
			n++
		}
		word := list[i]
		if n > 1 {
			word = fmt.Sprintf("%d %s", n, word)
		}
		out = append(out, word)
		i += n
	}
	return strings.Join(out, ", ")
}
