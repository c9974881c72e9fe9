package cluster

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/internal/machine"
	pb "github.com/serviceradar/poller/proto/cluster"
)

// TestMalformed: what a node says of itself has to be understood, or it is not let in.
func TestMalformed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.start("a")
	for meta, ok := range map[string]bool{"1 boot remote:1": true, "1 boot remote:1 more": true, "": false, "1": false, "1  r": false, "2 boot remote:1": false} {
		n := &memberlist.Node{Name: "b" + meta, Addr: net.IPv4(127, 0, 0, 1), Port: 1, Meta: []byte(meta)}
		if err := (*delegate)(a.Cluster).NotifyAlive(n); (err == nil) != ok {
			t.Errorf("%q: %v", meta, err)
		}
	}
	if got := events[NodeMalformed](a); len(got) != 4 || got[0].Address != "127.0.0.1:1" || !strings.Contains(got[0].Reason, "another version") {
		t.Errorf("told %+v", got)
	}
}

func TestThin(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	th := make(thin)
	for i, step := range []struct {
		after time.Duration
		n     int
		held  int
		ok    bool
	}{{0, 5, 0, true}, {1, 2, 0, false}, {time.Minute - 1, 3, 0, false}, {time.Minute, 7, 5, true}, {time.Minute + 1, 1, 0, false}, {2 * time.Minute, 1, 1, true}} {
		if held, ok := th.pass("k", step.n, now.Add(step.after)); held != step.held || ok != step.ok {
			t.Errorf("step %d: %d, %t", i, held, ok)
		}
	}
	for i := range 10 * mostThinned {
		th.pass(strings.Repeat("x", i), 1, now.Add(2*time.Minute))
	}
	if len(th) > mostThinned+1 {
		t.Errorf("it keeps %d", len(th))
	}
	if _, ok := th.pass("new", 1, now.Add(10*time.Minute)); !ok || len(th) > 2 {
		t.Errorf("later: %t, it keeps %d", ok, len(th))
	}
}

// TestNameConflict: of two nodes of a name one is heard, and all are told; when that is gone the other takes its place.
func TestNameConflict(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.start("a"), w.start("b")
	w.gather(a, b)
	twin := w.start("a", func(c *Config) { c.Seeds = []string{b.Address()} })
	for n, ours := range map[*node]bool{b: false, twin: true} {
		w.until("it tells of the conflict", func() bool { return len(events[NameConflict](n)) > 0 })
		got := events[NameConflict](n)[0]
		if got.Name != "a" || got.Ours != ours || got.Address == got.Other {
			t.Errorf("told %+v", got)
		}
	}
	if v := twin.View(); v.Leased || !a.ready() || !b.ready() {
		t.Errorf("the second of the name: %+v", v)
	}
	if got := b.member("a").NodeID; got != a.Self() {
		t.Errorf("b has %v for a", got)
	}
	a.die()
	w.gather(b, twin)
}

// TestUnknown: what is not known is ignored, counted, and told once.
func TestUnknown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.start("a"), w.start("b")
	w.gather(a, b)
	a.mu.Lock()
	to := a.members["b"].node
	a.mu.Unlock()
	beat, err := proto.Marshal(&pb.Beat{From: &pb.Node{Name: "a", Boot: "another life"}, Seq: 1 << 40, Hash: "wrong"})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		for _, e := range []*pb.Envelope{
			{Kind: 99, Version: 1}, {Kind: kindBeat, Version: 2}, {Kind: kindBeat, Version: 1, Body: []byte("nonsense")}, {Kind: kindBeat, Version: 1, Body: beat},
		} {
			body, err := proto.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			if err := a.list.Load().SendBestEffort(&to, body); err != nil {
				t.Error(err)
			}
		}
		if err := a.list.Load().SendBestEffort(&to, []byte("nonsense")); err != nil {
			t.Error(err)
		}
	}
	a.Announce(machine.Announcement{Hash: "right"})
	w.until("b has ignored it", func() bool { return b.member("a").Hash == "right" && b.Counts().Ignored >= 15 })
	if got := events[MessageUnknown](b); len(got) != 2 {
		t.Errorf("told %+v", got)
	}
}

// TestSizes: the greatest counts, also that of one that is dead, until this node's own is set anew.
func TestSizes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.start("a"), w.start("b")
	w.gather(a, b)
	c := w.start("c", func(c *Config) { c.Size, c.PollerID = 5, "poller-of-a" })
	w.gather(a, b, c)
	w.until("a tells that c is the same poller to core", func() bool {
		got := events[PollerShared](a)
		return len(got) == 1 && got[0] == PollerShared{c.Self(), "poller-of-a"}
	})
	if got := events[PollerShared](b); len(got) > 0 {
		t.Errorf("b told %+v", got)
	}
	w.until("a goes by the size of c", func() bool { return a.View().Size == 5 && a.View().Majority == 3 })
	if got := events[SizesDiffer](a); len(got) != 1 || got[0] != (SizesDiffer{c.Self(), 5, 3}) {
		t.Errorf("a told %+v", got)
	}
	c.die()
	for _, n := range []*node{a, b} {
		w.until("there is no majority", func() bool { return n.sees() == "a b" && !n.View().Leased })
	}
	if v := a.View(); v.Size != 5 {
		t.Errorf("size %d", v.Size)
	}
	a.SetSize(3)
	b.SetSize(3)
	w.until("they have a majority", func() bool { return a.ready() && b.ready() })
	if v := a.View(); v.Size != 3 || v.Majority != 2 {
		t.Errorf("%+v", v)
	}
}

// TestTooMany: more nodes than the size are told of, and count.
func TestTooMany(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	two := func(c *Config) { c.Size = 2 }
	a, b, c := w.start("a", two), w.start("b", two), w.start("c", two)
	w.gather(a, b, c)
	if got := events[TooMany](a); len(got) != 1 || got[0] != (TooMany{3, 2}) {
		t.Errorf("a told %+v", got)
	}
	if v := a.View(); v.Size != 3 || v.Majority != 2 {
		t.Errorf("%+v", v)
	}
}

// TestClocks: a clock that differs is measured, and told.
func TestClocks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.start("a")
	b := w.start("b", func(c *Config) { c.Clock = func() int64 { return time.Now().Add(5 * time.Second).UnixNano() } })
	w.until("both tell", func() bool { return len(events[ClocksDiffer](a)) == 1 && len(events[ClocksDiffer](b)) == 1 })
	for n, want := range map[*node]time.Duration{a: 5 * time.Second, b: -5 * time.Second} {
		if got := events[ClocksDiffer](n)[0]; (got.By - want).Abs() > time.Second {
			t.Errorf("%s told %+v", n.self.Name, got)
		}
	}
	if got := a.member("b").Offset; (got - 5*time.Second).Abs() > time.Second {
		t.Errorf("the offset is %v", got)
	}
}

// A node that answers is there, though memberlist has it for dead; when it answers no more it is not.
func TestDoubted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b, c := w.three()
	a.Cluster.mu.Lock()
	known := a.members["b"].node
	a.Cluster.mu.Unlock()
	(*delegate)(a.Cluster).NotifyLeave(&known)
	seq := func() uint64 {
		a.Cluster.mu.Lock()
		defer a.Cluster.mu.Unlock()
		if m := a.members["b"]; m != nil && m.doubted {
			return m.echoed
		}
		return 0
	}
	if seq() == 0 {
		t.Fatal("a does not doubt that b is there")
	}
	<-time.After(answersFor + 3*beatEvery) // that is how long it has to answer to be there still
	if a.sees() != "a b c" || len(events[MemberDied](a)) > 0 {
		t.Errorf("a sees %s", a.sees())
	}
	(*delegate)(a.Cluster).NotifyJoin(&known)
	if seq() != 0 {
		t.Error("a doubts on that b is there, when memberlist has found it")
	}
	(*delegate)(a.Cluster).NotifyLeave(&known)
	b.die()
	w.until("b is dead", func() bool { return a.sees() == "a c" && c.sees() == "a c" })
	if died := events[MemberDied](a); len(died) != 1 {
		t.Errorf("a told %+v", died)
	}
}
