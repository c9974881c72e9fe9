package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// joinEvery is how often it is looked whether somebody is missing. memberlist does not heal a full split by itself.
	joinEvery = 2 * time.Second
	// resolveTimeout bounds the look-up of a seed.
	resolveTimeout = 2 * time.Second
	// unheardFor is after what time a member that answers no beats is told of us again: it may not know this life of us.
	unheardFor = time.Second
	// seekFor is for how long one that died is sought where it was.
	seekFor = 10 * time.Minute
	// tellSeeds is how often at most changing news of seeds is told.
	tellSeeds = 10 * time.Second
)

// join brings this node together with the seeds, and with whom it has lost, again and again.
func (c *Cluster) join() {
	ticker := time.NewTicker(joinEvery)
	defer ticker.Stop()
	silence := silence{tell: c.config.Tell}
	for {
		errs := c.gather()
		if c.ctx.Err() == nil {
			silence.is(errs, c.config.Name, time.Now())
		}
		select {
		case <-ticker.C:
		case <-c.ctx.Done():
			return
		}
	}
}

// gather joins whoever is missing, all at the same time. It returns what is wrong with each of the seeds, if there is no other member.
func (c *Cluster) gather() []error {
	present, missing := c.presence(c.clock.now())
	if present == nil {
		return nil
	}
	seeds := c.seeds()
	for _, s := range seeds {
		for _, address := range s.addresses {
			if !present[address] {
				missing[address] = true
			}
		}
	}
	failed := c.joinAll(missing)
	var errs []error
	for _, s := range seeds {
		if s.err != nil {
			errs = append(errs, s.err)
		}
		for _, address := range s.addresses {
			if err := failed[address]; err != nil {
				errs = append(errs, s.at(address, err))
			} else if missing[address] {
				return nil
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.members) > 0 {
		return nil
	}
	return errs
}

// presence returns where members are that answer us, with ourselves; and where others are that don't, or were. Both are nil if we leave.
func (c *Cluster) presence(now time.Time) (present, missing map[netip.AddrPort]bool) {
	present, missing = make(map[netip.AddrPort]bool), make(map[netip.AddrPort]bool)
	present[plain(c.transport.address().AddrPort())] = true
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving {
		return nil, nil
	}
	for _, m := range c.members {
		address := netip.AddrPortFrom(ip(m.node.Addr), m.node.Port)
		if heard := m.answered; !m.leaving && (m.doubted || now.Sub(heard) > unheardFor && now.Sub(m.since) > unheardFor) {
			missing[address] = true
		} else {
			present[address] = true
		}
	}
	maps.DeleteFunc(c.gone, func(_ string, d *departed) bool { return d.size <= c.size && now.Sub(d.at) > seekFor })
	for _, d := range c.gone {
		if now.Sub(d.at) <= seekFor && !present[d.address] {
			missing[d.address] = true
		}
	}
	return present, missing
}

func ip(b net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a.Unmap()
}

func plain(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// joinAll joins the nodes at addresses, and returns the errors.
func (c *Cluster) joinAll(at map[netip.AddrPort]bool) map[netip.AddrPort]error {
	var mu sync.Mutex
	var wg sync.WaitGroup
	failed := make(map[netip.AddrPort]error)
	for address := range at {
		wg.Go(func() {
			if err := c.joinAt(address); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed[address] = err
			}
		})
	}
	wg.Wait()
	return failed
}

// joinAt exchanges all that is known with the node at an address.
func (c *Cluster) joinAt(address netip.AddrPort) error {
	_, err := c.list.Load().Join([]string{address.String()})
	if err == nil {
		return nil
	}
	said := err.Error()
	if one := errors.Unwrap(err); one != nil {
		said = one.Error() // the library's list of them has several lines
	}
	return errors.New(strings.TrimPrefix(said, "failed to join "+address.String()+": "))
}

// seed is one of the configuration, and where it is now.
type seed struct {
	name      string
	addresses []netip.AddrPort
	err       error
}

// at says where an error was.
func (s *seed) at(address netip.AddrPort, err error) error {
	if s.name == address.String() {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return fmt.Errorf("%s (%s): %w", s.name, address, err)
}

// seeds looks the seeds up, all at the same time.
func (c *Cluster) seeds() []seed {
	seeds := make([]seed, len(c.config.Seeds))
	var wg sync.WaitGroup
	for i, name := range c.config.Seeds {
		wg.Go(func() {
			addresses, err := resolve(c.ctx, name)
			if err != nil {
				err = fmt.Errorf("%s: %w", name, err)
			}
			seeds[i] = seed{name, addresses, err}
		})
	}
	wg.Wait()
	return seeds
}

// resolve returns the addresses of a seed.
func resolve(ctx context.Context, seed string) ([]netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(seed)
	if err != nil {
		return nil, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("port %q: %w", port, err)
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	addresses := make([]netip.AddrPort, 0, len(ips))
	for _, ip := range ips {
		addresses = append(addresses, netip.AddrPortFrom(ip.Unmap(), uint16(number)))
	}
	return addresses, nil
}

// silence tells when no seed answers, and when that is over.
type silence struct {
	tell func(Event)
	told string // what was told; empty if nothing was
	at   time.Time
}

// is takes what is wrong with each of the seeds; nothing means that they are not missed.
func (s *silence) is(errs []error, cluster string, now time.Time) {
	if len(errs) == 0 {
		if s.told != "" {
			s.told = ""
			s.tell(SeedsFound{})
		}
		return
	}
	said := make([]string, len(errs))
	for i, err := range errs {
		said[i] = err.Error()
	}
	all := strings.Join(said, "; ")
	if since := now.Sub(s.at); s.told != "" && (since < tellSeeds || s.told == all && since < tellAgain) {
		return
	}
	s.told, s.at = all, now
	s.tell(SeedsSilent{fmt.Errorf("cluster %s: no seed has let this node in, and it knows no other: tried %s: "+
		"start the others, or correct the seeds; it is tried again every %v", cluster, all, joinEvery)})
}
