package actors

import (
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
)

// Supervision is one-for-one with back-off (OneForOneBackoff in ARCHITECTURE.md). The framework's own strategies restart at once and
// drop an actor for good when its budget is spent, so root does it itself: a failed child is
// stopped; when it has terminated, a timer starts a new incarnation after a delay that grows and
// is jittered; over its budget the child is parked and gets one try per window.

// child is root's record of one actor below it.
type child struct {
	name        string
	produce     func(incarnation uint64) actor.Actor
	incarnation uint64
	running     bool
	restarts    *machine.Restarts
	failure     *crash // why it is going down, while it is
	// spec is an agent's. Gone says that it is not configured any more; leaving, that it was stopped for that.
	spec          *check.Agent
	gone, leaving bool
	again         bool // this incarnation has a predecessor
	// given is what another node knows of an agent, for the next incarnation; resumed is its from, or that of the last that there was.
	given   *handOver
	resumed time.Time
	timer   *time.Timer
}

// crash is what supervised re-panics with, so that the stack is not lost.
type crash struct {
	cause string
	stack string
}

// supervised wraps an actor so that its panics reach root with their stack, except while it
// stops: then the framework would bring it back to life, or tell nobody that it ended.
type supervised struct {
	actor actor.Actor
	env   *env
}

func (s supervised) Receive(ctx actor.Context) {
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		c := crash{cause: fmt.Sprint(r), stack: string(debug.Stack())}
		switch ctx.Message().(type) {
		case *actor.Stopping, *actor.Stopped:
			s.env.Observe(PanicRecovered{Actor: ctx.Self().GetId(), Cause: c.cause, Stack: c.stack})
		default:
			panic(c)
		}
	}()
	s.actor.Receive(ctx)
}

// HandleFailure makes root the supervisor strategy of its children: the framework calls it, on
// root's own goroutine, when one has panicked. The child is suspended until it is stopped.
func (r *root) HandleFailure(_ *actor.ActorSystem, supervisor actor.Supervisor, who *actor.PID,
	_ *actor.RestartStatistics, reason, message any,
) {
	c, ok := reason.(crash)
	if !ok {
		c = crash{cause: fmt.Sprint(reason)}
	}
	c.cause += fmt.Sprintf(" (while handling %T)", message)
	child := r.childOf(who)
	child.failure = &c
	r.tellDown(child, "its agent actor failed: "+c.cause)
	supervisor.StopChildren(who)
}

// spawn starts the next incarnation of a child.
func (r *root) spawn(ctx actor.SpawnerContext, c *child) {
	c.again = c.incarnation > 0
	r.spawned++ // of all, so that an agent that is removed and added again never gets what its namesake asked for
	c.incarnation = r.spawned
	c.failure = nil
	props := actor.PropsFromProducer(func() actor.Actor {
		return supervised{actor: c.produce(c.incarnation), env: r.env}
	}, actor.WithDispatcher(&r.env.workers))
	if _, err := ctx.SpawnNamed(props, c.name); err != nil {
		// The name is free only after Terminated, which this waits for; so it can't be.
		panic(fmt.Sprintf("start actor %s: %v", c.name, err))
	}
	c.running = true
}

// terminated takes the end of a child.
func (r *root) terminated(ctx actor.Context, c *child) {
	c.running = false
	if r.stage == running && (c.gone || c.leaving) {
		r.left(ctx, c)
		return
	}
	if !r.needs(c) {
		r.advanceStop(ctx)
		return
	}
	if c.failure == nil {
		c.failure = &crash{cause: "it stopped without being told to"}
		r.tellDown(c, "its agent actor "+c.failure.cause)
	}
	delay, parked := c.restarts.Failed(time.Now(), rand.Float64()) //nolint:gosec // jitter is no secret.
	if r.stage != running {
		delay = 0 // there is no time to wait for
	}
	c.timer = r.env.after(delay, ctx.Self(), respawn{name: c.name, incarnation: c.incarnation})
	r.env.Observe(ActorFailed{Actor: c.name, Cause: c.failure.cause, Stack: c.failure.stack, Delay: delay, Parked: parked})
}

func (r *root) respawn(ctx actor.Context, m respawn) {
	c := r.children[m.name]
	if c == nil || c.running || c.incarnation != m.incarnation || !r.needs(c) {
		return
	}
	r.revive(ctx, c)
}

// revive starts a child again that had failed, and tells those who need to know.
func (r *root) revive(ctx actor.Context, c *child) {
	r.spawn(ctx, c)
	r.tellUp(c)
	if c.name == reporterName {
		r.env.send(r.env.poller, reporterUp{})
		if r.stage == finishing {
			r.env.send(r.env.reporter, finish{})
		}
	}
	r.env.Observe(ActorRestarted{Actor: c.name})
}

// tellDown lets the poller fill in what the agent can't answer any more.
func (r *root) tellDown(c *child, detail string) {
	if name, ok := strings.CutPrefix(c.name, agentPrefix); ok {
		r.fallen++ // of all, so that an agent that went and came back never falls as it did before, of which the poller has heard
		f := fall{n: r.fallen, detail: detail}
		r.down[name], r.falls[name] = true, f
		r.env.send(r.env.poller, agentDown{name: name, fall: f})
	}
}

func (r *root) tellUp(c *child) {
	if name, ok := strings.CutPrefix(c.name, agentPrefix); ok {
		delete(r.down, name)
		r.env.send(r.env.poller, agentUp{name: name})
	}
}

func (r *root) childOf(pid *actor.PID) *child {
	name := strings.TrimPrefix(pid.GetId(), rootName+"/")
	c, ok := r.children[name]
	if !ok {
		panic("root has no child " + name)
	}
	return c
}
