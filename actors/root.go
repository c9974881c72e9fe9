package actors

import (
	"fmt"
	"maps"
	"runtime/debug"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
)

// root is the parent of all other actors. It supervises them, keeps what must survive them (the
// ledger), and stops them in order.
type root struct {
	env      *env
	stopped  chan<- struct{}
	children map[string]*child
	spawned  uint64 // incarnations, of all children
	ledger   *ledger
	// down are the agents that can't answer; falls has the last failure of each that ever failed.
	down  map[string]bool
	falls map[string]fall
	// fallen counts the failures of all agents.
	fallen int
	// taken are the reports that the reporter took when there may have been no poller any more to hear of it.
	taken map[string]bool

	stage stage
	stop  stop // the times of the ordered stop
	timer *time.Timer
}

// stage is how far the ordered stop has come.
type stage int

const (
	running stage = iota
	// draining: the poller closes the open cycles.
	draining
	// closingPoller: the poller handles what it still has, and ends.
	closingPoller
	// finishing: the agents end; the reporter delivers.
	finishing
	// ending: whatever still runs is stopped; then root itself.
	ending
)

func newRoot(e *env, stopped chan<- struct{}) *root {
	return &root{
		env: e, stopped: stopped,
		children: make(map[string]*child),
		down:     make(map[string]bool),
		falls:    make(map[string]fall),
		taken:    make(map[string]bool),
	}
}

// Receive handles root's messages. Nobody supervises root, so that it survives its own bugs.
func (r *root) Receive(ctx actor.Context) {
	defer func() {
		if p := recover(); p != nil {
			r.env.Observe(PanicRecovered{Actor: rootName, Cause: fmt.Sprint(p), Stack: string(debug.Stack())})
		}
	}()
	switch m := ctx.Message().(type) {
	case *actor.Started:
		r.start(ctx)
	case *actor.Terminated:
		r.terminated(ctx, r.childOf(m.GetWho()))
	case respawn:
		r.respawn(ctx, m)
	case ping:
		close(m.alive)
	case look:
		r.look(m)
	case reconfigure:
		r.reconfigure(ctx, m)
	case retired:
		r.retired(ctx, m)
	case adopt:
		r.adoptAll(ctx, m)
	case given:
		r.giveUp(ctx, m.agent)
	case dismissed:
		r.dismiss(ctx, m.agents)
	case stop:
		r.beginStop(ctx, m)
	case drained:
		r.closePoller(ctx)
	case taken:
		if r.stage == closingPoller || r.stage == finishing {
			r.taken[m.id] = true
		}
	case finished:
		r.end(ctx)
	case stageDue:
		r.stageDue(ctx, m.stage)
	case *actor.Stopped:
		close(r.stopped)
	}
}

func (r *root) start(ctx actor.Context) {
	cfg := r.env.config()
	r.adopt(ctx, reporterName, func(n uint64) actor.Actor { return newReporter(r.env, n, r.env.reporter) })
	if r.env.cluster != nil {
		r.ledger = newLedger(machine.NewShared(len(cfg.Agents), cfg.Poll.Interval, cfg.Poll.Rate, r.env.epoch, time.Now()), r.env.State)
		r.ledger.share = &share{held: make(map[string]bool), left: make(map[string]time.Time), since: make(map[string]time.Time), unmade: make(map[string]time.Time), yields: make(map[string]uint64), wanted: make(map[string]time.Time)}
		r.adopt(ctx, memberName, func(n uint64) actor.Actor { return newMember(r.env, n, r.env.member) })
	} else {
		r.ledger = newLedger(machine.NewSchedule(cfg.Agents, cfg.Poll.Interval, cfg.Poll.Rate, time.Now()), r.env.State)
		for _, agent := range cfg.Agents {
			r.adoptAgent(ctx, agent, nil)
		}
	}
	r.ledger.config = cfg
	r.adopt(ctx, pollerName, func(uint64) actor.Actor {
		return newPoller(r.env, r.env.poller, r.ledger, maps.Clone(r.down), maps.Clone(r.falls), r.drainBy())
	})
	if r.env.load != nil {
		r.adopt(ctx, watcherName, func(n uint64) actor.Actor { return newWatcher(r.env, n, r.env.watcher) })
	}
}

func (r *root) adopt(ctx actor.SpawnerContext, name string, produce func(incarnation uint64) actor.Actor) {
	c := &child{name: name, produce: produce, restarts: machine.NewRestarts(r.env.restartPolicy())}
	r.children[name] = c
	r.spawn(ctx, c)
}

// adoptAgent starts an agent's actor; given is what another node knows of it, or nil.
func (r *root) adoptAgent(ctx actor.SpawnerContext, spec *check.Agent, given *handOver) {
	c := &child{name: agentPrefix + spec.Name, spec: spec, restarts: machine.NewRestarts(r.env.restartPolicy())}
	c.produce = func(n uint64) actor.Actor {
		a := newAgent(r.env, n, r.env.pid(c.name), c.spec, c.again)
		if c.given != nil {
			a.resume(c.given)
			c.given = nil
		}
		return a
	}
	r.children[c.name] = c
	r.resume(c, given)
	r.spawn(ctx, c)
}

func (e *env) restartPolicy() machine.RestartPolicy {
	cfg := e.config().Restart
	return machine.RestartPolicy{Initial: cfg.Initial, Max: cfg.Max, Budget: cfg.Budget, Window: cfg.Window}
}

func (r *root) beginStop(ctx actor.Context, m stop) {
	if r.stage != running {
		return
	}
	r.stop = m
	// The poller closes its cycles by half; the rest is for the reporter to take them.
	r.enter(ctx, draining, m.half.Add(m.by.Sub(m.half)/8))
	// A poller or reporter that waits for its restart is needed now, an agent no more.
	for _, c := range r.children {
		if !c.running && c.timer.Stop() && r.needs(c) {
			r.revive(ctx, c)
		}
	}
	r.env.send(r.env.poller, drain{by: m.half})
}

// drainBy is when a poller that starts now must have closed its cycles; zero if it is to go on.
func (r *root) drainBy() time.Time {
	if r.stage == running {
		return time.Time{}
	}
	return r.stop.half
}

func (r *root) closePoller(ctx actor.Context) {
	if r.stage != draining {
		return
	}
	r.enter(ctx, closingPoller, r.stop.by)
	ctx.Poison(r.env.poller)
	r.advanceStop(ctx) // if it is down, nobody will say that it ended
}

// needs tells whether a child that failed must be started again at this stage.
func (r *root) needs(c *child) bool {
	switch r.stage {
	case running:
		return !c.gone
	case draining:
		return c.name == pollerName || c.name == reporterName
	case closingPoller, finishing:
		return c.name == reporterName
	case ending:
	}
	return false
}

// advanceStop goes on when the actors that the stage waits for have ended.
func (r *root) advanceStop(ctx actor.Context) {
	switch {
	case r.stage == closingPoller && !r.children[pollerName].running:
		r.finish(ctx)
	case r.stage == ending && !r.anyRunning():
		ctx.Stop(ctx.Self())
	}
}

func (r *root) finish(ctx actor.Context) {
	r.enter(ctx, finishing, r.stop.by)
	for _, c := range r.ledger.open {
		r.env.Observe(ReportDropped{ID: fmt.Sprintf("of cycle %d", c.Index()), Loss: LostStopped, Cause: "the poller stopped before the cycle was closed"})
	}
	for name, c := range r.children {
		if c.running && name != reporterName {
			ctx.Stop(r.env.pid(name))
		}
	}
	r.env.send(r.env.reporter, finish{})
}

func (r *root) end(ctx actor.Context) {
	if r.stage == ending {
		return
	}
	if r.stage == finishing { // else the ledger is still the poller's
		r.tellUntaken()
	}
	r.enter(ctx, ending, time.Time{})
	for name, c := range r.children {
		if c.running {
			ctx.Stop(r.env.pid(name))
		}
	}
	r.advanceStop(ctx)
}

// tellUntaken tells of the reports that the reporter has not taken to the end.
func (r *root) tellUntaken() {
	for _, rep := range r.ledger.untaken {
		if !r.taken[rep.id] {
			r.env.Observe(ReportDropped{ID: rep.id, Loss: LostStopped, Cause: "the poller stopped before the reporter had taken it"})
		}
	}
}

// stageDue goes on when a stage has used up its time.
func (r *root) stageDue(ctx actor.Context, s stage) {
	if s != r.stage {
		return
	}
	switch s {
	case draining:
		r.closePoller(ctx)
	case closingPoller, finishing:
		r.end(ctx)
	case running, ending:
	}
}

// enter begins a stage, which ends at due if nothing ends it before.
func (r *root) enter(ctx actor.Context, s stage, due time.Time) {
	if r.timer != nil {
		r.timer.Stop()
	}
	r.stage = s
	if !due.IsZero() {
		r.timer = r.env.after(time.Until(due), ctx.Self(), stageDue{stage: s})
	}
}

func (r *root) anyRunning() bool {
	for _, c := range r.children {
		if c.running {
			return true
		}
	}
	return false
}
