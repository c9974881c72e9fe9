package observe

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/serviceradar/poller/internal/check"
)

// perCheck are the metrics of each check, as users of blackbox_exporter know them. Between scrapes it is a table of a
// few bytes for each check, of what its last status was; the series are made of that for whoever scrapes.
type perCheck struct {
	success, duration, reason *prometheus.Desc

	mu     sync.Mutex
	checks []namedCheck // by agent and name, which is how series are sorted; not changed, but replaced
	last   []lastStatus // of each of the checks
	places map[*check.Check]int32
	held   map[string]bool // the agents that are this node's; nil means all
}

type namedCheck struct {
	agent *check.Agent
	check *check.Check
}

// lastStatus is what a check's last status was; nothing, if it had none yet.
type lastStatus struct {
	took    time.Duration
	outcome outcome
	known   bool
}

func newPerCheck() *perCheck {
	labels := []string{"agent", "check", "type"}
	return &perCheck{
		success:  newDesc("probe_success", "1 if the check was available when it ran last, 0 if not.", labels...),
		duration: newDesc("probe_duration_seconds", "How long the check took when it ran last: what the checker measured, else what the call took.", labels...),
		reason:   newDesc("probe_failure_reason", "Why there was no verdict on the check when it ran last, or assertion; always 1, and only there if it is so.", append(labels, "reason")...),
	}
}

// expect takes over what is known of the checks that there still are, and forgets the others. Names are all agents that there are.
func (p *perCheck) expect(agents []*check.Agent, names map[string]bool) {
	var checks []namedCheck
	for _, a := range agents {
		for i := range a.Checks {
			checks = append(checks, namedCheck{agent: a, check: &a.Checks[i]})
		}
	}
	slices.SortFunc(checks, namedCheck.compare)
	last, places := make([]lastStatus, len(checks)), make(map[*check.Check]int32, len(checks))

	p.mu.Lock()
	defer p.mu.Unlock()
	before := 0
	for i, c := range checks {
		for before < len(p.checks) && p.checks[before].compare(c) < 0 {
			before++
		}
		if before < len(p.checks) && p.checks[before].compare(c) == 0 {
			last[i] = p.last[before]
		}
		places[c.check] = int32(i)
	}
	p.checks, p.last, p.places = checks, last, places
	if p.held == nil {
		return
	}
	maps.DeleteFunc(p.held, func(agent string, _ bool) bool { return !names[agent] })
	for _, c := range checks {
		if !p.held[c.agent.Name] {
			delete(places, c.check)
		}
	}
}

// hold takes the statuses of agents from now on, which are this node's.
func (p *perCheck) hold(agents []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range agents {
		p.held[name] = true
		for i := p.first(name); i < len(p.checks) && p.checks[i].agent.Name == name; i++ {
			p.places[p.checks[i].check] = int32(i) //nolint:gosec // no memory has room for so many
		}
	}
}

// release forgets agents that are other nodes'. What is still to come of them does not count.
func (p *perCheck) release(agents []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range agents {
		delete(p.held, name)
		for i := p.first(name); i < len(p.checks) && p.checks[i].agent.Name == name; i++ {
			delete(p.places, p.checks[i].check)
			p.last[i] = lastStatus{}
		}
	}
}

// suspend forgets all agents, until they are held again.
func (p *perCheck) suspend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.held)
	clear(p.places)
	clear(p.last)
}

// first returns the place of the first check of an agent; p.mu is held.
func (p *perCheck) first(agent string) int {
	i, _ := slices.BinarySearchFunc(p.checks, agent, func(c namedCheck, agent string) int { return cmp.Compare(c.agent.Name, agent) })
	return i
}

func (c namedCheck) compare(other namedCheck) int {
	return cmp.Or(cmp.Compare(c.agent.Name, other.agent.Name), cmp.Compare(c.check.Name, other.check.Name))
}

func (p *perCheck) take(statuses []check.Status) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range statuses {
		st := &statuses[i]
		if place, ok := p.places[st.Check]; ok { // or it is gone
			p.last[place] = lastStatus{took: st.ResponseTime, outcome: outcomeOf(st), known: true}
		}
	}
}

// Describe is for the registry.
func (p *perCheck) Describe(ch chan<- *prometheus.Desc) {
	ch <- p.success
	ch <- p.duration
	ch <- p.reason
}

// Collect is for the registry.
func (p *perCheck) Collect(ch chan<- prometheus.Metric) {
	p.mu.Lock()
	checks, last := p.checks, slices.Clone(p.last)
	p.mu.Unlock()
	for i, l := range last {
		if !l.known {
			continue
		}
		s := newSeries(checks[i])
		s.success = labelled{desc: p.success, labels: s.three[:], value: truth(l.outcome == available)}
		s.duration = labelled{desc: p.duration, labels: s.three[:], value: l.took.Seconds()}
		ch <- &s.success
		ch <- &s.duration
		if reason := reasonOf[l.outcome]; reason != "" {
			ch <- s.because(p.reason, reason)
		}
	}
}

// series are those of a check, made at once with the labels that they share: with tens of thousands of checks that is
// what a scrape costs.
type series struct {
	pairs             [3]dto.LabelPair
	three             [3]*dto.LabelPair
	success, duration labelled
}

// The names of labels, to be pointed at.
var agentLabel, checkLabel, typeLabel, reasonLabel = "agent", "check", "type", "reason"

func newSeries(c namedCheck) *series {
	s := new(series)
	for i, l := range []struct{ name, value *string }{{&agentLabel, &c.agent.Name}, {&checkLabel, &c.check.Name}, {&typeLabel, &c.check.Type}} {
		s.pairs[i].Name, s.pairs[i].Value = l.name, l.value
		s.three[i] = &s.pairs[i]
	}
	return s
}

// because is the metric that says why there is no verdict.
func (s *series) because(desc *prometheus.Desc, reason check.Reason) *labelled {
	text := string(reason)
	of := &dto.LabelPair{Name: &reasonLabel, Value: &text}
	return &labelled{desc: desc, labels: []*dto.LabelPair{s.three[0], s.three[1], of, s.three[2]}, value: 1} // sorted by name
}

// labelled is a gauge of a scrape, with labels that are there already.
type labelled struct {
	desc   *prometheus.Desc
	labels []*dto.LabelPair
	value  float64
}

// Desc is for the registry.
func (l *labelled) Desc() *prometheus.Desc { return l.desc }

// Write is for the registry.
func (l *labelled) Write(out *dto.Metric) error {
	out.Label, out.Gauge = l.labels, &dto.Gauge{Value: &l.value}
	return nil
}
