package actors

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
)

// A reload goes from the watcher to root, which tells the agents that changed and starts new ones, and to the poller,
// which follows the new configuration from the next cycle on and sends those home that are not in it any more. What
// changed is told by pointers: settings hold the same agent as long as nothing of it changes.

var errStopping = errors.New("the poller is stopping: nothing is reloaded any more")

// look has the watcher look, if it runs.
func (r *root) look(m look) {
	if c := r.children[watcherName]; c != nil && c.running {
		r.env.send(r.env.watcher, m)
	} else if m.waits != nil {
		m.waits <- errors.New("the actor that reloads failed, and is yet to be started again: try again")
	}
}

// reconfigure puts new settings into effect.
func (r *root) reconfigure(ctx actor.Context, m reconfigure) {
	if r.stage != running {
		tell(m.waiters, errStopping)
		return
	}
	before := r.env.config()
	r.env.settings.Store(m.settings)
	// What connections were made for.
	anew := before.Poll.Interval != m.settings.Config.Poll.Interval || before.Spool.MaxBytes != m.settings.Config.Spool.MaxBytes
	event := Reloaded{Config: m.settings.Config, Renewed: len(m.settings.Renewed), Err: m.err}
	configured := make(map[string]bool, len(m.settings.Config.Agents))
	for _, spec := range m.settings.Config.Agents {
		configured[agentPrefix+spec.Name] = true
		c := r.children[agentPrefix+spec.Name]
		kept := c != nil
		switch {
		case r.env.cluster != nil && (!kept || c.gone):
			continue // it is another node's, or yet to be found whose
		case !kept || c.gone:
			event.Added = append(event.Added, spec.Name)
			r.employ(ctx, spec, nil)
		case c.spec != spec:
			event.Changed = append(event.Changed, spec.Name)
			r.respec(c, spec)
		}
		if kept && (anew || slices.Contains(m.settings.Renewed, spec.TLS)) {
			r.env.send(r.env.pid(c.name), renew{})
		}
	}
	for name, c := range r.children {
		if c.spec != nil && !c.gone && !configured[name] {
			event.Removed = append(event.Removed, c.spec.Name)
			c.gone = true
		}
	}
	slices.Sort(event.Removed)
	if before.Restart != m.settings.Config.Restart {
		for _, c := range r.children {
			c.restarts.SetPolicy(r.env.restartPolicy())
		}
	}
	r.env.send(r.env.poller, reconfigured{})
	if r.env.cluster != nil {
		r.env.send(r.env.member, reconfigured{})
	}
	r.sendHomeIdle(ctx)
	r.env.Observe(event)
	tell(m.waiters, m.err)
}

// employ has an agent that there is not, or that is about to go. Given is what another node knows of it, or nil.
func (r *root) employ(ctx actor.Context, spec *check.Agent, given *handOver) {
	c := r.children[agentPrefix+spec.Name]
	if c == nil {
		r.adoptAgent(ctx, spec, given)
		r.env.send(r.env.poller, agentUp{name: spec.Name}) // a namesake may have gone down
		return
	}
	if c.gone {
		c.gone = false
		if c.leaving {
			r.tellDown(c, "the agent was removed and added again just now")
		}
		r.respec(c, spec)
	}
	r.resume(c, given)
}

// respec has an agent be another. If it is down, it will be when it is started again.
func (r *root) respec(c *child, spec *check.Agent) {
	c.spec = spec
	if c.running && !c.leaving {
		r.env.send(r.env.pid(c.name), respec{spec: spec})
	}
}

// sendHomeIdle lets go of agents that are not configured any more and are down: nobody will hear of them again.
func (r *root) sendHomeIdle(ctx actor.Context) {
	for _, c := range r.children {
		if c.gone && !c.running {
			c.timer.Stop()
			r.left(ctx, c)
		}
	}
}

// retired stops an agent that has nothing left to do, unless it was configured again meanwhile.
func (r *root) retired(ctx actor.Context, m retired) {
	c := r.children[agentPrefix+m.name]
	if c != nil && !c.gone {
		r.respec(c, c.spec) // so that it does not go on retiring
	}
	if c == nil || !c.gone || !c.running || c.leaving || c.incarnation != m.incarnation {
		return
	}
	c.leaving = true
	ctx.Stop(r.env.pid(c.name))
}

// left takes the end of an agent that was to end. If it was configured again meanwhile, it begins anew.
func (r *root) left(ctx actor.Context, c *child) {
	c.leaving = false
	if !c.gone {
		r.spawn(ctx, c)
		r.tellUp(c)
		return
	}
	delete(r.children, c.name)
	delete(r.down, c.spec.Name)
	delete(r.falls, c.spec.Name)
}

// tell tells those who wait for a reload; who was told already is not told again.
func tell(waiters []waiter, err error) {
	for _, w := range waiters {
		select {
		case w <- err:
		default:
		}
	}
}

// respec makes the agent another: as far as it is the same checker, it keeps the connection and the breaker.
func (a *agent) respec(spec *check.Agent) {
	before := a.spec
	a.spec, a.retiring, a.seldom = spec, false, runsSeldom(spec)
	gone := func(chk string) bool {
		return !slices.ContainsFunc(spec.Checks, func(c check.Check) bool { return c.Name == chk })
	}
	a.changes.forget(gone)
	for chk := range a.resultless {
		if gone(chk) {
			delete(a.resultless, chk)
		}
	}
	if !sameChecker(before, spec) {
		a.reconnect()
		state := a.breaker.State()
		a.breaker.Reset()
		clear(a.resultless)
		a.breakerMoved(state, "the agent was given another checker")
	}
	a.rest()
}

// sameChecker tells whether an agent asks the same checker over the same kind of connection.
func sameChecker(a, b *check.Agent) bool {
	return a.Address == b.Address && a.TLS == b.TLS && a.HealthService == b.HealthService && a.MaxMessage == b.MaxMessage
}

// reconnect gives the connection up; the next run, or probe, makes a new one.
func (a *agent) reconnect() {
	a.lookAway()
	a.hangUp()
	if a.greeting != nil {
		a.greeting()
		a.greeting = nil // what the old connection says counts no more
	}
	a.known, a.fresh = false, time.Time{}
}

// leave says retired when an agent that is not configured any more has nothing left to do.
func (a *agent) leave() {
	if a.retiring && len(a.busy) == 0 {
		a.env.send(a.env.root, retired{name: a.spec.Name, incarnation: a.incarnation})
	}
}

// reconfigure follows the settings, unless it does so already.
func (p *poller) reconfigure(now time.Time) {
	before, cfg := p.ledger.config, p.env.config()
	if before != cfg {
		p.leaveRemoved(cfg.Agents)
		gone := p.agents
		p.know(p.ledger.agents(cfg.Agents))
		p.dismiss(gone)
		p.ledger.follow(cfg, now)
		for _, lane := range p.lanes() {
			lane.Resize(cfg.Poll.MaxInFlight)
			lane.Retain(func(agent string) bool { return p.agents[agent] != nil })
		}
	}
	p.advance(now)
}

// dismiss sends those home that are not known any more. What they were to run is not started.
func (p *poller) dismiss(known map[string]*actor.PID) {
	for _, lane := range p.lanes() {
		for _, b := range lane.Remove(func(b machine.Batch) bool { return p.agents[b.Agent.Name] == nil }) {
			p.fail(b, check.NoAnswer, "not started: the agent is not configured any more")
		}
	}
	for name, pid := range known {
		if p.agents[name] == nil {
			p.env.send(pid, retire{})
			p.forgetFalls(name)
		}
	}
}

// forgetFalls forgets how it was with an agent that is not here any more: root tells it anew when the agent comes back.
func (p *poller) forgetFalls(agent string) {
	delete(p.down, agent)
	delete(p.falls, agent)
	delete(p.ledger.falls, agent)
}

// follow has the schedule follow another configuration from the next cycle on.
func (l *ledger) follow(cfg *config.Config, now time.Time) {
	if l.share != nil {
		l.share.follow(cfg.Agents)
		l.schedule.Among(len(cfg.Agents))
	}
	agents := l.agents(cfg.Agents)
	l.schedule.Replace(agents, cfg.Poll.Interval, cfg.Poll.Rate, fresh(l.config.Agents, agents), now)
	l.config = cfg
	configured, confirmed := make(map[sequenceKey]bool), make(map[sequenceKey]bool)
	for _, a := range cfg.Agents {
		for i := range a.Checks {
			switch c := &a.Checks[i]; {
			case c.HasResults():
				key := sequenceKey{a.Name, c.Name}
				configured[key] = true
				if run, owed := l.owed[key]; owed {
					run.Agent, run.Check = a, c
					l.owed[key] = run
				}
			case c.Confirm > 1:
				confirmed[sequenceKey{a.Name, c.Name}] = true
			}
		}
	}
	maps.DeleteFunc(l.sequences, func(key sequenceKey, _ string) bool { return !configured[key] })
	maps.DeleteFunc(l.owed, func(key sequenceKey, _ check.Run) bool { return !configured[key] })
	l.confirmations.Retain(func(agent, check string) bool { return confirmed[sequenceKey{agent, check}] })
}

// fresh returns the checks that ask what was not asked before, whenever. Both lists are sorted by name.
func fresh(before, agents []*check.Agent) []*check.Check {
	var list []*check.Check
	for _, a := range agents {
		for len(before) > 0 && before[0].Name < a.Name {
			before = before[1:]
		}
		var old *check.Agent
		if len(before) > 0 && before[0].Name == a.Name {
			old = before[0]
		}
		if old == a {
			continue
		}
		for i := range a.Checks {
			if c := &a.Checks[i]; old == nil || !sameChecker(old, a) || !slices.ContainsFunc(old.Checks, c.AsksTheSame) {
				list = append(list, c)
			}
		}
	}
	return list
}
