package cluster

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
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
