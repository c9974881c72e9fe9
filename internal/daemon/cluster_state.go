package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/serviceradar/poller/actors"
)

// Where the admin server tells of the cluster, and takes orders for nodes of it: POST, with the order and the name of the node, or none for
// this one, as query parameters. Where agents are moved: POST, with their names and that of the node, or none if they are to go where they belong
// by themselves.
const (
	ClusterPath = "/cluster"
	OrderPath   = "/cluster/order"
	MovePath    = "/cluster/move"
	// OrderWhat and OrderNode are the parameters.
	OrderWhat = "what"
	OrderNode = "node"
	// MoveAgent is there for each agent, and MoveTo once.
	MoveAgent = "agent"
	MoveTo    = "to"
)

// What nodes can be told to do.
const (
	OrderDrain  = actors.OrderDrain
	OrderReload = actors.OrderReload
)

// orderTimeout is how long a node has to say that it obeys.
const orderTimeout = 5 * time.Second

// ClusterState is what a node knows of its cluster.
type ClusterState struct {
	Cluster string `json:"cluster"`
	Node    string `json:"node"`
	// Size is how many nodes there should be, Majority how many of them must agree for this one to poll.
	Size     int `json:"size"`
	Majority int `json:"majority"`
	// Polls says that the node may poll: it has the lease. Minority says that it does so without a majority. Era counts its leases.
	Polls    bool   `json:"polls"`
	Minority bool   `json:"minority"`
	Era      uint64 `json:"era"`
	Draining bool   `json:"draining"`
	// Held is how many agents it polls, Claimed how many it is about to, Leaving how many it is handing over.
	Held    int `json:"held"`
	Claimed int `json:"claimed"`
	Leaving int `json:"leaving"`
	// Waiting says of how many claims each node has not said yet that nobody polls them there.
	Waiting map[string]int `json:"waiting,omitempty"`
	// Pinned are the agents that people have moved, and to which nodes; those need not be there.
	Pinned map[string]string `json:"pinned,omitempty"`
	Nodes  []NodeState       `json:"nodes"`
}

// NodeState is what a node knows of one of the nodes.
type NodeState struct {
	Name string `json:"name"`
	// Boot tells this life of the node from others.
	Boot string `json:"boot"`
	// Weight is its share relative to others', in thousandths.
	Weight   int  `json:"weight"`
	Draining bool `json:"draining"`
	// Agents is how many it is configured with, Owned how many it should poll, Held how many it does, as it said last.
	Agents int `json:"agents"`
	Owned  int `json:"owned"`
	Held   int `json:"held"`
	// Config is the hash of what of its configuration nodes should agree on.
	Config string `json:"config"`
	Remote string `json:"remote"`
	// Offset is how far its clock is ahead of this node's, and RTT how long it takes to answer; both in seconds.
	Offset  float64 `json:"clock_offset_seconds"`
	RTT     float64 `json:"rtt_seconds"`
	Version string  `json:"version"`
}

// clusterState asks the actors for what they know.
func (d *Daemon) clusterState(ctx context.Context) (*ClusterState, error) {
	share, err := d.system.Share(ctx)
	if err != nil {
		return nil, err
	}
	v := share.View
	s := &ClusterState{
		Cluster: d.present.Load().config.Cluster.Name, Node: v.Self.Name, Size: v.Size, Majority: v.Majority,
		Polls: v.Leased, Minority: v.Minority, Era: v.Era, Draining: share.Draining,
		Held: share.Held, Claimed: share.Open, Leaving: share.Parting, Waiting: share.Waiting, Pinned: share.Pinned,
	}
	for _, m := range v.Members {
		n := NodeState{
			Name: m.Name, Boot: m.Boot, Weight: m.Weight, Draining: m.Draining, Agents: m.Agents, Owned: share.Owned[m.Name], Held: m.Held, Config: m.Hash,
			Remote: m.Remote, Offset: m.Offset.Seconds(), RTT: m.RTT.Seconds(), Version: m.Version,
		}
		if m.NodeID == v.Self {
			n.Held = share.Held
		}
		s.Nodes = append(s.Nodes, n)
	}
	return s, nil
}

func (d *Daemon) serveCluster(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), orderTimeout)
	defer cancel()
	state, err := d.clusterState(ctx)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(state) // a client that left is none of our business
}

func (d *Daemon) serveOrder(w http.ResponseWriter, r *http.Request) {
	what, node := r.URL.Query().Get(OrderWhat), r.URL.Query().Get(OrderNode)
	if node == "" {
		node = d.present.Load().config.Cluster.Node
	}
	ctx, cancel := context.WithTimeout(r.Context(), orderTimeout)
	defer cancel()
	if err := d.system.Order(ctx, node, what); err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
}

func (d *Daemon) serveMove(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), orderTimeout)
	defer cancel()
	query := r.URL.Query()
	if err := d.system.Move(ctx, query[MoveAgent], query.Get(MoveTo)); err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
	}
}

// obey does what a node was told.
func (d *Daemon) obey(what string) error {
	switch what {
	case actors.OrderDrain:
		d.drain.Do(func() { close(d.toEnd) })
	case actors.OrderReload:
		d.orders.Go(func() { _ = d.Reload(context.Background()) }) // what is wrong is in the log
	default:
		return fmt.Errorf("this node does not know the order %q: it is of another version", what)
	}
	return nil
}

// ToEnd is closed when somebody has told this node to hand over what it has, and to end.
func (d *Daemon) ToEnd() <-chan struct{} { return d.toEnd }
