package machine

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
)

// mostPins bounds how many agents may be pinned, or have been: each node tells the others all of them at once.
const mostPins = 10_000

// Pin says which node is to poll an agent, whoever would own it else.
type Pin struct {
	// Node is its name; empty if the agent goes where it belongs by itself.
	Node string
	// Stamp tells which of two pins counts: that with the later one. It is when it was set, in nanoseconds of cluster time by the clock of
	// whoever set it, or more, so that it is later than that which it replaces.
	Stamp int64
}

// supersedes tells whether a pin counts and the other does not. Of two of the same stamp any will do, if it is the same one for all nodes.
func (p Pin) supersedes(other Pin) bool {
	return p.Stamp > other.Stamp || p.Stamp == other.Stamp && p.Node > other.Node
}

// Pins are what a node knows of the agents that people have moved. Nodes that have told each other all they know have the same, in whatever
// order, and however often, they did. So what was moved back has to be remembered, too: else a node that has not heard of it would move it
// again. Pins decide nothing but who should poll an agent; that no two nodes do is Claims' to see to.
//
// It is not safe for concurrent use.
type Pins struct {
	all  map[string]Pin // by agents
	hash string
}

// NewPins returns those of a node that knows of none.
func NewPins() *Pins {
	p := &Pins{all: make(map[string]Pin)}
	p.rehash()
	return p
}

// Set pins agents to a node, or to none, at a time of the cluster's in nanoseconds; from now on that is what counts. An error says that
// there is no room for them, and then nothing has changed.
func (p *Pins) Set(agents []string, node string, now int64) error {
	more := make(map[string]bool)
	for _, agent := range agents {
		if _, known := p.all[agent]; !known {
			more[agent] = true
		}
	}
	if len(p.all)+len(more) > mostPins {
		return fmt.Errorf("%d agents more can't be moved: %d were, of at most %d, and those that were moved back count until all nodes are down at once",
			len(more), len(p.all), mostPins)
	}
	for _, agent := range agents {
		stamp := now
		if before, known := p.all[agent]; known {
			stamp = max(stamp, before.Stamp+1)
		}
		p.all[agent] = Pin{Node: node, Stamp: stamp}
	}
	p.rehash()
	return nil
}

// Merge takes in what another node knows, and returns the agents that are pinned to another node than before, or to none any more, sorted.
func (p *Pins) Merge(theirs map[string]Pin) (changed []string) {
	learnt := false
	for agent, pin := range theirs {
		ours, known := p.all[agent]
		if known && !pin.supersedes(ours) {
			continue
		}
		p.all[agent], learnt = pin, true
		if pin.Node != ours.Node {
			changed = append(changed, agent)
		}
	}
	if learnt {
		p.rehash()
	}
	slices.Sort(changed)
	return changed
}

// All returns a copy of what there is to tell another node.
func (p *Pins) All() map[string]Pin { return maps.Clone(p.all) }

// Pinned returns the node of each agent that is pinned to one.
func (p *Pins) Pinned() map[string]string {
	pinned := make(map[string]string)
	for agent, pin := range p.all {
		if pin.Node != "" {
			pinned[agent] = pin.Node
		}
	}
	return pinned
}

// Hash is the same for two nodes if, and as far as anybody can tell only if, they know the same. It is never empty, so a node that
// says nothing of pins is told from one that has none.
func (p *Pins) Hash() string { return p.hash }

func (p *Pins) rehash() {
	h := sha256.New()
	for _, agent := range slices.Sorted(maps.Keys(p.all)) {
		pin := p.all[agent]
		_, _ = fmt.Fprintf(h, "%s\x00%s\x00%d\x00", agent, pin.Node, pin.Stamp) // names have no such byte, and a hash takes whatever it is given
	}
	p.hash = hex.EncodeToString(h.Sum(nil)[:8])
}

// Place changes what Owners has returned for sorted agents: those that are pinned go to their node, if it is a pinnable member of a weight above 0
// that knows them. Nothing else moves for that, neither to make room nor to fill it, so people see happen just what they asked for.
func (p *Pins) Place(owners []int, members []Node, agents []string, knows func(member, agent int) bool) {
	places := make(map[string]int, len(members))
	for i := range members {
		places[members[i].Name] = i
	}
	for name, pin := range p.all {
		member, alive := places[pin.Node]
		if !alive || members[member].Weight <= 0 || !members[member].Pinnable {
			continue
		}
		if agent, configured := slices.BinarySearch(agents, name); configured && (knows == nil || knows(member, agent)) {
			owners[agent] = member
		}
	}
}
