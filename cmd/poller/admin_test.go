package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceradar/poller/internal/daemon"
)

// adminTwin is the admin server of a poller that is a node, as far as the commands for clusters go.
type adminTwin struct {
	mu     sync.Mutex
	state  daemon.ClusterState
	asked  []string
	refuse string
	after  func(*daemon.ClusterState) // what an order changes
}

func (a *adminTwin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, r.Method+" "+r.URL.String())
	switch {
	case a.refuse != "":
		http.Error(w, a.refuse, http.StatusConflict)
	case r.Method == http.MethodPost:
		if a.after != nil {
			a.after(&a.state)
		}
	default:
		_ = json.NewEncoder(w).Encode(a.state)
	}
}

func threeNodes() daemon.ClusterState {
	return daemon.ClusterState{
		Cluster: "edge", Node: "n1", Size: 3, Majority: 2, Polls: true, Era: 4, Held: 333, Claimed: 1, Leaving: 2, Waiting: map[string]int{"n2": 1},
		Pinned: map[string]string{"a7": "n1", "a6": "n3", "a5": "n1", "a4": "n9", "a3": "n1", "a2": "n1", "a1": "n2\x1b"},
		Nodes: []daemon.NodeState{
			{Name: "n1", Boot: "1", Weight: 1000, Agents: 1000, Owned: 333, Held: 333, Config: "aa", Version: "v1"},
			{Name: "n2", Boot: "2", Weight: 250, Agents: 1000, Owned: 334, Held: 330, Config: "aa", Offset: .0012, RTT: .0003, Version: "v1"},
			{Name: "n3", Boot: "3", Draining: true, Agents: 999, Held: 1, Config: "bb", Offset: -2, Version: "v2\x1b[31m"},
		},
	}
}

// runCommandLine runs a command, and returns what it printed, and the error.
func runCommandLine(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := command()
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(context.WithoutCancel(t.Context()))
	return out.String(), err
}

func TestPrintCluster(t *testing.T) {
	t.Parallel()
	twin := &adminTwin{state: threeNodes()}
	server := httptest.NewServer(twin)
	defer server.Close()
	address := server.Listener.Addr().String()
	out, err := runCommandLine(t, "cluster", "--admin", address)
	if err != nil {
		t.Fatal(err)
	}
	want := `cluster edge: 3 nodes of 3 alive, a majority is 2
this is n1, which may poll

NODE           POLLS  OWNS  OF    WEIGHT  CONFIG  CLOCK  RTT    VERSION
n1             333    333   1000  1       aa      0s     0s     v1
n2             330    334   1000  0.25    aa      1.2ms  300µs  v1
n3 (draining)  1      0     999   0       bb      -2s    0s     v2\x1b[31m

1 agent claimed, 2 on their way to other nodes
n2 has not answered for 1 claim
7 agents are pinned: a1 to n2\x1b, a2 to n1, a3 to n1, a4 to n9, a5 to n1, and 2 more
the nodes' configurations differ: aa, bb
`
	if diff := cmp.Diff(want, trimLines(out)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if out, err = runCommandLine(t, "cluster", "--admin", address, "--json"); err != nil {
		t.Fatal(err)
	}
	var got daemon.ClusterState
	if err := json.Unmarshal([]byte(out), &got); err != nil || !cmp.Equal(got, threeNodes()) {
		t.Errorf("%v, as JSON: %s", err, out)
	}
	twin.mu.Lock()
	twin.state.Polls = false
	twin.mu.Unlock()
	if out, err = runCommandLine(t, "cluster", "--admin", address); err == nil || !strings.Contains(out, "polls nothing") {
		t.Errorf("a node that may not poll: %v, %s", err, out)
	}
}

func trimLines(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		fmt.Fprintln(&b, strings.TrimRight(line, " \n"))
	}
	return b.String()
}

// A drain is over when the node is gone from the cluster of the one that was asked.
func TestDrainAnother(t *testing.T) {
	t.Parallel()
	twin := &adminTwin{state: threeNodes(), after: func(s *daemon.ClusterState) { s.Nodes[2].Boot = "4" }} // it was started again at once
	server := httptest.NewServer(twin)
	defer server.Close()
	out, err := runCommandLine(t, "drain", "--admin", server.Listener.Addr().String(), "--node", "n3")
	if err != nil || !strings.Contains(out, "n3 hands over its agents") {
		t.Errorf("%v: %s", err, out)
	}
	want := []string{"GET /cluster", "POST /cluster/order?node=n3&what=drain", "GET /cluster"}
	if diff := cmp.Diff(want, twin.asked); diff != "" {
		t.Errorf("it was asked (-want +got):\n%s", diff)
	}
}

// What is moved, and where, is said as it is asked for.
func TestMove(t *testing.T) {
	t.Parallel()
	twin := &adminTwin{state: threeNodes()}
	server := httptest.NewServer(twin)
	defer server.Close()
	admin := "move --admin " + server.Listener.Addr().String()
	for _, tt := range []struct{ args, out, err string }{
		{" --agent a1 --to n2", "a1 is pinned to n2\n", ""},
		{" --agent a1 --agent b,2 --back", "a1, b,2 are not pinned any more\n", ""},
		{" --agent a1", "", "--to NODE or with --back"},
		{" --agent a1 --to n2 --back", "", "--to NODE or with --back"},
		{" --to n2", "", "--agent NAME"},
	} {
		out, err := runCommandLine(t, strings.Fields(admin+tt.args)...)
		if out != tt.out || (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v, %q; want %+v", tt.args, err, out, tt)
		}
	}
	want := []string{"POST /cluster/move?agent=a1&to=n2", "POST /cluster/move?agent=a1&agent=b%2C2&to="}
	if diff := cmp.Diff(want, twin.asked); diff != "" {
		t.Errorf("it was asked (-want +got):\n%s", diff)
	}
}

func TestOrdersThatFail(t *testing.T) {
	t.Parallel()
	twin := &adminTwin{state: threeNodes(), refuse: "there is no node n9"}
	server := httptest.NewServer(twin)
	defer server.Close()
	address := server.Listener.Addr().String()
	gone := httptest.NewServer(twin)
	gone.Close()
	for name, tt := range map[string]struct{ args, want string }{
		"refused":       {"reload --node n9 --admin " + address, "there is no node n9"},
		"not moved":     {"move --agent a --to n9 --admin " + address, "there is no node n9"},
		"nobody":        {"reload --admin " + gone.Listener.Addr().String(), "does it run there?"},
		"far away":      {"drain --admin 192.0.2.1:9464", "not of this machine"},
		"no file":       {"cluster", "-c FILE"},
		"drain refused": {"drain --admin " + address, "there is no node n9"},
	} {
		if out, err := runCommandLine(t, strings.Fields(tt.args)...); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, %s; want %q", name, err, out, tt.want)
		}
	}
}
