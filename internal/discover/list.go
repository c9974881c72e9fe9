package discover

import "time"

const (
	// holdFor is how long at least a list that shrank is held: longer than it takes to write any file anew.
	holdFor = 30 * time.Second
	// settleFor is how long a file has to be left alone to be taken for complete.
	settleFor = 2 * time.Second
)

// list is what is known of one document. It is a state machine without I/O: it is told what a look at the document
// came to.
type list struct {
	// targets are the last good list.
	targets []Target
	// err is why the document can't be read now, since when; nil if it can.
	err   error
	since time.Time
	held  held
}

// held is a list that was seen and not taken yet, as it was at first. The zero value means that nothing is held.
type held struct {
	since time.Time
	size  int       // distinct addresses in it
	lost  int       // distinct addresses that are not in it any more
	until time.Time // when to look again
}

// sighting is what a look at one document came to.
type sighting struct {
	targets []Target
	err     error
	// settled is false for a file that may be half written.
	settled bool
	// gone means that the document is no more, and so lists nothing.
	gone bool
}

// see takes what a look at now came to. A list that shrank is held until a look again later, and one that may not be
// complete until it is. It returns whether the targets changed.
func (l *list) see(s sighting, again time.Duration, now time.Time) (changed bool) {
	if s.err != nil {
		if l.err == nil {
			l.since = now
		}
		l.err = s.err
		return false
	}
	l.err, l.since = nil, time.Time{}
	before, after := addresses(l.targets), addresses(s.targets)
	lost := 0
	for address := range before {
		if _, there := after[address]; !there {
			lost++
		}
	}
	changed = !equalTargets(l.targets, s.targets)
	if (2*lost > len(before) || (changed && !s.settled)) && !l.held.confirmedBy(len(after), again, now) {
		l.hold(len(after), lost, now)
		l.held.until = l.held.since.Add(again)
		if !s.settled {
			l.held.until = now.Add(settleFor)
		}
		return false
	}
	l.held = held{}
	l.targets = s.targets
	return changed
}

// hold begins to wait for a second look, or goes on waiting if the list is still the one that is held.
func (l *list) hold(size, lost int, now time.Time) {
	if !l.held.like(size) {
		l.held = held{since: now, size: size}
	}
	l.held.lost = lost
}

// confirmedBy tells whether a list of this size at now is the second look at the one that is held.
func (h *held) confirmedBy(size int, again time.Duration, now time.Time) bool {
	return h.like(size) && now.Sub(h.since) >= again
}

// like tells whether a list of this size may be the one that is held. Not one that is longer, which is being written,
// nor one that has again lost more than half. It goes by sizes alone, so that a list that changes all the time is not
// held for ever.
func (h *held) like(size int) bool {
	return !h.since.IsZero() && size <= h.size && 2*size >= h.size
}

// next is when the list wants to be looked at; zero if it does not care.
func (l *list) next(now time.Time) time.Time {
	if l.held.since.IsZero() || !l.held.until.After(now) {
		return time.Time{}
	}
	return l.held.until
}

func addresses(targets []Target) map[string]struct{} {
	set := make(map[string]struct{}, len(targets))
	for i := range targets {
		set[targets[i].Address] = struct{}{}
	}
	return set
}

func equalTargets(a, b []Target) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !a[i].equal(b[i]) {
			return false
		}
	}
	return true
}
