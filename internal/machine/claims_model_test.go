package machine_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/serviceradar/poller/internal/machine"
)

// Times of the model's cluster.
const (
	modelTick  = 5 * time.Millisecond
	modelTerm  = 1500 * time.Millisecond
	modelDrift = 100 * time.Millisecond
	modelRate  = 0.01 // by how much clocks are fast or slow; two terms, and one by another clock, differ by less than modelDrift
	modelChaos = 30 * time.Second
	modelCalm  = 6 * time.Second
)

// sea is a cluster in which everything goes wrong: clocks, membership, messages, processes, and what its nodes think that they own.
type sea struct {
	t      *rapid.T
	r      *rand.Rand
	keep   bool
	agents []string
	nodes  []*boat
	lives  []machine.NodeID // all that there ever were
	queue  []letter
	now    time.Duration
	rough  bool
	// How often, in a million ticks, things happen to each node.
	pauses, deaths, cuts, views, whims int
	loss, late                         float64 // of messages
	cut                                map[[2]int]time.Duration
	starts, eras                       int
}

// boat is a node of it.
type boat struct {
	s      *sea
	i      int
	id     machine.NodeID
	lease  *machine.Lease
	claims *machine.Claims
	rate   float64
	offset time.Duration

	alive        []machine.NodeID // by its membership
	owned        []string
	beat, look   time.Duration // when it does that next
	paused, dead time.Duration // until when
	drowned      bool          // dead for good
	era, viewed  uint64        // the lease's, and that of the view which claims follow
	until        time.Time
	partings     []letter
	boots        int
}

// letter is a message: to a life if it answers, to a name else.
type letter struct {
	at      time.Duration
	to      int
	life    machine.NodeID
	deliver func(b *boat, now time.Time)
}

// TestClaimsNeverDouble: whatever happens, no two nodes with leases poll the same agent; and when all is well again, each agent
// is polled by its owner.
func TestClaimsNeverDouble(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := &sea{t: t, agents: []string{"db", "dns", "web"}, cut: make(map[[2]int]time.Duration), rough: true}
		s.r = rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		s.keep = rapid.IntRange(0, 3).Draw(t, "keep") == 0
		often := rapid.SampledFrom([]int{0, 100, 300, 600})
		s.pauses, s.deaths, s.cuts = often.Draw(t, "pauses"), often.Draw(t, "deaths"), often.Draw(t, "cuts")
		s.views, s.whims = 5*often.Draw(t, "views"), 5*often.Draw(t, "whims")+500
		s.loss = rapid.SampledFrom([]float64{0, 0.02, 0.1}).Draw(t, "loss")
		s.late = rapid.SampledFrom([]float64{0, 0.02, 0.1}).Draw(t, "late")
		n := rapid.IntRange(2, 5).Draw(t, "nodes")
		for i := range n {
			s.nodes = append(s.nodes, &boat{s: s, i: i})
		}
		for _, b := range s.nodes {
			b.boot()
		}
		for s.now < modelChaos {
			s.tick()
		}
		s.calm(rapid.IntRange(0, (n-1)/2).Draw(t, "drowned"))
		for s.now < modelChaos+modelCalm {
			s.tick()
		}
		s.settled()
	})
}

// boot begins a life of a node.
func (b *boat) boot() {
	s := b.s
	b.boots++
	b.id = machine.NodeID{Name: string(rune('a' + b.i)), Boot: fmt.Sprint(b.boots)}
	s.lives = append(s.lives, b.id)
	b.lease = machine.NewLease(b.id, len(s.nodes), modelTerm, modelDrift, s.keep)
	b.claims = machine.NewClaims(b.id)
	b.rate = 1 + modelRate*float64(s.r.IntN(3)-1)
	b.offset = time.Duration(s.r.Int64N(int64(time.Hour)))
	b.era, b.viewed, b.until, b.partings, b.alive, b.owned = 0, 0, time.Time{}, nil, nil, nil
	b.beat, b.look, b.paused, b.dead = s.now, s.now, 0, 0
	b.see()
	b.fancy()
}

func (b *boat) clock() time.Time {
	return start.Add(b.offset + time.Duration(float64(b.s.now)*b.rate))
}

func (b *boat) up() bool { return b.boots > 0 && !b.drowned && b.dead == 0 }

// see is what membership does: it may be right.
func (b *boat) see() {
	b.alive = nil
	wrong := b.s.rough && b.s.views > 0 && b.s.r.IntN(2) == 0
	if wrong && b.s.r.IntN(3) == 0 {
		for _, id := range b.s.lives {
			if id != b.id && b.s.r.IntN(2) == 0 {
				b.alive = append(b.alive, id)
			}
		}
		return
	}
	for _, o := range b.s.nodes {
		cut := b.s.cut[[2]int{b.i, o.i}] > b.s.now && b.s.r.IntN(4) > 0
		if o != b && o.up() && !cut && (!wrong || b.s.r.IntN(3) > 0) {
			b.alive = append(b.alive, o.id)
		}
	}
}

// fancy is what a node thinks that it owns.
func (b *boat) fancy() {
	b.owned = nil
	for i, agent := range b.s.agents {
		if !b.s.rough && b.s.owner(i) == b || b.s.rough && b.s.r.IntN(3) > 0 {
			b.owned = append(b.owned, agent)
		}
	}
}

// owner is whom an agent belongs to when all agree.
func (s *sea) owner(agent int) *boat {
	var up []*boat
	for _, b := range s.nodes {
		if !b.drowned {
			up = append(up, b)
		}
	}
	return up[agent%len(up)]
}

// calm ends everything that is wrong, but for some nodes that are dead for good.
func (s *sea) calm(drowned int) {
	s.rough = false
	clear(s.cut)
	for _, i := range s.r.Perm(len(s.nodes))[:drowned] {
		s.nodes[i].drowned = true
	}
	for _, b := range s.nodes {
		if !b.drowned && !b.up() {
			b.boot()
		}
		b.paused = 0
	}
	for _, b := range s.nodes {
		b.see()
		b.fancy()
	}
}

// happens tells whether something does that happens so many times in a million ticks.
func (s *sea) happens(times int) bool { return s.rough && s.r.IntN(1_000_000) < times }

func (s *sea) between(from, to time.Duration) time.Duration {
	return from + time.Duration(s.r.Int64N(int64(to-from)))
}

func (s *sea) tick() {
	s.now += modelTick
	for _, b := range s.nodes {
		s.strike(b)
	}
	due := s.queue[:0:0]
	s.queue = slices.DeleteFunc(s.queue, func(l letter) bool {
		b := s.nodes[l.to]
		if l.at > s.now || b.up() && b.paused > s.now {
			return false
		}
		due = append(due, l)
		return true
	})
	s.r.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] })
	for _, l := range due {
		b := s.nodes[l.to]
		if b.up() && (l.life == machine.NodeID{} || l.life == b.id) {
			l.deliver(b, b.clock())
			b.fence()
			s.check()
		}
	}
	for _, b := range s.nodes {
		if b.up() && b.paused <= s.now {
			b.act(b.clock())
		}
	}
	s.check()
}

// strike is fate.
func (s *sea) strike(b *boat) {
	switch {
	case b.dead > 0 && b.dead <= s.now && !b.drowned:
		b.boot()
	case !b.up():
	case s.happens(s.deaths):
		if s.r.IntN(3) == 0 {
			b.leave()
		}
		b.dead = s.now + s.between(modelTick, 4*time.Second)
	case s.happens(s.deaths):
		s.storm(b)
	case s.happens(s.pauses):
		b.paused = s.now + s.between(modelTick, 5*time.Second)
	case s.happens(s.cuts):
		for i := range s.nodes {
			if s.r.IntN(2) == 0 {
				until := s.now + s.between(modelTick, 5*time.Second)
				s.cut[[2]int{b.i, i}] = until
				if s.r.IntN(3) > 0 {
					s.cut[[2]int{i, b.i}] = until
				}
			}
		}
	case s.happens(s.views):
		b.see()
	case s.happens(s.whims):
		b.fancy()
	}
	if s.rough && s.r.IntN(100) == 0 && s.views == 0 {
		b.see()
	}
}

// storm cuts a node off, while others are restarted so fast that what they had granted may still count.
func (s *sea) storm(b *boat) {
	until := s.now + s.between(time.Second, 4*time.Second)
	for i, o := range s.nodes {
		s.cut[[2]int{b.i, i}], s.cut[[2]int{i, b.i}] = until, until
		if o != b && o.up() && s.r.IntN(4) > 0 {
			o.dead = s.now + s.between(modelTick, time.Second)
		}
	}
}

// leave is what a node does before it goes in order.
func (b *boat) leave() {
	b.lease.GiveUp(b.clock())
	b.fence()
	id := b.id
	for i := range b.s.nodes {
		b.send(i, machine.NodeID{}, func(o *boat, now time.Time) { o.lease.Left(id, now) })
	}
}

// send sends a message, which may be lost, late or doubled.
func (b *boat) send(to int, life machine.NodeID, deliver func(b *boat, now time.Time)) {
	s := b.s
	if to == b.i {
		return
	}
	for {
		l := letter{at: s.now + s.between(modelTick, 20*time.Millisecond), to: to, life: life, deliver: deliver}
		if s.rough && s.r.Float64() < s.late {
			l.at += s.between(0, 4*time.Second)
		}
		if s.cut[[2]int{b.i, to}] <= s.now && (!s.rough || s.r.Float64() >= s.loss) {
			s.queue = append(s.queue, l)
		}
		if !s.rough || s.r.Float64() >= s.late {
			return
		}
	}
}

// act is what a node does by itself.
func (b *boat) act(now time.Time) {
	s := b.s
	if s.now >= b.beat {
		b.lease.Alive(b.alive, now)
		b.beat = s.now + 250*time.Millisecond
		id := b.id
		for _, to := range b.alive {
			b.send(int(to.Name[0]-'a'), machine.NodeID{}, func(o *boat, at time.Time) { o.beaten(id, b.i, now, at) })
		}
	}
	if s.now >= b.look {
		b.look = s.now + s.between(50*time.Millisecond, 150*time.Millisecond)
		b.lease.Alive(b.alive, now)
		b.follow(now)
		b.fence()
	}
	b.partings = slices.DeleteFunc(b.partings, func(l letter) bool {
		if l.at > s.now {
			return false
		}
		l.deliver(b, now)
		return true
	})
}

// beaten answers a beat, which asks for a grant.
func (b *boat) beaten(from machine.NodeID, i int, asked, now time.Time) {
	if !slices.Contains(b.alive, from) && b.s.r.IntN(4) > 0 {
		return
	}
	granted := b.lease.Grant(from, now)
	grants := b.lease.Grants(now)
	id := b.id
	b.send(i, from, func(o *boat, at time.Time) {
		if granted {
			o.lease.Granted(id, asked, at)
		}
		o.lease.Told(id, asked, at, grants)
	})
}

// follow looks at the view.
func (b *boat) follow(now time.Time) {
	era, until := b.lease.Until(now)
	v := &machine.View{Self: b.id, Leased: until.After(now) || b.s.keep, Era: era, Required: b.lease.Required(now)}
	b.viewed = era
	b.claims.Follow(v, b.owned)
	b.adopt()
	for _, ask := range b.claims.Asks() {
		i := int(ask.To.Name[0] - 'a')
		b.send(i, ask.To, func(o *boat, at time.Time) { o.asked(b.i, v.Self, ask, at) })
	}
}

func (b *boat) adopt() { b.s.starts += len(b.claims.Ready()) }

// asked answers another that claims agents; what is held it gives at once, later or not at all.
func (b *boat) asked(i int, by machine.NodeID, ask machine.Ask, now time.Time) {
	b.lease.Asked(by, now)
	free, give := b.claims.Asked(by, ask.Agents)
	answer := func(free []string) {
		id := b.id
		b.send(i, by, func(o *boat, _ time.Time) {
			o.claims.Answered(id, ask.Era, ask.Round, free)
			o.adopt()
		})
	}
	for _, agent := range give {
		owner := b.s.nodes[i]
		if b.s.rough && b.s.r.IntN(2) == 0 || !b.s.rough && b.s.owner(slices.Index(b.s.agents, agent)) != owner {
			continue
		}
		b.partings = append(b.partings, letter{at: b.s.now + b.s.between(0, 200*time.Millisecond), deliver: func(*boat, time.Time) {
			if b.claims.Holds(agent) {
				b.claims.Released(agent)
				answer([]string{agent})
			}
		}})
	}
	if len(free) > 0 {
		answer(free)
	}
}

// fence keeps what is looked at before each run.
func (b *boat) fence() {
	era, until := b.lease.Until(b.clock())
	if era != b.era {
		b.s.eras++
	}
	b.era, b.until = era, until
}

// polls tells whether a node polls an agent with a lease; a process that is paused might be doing so.
func (b *boat) polls(agent string) bool {
	return b.up() && b.viewed == b.era && b.until.After(b.clock()) && b.claims.Holds(agent)
}

func (s *sea) check() {
	for _, agent := range s.agents {
		var polled *boat
		for _, b := range s.nodes {
			if !b.polls(agent) {
				continue
			}
			if polled != nil {
				s.t.Fatalf("after %v %v and %v both poll %s", s.now, polled.id, b.id, agent)
			}
			polled = b
		}
	}
}

// settled checks that each agent is polled by its owner.
func (s *sea) settled() {
	for i, agent := range s.agents {
		if b := s.owner(i); !b.polls(agent) {
			s.t.Fatalf("%v does not poll %s, its era is %d, of its view %d, its lease until %v (now %v), it waits for %v", b.id, agent, b.era, b.viewed,
				b.until, b.clock(), b.claims.Waiting())
		}
	}
}
