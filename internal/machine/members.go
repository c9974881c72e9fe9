package machine

import "time"

// NodeID is one life of a node: its name, which is unique in the cluster, and what tells this process from others that
// had, or will have, that name.
type NodeID struct{ Name, Boot string }

// Member is a node that is alive.
type Member struct {
	NodeID
	// Remote is the host:port at which its actors are reached.
	Remote string
	// Weight is its share of the agents relative to others', in thousandths; with 0 it gets none.
	Weight int
	// Hash is that of its configuration, as far as nodes should agree on it.
	Hash string
	// Pins is the hash of its Pins; empty if it has not said, or is of a version without.
	Pins string
	// Draining says that it hands over all it has.
	Draining bool
	// Size is how many nodes its configuration says there should be.
	Size int
	// Agents is how many agents it is configured with, Held how many of them it polls.
	Agents, Held int
	// Version is its program.
	Version string
	// Offset is its cluster time minus ours, and RTT how long a beat and its answer take; both are 0 for ourselves, and before the first answer.
	Offset, RTT time.Duration
}

// ClocksApart is from what difference of clocks people should know.
const ClocksApart = 250 * time.Millisecond

// ClockApart tells whether a member's clock certainly differs so much from ours: what was measured may be wrong by half of the way there
// and back, which is long for a node that stood still.
func (m *Member) ClockApart() bool { return m.Offset.Abs()-m.RTT/2 > ClocksApart }

// View is what a node knows of its cluster at a moment.
type View struct {
	Self NodeID
	// Members are the nodes that are alive, by name; the node itself is one of them.
	Members []Member
	// Size is how many nodes there should be, or are if that is more; Majority is more than half of it.
	Size, Majority int
	// Leased says that a majority lets this node poll, in this Era; the first is 1.
	Leased bool
	Era    uint64
	// Minority says that there is no majority to let it. It is Leased all the same if it is to go on then.
	Minority bool
	// Informed says that a majority has said, in this era, to whom it has given leases. Without that nothing may be started: there may be
	// nodes that poll of which this one knows nothing.
	Informed bool
	// Required are the other nodes that must say of an agent that they don't poll it before this one starts it: those that are alive, and those
	// whose leases may still hold.
	Required []NodeID
	// Losses is how often others have lost sight of this node lately.
	Losses int
}

// Announcement is what a node says of itself to the others, beside who it is.
type Announcement struct {
	Weight       int
	Hash         string
	Draining     bool
	Agents, Held int
	Pins         string
}
