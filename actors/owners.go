package actors

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/machine"
	"github.com/serviceradar/poller/proto/cluster"
)

// owners is who owns which agent, by the last view.
type owners struct {
	config *config.Config
	hash   string
	agents []string // of the configuration, sorted
	nodes  []machine.Node
	hashes []string // of the nodes' configurations
	pinned string   // the hash of the pins
	owned  []int    // by agents' places: the node's
	ours   []string // what this node owns, sorted; the same slice as long as that is the same
	self   int      // this node's place among the nodes
	// names are the agents of other configurations, by their hashes; learnt says that there are new ones. Wanted is when a node was asked for its own.
	names  map[string]map[string]bool
	learnt bool
	wanted map[string]time.Time
}

// own finds out anew who owns what, if anything changed.
func (o *owners) own(v *machine.View, cfg *config.Config, pins *machine.Pins) {
	changed := o.learnt || o.pinned != pins.Hash()
	if o.config != cfg {
		o.config, o.hash, changed = cfg, cfg.PollingHash(), true
		o.agents = make([]string, len(cfg.Agents))
		known := make(map[string]bool, len(cfg.Agents))
		for i, a := range cfg.Agents {
			o.agents[i] = a.Name
			known[a.Name] = true
		}
		o.names[o.hash] = known
	}
	nodes, hashes, self := make([]machine.Node, 0, len(v.Members)), make([]string, 0, len(v.Members)), -1
	for _, member := range v.Members {
		weight, hash := member.Weight, member.Hash
		if member.Draining {
			weight = 0
		}
		pinnable := member.Pins != "" // one of a version without pins would not take what others leave to it
		if member.NodeID == v.Self {
			self, hash, pinnable = len(nodes), o.hash, true
		}
		nodes, hashes = append(nodes, machine.Node{Name: member.Name, Weight: weight, Pinnable: pinnable}), append(hashes, hash)
	}
	if !changed && self == o.self && slices.Equal(nodes, o.nodes) && slices.Equal(hashes, o.hashes) {
		return
	}
	o.nodes, o.hashes, o.self, o.learnt, o.pinned = nodes, hashes, self, false, pins.Hash()
	maps.DeleteFunc(o.names, func(hash string, _ map[string]bool) bool { // of configurations that nobody has any more
		return hash != o.hash && !slices.Contains(o.hashes, hash)
	})
	knows := o.knows()
	o.owned = machine.Owners(nodes, o.agents, knows)
	pins.Place(o.owned, nodes, o.agents, knows)
	ours := make([]string, 0, len(o.ours))
	for i, owner := range o.owned {
		if owner == self && self >= 0 {
			ours = append(ours, o.agents[i])
		}
	}
	if !slices.Equal(ours, o.ours) {
		o.ours = ours
	}
}

// knows returns which node knows which agent, as far as that is known; nil if all have the same configuration. One that has not
// said yet counts as if it knew all, so that nothing moves for it.
func (o *owners) knows() func(node, agent int) bool {
	if !slices.ContainsFunc(o.hashes, func(hash string) bool { return hash != o.hash }) {
		return nil
	}
	sets := make([]map[string]bool, len(o.hashes))
	for i, hash := range o.hashes {
		sets[i] = o.names[hash]
	}
	return func(node, agent int) bool { return sets[node] == nil || sets[node][o.agents[agent]] }
}

// owner returns the name of the node that owns an agent; empty if none does.
func (o *owners) owner(agent string) string {
	at, known := slices.BinarySearch(o.agents, agent)
	if !known || at >= len(o.owned) || o.owned[at] < 0 {
		return ""
	}
	return o.nodes[o.owned[at]].Name
}

func (o *owners) configured(agent string) bool {
	_, known := slices.BinarySearch(o.agents, agent)
	return known
}

func (o *owners) isOurs(agent string) bool {
	_, found := slices.BinarySearch(o.ours, agent)
	return found
}

// anybodyElse tells whether there is another node to which agents could go.
func (o *owners) anybodyElse(v *machine.View) bool {
	for i, node := range o.nodes {
		if i != o.self && node.Weight > 0 {
			return v.Leased
		}
	}
	return false
}

// count returns how many agents each node owns.
func (o *owners) count() map[string]int {
	n := make(map[string]int, len(o.nodes))
	for _, node := range o.nodes {
		n[node.Name] = 0
	}
	for _, owner := range o.owned {
		if owner >= 0 {
			n[o.nodes[owner].Name]++
		}
	}
	return n
}

// learn takes the names of the agents of another configuration.
func (o *owners) learn(n *cluster.Names) {
	if o.names[n.GetHash()] != nil || !slices.Contains(o.hashes, n.GetHash()) {
		return
	}
	known := make(map[string]bool, len(n.GetAgents()))
	for _, agent := range n.GetAgents() {
		known[strings.Clone(agent)] = true
	}
	o.names[n.GetHash()], o.learnt = known, true
}

// wantUnknownNames asks nodes with another configuration which agents they know.
func (m *member) wantUnknownNames(now time.Time) {
	for _, other := range m.view.Members {
		if other.Hash == "" || m.names[other.Hash] != nil || other.NodeID == m.view.Self || now.Sub(m.wanted[other.Hash]) < wantNamesEvery {
			continue
		}
		again := !m.wanted[other.Hash].IsZero()
		m.wanted[other.Hash] = now
		m.insist(again, other.NodeID, kindWantNames, &cluster.WantNames{From: nodeOf(m.view.Self), Hash: other.Hash})
	}
	if len(m.wanted) > 1000 {
		clear(m.wanted)
	}
}

// tellNames answers a node that does not know our configuration.
func (m *member) tellNames(w *cluster.WantNames) {
	if w.GetHash() == m.hash {
		m.send(idOf(w.GetFrom()), kindNames, &cluster.Names{From: nodeOf(m.view.Self), Hash: m.hash, Agents: m.agents})
	}
}
