package actors

import "github.com/asynkron/protoactor-go/actor"

// What root does in a cluster: it has actors for the agents that are this node's, which member says.

// adoptAll has actors for agents, and the poller start their checks.
func (r *root) adoptAll(ctx actor.Context, m adopt) {
	if r.stage != running {
		return
	}
	agents := r.env.config().Agents
	for i := range m.agents {
		a := &m.agents[i]
		spec := agentNamed(agents, a.agent)
		switch {
		case spec == nil: // it was removed meanwhile
		case a.given:
			r.employ(ctx, spec, &a.handOver)
		default:
			r.employ(ctx, spec, nil)
		}
	}
	r.env.send(r.env.poller, m)
	for i := range m.agents { // of those the poller has not heard while they were not its own
		if name := m.agents[i].agent; r.down[name] {
			r.env.send(r.env.poller, agentDown{name: name, fall: r.falls[name]})
		}
	}
}

// resume has an agent go on where another node was with it, once: member says it again until the poller has heard of it, and the agent has gone
// on since.
func (r *root) resume(c *child, given *handOver) {
	if given == nil || given.from.Equal(c.resumed) {
		return
	}
	if c.resumed = given.from; c.running && !c.leaving {
		r.env.send(r.env.pid(c.name), resume{handOver: *given})
	} else {
		c.given = given
	}
}

// giveUp lets an agent go that is another node's now, when its runs have ended.
func (r *root) giveUp(ctx actor.Context, agent string) {
	c := r.children[agentPrefix+agent]
	if c == nil || c.gone {
		return
	}
	c.gone = true
	if !c.running {
		c.timer.Stop()
		r.left(ctx, c)
	}
}

// dismiss sends agents home that were suspended, and are to be polled elsewhere.
func (r *root) dismiss(ctx actor.Context, agents []string) {
	for _, agent := range agents {
		r.giveUp(ctx, agent)
		r.env.send(r.env.pid(agentPrefix+agent), retire{})
	}
}
