package transport

import "slices"

// news is what is to change at a Core when nothing is being delivered.
type news struct {
	cfg   *CoreConfig // nil if it stays
	renew bool        // the connection is to be given up
}

// Reconfigure changes where core is, and all else in its configuration, for the deliveries that follow. It does not wait
// for the one that is under way. If the addresses are others, their order counts anew: the next delivery goes to the
// first. A connection to it is kept if it would be made in the same way (a Dial is not looked at); any other is given
// up, at once or when the delivery under way has ended, which may take as long as the peer's last words, 250 ms at most.
func (c *Core) Reconfigure(cfg CoreConfig) {
	c.announce(func(n *news) { n.cfg = &cfg })
}

// Renew gives the connection up, because the files of its identity are others: at once, in 250 ms at most, or when the
// delivery under way has ended, for which it does not wait. The next delivery makes a new one, with a stream.
func (c *Core) Renew() {
	c.announce(func(n *news) { n.renew = true })
}

// announce adds to the news, and settles them if nobody has the turn. If somebody has, it is up to them: the turn is
// given back only when there are none, and nobody can add any at that moment.
func (c *Core) announce(add func(*news)) {
	c.mu.Lock()
	add(&c.news)
	select {
	case <-c.turn:
		c.mu.Unlock()
		c.pass()
	default:
		c.mu.Unlock()
	}
}

// pass settles the news and gives the turn back.
func (c *Core) pass() {
	for {
		c.mu.Lock()
		n := c.news
		if n == (news{}) {
			c.turn <- struct{}{} // there is room: the caller has the turn
			c.mu.Unlock()
			return
		}
		c.news = news{}
		c.mu.Unlock()
		c.settle(n)
	}
}

// settle does what the news say; the caller has the turn.
func (c *Core) settle(n news) {
	drop := n.renew
	if n.cfg != nil {
		before := c.cfg
		inUse := before.Addresses[c.current]
		if !slices.Equal(n.cfg.Addresses, before.Addresses) {
			c.current = 0
		}
		c.cfg = *n.cfg
		drop = drop || c.cfg.Addresses[c.current] != inUse || !connectsAlike(before, c.cfg)
	}
	if drop {
		_ = c.drop() // it fails only if there is nothing to give up
	}
}

// connectsAlike tells whether connections to the same address would be made in the same way.
func connectsAlike(a, b CoreConfig) bool {
	return a.TLS == b.TLS && a.Identities == b.Identities && a.FindDead == b.FindDead
}
