package transport

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// What a Resolver takes for granted.
const (
	freshFor      = 5 * time.Minute // before a name is looked up again
	retryAfter    = time.Minute     // after a failure
	forgottenFor  = time.Hour       // after which nobody wants the name any more
	lookupTimeout = 5 * time.Second
	lookupsAtOnce = 4
)

// LookupFunc returns a name's addresses; it is a net.Resolver's LookupNetIP for network "ip", or a
// test's twin.
type LookupFunc func(ctx context.Context, name string) ([]netip.Addr, error)

// Resolver knows the addresses of hosts without making anybody wait: it looks up in the background
// what it has been asked for, and answers with what it knows by then. A name that can't be looked up
// keeps its last address. It is safe for concurrent use.
type Resolver struct {
	lookup LookupFunc
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu      sync.Mutex
	names   map[string]*resolved // nil once closed
	due     []string             // the names to look up, those due first in front
	busy    int                  // lookups that go on
	cleaned time.Time            // when names that nobody wants were dropped last
}

// resolved is what is known of a name.
type resolved struct {
	ip     netip.Addr // not valid until it was found
	due    time.Time  // when to look it up again; zero while that is to be done
	wanted time.Time  // when it was asked for last
}

// NewResolver returns a Resolver that knows nothing yet. A nil lookup is the network's.
func NewResolver(lookup LookupFunc) *Resolver {
	if lookup == nil {
		lookup = func(ctx context.Context, name string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", name)
		}
	}
	r := &Resolver{lookup: lookup, names: make(map[string]*resolved)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// Close ends the lookups that go on, and starts no more.
func (r *Resolver) Close() {
	r.cancel()
	r.mu.Lock()
	r.names, r.due = nil, nil
	r.mu.Unlock()
	r.work.Wait()
}

// Address returns the address of a host as it is known now; one that is not valid if it is not, and
// then it soon will be, if there is one.
func (r *Resolver) Address(name string) netip.Addr {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.names == nil {
		return netip.Addr{}
	}
	known, ok := r.names[name]
	if !ok {
		if now.Sub(r.cleaned) > forgottenFor {
			r.cleaned = now
			r.forget(now)
		}
		known = &resolved{due: now}
		r.names[name] = known
	}
	known.wanted = now
	if !known.due.IsZero() && !now.Before(known.due) {
		known.due = time.Time{}
		r.due = append(r.due, name)
		if r.busy < lookupsAtOnce {
			r.busy++
			r.work.Go(r.findAll)
		}
	}
	return known.ip
}

// forget drops the names that nobody wants any more; r.mu is held.
func (r *Resolver) forget(now time.Time) {
	for name, known := range r.names {
		if now.Sub(known.wanted) > forgottenFor {
			delete(r.names, name)
		}
	}
}

// findAll looks up what is due until nothing is.
func (r *Resolver) findAll() {
	for {
		r.mu.Lock()
		if len(r.due) == 0 {
			r.busy--
			r.mu.Unlock()
			return
		}
		name := r.due[0]
		r.due = r.due[1:]
		r.mu.Unlock()
		r.find(name)
	}
}

func (r *Resolver) find(name string) {
	ctx, cancel := context.WithTimeout(r.ctx, lookupTimeout)
	defer cancel()
	found, err := r.lookup(ctx, name)
	for i, ip := range found {
		found[i] = ip.Unmap().WithZone("")
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	known, ok := r.names[name]
	if !ok {
		return
	}
	if err != nil || len(found) == 0 {
		known.due = now.Add(retryAfter)
		return
	}
	known.due = now.Add(freshFor)
	// To core another address is another host: names with several are to keep the one that they had.
	if !slices.Contains(found, known.ip) {
		known.ip = preferred(found)
	}
}

// preferred returns the first IPv4 address, which is what core's other sources have, else the first.
func preferred(addresses []netip.Addr) netip.Addr {
	for _, ip := range addresses {
		if ip.Is4() {
			return ip
		}
	}
	return addresses[0]
}
