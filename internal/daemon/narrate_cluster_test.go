package daemon

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/cluster"
	"github.com/serviceradar/poller/internal/machine"
	"github.com/serviceradar/poller/internal/observe"
)

// TestReadinessOfANode follows a node through what can happen to a cluster of three: whether it can be relied on, and what it says.
func TestReadinessOfANode(t *testing.T) {
	t.Parallel()
	clockOf := func(name string, by time.Duration) func(*machine.View) {
		return func(v *machine.View) { v.Members[indexOf(v, name)].Offset = by }
	}
	sizeOf := func(name string, size int) func(*machine.View) {
		return func(v *machine.View) {
			v.Members[indexOf(v, name)].Size = size
			v.Size, v.Majority = size, size/2+1
		}
	}
	synctest.Test(t, func(t *testing.T) {
		board := new(observe.Board)
		n := newNode(zerolog.Nop(), board)
		if ok, detail := conditionOf(t, board, conditionCluster); ok || detail != "starting: this node has not looked for others yet" {
			t.Errorf("at the start it is %v, and says %q", ok, detail)
		}
		for _, step := range []struct {
			name  string
			event any
			ok    bool
			says  string // all of it
		}{
			{"alone", seen(viewOf(false, "a")), false, "this node may not poll: 1 of 3 nodes are alive, and a majority is 2; missing: 2 that this node has not seen yet"},
			{"no seed answers", cluster.SeedsSilent{Err: errSeeds}, false, "this node may not poll: 1 of 3 nodes are alive, and a majority is 2; " + errSeeds.Error()},
			{"one does", cluster.SeedsFound{}, false, "this node may not poll: 1 of 3 nodes are alive, and a majority is 2; missing: 2 that this node has not seen yet"},
			{"it joins", cluster.MemberJoined{Node: nodeID("b")}, false, "this node may not poll: 1 of 3 nodes are alive, and a majority is 2; missing: 2 that this node has not seen yet"},
			{"two", seen(viewOf(false, "a", "b")), false, "this node may not poll: 2 of 3 nodes are alive, but a majority, which is 2, has not let it yet; missing: 1 that this node has not seen yet"},
			{"two, with a lease", seen(viewOf(true, "a", "b")), true, "2 of 3 nodes are alive; missing: 1 that this node has not seen yet"},
			{"three", seen(viewOf(true, "a", "b", "c")), true, ""},
			{"claims", actors.Claiming{Agents: 9, Waiting: map[string]int{"b": 9, "c": 4}}, true, "agents that wait to be polled here: 9, until these nodes have said that they don't poll them: b for 9, c for 4"},
			{"claims of which nobody knows", actors.Claiming{Agents: 9}, true, "agents that wait to be polled here: 9"},
			{"no claims", actors.Claiming{}, true, ""},
			{"configurations differ", seen(viewOf(true, "a", "b", "c"), differs("c"), differs("b")), true, "nodes with another configuration than this one: b, c"},
			{"clocks differ", seen(viewOf(true, "a", "b", "c"), clockOf("b", 300*time.Millisecond), clockOf("c", -time.Second)), true, "the clock of node b is 300ms ahead of this one's; the clock of node c is 1s behind this one's"},
			{"clocks that can't be read", seen(viewOf(true, "a", "b", "c"), clockOf("b", 300*time.Millisecond), func(v *machine.View) { v.Members[1].RTT = time.Second }), true, ""},
			{"clocks differ a little", seen(viewOf(true, "a", "b", "c"), clockOf("b", 200*time.Millisecond), clockOf("c", -200*time.Millisecond)), true, ""},
			{"a poller_id of two", cluster.PollerShared{Node: nodeID("b"), PollerID: "edge"}, true, "node b has the same poller_id as this one, edge, so that core takes both for one"},
			{"it has another", cluster.MemberJoined{Node: machine.NodeID{Name: "b", Boot: "2"}}, true, ""},
			{"sizes differ", seen(viewOf(true, "a", "b", "c"), sizeOf("c", 5)), true, "3 of 5 nodes are alive; missing: 2 that this node has not seen yet; cluster.size is 5 for node c, and 3 for this one: the greater counts"},
			{"too many", seen(viewOf(true, "a", "b", "c", "d"), func(v *machine.View) { v.Size, v.Majority = 4, 3 }), true, "4 nodes are alive, and cluster.size is 3"},
			{"one dies", cluster.MemberDied{Node: nodeID("c")}, true, "4 nodes are alive, and cluster.size is 3"},
			{"it is gone", seen(viewOf(true, "a", "b")), true, "2 of 3 nodes are alive; missing: c, which has not answered since 2000-01-01T00:00:00Z"},
			{"the other leaves", cluster.MemberLeft{Node: nodeID("b")}, true, "2 of 3 nodes are alive; missing: b, which left at 2000-01-01T00:00:00Z"},
			{"both are gone", seen(viewOf(false, "a")), false, "this node may not poll: 1 of 3 nodes are alive, and a majority is 2; missing: " +
				"b, which left at 2000-01-01T00:00:00Z, c, which has not answered since 2000-01-01T00:00:00Z"},
			{"it goes on without them", seen(viewOf(false, "a"), keeps), true, "this node polls without a majority, as cluster.on_minority says, and others may poll the same: 1 of 3 nodes are alive, " +
				"and a majority is 2; missing: b, which left at 2000-01-01T00:00:00Z, c, which has not answered since 2000-01-01T00:00:00Z"},
			{"one is back", cluster.MemberJoined{Node: machine.NodeID{Name: "c", Boot: "2"}}, true, "this node polls without a majority, as cluster.on_minority says, and others may poll the same: 1 of 3 nodes are alive, " +
				"and a majority is 2; missing: b, which left at 2000-01-01T00:00:00Z, and 1 that this node has not seen yet"},
			{"three again", seen(viewOf(true, "a", "b", "c")), true, ""},
			{"certificates", cluster.IdentityRead{Err: errFiles}, true, "the files of the node's certificate and authorities can't be used, and what was read before stays in use: " + errFiles.Error()},
			{"mended", cluster.IdentityRead{}, true, ""},
			{"drains", seen(viewOf(true, "a", "b", "c"), drains("a")), true, ""},
			{"leaves", seen(viewOf(false, "a", "b", "c"), drains("a")), false, "this node leaves the cluster, and polls nothing any more"},
			{"two of a name", cluster.NameConflict{Name: "b", Address: "b:7946", Other: "x:7946"}, false, "this node leaves the cluster, and polls nothing any more; " +
				"two nodes have the name b: one at b:7946, which is heard, and one at x:7946, which is not"},
		} {
			n.hear(step.event)
			if ok, detail := conditionOf(t, board, conditionCluster); ok != step.ok || detail != step.says {
				t.Errorf("%s: it is %v, and says\n%q; want %v and\n%q", step.name, ok, detail, step.ok, step.says)
			}
		}
		time.Sleep(3 * time.Minute)
		if _, detail := conditionOf(t, board, conditionCluster); strings.Contains(detail, "have the name") {
			t.Errorf("of a conflict that is not told any more it says %q", detail)
		}
	})
}

// conditionOf returns a condition and what it says.
func conditionOf(t *testing.T, board *observe.Board, name string) (ok bool, detail string) {
	t.Helper()
	_, conditions := board.Read(time.Now())
	for _, c := range conditions {
		if c.Name == name {
			return c.OK, c.Detail
		}
	}
	t.Fatalf("there is no condition %q", name)
	return false, ""
}

// Without a cluster there is no condition of one.
func TestNoClusterHasNoCondition(t *testing.T) {
	t.Parallel()
	board := new(observe.Board)
	newNarrator(zerolog.Nop(), board, configOf(1))
	_, conditions := board.Read(time.Now())
	for _, c := range conditions {
		if c.Name == conditionCluster {
			t.Errorf("there is %+v", c)
		}
	}
}

// However many nodes come and go under names of their own, few are remembered: the last.
func TestFewNodesAreMissed(t *testing.T) {
	t.Parallel()
	board := new(observe.Board)
	n := newNode(zerolog.Nop(), board)
	n.observe(seen(viewOf(true, "a", "b")))
	for i := range 10 * mostGone {
		n.node(cluster.MemberLeft{Node: nodeID(fmt.Sprint("pod-", i))})
		n.node(cluster.PacketsDropped{Address: fmt.Sprint("pod-", i, ":7946")})
	}
	if len(n.nodes.gone) > mostGone || len(n.nodes.dropped) > mostGone {
		t.Errorf("%d nodes and %d addresses are remembered", len(n.nodes.gone), len(n.nodes.dropped))
	}
	if _, detail := conditionOf(t, board, conditionCluster); !strings.Contains(detail, "missing: pod-999,") {
		t.Errorf("it says %q", detail)
	}
}

// What is measured of a cluster at a scrape.
func TestWhatIsMeasuredOfACluster(t *testing.T) {
	t.Parallel()
	view := func(change func(*machine.View)) *machine.View { return seen(viewOf(true, "a", "b", "c"), change).View }
	counts := cluster.Counts{Refused: 1, Dropped: 2, Ignored: 3}
	base := observe.Cluster{Members: 3, Size: 3, Leased: true, Refused: 1, Dropped: 2, Ignored: 3}
	for _, tt := range []struct {
		name string
		view *machine.View
		want func(c *observe.Cluster)
	}{
		{"all is well", view(func(*machine.View) {}), func(*observe.Cluster) {}},
		{"agents", view(func(v *machine.View) { v.Members[0].Held, v.Members[1].Held = 7, 8 }), func(c *observe.Cluster) { c.Held = 7 }},
		{"configurations", view(func(v *machine.View) { v.Members[1].Hash, v.Members[2].Hash = "2222", "3333" }), func(c *observe.Cluster) { c.Differing = 2 }},
		{"a configuration that is not known", view(func(v *machine.View) { v.Members[1].Hash = "" }), func(*observe.Cluster) {}},
		{"our own is not known", view(func(v *machine.View) { v.Members[0].Hash = "" }), func(*observe.Cluster) {}},
		{"clocks", view(func(v *machine.View) { v.Members[1].Offset, v.Members[2].Offset = 2*time.Second, -3*time.Second }), func(c *observe.Cluster) { c.ClockOffset = 3 * time.Second }},
		{"the third lease", view(func(v *machine.View) { v.Era = 3 }), func(c *observe.Cluster) { c.LeasesLost = 2 }},
		{"it is lost", view(func(v *machine.View) { v.Era, v.Leased, v.Minority = 3, false, true }), func(c *observe.Cluster) { c.LeasesLost, c.Leased = 3, false }},
		{"it is lost, and on", view(func(v *machine.View) { v.Era, v.Minority = 3, true }), func(c *observe.Cluster) { c.LeasesLost, c.Minority = 3, true }},
		{"there was none yet", view(func(v *machine.View) { v.Era, v.Leased, v.Minority = 0, false, true }), func(c *observe.Cluster) { c.Leased = false }},
	} {
		want := base
		tt.want(&want)
		if diff := cmp.Diff(want, measured(tt.view, counts)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// Each event of a node changes the samples that it should.
func TestEventsOfANodeAreMeasured(t *testing.T) {
	t.Parallel()
	from := observe.MetricsSources{
		Board: new(observe.Board), Connections: func() int64 { return 0 },
		Spool:   func() (int, int64, time.Time) { return 0, 0, time.Time{} },
		Cluster: func() observe.Cluster { return observe.Cluster{} },
	}
	for _, tt := range []struct {
		event actors.Event
		want  map[string]string
	}{
		{actors.Adopted{Agents: []string{"x", "y", "z"}, Given: 1}, map[string]string{`poller_cluster_moves_total{direction="given"}`: "1", `poller_cluster_moves_total{direction="taken_over"}`: "2", `poller_breakers{state="closed"}`: "3"}},
		{actors.HandedOver{Agents: []string{"x"}}, map[string]string{`poller_cluster_moves_total{direction="handed_over"}`: "1"}},
		{actors.Suspended{Agents: 3}, map[string]string{`poller_cluster_suspensions_total`: "1"}},
		{actors.Dismissed{Agents: []string{"x"}}, map[string]string{}},
		{actors.Claiming{Agents: 5}, map[string]string{`poller_cluster_agents_claimed`: "5"}},
		{actors.Doubled{Agent: "x", Runs: 4}, map[string]string{`poller_cluster_doubled_runs_total`: "4"}},
		{actors.RemoteRefused{Total: 9}, map[string]string{`poller_cluster_refused_total{port="remote"}`: "1"}},
		{actors.EnvelopeUnknown{Total: 9}, map[string]string{`poller_cluster_messages_ignored_total{port="remote"}`: "1"}},
		{actors.Ordered{By: "b", What: "drain"}, map[string]string{}},
		{actors.Pinned{Agents: []string{"x"}, Node: "b"}, map[string]string{}},
		{seen(viewOf(true, "a")), map[string]string{}},
		{actors.ActorRestarted{Actor: "member"}, map[string]string{`poller_actor_restarts_total{actor="member"}`: "1"}},
	} {
		m := measurer{observe.NewMetrics(from)}
		before := samplesOf(t, m)
		m.observe(tt.event)
		got := make(map[string]string)
		for name, value := range samplesOf(t, m) {
			if before[name] != value {
				got[name] = value
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%T changed (-want +got):\n%s", tt.event, diff)
		}
	}
}

// samplesOf are what a scrape gets of our own metrics, by name and labels.
func samplesOf(t *testing.T, m measurer) map[string]string {
	t.Helper()
	answer := httptest.NewRecorder()
	m.Handler().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	all := make(map[string]string)
	for line := range strings.Lines(answer.Body.String()) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && strings.HasPrefix(name, "poller_") {
			all[name] = value
		}
	}
	if len(all) == 0 {
		t.Fatalf("scrape: %d %s", answer.Code, answer.Body)
	}
	return all
}

// A scrape of a node asks for how it is with the cluster then.
func TestScrapeAsksTheNode(t *testing.T) {
	t.Parallel()
	cfg := &config.Config{Cluster: config.Cluster{Enabled: true, Size: 3}, Poll: config.Poll{Interval: time.Second}}
	d := New(Options{Log: zerolog.Nop(), Config: cfg})
	if _, err := d.findFirst(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	defer d.find.close()
	var err error
	if d.queue, err = openQueue(cfg, "", nil, nil); err != nil {
		t.Fatal(err)
	}
	if d.cluster, err = cluster.New(cluster.Config{Name: "edge", Node: "a", Listen: "127.0.0.1:0", Remote: "127.0.0.1:1", Size: 3}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.cluster.Close() }()
	m := d.newMeasurer(cfg)
	d.cluster.Announce(machine.Announcement{Held: 7})
	d.cluster.SetSize(5)
	got := samplesOf(t, m)
	for name, want := range map[string]string{
		"poller_cluster_members": "1", "poller_cluster_size": "5", "poller_cluster_leased": "0", "poller_cluster_agents": "7",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
}

// Of those who knock at the port of remoting each kind is told, and thinned out by itself.
func TestStrangersAreTold(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	n := newNarrator(zerolog.New(&log).Level(zerolog.WarnLevel), new(observe.Board), new(config.Config))
	total := uint64(0)
	knock := func(what string) bool {
		total++
		log.Reset()
		n.observe(actors.RemoteRefused{What: what, Total: total})
		return log.Len() > 0
	}
	for i := range 9 {
		port := 4000 + i
		if told := knock(fmt.Sprintf("a connection from 192.0.2.1:%d: tls: bad", port)); told != powerOfTwo(i+1) {
			t.Errorf("the connection %d was told: %v", i+1, told)
		}
	}
	if !knock("a call that no node makes") {
		t.Error("another kind was not told")
	}
	for i := range 200 {
		knock(strings.Repeat("x", i))
	}
	if len(n.useless) > 65 {
		t.Errorf("%d kinds are kept", len(n.useless))
	}
}
