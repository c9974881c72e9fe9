package daemon

import (
	"fmt"
	"math/bits"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/observe"
)

// The conditions of readiness.
const (
	conditionCore   = "core"
	conditionQueue  = "queue"
	conditionActors = "actors"
	conditionCycle  = "cycle"
	// conditionCheckers explains and never fails: what the poller is for is to tell of bad targets.
	conditionCheckers = "checkers"
	// conditionConfig explains, too: that a configuration can't be used, and which is in use.
	conditionConfig = "config"
	// conditionTLS explains that new certificates can't be used.
	conditionTLS = "tls"
	// conditionDiscovery explains what is wrong with sources of targets; it is there if there are any.
	conditionDiscovery = "discovery"
	// conditionCluster tells whether this node may poll; it is there if there is a cluster.
	conditionCluster = "cluster"
	// conditionStopping is there only during the stop.
	conditionStopping = "stopping"
)

// narrator tells the actors' events: state changes to the log, and what they mean for readiness
// to the board. Usual successes are debug lines.
type narrator struct {
	board *observe.Board

	mu         sync.Mutex
	log        zerolog.Logger
	config     *config.Config
	flood      flood
	summary    *time.Timer     // tells what of it was left out; nil if nothing is
	open       map[string]bool // agents whose breaker was told to have opened, and not to have closed
	parked     map[string]bool // actors that used up their restart budget
	parkedCore int             // of these, those that are no agents
	discarded  int             // answers that came too late

	failing int                   // failed deliveries in a row
	since   time.Time             // when the first of them failed
	failure actors.DeliveryFailed // the last of them
	kept    int                   // reports
	dropped int                   // reports lost since the start
	lastly  string                // how and when the last of them was lost
	// losing: the queue has not been empty since then. Keeping is why reports can't be kept; empty if not so.
	losing  bool
	keeping string
	// dropping is why reports were dropped last, drops how many in a row were for that; empty if the queue has
	// been empty since.
	dropping string
	drops    int
	aside    int    // reports, or parts of reports, set aside since the start
	gone     int    // of what was set aside, dropped since the start
	refusals int    // reports, or parts of reports, that core refused for good since it took one
	unread   int    // times in a row that the oldest report could not be read
	reading  string // why it can't be; empty if it can
	// unsafe is why reports are not on disk, unmarked why the read position is not; empty if they are.
	unsafe, unmarked string
	damaged          int // things in the spool that could not be read
	// broken is why certificates could not be renewed; empty if they could.
	broken string
	// odd are sources of targets with which something is wrong, and what.
	odd map[string]string
	// discovering: there are, or were, sources of targets.
	discovering bool
	// known are the agents that there are; nil means all.
	known map[string]bool
	// ours are those that this node has adopted and not given away; nil means all.
	ours map[string]bool
	// nodes is what is known of the cluster, if there is one.
	nodes nodes
	// useless counts what came to cluster.remote and was refused or not understood, by why.
	useless map[string]int
	// warned are the warnings of the configuration that were told last.
	warned []string
	// left are targets of which no agents could be made.
	left      []string
	leftTotal int
}

func newNarrator(log zerolog.Logger, board *observe.Board, cfg *config.Config) *narrator {
	n := &narrator{
		log: log, board: board, config: cfg,
		open: make(map[string]bool), parked: make(map[string]bool), odd: make(map[string]string),
	}
	now := time.Now()
	board.Set(now, conditionCycle, false, "starting: the first cycle has not closed yet")
	board.Set(now, conditionCore, true, "")
	board.Set(now, conditionQueue, true, "")
	board.Set(now, conditionConfig, true, "")
	board.Set(now, conditionTLS, true, "")
	board.SetLazy(now, conditionActors, true, n.parkedDetail)
	board.SetLazy(now, conditionCheckers, true, n.openDetail)
	if cfg.Cluster.Enabled {
		n.ours, n.nodes = make(map[string]bool), newNodes()
		n.clusterCondition(now)
	}
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
	case actors.BreakerChanged, actors.HealthTold, actors.NoResults, actors.ChecksChanged, actors.StatusDiscarded:
		n.agent(now, e)
	case actors.CycleClosed, actors.CyclesMissed, actors.ClockSetBack:
		n.cycle(e)
	case actors.Reloaded, actors.ReloadFailed:
		n.configuration(now, e)
	case actors.Adopted, actors.HandedOver, actors.Suspended, actors.Dismissed, actors.Claiming, actors.Ordered, actors.Pinned, actors.RemoteRefused,
		actors.EnvelopeUnknown, actors.Doubled, actors.ClusterChanged:
		n.sharing(now, e)
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
			n.park(now, e.Actor, true)
		}
		n.log.WithLevel(n.actorLevel(now, zerolog.ErrorLevel, e.Actor, msg)).Str("actor", e.Actor).Str("cause", e.Cause).
			Stringer("restart_in", e.Delay.Round(time.Millisecond)).Bool("parked", e.Parked).Str("stack", e.Stack).Msg(msg)
	case actors.ActorRestarted:
		n.park(now, e.Actor, false) // if it fails again, it is parked again
		const msg = "actor started again"
		n.log.WithLevel(n.actorLevel(now, zerolog.InfoLevel, e.Actor, msg)).Str("actor", e.Actor).Msg(msg)
	case actors.PanicRecovered:
		const msg = "panic recovered: this is a bug, please report it"
		n.log.WithLevel(n.actorLevel(now, zerolog.ErrorLevel, e.Actor, msg)).Str("actor", e.Actor).Str("cause", e.Cause).Str("stack", e.Stack).Msg(msg)
	case actors.DeadLetter:
		n.log.Debug().Str("actor", e.To).Str("message_type", e.Type).Msg("message found nobody")
	}
}

// actorLevel is budgeted for an actor that may be an agent's. The others have no part in the budget.
func (n *narrator) actorLevel(now time.Time, level zerolog.Level, actor, kind string) zerolog.Level {
	if agent, ok := agentOf(actor); ok {
		return n.budgeted(now, level, agent, kind)
	}
	return level
}

// agentActor begins the names of agents' actors.
const agentActor = "agent/"

// agentOf returns whose actor it is, by its name or its whole path.
func agentOf(actor string) (agent string, ok bool) {
	return strings.CutPrefix(strings.TrimPrefix(actor, "root/"), agentActor)
}

// park keeps who is parked. Readiness does not depend on any one agent.
func (n *narrator) park(now time.Time, actor string, parked bool) {
	agent, ofAgent := agentOf(actor)
	if n.parked[actor] == parked || ofAgent && parked && !n.has(agent) {
		return
	}
	change := 1
	if parked {
		n.parked[actor] = true
	} else {
		delete(n.parked, actor)
		change = -1
	}
	if !ofAgent {
		n.parkedCore += change
	}
	n.board.SetLazy(now, conditionActors, n.parkedCore == 0, n.parkedDetail)
}

// parkedDetail names who is parked; like openDetail, it is for readers.
func (n *narrator) parkedDetail() string {
	n.mu.Lock()
	names := keys(n.parked)
	n.mu.Unlock()
	if len(names) == 0 {
		return ""
	}
	return fmt.Sprintf("%d parked after too many restarts: %s", len(names), some(names))
}

func (n *narrator) cycle(event actors.Event) {
	switch e := event.(type) {
	case actors.CycleClosed:
		n.log.Debug().Int64("cycle", e.Cycle).Int("statuses", e.Statuses).Int("unavailable", e.Unavailable).Interface("by_reason", e.ByReason).
			Stringer("took", e.Took.Round(time.Microsecond)).Msg("cycle closed")
	case actors.CyclesMissed:
		n.log.Error().Int64("cycles", e.Cycles).Msg("the poller did not run for a while; these cycles have no statuses")
	case actors.ClockSetBack:
		n.log.Warn().Stringer("set_back_by", e.By).Msg("the clock was set back; timestamps stand still until it has caught up")
	}
}

// powerOfTwo thins out lines that would come in floods: the 1st, 2nd, 4th, 8th, … is told.
func powerOfTwo(n int) bool { return bits.OnesCount(uint(n)) == 1 }
