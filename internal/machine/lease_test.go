package machine_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceradar/poller/internal/machine"
)

var (
	nodeA  = machine.NodeID{Name: "a", Boot: "1"}
	nodeB  = machine.NodeID{Name: "b", Boot: "1"}
	nodeB2 = machine.NodeID{Name: "b", Boot: "2"}
	nodeC  = machine.NodeID{Name: "c", Boot: "1"}
)

// leaser is a's lease, and the time in milliseconds.
type leaser struct {
	*machine.Lease
	t *testing.T
}

func newLeaser(t *testing.T, size int, keep bool) leaser {
	t.Helper()
	return leaser{machine.NewLease(nodeA, size, 1500*time.Millisecond, 100*time.Millisecond, keep), t}
}

func atMs(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }

// beats has by answer a beat each 250 ms, from one time to before another; it tells of the last grant to another, at a time, if
// that is not negative.
func (l leaser) beats(by machine.NodeID, from, to int, other machine.NodeID, last int) {
	for ms := from; ms < to; ms += 250 {
		l.Granted(by, atMs(ms), atMs(ms))
		var grants []machine.Grant
		if last >= 0 {
			grants = append(grants, machine.Grant{To: other, Age: atMs(ms).Sub(atMs(last))})
		}
		l.Told(by, atMs(ms), atMs(ms), grants)
	}
}

// want checks the lease at a time: its era, until when it holds (negative if it does not), and who is required.
func (l leaser) want(ms int, era uint64, until int, required ...machine.NodeID) {
	l.t.Helper()
	gotEra, gotUntil := l.Until(atMs(ms))
	wantUntil := time.Time{}
	if until >= 0 {
		wantUntil = atMs(until)
	}
	if gotEra != era || !gotUntil.Equal(wantUntil) {
		l.t.Errorf("at %d: era %d until %v, want %d until %v", ms, gotEra, gotUntil, era, wantUntil)
	}
	if diff := cmp.Diff(required, l.Required(atMs(ms))); diff != "" {
		l.t.Errorf("at %d required (-want +got):\n%s", ms, diff)
	}
}

// A node that is new, or a stranger to the others, has no lease before they can tell of all grants that may still count.
func TestLeaseIsInformed(t *testing.T) {
	t.Parallel()
	l := newLeaser(t, 3, false)
	l.Alive([]machine.NodeID{nodeB}, atMs(0))
	l.Told(nodeB, atMs(0), atMs(100), nil) // it may have been started at 99
	l.beats(nodeB, 350, 1700, nodeC, 50)
	l.want(1699, 0, -1, nodeB, nodeC)
	if l.Informed(atMs(1699)) {
		t.Error("it is informed by one that may have been started just before it was heard first")
	}
	l.beats(nodeB, 1700, 1750, nodeC, 50)
	l.want(1700, 1, 3200, nodeB)

	l.Alive([]machine.NodeID{nodeB2}, atMs(2000)) // its grants are b's
	l.beats(nodeB2, 2000, 4500, nodeC, 2500)
	l.want(4300, 1, 4250+1500, nodeB2)
}

// Another life of a granter votes once, and what it does not remember is no silence.
func TestLeaseCountsNames(t *testing.T) {
	t.Parallel()
	l := newLeaser(t, 4, false)
	l.Alive([]machine.NodeID{nodeB, nodeB2}, atMs(0))
	l.beats(nodeB, 0, 4000, nodeC, -1)
	l.beats(nodeB2, 4000, 8000, nodeC, -1)
	l.want(8000, 0, -1, nodeB, nodeB2)
}

// One that is dead is required until nobody's grants to it can count any more, by whatever clock.
func TestLeaseLapses(t *testing.T) {
	t.Parallel()
	l := newLeaser(t, 3, false)
	l.Alive([]machine.NodeID{nodeB, nodeC}, atMs(0))
	l.Grant(nodeC, atMs(2900))
	l.beats(nodeB, 0, 3000, nodeC, 2800)
	l.want(2999, 1, 2750+1500, nodeB, nodeC)
	l.Alive([]machine.NodeID{nodeB}, atMs(3000))
	l.beats(nodeB, 3000, 4500, nodeC, 2800)
	l.Told(nodeB, atMs(4499), atMs(4499), []machine.Grant{{To: nodeC, Age: 1699 * time.Millisecond}})
	l.want(4499, 1, 4250+1500, nodeB, nodeC) // our own grant
	l.Told(nodeB, atMs(4500), atMs(4600), []machine.Grant{{To: nodeC, Age: 1650 * time.Millisecond}})
	l.want(4600, 1, 4250+1500, nodeB, nodeC) // it may have been given at 2950
	l.Told(nodeB, atMs(4601), atMs(4601), []machine.Grant{{To: nodeC, Age: 1701 * time.Millisecond}})
	l.want(4601, 1, 4250+1500, nodeB)
	l.Asked(nodeC, atMs(4602))
	l.want(4602, 1, 4250+1500, nodeB, nodeC) // it may have a new one
	l.Told(nodeB, atMs(4602), atMs(4603), []machine.Grant{{To: nodeC, Age: 1700 * time.Millisecond}})
	l.want(4603, 1, 4250+1500, nodeB)
}

// A life whose name runs another was over at that moment.
func TestLeaseIsReplaced(t *testing.T) {
	t.Parallel()
	l := newLeaser(t, 5, false)
	l.Alive([]machine.NodeID{nodeB2, nodeC}, atMs(0))
	old := machine.NodeID{Name: "a", Boot: "0"}
	l.beats(nodeC, 0, 2000, old, 100)
	l.beats(nodeB2, 0, 2000, nodeB, 100)
	l.want(1999, 1, 1750+1500, nodeB2, nodeC)
}

// What was known in an era is not known in the next.
func TestLeaseEras(t *testing.T) {
	t.Parallel()
	l := newLeaser(t, 3, false)
	l.Alive([]machine.NodeID{nodeB}, atMs(0))
	l.beats(nodeB, 0, 2001, nodeC, 0)
	l.want(2000, 1, 3500, nodeB)
	l.want(3500, 1, -1, nodeB)
	l.Told(nodeB, atMs(3400), atMs(3550), nil)
	l.Granted(nodeB, atMs(3000), atMs(3600)) // has lapsed, though no one looked
	l.want(3600, 1, -1, nodeB, nodeC)
	l.beats(nodeB, 3750, 3751, nodeC, 3700)
	l.want(3750, 2, 5250, nodeB, nodeC)
	l.Granted(nodeB, atMs(4000), atMs(4400))
	l.want(4400, 2, 5500, nodeB, nodeC)
}

func TestLeaseKeeps(t *testing.T) {
	t.Parallel()
	l := newLeaser(t, 3, true)
	l.Alive([]machine.NodeID{nodeB}, atMs(0))
	l.beats(nodeB, 0, 2001, nodeC, 1900)
	l.want(2000, 1, 3500, nodeB, nodeC)
	l.Alive(nil, atMs(3500))
	l.want(3500, 1, -1)
	if !l.Informed(atMs(3500)) {
		t.Error("it must poll on with those that are alive")
	}
}

// Leaving, on both sides.
func TestLeaseLeaves(t *testing.T) {
	t.Parallel()
	l := newLeaser(t, 3, false)
	l.Alive([]machine.NodeID{nodeB, nodeC, {Name: "d"}}, atMs(0))
	if size, majority := l.Majority(); size != 4 || majority != 3 {
		t.Errorf("size %d, majority %d", size, majority)
	}
	l.Left(machine.NodeID{Name: "d"}, atMs(100))
	l.Alive([]machine.NodeID{nodeB, nodeC}, atMs(1700))
	if size, _ := l.Majority(); size != 4 {
		t.Error("what d granted still counts for others")
	}
	l.Alive([]machine.NodeID{nodeB, nodeC}, atMs(1701))
	if size, majority := l.Majority(); size != 3 || majority != 2 {
		t.Errorf("size %d, majority %d", size, majority)
	}
	l.beats(nodeB, 2000, 4000, nodeC, 3900)
	l.want(4000, 1, 5250, nodeB, nodeC)
	if l.Left(nodeC, atMs(4000)); l.Grant(nodeC, atMs(4000)) {
		t.Error("one that left was granted")
	}
	l.want(4000, 1, 5250, nodeB)
	if !l.Grant(nodeB, atMs(4000)) {
		t.Error("b was not granted")
	}
	if diff := cmp.Diff([]machine.Grant{{To: nodeB, Age: time.Second}}, l.Grants(atMs(5000))); diff != "" {
		t.Error(diff)
	}
	if got := l.Grants(atMs(7101)); got != nil {
		t.Errorf("still tells of %v", got)
	}
	if l.GiveUp(atMs(5000)); l.Grant(nodeB, atMs(5000)) || l.Informed(atMs(5000)) {
		t.Error("it has left, and grants")
	}
	l.want(5000, 1, -1, nodeB)
}

// An answer that comes late says nothing of grants that may have been too old to be in it when it was given: nodes that stood still answer what they were
// asked before.
func TestLeaseLateAccounts(t *testing.T) {
	t.Parallel()
	life := func(name string) machine.NodeID { return machine.NodeID{Name: name, Boot: "1"} }
	d, e, f, x := life("d"), life("e"), life("f"), life("x")
	l := newLeaser(t, 7, false)
	l.Alive([]machine.NodeID{nodeB, nodeC, d, e, f}, atMs(0)) // and not x, which has its lease from b, d and f
	for ms := 0; ms <= 11250; ms += 250 {
		l.beats(nodeC, ms, ms+1, x, -1)
		l.beats(e, ms, ms+1, x, -1)
		l.beats(f, ms, ms+1, x, ms)
		if ms < 10000 {
			l.beats(nodeB, ms, ms+1, x, min(ms, 8900))
			l.beats(d, ms, ms+1, x, min(ms, 8900))
		}
	}
	l.want(11900, 1, 12750, nodeB, nodeC, d, e, f, x)
	l.Told(nodeB, atMs(10000), atMs(12100), nil) // its grant of 8900 counted until 10400
	l.Told(d, atMs(10000), atMs(12100), nil)
	l.want(12100, 1, 12750, nodeB, nodeC, d, e, f, x)
}
