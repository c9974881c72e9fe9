package cluster

import (
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/serviceradar/poller/proto/cluster"
)

// Where a link is broken, or loses much, beats go by way of other nodes, too. Memberlist has nodes for alive that only others reach; what they
// say of themselves has to come, too, lest nodes differ about who owns what.

const (
	// unreachedFor is how long a node may go without answering what it was asked directly, before it is asked by way of others, too.
	unreachedFor = 500 * time.Millisecond
	// mostWays is how many others a beat goes by.
	mostWays = 2
)

// isReached tells whether a member is taken to be reached without others, as a new one is for a moment.
func (m *member) isReached(now time.Time) bool {
	return now.Sub(m.reached) < unreachedFor || now.Sub(m.since) < unreachedFor
}

// byOthers returns an envelope to a member by way of some that are reached; c.mu is held.
func (c *Cluster) byOthers(to *member, e *pb.Envelope, now time.Time) []outgoing {
	var all []outgoing
	for _, m := range c.members { // in an order that is another one each time
		if m != to && !m.leaving && m.isReached(now) && len(all) < mostWays {
			all = append(all, c.by(m, to, e))
		}
	}
	return all
}

// by returns an envelope to a member by way of another.
func (c *Cluster) by(way, to *member, e *pb.Envelope) outgoing {
	return outgoing{way.node, marshal(seal(kindPassed, &pb.Passed{From: nodeOf(c.self), To: nodeOf(to.id), Envelope: e}))}
}

// pass takes in what goes by way of another node: it is passed on, or has come; c.mu is held.
func (c *Cluster) pass(p *pb.Passed, now time.Time) []outgoing {
	if idOf(p.GetTo()) != c.self {
		to := c.members[p.GetTo().GetName()]
		if to == nil || to.id != idOf(p.GetTo()) || p.GetBy() != nil {
			c.ignored.Add(1)
			return nil
		}
		p.By = nodeOf(c.self)
		return []outgoing{{to.node, marshal(seal(kindPassed, p))}}
	}
	way := c.members[p.GetBy().GetName()]
	var b pb.Beat
	if e := p.GetEnvelope(); way == nil || way.id != idOf(p.GetBy()) || e.GetKind() != kindBeat || e.GetVersion() != version || proto.Unmarshal(e.GetBody(), &b) != nil {
		c.ignored.Add(1)
		return nil
	}
	return c.hear(&b, way, now)
}
