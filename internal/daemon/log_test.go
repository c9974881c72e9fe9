package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/observe"
	"github.com/serviceradar/poller/internal/wire"
)

// told returns what a narrator logs of the last of some events.
func told(t *testing.T, events ...actors.Event) []map[string]any {
	t.Helper()
	var log bytes.Buffer
	n := newNarrator(zerolog.New(&log), new(observe.Board), configOf(100))
	for _, e := range events {
		log.Reset()
		n.observe(e)
	}
	return lines(t, log.Bytes())
}

func lines(t *testing.T, log []byte) []map[string]any {
	t.Helper()
	var all []map[string]any
	for line := range bytes.Lines(log) {
		fields := make(map[string]any)
		if err := json.Unmarshal(line, &fields); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		all = append(all, fields)
	}
	return all
}

var (
	errAway    = errors.New("core is away")
	errRefused = errors.New("core refuses")

	opened  = actors.BreakerChanged{Agent: "a", From: "closed", To: "open", Cause: "connection refused"}
	onTrial = actors.BreakerChanged{Agent: "a", From: "open", To: "half-open", Cause: "it answers"}
	closed  = actors.BreakerChanged{Agent: "a", From: "half-open", To: "closed", Cause: "the checker answered a run"}
)

// changed returns the same change of the checks c0, c1, and so on.
func changed(n int, change actors.Change) []actors.Change {
	var all []actors.Change
	for i := range n {
		change.Check = fmt.Sprintf("c%d", i)
		all = append(all, change)
	}
	return all
}

// narrated are events and the line that each makes.
var narrated = []struct {
	name   string
	before []actors.Event
	event  actors.Event
	line   string // at least these fields; empty means no line
}{
	{
		name:  "an actor failed",
		event: actors.ActorFailed{Actor: "agent/a", Cause: "index out of range", Stack: "goroutine 7", Delay: 100*time.Millisecond + 3*time.Microsecond},
		line: `{"level":"error","message":"actor failed; it will be started again","actor":"agent/a",
			"cause":"index out of range","stack":"goroutine 7","restart_in":"100ms","parked":false}`,
	},
	{
		name:  "an actor is parked",
		event: actors.ActorFailed{Actor: "agent/a", Cause: "index out of range", Stack: "goroutine 7", Delay: time.Minute, Parked: true},
		line: `{"level":"error","message":"actor keeps failing and is parked; one try per restart.window","actor":"agent/a",
			"cause":"index out of range","stack":"goroutine 7","restart_in":"1m0s","parked":true}`,
	},
	{
		name:  "an actor runs again",
		event: actors.ActorRestarted{Actor: "agent/a"},
		line:  `{"level":"info","message":"actor started again","actor":"agent/a"}`,
	},
	{
		name:  "a panic that ended nothing",
		event: actors.PanicRecovered{Actor: "root", Cause: "nil map", Stack: "goroutine 1"},
		line:  `{"level":"error","message":"panic recovered: this is a bug, please report it","actor":"root","cause":"nil map","stack":"goroutine 1"}`,
	},
	{
		name:  "a breaker opened",
		event: actors.BreakerChanged{Agent: "a", From: "closed", To: "open", Cause: "connection refused"},
		line: `{"level":"warn","message":"breaker opened: the checker is asked again when a probe finds it back","agent":"a",
			"from":"closed","to":"open","cause":"connection refused"}`,
	},
	{
		name:   "a breaker is on trial",
		before: []actors.Event{opened},
		event:  onTrial,
		line:   `{"level":"debug","message":"breaker changed","agent":"a","from":"open","to":"half-open","cause":"it answers"}`,
	},
	{
		name:   "a breaker failed its trial",
		before: []actors.Event{opened, onTrial},
		event:  actors.BreakerChanged{Agent: "a", From: "half-open", To: "open", Cause: "it hangs"},
		line:   `{"level":"debug","message":"breaker changed","agent":"a","from":"half-open","to":"open","cause":"it hangs"}`,
	},
	{
		name:   "a breaker closed",
		before: []actors.Event{opened, onTrial},
		event:  closed,
		line:   `{"level":"info","message":"breaker closed: the checker is back","agent":"a","from":"half-open","to":"closed","cause":"the checker answered a run"}`,
	},
	{
		name:   "a breaker opened once more",
		before: []actors.Event{opened, onTrial, closed},
		event:  opened,
		line:   `{"level":"warn","agent":"a","from":"closed","to":"open"}`,
	},
	{
		name:  "a restarted agent's breaker opened", // it begins half-open, and nobody knows anything yet
		event: actors.BreakerChanged{Agent: "a", From: "half-open", To: "open", Cause: "connection refused"},
		line:  `{"level":"warn","agent":"a","from":"half-open","to":"open","cause":"connection refused"}`,
	},
	{
		name:   "a restarted agent's breaker opened, and that of another had been",
		before: []actors.Event{actors.BreakerChanged{Agent: "b", From: "closed", To: "open"}},
		event:  actors.BreakerChanged{Agent: "a", From: "half-open", To: "open"},
		line:   `{"level":"warn","agent":"a"}`,
	},
	{
		name:  "a restarted agent's breaker closed",
		event: closed,
		line:  `{"level":"debug","message":"breaker changed","agent":"a","from":"half-open","to":"closed"}`,
	},
	{
		name:  "a checker's health",
		event: actors.HealthTold{Agent: "a", Health: "NOT_SERVING"},
		line:  `{"level":"debug","message":"checker told its health","agent":"a","health":"NOT_SERVING"}`,
	},
	{
		name:  "a check is available",
		event: actors.ChecksChanged{Agent: "a", Changes: []actors.Change{{Check: "ssh", Available: true}}},
		line:  `{"level":"info","message":"checks are available again","agent":"a","checks":["ssh"]}`,
	},
	{
		name:  "a check is unavailable",
		event: actors.ChecksChanged{Agent: "a", Changes: []actors.Change{{Check: "ssh", Detail: `{"error":"refused"}`}}},
		line:  `{"level":"warn","message":"checks are unavailable, says their checker","agent":"a","checks":["ssh"],"detail":"{\"error\":\"refused\"}"}`,
	},
	{
		name:  "checks without a verdict",
		event: actors.ChecksChanged{Agent: "a", Changes: changed(3, actors.Change{Reason: check.Timeout, Detail: "connected, but no answer"})},
		line:  `{"level":"warn","message":"checks have no verdict","agent":"a","checks":["c0","c1","c2"],"reason":"timeout","detail":"connected, but no answer"}`,
	},
	{
		name:  "many checks without a verdict",
		event: actors.ChecksChanged{Agent: "a", Changes: changed(12, actors.Change{Reason: check.Timeout})},
		line: `{"level":"warn","agent":"a","checks":["c0","c1","c2","c3","c4","c5","c6","c7","c8","c9"],"more_checks":2,
			"reason":"timeout"}`,
	},
	{
		name:  "an answer too late",
		event: actors.StatusDiscarded{Agent: "a", Check: "ssh"},
		line:  `{"level":"warn","message":"answer came after its run had a status; discarded","agent":"a","check":"ssh","discarded_total":1}`,
	},
	{
		name:   "a second one, of another",
		before: []actors.Event{actors.StatusDiscarded{Agent: "b", Check: "ssh"}},
		event:  actors.StatusDiscarded{Agent: "a", Check: "ssh"},
		line:   `{"level":"warn","agent":"a","check":"ssh","discarded_total":2}`,
	},
	{
		name:   "a third one",
		before: []actors.Event{actors.StatusDiscarded{}, actors.StatusDiscarded{}},
		event:  actors.StatusDiscarded{Agent: "a", Check: "ssh"},
	},
	{
		name: "a cycle closed",
		event: actors.CycleClosed{
			Cycle: 7, Statuses: 500, Unavailable: 3, Took: 2*time.Second + 400*time.Nanosecond,
			ByReason: map[check.Reason]int{check.Timeout: 5, check.CircuitOpen: 10},
		},
		line: `{"level":"debug","message":"cycle closed","cycle":7,"statuses":500,"unavailable":3,"by_reason":{"timeout":5,"circuit_open":10},"took":"2s"}`,
	},
	{
		name:  "cycles were missed",
		event: actors.CyclesMissed{Cycles: 3},
		line:  `{"level":"error","message":"the poller did not run for a while; these cycles have no statuses","cycles":3}`,
	},
	{
		name:  "the clock was set back",
		event: actors.ClockSetBack{By: time.Hour},
		line:  `{"level":"warn","message":"the clock was set back; timestamps stand still until it has caught up","set_back_by":"1h0m0s"}`,
	},
	{
		name:  "a report is safe",
		event: actors.ReportTaken{ID: "p/b/1", Kept: 2},
		line:  `{"level":"debug","message":"report taken","report":"p/b/1","kept":2}`,
	},
	{
		name:  "a checker has no results",
		event: actors.NoResults{Agent: "a", Check: "sync", Detail: "127.0.0.1:1 does not know GetResults"},
		line: `{"level":"info","message":"checker has no results for this check; it is asked on, and not reported until it has some",` +
			`"agent":"a","check":"sync","detail":"127.0.0.1:1 does not know GetResults"}`,
	},
	{
		name:  "a report is too large for core",
		event: actors.ReportSplit{ID: "p/b/1", Parts: 2, Limit: 3 << 20},
		line: `{"level":"warn","message":"core finds this too large, or is short of resources; it gets it in smaller parts. If this repeats, lower core.max_message",` +
			`"report":"p/b/1","parts":2,"limit_bytes":3145728}`,
	},
	{
		name:  "a report can't be kept",
		event: actors.SpoolFailed{ID: "p/b/1", Err: errors.New("disk full")},
		line:  `{"level":"error","message":"report can't be kept safe; trying again","report":"p/b/1","error":"disk full"}`,
	},
	{
		name:  "a report is lost",
		event: actors.ReportDropped{ID: "p/b/1", Cause: "the queue is full"},
		line:  `{"level":"error","message":"report dropped: its statuses are lost","report":"p/b/1","cause":"the queue is full","dropped_total":1}`,
	},
	{
		name:   "another one is lost",
		before: []actors.Event{actors.ReportDropped{ID: "p/b/1"}, actors.ReportDelivered{ID: "p/b/2"}},
		event:  actors.ReportDropped{ID: "p/b/3", Cause: "the queue is full"},
		line:   `{"level":"error","report":"p/b/3","dropped_total":2}`,
	},
	{
		name:  "a delivery, as usual",
		event: actors.ReportDelivered{ID: "p/b/1", Took: 3*time.Millisecond + time.Nanosecond, Kept: 1},
		line:  `{"level":"debug","message":"report delivered","report":"p/b/1","took":"3ms","kept":1}`,
	},
	{
		name:   "a delivery after failures",
		before: []actors.Event{actors.DeliveryFailed{Outcome: wire.Retry, Err: errAway}, actors.DeliveryFailed{Outcome: wire.Hold, Err: errRefused}},
		event:  actors.ReportDelivered{ID: "p/b/1", Kept: 4},
		line:   `{"level":"info","message":"core takes reports again","report":"p/b/1","kept":4,"failed_attempts":2}`,
	},
	{
		name:   "the one after that",
		before: []actors.Event{actors.DeliveryFailed{Outcome: wire.Retry, Err: errAway}, actors.ReportDelivered{ID: "p/b/1"}},
		event:  actors.ReportDelivered{ID: "p/b/2"},
		line:   `{"level":"debug","message":"report delivered","report":"p/b/2"}`,
	},
	{
		name:  "core is away",
		event: actors.DeliveryFailed{ID: "p/b/1", Outcome: wire.Retry, Err: errAway, Attempt: 1, RetryIn: 93*time.Millisecond + time.Microsecond, Kept: 2},
		line: `{"level":"warn","message":"core did not take a report; it is kept and tried again","report":"p/b/1",
			"error":"core is away","failed_attempts":1,"kept":2,"retry_in":"93ms"}`,
	},
	{
		name:  "core refuses us",
		event: actors.DeliveryFailed{ID: "p/b/1", Outcome: wire.Hold, Err: errRefused, Attempt: 1, RetryIn: 5 * time.Second, Kept: 2},
		line: `{"level":"error","message":"reports can't be delivered, and are kept until somebody mends that","report":"p/b/1",
			"error":"core refuses","failed_attempts":1,"kept":2,"retry_in":"5s"}`,
	},
	{
		name:   "core refuses a report",
		before: []actors.Event{actors.ReportDropped{ID: "p/b/1"}},
		event:  actors.DeliveryFailed{ID: "p/b/2", Outcome: wire.SetAside, Err: errRefused, Lost: errors.New("disk full"), Attempt: 1},
		line: `{"level":"error","message":"core refuses this report for good; its statuses are lost","report":"p/b/2",
			"error":"core refuses","not_set_aside":"disk full","dropped_total":2}`,
	},
	{
		name:   "core refuses a report that is set aside",
		before: []actors.Event{actors.DeliveryFailed{ID: "p/b/1", Outcome: wire.SetAside, Err: errRefused}},
		event:  actors.DeliveryFailed{ID: "p/b/2", Outcome: wire.SetAside, Err: errRefused, Attempt: 1},
		line: "{\"level\":\"error\",\"message\":\"core refuses this report for good; it is set aside: see `poller spool ls`\",\"report\":\"p/b/2\"," +
			`"error":"core refuses","set_aside_total":2}`,
	},
	{
		name:  "reports can't be read",
		event: actors.SpoolUnreadable{Err: errors.New("input/output error"), RetryIn: 93*time.Millisecond + time.Microsecond},
		line: `{"level":"error","message":"reports that are kept can't be read; trying again",
			"error":"input/output error","failed_attempts":1,"retry_in":"93ms"}`,
	},
	{
		name: "a configuration was reloaded",
		event: actors.Reloaded{
			Config: &config.Config{Log: config.Log{Level: "info"}, Agents: []*check.Agent{{Name: "a"}, {Name: "b"}}},
			Added:  []string{"b"}, Removed: []string{"c", "d"}, Renewed: 1,
		},
		line: `{"level":"info","message":"configuration reloaded","agents":2,"added":1,"added_agents":["b"],"changed":0,"changed_agents":[],
			"removed":2,"removed_agents":["c","d"],"tls_renewed":1}`,
	},
	{
		name: "a configuration can't be used",
		event: actors.ReloadFailed{Err: config.Errors{
			{File: "poller.toml", Line: 3, Column: 1, Key: "pol", Msg: "unknown key"}, {File: "poller.toml", Line: 9, Column: 2, Key: "b", Msg: "unknown key"},
		}},
		line: `{"level":"error","message":"configuration not reloaded: it can't be used; the one before stays in use",
			"problems":["poller.toml:3:1: pol: unknown key","poller.toml:9:2: b: unknown key"],"problems_total":2}`,
	},
	{
		name:  "a message found nobody",
		event: actors.DeadLetter{To: "root/agent/a", Type: "actors.runChecks"},
		line:  `{"level":"debug","message":"message found nobody","actor":"root/agent/a","message_type":"actors.runChecks"}`,
	},
}

func TestLog(t *testing.T) {
	t.Parallel()
	for _, tt := range narrated {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			wantLine(t, told(t, append(slices.Clone(tt.before), tt.event)...), tt.line)
		})
	}
}

// wantLine asserts that there is one line, with at least some fields; none if these are empty.
func wantLine(t *testing.T, got []map[string]any, line string) {
	t.Helper()
	if line == "" {
		if len(got) != 0 {
			t.Fatalf("it was told: %v", got)
		}
		return
	}
	if len(got) != 1 {
		t.Fatalf("it was told in %d lines: %v", len(got), got)
	}
	want := lines(t, bytes.ReplaceAll([]byte(line), []byte("\n"), nil))[0]
	for key := range got[0] {
		if _, wanted := want[key]; !wanted {
			delete(got[0], key)
		}
	}
	if diff := cmp.Diff(want, got[0]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Every event there is has its line above, or in log_cluster_test.go.
func TestLogTellsEveryEvent(t *testing.T) {
	t.Parallel()
	actors, cluster := make(map[string]bool), make(map[string]bool)
	for _, tt := range narrated {
		actors[reflect.TypeOf(tt.event).Name()] = true
	}
	for _, tt := range narratedByNodes {
		if of := reflect.TypeOf(tt.event); strings.HasSuffix(of.PkgPath(), "/cluster") {
			cluster[of.Name()] = true
		} else {
			actors[of.Name()] = true
		}
	}
	wantEvents(t, "../../actors/events.go", actors)
	cluster["Counts"] = true // which is no event
	wantEvents(t, "../cluster/events.go", cluster)
}

// wantEvents asserts that the structs of a file are those that have some names.
func wantEvents(t *testing.T, name string, has map[string]bool) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	events := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if _, ok := spec.Type.(*ast.StructType); ok {
			if events++; !has[spec.Name.Name] {
				t.Errorf("%s: nothing says how %s is told", name, spec.Name.Name)
			}
		}
		return false
	})
	if events != len(has) {
		t.Errorf("%s: %d events are declared, %d told", name, events, len(has))
	}
}

// An agent whose checks come to different things has a line for each of these, in their order.
func TestLogGroupsChecks(t *testing.T) {
	t.Parallel()
	var got []string
	for _, line := range told(t, actors.ChecksChanged{Agent: "a", Changes: []actors.Change{
		{Check: "c0", Reason: check.Timeout, Detail: "first"},
		{Check: "c1", Available: true},
		{Check: "c2", Detail: "down"},
		{Check: "c3", Reason: check.BadAnswer},
		{Check: "c4", Reason: check.Timeout, Detail: "second"},
		{Check: "c5", Available: true},
	}}) {
		got = append(got, fmt.Sprintln(line["level"], line["checks"], line["reason"], line["detail"]))
	}
	want := []string{"warn [c0 c4] timeout first\n", "info [c1 c5] <nil> <nil>\n", "warn [c2] <nil> down\n", "warn [c3] bad_answer <nil>\n"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A poller that does its work has nothing to say.
func TestLogIsQuietWhenAllIsWell(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	n := newNarrator(zerolog.New(&log).Level(zerolog.InfoLevel), new(observe.Board), configOf(100))
	for i := range 100 {
		id := fmt.Sprintf("p/b/%d", i+1)
		n.observe(actors.HealthTold{Agent: "a", Health: "SERVING"})
		n.observe(actors.CycleClosed{Cycle: int64(i), Statuses: 500})
		n.observe(actors.ReportTaken{ID: id, Kept: 1})
		n.observe(actors.ReportDelivered{ID: id, Took: time.Millisecond})
	}
	if log.Len() != 0 {
		t.Errorf("it says:\n%s", log.String())
	}
}
