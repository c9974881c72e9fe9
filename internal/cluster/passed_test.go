package cluster

import (
	"crypto/tls"
	"errors"
	"net"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/internal/machine"
	pb "github.com/serviceradar/poller/proto/cluster"
)

// passedIn returns what is passed on in a message.
func passedIn(t *testing.T, o outgoing) *pb.Passed {
	t.Helper()
	var e pb.Envelope
	var p pb.Passed
	if err := proto.Unmarshal(o.body, &e); err != nil || e.GetKind() != kindPassed || e.GetVersion() != version {
		t.Fatalf("%v, %v", &e, err)
	}
	if err := proto.Unmarshal(e.GetBody(), &p); err != nil {
		t.Fatal(err)
	}
	return &p
}

// TestWays: who does not answer what it is asked directly is asked by way of those who do.
func TestWays(t *testing.T) {
	t.Parallel()
	a := newAlone(t)
	for _, name := range []string{"b", "c", "d", "e"} {
		a.lives(name, "1")
	}
	// ways returns by how many others each was asked.
	ways := func() map[string]int {
		t.Helper()
		n := make(map[string]int)
		for _, o := range a.beats(a.now) {
			var e pb.Envelope
			if err := proto.Unmarshal(o.body, &e); err != nil {
				t.Fatal(err)
			}
			if e.GetKind() != kindPassed {
				continue
			}
			p := passedIn(t, o)
			if idOf(p.GetFrom()) != a.self || p.GetTo().GetBoot() != "1" || p.GetBy() != nil || o.to.Name == p.GetTo().GetName() || p.GetEnvelope().GetKind() != kindBeat {
				t.Errorf("to %s goes %v", o.to.Name, p)
			}
			n[p.GetTo().GetName()]++
		}
		return n
	}
	if got := ways(); len(got) > 0 {
		t.Errorf("those who have just come are asked by others: %v", got)
	}
	a.now = a.now.Add(unreachedFor)
	if got := ways(); len(got) > 0 {
		t.Errorf("there is nobody who answers, and they are asked by way of whom? %v", got)
	}
	for _, name := range []string{"c", "d", "e"} {
		a.hears(&pb.Beat{From: from(name, "1"), Seq: 1, Echo: a.beaten, Size: 3})
	}
	if got := ways(); len(got) != 1 || got["b"] != mostWays {
		t.Errorf("the one that does not answer is asked by %v", got)
	}
	a.members["c"].leaving, a.members["d"].leaving = true, true
	if got := ways(); len(got) != 1 || got["b"] != 1 {
		t.Errorf("with one left that answers it is asked by %v", got)
	}
	// An answer by way of another says that it is there, and not that it is reached.
	b := &pb.Beat{From: from("b", "1"), Seq: 2, Echo: a.beaten, Granted: true, Size: 3}
	a.pass(&pb.Passed{From: from("b", "1"), To: nodeOf(a.self), By: from("e", "1"), Envelope: envelope(b)}, a.now)
	if m := a.members["b"]; !m.answered.Equal(a.now) || m.isReached(a.now) || m.echoed != a.beaten {
		t.Errorf("after that it is %+v", m)
	}
	a.hears(&pb.Beat{From: from("b", "1"), Seq: 3, Echo: a.beaten, Granted: true, Size: 3})
	if got := ways(); len(got) > 0 {
		t.Errorf("one that answers is asked by others: %v", got)
	}
}

// TestPass: what is for another is passed on once, and what has come so is answered the same way.
func TestPass(t *testing.T) {
	t.Parallel()
	a := newAlone(t)
	a.lives("b", "1")
	a.lives("c", "1")
	beat := envelope(&pb.Beat{From: from("c", "1"), Seq: 7, Size: 3})
	asks := func() *pb.Passed { return &pb.Passed{From: from("c", "1"), To: from("b", "1"), Envelope: beat} }
	all := a.pass(asks(), a.now)
	if len(all) != 1 || all[0].to.Name != "b" {
		t.Fatalf("passed on: %v", all)
	}
	want := asks()
	want.By = nodeOf(a.self)
	if got := passedIn(t, all[0]); !proto.Equal(got, want) {
		t.Errorf("passed on %v, want %v", got, want)
	}
	came := &pb.Passed{From: from("c", "1"), To: nodeOf(a.self), By: from("b", "1"), Envelope: beat}
	all = a.pass(came, a.now)
	if len(all) != 1 || all[0].to.Name != "b" {
		t.Fatalf("answered %v", all)
	}
	var answer pb.Beat
	p := passedIn(t, all[0])
	if err := proto.Unmarshal(p.GetEnvelope().GetBody(), &answer); err != nil || p.GetTo().GetName() != "c" || answer.GetEcho() != 7 || !answer.GetGranted() {
		t.Errorf("answered %v, %v: %v", p, &answer, err)
	}
	if a.Counts().Ignored != 0 {
		t.Errorf("ignored %d", a.Counts().Ignored)
	}
	for what, p := range map[string]*pb.Passed{
		"for another life":          {To: from("b", "2"), Envelope: beat},
		"for one that is not there": {To: from("z", "1"), Envelope: beat},
		"passed on already":         {To: from("b", "1"), By: from("c", "1"), Envelope: beat},
		"by another life":           {To: nodeOf(a.self), By: from("b", "2"), Envelope: beat},
		"by nobody":                 {To: nodeOf(a.self), Envelope: beat},
		"nothing in it":             {To: nodeOf(a.self), By: from("b", "1")},
		"passed in passed":          {To: nodeOf(a.self), By: from("b", "1"), Envelope: seal(kindPassed, came)},
		"of another version":        {To: nodeOf(a.self), By: from("b", "1"), Envelope: &pb.Envelope{Kind: kindBeat, Version: version + 1, Body: beat.GetBody()}},
		"no beat":                   {To: nodeOf(a.self), By: from("b", "1"), Envelope: &pb.Envelope{Kind: kindBeat, Version: version, Body: []byte("?")}},
	} {
		before := a.Counts().Ignored
		if all := a.pass(p, a.now); len(all) > 0 || a.Counts().Ignored != before+1 {
			t.Errorf("%s: sent %v, and ignored %d", what, all, a.Counts().Ignored-before)
		}
	}
}

// TestBrokenLink: two nodes that do not reach each other hear what each says of itself by way of the third.
func TestBrokenLink(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	at := func(address string) func(*Config) { return func(c *Config) { c.Listen = address + ":0" } }
	a, b, c := w.start("a", at("127.0.0.2")), w.start("b", at("127.0.0.3")), w.start("c", at("127.0.0.4"))
	w.gather(a, b, c)
	cut := func(from, to *node) {
		other, _, err := net.SplitHostPort(to.Address())
		if err != nil {
			t.Fatal(err)
		}
		before := from.transport.identity.Load()
		from.transport.identity.Store(&identity{before.server, func(host string) (*tls.Config, error) {
			if host == other {
				return nil, errors.New("cut off")
			}
			return before.client(host)
		}})
	}
	eras := []uint64{a.View().Era, b.View().Era, c.View().Era}
	cut(a, b)
	cut(b, a)
	a.transport.hangUp()
	b.transport.hangUp()
	c.transport.hangUp() // for others' connections to it are closed, too
	<-time.After(2 * answersFor)
	b.Announce(machine.Announcement{Weight: 77, Held: 1})
	a.Announce(machine.Announcement{Weight: 78, Held: 1})
	w.until("a hears of b", func() bool { return a.member("b").Weight == 77 })
	w.until("b hears of a", func() bool { return b.member("a").Weight == 78 })
	<-time.After(2 * answersFor)
	for i, n := range []*node{a, b, c} {
		if v := n.View(); v.Era != eras[i] || !n.ready() || n.sees() != "a b c" {
			t.Errorf("%s had a lease of era %d, and now %+v", n.self.Name, eras[i], v)
		}
		if died := events[MemberDied](n); len(died) > 0 {
			t.Errorf("%s found dead: %v", n.self.Name, died)
		}
	}
}
