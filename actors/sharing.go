package actors

import (
	"time"

	"github.com/asynkron/protoactor-go/actor"

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
		member := e.pid(memberName)
		o.Receive(func(envelope *cluster.Envelope) { e.send(member, envelope) })
		return nil
	}
	e.post = func(remote string, envelope *cluster.Envelope) { e.send(actor.NewPID(remote, memberPID), envelope) }
	s.remote, err = startRemote(e.system, o.Remoting, e.Observe)
	return err
}
