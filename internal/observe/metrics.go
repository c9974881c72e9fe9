package observe

import (
	"cmp"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/serviceradar/poller/internal/check"
)

const (
	// prefix is what the names of our own metrics begin with.
	prefix = "poller_"
	// maxFiles bounds the certificates that are shown: those that expire first.
	maxFiles = 32
	// maxScrapes is how many may be under way at once, and scrapeTime how long one may take to be read: whoever reads
	// slowly keeps a copy of all that there is.
	maxScrapes = 8
	scrapeTime = 30 * time.Second
)

// Metrics are what Prometheus reads of the poller. How many series there are does not depend on how many agents there are,
// unless there are metrics per check. Nothing here has a goroutine or a timer of its own: what can be asked for is asked
// when somebody scrapes. All methods are safe to call from any goroutine, and none waits for anything but a moment of
// another, or for a scrape to copy the table of checks.
type Metrics struct {
	registry *prometheus.Registry
	runs     *runs
	perCheck *perCheck
	cluster  *clusterMetrics
	each     atomic.Bool // there are metrics per check

	cycleStatuses prometheus.Gauge
	cycleDuration prometheus.Histogram
	cyclesMissed  prometheus.Counter
	clockSetBack  prometheus.Counter

	restarts    *prometheus.CounterVec
	panics      prometheus.Counter
	deadLetters prometheus.Counter
	discarded   prometheus.Counter

	deliveries       *prometheus.CounterVec
	deliveryDuration *prometheus.HistogramVec
	reportsTaken     prometheus.Counter
	reportsSplit     prometheus.Counter
	reportsDropped   *prometheus.CounterVec
	spoolFailures    *prometheus.CounterVec
	asideDropped     prometheus.Counter
	fsyncDuration    prometheus.Histogram
	spoolMaxBytes    prometheus.Gauge
	spoolMaxAge      prometheus.Gauge

	agents, checks       prometheus.Gauge
	configHash           prometheus.Gauge
	reloadSuccessful     prometheus.Gauge
	lastReloadSuccessful prometheus.Gauge

	mu       sync.Mutex
	names    map[string]bool   // of the agents
	held     map[string]bool   // those of them that are this node's; nil means all
	breakers map[string]string // the states of the agents' that are not closed
	parked   map[string]string // the kinds of the actors
	expiries map[string]time.Time
}

// Source is how a source of targets is.
type Source struct {
	ID string
	// Targets is how many there are, Held how many of them are not listed any more, but stay until that is confirmed.
	Targets, Held int
	// Good is when it was last read without an error; zero if it never was.
	Good time.Time
	// Failing tells that something of it can't be read now.
	Failing bool
}

// MetricsSources are what Metrics asks when somebody scrapes. They are called from any goroutine and must not block.
type MetricsSources struct {
	// PerCheck adds metrics of each check: about two series for each.
	PerCheck bool
	// Board has the conditions of readiness.
	Board *Board
	// Spool tells of what is kept for core: reports, their bytes, and when the oldest took place, which is zero if there is
	// none.
	Spool func() (reports int, bytes int64, oldest time.Time)
	// Sources tells of where targets are looked for. May be nil.
	Sources func() []Source
	// Connections counts the open connections to checkers.
	Connections func() int64
	// Cluster tells of the cluster of which this is a node; nil if there is none.
	Cluster func() Cluster
}

// NewMetrics returns metrics in which nothing has happened yet.
func NewMetrics(from MetricsSources) *Metrics {
	r := family{prometheus.NewRegistry()}
	m := &Metrics{
		registry: r.Registry,
		runs:     newRuns(r),

		cycleStatuses: r.gauge("cycle_statuses", "Statuses in the cycle that closed last."),
		cycleDuration: r.histogram("cycle_duration_seconds", "How long after its planned begin a cycle closed.", .05, .25, 1, 2.5, 5, 10, 30, 60),
		cyclesMissed:  r.counter("cycles_missed_total", "Cycles that were left out, because the process did not run for so long."),
		clockSetBack:  r.counter("clock_set_back_total", "Times that the wall clock was found set back; timestamps stand still until it has caught up."),

		restarts:    r.counters("actor_restarts_total", "Actors that were started again after they had failed, by kind.", "actor", actorKinds...),
		panics:      r.counter("panics_recovered_total", "Panics that ended nothing but a run or a delivery. Each is a bug."),
		deadLetters: r.counter("dead_letters_total", "Messages between actors that found nobody. What matters is sent again."),
		discarded:   r.counter("answers_discarded_total", "Answers of checkers that came after their run had a status."),

		deliveries: r.counters("deliveries_total", "Deliveries to core by outcome: delivered; retry: tried again after a while; hold: kept until somebody mends it; "+
			"set_aside: refused for good, and kept for people; lost: refused for good, and not kept.", "outcome", "delivered", "retry", "hold", "set_aside", "lost"),
		deliveryDuration: r.histograms("delivery_duration_seconds", "How long deliveries to core took, by outcome as in poller_deliveries_total.", "outcome", .005, .025, .1, .5, 2.5, 10, 30),
		reportsTaken:     r.counter("reports_taken_total", "Reports that were made safe: on disk, or in memory if that is configured."),
		reportsSplit:     r.counter("reports_split_total", "Reports, or parts of them, that core found too large and gets in smaller parts."),
		reportsDropped: r.counters("reports_dropped_total", "Reports that are lost, by cause: too_old (spool.max_age), no_room (spool.max_bytes), not_taken (they could not be kept in time), "+
			"stopped (the poller did, before they were kept), unfit (they could not be made), damaged (they can't be read from the disk), "+
			"refused (by core, and not set aside).", "cause", "too_old", "no_room", "not_taken", "stopped", "unfit", "damaged", "refused"),
		spoolFailures: r.counters("spool_failures_total", "Tries to keep a report (append), or to read the oldest (read), that failed and are repeated.", "operation", "append", "read"),
		asideDropped:  r.counter("spool_aside_dropped_total", "Reports set aside that were dropped for want of room or because of their age."),
		fsyncDuration: r.histogram("spool_fsync_duration_seconds", "How long each fsync of the spool took, of a file or its directory.", .001, .005, .025, .1, .5, 2.5),
		spoolMaxBytes: r.gauge("spool_max_bytes", "How many bytes of reports may be kept for core: spool.max_bytes."),
		spoolMaxAge:   r.gauge("spool_max_age_seconds", "How long a report may be kept for core: spool.max_age."),

		agents:               r.gauge("agents", "Agents in the configuration that is in effect."),
		checks:               r.gauge("checks", "Checks in the configuration that is in effect."),
		configHash:           r.gauge("config_hash", "A hash of the configuration that is in effect: another value is another configuration."),
		reloadSuccessful:     r.gauge("config_last_reload_successful", "1 if the last try to load the configuration succeeded, 0 if not."),
		lastReloadSuccessful: r.gauge("config_last_reload_success_timestamp_seconds", "When a configuration was last loaded and put into effect."),

		breakers: make(map[string]string), parked: make(map[string]string), expiries: make(map[string]time.Time),
	}
	kinds := actorKinds
	m.perCheck = newPerCheck()
	if from.Cluster != nil {
		kinds = append(slices.Clone(kinds), "member")
		m.held, m.perCheck.held = make(map[string]bool), make(map[string]bool)
		m.restarts.WithLabelValues("member")
	}
	m.cluster = newClusterMetrics(r, from.Cluster)
	m.compute(r, from, kinds)
	r.MustRegister(m.perCheck)
	m.each.Store(from.PerCheck)
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// actorKinds are the kinds of actors that are supervised, without that of a cluster, breakerStates the states of a breaker, as the actors' events
// have them.
var (
	actorKinds    = []string{"agent", "poller", "reporter", "watcher"}
	breakerStates = []string{breakerClosed, "half-open", "open"}
)

const breakerClosed = "closed"

// compute adds what is asked for at each scrape.
func (m *Metrics) compute(r family, from MetricsSources, kinds []string) {
	version, revision := Build()
	r.computed("build_info", "What this binary was built from; always 1.", []string{"version", "revision", "goversion"}, func(set setter) {
		set(1, version, revision, runtime.Version())
	})
	r.computed("ready", "The conditions of readiness, as /readyz tells them: 1 if the poller can be relied on as far as this one goes, 0 if not.", []string{"condition"}, func(set setter) {
		_, conditions := from.Board.Read(time.Now())
		for _, c := range conditions {
			set(truth(c.OK), c.Name)
		}
	})
	r.computed("breakers", "Agents by the state of their circuit breaker.", []string{"state"}, func(set setter) { m.countBreakers(set) })
	r.computed("actors_parked", "Actors that used up their restart budget and get one try per restart.window, by kind.", []string{"actor"}, func(set setter) { m.countParked(set, kinds) })
	r.computed("tls_certificate_expiry_timestamp_seconds", "When the certificate in a file expires; of the files that expire first, at most 32.", []string{"file"}, func(set setter) { m.showExpiries(set) })
	r.computed("checker_connections", "Open connections to checkers.", nil, func(set setter) { set(float64(from.Connections())) })
	m.computeSources(r, from)
	r.computed("spool_reports", "Reports that are kept for core.", nil, func(set setter) {
		reports, _, _ := from.Spool()
		set(float64(reports))
	})
	r.computed("spool_bytes", "Bytes of the reports that are kept for core.", nil, func(set setter) {
		_, bytes, _ := from.Spool()
		set(float64(bytes))
	})
	r.computed("spool_oldest_report_age_seconds", "How long ago the oldest report that is kept for core took place; 0 if there is none.", nil, func(set setter) {
		_, _, oldest := from.Spool()
		if oldest.IsZero() {
			set(0)
			return
		}
		set(max(0, time.Since(oldest).Seconds()))
	})
}

func (m *Metrics) computeSources(r family, from MetricsSources) {
	if from.Sources == nil {
		return
	}
	each := func(name, help string, value func(s *Source) float64) {
		r.computed(name, help, []string{"source"}, func(set setter) {
			for _, s := range from.Sources() {
				set(value(&s), s.ID)
			}
		})
	}
	each("discovery_targets", "Targets that a source has: those of its last good lists.", func(s *Source) float64 { return float64(s.Targets) })
	each("discovery_held_targets", "Targets that a source does not list any more, but that stay until it is seen again that they are gone.", func(s *Source) float64 { return float64(s.Held) })
	each("discovery_successful", "1 if all of a source could be read when it was looked at last, 0 if not; then what can't be read has its last good list.", func(s *Source) float64 { return truth(!s.Failing) })
	each("discovery_last_success_timestamp_seconds", "When all of a source could be read last; 0 if it never could.", func(s *Source) float64 {
		if s.Good.IsZero() {
			return 0
		}
		return float64(s.Good.Unix())
	})
}

// Handler answers scrapes, in OpenMetrics, in Prometheus' older text format, or in protobuf, which is what has native
// histograms. One that fails says why.
func (m *Metrics) Handler() http.Handler {
	h := promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: maxScrapes})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(scrapeTime)) // a server of net/http can do it
		h.ServeHTTP(w, r)
	})
}

// PerCheck says whether there are metrics of each check from the next call of Agents on.
func (m *Metrics) PerCheck(on bool) { m.each.Store(on) }

// Agents tells which agents there are from now on. Of those that are gone nothing is left but in sums.
func (m *Metrics) Agents(agents []*check.Agent) {
	names := make(map[string]bool, len(agents))
	checks := 0
	for _, a := range agents {
		names[a.Name] = true
		checks += len(a.Checks)
	}
	m.agents.Set(float64(len(agents)))
	m.checks.Set(float64(checks))
	m.runs.expect(agents)
	if m.each.Load() {
		m.perCheck.expect(agents, names)
	} else {
		m.perCheck.expect(nil, names)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.names = names
	maps.DeleteFunc(m.held, func(agent string, _ bool) bool { return !names[agent] })
	maps.DeleteFunc(m.breakers, func(agent, _ string) bool { return !names[agent] })
	maps.DeleteFunc(m.parked, func(actor, kind string) bool { return kind == agentKind && !names[actor] })
}

// CycleClosed takes the statuses of a cycle, of which it keeps nothing, and how long after its planned begin it closed.
// It takes a tenth of a microsecond or two for each, and about as much again with metrics per check.
func (m *Metrics) CycleClosed(statuses []check.Status, took time.Duration) {
	m.cycleStatuses.Set(float64(len(statuses)))
	m.cycleDuration.Observe(took.Seconds())
	m.runs.take(statuses)
	if m.each.Load() {
		m.perCheck.take(statuses)
	}
}

// CyclesMissed tells of cycles that were left out.
func (m *Metrics) CyclesMissed(n int64) { m.cyclesMissed.Add(float64(n)) }

// ClockSetBack tells that the wall clock went back.
func (m *Metrics) ClockSetBack() { m.clockSetBack.Inc() }

// BreakerMoved tells the state of an agent's breaker: closed, half-open or open. At first all are closed.
func (m *Metrics) BreakerMoved(agent, state string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if state == breakerClosed || !m.has(agent) {
		delete(m.breakers, agent)
		return
	}
	m.breakers[agent] = state
}

// has tells whether there is such an agent, and in a cluster, whether it is this node's; m.mu is held.
func (m *Metrics) has(agent string) bool { return m.names[agent] && (m.held == nil || m.held[agent]) }

func (m *Metrics) countBreakers(set setter) {
	m.mu.Lock()
	all := len(m.names)
	if m.held != nil {
		all = len(m.held)
	}
	counts := map[string]int{breakerClosed: all - len(m.breakers)}
	for _, state := range m.breakers {
		counts[state]++
	}
	m.mu.Unlock()
	for _, state := range breakerStates {
		set(float64(counts[state]), state)
	}
}

const agentKind = "agent"

// ActorFailed tells that an actor failed: its kind (agent, poller, reporter, watcher or member), its name, and whether it used up its
// restart budget.
func (m *Metrics) ActorFailed(kind, name string, parked bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if parked && (kind != agentKind || m.has(name)) {
		m.parked[name] = kind
	}
}

// ActorRestarted tells that an actor that had failed runs again. If it fails again, it is parked again.
func (m *Metrics) ActorRestarted(kind, name string) {
	m.restarts.WithLabelValues(kind).Inc()
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.parked, name)
}

func (m *Metrics) countParked(set setter, kinds []string) {
	counts := make(map[string]int)
	m.mu.Lock()
	for _, kind := range m.parked {
		counts[kind]++
	}
	m.mu.Unlock()
	for _, kind := range kinds {
		set(float64(counts[kind]), kind)
	}
}

// PanicRecovered tells of a panic that ended no actor.
func (m *Metrics) PanicRecovered() { m.panics.Inc() }

// DeadLetter tells of a message that found nobody.
func (m *Metrics) DeadLetter() { m.deadLetters.Inc() }

// AnswerDiscarded tells of an answer that came too late.
func (m *Metrics) AnswerDiscarded() { m.discarded.Inc() }

// Delivered tells what came of a delivery to core, of a fixed list, and how long it took.
func (m *Metrics) Delivered(outcome string, took time.Duration) {
	m.deliveries.WithLabelValues(outcome).Inc()
	m.deliveryDuration.WithLabelValues(outcome).Observe(took.Seconds())
}

// ReportTaken tells that a report is safe.
func (m *Metrics) ReportTaken() { m.reportsTaken.Inc() }

// ReportSplit tells that core found a report, or a part of one, too large.
func (m *Metrics) ReportSplit() { m.reportsSplit.Inc() }

// ReportsDropped tells of reports that are lost, for a cause of a fixed list.
func (m *Metrics) ReportsDropped(cause string, n int) {
	m.reportsDropped.WithLabelValues(cause).Add(float64(n))
}

// SpoolFailed tells that a report could not be kept ("append"), or the oldest not be read ("read").
func (m *Metrics) SpoolFailed(operation string) { m.spoolFailures.WithLabelValues(operation).Inc() }

// AsideDropped tells that something is dropped of what was set aside.
func (m *Metrics) AsideDropped() { m.asideDropped.Inc() }

// Synced tells how long an fsync of the spool took.
func (m *Metrics) Synced(took time.Duration) { m.fsyncDuration.Observe(took.Seconds()) }

// SpoolBounds tells how many bytes of reports may be kept for core, and for how long, from now on.
func (m *Metrics) SpoolBounds(maxBytes int64, maxAge time.Duration) {
	m.spoolMaxBytes.Set(float64(maxBytes))
	m.spoolMaxAge.Set(maxAge.Seconds())
}

// TLSExpiry tells when the certificate that was loaded from a file expires; the zero time that the file is in use no more.
func (m *Metrics) TLSExpiry(file string, notAfter time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if notAfter.IsZero() {
		delete(m.expiries, file)
		return
	}
	m.expiries[file] = notAfter
}

func (m *Metrics) showExpiries(set setter) {
	m.mu.Lock()
	expiries := maps.Clone(m.expiries)
	m.mu.Unlock()
	files := slices.SortedFunc(maps.Keys(expiries), func(a, b string) int {
		return cmp.Or(expiries[a].Compare(expiries[b]), strings.Compare(a, b))
	})
	for _, file := range files[:min(len(files), maxFiles)] {
		set(float64(expiries[file].Unix()), file)
	}
}

// ConfigLoaded tells that a configuration is in effect, with a hash of all that is in it, in at least 12 hexadecimal digits.
func (m *Metrics) ConfigLoaded(hash string, now time.Time) {
	n, err := strconv.ParseUint(hash[:12], 16, 64) // what a float64 holds exactly
	if err != nil {
		panic("observe: the hash of a configuration: " + err.Error())
	}
	m.configHash.Set(float64(n))
	m.reloadSuccessful.Set(1)
	m.lastReloadSuccessful.Set(float64(now.Unix()))
}

// ConfigRejected tells that a configuration could not be loaded; the one before is still in effect.
func (m *Metrics) ConfigRejected() { m.reloadSuccessful.Set(0) }

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
