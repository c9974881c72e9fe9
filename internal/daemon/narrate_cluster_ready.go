package daemon

import (
	"fmt"
	"strings"
	"time"

	"github.com/serviceradar/poller/internal/machine"
)

// clusterCondition: a node that may not poll can't be relied on. Whatever else is odd is explained.
func (n *narrator) clusterCondition(now time.Time) {
	n.board.SetLazy(now, conditionCluster, n.nodes.view != nil && n.nodes.view.Leased, n.clusterDetail)
}

// clusterDetail is for those who read the board.
func (n *narrator) clusterDetail() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := &n.nodes
	var details []string
	if c.view == nil {
		details = append(details, "starting: this node has not looked for others yet")
	} else {
		details = append(c.majority(), c.oddities()...)
	}
	if c.claims.Agents > 0 {
		details = append(details, fmt.Sprintf("agents that wait to be polled here: %d%s", c.claims.Agents, c.waiting()))
	}
	if c.clash.Name != "" && time.Since(c.clashed) < conflictLasts {
		details = append(details, fmt.Sprintf("two nodes have the name %s: one at %s, which is heard, and one at %s, which is not", c.clash.Name, c.clash.Address, c.clash.Other))
	}
	if wrong := c.identity(); wrong != "" {
		details = append(details, "the files of the node's certificate and authorities can't be used, and what was read before stays in use: "+wrong)
	}
	return strings.Join(details, "; ")
}

// majority says whether and why this node may not poll, or does so without a majority, and who is missing.
func (c *nodes) majority() (details []string) {
	v := c.view
	switch alive := fmt.Sprintf("%d of %d nodes are alive", len(v.Members), v.Size); {
	case !v.Leased && isDraining(v):
		return []string{"this node leaves the cluster, and polls nothing any more"}
	case !v.Leased && len(v.Members) < v.Majority:
		details = append(details, fmt.Sprintf("this node may not poll: %s, and a majority is %d", alive, v.Majority))
	case !v.Leased:
		details = append(details, fmt.Sprintf("this node may not poll: %s, but a majority, which is %d, has not let it yet", alive, v.Majority))
	case v.Minority:
		details = append(details, fmt.Sprintf("this node polls without a majority, as cluster.on_minority says, and others may poll the same: %s, and a majority is %d", alive, v.Majority))
	case len(v.Members) < v.Size:
		details = append(details, alive)
	}
	var missing []string
	for _, g := range c.missing() {
		missing = append(missing, fmt.Sprintf("%s, which %s", g.name, g.how))
	}
	who := some(missing)
	if unseen := v.Size - len(v.Members) - len(missing); unseen > 0 && c.silent == "" {
		if who != "" {
			who += ", and "
		}
		who += fmt.Sprintf("%d that this node has not seen yet", unseen)
	}
	if who != "" {
		details = append(details, "missing: "+who)
	}
	if c.silent != "" {
		details = append(details, c.silent)
	}
	return details
}

// oddities says what is odd about the nodes.
func (c *nodes) oddities() (details []string) {
	var self machine.Member
	most := 0
	for _, m := range c.view.Members {
		most = max(most, m.Size)
		if m.NodeID == c.view.Self {
			self = m
		}
	}
	if len(c.view.Members) > most && most > 0 {
		details = append(details, fmt.Sprintf("%d nodes are alive, and cluster.size is %d", len(c.view.Members), most))
	}
	if names := differing(c.view); len(names) > 0 {
		details = append(details, "nodes with another configuration than this one: "+some(names))
	}
	for _, m := range c.view.Members {
		if id := c.shared[m.Name]; id != "" {
			details = append(details, fmt.Sprintf("node %s has the same poller_id as this one, %s, so that core takes both for one", m.Name, id))
		}
		if m.Size != 0 && m.Size != self.Size {
			details = append(details, fmt.Sprintf("cluster.size is %d for node %s, and %d for this one: the greater counts", m.Size, m.Name, self.Size))
		}
		switch by := m.Offset.Round(time.Millisecond); {
		case m.ClockApart() && by > 0:
			details = append(details, fmt.Sprintf("the clock of node %s is %v ahead of this one's", m.Name, by))
		case m.ClockApart():
			details = append(details, fmt.Sprintf("the clock of node %s is %v behind this one's", m.Name, -by))
		}
	}
	return details
}

// waiting says who keeps agents waiting.
func (c *nodes) waiting() string {
	var names []string
	for name, agents := range c.claims.Waiting {
		names = append(names, fmt.Sprintf("%s for %d", name, agents))
	}
	if len(names) == 0 {
		return ""
	}
	return ", until these nodes have said that they don't poll them: " + some(names)
}
