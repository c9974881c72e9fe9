package transport

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/internal/tlsid"
	"github.com/serviceradar/poller/internal/wire"
)

// reconfigured are three cores and a client of the first two, whose configuration changes.
type reconfigured struct {
	*cores
	c   *Core
	cfg CoreConfig
}

func inReconfigured(t *testing.T, do func(t *testing.T, w *reconfigured)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &reconfigured{cores: newCores(t, 3)}
		w.cfg = CoreConfig{Addresses: w.addresses[:2], Dial: w.network.Dial, Timeout: 3 * time.Second}
		w.c = newCore(t, w.cfg)
		do(t, w)
	})
}

// change has the next deliveries go by what is changed in the configuration. It takes no time, whatever is under way.
func (w *reconfigured) change(how func(*CoreConfig)) {
	w.t.Helper()
	how(&w.cfg)
	w.atOnce(func() { w.c.Reconfigure(w.cfg) })
}

func (w *reconfigured) renew() {
	w.t.Helper()
	w.atOnce(w.c.Renew)
}

func (w *reconfigured) atOnce(do func()) {
	w.t.Helper()
	began := time.Now()
	if do(); time.Since(began) != 0 {
		w.t.Errorf("it took %v", time.Since(began))
	}
}

// to makes these cores the addresses.
func (w *reconfigured) to(cores ...int) func(*CoreConfig) {
	return func(cfg *CoreConfig) {
		cfg.Addresses = nil
		for _, i := range cores {
			cfg.Addresses = append(cfg.Addresses, w.addresses[i])
		}
	}
}

// failOver has the second core be the one in use.
func (w *reconfigured) failOver(t *testing.T) {
	t.Helper()
	w.cores.cores[0].SetFault(sim.CoreFault{Code: codes.Unavailable, Times: 1})
	wantError(t, "the first core", deliver(t, w.c, 0), wire.Retry, w.addresses[0])
	mustDeliver(t, w.c, 0)
}

// inFlight begins a delivery, which takes two seconds at a core, and returns once it is there.
func (w *reconfigured) inFlight(t *testing.T, core, n int) (done <-chan error) {
	t.Helper()
	w.cores.cores[core].SetFault(sim.CoreFault{Delay: 2 * time.Second, Times: 1})
	ended := make(chan error, 1)
	go func() { ended <- deliver(t, w.c, n, "a/ssh") }()
	synctest.Wait()
	return ended
}

func TestReconfigureIdle(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		// over has the second core be in use before.
		over   bool
		change func(w *reconfigured) func(*CoreConfig)
		core   int  // who gets the next report
		kept   bool // over the connection that there was
	}{
		{"another address", false, func(w *reconfigured) func(*CoreConfig) { return w.to(2) }, 2, false},
		{"another address in front", false, func(w *reconfigured) func(*CoreConfig) { return w.to(2, 0, 1) }, 2, false},
		{"another address behind", false, func(w *reconfigured) func(*CoreConfig) { return w.to(0, 1, 2) }, 0, true},
		{"an address less", false, func(w *reconfigured) func(*CoreConfig) { return w.to(0) }, 0, true},
		{"another order", false, func(w *reconfigured) func(*CoreConfig) { return w.to(1, 0) }, 1, false},
		{"the one in use is now first", true, func(w *reconfigured) func(*CoreConfig) { return w.to(1, 0) }, 1, true},
		{"the one in use is not first", true, func(w *reconfigured) func(*CoreConfig) { return w.to(0, 1, 2) }, 0, false},
		{"the one in use is gone", true, func(w *reconfigured) func(*CoreConfig) { return w.to(0) }, 0, false},
		{"the same addresses", true, func(w *reconfigured) func(*CoreConfig) { return w.to(0, 1) }, 1, true},
		{"another timeout", true, func(*reconfigured) func(*CoreConfig) {
			return func(cfg *CoreConfig) { cfg.Timeout = time.Second }
		}, 1, true},
		{"another time to find the dead", true, func(*reconfigured) func(*CoreConfig) {
			return func(cfg *CoreConfig) { cfg.FindDead = time.Second }
		}, 1, false},
		{"another identity", true, func(*reconfigured) func(*CoreConfig) {
			return func(cfg *CoreConfig) { cfg.TLS = check.TLS{Mode: check.TLSNone} }
		}, 1, false},
		{"another store of identities", true, func(*reconfigured) func(*CoreConfig) {
			return func(cfg *CoreConfig) { cfg.Identities = tlsid.NewStore() }
		}, 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			inReconfigured(t, func(t *testing.T, w *reconfigured) {
				mustDeliver(t, w.c, 1, "a/ssh")
				if tt.over {
					w.failOver(t)
				}
				w.change(tt.change(w))
				if kept := w.c.conn != nil; kept != tt.kept {
					t.Errorf("a connection is kept: %t", kept)
				}
				mustDeliver(t, w.c, 2, "a/ssh")
				taken := brief(w.cores.cores[tt.core])
				want := "stream p/1/2 a/ssh"
				if tt.kept {
					want = "unary p/1/2 a/ssh"
				}
				if len(taken) == 0 || taken[len(taken)-1] != want {
					t.Errorf("core %d took %q, want at last %q", tt.core, taken, want)
				}
			})
		})
	}
}

// TestReconfigureInFlight: the delivery under way ends where it began, within its own timeout, and what waits for it goes by the
// new configuration; the latest, if there are several.
func TestReconfigureInFlight(t *testing.T) {
	t.Parallel()
	inReconfigured(t, func(t *testing.T, w *reconfigured) {
		mustDeliver(t, w.c, 1, "a/ssh")
		began := time.Now()
		first := w.inFlight(t, 0, 2)
		waiting := make(chan error, 1)
		go func() { waiting <- deliver(t, w.c, 3, "a/ssh") }()
		synctest.Wait()
		w.change(w.to(1))
		w.change(func(cfg *CoreConfig) { w.to(2, 0)(cfg); cfg.Timeout = time.Second })
		w.renew() // which takes nothing back
		for _, ended := range []<-chan error{first, waiting} {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("it took %v, want 2s", took)
		}
		w.cores.cores[2].SetFault(sim.CoreFault{Hang: true, Times: 1})
		wantError(t, "hangs", deliver(t, w.c, 4, "a/ssh"), wire.Retry, w.addresses[2], "core.timeout = 1s")
		mustDeliver(t, w.c, 4, "a/ssh")
		wantTaken(t, w.cores.cores[0], "stream p/1/1 a/ssh", "unary p/1/2 a/ssh", "stream p/1/4 a/ssh")
		wantTaken(t, w.cores.cores[1])
		wantTaken(t, w.cores.cores[2], "stream p/1/3 a/ssh")
	})
}

// TestReconfigureWhileFailing: a delivery that fails while the addresses change says where it failed; the next try goes to the
// first of the new ones, not to the one that would have been next.
func TestReconfigureWhileFailing(t *testing.T) {
	t.Parallel()
	inReconfigured(t, func(t *testing.T, w *reconfigured) {
		w.cores.cores[0].SetFault(sim.CoreFault{Hang: true, Times: 1})
		failed := make(chan error, 1)
		go func() { failed <- deliver(t, w.c, 1, "a/ssh") }()
		synctest.Wait()
		w.change(w.to(2, 1))
		wantError(t, "hangs", <-failed, wire.Retry, w.addresses[0], "core.timeout = 3s")
		mustDeliver(t, w.c, 1, "a/ssh")
		w.stop(2)
		wantError(t, "gone", deliver(t, w.c, 2, "a/ssh"), wire.Retry, w.addresses[2])
		w.change(w.to(0)) // between two tries
		mustDeliver(t, w.c, 2, "a/ssh")
		wantTaken(t, w.cores.cores[0], "stream p/1/2 a/ssh")
		wantTaken(t, w.cores.cores[1])
		wantTaken(t, w.cores.cores[2], "stream p/1/1 a/ssh")
	})
}

// TestRenew: whatever is under way ends undisturbed, on the connection that it began on; the next report comes over a new one,
// as a stream.
func TestRenew(t *testing.T) {
	t.Parallel()
	inReconfigured(t, func(t *testing.T, w *reconfigured) {
		w.renew() // before there is a connection
		mustDeliver(t, w.c, 1, "a/ssh")
		done := w.inFlight(t, 0, 2)
		w.renew()
		w.change(func(cfg *CoreConfig) { cfg.Timeout = 4 * time.Second }) // which takes nothing back
		if err := <-done; err != nil {
			t.Errorf("under way: %v", err)
		}
		if w.c.conn != nil {
			t.Error("the connection is still there after the delivery")
		}
		mustDeliver(t, w.c, 3, "a/ssh")
		mustDeliver(t, w.c, 4, "a/ssh")
		w.renew()
		if w.c.conn != nil {
			t.Error("nothing is under way, and the connection is still there")
		}
		mustDeliver(t, w.c, 5, "a/ssh", "b/ssh")
		w.cores.cores[0].SetFault(sim.CoreFault{Hang: true, Times: 1})
		failed := make(chan error, 1)
		go func() { failed <- deliver(t, w.c, 6, "a/ssh") }()
		synctest.Wait()
		w.renew()
		wantError(t, "hangs", <-failed, wire.Retry, w.addresses[0])
		mustDeliver(t, w.c, 6, "a/ssh") // the second address, as ever after a failure
		wantTaken(t, w.cores.cores[0], "stream p/1/1 a/ssh", "unary p/1/2 a/ssh", "stream p/1/3 a/ssh", "unary p/1/4 a/ssh",
			"stream ", "unary p/1/5 a/ssh b/ssh")
		wantTaken(t, w.cores.cores[1], "stream p/1/6 a/ssh")
	})
}

// TestNewsAreNotMissed: news that come just when a turn is given back are settled by one side or the other.
func TestNewsAreNotMissed(t *testing.T) {
	t.Parallel()
	c := newCore(t, CoreConfig{Addresses: []string{nobody}})
	for round := range 20_000 {
		var both sync.WaitGroup
		both.Go(func() {
			<-c.turn
			c.pass()
		})
		c.Renew()
		both.Wait()
		if c.news != (news{}) {
			t.Fatalf("missed in round %d", round)
		}
	}
}

// TestChangesUnderLoad delivers from several goroutines, while everything changes all the time: each report comes once.
func TestChangesUnderLoad(t *testing.T) {
	t.Parallel()
	one, two := new(sim.Core), new(sim.Core)
	addresses := []string{startCore(t, one, "127.0.0.1:0").Addr(), startCore(t, two, "127.0.0.1:0").Addr()}
	c := newCore(t, CoreConfig{Addresses: addresses[:1]})
	const callers, each = 4, 20
	var work sync.WaitGroup
	for i := range callers {
		work.Go(func() {
			for n := range each {
				if err := deliver(t, c, i*each+n, "a/ssh"); err != nil {
					t.Error(err)
				}
				if i%2 == 0 {
					c.Renew()
				} else {
					c.Reconfigure(CoreConfig{Addresses: addresses[n%2 : n%2+1], Timeout: long})
				}
			}
		})
	}
	work.Wait()
	ids := make(map[string]int)
	for _, d := range append(one.Deliveries(), two.Deliveries()...) {
		ids[d.ID]++
	}
	for n := range callers * each {
		if id := fmt.Sprintf("p/1/%d", n); ids[id] != 1 {
			t.Errorf("report %s came %d times", id, ids[id])
		}
	}
	if lost := len(one.Dropped()) + len(two.Dropped()); lost > 0 {
		t.Errorf("%d reports were acknowledged and lost", lost)
	}
	if c.news != (news{}) {
		t.Error("there are news that nobody settled")
	}
}
