package actors

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/serviceradar/poller/internal/machine"
	"github.com/serviceradar/poller/proto/cluster"
)

// What a node can be told to do by another.
const (
	// OrderDrain has it hand over all its agents, and end.
	OrderDrain = "drain"
	// OrderReload has it load its configuration again.
	OrderReload = "reload"
)

// orders are those that this node gives, and has obeyed.
type orders struct {
	last    uint64
	waiting map[uint64]*order
	// obeyed are the newest of each node, and what came of them.
	obeyed map[machine.NodeID]*cluster.Obeyed
}

// order is one that was not answered yet.
type order struct {
	to     machine.NodeID
	what   string
	sent   time.Time
	answer chan<- error
	ctx    context.Context //nolint:containedctx // it is a message's
}

// orderGiven: System.Order → member.
type orderGiven struct {
	node   string
	what   string
	answer chan<- error // has room for one
	ctx    context.Context
}

var errNoCluster = errors.New("this poller is in no cluster: [cluster] enabled is not true in its configuration")

func errNoNode(name string) error {
	return fmt.Errorf("there is no node %s in the cluster that is alive: poller cluster shows those that are", name)
}

// Order has a node do something, and waits until it says that it does; the name may be this node's.
func (s *System) Order(ctx context.Context, node, what string) error {
	if s.env.cluster == nil {
		return errNoCluster
	}
	answer := make(chan error, 1)
	s.env.send(s.env.member, orderGiven{node: node, what: what, answer: answer, ctx: ctx})
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return fmt.Errorf("tell node %s to %s: it does not answer: %w", node, what, context.Cause(ctx))
	case <-s.stopped:
		return errStopping
	}
}

// give tells another node what to do, until it answers.
func (m *member) give(o orderGiven, now time.Time) {
	for _, other := range m.view.Members {
		if other.Name != o.node {
			continue
		}
		if other.NodeID == m.view.Self {
			o.answer <- m.env.obey(o.what)
			return
		}
		m.orders.last++
		if m.orders.waiting == nil {
			m.orders.waiting = make(map[uint64]*order)
		}
		m.orders.waiting[m.orders.last] = &order{to: other.NodeID, what: strings.ToValidUTF8(o.what, "\uFFFD"), answer: o.answer, ctx: o.ctx}
		m.repeatOrders(now)
		return
	}
	o.answer <- errNoNode(o.node)
}

// repeatOrders sends orders again that were not answered.
func (m *member) repeatOrders(now time.Time) {
	maps.DeleteFunc(m.orders.waiting, func(_ uint64, o *order) bool { return o.ctx.Err() != nil })
	for id, o := range m.orders.waiting {
		if now.Sub(o.sent) >= repeatAfter {
			again := !o.sent.IsZero()
			o.sent = now
			m.insist(again, o.to, kindOrder, &cluster.Order{From: nodeOf(m.view.Self), Id: id, What: o.what})
		}
	}
}

// ordered does what another node says, once.
func (m *member) ordered(o *cluster.Order) {
	from := idOf(o.GetFrom())
	if !m.isAlive(from) {
		return
	}
	answer := m.orders.obeyed[from]
	if answer == nil || answer.GetId() < o.GetId() {
		answer = &cluster.Obeyed{From: nodeOf(m.view.Self), Id: o.GetId()}
		if err := m.env.obey(o.GetWhat()); err != nil {
			answer.Error = err.Error()
		}
		if m.orders.obeyed == nil {
			m.orders.obeyed = make(map[machine.NodeID]*cluster.Obeyed)
		}
		maps.DeleteFunc(m.orders.obeyed, func(id machine.NodeID, _ *cluster.Obeyed) bool { return !m.isAlive(id) })
		m.orders.obeyed[from] = answer
		m.env.Observe(Ordered{By: from.Name, What: o.GetWhat(), Refused: answer.GetError()})
	}
	if answer.GetId() == o.GetId() {
		m.send(from, kindObeyed, answer)
	}
}

func (m *member) obeyed(o *cluster.Obeyed) {
	waiting := m.orders.waiting[o.GetId()]
	if waiting == nil || waiting.to != idOf(o.GetFrom()) {
		return
	}
	delete(m.orders.waiting, o.GetId())
	var err error
	if o.GetError() != "" {
		err = fmt.Errorf("node %s refuses to %s: %s", waiting.to.Name, waiting.what, o.GetError())
	}
	waiting.answer <- err
}

// HandOver hands all agents over to other nodes, and takes none any more. It returns when that is done, there is no other node to take
// them, or ctx ends, with an error then. Without a cluster it does nothing.
func (s *System) HandOver(ctx context.Context) error {
	if s.env.cluster == nil {
		return nil
	}
	done := make(chan struct{})
	finish := sync.OnceFunc(func() { close(done) })
	again := time.NewTicker(time.Second) // its actor may be about to start, for the first time or again
	defer again.Stop()
	for {
		s.env.send(s.env.member, handAllOver{done: finish})
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("hand all agents over to other nodes: %w", context.Cause(ctx))
		case <-s.stopped:
			return errStopping
		case <-again.C:
		}
	}
}

// ViewChanged says that the cluster's View may be another one.
func (s *System) ViewChanged() { s.env.send(s.env.member, viewChanged{}) }

// Share returns how it is with this node and its cluster; an error without a cluster, or if nobody answers before ctx ends.
func (s *System) Share(ctx context.Context) (Share, error) {
	if s.env.cluster == nil {
		return Share{}, errNoCluster
	}
	answer := make(chan Share, 1)
	s.env.send(s.env.member, shareAsked{answer: answer})
	select {
	case share := <-answer:
		return share, nil
	case <-ctx.Done():
		return Share{}, errors.New("the actor that knows of the cluster does not answer")
	}
}

// share says how it is with this node.
func (m *member) share() Share {
	s := Share{View: m.view, Draining: m.draining, Held: m.claims.HeldCount(), Open: m.claims.Open(), Parting: len(m.parting), Waiting: m.waiting()}
	s.Owned, s.Pinned = m.count(), m.pins.Pinned()
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
	// Pinned are the agents that were moved, and to which nodes, alive or not.
	Pinned map[string]string
}
