package daemon

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/internal/cluster"
	"github.com/serviceradar/poller/internal/machine"
)

const (
	// claimsSlow is from when on it is told that agents wait to be polled. Usually it is some milliseconds.
	claimsSlow = 5 * time.Second
	// conflictLasts is for how long a conflict of names that was told is believed to last: it is told again each minute.
	conflictLasts = 2 * time.Minute
	// mostGone bounds what is kept of nodes that are gone, and of addresses: it is more than a cluster has nodes.
	mostGone = 100
)

// nodes is what a narrator knows of a cluster.
type nodes struct {
	view    *machine.View        // nil before the first
	gone    []gone               // nodes that were there, the last to go last
	silent  string               // why no other node is found; empty if one is, or is not missed
	silence int                  // how often that was told
	claims  actors.Claiming      // the last
	nextFor time.Duration        // when it is told next how long claims wait; 0 if it was not
	clash   cluster.NameConflict // the last
	clashed time.Time            // when it was told
	broken  map[string]string    // why the node's TLS identity can't be read again, by where it is used
	shared  map[string]string    // nodes that have the same poller_id as this one, and that
	dropped map[string]int       // how often it was told that packets to an address were dropped
	differ  []string             // whose configurations differ, as it was told
}

// gone is a node that was there.
type gone struct{ name, how string }

func newNodes() nodes {
	return nodes{broken: make(map[string]string), shared: make(map[string]string), dropped: make(map[string]int)}
}

// Where a node's own TLS identity is used.
const (
	usedByMembership = "cluster.listen"
	usedByRemoting   = "cluster.remote"
)

// sharing tells of agents that come and go, and of what other nodes say.
func (n *narrator) sharing(now time.Time, event actors.Event) {
	switch e := event.(type) {
	case actors.Adopted:
		for _, name := range e.Agents {
			n.ours[name] = true
		}
		n.log.Info().Int("agents", len(e.Agents)).Int("given", e.Given).Strs("first_agents", first(e.Agents)).Msg("agents adopted: this node polls them from now on")
	case actors.HandedOver:
		n.forget(now, e.Agents)
		n.log.Info().Int("agents", len(e.Agents)).Strs("first_agents", first(e.Agents)).Msg("agents handed over: other nodes poll them from now on")
	case actors.Dismissed:
		n.forget(now, e.Agents)
		n.log.Info().Int("agents", len(e.Agents)).Strs("first_agents", first(e.Agents)).Msg("agents that were suspended are other nodes' now")
	case actors.Suspended:
		level := zerolog.WarnLevel
		if n.nodes.view != nil && isDraining(n.nodes.view) {
			level = zerolog.DebugLevel // it leaves, and nobody has taken these
		}
		n.log.WithLevel(level).Int("agents", e.Agents).Msg("agents suspended: this node's lease is over, or is another one now, and the other nodes are asked before anything is polled again")
	case actors.Claiming:
		n.claiming(e)
	case actors.Doubled:
		const msg = "agent was polled by another node, too, because neither heard the other"
		n.log.WithLevel(n.budgeted(now, zerolog.WarnLevel, e.Agent, msg)).Str("agent", e.Agent).Int("doubled_runs", e.Runs).Msg(msg)
	case actors.Ordered:
		n.ordered(e)
	case actors.Pinned:
		n.pinned(e)
	case actors.RemoteRefused:
		level := thinned(zerolog.WarnLevel, n.thatOften(strings.Map(withoutDigits, e.What)))
		n.log.WithLevel(level).Str("cause", e.What).Uint64("refused_total", e.Total).
			Msg("something that is no node's came to cluster.remote, and was refused: if it was a node, look at its certificate and its version")
	case actors.EnvelopeUnknown:
		n.ignored(thinned(zerolog.WarnLevel, n.thatOften(fmt.Sprint(e.Kind, e.Version))), e.Kind, e.Version)
	case actors.ClusterChanged:
		n.viewed(e.View)
	}
	n.clusterCondition(now)
}

// thatOften counts what came to cluster.remote and was of no use, by why; what is beyond so many kinds counts as one.
func (n *narrator) thatOften(kind string) int {
	const most = 64
	if n.useless[kind] == 0 && len(n.useless) >= most {
		kind = ""
	}
	if n.useless == nil {
		n.useless = make(map[string]int)
	}
	n.useless[kind]++
	return n.useless[kind]
}

// forget lets go of agents that are other nodes' now. What is still to come of them is not told.
func (n *narrator) forget(now time.Time, agents []string) {
	for _, name := range agents {
		n.park(now, agentActor+name, false)
		delete(n.ours, name)
		delete(n.open, name)
	}
}

// has tells whether there is such an agent, and in a cluster, whether it is this node's.
func (n *narrator) has(agent string) bool {
	return (n.known == nil || n.known[agent]) && (n.ours == nil || n.ours[agent])
}

// claiming tells of agents that wait for longer than they should, ever more seldom.
func (n *narrator) claiming(e actors.Claiming) {
	n.nodes.claims = e
	switch {
	case e.Agents > 0 && e.For >= max(n.nodes.nextFor, claimsSlow):
		n.nodes.nextFor = 2 * e.For
		n.log.Warn().Int("agents", e.Agents).Interface("waiting_for", e.Waiting).Stringer("claimed_for", e.For.Round(time.Millisecond)).
			Msg("agents wait to be polled here: nodes have not said yet that they don't poll them, or may still do so")
	case e.Agents == 0 && n.nodes.nextFor > 0:
		n.nodes.nextFor = 0
		n.log.Info().Msg("no agents wait to be polled here any more")
	}
}

func (n *narrator) ordered(e actors.Ordered) {
	if e.Refused != "" {
		n.log.Warn().Str("node", e.By).Str("order", e.What).Str("cause", e.Refused).Msg("order of another node refused")
		return
	}
	n.log.Info().Str("node", e.By).Str("order", e.What).Msg("order of another node obeyed")
}

func (n *narrator) pinned(e actors.Pinned) {
	if e.Node == "" {
		n.log.Info().Str("told_by", e.By).Int("agents", len(e.Agents)).Strs("first_agents", first(e.Agents)).
			Msg("agents moved back: the nodes to which they belong by themselves are to poll them")
		return
	}
	n.log.Info().Str("node", e.Node).Str("told_by", e.By).Int("agents", len(e.Agents)).Strs("first_agents", first(e.Agents)).
		Msg("agents moved: a node is to poll them as long as it is there, until they are moved again")
}

func (n *narrator) ignored(level zerolog.Level, kind, version uint32) {
	n.log.WithLevel(level).Uint32("kind", kind).Uint32("version", version).
		Msg("another node sends what this one does not know; it is ignored. Is that node of another version?")
}

// viewed tells what differs from the view before.
func (n *narrator) viewed(v *machine.View) {
	before := n.nodes.view
	n.nodes.view = v
	if before == nil {
		before = new(machine.View)
		n.leaseChanged(v, zerolog.InfoLevel)
	} else if v.Leased != before.Leased || v.Minority != before.Minority {
		n.leaseChanged(v, zerolog.ErrorLevel)
	}
	draining := make(map[machine.NodeID]bool)
	for _, m := range before.Members {
		draining[m.NodeID] = m.Draining
	}
	for _, m := range v.Members {
		if m.Draining && !draining[m.NodeID] {
			n.log.Info().Str("node", m.Name).Msg("node hands over all its agents")
		}
	}
	differ := differing(v)
	if slices.Equal(differ, n.nodes.differ) {
		return
	}
	n.nodes.differ = differ
	if len(differ) == 0 {
		n.log.Info().Msg("configurations of all nodes agree again")
		return
	}
	n.log.Warn().Strs("nodes", first(differ)).Msg("configurations of nodes differ from this one's: give all the same files. Agents that only some have are polled by those")
}

// leaseChanged tells whether this node may poll; if it may not, at a level.
func (n *narrator) leaseChanged(v *machine.View, level zerolog.Level) {
	msg := "this node may poll: a majority lets it"
	switch {
	case v.Leased && v.Minority:
		level, msg = zerolog.WarnLevel, "this node polls without a majority, as cluster.on_minority says; others may poll the same agents"
	case v.Leased:
		level = zerolog.InfoLevel
	case isDraining(v):
		level, msg = zerolog.InfoLevel, "this node polls nothing any more: it leaves the cluster"
	case level == zerolog.InfoLevel:
		msg = "this node may not poll yet: it looks for a majority of the cluster"
	default:
		msg = "this node may not poll any more: no majority lets it; it goes on when one does"
	}
	line := n.log.WithLevel(level).Int("members", len(v.Members)).Int("size", v.Size).Int("majority", v.Majority)
	var missing []string
	for _, g := range n.nodes.missing() {
		missing = append(missing, g.name)
	}
	if len(missing) > 0 {
		line = line.Strs("missing", first(missing))
	}
	line.Msg(msg)
}

// isDraining tells whether the node itself hands over all it has.
func isDraining(v *machine.View) bool {
	return slices.ContainsFunc(v.Members, func(m machine.Member) bool { return m.NodeID == v.Self && m.Draining })
}

// node takes an event of the cluster.
func (n *narrator) node(event cluster.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	switch e := event.(type) {
	case cluster.MemberJoined:
		n.nodes.back(e.Node.Name)
		delete(n.nodes.dropped, e.Address)
		n.log.Info().Str("node", e.Node.Name).Str("address", e.Address).Str("remote", e.Remote).Msg("node joined")
	case cluster.MemberDied:
		n.nodes.miss(e.Node.Name, "has not answered since "+clock(now))
		n.log.Warn().Str("node", e.Node.Name).Str("address", e.Address).Int("losses", e.Losses).
			Msg("node died: it does not answer any more. The others take over what it polled when its lease has lapsed")
	case cluster.MemberLeft:
		n.nodes.miss(e.Node.Name, "left at "+clock(now))
		n.log.Info().Str("node", e.Node.Name).Str("address", e.Address).Msg("node left: it polls nothing any more")
	case cluster.SeedsSilent:
		n.nodes.silent = e.Err.Error()
		n.nodes.silence++
		n.log.WithLevel(thinned(zerolog.WarnLevel, n.nodes.silence)).Err(e.Err).Msg("no other node is found")
	case cluster.SeedsFound:
		n.nodes.silent, n.nodes.silence = "", 0
		n.log.Info().Msg("other nodes are found")
	case cluster.IdentityRead:
		n.identityRead(usedByMembership, e.Err)
	default:
		n.oddNode(now, e)
	}
	n.clusterCondition(now)
}

// miss keeps that a node is gone, and how.
func (c *nodes) miss(name, how string) {
	c.back(name)
	c.gone = append(c.gone, gone{name, how})
	if len(c.gone) > mostGone {
		c.gone = c.gone[1:]
	}
}

// back: it is another life of a node, whatever was known of the one before.
func (c *nodes) back(name string) {
	delete(c.shared, name)
	c.gone = slices.DeleteFunc(c.gone, func(g gone) bool { return g.name == name })
}

// missing returns the nodes that are gone and have no others in their place: of those that went, the last.
func (c *nodes) missing() []gone {
	places := max(c.view.Size-len(c.view.Members), 0)
	return c.gone[max(len(c.gone)-places, 0):]
}

// oddNode tells of what should not be.
func (n *narrator) oddNode(now time.Time, event cluster.Event) {
	switch e := event.(type) {
	case cluster.Refused:
		n.log.Warn().Str("address", e.Address).Str("cause", e.Reason).Int("more", e.More).Msg("somebody who is no node of this cluster was refused at cluster.listen")
	case cluster.NameConflict:
		n.nodes.clash, n.nodes.clashed = e, now
		n.log.Error().Str("node", e.Name).Str("address", e.Address).Str("other_address", e.Other).Bool("ours", e.Ours).
			Msg("two nodes have the same name, and one of them is not heard: give each a cluster.node of its own")
	case cluster.ClocksDiffer:
		n.log.Warn().Str("node", e.Node.Name).Stringer("clock_ahead_by", e.By.Round(time.Millisecond)).Msg("a node's clock differs from this one's: let both be set by NTP or PTP")
	case cluster.SizesDiffer:
		n.log.Warn().Str("node", e.Node.Name).Int("their_size", e.Theirs).Int("size", e.Ours).
			Msg("a node is configured for a cluster of another size, of which the greater counts: set cluster.size to the same on all nodes")
	case cluster.PollerShared:
		n.nodes.shared[e.Node.Name] = e.PollerID
		n.log.Error().Str("node", e.Node.Name).Str("poller_id", e.PollerID).Msg("a node has the same poller_id as this one, so that core takes both for one: give each one of its own")
	case cluster.TooMany:
		n.log.Warn().Int("members", e.Members).Int("size", e.Size).Msg("there are more nodes than cluster.size says: set it to how many there are, on all of them")
	case cluster.PacketsDropped:
		if len(n.nodes.dropped) >= mostGone {
			clear(n.nodes.dropped)
		}
		n.nodes.dropped[e.Address]++
		n.log.WithLevel(thinned(zerolog.WarnLevel, n.nodes.dropped[e.Address])).Str("address", e.Address).Int("packets", e.Packets).Err(e.Err).
			Msg("packets to a node were dropped: it is not reached, or too slow")
	case cluster.MessageUnknown:
		n.ignored(zerolog.WarnLevel, e.Kind, e.Version)
	case cluster.NodeMalformed:
		n.log.Warn().Str("node", e.Name).Str("address", e.Address).Str("cause", e.Reason).Msg("a node says of itself what is not understood, and is ignored")
	}
}

// nodeTLS tells that the files of the node's own TLS identity were read again for remoting; nil means that all is well.
func (n *narrator) nodeTLS(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.identityRead(usedByRemoting, err)
	n.clusterCondition(time.Now())
}

// identityRead tells of the files that both listeners follow, each by itself: of the same trouble once.
func (n *narrator) identityRead(usedBy string, err error) {
	before := n.nodes.identity()
	if err == nil {
		delete(n.nodes.broken, usedBy)
	} else {
		n.nodes.broken[usedBy] = err.Error()
	}
	switch after := n.nodes.identity(); {
	case after == "" && before == "":
		n.log.Debug().Str("used_by", usedBy).Msg("the node's certificate and authorities were read again; they count for new connections")
	case after == "":
		n.log.Info().Msg("the files of the node's certificate and authorities can be used again")
	case strings.Map(withoutDigits, after) != strings.Map(withoutDigits, before):
		n.log.Error().Str("error", after).Msg("the files of the node's certificate and authorities can't be used; what was read before stays in use")
	}
}

// identity says what is wrong with the files of the node's own TLS identity; empty if nothing is.
func (c *nodes) identity() string {
	return cmp.Or(c.broken[usedByMembership], c.broken[usedByRemoting])
}
