package cluster

import (
	"context"
	"math"
	"time"

	"github.com/hashicorp/memberlist"
	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/internal/machine"
	pb "github.com/serviceradar/poller/proto/cluster"
)

// What an envelope may have in it here.
const (
	kindBeat   = 1
	kindPassed = 2
	version    = 1 // of both
)

const (
	// beatGap is how long at least there is between beats that go out at once, for what is announced may change very often.
	beatGap = 20 * time.Millisecond
	// beatSoon is when others are asked again of whom one has not answered: packets are lost.
	beatSoon = 100 * time.Millisecond
	// askedFor is for how long answers to a beat count. A grant is of no use after its term; what others say is, for a little longer.
	askedFor = 4 * term
	// answersFor is how long a node is taken to be there since it answered, whatever memberlist has heard: its grants last as long.
	answersFor = term
	// mostSamples is how many answers an offset is the best of.
	mostSamples = 8
	// mostKinds bounds what is remembered of messages of unknown kinds.
	mostKinds = 64
	// farewellEvery is how often a node that leaves says so.
	farewellEvery = 100 * time.Millisecond
	// leaveTimeout bounds how long memberlist takes to tell somebody.
	leaveTimeout = 500 * time.Millisecond
)

// sample is what an answer says of a clock.
type sample struct{ rtt, offset time.Duration }

// outgoing is a message for a node. It is sent when nobody holds c.mu.
type outgoing struct {
	to   memberlist.Node
	body []byte
}

func (c *Cluster) send(all []outgoing) {
	list := c.list.Load()
	if list == nil {
		return // others may know us, from before, while membership is only starting
	}
	for i := range all {
		_ = list.SendBestEffort(&all[i].to, all[i].body) // it fails only if we end, or by a mistake of ours
	}
}

// beat asks the others for their grants, again and again, and finds out when a lease is over.
func (c *Cluster) beat() {
	var last, next time.Time
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.kick:
			next = last.Add(beatGap)
		case <-timer.C:
		}
		c.mu.Lock()
		now := c.clock.now() // not before: the lease's times never go back
		doubtful := c.endDoubts(now)
		var all []outgoing
		if !c.allAnswered() {
			next = earlier(next, last.Add(beatSoon))
		}
		if !now.Before(next) {
			all = c.beats(now)
			last, next = now, now.Add(beatEvery)
		}
		c.refresh(now)
		until := c.last.until
		c.mu.Unlock()
		c.send(all)
		wait := min(next.Sub(now), beatSoon, doubtful)
		if left := until.Sub(now); left > 0 {
			wait = min(wait, left)
		}
		timer.Reset(wait)
	}
}

// beats returns a beat for each other member; c.mu is held.
func (c *Cluster) beats(now time.Time) []outgoing {
	for seq, at := range c.asked {
		if now.Sub(at) > askedFor {
			delete(c.asked, seq)
		}
	}
	b := c.newBeat(now)
	c.asked[b.GetSeq()], c.beaten = now, b.GetSeq()
	e := envelope(b)
	body := marshal(e)
	all := make([]outgoing, 0, len(c.members))
	for _, m := range c.members {
		all = append(all, outgoing{m.node, body})
		if !m.isReached(now) {
			all = append(all, c.byOthers(m, e, now)...)
		}
	}
	return all
}

// allAnswered tells whether all members have answered the last beat; c.mu is held.
func (c *Cluster) allAnswered() bool {
	for _, m := range c.members {
		if !m.leaving && m.echoed < c.beaten {
			return false
		}
	}
	return true
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// newBeat returns what goes into each beat; c.mu is held.
func (c *Cluster) newBeat(now time.Time) *pb.Beat {
	c.seq++
	b := &pb.Beat{
		From: nodeOf(c.self), Seq: c.seq, Clock: c.config.Clock(), Leaving: c.leaving,
		Hash: c.ours.Hash, Weight: count(c.ours.Weight), Draining: c.ours.Draining, Size: count(c.size), Agents: count(c.ours.Agents),
		Held: count(c.ours.Held), Version: c.config.Version, PollerId: c.config.PollerID, Pins: c.ours.Pins,
	}
	for _, g := range c.lease.Grants(now) {
		b.Grants = append(b.Grants, &pb.Grant{To: nodeOf(g.To), Age: int64(g.Age)})
	}
	return b
}

// count is a number as it goes over the wire.
func count(n int) uint32 { return uint32(min(max(n, 0), math.MaxUint32)) }

func envelope(b *pb.Beat) *pb.Envelope { return seal(kindBeat, b) }

func seal(kind uint32, body proto.Message) *pb.Envelope {
	return &pb.Envelope{Kind: kind, Version: version, Body: marshal(body)}
}

func marshal(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic("cluster: a message can't be marshalled: " + err.Error()) // our names are valid UTF-8, by the configuration, and others' were
	}
	return b
}

func nodeOf(id machine.NodeID) *pb.Node { return &pb.Node{Name: id.Name, Boot: id.Boot} }

func idOf(n *pb.Node) machine.NodeID { return machine.NodeID{Name: n.GetName(), Boot: n.GetBoot()} }

// NotifyMsg takes what another node has sent.
func (d *delegate) NotifyMsg(b []byte) {
	c := d.cluster()
	var e pb.Envelope
	if proto.Unmarshal(b, &e) != nil {
		c.ignored.Add(1)
		return
	}
	var beat pb.Beat
	var passed pb.Passed
	var body proto.Message
	switch e.GetKind() {
	case kindBeat:
		body = &beat
	case kindPassed:
		body = &passed
	}
	if body == nil || e.GetVersion() != version {
		c.ignored.Add(1)
		c.unknown(MessageUnknown{e.GetKind(), e.GetVersion()})
		return
	}
	if proto.Unmarshal(e.GetBody(), body) != nil {
		c.ignored.Add(1)
		return
	}
	c.mu.Lock()
	var answer []outgoing
	if now := c.clock.now(); body == &passed {
		answer = c.pass(&passed, now)
	} else {
		answer = c.hear(&beat, nil, now)
	}
	c.mu.Unlock()
	c.send(answer)
}

func (c *Cluster) unknown(e MessageUnknown) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.knew[e] && len(c.knew) < mostKinds {
		c.knew[e] = true
		c.config.Tell(e)
	}
}

// hear takes in a beat that has come, by way of another node or, with nil, directly. It returns the answer, if there is one, which goes the same
// way, so that who asked knows which ways there are; c.mu is held.
func (c *Cluster) hear(b *pb.Beat, way *member, now time.Time) []outgoing {
	m := c.members[b.GetFrom().GetName()]
	if m == nil || m.id.Boot != b.GetFrom().GetBoot() {
		c.ignored.Add(1) // membership has not heard of this life yet, or it has of another: that is whom it is about, then
		return nil
	}
	c.learn(m, b, now)
	defer c.refresh(now)
	if b.GetEcho() != 0 {
		if way == nil {
			m.reached = now
		}
		c.answered(m, b, now)
		return nil
	}
	granted := c.lease.Grant(m.id, now) // not to one that leaves: the lease knows
	answer := c.newBeat(now)
	answer.Echo, answer.Granted = b.GetSeq(), granted
	answer.Losses = count(len(c.recent(m.id.Name, now)))
	if way != nil {
		return []outgoing{c.by(way, m, envelope(answer))}
	}
	return []outgoing{{m.node, marshal(envelope(answer))}}
}

// learn takes in what a member says of itself, if it is newer than what is known; c.mu is held.
func (c *Cluster) learn(m *member, b *pb.Beat, now time.Time) {
	if b.GetLeaving() && !m.leaving {
		c.left(m, now)
	}
	if b.GetSeq() <= m.seq {
		return
	}
	m.seq = b.GetSeq()
	said := machine.Announcement{
		Weight: int(b.GetWeight()), Hash: b.GetHash(), Draining: b.GetDraining(), Agents: int(b.GetAgents()), Held: int(b.GetHeld()),
		Pins: b.GetPins(),
	}
	if said != m.said || b.GetVersion() != m.version {
		m.said, m.version, c.last.stale = said, b.GetVersion(), true
	}
	if size := int(b.GetSize()); size != m.size {
		m.size, c.last.stale = size, true
		c.membersChanged(now)
	}
	if same := b.GetPollerId() == c.config.PollerID && c.config.PollerID != ""; same && !m.toldPoller {
		m.toldPoller = true
		c.config.Tell(PollerShared{m.id, b.GetPollerId()})
	}
	if m.size == c.size {
		m.toldSize = 0
	} else if m.toldSize != m.size {
		m.toldSize = m.size
		c.config.Tell(SizesDiffer{m.id, m.size, c.size})
	}
}

// answered takes in a member's answer to a beat of ours; c.mu is held.
func (c *Cluster) answered(m *member, b *pb.Beat, now time.Time) {
	asked, ok := c.asked[b.GetEcho()]
	if !ok {
		return // it comes far too late
	}
	if b.GetEcho() > m.echoed {
		m.echoed, m.losses = b.GetEcho(), int(b.GetLosses())
	}
	m.answered = now
	poke(c.heard)
	if b.GetGranted() {
		c.lease.Granted(m.id, asked, now)
	}
	grants := make([]machine.Grant, 0, len(b.GetGrants()))
	for _, g := range b.GetGrants() {
		grants = append(grants, machine.Grant{To: idOf(g.GetTo()), Age: max(0, time.Duration(g.GetAge()))})
	}
	c.lease.Told(m.id, asked, now, grants)
	c.measure(m, now.Sub(asked), b.GetClock())
}

// measure takes in a round trip, and what the other's clock said in it; c.mu is held.
func (c *Cluster) measure(m *member, rtt time.Duration, clock int64) {
	offset := time.Duration(clock-c.config.Clock()) + rtt/2
	if m.samples = append(m.samples, sample{rtt, offset}); len(m.samples) > mostSamples {
		m.samples = m.samples[1:]
	}
	best := m.samples[0]
	for _, s := range m.samples[1:] {
		if s.rtt < best.rtt {
			best = s
		}
	}
	m.rtt, m.offset = best.rtt, best.offset
	switch apart := m.offset.Abs(); {
	case apart-m.rtt/2 > machine.ClocksApart && !m.toldClock: // the answer of a node that stood still says little
		m.toldClock = true
		c.config.Tell(ClocksDiffer{m.id, m.offset})
	case apart < machine.ClocksApart/2:
		m.toldClock = false
	}
}

// farewell has all members know that this node leaves.
func (c *Cluster) farewell(ctx context.Context) {
	again := time.NewTicker(farewellEvery)
	defer again.Stop()
	poke(c.kick)
	for !c.allKnow() {
		select {
		case <-ctx.Done():
			return
		case <-c.ctx.Done():
			return
		case <-again.C:
			poke(c.kick)
		case <-c.heard:
		}
	}
}

// allKnow tells whether all members have answered a beat that said that we leave.
func (c *Cluster) allKnow() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.members {
		if !m.leaving && m.echoed < c.leftAt {
			return false
		}
	}
	return true
}
