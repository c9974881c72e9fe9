package observe_test

import (
	"strings"
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/observe"
)

// ofANode returns the metrics of a node of a cluster.
func ofANode(perCheck bool) *observe.Metrics {
	from := sources(perCheck)
	from.Cluster = func() observe.Cluster { return observe.Cluster{} }
	return observe.NewMetrics(from)
}

// TestOfTheCluster: what a node knows of its cluster, and what happened to it.
func TestOfTheCluster(t *testing.T) {
	t.Parallel()
	m := everything() // 20 agents were adopted, 5 of them given
	m.HandedOver([]string{"agent-00000", "agent-00001"})
	m.Dismissed([]string{"agent-00002"})
	m.Claimed(9)
	m.Claimed(8)
	m.Suspended()
	m.Doubled(3)
	m.Doubled(4)
	m.RemoteRefused()
	m.EnvelopeIgnored()
	m.EnvelopeIgnored()
	want(t, m, map[string]string{
		`poller_cluster_members`: "2", `poller_cluster_size`: "3", `poller_cluster_leased`: "1", `poller_cluster_minority`: "1",
		`poller_cluster_leases_lost_total`: "4", `poller_cluster_agents`: "20", `poller_cluster_agents_claimed`: "8",
		`poller_cluster_config_differs`: "1", `poller_cluster_clock_offset_seconds`: "0.3",
		`poller_cluster_moves_total{direction="given"}`: "5", `poller_cluster_moves_total{direction="taken_over"}`: "15",
		`poller_cluster_moves_total{direction="handed_over"}`: "2",
		`poller_cluster_suspensions_total`:                    "1", `poller_cluster_doubled_runs_total`: "7",
		`poller_cluster_refused_total{port="listen"}`: "5", `poller_cluster_refused_total{port="remote"}`: "1",
		`poller_cluster_messages_ignored_total{port="listen"}`: "6", `poller_cluster_messages_ignored_total{port="remote"}`: "2",
		`poller_cluster_packets_dropped_total`:        "7",
		`poller_actors_parked{actor="member"}`:        "0",
		`poller_actor_restarts_total{actor="member"}`: "0",
		`poller_agents`: "20",
	})
}

// TestNoClusterHasNoSeries: a poller that is no node of a cluster tells of none.
func TestNoClusterHasNoSeries(t *testing.T) {
	t.Parallel()
	for name := range values(t, observe.NewMetrics(sources(true))) {
		if strings.HasPrefix(name, "poller_cluster_") || strings.Contains(name, `"member"`) {
			t.Errorf("there is %s", name)
		}
	}
}

// TestOfOthersAgents: of an agent that is another node's nothing is left but in sums, and what is still to come of it does not count.
func TestOfOthersAgents(t *testing.T) {
	t.Parallel()
	agents := fleet(4, 2, 1)
	m := ofANode(true)
	m.Agents(agents)
	m.BreakerMoved("agent-00000", "open") // it is nobody's yet
	m.ActorFailed("agent", "agent-00000", true)
	want(t, m, map[string]string{`poller_breakers{state="closed"}`: "0", `poller_breakers{state="open"}`: "0", `poller_actors_parked{actor="agent"}`: "0"})

	m.Adopted(names(agents[:3]), 0)
	for _, name := range names(agents) {
		m.BreakerMoved(name, "open")
		m.ActorFailed("agent", name, true)
	}
	m.BreakerMoved("agent-00002", "closed")
	all := statusesOf(agents)
	m.CycleClosed(all, time.Second)
	const first, second, last = `probe_success{agent="agent-00000",check="check-1",type="type-0"}`,
		`probe_success{agent="agent-00001",check="check-0",type="type-0"}`, `probe_success{agent="agent-00003",check="check-0",type="type-0"}`
	want(t, m, map[string]string{
		`poller_breakers{state="closed"}`: "1", `poller_breakers{state="open"}`: "2", `poller_actors_parked{actor="agent"}`: "3",
		first: "1", second: "1", last: "",
	})

	m.HandedOver(names(agents[:1]))
	m.Dismissed(names(agents[2:3]))
	want(t, m, map[string]string{`poller_breakers{state="closed"}`: "0", `poller_breakers{state="open"}`: "1", first: "", second: "1"})
	m.BreakerMoved("agent-00000", "open")
	m.ActorFailed("agent", "agent-00000", true)
	m.CycleClosed(all[:3], time.Second) // of the cycle that was open
	want(t, m, map[string]string{
		`poller_breakers{state="closed"}`: "0", `poller_breakers{state="open"}`: "1", `poller_actors_parked{actor="agent"}`: "1",
		first: "", second: "1",
	})
	m.Agents(agents) // as after a reload
	m.CycleClosed(all, time.Second)
	want(t, m, map[string]string{first: "", second: "1", `poller_breakers{state="open"}`: "1"})

	m.Suspended() // it may be another's by now
	m.CycleClosed(all, time.Second)
	want(t, m, map[string]string{second: ""})
	m.Agents(agents)
	m.CycleClosed(all, time.Second)
	want(t, m, map[string]string{second: "", `poller_breakers{state="open"}`: "1"})
	m.Adopted(names(agents[:2]), 1)
	m.CycleClosed(all, time.Second)
	want(t, m, map[string]string{first: "1", second: "1", `poller_breakers{state="closed"}`: "1", `poller_breakers{state="open"}`: "1"})

	m.Agents(agents[1:]) // one is not configured any more
	want(t, m, map[string]string{first: "", second: "1", `poller_breakers{state="closed"}`: "0", `poller_breakers{state="open"}`: "1"})
	m.PerCheck(false)
	m.Agents(agents[1:])
	m.PerCheck(true)
	m.Agents(agents[1:])
	m.CycleClosed(all, time.Second)
	want(t, m, map[string]string{first: "", second: "1", last: ""})
}

// statusesOf returns for each check that it is available.
func statusesOf(agents []*check.Agent) []check.Status {
	var all []check.Status
	for _, a := range agents {
		for i := range a.Checks {
			all = append(all, check.Status{Agent: a, Check: &a.Checks[i], Available: true})
		}
	}
	return all
}
