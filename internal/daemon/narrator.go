package daemon

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/observe"
	"github.com/serviceradar/poller/internal/wire"
)

// The conditions of readiness.
const (
	conditionCore   = "core"
	conditionQueue  = "queue"
	conditionActors = "actors"
	conditionCycle  = "cycle"
	// conditionStopping is there only during the stop.
	conditionStopping = "stopping"
)

// narrator tells the actors' events: state changes to the log, and what they mean for readiness
// to the board. Usual successes are debug lines.
type narrator struct {
	log      zerolog.Logger
	board    *observe.Board
	interval time.Duration // of a cycle

	mu      sync.Mutex
	parked  map[string]bool       // actors that used up their restart budget
	failing int                   // failed deliveries in a row
	failure actors.DeliveryFailed // the last of them
	dropped int                   // reports lost since the start
	// dropping tells why reports are being lost, keeping why they can't be kept; empty if not so.
	dropping, keeping string
	discarded         int // answers that came too late
}

func newNarrator(log zerolog.Logger, board *observe.Board, interval time.Duration) *narrator {
	n := &narrator{log: log, board: board, interval: interval, parked: make(map[string]bool)}
	now := time.Now()
	board.Set(now, conditionCycle, false, "starting: the first cycle has not closed yet")
	board.Set(now, conditionCore, true, "")
	board.Set(now, conditionQueue, true, "")
	board.Set(now, conditionActors, true, "")
	return n
}

// observe takes an event of the actors.
func (n *narrator) observe(event actors.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	switch e := event.(type) {
	case actors.ActorFailed, actors.ActorRestarted, actors.PanicRecovered, actors.DeadLetter:
		n.supervision(now, e)
	case actors.BreakerChanged, actors.HealthTold, actors.NoResults, actors.StatusChanged, actors.StatusDiscarded:
		n.agent(e)
	case actors.CycleClosed, actors.CyclesMissed, actors.ClockSetBack:
		n.cycle(e)
	default:
		n.delivery(now, e)
	}
}

func (n *narrator) supervision(now time.Time, event actors.Event) {
	switch e := event.(type) {
	case actors.ActorFailed:
		msg := "actor failed; it will be started again"
		if e.Parked {
			msg = "actor keeps failing and is parked; one try per restart.window"
			n.parked[e.Actor] = true
		}
		n.log.Error().Str("actor", e.Actor).Str("cause", e.Cause).Stringer("restart_in", e.Delay.Round(time.Millisecond)).
			Bool("parked", e.Parked).Str("stack", e.Stack).Msg(msg)
	case actors.ActorRestarted:
		delete(n.parked, e.Actor) // if it fails again, it is parked again
		n.log.Info().Str("actor", e.Actor).Msg("actor started again")
	case actors.PanicRecovered:
		n.log.Error().Str("actor", e.Actor).Str("cause", e.Cause).Str("stack", e.Stack).
			Msg("panic recovered: this is a bug, please report it")
	case actors.DeadLetter:
		n.log.Debug().Str("actor", e.To).Str("message_type", e.Type).Msg("message found nobody")
	}
	n.board.Set(now, conditionActors, n.coreActorsRun(), n.parkedDetail())
}

// coreActorsRun: readiness does not depend on any one agent.
func (n *narrator) coreActorsRun() bool {
	for name := range n.parked {
		if !strings.HasPrefix(name, "agent/") {
			return false
		}
	}
	return true
}

func (n *narrator) parkedDetail() string {
	if len(n.parked) == 0 {
		return ""
	}
	const shown = 10
	var names []string
	for name := range n.parked {
		names = append(names, name)
	}
	slices.Sort(names)
	more := ""
	if len(names) > shown {
		names, more = names[:shown], ", …"
	}
	return fmt.Sprintf("%d parked after too many restarts: %s%s", len(n.parked), strings.Join(names, ", "), more)
}

func (n *narrator) agent(event actors.Event) {
	switch e := event.(type) {
	case actors.BreakerChanged:
		level := zerolog.InfoLevel
		if e.To == "open" {
			level = zerolog.WarnLevel
		}
		n.log.WithLevel(level).Str("agent", e.Agent).Str("from", e.From).Str("to", e.To).Str("cause", e.Cause).Msg("breaker changed")
	case actors.HealthTold:
		n.log.Debug().Str("agent", e.Agent).Str("health", e.Health).Msg("checker told its health")
	case actors.NoResults:
		n.log.Info().Str("agent", e.Agent).Str("check", e.Check).Str("detail", e.Detail).
			Msg("checker has no results for this check; it is asked on, and not reported until it has some")
	case actors.StatusChanged:
		n.statusChanged(e)
	case actors.StatusDiscarded:
		if n.discarded++; powerOfTwo(n.discarded) { // they come in floods, if at all
			n.log.Warn().Str("agent", e.Agent).Str("check", e.Check).Int("discarded_total", n.discarded).
				Msg("answer came after its run had a status; discarded")
		}
	}
}

func (n *narrator) statusChanged(e actors.StatusChanged) {
	switch {
	case e.Available:
		n.log.Info().Str("agent", e.Agent).Str("check", e.Check).Msg("check is available")
	case e.Reason == "":
		n.log.Warn().Str("agent", e.Agent).Str("check", e.Check).Str("detail", e.Detail).Msg("check is unavailable, says its checker")
	case e.Reason == check.CircuitOpen: // its breaker has a line of its own
		n.log.Debug().Str("agent", e.Agent).Str("check", e.Check).Str("reason", string(e.Reason)).Str("detail", e.Detail).Msg("check has no verdict")
	default:
		n.log.Warn().Str("agent", e.Agent).Str("check", e.Check).Str("reason", string(e.Reason)).Str("detail", e.Detail).Msg("check has no verdict")
	}
}

func (n *narrator) cycle(event actors.Event) {
	switch e := event.(type) {
	case actors.CycleClosed:
		line := n.log.Debug().Int64("cycle", e.Cycle).Int("statuses", e.Statuses).Int("unavailable", e.Unavailable).Stringer("took", e.Took.Round(time.Microsecond))
		for reason, count := range e.ByReason {
			line = line.Int(string(reason), count)
		}
		line.Msg("cycle closed")
	case actors.CyclesMissed:
		n.log.Error().Int64("cycles", e.Cycles).Msg("the poller did not run for a while; these cycles have no statuses")
	case actors.ClockSetBack:
		n.log.Warn().Stringer("by", e.By).Msg("the clock was set back; timestamps stand still until it has caught up")
	}
}

func (n *narrator) delivery(now time.Time, event actors.Event) {
	switch e := event.(type) {
	case actors.ReportTaken:
		n.board.SetFor(now, conditionCycle, 3*n.interval, "no cycle was closed and taken for three poll intervals")
		n.keeping = ""
		n.queueCondition(now)
		n.coreCondition(now, e.Kept)
		n.log.Debug().Str("report", e.ID).Int("kept", e.Kept).Msg("report taken")
	case actors.SpoolFailed:
		n.keeping = fmt.Sprintf("report %s can't be kept: %v", e.ID, e.Err)
		n.queueCondition(now)
		n.log.Error().Str("report", e.ID).Err(e.Err).Msg("report can't be kept safe; trying again")
	case actors.ReportDropped:
		n.lost(now, fmt.Sprintf("report %s dropped: %s", e.ID, e.Cause))
		n.log.Error().Str("report", e.ID).Str("cause", e.Cause).Int("dropped_total", n.dropped).Msg("report dropped: its statuses are lost")
	case actors.ReportSplit:
		n.log.Warn().Str("report", e.ID).Int("parts", e.Parts).Int("limit", e.Limit).
			Msg("core finds this too large, or is short of resources; it gets it in smaller parts. If this repeats, lower core.max_message")
	case actors.ReportDelivered:
		n.delivered(now, e)
	case actors.DeliveryFailed:
		n.deliveryFailed(now, e)
	}
}

func (n *narrator) delivered(now time.Time, e actors.ReportDelivered) {
	if e.Kept == 0 {
		n.dropping = ""
		n.queueCondition(now)
	}
	if n.failing > 0 {
		n.log.Info().Str("report", e.ID).Int("kept", e.Kept).Int("failed_attempts", n.failing).Msg("core takes reports again")
	} else {
		n.log.Debug().Str("report", e.ID).Stringer("took", e.Took.Round(time.Microsecond)).Int("kept", e.Kept).Msg("report delivered")
	}
	n.failing = 0
	n.coreCondition(now, e.Kept)
}

// coreCondition: a core that is away is explained; one that refuses us needs somebody.
func (n *narrator) coreCondition(now time.Time, kept int) {
	if n.failing == 0 {
		n.board.Set(now, conditionCore, true, "")
		return
	}
	n.board.Set(now, conditionCore, n.failure.Outcome != wire.Hold,
		fmt.Sprintf("%d reports are kept, %d failed attempts: %v", kept, n.failing, n.failure.Err))
}

func (n *narrator) deliveryFailed(now time.Time, e actors.DeliveryFailed) {
	if e.Outcome == wire.SetAside {
		n.lost(now, fmt.Sprintf("core refused report %s for good: %v", e.ID, e.Err))
		n.log.Error().Str("report", e.ID).Err(e.Err).Int("dropped_total", n.dropped).Msg("core refuses this report for good; its statuses are lost")
		return
	}
	changed := n.failing > 0 && e.Outcome != n.failure.Outcome
	n.failing++
	n.failure = e
	n.coreCondition(now, e.Kept)
	if !powerOfTwo(n.failing) && !changed {
		return
	}
	level, msg := zerolog.WarnLevel, "core did not take a report; it is kept and tried again"
	if e.Outcome == wire.Hold {
		level, msg = zerolog.ErrorLevel, "reports can't be delivered, and are kept until somebody mends that"
	}
	n.log.WithLevel(level).Str("report", e.ID).Err(e.Err).Int("failed_attempts", n.failing).Int("kept", e.Kept).Stringer("retry_in", e.RetryIn.Round(time.Millisecond)).Msg(msg)
}

func (n *narrator) lost(now time.Time, detail string) {
	n.dropped++
	n.dropping = detail
	n.queueCondition(now)
}

// queueCondition: what was lost stays told; it is bad until the queue has been empty since.
func (n *narrator) queueCondition(now time.Time) {
	var details []string
	if n.dropped > 0 {
		details = append(details, fmt.Sprintf("%d reports were lost since the start", n.dropped))
	}
	for _, d := range []string{n.dropping, n.keeping} {
		if d != "" {
			details = append(details, d)
		}
	}
	n.board.Set(now, conditionQueue, n.dropping == "" && n.keeping == "", strings.Join(details, "; "))
}

// powerOfTwo thins out lines that would come in floods: the 1st, 2nd, 4th, 8th, … is told.
func powerOfTwo(n int) bool { return bits.OnesCount(uint(n)) == 1 }
