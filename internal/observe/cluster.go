package observe

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Cluster is how it is with a node and its cluster.
type Cluster struct {
	// Members is how many nodes are alive, this one among them, and Size how many there should be.
	Members, Size int
	// Leased says that this node may poll; Minority that it does so without a majority.
	Leased, Minority bool
	// LeasesLost is how many leases it has lost.
	LeasesLost uint64
	// Held is how many agents it polls.
	Held int
	// Differing is how many others have another configuration.
	Differing int
	// ClockOffset is how far the clock is away that differs most from this node's.
	ClockOffset time.Duration
	// Refused is how many connections to the port of membership were refused, Ignored how many messages there were not understood, and
	// Dropped how many packets were not sent.
	Refused, Ignored, Dropped uint64
}

// Directions in which agents move, and the ports of a node by the keys of their addresses in the configuration.
const (
	movedGiven, movedTaken, movedAway = "given", "taken_over", "handed_over"
	portListen, portRemote            = "listen", "remote"
)

// clusterMetrics are those of a node of a cluster; without one they count, and nobody sees them.
type clusterMetrics struct {
	moves       *prometheus.CounterVec
	claimed     prometheus.Gauge
	suspensions prometheus.Counter
	doubled     prometheus.Counter
	// What came to the port of remoting.
	refused, ignored atomic.Uint64
}

func newClusterMetrics(r family, state func() Cluster) *clusterMetrics {
	if state == nil {
		r = family{prometheus.NewRegistry()}
		state = func() Cluster { return Cluster{} }
	}
	m := &clusterMetrics{
		moves: r.counters("cluster_moves_total", "Agents that moved, by direction: given (to this node, by one that polled them), taken_over (by this node; nobody polled them: "+
			"their node is dead, or all have just started), handed_over (to another node).", "direction", movedGiven, movedTaken, movedAway),
		claimed:     r.gauge("cluster_agents_claimed", "Agents that this node is to poll, and does not yet, because other nodes have not said that they don't."),
		suspensions: r.counter("cluster_suspensions_total", "Times that this node ceased to poll all its agents because its lease was over, or another one than before, until it had asked the others."),
		doubled:     r.counter("cluster_doubled_runs_total", "Turns of agents that this node and another both took, as far as it turned out when they met again."),
	}
	m.compute(r, state)
	return m
}

func (m *clusterMetrics) compute(r family, state func() Cluster) {
	gauge := func(name, help string, value func(c *Cluster) float64) {
		r.computed(name, help, nil, func(set setter) {
			c := state()
			set(value(&c))
		})
	}
	gauge("cluster_members", "Nodes that are alive, this one among them.", func(c *Cluster) float64 { return float64(c.Members) })
	gauge("cluster_size", "Nodes that there should be, or are if that is more: a majority is more than half of them.", func(c *Cluster) float64 { return float64(c.Size) })
	gauge("cluster_leased", "1 if this node may poll, 0 if not.", func(c *Cluster) float64 { return truth(c.Leased) })
	gauge("cluster_minority", "1 if this node polls without a majority, as cluster.on_minority says, so that others may poll the same; 0 if not.", func(c *Cluster) float64 { return truth(c.Minority) })
	gauge("cluster_agents", "Agents that this node polls.", func(c *Cluster) float64 { return float64(c.Held) })
	gauge("cluster_config_differs", "Other nodes whose configuration is not this one's, in what nodes should agree on.", func(c *Cluster) float64 { return float64(c.Differing) })
	gauge("cluster_clock_offset_seconds", "How far the clock of a node is away from this one's, of the node for which that is most.", func(c *Cluster) float64 { return c.ClockOffset.Seconds() })
	r.counted("cluster_leases_lost_total", "Leases that this node had and lost.", nil, func(set setter) { set(float64(state().LeasesLost)) })
	r.counted("cluster_refused_total", "What strangers sent, by the key of the address to which it came: connections to listen, connections and messages to remote.", []string{"port"}, func(set setter) {
		set(float64(state().Refused), portListen)
		set(float64(m.refused.Load()), portRemote)
	})
	r.counted("cluster_messages_ignored_total", "Messages of nodes that this one does not understand, or whose sender it does not know, by the key of the address to which they came.", []string{"port"}, func(set setter) {
		set(float64(state().Ignored), portListen)
		set(float64(m.ignored.Load()), portRemote)
	})
	r.counted("cluster_packets_dropped_total", "Packets of membership that were not sent, because their node is not reached, or too slow.", nil, func(set setter) { set(float64(state().Dropped)) })
}

// Adopted tells that this node polls these agents from now on, of which so many were given to it by other nodes. In a cluster it comes
// before whatever else is told of an agent: what is told of one that is not this node's does not count.
func (m *Metrics) Adopted(agents []string, given int) {
	m.cluster.moves.WithLabelValues(movedGiven).Add(float64(given))
	m.cluster.moves.WithLabelValues(movedTaken).Add(float64(len(agents) - given))
	m.perCheck.hold(agents)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range agents {
		m.held[name] = true
	}
}

// HandedOver tells that these agents are other nodes' from now on.
func (m *Metrics) HandedOver(agents []string) {
	m.cluster.moves.WithLabelValues(movedAway).Add(float64(len(agents)))
	m.Dismissed(agents)
}

// Dismissed tells that these agents, which were suspended, are other nodes' from now on.
func (m *Metrics) Dismissed(agents []string) {
	m.perCheck.release(agents)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range agents {
		delete(m.held, name)
		delete(m.breakers, name)
		if m.parked[name] == agentKind {
			delete(m.parked, name)
		}
	}
}

// Claimed tells how many agents this node is to poll, and does not yet.
func (m *Metrics) Claimed(agents int) { m.cluster.claimed.Set(float64(agents)) }

// Suspended tells that this node polls nothing until it adopts its agents again. Of each check nothing is told until then, for others may
// tell it; breakers are as they are.
func (m *Metrics) Suspended() {
	m.cluster.suspensions.Inc()
	m.perCheck.suspend()
}

// Doubled tells of turns of an agent that two nodes took.
func (m *Metrics) Doubled(runs int) { m.cluster.doubled.Add(float64(runs)) }

// RemoteRefused tells of something at the port of remoting that is no node's.
func (m *Metrics) RemoteRefused() { m.cluster.refused.Add(1) }

// EnvelopeIgnored tells of a message to the port of remoting that this node does not understand.
func (m *Metrics) EnvelopeIgnored() { m.cluster.ignored.Add(1) }
