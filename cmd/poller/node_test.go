package main

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/sim"
)

// freePort returns an address on which nobody listens.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// A cluster of one polls, tells of itself, reloads, and ends when it is told to drain.
func TestNode(t *testing.T) {
	t.Parallel()
	core, address := startCore(t)
	listen, remote := freePort(t), freePort(t)
	file := configFile(t, twoAgents+"[cluster]\nenabled = true\nnode = \"solo\"\nsize = 1\nlisten = %q\nremote = %q\n",
		address, checker(t, sim.OK()), checker(t, sim.OK()), listen, remote)
	p := start(t, file)
	admin := p.await(t, "poller started")["admin"].(string)
	p.await(t, "cycle closed")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := core.Await(ctx, func(all []sim.Delivery) bool {
		return slices.ContainsFunc(all, func(d sim.Delivery) bool { return len(d.Services) == 3 })
	}); err != nil {
		t.Fatal(err)
	}
	r := poller(t, "cluster", "--admin", admin)
	if r.code != 0 || !strings.Contains(r.stdout, "this is solo, which may poll") || !strings.Contains(r.stdout, "solo  2      2     2") {
		t.Errorf("%+v", r)
	}
	checkMoves(t, p, admin)
	if r := poller(t, "reload", "--admin", admin); r.code != 0 {
		t.Errorf("reload: %+v", r)
	}
	p.await(t, "configuration looked at again: nothing of it changed")
	if r := poller(t, "drain", "--admin", admin, "--node", "nobody"); r.code != 1 || !strings.Contains(r.stderr, "there is no node nobody") {
		t.Errorf("drain of a node that there is not: %+v", r)
	}
	if r := poller(t, "drain", "--admin", admin); r.code != 0 || !strings.Contains(r.stdout, "solo hands over its agents") {
		t.Errorf("drain: %+v", r)
	}
	if code := p.end(); code != 0 {
		t.Errorf("it ended with %d", code)
	}
}

// checkMoves has agents of a cluster of one moved, as far as they can be.
func checkMoves(t *testing.T, p *running, admin string) {
	t.Helper()
	for _, tt := range []struct{ args, says string }{
		{"--agent one --agent nobody --to solo", "there is no agent nobody in the configuration of node solo"},
		{"--agent one --to nobody", "there is no node nobody in the cluster that is alive"},
	} {
		if r := poller(t, append([]string{"move", "--admin", admin}, strings.Fields(tt.args)...)...); r.code != 1 || !strings.Contains(r.stderr, tt.says) {
			t.Errorf("move %s: %+v; want %q", tt.args, r, tt.says)
		}
	}
	shows := func() bool {
		return strings.Contains(poller(t, "cluster", "--admin", admin).stdout, "1 agent is pinned: one to solo\n")
	}
	if shows() {
		t.Error("what could not be moved is pinned")
	}
	if r := poller(t, "move", "--admin", admin, "--agent", "one", "--to", "solo"); r.code != 0 || r.stdout != "one is pinned to solo\n" || !shows() {
		t.Errorf("move: %+v, and what is pinned is shown: %v", r, shows())
	}
	p.await(t, "agents moved: a node is to poll them as long as it is there, until they are moved again")
	if r := poller(t, "move", "--admin", admin, "--agent", "one", "--back"); r.code != 0 || r.stdout != "one is not pinned any more\n" || shows() {
		t.Errorf("move back: %+v, and what is pinned is shown: %v", r, shows())
	}
}

// What can't be at the start of a node is told, and what to do.
func TestNodeThatCannotStart(t *testing.T) {
	t.Parallel()
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	in := taken.Addr().String()
	for _, tt := range []struct{ listen, remote, want string }{
		{in, freePort(t), in},
		{freePort(t), in, "listen for other nodes at cluster.remote " + in},
	} {
		file := configFile(t, twoAgents+"[cluster]\nenabled = true\nsize = 1\nlisten = %q\nremote = %q\n", "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", tt.listen, tt.remote)
		r := poller(t, "run", "-c", file)
		if r.code != 1 || !strings.Contains(r.stderr, tt.want) || !strings.Contains(r.stderr, "address already in use") {
			t.Errorf("%+v; want %q", r, tt.want)
		}
		if strings.Contains(r.stderr, "panic") {
			t.Error("it panicked")
		}
	}
}
