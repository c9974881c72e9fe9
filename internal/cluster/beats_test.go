package cluster

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/memberlist"
	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
	pb "github.com/serviceradar/poller/proto/cluster"
)

// alone is a Cluster that is not connected to anything, and what it told. What would have come from others is given to it.
type alone struct {
	*Cluster
	t      *testing.T
	now    time.Time
	events []Event
	// changed counts the calls of Changed.
	changed int
}

func newAlone(t *testing.T) *alone {
	t.Helper()
	a := &alone{t: t, now: time.Unix(1e9, 0)}
	a.Cluster = newCluster(Config{
		Name: clusterName, Node: "a", Remote: "a:1", Size: 3, Version: "v1", Clock: func() int64 { return a.now.UnixNano() },
		Tell: func(e Event) { a.events = append(a.events, e) }, Changed: func() { a.changed++ },
	})
	return a
}

// lives has membership say that a life of a node has joined.
func (a *alone) lives(name, boot string) {
	a.joined(&memberlist.Node{Name: name, Addr: []byte{127, 0, 0, 1}, Port: 1, Meta: []byte("1 " + boot + " " + name + ":1")}, a.now)
}

// hears gives it a beat, and returns what it answers.
func (a *alone) hears(b *pb.Beat) *pb.Beat {
	a.t.Helper()
	all := a.hear(b, nil, a.now)
	if len(all) == 0 {
		return nil
	}
	var e pb.Envelope
	var answer pb.Beat
	if err := proto.Unmarshal(all[0].body, &e); err != nil || e.GetKind() != kindBeat || e.GetVersion() != version {
		a.t.Fatalf("%v, %v", &e, err)
	}
	if err := proto.Unmarshal(e.GetBody(), &answer); err != nil || len(all) != 1 || all[0].to.Name != b.GetFrom().GetName() {
		a.t.Fatalf("%d answers, %v", len(all), err)
	}
	return &answer
}

// beat has it send beats, and returns their number.
func (a *alone) beat() uint64 {
	a.beats(a.now)
	return a.seq
}

func from(name, boot string) *pb.Node { return &pb.Node{Name: name, Boot: boot} }

// TestGrants: who is granted, and what an answer says.
func TestGrants(t *testing.T) {
	t.Parallel()
	a := newAlone(t)
	if got := a.hears(&pb.Beat{From: from("b", "1"), Seq: 1}); got != nil {
		t.Errorf("an answer to one that is no member: %v", got)
	}
	a.lives("b", "1")
	a.Announce(machine.Announcement{Weight: 7, Hash: "h", Agents: 9, Held: 4})
	a.now = a.now.Add(time.Second)
	got := a.hears(&pb.Beat{From: from("b", "1"), Seq: 2, Size: 3})
	if !got.GetGranted() || got.GetEcho() != 2 || got.GetFrom().GetName() != "a" || got.GetFrom().GetBoot() != a.self.Boot || got.GetClock() != a.now.UnixNano() ||
		got.GetWeight() != 7 || got.GetHash() != "h" || got.GetAgents() != 9 || got.GetHeld() != 4 || got.GetSize() != 3 || got.GetVersion() != "v1" {
		t.Errorf("answered %v", got)
	}
	if g := got.GetGrants(); len(g) != 1 || g[0].GetTo().GetName() != "b" || g[0].GetAge() != 0 {
		t.Errorf("it told of the grants %v", g)
	}
	if got := a.hears(&pb.Beat{From: from("b", "2"), Seq: 3}); got != nil {
		t.Errorf("an answer to another life: %v", got)
	}
	if got := a.hears(&pb.Beat{From: from("b", "1"), Seq: 4, Leaving: true, Size: 3}); got.GetGranted() || got.GetEcho() != 4 {
		t.Errorf("answered one that leaves: %v", got)
	}
	if got := a.hears(&pb.Beat{From: from("b", "1"), Seq: 3, Size: 3}); got.GetGranted() {
		t.Errorf("answered what it asked before it left: %v", got)
	}
	if v := a.View(); len(v.Members) != 1 {
		t.Errorf("the members are %v", v.Members)
	}
	if a.Counts().Ignored != 2 {
		t.Errorf("counted %+v", a.Counts())
	}
}

// TestAsked: one that asks for agents has a lease, though nobody has heard of it before.
func TestAsked(t *testing.T) {
	t.Parallel()
	a := newAlone(t)
	stranger := machine.NodeID{Name: "z", Boot: "1"}
	a.changed = 0
	a.Asked(stranger)
	if got := a.View().Required; len(got) != 1 || got[0] != stranger || a.changed != 1 {
		t.Errorf("required: %v, and Changed was called %d times", got, a.changed)
	}
}

// TestOrder: beats may come late; what is older changes nothing. Nobody is told of what is the same.
func TestOrder(t *testing.T) {
	t.Parallel()
	a := newAlone(t)
	a.lives("b", "1")
	for i, step := range []struct {
		seq     uint64
		held    uint32
		want    int
		changes bool
	}{{5, 1, 1, true}, {4, 9, 1, false}, {5, 9, 1, false}, {6, 1, 1, false}, {8, 2, 2, true}, {7, 1, 2, false}} {
		a.changed = 0
		a.hears(&pb.Beat{From: from("b", "1"), Seq: step.seq, Held: step.held, Size: 3})
		if got := a.members["b"].view().Held; got != step.want || (a.changed > 0) != step.changes {
			t.Errorf("step %d: it holds %d, and Changed was called %d times", i, got, a.changed)
		}
	}
}

// TestAnswers: what an answer is worth is reckoned from when its beat went out.
func TestAnswers(t *testing.T) {
	t.Parallel()
	a := newAlone(t)
	a.lives("b", "1")
	a.lives("c", "1")
	echo := func(name string, seq, to uint64) {
		t.Helper()
		if got := a.hears(&pb.Beat{From: from(name, "1"), Seq: seq, Echo: to, Granted: true, Clock: a.now.UnixNano(), Losses: 3, Size: 3}); got != nil {
			t.Errorf("an answer to an answer: %v", got)
		}
	}
	var asked time.Time
	for i := range uint64(20) {
		asked = a.now
		seq := a.beat()
		a.now = a.now.Add(10 * time.Millisecond)
		echo("b", i+1, seq)
		echo("c", i+1, seq)
		a.now = a.now.Add(beatEvery - 10*time.Millisecond)
	}
	if era, until := a.lease.Until(a.now); era != 1 || !until.Equal(asked.Add(term)) {
		t.Errorf("the lease of era %d lasts until %v after the last beat, want %v", era, until.Sub(asked), term)
	}
	echo("b", 100, 0xffff) // what was never asked
	echo("b", 101, 1)      // long ago
	if era, until := a.lease.Until(a.now); era != 1 || !until.Equal(asked.Add(term)) {
		t.Errorf("the lease of era %d lasts until %v after the last beat, want %v", era, until.Sub(asked), term)
	}
	if m := a.members["b"]; m.rtt != 10*time.Millisecond || m.losses != 3 {
		t.Errorf("%+v", m)
	}
	a.now = a.now.Add(time.Hour)
	a.beat()
	if len(a.asked) != 1 {
		t.Errorf("it remembers %d beats", len(a.asked))
	}
}

// TestMeasure: of several answers the one that took the shortest time says most of a clock.
func TestMeasure(t *testing.T) {
	t.Parallel()
	a := newAlone(t)
	a.lives("b", "1")
	m := a.members["b"]
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	for i, step := range []struct {
		rtt, ahead int // milliseconds; ahead is by how much the clock it says is ahead of ours now
		best, want int
		tells      bool
	}{
		{1000, 0, 1000, 500, false},
		{100, 50, 100, 100, false},
		{20, 90, 20, 100, false},
		{300, 0, 20, 100, false},
		{10, 400, 10, 405, true},
		{10, 400, 10, 405, false},
		{8, 196, 8, 200, false},
		{6, 397, 6, 400, false},
		{4, 98, 4, 100, false},
		{2, 399, 2, 400, true},
	} {
		a.events = nil
		a.measure(m, ms(step.rtt), a.now.Add(ms(step.ahead)).UnixNano())
		if m.rtt != ms(step.best) || m.offset != ms(step.want) || (len(a.events) == 1) != step.tells {
			t.Errorf("step %d: rtt %v, offset %v, told %v", i, m.rtt, m.offset, a.events)
		}
	}
	for range mostSamples {
		a.measure(m, time.Second, a.now.UnixNano())
	}
	if m.rtt != time.Second {
		t.Errorf("the rtt is %v though the last %d were a second", m.rtt, mostSamples)
	}
}

// TestLosses: deaths are counted for some time, and by name; to leave is none.
func TestLosses(t *testing.T) {
	t.Parallel()
	a := newAlone(t)
	dies := func(boot string) {
		a.lives("b", boot)
		a.parted("b", a.now)
	}
	losses := func() uint32 {
		t.Helper()
		a.lives("b", "now")
		defer delete(a.members, "b")
		return a.hears(&pb.Beat{From: from("b", "now"), Seq: 1, Size: 3}).GetLosses()
	}
	for i := range uint32(3) {
		if got := losses(); got != i {
			t.Errorf("%d losses, want %d", got, i)
		}
		dies(fmt.Sprint(i))
		a.now = a.now.Add(time.Minute)
	}
	a.lives("b", "leaves")
	a.hears(&pb.Beat{From: from("b", "leaves"), Seq: 1, Leaving: true, Size: 3})
	a.parted("b", a.now)
	if got := losses(); got != 3 {
		t.Errorf("%d losses after it has left, want 3", got)
	}
	a.now = a.now.Add(lossesFor - 2*time.Minute)
	if got := losses(); got != 2 {
		t.Errorf("%d losses later, want 2", got)
	}
	a.now = a.now.Add(lossesFor)
	if got := losses(); got != 0 || len(a.deaths) != 0 {
		t.Errorf("%d losses in the end, of %d nodes", got, len(a.deaths))
	}
}

// TestMissing: where a node looks for others.
func TestMissing(t *testing.T) {
	t.Parallel()
	a := newAlone(t)
	nobody := carry(t, check.TLS{})
	a.transport = nobody.transport
	look := func() string {
		present, missing := a.presence(a.now)
		return fmt.Sprint(len(present)-1, len(missing))
	}
	var got []string
	note := func(after time.Duration) {
		a.now = a.now.Add(after)
		got = append(got, look())
	}
	note(0)
	a.lives("b", "1")
	note(0)                             // it has just come
	note(unheardFor + time.Millisecond) // it has answered nothing
	a.hears(&pb.Beat{From: from("b", "1"), Seq: 1, Echo: a.beat(), Size: 5})
	note(0) // it has
	note(unheardFor + time.Millisecond)
	a.parted("b", a.now)
	note(0)
	note(seekFor)
	note(time.Millisecond) // sought in vain for long enough
	if a.gone["b"] == nil {
		t.Error("the size of one that is dead is forgotten")
	}
	a.SetSize(3)
	note(0)
	if a.gone["b"] != nil {
		t.Error("one that is dead for long is remembered for nothing")
	}
	a.lives("b", "2")
	a.hears(&pb.Beat{From: from("b", "2"), Seq: 1, Leaving: true, Size: 3})
	a.parted("b", a.now)
	note(0) // it has left
	if diff := cmp.Diff([]string{"0 0", "1 0", "0 1", "1 0", "0 1", "0 1", "0 1", "0 0", "0 0", "0 0"}, got); diff != "" {
		t.Errorf("present and missing (-want +got):\n%s", diff)
	}
	a.leaving = true
	if present, _ := a.presence(a.now); present != nil {
		t.Error("it looks for others though it leaves")
	}
}

// TestClash: two nodes of a name are told of when that has been so for some time, and again a minute later.
func TestClash(t *testing.T) {
	t.Parallel()
	a := newAlone(t)
	at := func(ip byte) *memberlist.Node {
		return &memberlist.Node{Name: "b", Addr: []byte{127, 0, 0, ip}, Port: 1}
	}
	for i, step := range []struct {
		after time.Duration
		tells bool
	}{
		{0, false},
		{2 * time.Second, false},
		{clashAfter - time.Second, true},
		{time.Second, false},
		{clashOver + time.Second, false},
		{2 * time.Second, false},
	} {
		a.events, a.now = nil, a.now.Add(step.after)
		a.clashed(at(1), at(2), a.now)
		if (len(a.events) == 1) != step.tells {
			t.Errorf("step %d: told %v", i, a.events)
		}
	}
}

// TestDropped: people hear of packets for members, and all are counted.
func TestDropped(t *testing.T) {
	t.Parallel()
	a := newAlone(t)
	a.dropped("127.0.0.1:1", errOld, 2)
	if len(a.events) > 0 || a.Counts().Dropped != 2 {
		t.Errorf("told %v, counted %+v", a.events, a.Counts())
	}
	a.lives("b", "1")
	a.events = nil
	for range 3 {
		a.dropped("127.0.0.1:1", errFull, 4)
	}
	if diff := cmp.Diff([]Event{PacketsDropped{"127.0.0.1:1", errFull, 4}}, a.events, cmpopts.EquateErrors()); diff != "" || a.Counts().Dropped != 14 {
		t.Errorf("counted %+v, told (-want +got):\n%s", a.Counts(), diff)
	}
}

// TestYoung: memberlist may have a node for dead that has just come, for what it hears late of the life before. It gets the time to answer.
func TestYoung(t *testing.T) {
	t.Parallel()
	a := newAlone(t)
	a.now = a.clock.now()
	a.lives("b", "1")
	(*delegate)(a.Cluster).NotifyLeave(&memberlist.Node{Name: "b"})
	if a.members["b"] == nil {
		t.Error("one that has just come is dead at once")
	}
	a.endDoubts(a.now.Add(answersFor))
	if a.members["b"] != nil {
		t.Error("it has not answered, and is there still")
	}
}
