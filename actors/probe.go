package actors

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
)

const (
	// The first probe makes a new connection, because the old one may be dead without anybody having said
	// so. It may also lead to one of several that hangs, and so there is another soon; but one for each
	// probe would make a checker that hangs several times as dear as a sound one; the next ones come late.
	firstGap = 3 * time.Second
	laterGap = time.Minute
	// The agents' probes begin together, at so many moments of a breaker.probe: to wake up for each by itself takes more than
	// the probe does.
	probeMoments = 10
)

// probing is the agent's looking for its checker while the breaker is open.
type probing struct {
	probe  *time.Timer
	probes uint64 // stamps probeDue and probed
	found  bool   // the last one found the checker
	// fresh is when a probe makes a new connection again, and gap how long it is from that to the next time.
	fresh time.Time
	gap   time.Duration
	// looking ends the probe that is under way, whose stamp is in lookingFor; nil and 0 if there is none. Asks says that
	// it has a connection, and has asked.
	looking    context.CancelFunc
	lookingFor uint64
	asks       *atomic.Bool
}

// forgetLooks begins anew, for the next time that the breaker opens.
func (p *probing) forgetLooks() { p.found, p.fresh, p.gap = false, time.Time{}, firstGap }

// probeLater probes at the last of the moments for probes before breaker.probe has passed. They count from our own start, so that
// other pollers have others.
func (a *agent) probeLater() {
	if a.probe != nil {
		a.probe.Stop()
	}
	a.probes++
	d, since := a.env.config().Breaker.Probe, time.Since(a.env.began)
	d = (since + d).Truncate(d/probeMoments) - since
	a.probe = a.env.after(d, a.self, probeDue{incarnation: a.incarnation, n: a.probes})
}

// look probes: it connects and asks for health, whose answer may be anything.
func (a *agent) look() {
	if a.breaker.State() != machine.Open {
		return
	}
	a.probeLater()
	// A checker that hangs has until now to answer. To give up the last question and to put the next one are then one
	// wake-up, and one packet.
	if a.looking != nil && a.asks.Load() {
		a.lookAway()
		a.missed()
	}
	// Without health checks connecting is all that there is to look at, and an old connection shows nothing.
	if now := time.Now(); !now.Before(a.fresh) || a.found && a.spec.HealthService == check.NoHealth {
		a.lookAway()
		a.hangUp()
		a.found = false                                                      // or without health checks each probe would give up the one before it, however long connecting takes
		a.fresh = now.Add(a.gap - a.env.config().Breaker.Probe/probeMoments) // probes keep their time only so far
		a.gap = laterGap
	}
	if a.looking != nil {
		return // it waits for a connection, and will ask as soon as there is one
	}
	if a.dial() != nil {
		return // which each run says
	}
	a.startLook()
}

func (a *agent) startLook() {
	client, probe := a.client, a.env.config().Breaker.Probe
	ctx, cancel := context.WithTimeout(a.env.ctx, max(probe, laterGap))
	n, asks := a.probes, new(atomic.Bool)
	a.looking, a.lookingFor, a.asks = cancel, n, asks
	client.calls.Add(1)
	a.env.call(a.self, func() any {
		defer client.calls.Done()
		defer cancel()
		m := probed{incarnation: a.incarnation, n: n}
		if m.err = client.Connect(ctx); m.err == nil {
			asks.Store(true)
			ctx, cancel := context.WithTimeout(ctx, probe+probe/probeMoments) // the next probe comes before
			defer cancel()
			m.health, m.err = client.Health(ctx)
		}
		return m
	}, func(err error) any { return probed{incarnation: a.incarnation, n: n, err: err} })
}

// lookAway ends the probe that is under way, if there is one. What comes of it is no matter any more.
func (a *agent) lookAway() {
	if a.looking != nil {
		a.looking()
		a.looking, a.lookingFor = nil, 0
	}
}

func (a *agent) probed(m probed) {
	if m.n != a.lookingFor {
		return // it was looked away from
	}
	a.looking, a.lookingFor = nil, 0
	if m.err != nil {
		a.missed()
		return
	}
	a.found = true
	before := a.breaker.State()
	a.breaker.Probed(true)
	a.breakerMoved(before, "the checker answers again, health: "+m.health)
}

// missed takes a probe that did not find the checker.
func (a *agent) missed() {
	if a.found {
		a.fresh = time.Time{} // the connection worked; maybe only that is lost
	}
	a.found = false
}

func (a *agent) healthTold(health string) {
	a.greeting, a.known = nil, true
	if a.seldom && a.client == nil {
		a.expectNothingNew()
	}
	a.env.Observe(HealthTold{Agent: a.spec.Name, Health: health})
}

// greet asks the checker for its health if the connection is new. It is told, and decides nothing.
func (a *agent) greet() {
	if a.client == nil {
		return
	}
	connection := a.client.Connections()
	if connection == a.greeted || a.spec.HealthService == check.NoHealth {
		return
	}
	a.greeted = connection
	client := a.client
	ctx, cancel := context.WithTimeout(a.env.ctx, a.env.config().Breaker.Probe)
	if a.greeting != nil {
		a.greeting() // that was another connection
	}
	a.greeting = cancel
	client.calls.Add(1)
	a.env.call(a.self, func() any {
		defer client.calls.Done()
		defer cancel()
		health, err := client.Health(ctx)
		return healthTold{incarnation: a.incarnation, health: health, err: err}
	}, func(err error) any { return healthTold{incarnation: a.incarnation, err: err} })
}
