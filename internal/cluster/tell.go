package cluster

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// tellAgain is how long the same is not told again.
const tellAgain = time.Minute

// mostThinned bounds what is remembered of what was told, for strangers choose what there is to tell.
const mostThinned = 64

// teller tells of what may happen very often, each thing once in tellAgain.
type teller struct {
	to       func(Event)
	refusals atomic.Uint64

	mu   sync.Mutex
	thin thin
}

// often tells an event that it is given how much of its kind was held back, and of which there are n now.
func (t *teller) often(key string, n int, event func(heldBack int) Event) {
	t.mu.Lock()
	heldBack, ok := t.thin.pass(key, n, time.Now())
	t.mu.Unlock()
	if ok {
		t.to(event(heldBack))
	}
}

func (t *teller) refused(address net.Addr, reason string) {
	t.refusals.Add(1)
	host, _, _ := net.SplitHostPort(address.String())
	t.often("refused "+host+" "+reason, 1, func(heldBack int) Event { return Refused{address.String(), reason, heldBack} })
}

// thin holds back what was told within tellAgain, and counts it.
type thin map[string]*lately

type lately struct {
	at       time.Time
	heldBack int
}

// pass tells whether to tell of n things now, and how many were held back since they were told of last.
func (t thin) pass(key string, n int, now time.Time) (heldBack int, ok bool) {
	if t[key] == nil && len(t) >= mostThinned {
		for k, old := range t {
			if now.Sub(old.at) >= tellAgain {
				delete(t, k)
			}
		}
		if len(t) >= mostThinned {
			key = "" // all others together
		}
	}
	last := t[key]
	switch {
	case last == nil:
		t[key] = &lately{at: now}
		return 0, true
	case now.Sub(last.at) < tellAgain:
		last.heldBack += n
		return 0, false
	}
	heldBack = last.heldBack
	*last = lately{at: now}
	return heldBack, true
}
