package cluster

import (
	"context"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/memberlist"
	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
	pb "github.com/serviceradar/poller/proto/cluster"
)

// TestThreeNodes: they find each other, may poll, and hear what each says of itself.
func TestThreeNodes(t *testing.T) {
	t.Parallel()
	w := newSecureWorld(t)
	a, b, c := w.three()
	if v := c.View(); v.Size != 3 || v.Majority != 2 || v.Minority || v.Era != 1 || v.Self != c.Self() {
		t.Errorf("the view of c: %+v", v)
	}
	if got := c.requires(); got != "a b" {
		t.Errorf("c requires %s", got)
	}
	if c.Holds(0) || c.Holds(2) {
		t.Error("c holds an era that is not")
	}
	said := machine.Announcement{Weight: 250, Hash: "abc", Draining: true, Agents: 40, Held: 13, Pins: "def"}
	b.Announce(said)
	for _, n := range []*node{a, b, c} {
		w.until(n.self.Name+" hears what b says", func() bool { return n.member("b").Hash == "abc" })
		got := n.member("b")
		if n != b {
			w.until(n.self.Name+" has measured", func() bool { return n.member("b").RTT > 0 })
		}
		got.Offset, got.RTT = 0, 0
		want := machine.Member{
			NodeID: b.Self(), Remote: "b.example:8090", Weight: 250, Hash: "abc", Draining: true, Size: 3, Agents: 40, Held: 13, Pins: "def", Version: "v1",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("b as seen by %s (-want +got):\n%s", n.self.Name, diff)
		}
	}
	if got := events[MemberJoined](a); len(got) < 2 || got[0].Remote == "" || got[0].Address == "" {
		t.Errorf("a told %+v", got)
	}
	if got := events[SeedsSilent](c); len(got) > 0 {
		t.Errorf("c told %+v", got)
	}
}

// TestDeath: one that is gone without a word is found dead, and its lease is over some time later. What comes in its place is another.
func TestDeath(t *testing.T) {
	t.Parallel()
	w := newSecureWorld(t)
	a, b, c := w.three()
	era := a.View().Era
	began := time.Now()
	c.die()
	if c.ready() || c.Holds(1) {
		t.Error("c may poll after its end")
	}
	for _, n := range []*node{a, b} {
		w.until("c is dead", func() bool { return n.sees() == "a b" })
		w.until("the lease of c is over", func() bool { return !strings.Contains(n.requires(), "c") })
		if died := events[MemberDied](n); len(died) != 1 || died[0].Node != c.Self() || died[0].Losses != 1 {
			t.Errorf("%s told %+v", n.self.Name, died)
		}
	}
	t.Logf("the lease of c was over everywhere %v after its end", time.Since(began))
	if !a.Holds(era) {
		t.Error("a lost its lease, though it has a majority")
	}
	again := w.start("c") // at another address
	w.gather(a, b, again)
	if got := a.member("c"); got.NodeID != again.Self() || got.NodeID == c.Self() {
		t.Errorf("a has %v for c", got.NodeID)
	}
	w.until("c hears that it was lost", func() bool { return again.View().Losses == 1 })
	if a.View().Losses != 0 {
		t.Error("a was lost")
	}
	for _, n := range []*node{a, b, again} {
		if got := events[NameConflict](n); len(got) > 0 {
			t.Errorf("%s told %+v", n.self.Name, got)
		}
	}
}

// TestRestart: another life of a node at its old address takes the place of the one before, though nobody has found that dead.
func TestRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.start("a"), w.start("b")
	c := w.start("c")
	w.gather(a, b, c)
	at := c.Address()
	c.die()
	again := w.start("c", func(config *Config) { config.Listen = at })
	w.gather(a, b, again)
	for _, n := range []*node{a, b} {
		w.until("the lease of the life before is over", func() bool { return len(n.View().Required) == 2 })
		if got := n.member("c").NodeID; got != again.Self() {
			t.Errorf("%s has %v for c", n.self.Name, got)
		}
		if died := events[MemberDied](n); len(died) != 1 || died[0].Node != c.Self() {
			t.Errorf("%s told %s", n.self.Name, n.told())
		}
	}
	w.until("c hears that it was lost", func() bool { return again.View().Losses == 1 })
}

// TestLeave: one that leaves has given up its lease, and is gone for the others when Leave returns; nobody takes it for dead.
func TestLeave(t *testing.T) {
	t.Parallel()
	w := newSecureWorld(t)
	a, b, c := w.three()
	c.leave()
	if c.View().Leased || c.Holds(1) {
		t.Error("c may poll after it has left")
	}
	for _, n := range []*node{a, b} {
		if got := n.sees(); got != "a b" {
			t.Errorf("%s sees %s", n.self.Name, got)
		}
		if got := n.requires(); strings.Contains(got, "c") {
			t.Errorf("%s requires %s", n.self.Name, got)
		}
		if !n.ready() {
			t.Errorf("%s may not poll", n.self.Name)
		}
	}
	c.die()
	again := w.start("c")
	w.gather(a, b, again)
	for _, n := range []*node{a, b} {
		for _, e := range events[PacketsDropped](n) {
			if e.Address == c.Address() && strings.Contains(e.Err.Error(), "refused") {
				t.Errorf("%s told %+v", n.self.Name, e)
			}
		}
		if left := events[MemberLeft](n); len(left) != 1 || left[0].Node != c.Self() || len(events[MemberDied](n)) != 0 {
			t.Errorf("%s told %s", n.self.Name, n.told())
		}
	}
	if again.View().Losses != 0 {
		t.Error("it is said to have been lost")
	}
}

// TestLeaveInVain: one that leaves waits for others no longer than it is to.
func TestLeaveInVain(t *testing.T) {
	t.Parallel()
	w := newSecureWorld(t)
	a, b := w.start("a"), w.start("b")
	w.gather(a, b)
	b.isolate(tlsidtest.NewCA(t).Issue(t, "stranger"))
	ctx, cancel := context.WithTimeout(t.Context(), beatEvery)
	defer cancel()
	a.Leave(ctx)
	if ctx.Err() == nil {
		t.Error("it did not wait")
	}
	if a.View().Leased || len(events[MemberLeft](b)) > 0 {
		t.Errorf("b told %s", b.told())
	}
}

// TestMajority: who may poll, by how many there are.
func TestMajority(t *testing.T) {
	t.Parallel()
	t.Run("one of three", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		a := w.start("a")
		if v := a.View(); v.Leased || !v.Minority || a.Holds(v.Era) {
			t.Errorf("%+v", v)
		}
		b := w.start("b")
		w.gather(a, b)
		era := a.View().Era
		b.die()
		w.until("a has lost its lease", func() bool { return !a.View().Leased })
		if v := a.View(); !v.Minority || a.Holds(era) {
			t.Errorf("%+v", v)
		}
		again := w.start("b")
		w.gather(a, again)
		if v := a.View(); v.Era != era+1 || a.Holds(era) {
			t.Errorf("regained: %+v", v)
		}
	})
	t.Run("one of one", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		a := w.start("a", func(c *Config) { c.Size = 1 })
		w.gather(a)
		if v := a.View(); v.Minority || v.Era != 1 || len(v.Required) != 0 {
			t.Errorf("%+v", v)
		}
	})
	t.Run("keep", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		keep := func(c *Config) { c.Keep = true }
		a := w.start("a", keep)
		if v := a.View(); v.Leased || a.Holds(v.Era) {
			t.Errorf("before it could have heard others: %+v", v)
		}
		w.until("it polls alone", func() bool { return a.View().Leased })
		if v := a.View(); !v.Minority || !v.Informed || !a.Holds(v.Era) {
			t.Errorf("alone: %+v", v)
		}
		b := w.start("b", keep)
		w.gather(a, b)
		w.until("there is a majority", func() bool { return !a.View().Minority })
		b.die()
		w.until("there is none any more", func() bool { return a.View().Minority })
		if v := a.View(); !v.Leased || !a.Holds(v.Era) {
			t.Errorf("left alone: %+v", v)
		}
		a.leave()
		if v := a.View(); v.Leased || a.Holds(v.Era) {
			t.Errorf("gone: %+v", v)
		}
	})
}

// TestSplit: one that is cut off may not poll for long, and comes back by itself; the majority goes on.
func TestSplit(t *testing.T) {
	t.Parallel()
	w := newSecureWorld(t)
	a, b, c := w.three()
	mend := c.isolate(tlsidtest.NewCA(t).Issue(t, "stranger"))
	w.until("c has lost its lease", func() bool { return !c.View().Leased })
	w.until("c sees nobody", func() bool { return c.sees() == "c" })
	for _, n := range []*node{a, b} {
		w.until("c is dead, and its lease over", func() bool { return n.sees() == "a b" && !strings.Contains(n.requires(), "c") })
	}
	mend()
	w.gather(a, b, c)
	for n, era := range map[*node]uint64{a: 1, b: 1, c: 2} {
		if v := n.View(); v.Era != era {
			t.Errorf("%s: era %d, want %d", n.self.Name, v.Era, era)
		}
	}
	if got := a.member("c").NodeID; got != c.Self() {
		t.Errorf("a has %v for c", got)
	}
}

// TestSeeds: a node that finds nobody says where it looked.
func TestSeeds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	nobody := carry(t, check.TLS{})
	address := nobody.at()
	if err := nobody.Shutdown(); err != nil {
		t.Fatal(err)
	}
	a := w.start("a", func(c *Config) { c.Seeds = []string{address, "no-such-host.invalid:1", "nonsense"} })
	w.until("a tells that no seed answers", func() bool { return len(events[SeedsSilent](a)) > 0 })
	said := events[SeedsSilent](a)[0].Err.Error()
	for _, want := range []string{"cluster test", address + ": connect: connection refused", "no-such-host.invalid:1: ", "nonsense: ", "every 2s"} {
		if !strings.Contains(said, want) {
			t.Errorf("told %s\nwant in it: %s", said, want)
		}
	}
	b := w.start("b", func(c *Config) {
		_, port, _ := net.SplitHostPort(a.Address())
		c.Seeds = []string{net.JoinHostPort("localhost", port)}
	})
	w.gather(a, b)
	w.until("a tells that it has found somebody", func() bool { return len(events[SeedsFound](a)) == 1 })
	if got := events[SeedsSilent](b); len(got) > 0 {
		t.Errorf("b told %v", got)
	}
}

// TestOwnSeed: nobody misses anybody if the only seed is the node itself.
func TestOwnSeed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	free := carry(t, check.TLS{})
	at := free.at()
	if err := free.Shutdown(); err != nil {
		t.Fatal(err)
	}
	a := w.start("a", func(c *Config) { c.Listen, c.Seeds = at, []string{at} })
	if errs := a.gather(); errs != nil {
		t.Errorf("%v", errs)
	}
	a.die()
	again := w.start("a", func(c *Config) { c.Listen, c.Seeds = at, []string{at, "nonsense"} })
	if errs := again.gather(); len(errs) != 1 {
		t.Errorf("%v", errs)
	}
}

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

func TestClock(t *testing.T) {
	t.Parallel()
	k := newClock()
	wait(t, "moment", time.After(50*time.Millisecond)) // in which nothing is done
	before := time.Now()
	got := k.now()
	if after := time.Now(); got.Before(before.Add(-time.Millisecond)) || got.After(after.Add(time.Millisecond)) {
		t.Errorf("%v, and it is between %v and %v", got, before, after)
	}
	k.boot -= time.Hour // as if it had slept
	if slept := k.now().Sub(got); runtime.GOOS == "linux" && (slept-time.Hour).Abs() > time.Minute {
		t.Errorf("%v after it has slept for an hour", slept)
	}
}

// BenchmarkHolds is what a run pays for the fence.
func BenchmarkHolds(b *testing.B) {
	c := &Cluster{clock: newClock()}
	c.fence.Store(&fence{era: 1, until: c.clock.now().Add(time.Hour)})
	b.ReportAllocs()
	for b.Loop() {
		if !c.Holds(1) {
			b.Fatal("it does not hold")
		}
	}
}

func TestSilence(t *testing.T) {
	t.Parallel()
	var told []Event
	s := silence{tell: func(e Event) { told = append(told, e) }}
	one, two := []error{errTooLarge}, []error{errOld}
	for i, step := range []struct {
		after time.Duration
		errs  []error
		tells bool
	}{
		{0, nil, false},
		{0, one, true},
		{2 * time.Second, one, false},
		{4 * time.Second, two, false},
		{10 * time.Second, two, true},
		{30 * time.Second, two, false},
		{70 * time.Second, two, true},
		{71 * time.Second, nil, true},
		{73 * time.Second, nil, false},
		{75 * time.Second, one, true},
	} {
		told = nil
		if s.is(step.errs, "test", time.Unix(1e9, 0).Add(step.after)); (len(told) == 1) != step.tells {
			t.Errorf("step %d: told %v", i, told)
		}
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

// TestClusters: those of another name are strangers.
func TestClusters(t *testing.T) {
	t.Parallel()
	w := newSecureWorld(t)
	a := w.start("a")
	b := w.start("b", func(c *Config) { c.Name = "other" })
	w.until("b is told", func() bool { return len(events[SeedsSilent](b)) > 0 })
	if said := events[SeedsSilent](b)[0].Err.Error(); !strings.Contains(said, `it is not a node of the cluster "other"`) {
		t.Errorf("b told %s", said)
	}
	w.until("a tells", func() bool { return len(events[Refused](a)) > 0 })
	if got := events[Refused](a)[0]; !strings.Contains(got.Reason, `a node of the cluster "other"`) || !strings.HasPrefix(got.Address, "127.0.0.1:") {
		t.Errorf("a told %+v", got)
	}
	if a.sees() != "a" || b.sees() != "b" || a.Counts().Refused == 0 {
		t.Errorf("a sees %s, b %s", a.sees(), b.sees())
	}
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

// TestRenew: nodes that get other certificates, one after the other, stay together.
func TestRenew(t *testing.T) {
	t.Parallel()
	w := newSecureWorld(t)
	a, b, c := w.three()
	for _, n := range []*node{a, b, c} {
		if err := n.Renew(w.ca.Issue(t, "another")); err != nil {
			t.Fatal(err)
		}
	}
	a.Announce(machine.Announcement{Hash: "new"})
	w.until("c hears from a", func() bool { return c.member("a").Hash == "new" })
	if err := a.Renew(check.TLS{}); err == nil || !strings.Contains(err.Error(), "restart it") {
		t.Errorf("to plaintext: %v", err)
	}
	broken := w.ca.Issue(t, "broken")
	broken.CertFile = "missing.pem"
	if err := a.Renew(broken); err == nil || !strings.Contains(err.Error(), "missing.pem") {
		t.Errorf("broken: %v", err)
	}
	for _, n := range []*node{a, b, c} {
		if got := n.shows(w.ca.Issue(t, "client")); got != "another" {
			t.Errorf("%s shows the certificate of %q", n.self.Name, got)
		}
	}
	w.gather(a, b, c)

	// Those who connect are shown what is in the files, without anybody's doing.
	again := w.ca.Issue(t, "again")
	if err := a.Renew(again); err != nil {
		t.Fatal(err)
	}
	tlsidtest.Replace(t, again.CertFile, w.ca.Issue(t, "half").CertFile)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for len(events[IdentityRead](a)) == 0 {
		if got := a.shows(w.ca.Issue(t, "client")); got != "again" {
			t.Fatalf("it shows the certificate of %q", got)
		}
		wait(t, "tick", tick.C)
	}
	if got := events[IdentityRead](a)[0].Err; got == nil || !strings.Contains(got.Error(), "not the key of the certificate") {
		t.Errorf("told %v", got)
	}
}

func TestStartErrors(t *testing.T) {
	t.Parallel()
	ca := tlsidtest.NewCA(t)
	good := ca.Issue(t, "a")
	for name, test := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"no name":         {func(c *Config) { c.Name = "" }, "it needs 1 to 255"},
		"a long name":     {func(c *Config) { c.Name = strings.Repeat("x", 256) }, "its name has 256 bytes"},
		"no node":         {func(c *Config) { c.Node = "" }, "the node has no name"},
		"no remote":       {func(c *Config) { c.Remote = "" }, "give it a host:port"},
		"a long remote":   {func(c *Config) { c.Remote = strings.Repeat("x", 600) }, "more than 512 bytes"},
		"no size":         {func(c *Config) { c.Size = 0 }, "a cluster of 0 nodes"},
		"plaintext":       {func(c *Config) { c.Listen, c.TLS = "10.0.0.1:7946", check.TLS{} }, "would let anybody be a node"},
		"only servers":    {func(c *Config) { c.TLS.Mode = check.TLSServer }, `does not tell nodes from strangers: use "mtls"`},
		"no authorities":  {func(c *Config) { c.TLS.CAFile = "" }, "set cert_file, key_file and ca_file"},
		"no certificate":  {func(c *Config) { c.TLS.CertFile = "missing.pem" }, "missing.pem"},
		"unusable listen": {func(c *Config) { c.Listen = "0.0.0.0:1" }, "IP address at which the other nodes reach this one"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := Config{Name: "test", Node: "a", Listen: "127.0.0.1:0", Remote: "a:1", Size: 3, TLS: good}
			test.change(&config)
			c, err := startNode(t, config)
			if err == nil {
				_ = c.Close()
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v; want in it: %s", err, test.want)
			}
		})
	}
}

// TestEnds: to leave and to close, in any order, again, and at the same time.
func TestEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.start("a"), w.start("b")
	w.gather(a, b)
	done := make(chan struct{})
	for _, do := range []func(){a.leave, a.die, a.leave, a.die} {
		go func() { do(); done <- struct{}{} }()
	}
	for range 4 {
		wait(t, "end", done)
	}
	a.Announce(machine.Announcement{Hash: "late"})
	a.SetSize(7)
	if a.ready() {
		t.Error("it may poll after its end")
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
