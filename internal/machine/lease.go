package machine

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// recall is for how long a Lease remembers lives of nodes that it has no use for any more.
const recall = time.Hour

// Grant says when one node let another poll last.
type Grant struct {
	To NodeID
	// Age is how long ago that was.
	Age time.Duration
}

// Lease is one node's part in deciding who may poll. It counts the grants that the node has from others, remembers those
// that it gave, and hears of those that others gave. It knows no clock: times are this node's own, monotonic, and never go
// back from call to call. It is not safe for concurrent use.
//
// A node asks each other for its grant a few times a second. What is granted lets it poll until a term after it *asked*. It
// has a lease while a majority of all nodes' grants last, among them its own, which always does. Many nodes have leases at a
// time; what keeps two of them from polling the same agent is that each knows of all who may have one (Required), and asks
// them (Claims). This rests on four things:
//
//   - Any two leases that hold at the same moment have a granter in common. So a node knows of every other lease that holds
//     at some moment v of its own when a majority has told it whom they granted to over the whole term before v. Until it
//     knows that, it has no lease (Until, Informed).
//   - A vote is a name's, not a life's: a node that is restarted votes once, and remembers nothing of what it granted
//     before. So nothing counts that it says of a time at which it was not yet known to run. No two lives of a name run at a time.
//   - Another's lease has lapsed for certain if so many nodes granted it nothing over a term that there is no majority
//     without them. It may have got another since, but began that later than this node's own, and asks.
//   - Whoever asks for agents has a lease, and may start what it is told is free. So what showed that it had none before
//     that counts no more (Asked).
//
// An era is the time for which a lease holds without a break. What is known of others' leases is of this era alone.
type Lease struct {
	self        NodeID
	size        int // as configured or announced
	most        int // how many nodes there were at once, less those that left
	term, drift time.Duration
	keep        bool

	born     time.Time // what our name granted before that is not known
	alive    map[NodeID]bool
	given    map[NodeID]time.Time // our own grants, by when they were given
	granted  map[string]time.Time // others' to us, by name: when we asked for the newest
	accounts map[string]account   // by name
	others   map[NodeID]*other
	leaving  []time.Time // when those left that count in most yet

	begun    time.Time // since when a majority's grants last without a break, if they do
	until    time.Time
	era      uint64
	informed bool // of all who may have had a lease at some moment since begun
	over     bool
}

// account is the newest that a node told of its grants.
type account struct {
	by NodeID
	// known is since when that life was known to run.
	known time.Time
	// asked is when we asked for it: it is true of all moments until then.
	asked time.Time
	// heard is when it came. What was granted longer than a span before that may have been left out.
	heard time.Time
	// grants are the latest moments at which they may have been given.
	grants map[NodeID]time.Time
}

// other is a life of another node that has, or may have had, a lease.
type other struct {
	// named is when it was heard of last.
	named time.Time
	// asked is when it last asked us for agents: it had a lease.
	asked time.Time
	// lapsed says that it had no lease at a moment since both begun and asked.
	lapsed bool
	// left says that it has given up for good.
	left bool
}

// NewLease returns the lease of a node that has none yet. Of size nodes more than half must grant it; more, if there turn out
// to be more. A grant lasts for term; others' are taken to last for drift longer, which is for clocks whose rates differ: by as
// much that a few terms differ by less than drift. With keep a node that has no majority polls on, with all those that it knows
// to be alive in agreement.
func NewLease(self NodeID, size int, term, drift time.Duration, keep bool) *Lease {
	return &Lease{
		self: self, size: max(size, 1), term: term, drift: drift, keep: keep,
		alive:    make(map[NodeID]bool),
		given:    make(map[NodeID]time.Time),
		granted:  make(map[string]time.Time),
		accounts: make(map[string]account),
		others:   make(map[NodeID]*other),
	}
}

// SetSize says how many nodes there should be: the greatest number that our own configuration or another's has. One that is
// less than before is only safe if nodes are gone: half of the old could be a majority of the new.
func (l *Lease) SetSize(size int) {
	l.size = max(size, 1)
	if until := l.reckon(l.until); until.Before(l.until) {
		l.until = until
	}
}

// Majority returns how many nodes there should be, or are if that is more, and how many of them must grant.
func (l *Lease) Majority() (size, majority int) {
	size = max(l.size, l.most)
	return size, size/2 + 1
}

// Alive says which lives the membership has for alive now, without ourselves. It may be wrong. If they are more than there
// should be, they count as many, and go on to when they are gone, lest the two sides of a split have a majority each. Only
// those that left are taken off, a term later.
func (l *Lease) Alive(members []NodeID, now time.Time) {
	clear(l.alive)
	names := map[string]bool{l.self.Name: true}
	for _, id := range members {
		if id == l.self {
			continue
		}
		l.alive[id] = true
		if !l.name(id, now).left {
			names[id.Name] = true
		}
	}
	l.most = max(l.most, len(names))
	for id, o := range l.others {
		if !l.alive[id] && now.Sub(o.named) > recall && (o.lapsed || o.left || l.begun.IsZero()) {
			delete(l.others, id)
		}
	}
	maps.DeleteFunc(l.accounts, func(_ string, a account) bool { return now.Sub(a.asked) > recall })
	maps.DeleteFunc(l.granted, func(_ string, asked time.Time) bool { return now.Sub(asked) > recall })
	l.settle(now)
}

// name notes that a life of another node was heard of.
func (l *Lease) name(id NodeID, now time.Time) *other {
	o := l.others[id]
	if o == nil {
		o = &other{}
		l.others[id] = o
	}
	o.named = now
	return o
}

// Grant decides whether to may poll for a term, as it has just asked. It may if it is alive, as far as is known here, and we
// are not leaving.
func (l *Lease) Grant(to NodeID, now time.Time) bool {
	l.settle(now)
	if l.over || to == l.self || !l.alive[to] || l.name(to, now).left {
		return false
	}
	l.given[to] = now
	return true
}

// Granted says that by has granted what it was asked for at asked. It counts if by is alive. A lease that had lapsed, at now
// or before, is another.
func (l *Lease) Granted(by NodeID, asked, now time.Time) {
	if l.alive[by] && by.Name != l.self.Name && asked.After(l.granted[by.Name]) {
		l.granted[by.Name] = asked
	}
	l.settle(now)
}

// span is how far back a Lease looks, and remembers: enough that accounts of nodes which were asked at different times
// overlap by a term.
func (l *Lease) span() time.Duration { return 2 * l.term }

// Grants returns the grants that were given lately, by name and boot. They are what others are told in each answer, also in one that
// refuses.
func (l *Lease) Grants(now time.Time) []Grant {
	var grants []Grant
	for to, at := range l.given {
		age := now.Sub(at)
		if age > l.span()+l.drift {
			delete(l.given, to)
			continue
		}
		grants = append(grants, Grant{To: to, Age: age})
	}
	slices.SortFunc(grants, func(a, b Grant) int { return compareIDs(a.To, b.To) })
	return grants
}

// Told says what by answered to what it was asked at asked: all that it has granted lately. That was true at some moment
// between asked and now.
func (l *Lease) Told(by NodeID, asked, now time.Time, grants []Grant) {
	if by.Name == l.self.Name {
		return
	}
	l.name(by, now)
	for _, g := range grants {
		if g.To != l.self {
			l.name(g.To, now)
		}
	}
	// Of answers that come in another order than they were asked for only the newest is an account; all are heard of.
	if last, ok := l.accounts[by.Name]; !ok || asked.After(last.asked) {
		known := now // not asked: it may have been started since
		if ok && last.by == by {
			known = last.known
		}
		at := make(map[NodeID]time.Time, len(grants))
		for _, g := range grants {
			at[g.To] = now.Add(-g.Age)
		}
		l.accounts[by.Name] = account{by: by, known: known, asked: asked, heard: now, grants: at}
	}
	l.settle(now)
}

// Asked says that by asks for agents. To be called before Claims is told so, and before the next view is made.
func (l *Lease) Asked(by NodeID, now time.Time) {
	if by == l.self {
		return
	}
	o := l.name(by, now)
	o.asked, o.lapsed = now, false
	l.settle(now)
}

// Left says that a life of a node has given up its lease for good: it polls nothing any more, and grants nothing.
func (l *Lease) Left(id NodeID, now time.Time) {
	if id == l.self {
		return
	}
	if o := l.name(id, now); !o.left {
		o.left = true
		l.leaving = append(l.leaving, now)
	}
	l.settle(now)
}

// GiveUp ends the lease for good. We grant nothing from now on either: those that remain may count without us.
func (l *Lease) GiveUp(now time.Time) {
	l.over = true
	l.settle(now)
}

// Until returns the era of the lease, 0 if there was none yet, and when it lapses if nothing is granted meanwhile: it holds
// before that, and the time is zero if it has lapsed. A node with keep may poll without.
func (l *Lease) Until(now time.Time) (era uint64, until time.Time) {
	l.settle(now)
	if l.holds(now) {
		until = l.until
	}
	return l.era, until
}

// Informed says whether Required is all who may poll: either the lease holds, or it has lapsed, and a node with keep polls with
// those that are alive.
func (l *Lease) Informed(now time.Time) bool {
	l.settle(now)
	return l.holds(now) || l.keep && !l.over
}

// Required returns the other nodes that may poll, sorted by name and boot: those that are alive, and those which have not been
// shown to have had no lease at a moment of this era. Without a lease, for a node with keep, they are those that are alive.
func (l *Lease) Required(now time.Time) []NodeID {
	l.settle(now)
	strict := l.holds(now) || !l.keep
	var required []NodeID
	for id, o := range l.others {
		if !o.left && (l.alive[id] || strict && !o.lapsed) {
			required = append(required, id)
		}
	}
	slices.SortFunc(required, compareIDs)
	return required
}

func (l *Lease) holds(now time.Time) bool { return l.informed && l.until.After(now) }

// settle draws the conclusions of whatever happened, and of the time.
func (l *Lease) settle(now time.Time) {
	if l.born.IsZero() {
		l.born = now
	}
	// Those that left have granted nothing since, and what they had granted is over.
	for len(l.leaving) > 0 && now.Sub(l.leaving[0]) > l.term+l.drift {
		l.leaving = l.leaving[1:]
		l.most = max(l.most-1, 1)
	}
	lapsed := !l.until.After(now)
	l.until = l.reckon(now)
	switch {
	case !l.until.After(now):
		l.begun, l.informed = time.Time{}, false
		return
	case lapsed:
		l.begun, l.informed = now, false
		for _, o := range l.others {
			o.lapsed = false
		}
	}
	l.lapse(now)
	if !l.informed && l.agree(l.silences(NodeID{}, now), l.majority(), l.begun) {
		l.informed = true
		l.era++
	}
}

func (l *Lease) majority() int {
	_, majority := l.Majority()
	return majority
}

// reckon returns when the grants of a majority are no longer all valid. Our own is as of now.
func (l *Lease) reckon(now time.Time) time.Time {
	n := l.majority() - 1
	switch {
	case l.over || n > len(l.granted):
		return time.Time{}
	case n == 0:
		return now.Add(recall) // alone, and so for good
	}
	asked := slices.SortedFunc(maps.Values(l.granted), func(a, b time.Time) int { return b.Compare(a) })
	return asked[n-1].Add(l.term)
}

// lapse finds out which others have had no lease at a moment of ours.
func (l *Lease) lapse(now time.Time) {
	size, majority := l.Majority()
	for id, o := range l.others {
		if o.lapsed {
			continue
		}
		since := l.begun
		if o.asked.After(since) {
			since = o.asked
		}
		o.lapsed = l.replaced(id, since) || l.agree(l.silences(id, now), size-majority+1, since)
	}
}

// replaced reports whether another life of the same name ran at a moment not before since, so that this one did not.
func (l *Lease) replaced(id NodeID, since time.Time) bool {
	a, ok := l.accounts[id.Name]
	return id.Name == l.self.Name || ok && a.by != id && !a.asked.Before(since)
}

// A silence is a time over which a node is known to have granted another nothing.
type silence struct{ from, to time.Time }

// silences returns when each node, ourselves included, granted nothing to id; for the zero NodeID when what they granted is
// known. The node itself does not count: its own vote it always has.
func (l *Lease) silences(id NodeID, now time.Time) []silence {
	silences := make([]silence, 0, len(l.accounts)+1)
	if id.Name != l.self.Name {
		silences = append(silences, silence{from: latest(l.born, now.Add(-l.span()), l.given[id]), to: now})
	}
	for name, a := range l.accounts {
		if id.Name != name {
			silences = append(silences, silence{from: latest(a.known, a.heard.Add(-l.span()), a.grants[id]), to: a.asked})
		}
	}
	return silences
}

// agree reports whether there is a moment, not before since, such that at least n silences last over the whole of the time
// for which a grant may count that is valid then.
func (l *Lease) agree(silences []silence, n int, since time.Time) bool {
	return slices.ContainsFunc(silences, func(at silence) bool {
		if at.to.Before(since) {
			return false
		}
		from, count := at.to.Add(-l.term-l.drift), 0
		for _, s := range silences {
			if !s.to.Before(at.to) && !s.from.After(from) {
				count++
			}
		}
		return count >= n
	})
}

func latest(times ...time.Time) time.Time { return slices.MaxFunc(times, time.Time.Compare) }

func compareIDs(a, b NodeID) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Boot, b.Boot))
}
