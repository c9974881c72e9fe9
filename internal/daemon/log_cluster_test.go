package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/internal/cluster"
	"github.com/serviceradar/poller/internal/machine"
	"github.com/serviceradar/poller/internal/observe"
)

// newNode returns the narrator of a node of a cluster of three.
func newNode(log zerolog.Logger, board *observe.Board) *narrator {
	cfg := configOf(100)
	cfg.Cluster.Enabled, cfg.Cluster.Size = true, 3
	return newNarrator(log, board, cfg)
}

// hear tells a narrator an event of actors or of the cluster.
func (n *narrator) hear(event any) {
	if strings.HasSuffix(reflect.TypeOf(event).PkgPath(), "/cluster") {
		n.node(event)
	} else {
		n.observe(event)
	}
}

// toldByNode returns what a node's narrator logs of the last of some events.
func toldByNode(t *testing.T, events ...any) []map[string]any {
	t.Helper()
	var log bytes.Buffer
	n := newNode(zerolog.New(&log), new(observe.Board))
	for _, e := range events {
		log.Reset()
		n.hear(e)
	}
	return lines(t, log.Bytes())
}

// viewOf returns what node a knows of some nodes, itself among them, of which three should be.
func viewOf(leased bool, names ...string) machine.View {
	v := machine.View{Self: nodeID("a"), Size: 3, Majority: 2, Leased: leased, Minority: !leased, Era: 1}
	for _, name := range names {
		v.Members = append(v.Members, machine.Member{NodeID: nodeID(name), Hash: "1111", Size: 3})
	}
	return v
}

func nodeID(name string) machine.NodeID { return machine.NodeID{Name: name, Boot: "1"} }

// seen is a ClusterChanged with a view to which something is done.
func seen(v machine.View, change ...func(*machine.View)) actors.ClusterChanged {
	for _, f := range change {
		f(&v)
	}
	return actors.ClusterChanged{View: &v}
}

var (
	errSeeds = errors.New("cluster edge: no seed has let this node in: tried b:7946: connection refused: start the others")
	errFiles = errors.New("/etc/poller/node.pem: not a certificate (looked at 12:00:01)")
)

func keeps(v *machine.View) { v.Leased = true }

// narratedByNodes is narrated for events that only nodes of clusters have.
var narratedByNodes = []struct {
	name   string
	before []any
	event  any
	line   string
}{
	{
		name:  "agents come",
		event: actors.Adopted{Agents: []string{"x", "y"}, Given: 1},
		line:  `{"level":"info","message":"agents adopted: this node polls them from now on","agents":2,"given":1,"first_agents":["x","y"]}`,
	},
	{
		name:  "many agents come",
		event: actors.Adopted{Agents: strings.Split("abcdefghijklmnop", "")},
		line:  `{"level":"info","agents":16,"given":0,"first_agents":["a","b","c","d","e","f","g","h","i","j"]}`,
	},
	{
		name:  "agents go",
		event: actors.HandedOver{Agents: []string{"x"}},
		line:  `{"level":"info","message":"agents handed over: other nodes poll them from now on","agents":1,"first_agents":["x"]}`,
	},
	{
		name:  "the lease is lost",
		event: actors.Suspended{Agents: 7},
		line:  `{"level":"warn","message":"agents suspended: this node's lease is over, or is another one now, and the other nodes are asked before anything is polled again","agents":7}`,
	},
	{
		name:   "the lease is given up",
		before: []any{seen(viewOf(false, "a"), drains("a"))},
		event:  actors.Suspended{Agents: 7},
		line:   `{"level":"debug","agents":7}`,
	},
	{
		name:  "others have taken over what was suspended",
		event: actors.Dismissed{Agents: []string{"x"}},
		line:  `{"level":"info","message":"agents that were suspended are other nodes' now","agents":1,"first_agents":["x"]}`,
	},
	{
		name:  "agents are claimed, as usual",
		event: actors.Claiming{Agents: 7, Waiting: map[string]int{"b": 7}, For: time.Second},
	},
	{
		name:  "agents are claimed for long",
		event: actors.Claiming{Agents: 7, Waiting: map[string]int{"b": 7, "c": 3}, For: 5*time.Second + time.Microsecond},
		line: `{"level":"warn","message":"agents wait to be polled here: nodes have not said yet that they don't poll them, or may still do so","agents":7,
			"waiting_for":{"b":7,"c":3},"claimed_for":"5s"}`,
	},
	{
		name:   "agents are claimed for a little longer",
		before: []any{actors.Claiming{Agents: 7, For: 5 * time.Second}},
		event:  actors.Claiming{Agents: 7, For: 9 * time.Second},
	},
	{
		name:   "agents are claimed for twice as long",
		before: []any{actors.Claiming{Agents: 7, For: 5 * time.Second}, actors.Claiming{Agents: 7, For: 9 * time.Second}},
		event:  actors.Claiming{Agents: 7, For: 10 * time.Second},
		line:   `{"level":"warn","claimed_for":"10s"}`,
	},
	{
		name:   "agents are claimed no more",
		before: []any{actors.Claiming{Agents: 7, For: 5 * time.Second}},
		event:  actors.Claiming{},
		line:   `{"level":"info","message":"no agents wait to be polled here any more"}`,
	},
	{
		name:   "agents were claimed for a moment",
		before: []any{actors.Claiming{Agents: 7, For: time.Second}},
		event:  actors.Claiming{},
	},
	{
		name:  "an agent was polled twice",
		event: actors.Doubled{Agent: "x", Runs: 3},
		line:  `{"level":"warn","message":"agent was polled by another node, too, because neither heard the other","agent":"x","doubled_runs":3}`,
	},
	{
		name:  "an order",
		event: actors.Ordered{By: "b", What: "drain"},
		line:  `{"level":"info","message":"order of another node obeyed","node":"b","order":"drain"}`,
	},
	{
		name:  "an order that can't be obeyed",
		event: actors.Ordered{By: "b", What: "dance", Refused: "it is not known"},
		line:  `{"level":"warn","message":"order of another node refused","node":"b","order":"dance","cause":"it is not known"}`,
	},
	{
		name:  "agents are moved",
		event: actors.Pinned{Agents: []string{"x", "y"}, Node: "b"},
		line: `{"level":"info","message":"agents moved: a node is to poll them as long as it is there, until they are moved again","node":"b","told_by":"","agents":2,
			"first_agents":["x","y"]}`,
	},
	{
		name:  "many agents are moved, at another node",
		event: actors.Pinned{Agents: strings.Split("abcdefghijklmnop", ""), Node: "b", By: "c"},
		line:  `{"level":"info","node":"b","told_by":"c","agents":16,"first_agents":["a","b","c","d","e","f","g","h","i","j"]}`,
	},
	{
		name:  "agents are moved back",
		event: actors.Pinned{Agents: []string{"x"}, By: "c"},
		line:  `{"level":"info","message":"agents moved back: the nodes to which they belong by themselves are to poll them","told_by":"c","agents":1,"first_agents":["x"]}`,
	},
	{
		name:  "a stranger at the port of remoting",
		event: actors.RemoteRefused{What: "a call that no node makes", Total: 1},
		line: `{"level":"warn","message":"something that is no node's came to cluster.remote, and was refused: if it was a node, look at its certificate and its version",
			"cause":"a call that no node makes","refused_total":1}`,
	},
	{
		name:  "a third that is another",
		event: actors.RemoteRefused{What: "a connection from 192.0.2.1:4711: tls: no certificate", Total: 3},
		line:  `{"level":"warn","refused_total":3}`,
	},
	{
		name:  "an unknown envelope",
		event: actors.EnvelopeUnknown{Kind: 9, Version: 2, Total: 1},
		line:  `{"level":"warn","message":"another node sends what this one does not know; it is ignored. Is that node of another version?","kind":9,"version":2}`,
	},
	{
		name:  "another unknown envelope",
		event: actors.EnvelopeUnknown{Kind: 10, Version: 2, Total: 3},
		line:  `{"level":"warn","kind":10}`,
	},
	{
		name:  "the first view",
		event: seen(viewOf(false, "a")),
		line:  `{"level":"info","message":"this node may not poll yet: it looks for a majority of the cluster","members":1,"size":3,"majority":2}`,
	},
	{
		name:   "the lease is there",
		before: []any{seen(viewOf(false, "a"))},
		event:  seen(viewOf(true, "a", "b")),
		line:   `{"level":"info","message":"this node may poll: a majority lets it","members":2,"size":3,"majority":2}`,
	},
	{
		name:   "nothing new",
		before: []any{seen(viewOf(true, "a", "b"))},
		event:  seen(viewOf(true, "a", "b", "c")),
	},
	{
		name:   "no majority any more",
		before: []any{seen(viewOf(true, "a", "b")), cluster.MemberDied{Node: nodeID("b")}},
		event:  seen(viewOf(false, "a")),
		line:   `{"level":"error","message":"this node may not poll any more: no majority lets it; it goes on when one does","members":1,"missing":["b"]}`,
	},
	{
		name:   "no majority, and on",
		before: []any{seen(viewOf(true, "a", "b"))},
		event:  seen(viewOf(false, "a"), keeps),
		line:   `{"level":"warn","message":"this node polls without a majority, as cluster.on_minority says; others may poll the same agents","members":1}`,
	},
	{
		name:   "a majority again",
		before: []any{seen(viewOf(false, "a"), keeps)},
		event:  seen(viewOf(true, "a", "b")),
		line:   `{"level":"info","message":"this node may poll: a majority lets it"}`,
	},
	{
		name:   "this node hands over",
		before: []any{seen(viewOf(true, "a", "b"))},
		event:  seen(viewOf(true, "a", "b"), drains("a")),
		line:   `{"level":"info","message":"node hands over all its agents","node":"a"}`,
	},
	{
		name:   "this node leaves",
		before: []any{seen(viewOf(true, "a", "b"), drains("a"))},
		event:  seen(viewOf(false, "a", "b"), drains("a")),
		line:   `{"level":"info","message":"this node polls nothing any more: it leaves the cluster"}`,
	},
	{
		name:   "configurations differ",
		before: []any{seen(viewOf(true, "a", "b", "c"))},
		event:  seen(viewOf(true, "a", "b", "c"), differs("c")),
		line: `{"level":"warn","message":"configurations of nodes differ from this one's: give all the same files. Agents that only some have are polled by those",
			"nodes":["c"]}`,
	},
	{
		name:   "configurations still differ",
		before: []any{seen(viewOf(true, "a", "b", "c"), differs("c"))},
		event:  seen(viewOf(true, "a", "c"), differs("c")),
	},
	{
		name:   "configurations agree",
		before: []any{seen(viewOf(true, "a", "b", "c"), differs("c"))},
		event:  seen(viewOf(true, "a", "b", "c")),
		line:   `{"level":"info","message":"configurations of all nodes agree again"}`,
	},
	{
		name:   "a node has not said yet what its configuration is",
		before: []any{seen(viewOf(true, "a", "b"))},
		event:  seen(viewOf(true, "a", "b", "c"), func(v *machine.View) { v.Members[2].Hash = "" }),
	},
	{
		name:  "a node comes",
		event: cluster.MemberJoined{Node: nodeID("b"), Address: "b:7946", Remote: "b:7947"},
		line:  `{"level":"info","message":"node joined","node":"b","address":"b:7946","remote":"b:7947"}`,
	},
	{
		name:  "a node dies",
		event: cluster.MemberDied{Node: nodeID("b"), Address: "b:7946", Losses: 2},
		line: `{"level":"warn","message":"node died: it does not answer any more. The others take over what it polled when its lease has lapsed",
			"node":"b","address":"b:7946","losses":2}`,
	},
	{
		name:  "a node leaves",
		event: cluster.MemberLeft{Node: nodeID("b"), Address: "b:7946"},
		line:  `{"level":"info","message":"node left: it polls nothing any more","node":"b","address":"b:7946"}`,
	},
	{
		name:  "no seed answers",
		event: cluster.SeedsSilent{Err: errSeeds},
		line:  `{"level":"warn","message":"no other node is found","error":"` + errSeeds.Error() + `"}`,
	},
	{
		name:   "no seed answers, for the third time",
		before: []any{cluster.SeedsSilent{Err: errSeeds}, cluster.SeedsSilent{Err: errSeeds}},
		event:  cluster.SeedsSilent{Err: errSeeds},
		line:   `{"level":"debug"}`,
	},
	{
		name:   "a seed answers",
		before: []any{cluster.SeedsSilent{Err: errSeeds}},
		event:  cluster.SeedsFound{},
		line:   `{"level":"info","message":"other nodes are found"}`,
	},
	{
		name:   "no seed answers again",
		before: []any{cluster.SeedsSilent{Err: errSeeds}, cluster.SeedsSilent{Err: errSeeds}, cluster.SeedsFound{}},
		event:  cluster.SeedsSilent{Err: errSeeds},
		line:   `{"level":"warn"}`,
	},
	{
		name:  "a stranger",
		event: cluster.Refused{Address: "192.0.2.9:1234", Reason: "its certificate is of another authority", More: 5},
		line: `{"level":"warn","message":"somebody who is no node of this cluster was refused at cluster.listen","address":"192.0.2.9:1234",
			"cause":"its certificate is of another authority","more":5}`,
	},
	{
		name:  "two of a name",
		event: cluster.NameConflict{Name: "b", Address: "b:7946", Other: "x:7946", Ours: true},
		line: `{"level":"error","message":"two nodes have the same name, and one of them is not heard: give each a cluster.node of its own","node":"b",
			"address":"b:7946","other_address":"x:7946","ours":true}`,
	},
	{
		name:  "clocks differ",
		event: cluster.ClocksDiffer{Node: nodeID("b"), By: -312*time.Millisecond - 7*time.Microsecond},
		line:  `{"level":"warn","message":"a node's clock differs from this one's: let both be set by NTP or PTP","node":"b","clock_ahead_by":"-312ms"}`,
	},
	{
		name:  "sizes differ",
		event: cluster.SizesDiffer{Node: nodeID("b"), Theirs: 5, Ours: 3},
		line: `{"level":"warn","message":"a node is configured for a cluster of another size, of which the greater counts: set cluster.size to the same on all nodes",
			"node":"b","their_size":5,"size":3}`,
	},
	{
		name:  "a poller_id of two",
		event: cluster.PollerShared{Node: nodeID("b"), PollerID: "edge"},
		line: `{"level":"error","message":"a node has the same poller_id as this one, so that core takes both for one: give each one of its own",
			"node":"b","poller_id":"edge"}`,
	},
	{
		name:  "too many nodes",
		event: cluster.TooMany{Members: 4, Size: 3},
		line:  `{"level":"warn","message":"there are more nodes than cluster.size says: set it to how many there are, on all of them","members":4,"size":3}`,
	},
	{
		name:  "packets are dropped",
		event: cluster.PacketsDropped{Address: "b:7946", Err: errAway, Packets: 40},
		line:  `{"level":"warn","message":"packets to a node were dropped: it is not reached, or too slow","address":"b:7946","packets":40,"error":"core is away"}`,
	},
	{
		name: "packets are dropped again and again, and others, too",
		before: []any{
			cluster.PacketsDropped{Address: "b:7946", Err: errAway},
			cluster.PacketsDropped{Address: "b:7946", Err: errAway},
			cluster.PacketsDropped{Address: "c:7946", Err: errAway},
		},
		event: cluster.PacketsDropped{Address: "b:7946", Err: errAway},
		line:  `{"level":"debug"}`,
	},
	{
		name: "packets are dropped once more to a node that came back",
		before: []any{
			cluster.PacketsDropped{Address: "b:7946", Err: errAway},
			cluster.PacketsDropped{Address: "b:7946", Err: errAway},
			cluster.MemberJoined{Node: nodeID("b"), Address: "b:7946"},
		},
		event: cluster.PacketsDropped{Address: "b:7946", Err: errAway},
		line:  `{"level":"warn"}`,
	},
	{
		name:  "an unknown message",
		event: cluster.MessageUnknown{Kind: 9, Version: 2},
		line:  `{"level":"warn","message":"another node sends what this one does not know; it is ignored. Is that node of another version?","kind":9,"version":2}`,
	},
	{
		name:  "a node that can't be understood",
		event: cluster.NodeMalformed{Name: "b", Address: "b:7946", Reason: "a form that is not known here"},
		line: `{"level":"warn","message":"a node says of itself what is not understood, and is ignored","node":"b","address":"b:7946",
			"cause":"a form that is not known here"}`,
	},
	{
		name:  "certificates were read again",
		event: cluster.IdentityRead{},
		line:  `{"level":"debug","message":"the node's certificate and authorities were read again; they count for new connections","used_by":"cluster.listen"}`,
	},
	{
		name:  "certificates can't be read",
		event: cluster.IdentityRead{Err: errFiles},
		line: `{"level":"error","message":"the files of the node's certificate and authorities can't be used; what was read before stays in use",
			"error":"` + errFiles.Error() + `"}`,
	},
	{
		name:   "certificates still can't be read",
		before: []any{cluster.IdentityRead{Err: errFiles}},
		event:  cluster.IdentityRead{Err: errors.New(strings.Replace(errFiles.Error(), "12:00", "13:00", 1))},
	},
	{
		name:   "certificates can be read",
		before: []any{cluster.IdentityRead{Err: errFiles}},
		event:  cluster.IdentityRead{},
		line:   `{"level":"info","message":"the files of the node's certificate and authorities can be used again"}`,
	},
}

func drains(name string) func(*machine.View) {
	return func(v *machine.View) { v.Members[indexOf(v, name)].Draining = true }
}

func differs(name string) func(*machine.View) {
	return func(v *machine.View) { v.Members[indexOf(v, name)].Hash = "2222" }
}

func indexOf(v *machine.View, name string) int {
	return slices.IndexFunc(v.Members, func(m machine.Member) bool { return m.Name == name })
}

func TestLogOfANode(t *testing.T) {
	t.Parallel()
	for _, tt := range narratedByNodes {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			wantLine(t, toldByNode(t, append(slices.Clone(tt.before), tt.event)...), tt.line)
		})
	}
}

// The two listeners of a node read the same files: trouble with them is told once, and so is its end.
func TestLogTellsTroubleWithTheNodesCertificateOnce(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	n := newNode(zerolog.New(&log).Level(zerolog.InfoLevel), new(observe.Board))
	for _, err := range []error{errFiles, nil} {
		n.node(cluster.IdentityRead{Err: err})
		n.nodeTLS(err)
	}
	var got []string
	for _, line := range lines(t, log.Bytes()) {
		got = append(got, fmt.Sprint(line["level"]))
	}
	if diff := cmp.Diff([]string{"error", "info"}, got); diff != "" {
		t.Errorf("levels of the lines (-want +got):\n%s", diff)
	}
}

// What is told of an agent that is another node's is no concern of this one's, and what was known of it is forgotten.
func TestOthersAgentsAreForgotten(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	n := newNode(zerolog.New(&log).Level(zerolog.InfoLevel), new(observe.Board))
	says := func(what, condition, want string) {
		t.Helper()
		_, conditions := n.board.Read(time.Now())
		for _, c := range conditions {
			if c.Name == condition && c.Detail != want {
				t.Errorf("%s: %s says %q, want %q", what, condition, c.Detail, want)
			}
		}
	}
	parked := actors.ActorFailed{Actor: "agent/a", Parked: true}
	n.observe(opened)
	n.observe(parked)
	says("it is nobody's yet", conditionCheckers, "")
	says("it is nobody's yet", conditionActors, "")
	if strings.Contains(log.String(), "breaker") {
		t.Errorf("of an agent that is not this node's it says %s", &log)
	}
	for _, gone := range []actors.Event{actors.HandedOver{Agents: []string{"a"}}, actors.Dismissed{Agents: []string{"a"}}} {
		n.observe(actors.Adopted{Agents: []string{"a", "b"}})
		n.observe(opened)
		n.observe(parked)
		says("it is ours", conditionCheckers, "1 of 2 breakers are open: a")
		says("it is ours", conditionActors, "1 parked after too many restarts: agent/a")
		n.observe(gone)
		n.observe(opened)
		n.observe(parked)
		says(fmt.Sprintf("%T", gone), conditionCheckers, "")
		says(fmt.Sprintf("%T", gone), conditionActors, "")
		log.Reset()
		n.observe(closed)
		if log.Len() > 0 {
			t.Errorf("after a %T it says %s", gone, &log)
		}
	}
	n.observe(actors.Adopted{Agents: []string{"a"}})
	n.observe(opened)
	n.observe(actors.Suspended{Agents: 2}) // its actor is still here
	says("it is suspended", conditionCheckers, "1 of 2 breakers are open: a")
	cfg := *n.config
	cfg.Agents = nil
	n.observe(actors.Reloaded{Config: &cfg})
	n.observe(opened)
	says("it is not configured any more", conditionCheckers, "")
	if len(n.ours) > 0 {
		t.Errorf("%v are still known", n.ours)
	}
}
