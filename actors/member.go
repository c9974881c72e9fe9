package actors

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/machine"
	"github.com/serviceradar/poller/proto/cluster"
)

const (
	// memberPID is the full name of the actor that other nodes send to.
	memberPID = rootName + "/" + memberName
	// viewEvery is how often member looks at its view, whether or not it was told of a change; with claims open, askEvery.
	viewEvery = 100 * time.Millisecond
	askEvery  = 50 * time.Millisecond
	// repeatAfter is when what was asked, and not answered, is asked again.
	repeatAfter = 250 * time.Millisecond
	// breakerWithin is how long a hand-over waits for what the agent says of its breaker.
	breakerWithin = 250 * time.Millisecond
	// thankFor is how long it is said that what was handed over has come: nobody says that this was heard.
	thankFor = 5 * time.Second
	// leaseReturns is for how long a node that others hear wants its agents without a lease: on a bad line it comes back soon, and to move them
	// to and fro would take longer. Others wait no less for a node that they don't hear.
	leaseReturns = 2 * time.Second
	// keepGiven is how long what was handed over is kept for a new owner that does not say that it has it.
	keepGiven = time.Minute
	// claimsEvery is how often it is told how many claims there are.
	claimsEvery = time.Second
	// wantNamesEvery is how often a node is asked what agents it is configured with, while it does not say.
	wantNamesEvery = time.Second
)

// member finds out which agents are this node's: it asks the other nodes for those that it owns by its view, has root and the poller adopt
// them when all agree, and hands over what others own. Whatever it must not forget is in env.shares.
type member struct {
	env         *env
	incarnation uint64
	self        *actor.PID
	*shares
	timer *time.Timer
	soon  bool // it fires soon
}

// shares is what must survive member.
type shares struct {
	claims *machine.Claims
	ramp   *machine.Ramp
	view   *machine.View
	took   bool      // a lease was gained
	leased time.Time // when there was one last
	era    uint64    // the last that was
	losses int       // how often others had lost sight of this node then
	// handed is what others have handed over of agents that are still being claimed.
	handed map[string]received
	// thanks are agents that others have handed over, and that have to be told that they came.
	thanks []thanks
	// resuming is what others have handed over of agents that are held, until the poller says that it has it.
	resuming map[string]handOver
	// yields counts what the poller was told to give up.
	yields uint64
	// parting are agents that are to be handed over, since when, and to whom.
	parting map[string]*parting
	// gave is what was handed over, until the new owner says that it has it.
	gave map[string]gift
	// idle are agents that have an actor here and are not held.
	idle map[string]bool
	// asked is when claims were asked for last, and what was asked then.
	asked time.Time
	owners
	// pins are the agents that people have moved; toldPins is what other nodes were told of them.
	pins     *machine.Pins
	toldPins map[machine.NodeID]toldPins
	draining bool
	drained  []func() // who waits for the end of that
	orders   orders
	// ways are those by which nodes were heard lately that are not reached directly, or not well.
	ways map[machine.NodeID]way
	// unknown are envelopes of unknown kinds or versions, unreadable those that are no message of their kind.
	unknown, unreadable uint64
	// claiming is since when there are claims without a break, zero if there are none; toldClaims is when that was told last.
	claiming, toldClaims time.Time
}

func newShares(self machine.NodeID) *shares {
	return &shares{
		claims: machine.NewClaims(self), ramp: machine.NewRamp(0, 0), view: new(machine.View),
		handed: make(map[string]received), resuming: make(map[string]handOver), parting: make(map[string]*parting), gave: make(map[string]gift), idle: make(map[string]bool),
		ways: make(map[machine.NodeID]way),
		pins: machine.NewPins(), toldPins: make(map[machine.NodeID]toldPins),
		owners: owners{names: make(map[string]map[string]bool), wanted: make(map[string]time.Time)},
	}
}

func newMember(e *env, incarnation uint64, self *actor.PID) *member {
	return &member{env: e, incarnation: incarnation, self: self, shares: e.shares}
}

type (
	// viewChanged: the cluster → member.
	viewChanged struct{}
	// lookAgain: member's timer → member.
	lookAgain struct{ incarnation uint64 }
	// pollerUp: poller → member. It was started, and may have missed what it was sent.
	pollerUp struct{}
	// breakerTold: agent → member. What there is to say of an agent's breaker that is handed over.
	breakerTold struct {
		agent    string
		open     bool
		failures int
		cause    string
	}
	// handAllOver: System.HandOver → member.
	handAllOver struct{ done func() } // may be called often
	// shareAsked: System.Share → member.
	shareAsked struct{ answer chan<- Share }
)

func (m *member) Receive(ctx actor.Context) {
	now := time.Now()
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		m.adoptHeld()
		m.look(now)
	case *actor.Stopping:
		if m.timer != nil {
			m.timer.Stop()
		}
	case lookAgain:
		if msg.incarnation == m.incarnation {
			m.look(now)
		}
	case viewChanged:
		m.look(now)
	case reconfigured:
		m.adoptHeld() // the others have let go of what was removed, also if it was added again before this came
		m.look(now)
	case pollerUp:
		m.adoptHeld()
	case resumed:
		for _, agent := range msg.agents {
			delete(m.resuming, agent)
		}
	case yielded:
		m.yielded(msg, now)
	case breakerTold:
		m.breakerTold(msg)
	case handAllOver:
		m.draining, m.drained = true, append(m.drained, msg.done)
		m.look(now)
	case shareAsked:
		msg.answer <- m.share()
	case orderGiven:
		m.give(msg, now)
	case moveAsked:
		m.move(msg, now)
	case *cluster.Envelope:
		m.open(msg, now)
	}
}

// look goes by the view as it is now.
func (m *member) look(now time.Time) {
	before := m.view
	m.view = m.env.cluster.View()
	if changed(before, m.view) {
		m.env.Observe(ClusterChanged{View: m.view})
	}
	cfg := m.env.config()
	m.ramp.Reconfigure(cfg.Cluster.Weight, cfg.Poll.Interval)
	m.followLease(now)
	m.own(m.view, cfg, m.pins)
	m.wantUnknownNames(now)
	m.tellPins(now)
	m.followClaims(now)
	m.ask(now)
	m.adopt(now)
	m.tellClaims(now)
	m.thank(now)
	m.answerParted(now)
	m.announce(cfg, now)
	m.forget(now)
	m.repeatOrders(now)
	m.tellDrained(now)
	m.lookLater()
}

// changed tells whether people would care about what differs between two views.
func changed(a, b *machine.View) bool {
	return a.Leased != b.Leased || a.Minority != b.Minority || a.Size != b.Size || !slices.EqualFunc(a.Members, b.Members, func(x, y machine.Member) bool {
		return x.NodeID == y.NodeID && x.Hash == y.Hash && x.Draining == y.Draining && x.Size == y.Size &&
			x.ClockApart() == y.ClockApart()
	})
}

func (m *member) lookLater() {
	if m.timer != nil {
		m.timer.Stop()
	}
	d := viewEvery
	if m.claims.Open() > 0 || len(m.parting) > 0 {
		d = askEvery
	}
	m.timer, m.soon = m.env.after(d, m.self, lookAgain{incarnation: m.incarnation}), false
}

// followLease begins to take a share when the lease is gained.
func (m *member) followLease(now time.Time) {
	if !m.view.Leased {
		return
	}
	if m.took && m.view.Era == m.era {
		m.losses = m.view.Losses // others that were restarted have forgotten
		return
	}
	if !m.took || m.view.Losses > m.losses { // else it was too short for anybody to take over
		m.ramp.Restart(now, m.view.Losses)
	}
	m.took, m.era, m.losses = true, m.view.Era, m.view.Losses
}

// announce tells the others what they are to know of this node.
func (m *member) announce(cfg *config.Config, now time.Time) {
	a := machine.Announcement{Hash: m.hash, Agents: len(cfg.Agents), Held: m.claims.HeldCount(), Draining: m.draining, Pins: m.pins.Hash()}
	if m.view.Leased {
		m.leased = now
	}
	if m.took && now.Sub(m.leased) < leaseReturns && !m.draining {
		a.Weight = m.ramp.Weight(now)
	}
	m.env.cluster.Announce(a)
}

// forget lets go of what nobody will ask for any more.
func (m *member) forget(now time.Time) {
	maps.DeleteFunc(m.gave, func(_ string, g gift) bool { return now.Sub(g.at) > keepGiven })
	maps.DeleteFunc(m.ways, func(_ machine.NodeID, w way) bool { return now.Sub(w.at) > wayFor })
	maps.DeleteFunc(m.handed, func(agent string, _ received) bool { return !m.isOurs(agent) || !m.view.Leased })
}

func (m *member) isAlive(id machine.NodeID) bool {
	return slices.ContainsFunc(m.view.Members, func(o machine.Member) bool { return o.NodeID == id })
}

// open takes what another node sends.
func (m *member) open(e *cluster.Envelope, now time.Time) {
	body, err := open(e)
	switch {
	case err != nil:
		m.unreadable++
		m.env.Observe(RemoteRefused{What: fmt.Sprintf("an envelope of kind %d that can't be read: %v", e.GetKind(), err), Total: m.unreadable})
		return
	case body == nil:
		m.unknown++
		m.env.Observe(EnvelopeUnknown{Kind: e.GetKind(), Version: e.GetVersion(), Total: m.unknown})
		return
	}
	switch b := body.(type) {
	case *cluster.Ask:
		m.askedBy(b, now)
	case *cluster.Answer:
		m.answered(b, now)
	case *cluster.WantNames:
		m.tellNames(b)
	case *cluster.Names:
		m.learn(b)
		m.lookSoon()
	case *cluster.Order:
		m.ordered(b)
	case *cluster.Obeyed:
		m.obeyed(b)
	case *cluster.Passed:
		m.passed(b, now)
	case *cluster.Pins:
		m.learnPins(b, now)
	}
}
