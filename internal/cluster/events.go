package cluster

import (
	"time"

	"github.com/serviceradar/poller/internal/machine"
)

// Event is something that people or metrics want to know; its types are below. They are plain values, safe to keep.
type Event any

// MemberJoined says: a node is alive that was not.
type MemberJoined struct {
	Node machine.NodeID
	// Address is where it listens for us, Remote where its actors are reached.
	Address, Remote string
}

// MemberDied says: a node does not answer any more, or another life of it has begun, and it did not take its leave.
type MemberDied struct {
	Node    machine.NodeID
	Address string
	// Losses is how often that happened to a node of this name lately.
	Losses int
}

// MemberLeft says: a node has given up its lease, and goes.
type MemberLeft struct {
	Node    machine.NodeID
	Address string
}

// SeedsSilent says: no other node is known, and none of the seeds let us in. They are tried on. It is told again when Err
// differs, and else once a minute.
type SeedsSilent struct{ Err error }

// SeedsFound says: after SeedsSilent, another node is known.
type SeedsFound struct{}

// Refused says: somebody connected who is no node of this cluster.
type Refused struct {
	// Address is theirs.
	Address string
	// Reason is what was wrong with them, and what to do if they are one of ours.
	Reason string
	// More is how many others were refused for this reason, from the same host, since that was told last.
	More int
}

// NameConflict says: two nodes that are alive have the same name, for some time. One of them is not heard.
type NameConflict struct {
	Name string
	// Address is that of the one that is heard here, Other that of the one that is not.
	Address, Other string
	// Ours says that it is our own name.
	Ours bool
}

// ClocksDiffer says: a node's clock is By ahead of ours; behind if that is negative.
type ClocksDiffer struct {
	Node machine.NodeID
	By   time.Duration
}

// SizesDiffer says: a node is configured for a cluster of Theirs nodes, and this one for Ours. The greater counts for both.
type SizesDiffer struct {
	Node         machine.NodeID
	Theirs, Ours int
}

// PollerShared says: a node has the same poller_id as this one, so core takes both for one.
type PollerShared struct {
	Node     machine.NodeID
	PollerID string
}

// TooMany says: there are more nodes than the cluster's size, so that a majority of it is none of them.
type TooMany struct{ Members, Size int }

// PacketsDropped says: what was to be sent to a member was not, because it is not reached, or too slow.
type PacketsDropped struct {
	Address string
	Err     error
	// Packets is how many, since that was told last.
	Packets int
}

// MessageUnknown says: a node sent what this one does not know, and ignores; it may be of a newer version. Told once for each.
type MessageUnknown struct{ Kind, Version uint32 }

// NodeMalformed says: a node says of itself what can't be understood, and is ignored; it may be of another version.
type NodeMalformed struct {
	Name, Address string
	Reason        string
}

// IdentityRead says: the files of our own TLS identity were read again for those who connect to us; with an error
// they can't be used, and what was there before stays in use.
type IdentityRead struct{ Err error }

// Counts are what was counted since the start.
type Counts struct {
	// Refused is how many connections were, by TCP and by UDP.
	Refused uint64
	// Dropped is how many packets were not sent.
	Dropped uint64
	// Ignored is how many messages were: of unknown kinds or versions, malformed, or of lives that are not members.
	Ignored uint64
}
