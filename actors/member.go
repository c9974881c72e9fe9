package actors

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/machine"
	"github.com/serviceradar/poller/proto/cluster"
)

// Cluster is what this node knows of the others. Its methods may be called by any goroutine, and do not block.
type Cluster interface {
	// View returns what is known now.
	View() *machine.View
	// Holds tells whether the lease of an era holds now.
	Holds(era uint64) bool
	// Minority tells whether this node polls without a majority.
	Minority() bool
	// Asked says that another node asks for agents, so that it may have a lease.
	Asked(by machine.NodeID)
	// Announce says what the others are to know of this node.
	Announce(machine.Announcement)
}

// Sharing makes a System one of several nodes.
type Sharing struct {
	Cluster  Cluster
	Remoting Remoting
	// Epoch is since when cycles are counted, on the monotonic clock; all nodes have the same, as far as their clocks go.
	Epoch time.Time
	// Obey does what another node says, OrderDrain or OrderReload. It must not block.
	Obey func(what string) error
	// Post sends an envelope to the member at another node's Remote, and Receive is given what takes those that come; nil is the framework's
	// remoting. Nobody says whether it came.
	Post    func(remote string, envelope *cluster.Envelope)
	Receive func(take func(*cluster.Envelope))
}

// share has the system be one node of a cluster.
func (s *System) share(o *Sharing) (err error) {
	e := s.env
	e.cluster, e.epoch, e.obey, e.shares = o.Cluster, o.Epoch, o.Obey, newShares(o.Cluster.View().Self)
	if e.post = o.Post; e.post != nil {
		o.Receive(func(envelope *cluster.Envelope) { e.send(e.member, envelope) })
		return nil
	}
	e.post = func(remote string, envelope *cluster.Envelope) { e.send(actor.NewPID(remote, memberPID), envelope) }
	s.remote, err = startRemote(e.system, o.Remoting, e.Observe)
	return err
}

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
}

// shares is what must survive member.
type shares struct {
	claims *machine.Claims
	ramp   *machine.Ramp
	view   *machine.View
	took   bool   // a lease was gained
	era    uint64 // the last that was
	losses int    // how often others had lost sight of this node then
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
	draining bool
	drained  []func() // who waits for the end of that
	orders   orders
	// unknown are envelopes of unknown kinds or versions, unreadable those that are no message of their kind.
	unknown, unreadable uint64
	// claiming is since when there are claims without a break, zero if there are none; toldClaims is when that was told last.
	claiming, toldClaims time.Time
}

// parting is an agent on its way to another node.
type parting struct {
	to      machine.NodeID
	era     uint64 // and round: of the ask that it answers
	round   uint64
	yield   uint64 // in which the poller was told last
	since   time.Time
	known   bool // the poller has given it up
	told    bool // what h says of the breaker is so
	h       handOver
	settled time.Time // when that was
}

// received is what another node has handed over.
type received struct {
	handOver
	by machine.NodeID
}

// thanks says to a node, from since on, that what it has handed over has come.
type thanks struct {
	to          machine.NodeID
	agents      []string
	since, sent time.Time
}

// gift is an agent that was handed over.
type gift struct {
	to machine.NodeID
	h  handOver
	at time.Time
}

func newShares(self machine.NodeID) *shares {
	return &shares{
		claims: machine.NewClaims(self), ramp: machine.NewRamp(0, 0), view: new(machine.View),
		handed: make(map[string]received), resuming: make(map[string]handOver), parting: make(map[string]*parting), gave: make(map[string]gift), idle: make(map[string]bool),
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
	m.own(m.view, cfg)
	m.wantUnknownNames(now)
	m.followClaims()
	m.ask(now)
	m.adopt(now)
	m.tellClaims(now)
	m.thank(now)
	m.answerParted(now)
	m.announce(cfg, now)
	m.forget(now)
	m.repeatOrders(now)
	m.tellDrained()
	m.lookLater()
}

// changed tells whether people would care about what differs between two views.
func changed(a, b *machine.View) bool {
	return a.Leased != b.Leased || a.Minority != b.Minority || a.Size != b.Size || !slices.EqualFunc(a.Members, b.Members, func(x, y machine.Member) bool {
		return x.NodeID == y.NodeID && x.Hash == y.Hash && x.Draining == y.Draining && x.Size == y.Size &&
			x.ClockApart() == y.ClockApart()
	})
}

// tellClaims tells how many agents are claimed.
func (m *member) tellClaims(now time.Time) {
	open := m.claims.Open()
	switch {
	case open == 0 && m.claiming.IsZero(), open > 0 && !m.claiming.IsZero() && now.Sub(m.toldClaims) < claimsEvery:
		return
	case open == 0:
		m.claiming = time.Time{}
		m.env.Observe(Claiming{})
		return
	case m.claiming.IsZero():
		m.claiming = now
	}
	m.toldClaims = now
	m.env.Observe(Claiming{Agents: open, Waiting: m.waiting(), For: now.Sub(m.claiming)})
}

// waiting returns for how many claims each node has not answered.
func (m *member) waiting() map[string]int {
	waiting := make(map[string]int)
	for id, n := range m.claims.Waiting() {
		waiting[id.Name] += n
	}
	return waiting
}

func (m *member) lookLater() {
	if m.timer != nil {
		m.timer.Stop()
	}
	d := viewEvery
	if m.claims.Open() > 0 || len(m.parting) > 0 {
		d = askEvery
	}
	m.timer = m.env.after(d, m.self, lookAgain{incarnation: m.incarnation})
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

// followClaims claims what this node owns, and lets go of what it may poll no more.
func (m *member) followClaims() {
	suspended := m.claims.Follow(m.view, m.ours)
	if len(suspended) > 0 {
		for _, agent := range suspended {
			m.idle[agent] = true
			delete(m.parting, agent)
			delete(m.resuming, agent)
		}
		m.env.send(m.env.poller, suspend{})
		m.env.Observe(Suspended{Agents: len(suspended)})
	}
	for _, agent := range m.claims.Held() {
		if m.configured(agent) {
			continue
		}
		m.claims.Released(agent) // root and the poller know
		delete(m.parting, agent)
		delete(m.resuming, agent)
	}
	if !m.view.Leased {
		return
	}
	var gone []string
	for agent := range m.idle {
		if !m.isOurs(agent) {
			gone = append(gone, agent)
			delete(m.idle, agent)
		}
	}
	if len(gone) > 0 {
		slices.Sort(gone)
		m.env.send(m.env.root, dismissed{agents: gone})
		m.env.Observe(Dismissed{Agents: gone})
	}
}

// ask asks others for what is claimed, again if they have not answered.
func (m *member) ask(now time.Time) {
	if m.claims.Open() == 0 || now.Sub(m.asked) < repeatAfter && !m.claims.Unasked() {
		return
	}
	m.asked = now
	for _, ask := range m.claims.Asks() {
		m.send(ask.To, kindAsk, &cluster.Ask{From: nodeOf(m.view.Self), Era: ask.Era, Round: ask.Round, Agents: ask.Agents})
	}
}

// adopt has the agents polled on which all agree.
func (m *member) adopt(now time.Time) {
	var ready []string
	if m.view.Informed {
		ready = m.claims.Ready()
	}
	if len(ready) == 0 {
		return
	}
	message := adopt{era: m.era, round: m.yields, agents: make([]adopted, 0, len(ready))}
	came := make(map[machine.NodeID][]string)
	moved := 0
	for _, agent := range ready {
		h, given := m.handed[agent]
		if given {
			moved++
			came[h.by] = append(came[h.by], agent)
			m.resuming[agent] = h.handOver
		} else {
			h.agent = agent
		}
		message.agents = append(message.agents, adopted{handOver: h.handOver, given: given})
		delete(m.handed, agent)
		delete(m.gave, agent)
		delete(m.idle, agent)
	}
	m.env.Observe(Adopted{Agents: ready, Given: moved}) // before anything else can be told of them
	m.env.send(m.env.root, message)
	for by, agents := range came {
		m.thanks = append(m.thanks, thanks{to: by, agents: agents, since: now})
	}
	m.thank(now)
}

// thank tells those who have handed something over that it came, some times, as long as it is held.
func (m *member) thank(now time.Time) {
	m.thanks = slices.DeleteFunc(m.thanks, func(t thanks) bool { return now.Sub(t.since) >= thankFor || !m.isAlive(t.to) })
	for i := range m.thanks {
		t := &m.thanks[i]
		if now.Sub(t.sent) < max(repeatAfter, t.sent.Sub(t.since)) { // less and less often
			continue
		}
		t.sent = now
		t.agents = slices.DeleteFunc(t.agents, func(agent string) bool { return !m.claims.Holds(agent) || m.parting[agent] != nil })
		if len(t.agents) > 0 {
			m.send(t.to, kindAsk, &cluster.Ask{From: nodeOf(m.view.Self), Era: m.era, Taken: t.agents})
		}
	}
}

// adoptHeld has root and the poller adopt again what is held, in case that one of them missed it. Those that did not are not changed by it.
func (m *member) adoptHeld() {
	var agents []string
	for _, agent := range m.claims.Held() {
		if m.parting[agent] == nil {
			agents = append(agents, agent)
		}
	}
	m.adoptAgain(agents)
}

// adoptAgain has root and the poller adopt agents that are held, if they did not, or have given them up.
func (m *member) adoptAgain(agents []string) {
	if len(agents) == 0 {
		return
	}
	message := adopt{era: m.era, round: m.yields}
	for _, agent := range agents {
		h, given := m.resuming[agent]
		if !given {
			h.agent = agent
		}
		message.agents = append(message.agents, adopted{handOver: h, given: given})
	}
	m.env.send(m.env.root, message)
}

// asked answers another node that claims agents.
func (m *member) askedBy(a *cluster.Ask, now time.Time) {
	from := idOf(a.GetFrom())
	if !m.isAlive(from) { // it asks again, when membership has it
		return
	}
	for _, agent := range a.GetTaken() {
		if m.gave[agent].to == from {
			delete(m.gave, agent)
		}
	}
	if len(a.GetAgents()) == 0 {
		return
	}
	m.env.cluster.Asked(from)
	free, give := m.claims.Asked(from, a.GetAgents())
	answer := &cluster.Answer{From: nodeOf(m.view.Self), Era: a.GetEra(), Round: a.GetRound()}
	for _, agent := range free {
		if gift, gave := m.gave[agent]; gave && gift.to == from { // the first answer was lost
			answer.Given = append(answer.Given, gift.h.wire(m.env.epoch))
		} else {
			answer.Free = append(answer.Free, agent)
		}
	}
	if len(answer.GetFree())+len(answer.GetGiven()) > 0 {
		m.send(from, kindAnswer, answer)
	}
	var yields []string
	for _, agent := range give {
		if m.owner(agent) != from.Name {
			continue // our views differ; one of them will change
		}
		p := m.parting[agent]
		if p == nil {
			p = &parting{since: now}
			m.parting[agent] = p
		}
		p.to, p.era, p.round = from, a.GetEra(), a.GetRound()
		if !p.known {
			p.yield = m.yields + 1
			yields = append(yields, agent)
		}
	}
	if len(yields) > 0 {
		m.yields++
		m.env.send(m.env.poller, yield{round: m.yields, agents: yields})
	}
}

// yielded takes what the poller knows of an agent that it has given up.
func (m *member) yielded(y yielded, now time.Time) {
	h, p := y.handOver, m.parting[y.handOver.agent]
	switch {
	case p != nil && !p.known && p.yield == y.round:
		h.open, h.failures, h.cause = p.h.open, p.h.failures, p.h.cause
		p.known, p.h, p.settled = true, h, now
		m.lookSoon()
	case p == nil && m.claims.Holds(h.agent): // it was not to be given up any more
		m.adoptAgain([]string{h.agent})
	}
}

// lookSoon waits a moment for more of what was just heard.
func (m *member) lookSoon() {
	if m.timer != nil {
		m.timer.Stop()
	}
	m.timer = m.env.after(5*time.Millisecond, m.self, lookAgain{incarnation: m.incarnation})
}

func (m *member) breakerTold(b breakerTold) {
	if p := m.parting[b.agent]; p != nil {
		p.h.open, p.h.failures, p.h.cause, p.told = b.open, b.failures, b.cause, true
		m.lookSoon()
	}
}

// answerParted hands over what has been given up.
func (m *member) answerParted(now time.Time) {
	answers := make(map[machine.NodeID]*cluster.Answer)
	var gone, stay []string
	for agent, p := range m.parting {
		switch {
		case p.known && (p.told || now.Sub(p.settled) >= breakerWithin):
		case !p.known && now.Sub(p.since) >= repeatAfter:
			delete(m.parting, agent) // until it is asked for again: there are results under way, or what the poller said was lost
			stay = append(stay, agent)
			continue
		default:
			continue
		}
		a := answers[p.to]
		if a == nil || a.GetRound() != p.round {
			if a != nil {
				m.send(p.to, kindAnswer, a)
			}
			a = &cluster.Answer{From: nodeOf(m.view.Self), Era: p.era, Round: p.round}
			answers[p.to] = a
		}
		a.Given = append(a.Given, p.h.wire(m.env.epoch))
		gone = append(gone, agent)
		m.claims.Released(agent)
		delete(m.resuming, agent)
		m.gave[agent] = gift{to: p.to, h: p.h, at: now}
		delete(m.parting, agent)
	}
	m.adoptAgain(stay)
	for to, a := range answers {
		m.send(to, kindAnswer, a)
	}
	if len(gone) > 0 {
		slices.Sort(gone)
		m.env.Observe(HandedOver{Agents: gone})
	}
}

// answered takes what another node says of agents that this one claims.
func (m *member) answered(a *cluster.Answer, now time.Time) {
	from := idOf(a.GetFrom())
	free := a.GetFree()
	if a.GetEra() == m.view.Era {
		var offset time.Duration
		if i := slices.IndexFunc(m.view.Members, func(o machine.Member) bool { return o.NodeID == from }); i >= 0 {
			offset = m.view.Members[i].Offset
			if offset.Abs() <= m.view.Members[i].RTT { // it may be no more than a slow answer
				offset = 0
			}
		}
		for _, w := range a.GetGiven() {
			h := received{handOver: handOverOf(w, m.env.epoch, offset), by: from}
			if !m.claims.Holds(h.agent) {
				m.handed[h.agent] = h
			}
			free = append(free, h.agent)
		}
	}
	m.claims.Answered(from, a.GetEra(), a.GetRound(), free)
	m.adopt(now)
	m.lookSoon()
}

// announce tells the others what they are to know of this node.
func (m *member) announce(cfg *config.Config, now time.Time) {
	a := machine.Announcement{Hash: m.hash, Agents: len(cfg.Agents), Held: m.claims.HeldCount(), Draining: m.draining}
	if m.view.Leased && !m.draining {
		a.Weight = m.ramp.Weight(now)
	}
	m.env.cluster.Announce(a)
}

// forget lets go of what nobody will ask for any more.
func (m *member) forget(now time.Time) {
	maps.DeleteFunc(m.gave, func(_ string, g gift) bool { return now.Sub(g.at) > keepGiven })
	maps.DeleteFunc(m.handed, func(agent string, _ received) bool { return !m.isOurs(agent) || !m.view.Leased })
}

// tellDrained tells those who wait that everything is handed over, or that there is nobody to whom it could be.
func (m *member) tellDrained() {
	if !m.draining || m.anybodyElse(m.view) && (m.claims.HeldCount() > 0 || m.isAwaited()) {
		return
	}
	for _, done := range m.drained {
		done()
	}
	m.drained = nil
}

// isAwaited tells whether a node that is alive has not said yet that it has what was handed over to it.
func (m *member) isAwaited() bool {
	for _, g := range m.gave {
		if m.isAlive(g.to) {
			return true
		}
	}
	return false
}

func (m *member) isAlive(id machine.NodeID) bool {
	return slices.ContainsFunc(m.view.Members, func(o machine.Member) bool { return o.NodeID == id })
}

// send sends a message to the member of another node, if that is alive. Whether it comes nobody says.
func (m *member) send(to machine.NodeID, kind uint32, body proto.Message) {
	i := slices.IndexFunc(m.view.Members, func(o machine.Member) bool { return o.NodeID == to })
	if i < 0 || m.view.Members[i].Remote == "" {
		return
	}
	remote, envelope := m.view.Members[i].Remote, seal(kind, body)
	m.env.workers.Schedule(func() { m.env.post(remote, envelope) }) // the first one to a node waits until there is a sender for it
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
	}
}

// share says how it is with this node.
func (m *member) share() Share {
	s := Share{View: m.view, Draining: m.draining, Held: m.claims.HeldCount(), Open: m.claims.Open(), Parting: len(m.parting), Waiting: m.waiting()}
	s.Owned = m.count()
	return s
}

// Share is how it is with a node and its cluster.
type Share struct {
	View *machine.View
	// Held is how many agents the node polls, Open how many it claims, Parting how many are on their way to others.
	Held, Open, Parting int
	Draining            bool
	// Waiting says for how many claims each node has not answered.
	Waiting map[string]int
	// Owned says how many agents each member owns by this node's view.
	Owned map[string]int
}
