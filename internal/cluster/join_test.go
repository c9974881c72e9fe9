package cluster

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/check"
)

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
