package daemon

import (
	"strings"
	"time"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/observe"
	"github.com/serviceradar/poller/internal/spool"
	"github.com/serviceradar/poller/internal/wire"
)

// Causes for which reports are lost, beside those that actors tell.
const (
	lossDamaged = "damaged"
	lossRefused = "refused"
)

// breakerHalfOpen is how the breaker of an agent that was restarted begins.
const breakerHalfOpen = "half-open"

// measurer turns events into metrics, as the narrator turns them into log lines.
type measurer struct{ *observe.Metrics }

// newMeasurer returns a measurer that knows the configuration. Nobody may scrape before all has started.
func (d *Daemon) newMeasurer(cfg *config.Config) measurer {
	from := observe.MetricsSources{
		PerCheck: cfg.Metrics.PerCheck, Board: d.board, Connections: d.connections.Load,
		Spool: func() (reports int, bytes int64, oldest time.Time) {
			h := d.queue.holding()
			return h.Reports, h.Bytes, h.Oldest
		},
		Sources: d.sources,
	}
	if cfg.Cluster.Enabled {
		from.Cluster = d.ofCluster
	}
	m := measurer{observe.NewMetrics(from)}
	m.Agents(cfg.Agents)
	m.SpoolBounds(cfg.Spool.MaxBytes, cfg.Spool.MaxAge)
	m.ConfigLoaded(cfg.Hash(), time.Now())
	return m
}

// sources tells of what targets are found in.
func (d *Daemon) sources() []observe.Source {
	var all []observe.Source
	for _, s := range d.find.current().Status() {
		all = append(all, observe.Source{ID: s.ID, Targets: s.Targets, Held: s.Held, Good: s.Good, Failing: s.Err != nil})
	}
	return all
}

// observe takes an event of the actors.
func (m measurer) observe(event actors.Event) {
	switch e := event.(type) {
	case actors.CycleClosed:
		m.CycleClosed(e.Runs, e.Took)
	case actors.CyclesMissed:
		m.CyclesMissed(e.Cycles)
	case actors.ClockSetBack:
		m.ClockSetBack()
	case actors.BreakerChanged:
		m.BreakerMoved(e.Agent, e.To)
	case actors.StatusDiscarded:
		m.AnswerDiscarded()
	case actors.ActorFailed:
		kind, name := kindOf(e.Actor)
		m.ActorFailed(kind, name, e.Parked)
	case actors.ActorRestarted:
		m.restarted(e.Actor)
	case actors.PanicRecovered:
		m.PanicRecovered()
	case actors.DeadLetter:
		m.DeadLetter()
	case actors.Reloaded:
		m.PerCheck(e.Config.Metrics.PerCheck)
		m.Agents(e.Config.Agents)
		m.SpoolBounds(e.Config.Spool.MaxBytes, e.Config.Spool.MaxAge)
		if e.Err == nil {
			m.ConfigLoaded(e.Config.Hash(), time.Now())
		}
	case actors.ReloadFailed:
		m.ConfigRejected()
	default:
		if !m.sharing(e) {
			m.delivery(e)
		}
	}
}

func (m measurer) restarted(actor string) {
	kind, name := kindOf(actor)
	m.ActorRestarted(kind, name)
	if agent, ok := agentOf(actor); ok {
		m.BreakerMoved(agent, breakerHalfOpen)
	}
}

// kindOf returns what kind of actor it is, and its own name.
func kindOf(actor string) (kind, name string) {
	kind, name, isAgent := strings.Cut(actor, "/")
	if !isAgent {
		return kind, kind
	}
	return kind, name
}

func (m measurer) delivery(event actors.Event) {
	switch e := event.(type) {
	case actors.ReportTaken:
		m.ReportTaken()
	case actors.ReportSplit:
		m.ReportSplit()
	case actors.ReportDropped:
		m.ReportsDropped(string(e.Loss), 1)
	case actors.SpoolFailed:
		m.SpoolFailed("append")
	case actors.SpoolUnreadable:
		m.SpoolFailed("read")
	case actors.ReportDelivered:
		m.Delivered(wire.Delivered.String(), e.Took)
	case actors.DeliveryFailed:
		m.deliveryFailed(e)
	}
}

func (m measurer) deliveryFailed(e actors.DeliveryFailed) {
	if e.Lost != nil {
		m.Delivered("lost", e.Took)
		m.ReportsDropped(lossRefused, 1)
		return
	}
	m.Delivered(strings.ReplaceAll(e.Outcome.String(), " ", "_"), e.Took)
}

// spoolEvent takes an event of the spool on disk.
func (m measurer) spoolEvent(event spool.Event) {
	switch e := event.(type) {
	case spool.Lost:
		m.ReportsDropped(lossDamaged, e.Reports)
	case spool.AsideDropped:
		m.AsideDropped()
	}
}
