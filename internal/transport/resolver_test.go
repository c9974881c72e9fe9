package transport

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// names is a resolver of the network for tests, in a synctest bubble.
type names struct {
	mu      sync.Mutex
	known   map[string][]netip.Addr
	takes   time.Duration // of each lookup
	lookups []string
	ongoing int
	most    int // that went on at once
}

func newNames() *names { return &names{known: make(map[string][]netip.Addr)} }

// set gives a name addresses; none has its lookups fail.
func (n *names) set(name string, addresses ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.known[name] = nil
	for _, a := range addresses {
		n.known[name] = append(n.known[name], netip.MustParseAddr(a))
	}
}

// asked returns what was looked up since the last call.
func (n *names) asked() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	defer func() { n.lookups = nil }()
	return strings.Join(n.lookups, " ")
}

// slow sets what lookups take that begin from now on.
func (n *names) slow(takes time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.takes = takes
}

// count returns how many lookups go on, and how many did at most.
func (n *names) count() (ongoing, most int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ongoing, n.most
}

func (n *names) lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	n.mu.Lock()
	n.lookups = append(n.lookups, name)
	n.ongoing++
	n.most = max(n.most, n.ongoing)
	takes := n.takes
	n.mu.Unlock()
	var err error
	if takes > 0 { // a timer would have the bubble wait for all others
		select {
		case <-time.After(takes):
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ongoing--
	if err == nil && len(n.known[name]) == 0 {
		err = errors.New("no such host")
	}
	return slices.Clone(n.known[name]), err
}

func (n *names) resolver(t *testing.T) *Resolver {
	t.Helper()
	r := NewResolver(n.lookup)
	t.Cleanup(r.Close)
	return r
}

// wantAddress wants what a Resolver says of a name at once, and lets the lookup begin that this may
// lead to; one that takes no time ends.
func wantAddress(t *testing.T, r *Resolver, name, want string) {
	t.Helper()
	began := time.Now()
	if got := r.Address(name).String(); got != want {
		t.Errorf("%s has address %s, want %s", name, got, want)
	}
	if took := time.Since(began); took != 0 {
		t.Errorf("to tell the address of %s took %v", name, took)
	}
	synctest.Wait()
}

func (n *names) wantAsked(t *testing.T, what, want string) {
	t.Helper()
	if got := n.asked(); got != want {
		t.Errorf("%s: looked up %q, want %q", what, got, want)
	}
}

// unknown is how an address reads that is not known.
const unknown = "invalid IP"

// pass lets a time pass, and what ends with it end.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestResolver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNames()
		n.set("web", "10.0.0.1")
		r := n.resolver(t)
		n.wantAsked(t, "nobody has asked", "")
		wantAddress(t, r, "web", unknown)
		wantAddress(t, r, "web", "10.0.0.1")
		wantAddress(t, r, "db", unknown)
		wantAddress(t, r, "db", unknown)
		n.wantAsked(t, "each once", "web db")
	})
}

func TestResolverPrefersIPv4(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		found []string
		want  string
	}{
		"IPv4":         {[]string{"10.0.0.1", "10.0.0.2"}, "10.0.0.1"},
		"IPv6":         {[]string{"2001:db8::1", "2001:db8::2"}, "2001:db8::1"},
		"both":         {[]string{"2001:db8::1", "10.0.0.1", "10.0.0.2"}, "10.0.0.1"},
		"mapped":       {[]string{"2001:db8::1", "::ffff:10.0.0.1"}, "10.0.0.1"},
		"with a zone":  {[]string{"fe80::1%eth0"}, "fe80::1"},
		"with no more": {[]string{"fe80::1%eth0", "::ffff:10.0.0.1"}, "10.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newNames()
				n.set("web", tt.found...)
				r := n.resolver(t)
				wantAddress(t, r, "web", unknown)
				wantAddress(t, r, "web", tt.want)
			})
		})
	}
}

// TestResolverNeverWaits: a lookup that hangs ends some time, is tried again after a while, and
// meanwhile nobody waits for it or begins another.
func TestResolverNeverWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNames()
		n.slow(time.Hour)
		n.set("web", "10.0.0.1")
		r := n.resolver(t)
		for range 10 {
			wantAddress(t, r, "web", unknown)
		}
		n.wantAsked(t, "while it hangs", "web")
		pass(lookupTimeout - 1)
		if ongoing, _ := n.count(); ongoing != 1 {
			t.Errorf("%d lookups go on before their time is up, want 1", ongoing)
		}
		pass(1)
		if ongoing, _ := n.count(); ongoing != 0 {
			t.Error("the lookup goes on after its time")
		}
		n.slow(lookupTimeout - 1)
		pass(retryAfter - 1)
		wantAddress(t, r, "web", unknown)
		n.wantAsked(t, "before the time of another try", "")
		pass(1)
		wantAddress(t, r, "web", unknown)
		pass(lookupTimeout - 1)
		wantAddress(t, r, "web", "10.0.0.1")
		n.wantAsked(t, "at its time", "web")
	})
}

// TestResolverFollowsChanges: names are looked up again after a while, if somebody asks. Until the
// answer is there, and if there is none, the last address counts.
func TestResolverFollowsChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNames()
		n.set("web", "10.0.0.1")
		r := n.resolver(t)
		wantAddress(t, r, "web", unknown)
		n.set("web", "10.0.0.2")
		pass(freshFor - 1)
		wantAddress(t, r, "web", "10.0.0.1")
		n.wantAsked(t, "while fresh", "web")
		pass(1)
		n.wantAsked(t, "before somebody asks", "")
		wantAddress(t, r, "web", "10.0.0.1")
		wantAddress(t, r, "web", "10.0.0.2")
		n.wantAsked(t, "after that", "web")

		n.set("web") // fails from now on
		pass(freshFor)
		for range 3 {
			wantAddress(t, r, "web", "10.0.0.2")
			n.wantAsked(t, "at its time", "web")
			pass(retryAfter - 1)
			wantAddress(t, r, "web", "10.0.0.2")
			n.wantAsked(t, "soon after a failure", "")
			pass(1)
		}
		n.set("web", "10.0.0.3")
		wantAddress(t, r, "web", "10.0.0.2")
		wantAddress(t, r, "web", "10.0.0.3")
		n.wantAsked(t, "at last", "web")
		pass(retryAfter)
		wantAddress(t, r, "web", "10.0.0.3")
		n.wantAsked(t, "after a success", "")
	})
}

// TestResolverStaysWithAnAddress: a name with several keeps the one that was found first, in whatever
// order they come, for as long as it is among them.
func TestResolverStaysWithAnAddress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNames()
		r := n.resolver(t)
		for _, tt := range []struct {
			found []string
			want  string
		}{
			{[]string{"10.0.0.2", "10.0.0.1"}, "10.0.0.2"},
			{[]string{"10.0.0.1", "10.0.0.2"}, "10.0.0.2"},
			{[]string{"::1", "10.0.0.3", "::ffff:10.0.0.2"}, "10.0.0.2"},
			{[]string{"10.0.0.3", "10.0.0.1"}, "10.0.0.3"},
		} {
			n.set("web", tt.found...)
			r.Address("web") // has it looked up
			synctest.Wait()
			wantAddress(t, r, "web", tt.want)
			pass(freshFor)
		}
	})
}

func TestResolverLookupsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNames()
		const takes = time.Second
		n.slow(takes)
		r := n.resolver(t)
		const all = 5*lookupsAtOnce + 1
		for i := range all {
			name := fmt.Sprintf("host-%d", i)
			n.set(name, fmt.Sprintf("10.0.0.%d", i))
			wantAddress(t, r, name, unknown)
		}
		n.wantAsked(t, "at first", "host-0 host-1 host-2 host-3")
		pass(takes)
		lot := strings.Fields(n.asked())
		slices.Sort(lot)
		if got, want := strings.Join(lot, " "), "host-4 host-5 host-6 host-7"; got != want {
			t.Errorf("then looked up %q, want %q", got, want)
		}
		pass(4 * takes) // five lots are through, and one name is left
		if ongoing, most := n.count(); ongoing != 1 || most != lookupsAtOnce {
			t.Errorf("%d lookups left, up to %d at once; want 1, %d", ongoing, most, lookupsAtOnce)
		}
		pass(takes)
		for i := range all {
			wantAddress(t, r, fmt.Sprintf("host-%d", i), fmt.Sprintf("10.0.0.%d", i))
		}
	})
}

// known returns how many names a Resolver keeps.
func known(r *Resolver) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.names)
}

// TestResolverForgets: of names that came and went nothing is left. Those that are asked for stay.
func TestResolverForgets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNames()
		n.set("web", "10.0.0.1")
		n.set("old", "10.0.0.2")
		r := n.resolver(t)
		wantAddress(t, r, "web", unknown)
		wantAddress(t, r, "old", unknown)
		for i := range 100 {
			wantAddress(t, r, fmt.Sprintf("gone-%d", i), unknown)
		}
		for range int(forgottenFor / freshFor) {
			pass(freshFor)
			wantAddress(t, r, "web", "10.0.0.1")
		}
		wantAddress(t, r, "one more", unknown)
		if got := known(r); got != 103 {
			t.Errorf("%d names are known within the hour, want 103", got)
		}
		pass(1)
		wantAddress(t, r, "new", unknown)
		if got := known(r); got != 3 {
			t.Errorf("%d names are known, want web, one more, and new", got)
		}
		wantAddress(t, r, "web", "10.0.0.1")
		wantAddress(t, r, "old", unknown)
		wantAddress(t, r, "old", "10.0.0.2")
	})
}

// TestResolverCloses: it ends the lookups that hang and those that wait, and then knows nothing.
func TestResolverCloses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNames()
		n.slow(time.Hour)
		r := NewResolver(n.lookup)
		for i := range 3 * lookupsAtOnce {
			wantAddress(t, r, fmt.Sprintf("host-%d", i), unknown)
		}
		began := time.Now()
		r.Close()
		if ongoing, _ := n.count(); ongoing != 0 || time.Since(began) != 0 {
			t.Errorf("Close took %v, and %d lookups go on", time.Since(began), ongoing)
		}
		if got := len(strings.Fields(n.asked())); got != lookupsAtOnce {
			t.Errorf("%d lookups, want %d: none begins with Close", got, lookupsAtOnce)
		}
		wantAddress(t, r, "host-0", unknown)
		wantAddress(t, r, "web", unknown)
		r.Close()
		n.wantAsked(t, "once closed", "")
	})
}

// TestResolverOfNetwork asks the machine itself.
func TestResolverOfNetwork(t *testing.T) {
	t.Parallel()
	r := NewResolver(nil)
	defer r.Close()
	ctx := within(t, long)
	for ctx.Err() == nil && !r.Address("localhost").IsValid() {
		r.work.Wait()
	}
	if ip := r.Address("localhost"); !ip.IsLoopback() {
		t.Errorf("localhost has address %v", ip)
	}
}

// TestResolverFromEverywhere is for the race detector: names are asked for from many goroutines while
// they are looked up, with success and without, and the Resolver is closed in midst of that. Not in a
// bubble, where lookups would go on only while nobody asks.
func TestResolverFromEverywhere(t *testing.T) {
	t.Parallel()
	want := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) }
	n := newNames()
	const all, callers = 500, 4
	for i := 0; i < all; i += 2 { // the others fail
		n.set(fmt.Sprint(i), want(i).String())
	}
	r := n.resolver(t)
	var closed atomic.Bool
	var ask sync.WaitGroup
	for range callers {
		ask.Go(func() {
			for i := range all {
				ip := r.Address(fmt.Sprint(i))
				for i%2 == 0 && !ip.IsValid() && !closed.Load() {
					runtime.Gosched()
					ip = r.Address(fmt.Sprint(i))
				}
				if ip.IsValid() && ip != want(i) {
					t.Errorf("%d has address %v", i, ip)
				}
				if i == all-10 {
					r.Close()
					closed.Store(true)
				}
			}
		})
	}
	ask.Wait()
	if _, most := n.count(); most > lookupsAtOnce {
		t.Errorf("up to %d lookups at once", most)
	}
	if asked := len(strings.Fields(n.asked())); asked < all/2-10 || asked > all {
		t.Errorf("%d names of %d were looked up", asked, all)
	}
}
