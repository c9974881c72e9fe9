package cluster

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/serviceradar/poller/internal/machine"
)

// member is another node that is alive.
type member struct {
	id     machine.NodeID
	node   memberlist.Node // a copy
	remote string
	since  time.Time

	// What its newest beat said.
	seq        uint64
	said       machine.Announcement
	size       int
	version    string
	leaving    bool
	losses     int
	toldSize   int
	toldClock  bool
	toldPoller bool
	// doubted says that memberlist has it for dead. It is not while it answers beats: on a line that loses much memberlist is wrong often, and to
	// lose sight of a node costs its lease.
	doubted     bool
	echoed      uint64    // the newest of our beats that it has answered
	answered    time.Time // when it answered last, by whatever way
	reached     time.Time // when it answered directly
	samples     []sample  // of its answers, the newest last
	rtt, offset time.Duration
}

// departed is a node that was a member. It may be there, on the other side of a split.
type departed struct {
	address netip.AddrPort
	at      time.Time
	size    int
}

func (m *member) view() machine.Member {
	return machine.Member{
		NodeID: m.id, Remote: m.remote, Size: m.size, Version: m.version, Offset: m.offset, RTT: m.rtt,
		Weight: m.said.Weight, Hash: m.said.Hash, Draining: m.said.Draining, Agents: m.said.Agents, Held: m.said.Held, Pins: m.said.Pins,
	}
}

// metaForm begins what a node says of itself to memberlist: its boot and its remote address follow.
const metaForm = "1"

func (c *Cluster) meta() []byte {
	return []byte(strings.Join([]string{metaForm, c.self.Boot, c.config.Remote}, " "))
}

func parseMeta(b []byte) (boot, remote string, err error) {
	fields := strings.Split(string(b), " ")
	if len(fields) < 3 || fields[0] != metaForm || fields[1] == "" {
		return "", "", fmt.Errorf("it says of itself %.40q, in a form that is not known here: is it of another version?", b)
	}
	return fields[1], fields[2], nil
}

// clash is a name that two nodes have.
type clash struct{ first, last time.Time }

// Two nodes of one name are none to tell of while the one may be the other's restart at another address, and the old one is not found
// dead yet.
const (
	clashAfter = 4 * time.Second
	clashOver  = 10 * time.Second
)

// delegate is what memberlist calls, one call at a time, holding a lock of its own.
type delegate Cluster

func (d *delegate) cluster() *Cluster { return (*Cluster)(d) }

// NotifyAlive refuses nodes that can't be understood.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	_, _, err := parseMeta(n.Meta)
	if err != nil {
		d.cluster().tell.often("malformed "+n.Name+" "+err.Error(), 1, func(int) Event { return NodeMalformed{n.Name, n.Address(), err.Error()} })
	}
	return err
}

// NotifyJoin says that a node is alive, or again.
func (d *delegate) NotifyJoin(n *memberlist.Node) {
	c := d.cluster()
	c.mu.Lock()
	defer c.mu.Unlock()
	if n.Name != c.self.Name {
		c.joined(n, c.clock.now())
	}
}

// NotifyUpdate says that a node says something else of itself: it is another life of it, for nothing else changes.
func (d *delegate) NotifyUpdate(n *memberlist.Node) {
	c := d.cluster()
	c.mu.Lock()
	defer c.mu.Unlock()
	if n.Name == c.self.Name {
		return
	}
	c.joined(n, c.clock.now())
}

// NotifyLeave says that a node is dead, or has left; memberlist does not say which.
func (d *delegate) NotifyLeave(n *memberlist.Node) {
	c := d.cluster()
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock.now()
	m := c.members[n.Name]
	if m == nil {
		return
	}
	if m.doubted = !m.leaving; m.silent(now) >= answersFor || m.leaving {
		c.parted(n.Name, now)
	}
}

// silent returns for how long a member has answered nothing, since it came at most: memberlist may take for its death what it hears late of the life before.
func (m *member) silent(now time.Time) time.Duration {
	if m.since.After(m.answered) {
		return now.Sub(m.since)
	}
	return now.Sub(m.answered)
}

// endDoubts takes out those whom memberlist has for dead when they have not answered for a while, and returns how long it is until it
// will be a while for the next of them, or a long time; c.mu is held.
func (c *Cluster) endDoubts(now time.Time) time.Duration {
	next := answersFor
	for name, m := range c.members {
		if left := answersFor - m.silent(now); m.doubted && left <= 0 {
			c.parted(name, now)
		} else if m.doubted {
			next = min(next, left)
		}
	}
	return next
}

// NotifyConflict says that two nodes have a name.
func (d *delegate) NotifyConflict(existing, other *memberlist.Node) {
	c := d.cluster()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clashed(existing, other, c.clock.now())
}

// NodeMeta is what others hear of this node with its name.
func (d *delegate) NodeMeta(int) []byte { return d.cluster().meta() }

// GetBroadcasts has nothing to add to gossip.
func (*delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState has nothing to add to exchanges.
func (*delegate) LocalState(bool) []byte { return nil }

// MergeRemoteState takes nothing from them.
func (*delegate) MergeRemoteState([]byte, bool) {}

// joined takes in a node that is alive; c.mu is held.
func (c *Cluster) joined(n *memberlist.Node, now time.Time) {
	boot, remote, err := parseMeta(n.Meta)
	if err != nil {
		return // NotifyAlive would not have had it
	}
	m := &member{id: machine.NodeID{Name: n.Name, Boot: boot}, node: *n, remote: remote, since: now}
	m.node.Addr, m.node.Meta = slices.Clone(n.Addr), slices.Clone(n.Meta)
	if known := c.members[n.Name]; known != nil && known.id == m.id && known.remote == remote {
		known.node, known.doubted = m.node, false
		return
	}
	c.parted(n.Name, now) // another life of it
	if d := c.gone[n.Name]; d != nil {
		m.size = d.size // until it says another
		delete(c.gone, n.Name)
	}
	c.members[n.Name] = m
	c.config.Tell(MemberJoined{m.id, m.node.Address(), remote})
	c.membersChanged(now)
	poke(c.kick) // to be granted something by it, and to grant it something
}

// parted takes out a member that is dead or has left; c.mu is held.
func (c *Cluster) parted(name string, now time.Time) {
	m := c.members[name]
	if m == nil {
		return
	}
	delete(c.members, name)
	if !m.leaving { // else it was told already
		deaths := append(c.recent(name, now), now)
		c.deaths[name] = deaths
		c.gone[name] = &departed{netip.AddrPortFrom(ip(m.node.Addr), m.node.Port), now, m.size}
		c.config.Tell(MemberDied{m.id, m.node.Address(), len(deaths)})
	}
	c.membersChanged(now)
}

// left takes out a member that says that it leaves; c.mu is held. It is there until memberlist says that it is not.
func (c *Cluster) left(m *member, now time.Time) {
	m.leaving = true
	c.lease.Left(m.id, now)
	c.config.Tell(MemberLeft{m.id, m.node.Address()})
	c.membersChanged(now)
}

// recent returns when a node of this name died lately; c.mu is held.
func (c *Cluster) recent(name string, now time.Time) []time.Time {
	deaths := slices.DeleteFunc(c.deaths[name], func(at time.Time) bool { return now.Sub(at) > lossesFor })
	if len(deaths) == 0 {
		delete(c.deaths, name)
		return nil
	}
	c.deaths[name] = deaths
	return deaths
}

// clashed takes in that two nodes have a name; c.mu is held.
func (c *Cluster) clashed(existing, other *memberlist.Node, now time.Time) {
	of := c.clashes[existing.Name]
	if of == nil || now.Sub(of.last) > clashOver {
		of = &clash{first: now}
		c.clashes[existing.Name] = of
	}
	of.last = now
	if now.Sub(of.first) >= clashAfter {
		e := NameConflict{Name: existing.Name, Address: existing.Address(), Other: other.Address(), Ours: existing.Name == c.self.Name}
		c.tell.often(fmt.Sprint("conflict ", e), 1, func(int) Event { return e })
	}
}

// alive returns the other members that have not left, by name; c.mu is held.
func (c *Cluster) alive() []machine.NodeID {
	ids := make([]machine.NodeID, 0, len(c.members))
	for _, m := range c.members {
		if !m.leaving {
			ids = append(ids, m.id)
		}
	}
	slices.SortFunc(ids, func(a, b machine.NodeID) int { return cmp.Compare(a.Name, b.Name) })
	return ids
}

// membersChanged has the lease know who is alive; c.mu is held.
func (c *Cluster) membersChanged(now time.Time) {
	alive := c.alive()
	c.lease.Alive(alive, now)
	c.resize()
	if wanted := c.wanted(); len(alive)+1 <= wanted {
		c.crowded = false
	} else if !c.crowded {
		c.crowded = true
		c.config.Tell(TooMany{len(alive) + 1, wanted})
	}
	c.last.stale = true
	c.refresh(now)
}

// wanted is how many nodes there should be: the greatest number that this node, or one that did not leave, is configured with. One that is
// dead still counts, for it may be on the other side of a split; c.mu is held.
func (c *Cluster) wanted() int {
	size := c.size
	for _, m := range c.members {
		if !m.leaving {
			size = max(size, m.size)
		}
	}
	for _, d := range c.gone {
		size = max(size, d.size)
	}
	return size
}

func (c *Cluster) resize() { c.lease.SetSize(c.wanted()) }

// dropped counts packets that are not sent. It is told if they were for a member: those who are gone get some for a while, too.
func (c *Cluster) dropped(address string, err error, packets int) {
	c.drops.Add(uint64(packets)) //nolint:gosec // never negative
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.members {
		if !m.leaving && m.node.Address() == address {
			c.tell.often("dropped "+address, packets, func(heldBack int) Event { return PacketsDropped{address, err, heldBack + packets} })
		}
	}
}

// outlook is what View says of the lease, to find out whether it has changed.
type outlook struct {
	leased, minority, informed bool
	era                        uint64
	required                   []machine.NodeID
	size                       int

	until time.Time // no part of the comparison
	stale bool      // something else has changed that people should look at
}

func (o *outlook) differs(p *outlook) bool {
	return o.leased != p.leased || o.minority != p.minority || o.informed != p.informed || o.era != p.era || o.size != p.size ||
		!slices.Equal(o.required, p.required)
}

// outlook looks at the lease; c.mu is held.
func (c *Cluster) outlook(now time.Time) outlook {
	era, until := c.lease.Until(now)
	held := now.Before(until)
	size, _ := c.lease.Majority()
	return outlook{
		leased: (held || c.keeps(now)) && !c.over, minority: !held, informed: c.lease.Informed(now), era: era,
		required: c.lease.Required(now), size: size, until: until,
	}
}

// keeps tells whether the node polls without a majority: not at once, for others may be there that it has not heard yet; c.mu is held.
func (c *Cluster) keeps(now time.Time) bool {
	return c.config.Keep && !c.born.IsZero() && now.Sub(c.born) >= keepsAfter
}

// refresh puts the fence where it belongs, and tells if something has changed; c.mu is held.
func (c *Cluster) refresh(now time.Time) {
	o := c.outlook(now)
	if c.over {
		c.fence.Store(&fence{})
	} else {
		c.fence.Store(&fence{o.era, o.until, c.keeps(now)})
	}
	if o.differs(&c.last) || c.last.stale {
		c.config.Changed()
	}
	c.last = o
}
