package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/internal/sim"
)

// flaky is the agent that misbehaves.
const flaky = "flaky"

// tally counts what the poller made and what core got. It is safe for concurrent use.
type tally struct {
	mu      sync.Mutex
	rows    map[string]*row
	made    int // statuses in closed cycles
	cycles  int
	doubled int
	breaker []string // the states that flaky's breaker went to
}

// row is one check, as core has it.
type row struct {
	agent, check string
	last         string
	took         time.Duration
	times        map[int64]bool // timestamps of its statuses
	counts       map[string]int // by state
}

func newTally() *tally { return &tally{rows: make(map[string]*row)} }

// observe takes the poller's side.
func (t *tally) observe(event actors.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch e := event.(type) {
	case actors.CycleClosed:
		t.made += e.Statuses
		t.cycles++
	case actors.BreakerChanged:
		if e.Agent == flaky {
			t.breaker = append(t.breaker, e.To)
		}
	}
}

// delivered takes core's side.
func (t *tally) delivered(d sim.Delivery) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range d.Services {
		key := s.GetAgentId() + "/" + s.GetServiceName()
		r := t.rows[key]
		if r == nil {
			r = &row{agent: s.GetAgentId(), check: s.GetServiceName(), times: make(map[int64]bool), counts: make(map[string]int)}
			t.rows[key] = r
		}
		if r.times[d.Timestamp] {
			t.doubled++
		}
		r.times[d.Timestamp] = true
		r.last = state(s.GetAvailable(), s.GetMessage())
		r.took = time.Duration(s.GetResponseTime())
		r.counts[r.last]++
	}
}

// state is what a status comes to, in a word.
func state(available bool, message []byte) string {
	var envelope struct {
		Data struct {
			Reason string `json:"reason"`
		} `json:"data"`
	}
	switch err := json.Unmarshal(message, &envelope); {
	case err != nil:
		return "unreadable"
	case envelope.Data.Reason != "":
		return envelope.Data.Reason
	case available:
		return "available"
	}
	return "unavailable"
}

func (t *tally) table() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "AGENT\tCHECK\tNOW\tTOOK\tSTATUSES\tOF THEM") // a Builder takes everything
	for _, key := range slices.Sorted(maps.Keys(t.rows)) {
		r := t.rows[key]
		var counts []string
		for _, state := range slices.Sorted(maps.Keys(r.counts)) {
			counts = append(counts, fmt.Sprintf("%d %s", r.counts[state], state))
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%v\t%d\t%s\n", r.agent, r.check, r.last, r.took.Round(10*time.Microsecond), len(r.times), strings.Join(counts, ", "))
	}
	_ = w.Flush()
	return b.String()
}

// verdict sums up, and returns an error if something is not as it should be.
func (t *tally) verdict(out io.Writer, violations []string) error {
	table := t.table()
	t.mu.Lock()
	defer t.mu.Unlock()
	arrived := 0
	for _, r := range t.rows {
		arrived += len(r.times)
	}
	lost := t.made - arrived
	moves := strings.Join(t.breaker, " → ")
	_, err := fmt.Fprintf(out, "\nat the end:\n%s\n%d cycles, %d statuses made, %d at core, %d lost, %d doubled\n"+
		"the breaker of %s: %s\n", table, t.cycles, t.made, arrived, lost, t.doubled, flaky, t.lastMoves())
	if lost != 0 || t.doubled != 0 {
		err = errors.Join(err, fmt.Errorf("%d statuses lost, %d doubled", lost, t.doubled))
	}
	if len(violations) > 0 {
		err = errors.Join(err, fmt.Errorf("core saw violations of the contract: %s", strings.Join(violations, "; ")))
	}
	// It is bad from the fourth to the tenth second, so a run shorter than that shows less.
	if !strings.Contains(moves, "open → half-open → closed") {
		if t.cycles >= 8 {
			return errors.Join(err, fmt.Errorf("the breaker of %s did not open and close again: %s", flaky, moves))
		}
		_, _ = fmt.Fprintln(out, "too short to see it open and close again: give it 15s")
	}
	return err
}

// lastMoves are as many of the breaker's moves as fit on a line.
func (t *tally) lastMoves() string {
	const most = 9
	if n := len(t.breaker); n > most {
		return fmt.Sprintf("%d moves, the last: %s", n, strings.Join(t.breaker[n-most:], " → "))
	}
	return strings.Join(t.breaker, " → ")
}

// tail passes the log on, or keeps its last lines for under the table.
type tail struct {
	out  *os.File
	keep bool

	mu   sync.Mutex
	last []string
}

func (t *tail) Write(p []byte) (int, error) {
	if !t.keep {
		return t.out.Write(p)
	}
	const lines = 8
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = append(t.last, string(p))
	if len(t.last) > lines {
		t.last = t.last[1:]
	}
	return len(p), nil
}

func (t *tail) lines() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.last, "")
}
