//go:build cluster && linux

package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"go.uber.org/goleak"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
	"github.com/serviceradar/poller/proto/monitoring"
)

var (
	clusterAgents = flag.Int("clusteragents", 1000, "how many agents the tests of clusters have")
	clusterSeed   = flag.Uint64("clusterseed", 0, "decides which nodes fail, and when; 0 draws one")
	clusterRace   = flag.Bool("clusterrace", false, "build the poller of the tests of clusters with the race detector")
	clusterLogs   = flag.String("clusterlogs", "", "a directory for the nodes' logs, which are kept there; else they go with the test")
)

const (
	every = time.Second // poll.interval
	// patience is how long all may take to settle. A node that is back takes its share in steps.
	patience = 2 * time.Minute
	// What a failure may cost the agents of the node.
	medianGap, longestGap = 2500 * time.Millisecond, 5 * time.Second
	// lapse is how long after it has lost the majority a node may still run agents: its lease, and what the machine adds.
	lapse = 2 * time.Second
	// starved is how late timers of the test itself may be before what it saw says more of the machine than of the cluster.
	starvedRig = 250 * time.Millisecond
)

// rig is a cluster whose nodes are processes of the poller as it is shipped, on addresses of their own. All checkers and core are the
// test's own.
type rig struct {
	t     *testing.T
	rand  *rand.Rand
	nodes []*node
	seen  *observer
	late  func() []time.Duration
}

// place is where a node runs.
type place struct {
	address string   // of the node, for the others
	admin   string   // of the node, for the test
	in      []string // a command in front of the node's
}

// noLeaks is to be called first.
func noLeaks(t *testing.T) {
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		goleak.VerifyNone(t)
	})
}

// newRig starts no node yet. Core and the checkers listen on an address that the nodes reach.
func newRig(t *testing.T, address string, places []place) *rig {
	t.Helper()
	seed := *clusterSeed
	for seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-clusteragents=%d -clusterseed=%d", *clusterAgents, seed)
	r := &rig{t: t, rand: rand.New(rand.NewPCG(seed, 1)), seen: newObserver(*clusterAgents, len(places)), late: timers(t)}
	core := &sim.Core{Discard: true, OnDelivery: r.seen.deliver}
	coreServer, err := core.Start(address+":0", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(coreServer.Stop)
	t.Cleanup(func() {
		for _, v := range core.Violations() {
			t.Errorf("core: %s", v)
		}
		if n := core.Stats().Dropped; n > 0 {
			t.Errorf("core dropped %d reports of a poller that it did not know", n)
		}
	})
	checkers, err := sim.NewChecker(sim.Behaviour{Answer: r.seen.answer}).Start(address+":0", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(checkers.Stop)

	program := clusterBinary(t)
	agents := filepath.Join(t.TempDir(), "agents.toml")
	writeText(t, agents, agentsTOML(checkers.Addr()))
	logs := *clusterLogs
	if logs == "" {
		logs = t.TempDir()
	}
	if err := os.MkdirAll(logs, 0o750); err != nil {
		t.Fatal(err)
	}
	ca := tlsidtest.NewCA(t)
	var seeds []string
	for _, p := range places {
		seeds = append(seeds, p.address+":7946")
	}
	for i, p := range places {
		n := &node{t: t, number: i, place: p, program: program, log: filepath.Join(logs, logName(t, i))}
		id := ca.Issue(t, nodeName(i), tlsidtest.Hosts(clusterName))
		n.file = configFile(t, "%s", n.toml(t.TempDir(), coreServer.Addr(), agents, seeds, id))
		r.nodes = append(r.nodes, n)
	}
	return r
}

func logName(t *testing.T, node int) string {
	return strings.NewReplacer("/", "-", " ", "-").Replace(fmt.Sprintf("%s %s.log", t.Name(), nodeName(node)))
}

// onLoopback are places for a cluster on this machine, on addresses that no connection has as its own. The process's
// number tells tests from each other that run at the same time.
func onLoopback(size int) []place {
	var places []place
	for i := range size {
		address := fmt.Sprintf("127.8.%d.%d", os.Getpid()%255, i+1)
		places = append(places, place{address: address, admin: address})
	}
	return places
}

// clusterName is what certificates of nodes are for.
const clusterName = "nodes.cluster.test"

func agentsTOML(checkers string) string {
	var b strings.Builder
	for i := range *clusterAgents {
		fmt.Fprintf(&b, "[agents.%s]\naddress = %q\nchecks = [{ name = \"c\", type = \"port\", details = \"127.0.0.1:22\" }]\n", agentName(i), checkers)
	}
	return b.String()
}

func (n *node) toml(state, core, agents string, seeds []string, id check.TLS) string {
	quoted, err := json.Marshal(seeds)
	if err != nil {
		n.t.Fatal(err)
	}
	return fmt.Sprintf(`poller_id = %[1]q
state_dir = %[2]q
source_ip = "127.0.0.1"
shutdown_timeout = "10s"
include = [%[3]q]
admin.listen = "%[4]s:9464"
core.addresses = [%[5]q]
poll = { interval = %[6]q, timeout = "800ms" }
log = { level = "info", format = "json" }
[cluster]
enabled = true
name = "rig"
node = %[1]q
listen = "%[7]s:7946"
remote = "%[7]s:7947"
seeds = %[8]s
size = %[9]d
on_minority = "step_down"
tls = { mode = "mtls", cert_file = %[10]q, key_file = %[11]q, ca_file = %[12]q, server_name = %[13]q }
`, nodeName(n.number), state, agents, n.admin, core, every, n.address, quoted, len(seeds), id.CertFile, id.KeyFile, id.CAFile, clusterName)
}

func writeText(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// clusterBinary is the poller as it is shipped, or with the race detector.
func clusterBinary(t *testing.T) string {
	t.Helper()
	if !*clusterRace {
		return binary
	}
	program := filepath.Join(t.TempDir(), "poller")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-race", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return program
}

// observer is all checkers, and hears of all that comes to core.
type observer struct {
	began  time.Time
	agents map[string]int // by name
	nodes  map[string]int // by poller_id

	mu       sync.Mutex
	runs     history
	tenures  []tenure
	receipts receipts
	reasons  map[string]int // of runs without an answer
	unknown  map[string]int // what came of agents and nodes that there are not
}

func newObserver(agents, nodes int) *observer {
	o := &observer{
		began: time.Now(), agents: make(map[string]int, agents), nodes: make(map[string]int, nodes),
		runs: make(history, agents), tenures: make([]tenure, agents),
		receipts: receipts{times: make([][]uint8, agents), noVerdict: make([]int, agents)},
		reasons:  make(map[string]int), unknown: make(map[string]int),
	}
	for i := range agents {
		o.agents[agentName(i)] = i
	}
	for i := range nodes {
		o.nodes[nodeName(i)] = i
	}
	return o
}

func (o *observer) now() time.Duration { return time.Since(o.began) }

// answer is a checker's. It says which run of the agent it is, so that no answer can pass for another.
func (o *observer) answer(_ context.Context, req *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
	agent, known := o.agents[req.GetAgentId()]
	node, knownNode := o.nodes[req.GetPollerId()]
	o.mu.Lock()
	defer o.mu.Unlock()
	if !known || !knownNode {
		o.unknown[req.GetAgentId()+" of "+req.GetPollerId()]++
		return &monitoring.StatusResponse{}, nil
	}
	run := sighting{o.now(), node}
	o.tenures[agent].see(run)
	o.runs[agent] = append(o.runs[agent], run)
	return &monitoring.StatusResponse{Available: true, Message: fmt.Appendf(nil, `{"n":%d}`, len(o.runs[agent])-1)}, nil
}

// deliver takes what core took.
func (o *observer) deliver(d sim.Delivery) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range d.Services {
		var message struct {
			Data struct {
				N      *int
				Reason string
			}
		}
		agent, known := o.agents[s.GetAgentId()]
		if err := json.Unmarshal(s.GetMessage(), &message); err != nil || !known {
			o.unknown[fmt.Sprintf("%s at core: %v", s.GetAgentId(), err)]++
			continue
		}
		if message.Data.N == nil {
			o.receipts.noVerdict[agent]++
			o.reasons[message.Data.Reason]++
			continue
		}
		o.receipts.take(agent, *message.Data.N)
	}
}

// history is what was seen until now. What comes later is not in it.
func (o *observer) history() history {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append(history(nil), o.runs...)
}

// settled is the function of this name, for what is seen now.
func (o *observer) settled(up []int, least float64) (shares []int, since time.Duration, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return settled(o.tenures, every, o.now(), len(o.nodes), up, least)
}

// atCore tells what core has of all answers that were given until now.
func (o *observer) atCore() (answered, lost, excused, again int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	each := make([]int, len(o.runs))
	for i, runs := range o.runs {
		each[i] = len(runs)
		answered += len(runs)
	}
	lost, excused, again = o.receipts.compare(each)
	return answered, lost, excused, again
}

func (r *rig) now() time.Duration { return r.seen.now() }

// others are all nodes but these.
func (r *rig) others(but ...*node) []*node {
	return slices.DeleteFunc(slices.Clone(r.nodes), func(n *node) bool { return slices.Contains(but, n) })
}

// pick draws nodes.
func (r *rig) pick(count int) []*node {
	var picked []*node
	for _, i := range r.rand.Perm(len(r.nodes))[:count] {
		picked = append(picked, r.nodes[i])
	}
	return picked
}

func numbers(nodes []*node) []int {
	var all []int
	for _, n := range nodes {
		all = append(all, n.number)
	}
	return all
}

// wander lets a random part of an interval pass, so that what comes then comes at any moment of a cycle.
func (r *rig) wander() { <-time.After(time.Duration(r.rand.Int64N(int64(every)))) }

// How much of an even share a node must have. One that others lost sight of again and again takes it very slowly, over many minutes; so where
// nodes fail many times nobody waits for more than the first step.
const (
	firstStep  = .25
	wholeShare = .9
)

// settle waits until each agent is polled by one of these nodes alone, and has been for three intervals, and each node has at least this part
// of its share. It returns since when that has been so.
func (r *rig) settle(up []*node, least float64) time.Duration {
	r.t.Helper()
	began := r.now()
	for {
		_, since, err := r.seen.settled(numbers(up), least)
		if err == nil {
			return since
		}
		for _, n := range up {
			if !n.isAlive() {
				r.t.Fatalf("%s ended by itself with %v; its last words:\n%s", n, n.failed, tail(n.log))
			}
		}
		if r.now()-began > patience {
			r.tellComplaints()
			r.t.Fatalf("it has not settled within %v: %v", patience, err)
		}
		<-time.After(every / 4)
	}
}

// startAll starts all nodes and returns when all has settled.
func (r *rig) startAll() time.Duration {
	r.t.Helper()
	for _, n := range r.nodes {
		n.start()
	}
	since := r.settle(r.nodes, wholeShare)
	r.t.Logf("all nodes settled %.1f s after the start", since.Seconds())
	return r.now()
}

// course is what is put together of an observation.
type course struct {
	from     time.Duration
	outages  []outage
	handover []time.Duration // how long it took until all was settled after an outage had begun
	handback []time.Duration // the same, after it was over
}

// begin notes that an outage begins.
func (c *course) begin(r *rig, victims []*node) *outage {
	c.outages = append(c.outages, outage{victims: numbers(victims), at: r.now()})
	return &c.outages[len(c.outages)-1]
}

// tell prints what came of a course, and fails the test for what there must not be.
func (r *rig) tell(c *course, h history) verdict {
	r.t.Helper()
	v := h.judge(every, spell{c.from, r.now()}, c.outages)
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	row := func(what, format string, args ...any) {
		_, _ = fmt.Fprintf(w, "%s\t%s\n", what, fmt.Sprintf(format, args...))
	}
	row("observed", "%.0f s, %d runs of %d agents by %d nodes", (r.now() - c.from).Seconds(), v.runs, len(h), len(r.nodes))
	row("outages", "%d", len(c.outages))
	row("gaps of agents whose node was away", "%s", spread(lengths(v.gaps)))
	row("holes of other agents meanwhile", "%s", spread(lengths(v.late)))
	row("runs missed, otherwise", "%s", spread(lengths(v.holes)))
	row("runs doubled by two nodes, by one", "%d, %d", len(v.doubles), len(v.twins))
	row("orphans run at once, near their nodes' last runs or the next", "%d", len(v.prompt))
	row("runs of orphans that went back to the grid at once", "%d", v.made)
	row("agents went to another node", "%d times, %d of them back within 3 intervals", v.moves, v.swings)
	row("settled after an outage began", "%s", spread(c.handover))
	row("settled after it was over", "%s", spread(c.handback))
	_ = w.Flush()
	r.t.Logf("\n%s", text.String())
	r.none(h, "doubled by two nodes", v.doubles)
	r.none(h, "doubled by one node", v.twins)
	r.none(h, "polled by two nodes in turn", v.splits)
	r.none(h, "missed", v.holes)
	r.none(h, fmt.Sprintf("not polled for more than %v", longestGap), longer(slices.Concat(v.gaps, v.late), longestGap))
	return v
}

// none fails the test if there is any of what there must not be.
func (r *rig) none(h history, what string, all []stretch) {
	r.t.Helper()
	if len(all) == 0 {
		return
	}
	var lines []string
	for _, s := range all[:min(len(all), 10)] {
		lines = append(lines, h.around(s, 3*every))
	}
	r.t.Errorf("%s: %d times, such as\n%s", what, len(all), strings.Join(lines, "\n"))
}

func longer(all []stretch, than time.Duration) []stretch {
	return slices.DeleteFunc(all, func(s stretch) bool { return s.length() <= than })
}

// finish stops all nodes that run, and prints what they complained of. What they had taken must be at core.
func (r *rig) finish() {
	r.t.Helper()
	for _, n := range r.nodes {
		if n.isAlive() {
			n.stop()
		}
	}
	r.tellComplaints()
	late := r.late()
	r.t.Logf("timers of the test itself were late: %s", spread(late))
	if most := quantile(late, 1); most > starvedRig {
		r.t.Logf("that is much: what is late or missed above may be the machine's")
	}
	answered, lost, excused, again := r.seen.atCore()
	r.t.Logf("%d runs answered; core lacks %d, and %d that came to no answer in time; %d came twice; without an answer: %v",
		answered, lost, excused, again, r.seen.reasons)
	for what, n := range r.seen.unknown {
		r.t.Errorf("%d times, what there is not: %s", n, what)
	}
}
