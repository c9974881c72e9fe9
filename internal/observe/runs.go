package observe

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/serviceradar/poller/internal/check"
)

const (
	// maxTypes bounds the types of checks that are told apart, otherTypes included, which stands for all others. So it
	// bounds the series, whatever types there are.
	maxTypes   = 32
	otherTypes = "other"
)

// runs are the metrics of runs. Many come at once, while an actor waits; so whatever has labels is looked up once for
// each type of check.
type runs struct {
	total    *prometheus.CounterVec
	duration *prometheus.HistogramVec
	lateness prometheus.Histogram

	mu     sync.Mutex
	byType map[string]*runsOfType
}

// runsOfType are the runs of checks of a type.
type runsOfType struct {
	duration prometheus.Observer
	counters [outcomes]prometheus.Counter
	counts   [outcomes]int // of those that are being taken
}

func newRuns(r family) *runs {
	return &runs{
		total: register(r, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "runs_total",
			Help: "Runs that came to a status: by type of check, of which 31 are told apart and the others are of type other; " +
				"by result: available or unavailable, as the checker says, or failed, if it does not or does not meet an assertion; and by the reason of that.",
		}, []string{"type", "result", "reason"})),
		duration: r.histograms("run_duration_seconds", "How long calls to checkers took, by the poller's own clock, and by type of check as in poller_runs_total. Runs in which nobody was asked are left out.", "type",
			.001, .005, .025, .1, .5, 1, 2.5, 5, 10),
		lateness: r.histogram("run_lateness_seconds", "How long after it was due a run asked the checker.", .001, .005, .025, .1, .5, 2.5, 10),
		byType:   make(map[string]*runsOfType),
	}
}

// expect makes the series of the types that there are, so that they begin with 0.
func (r *runs) expect(agents []*check.Agent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range agents {
		for i := range a.Checks {
			r.of(a.Checks[i].Type)
		}
	}
}

func (r *runs) take(statuses []check.Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range statuses {
		st := &statuses[i]
		of := r.of(st.Check.Type)
		of.counts[outcomeOf(st)]++
		if st.Asked {
			of.duration.Observe(st.Took.Seconds())
			r.lateness.Observe(st.Late.Seconds())
		}
	}
	for _, of := range r.byType {
		for i, n := range of.counts {
			if n > 0 {
				of.counters[i].Add(float64(n))
				of.counts[i] = 0
			}
		}
	}
}

// of returns the runs of a type.
func (r *runs) of(name string) *runsOfType {
	if of := r.byType[name]; of != nil {
		return of
	}
	if len(r.byType) >= maxTypes-1 {
		name = otherTypes
		if of := r.byType[name]; of != nil {
			return of
		}
	}
	of := &runsOfType{duration: r.duration.WithLabelValues(name)}
	for i := range of.counters {
		of.counters[i] = r.total.WithLabelValues(name, resultOf(outcome(i)), string(reasonOf[i]))
	}
	r.byType[name] = of
	return of
}

// outcome is what a run came to: available, unavailable, or failed for one of the reasons.
type outcome uint8

const (
	available outcome = iota
	unavailable
	firstFailed
	outcomes = int(firstFailed) + len(check.Reasons)
)

// reasonOf has the reasons of the outcomes, empty for a verdict; failedFor has it the other way round.
var (
	reasonOf  [outcomes]check.Reason
	failedFor = make(map[check.Reason]outcome, len(check.Reasons))
)

func init() {
	for i, reason := range check.Reasons {
		o := firstFailed + outcome(i)
		reasonOf[o], failedFor[reason] = reason, o
	}
}

func outcomeOf(st *check.Status) outcome {
	switch {
	case st.Reason != "":
		if o, known := failedFor[st.Reason]; known {
			return o
		}
		return failedFor[check.Internal]
	case st.Available:
		return available
	}
	return unavailable
}

func resultOf(o outcome) string {
	switch o {
	case available:
		return "available"
	case unavailable:
		return "unavailable"
	default:
		return "failed"
	}
}
