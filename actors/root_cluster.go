package actors

import (
	"slices"
	"strings"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/serviceradar/poller/internal/check"
)

// What root does in a cluster: it has actors for the agents that are this node's, which member says.

// adoptAll has actors for agents, and the poller start their checks.
func (r *root) adoptAll(ctx actor.Context, m adopt) {
	if r.stage != running {
		return
	}
	agents := r.env.config().Agents
	for i := range m.agents {
		a := &m.agents[i]
		at, known := slices.BinarySearchFunc(agents, a.agent, func(s *check.Agent, name string) int { return strings.Compare(s.Name, name) })
		if !known {
			continue // it was removed meanwhile
		}
		if a.given {
			r.employ(ctx, agents[at], &a.handOver)
		} else {
			r.employ(ctx, agents[at], nil)
		}
	}
	r.env.send(r.env.poller, m)
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
