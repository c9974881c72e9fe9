//go:build hung && linux

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/proto/monitoring"
)

// key is one check of one agent.
type key struct{ agent, check string }

// roll is when the checks of the agents that are well were asked.
type roll struct {
	first chan time.Time // the first time

	mu    sync.Mutex
	asked map[key][]time.Time
}

func newRoll() *roll { return &roll{first: make(chan time.Time, 1), asked: make(map[key][]time.Time)} }

// answer is a checker's. It tells which time it was asked, so that no answer can pass for another.
func (r *roll) answer(_ context.Context, req *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
	now := time.Now()
	k := key{req.GetAgentId(), req.GetServiceName()}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.asked) == 0 {
		r.first <- now
	}
	r.asked[k] = append(r.asked[k], now)
	return &monitoring.StatusResponse{
		Available: true, ResponseTime: 95382,
		Message: fmt.Appendf(nil, `{"host":"127.0.0.1","response_time":95382,"asked":%d}`, len(r.asked[k])),
	}, nil
}

// wait returns when the first check was asked, which is shortly after the first cycle began.
func (r *roll) wait(t *testing.T) time.Time {
	t.Helper()
	select {
	case at := <-r.first:
		return at
	case <-time.After(interval):
		t.Fatal("no checker was asked")
		return time.Time{}
	}
}

// verify wants each check of each agent that is well to have been asked once in each cycle. It returns
// how far the intervals were from what was planned, in order; but those since the first cycle, in
// which connections were made.
func (r *roll) verify(t *testing.T, f fleet, began time.Time) []time.Duration {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	complain := complaints(t)
	var errors []time.Duration
	for i, kind := range f.kinds {
		for j := range checksEach {
			k := key{agentName(i), checkName(j)}
			asked := r.asked[k]
			if !kind.good() {
				continue
			}
			if len(asked) != *cycles {
				complain("%v was asked %d times in %d cycles", k, len(asked), *cycles)
			}
			for n, at := range asked {
				// Much less than a quarter early, for the first was late by the making of its connection.
				if cycle := int((at.Sub(began) + interval/4) / interval); cycle != n {
					complain("%v was asked for the %d. time in cycle %d, %v after the begin", k, n+1, cycle, at.Sub(began))
				}
				if n > 1 {
					errors = append(errors, (at.Sub(asked[n-1]) - interval).Abs())
				}
			}
		}
	}
	slices.Sort(errors)
	return errors
}

// book is what came to core.
type book struct {
	mu       sync.Mutex
	statuses map[key][]told // in the order in which they came
	arrivals []arrival      // of reports with statuses, in the same order
	mistakes []string
}

// told is what core reads of a run.
type told struct {
	timestamp int64
	available bool
	asked     int    // which time the checker had been asked
	reason    string // why there is no verdict
	detail    string // the same in words
}

type arrival struct {
	id        string
	timestamp int64
	at        time.Time
}

// deliver takes what core took.
func (b *book) deliver(d sim.Delivery) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d.Registration() {
		return
	}
	if b.statuses == nil {
		b.statuses = make(map[key][]told)
	}
	b.arrivals = append(b.arrivals, arrival{d.ID, d.Timestamp, d.At})
	for _, s := range d.Services {
		var message struct {
			Data struct {
				Asked  int
				Reason string
				Error  string
			}
		}
		if err := json.Unmarshal(s.GetMessage(), &message); err != nil {
			b.mistakes = append(b.mistakes, fmt.Sprintf("%v in %s", err, s.GetMessage()))
		}
		k := key{s.GetAgentId(), s.GetServiceName()}
		b.statuses[k] = append(b.statuses[k], told{d.Timestamp, s.GetAvailable(), message.Data.Asked, message.Data.Reason, message.Data.Error})
	}
}

// verify wants each report to have come once and in order, with exactly one status of each check for
// each cycle, and each status to be right. It returns how long after its begin each cycle was complete
// at core, in order. On a machine that starves everybody, a hung checker's run may also be no_answer, and
// then says nothing of the checker, so that its breaker opens later.
func (b *book) verify(t *testing.T, core *sim.Core, f fleet, began time.Time, starved bool) []time.Duration {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	complain := complaints(t)
	for _, m := range slices.Concat(b.mistakes, core.Violations()) {
		complain("%s", m)
	}
	if n := core.Stats().Dropped; n != 0 {
		complain("core dropped %d reports", n)
	}
	excused := 0
	for i, kind := range f.kinds {
		for j := range checksEach {
			k := key{agentName(i), checkName(j)}
			if got := len(b.statuses[k]); got != *cycles {
				complain("%s %v has %d statuses in %d cycles", kind.name, k, got, *cycles)
			}
			for cycle, got := range b.statuses[k] {
				want := told{timestamp: b.timestamp(cycle), available: true, asked: cycle + 1, detail: got.detail}
				if !kind.good() {
					want.asked, want.reason = 0, kind.reason(cycle)
					if starved && got.reason != "" && slices.Contains([]string{"no_answer", kind.reason(0), kind.reason(1), kind.reason(2)}, got.reason) {
						want.reason = got.reason
						if got.reason == "no_answer" {
							excused++
						}
					}
					want.available = want.reason == ""
				}
				if got != want {
					complain("%s %v, cycle %d: %+v, want %+v", kind.name, k, cycle, got, want)
				}
			}
		}
	}
	if most := len(f.kinds) * checksEach * *cycles / 100; excused > most {
		complain("%d runs of hung checkers came to no_answer, which the machine can't be blamed for with more than %d", excused, most)
	}
	b.verifyOrder(complain)
	return b.delays(began)
}

// timestamp is what the statuses of a cycle must have.
func (b *book) timestamp(cycle int) int64 {
	return b.arrivals[0].timestamp + int64(cycle)*int64(interval/time.Second)
}

// verifyOrder wants the reports' numbers to go up by one, and each one's time to be its cycle's.
func (b *book) verifyOrder(complain func(string, ...any)) {
	cycle := 0
	for i, a := range b.arrivals {
		if i == 0 {
			continue
		}
		previous := b.arrivals[i-1]
		if boot, n := number(a.id); boot+strconv.Itoa(n-1) != previous.id {
			complain("report %q came after %q", a.id, previous.id)
		}
		if a.timestamp != previous.timestamp {
			cycle++
		}
		if a.timestamp != b.timestamp(cycle) {
			complain("report %q, cycle %d: time %d, want %d", a.id, cycle, a.timestamp, b.timestamp(cycle))
		}
	}
	if cycle != *cycles-1 {
		complain("core has reports of %d cycles, want %d", cycle+1, *cycles)
	}
}

// number splits a report's id into what all have in common and its number.
func number(id string) (boot string, n int) {
	at := strings.LastIndexByte(id, '/') + 1
	n, err := strconv.Atoi(id[at:])
	if err != nil {
		return id, 0
	}
	return id[:at], n
}

func (b *book) delays(began time.Time) []time.Duration {
	complete := make(map[int64]time.Time)
	for _, a := range b.arrivals {
		complete[a.timestamp] = a.at
	}
	var delays []time.Duration
	for _, timestamp := range slices.Sorted(maps.Keys(complete)) {
		delays = append(delays, complete[timestamp].Sub(began.Add(time.Duration(len(delays))*interval)))
	}
	slices.Sort(delays)
	return delays
}

// complaints returns a function that fails the test; only the first few are printed.
func complaints(t *testing.T) func(format string, args ...any) {
	n := 0
	return func(format string, args ...any) {
		t.Helper()
		const most = 10
		if n++; n <= most {
			t.Errorf(format, args...)
		} else if n == most+1 {
			t.Error("… and more of the like")
		}
	}
}

// summary is what the runs of each kind of checker came to, by cycle.
func (b *book) summary(f fleet) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	counts := make(map[string][]map[string]int)
	for i, kind := range f.kinds {
		if counts[kind.name] == nil {
			counts[kind.name] = make([]map[string]int, *cycles)
			for cycle := range *cycles {
				counts[kind.name][cycle] = make(map[string]int)
			}
		}
		for j := range checksEach {
			statuses := b.statuses[key{agentName(i), checkName(j)}]
			for cycle := range min(*cycles, len(statuses)) { // that there are more, verify says
				counts[kind.name][cycle][cmp.Or(statuses[cycle].reason, "verdict")]++
			}
		}
	}
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		_, _ = fmt.Fprintf(w, "%s\t%s\n", name, spans(counts[name]))
	}
	_ = w.Flush()
	return text.String()
}

// spans tells of cycles that came to the same only once.
func spans(cycles []map[string]int) string {
	var text []string
	for from, to := 0, 0; from < len(cycles); from = to {
		for to = from; to < len(cycles) && maps.Equal(cycles[from], cycles[to]); {
			to++
		}
		what := strings.Trim(fmt.Sprint(cycles[from]), "map[]")
		text = append(text, fmt.Sprintf("cycle %d–%d: %s", from, to-1, what))
	}
	return strings.Join(text, "; ")
}
