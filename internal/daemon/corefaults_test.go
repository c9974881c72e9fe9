package daemon_test

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/internal/sim"
)

// coreFaults are those after which core must have everything: of its process, of its connections, and
// all that it may answer but for what it refuses for good.
var coreFaults = []string{
	"down", "flapping 7s 3s down", "flapping 70ms 50ms down", "frozen", "flapping 2s 10s frozen", "silent", "garbage", "http1", "reset",
	"goaway 300ms", "hang", "flapping 4s 6s hang", "slow 2s", "slow 4s", "not-received", "flapping 5s 5s not-received",
	"error Unavailable", "flapping 5s 5s error Unavailable", "error DeadlineExceeded", "error Aborted", "error Internal", "error Unknown",
	"error Canceled", "error ResourceExhausted",
	"error Unauthenticated", "error PermissionDenied", "error Unimplemented",
	// The answer is lost, not the report: it comes again, which core can tell by its id.
	"hang after-taking", "not-received after-taking", "error Unavailable after-taking", "error Unknown after-taking",
	"flapping 5s 5s error Internal after-taking",
}

const (
	faultLasts = time.Minute
	faultCycle = 5 * time.Second
)

// TestCoreFaults: whatever is wrong with core for a minute, afterwards it has every status of that
// time, each once, in order, with its own time and answer.
func TestCoreFaults(t *testing.T) {
	for _, text := range coreFaults {
		t.Run(text, func(t *testing.T) {
			fault, err := sim.ParseFault(text)
			if err != nil {
				t.Fatal(err)
			}
			run(t, func(w *world) {
				w.checker("127.2.0.1:1", named(100))
				core := w.coreHost()
				defer core.Stop()
				w.start(faultCycle, time.Second, agents("a", 10, 2, "127.2.0.1:1"))
				w.pass(faultCycle + time.Second)
				w.setFault(core, fault)
				w.pass(faultLasts / 2)
				held := slices.Contains([]codes.Code{codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented}, fault.Code)
				if ready, conditions := w.daemon.Ready(); ready == held {
					t.Errorf("ready %v, conditions %+v", ready, conditions)
				}
				w.pass(faultLasts / 2)
				w.setFault(core, sim.Fault{})
				mended := time.Now()
				w.pass(2*faultCycle - time.Second - time.Millisecond)
				w.wantAllAfter(mended, losesAnswers(fault))
			})
		})
	}
}

// losesAnswers tells whether core may have taken a report without our hearing of it.
func losesAnswers(f sim.Fault) bool {
	return f.AfterTaking || slices.Contains([]sim.Kind{sim.KindDown, sim.KindFrozen, sim.KindReset}, f.Kind)
}

// coreHost puts core into a host, which can have faults.
func (w *world) coreHost() *sim.Host {
	w.t.Helper()
	w.coreServer.Stop()
	host, err := w.core.NewHost(nil, func() (net.Listener, error) { return w.net.Listen(coreAddress) })
	if err != nil {
		w.t.Fatal(err)
	}
	return host
}

func (w *world) setFault(h *sim.Host, f sim.Fault) {
	w.t.Helper()
	if err := h.Set(f); err != nil {
		w.t.Fatal(err)
	}
}

// wantAllAfter asserts that core has all cycles since the start and all statuses in them, each once but
// for reports that came several times in a row, if they may.
func (w *world) wantAllAfter(mended time.Time, mayRepeat bool) {
	w.t.Helper()
	reports, repeated := withoutRepeats(w.reports())
	if repeated > 0 && !mayRepeat {
		w.t.Errorf("%d reports came again", repeated)
	}
	cycles := int(1 + (2*faultCycle+faultLasts)/faultCycle)
	w.wantCyclesIn(reports, cycles, 10, 2)
	w.wantRegular(reports, faultCycle)
	if dropped := witnessed[actors.ReportDropped](w); len(dropped) > 0 {
		w.t.Errorf("dropped: %+v", dropped)
	}
	var late time.Duration
	for _, d := range reports {
		if d.Timestamp <= mended.Unix() {
			late = max(late, d.At.Sub(mended))
		}
	}
	w.t.Logf("%d reports of %d cycles, %d came again; all was there %v after the end; at most %d reports, %d bytes were kept",
		len(reports), cycles, repeated, late.Round(time.Millisecond), w.most.reports, w.most.bytes)
}

// withoutRepeats leaves out reports that have the id of the one before, and counts them. One that comes
// again later stays.
func withoutRepeats(reports []sim.Delivery) (first []sim.Delivery, repeated int) {
	first = slices.CompactFunc(slices.Clone(reports), func(a, b sim.Delivery) bool { return a.ID == b.ID })
	return first, len(reports) - len(first)
}

// wantRegular asserts that reports have the times of successive cycles, in order.
func (w *world) wantRegular(reports []sim.Delivery, interval time.Duration) {
	w.t.Helper()
	for i := 1; i < len(reports); i++ {
		if step := reports[i].Timestamp - reports[i-1].Timestamp; step != 0 && step != int64(interval/time.Second) {
			w.t.Errorf("report %s comes %d s after the one before it", reports[i].ID, step)
		}
	}
}

// TestMemoryIsBoundedAndDropsAreCounted: of an outage of a minute that does not fit into memory, what is
// kept never exceeds its bound, what is lost is what the configuration says, and each loss is told.
func TestMemoryIsBoundedAndDropsAreCounted(t *testing.T) {
	const (
		bound  = 1 << 20
		checks = 2
		fit    = 5  // reports of a little more than 200 KiB
		cycles = 14 // 0 to 65 s
	)
	for whenFull, lost := range map[string][2]int{
		// The first report is on its way to core, and never dropped.
		"drop_oldest": {1, 1 + cycles - 1 - fit},
		"drop_newest": {fit, cycles - 1},
	} {
		t.Run(whenFull, func(t *testing.T) {
			run(t, func(w *world) {
				w.checker("127.2.0.1:1", sim.Text(strings.Repeat("x", 100<<10)))
				w.core.SetFault(sim.CoreFault{Code: codes.Unavailable})
				w.start(faultCycle, time.Second, agents("a", 1, checks, "127.2.0.1:1")+
					fmt.Sprintf("[spool]\nmax_bytes = %d\nwhen_full = %q\n", bound, whenFull))
				began := time.Now().Unix()
				w.pass(faultLasts)
				if ready, conditions := w.daemon.Ready(); ready {
					t.Errorf("ready although reports were dropped: %+v", conditions)
				}
				w.core.SetFault(sim.CoreFault{})
				w.pass(8 * time.Second)
				w.wantLost(began, cycles, checks, lost)
				if w.most.reports != fit || w.most.bytes > bound {
					t.Errorf("at most %+v were kept, want %d reports and %d bytes", w.most, fit, bound)
				}
				ready, said := w.ready("queue")
				if !ready || !strings.Contains(said, "lost since the start: 8, ") {
					t.Errorf("ready %v, the condition of the queue says %q", ready, said)
				}
			})
		})
	}
}

// wantLost asserts that core has all cycles but those from lost[0] until before lost[1], and that these
// were told.
func (w *world) wantLost(began int64, cycles, checks int, lost [2]int) {
	w.t.Helper()
	var there, want, told, wantTold []string
	statuses := 0
	for _, d := range w.reports() {
		there = append(there, fmt.Sprint(d.Timestamp-began, "s"))
		statuses += len(d.Services)
	}
	for _, e := range witnessed[actors.ReportDropped](w) {
		told = append(told, e.ID[strings.LastIndex(e.ID, "/")+1:])
	}
	for i := range cycles {
		if i >= lost[0] && i < lost[1] {
			wantTold = append(wantTold, fmt.Sprint(i+1)) // reports are counted from 1
		} else {
			want = append(want, fmt.Sprint(int64(i)*int64(faultCycle/time.Second), "s"))
		}
	}
	if !slices.Equal(there, want) || !slices.Equal(told, wantTold) || statuses+checks*len(told) != cycles*checks {
		w.t.Errorf("core has %d statuses of the cycles at %v, want %v; told to be dropped: %v, want %v", statuses, there, want, told, wantTold)
	}
	w.t.Logf("%d statuses at core, %d in %d reports that were dropped; at most %d reports, %d bytes were kept",
		statuses, checks*len(told), len(told), w.most.reports, w.most.bytes)
}
