package daemon

import (
	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/internal/cluster"
	"github.com/serviceradar/poller/internal/machine"
	"github.com/serviceradar/poller/internal/observe"
)

// sharing takes an event of a node of a cluster; false if it is of another kind.
func (m measurer) sharing(event actors.Event) bool {
	switch e := event.(type) {
	case actors.Adopted:
		m.Adopted(e.Agents, e.Given)
	case actors.HandedOver:
		m.HandedOver(e.Agents)
	case actors.Dismissed:
		m.Dismissed(e.Agents)
	case actors.Suspended:
		m.Suspended()
	case actors.Claiming:
		m.Claimed(e.Agents)
	case actors.Doubled:
		m.Doubled(e.Runs)
	case actors.RemoteRefused:
		m.RemoteRefused()
	case actors.EnvelopeUnknown:
		m.EnvelopeIgnored()
	default:
		return false
	}
	return true
}

// ofCluster tells of the cluster as it is now. Nobody may call it before all has started.
func (d *Daemon) ofCluster() observe.Cluster { return measured(d.cluster.View(), d.cluster.Counts()) }

func measured(v *machine.View, counts cluster.Counts) observe.Cluster {
	c := observe.Cluster{
		Members: len(v.Members), Size: v.Size, Leased: v.Leased, Minority: v.Leased && v.Minority, LeasesLost: v.Era,
		Refused: counts.Refused, Ignored: counts.Ignored, Dropped: counts.Dropped, Differing: len(differing(v)),
	}
	if !v.Minority && v.Era > 0 { // the last one holds
		c.LeasesLost--
	}
	for _, m := range v.Members {
		if m.NodeID == v.Self {
			c.Held = m.Held
		}
		c.ClockOffset = max(c.ClockOffset, m.Offset.Abs())
	}
	return c
}

// differing returns the names of the nodes whose configuration is not this one's, as far as they have said.
func differing(v *machine.View) []string {
	ours := ""
	for _, m := range v.Members {
		if m.NodeID == v.Self {
			ours = m.Hash
		}
	}
	var names []string
	for _, m := range v.Members {
		if m.Hash != "" && ours != "" && m.Hash != ours {
			names = append(names, m.Name)
		}
	}
	return names
}
