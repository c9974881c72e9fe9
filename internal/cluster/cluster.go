// Package cluster knows which nodes of a cluster are alive, and whether this one may poll. It is memberlist, over a transport
// of our own with mutual TLS, and the beats by which nodes grant each other leases (machine.Lease). Packets, beats among them, are datagrams of QUIC,
// so what a line loses holds up nothing; streams are TCP.
//
// Guarantees:
//   - Holds is true only while a majority of the cluster has let this node poll within the lease's term, or if it is to go on in a
//     minority; it takes no lock, and goes by a clock that goes on whatever happens to the process or, on Linux, the machine, so that one
//     which stood still or slept finds its lease over. Whoever asks it inline before each run never runs on a lease that is over.
//   - An era that has ended never holds again.
//   - Nothing that somebody without a certificate of the cluster's authorities sends is looked at, beyond his handshake. Without TLS, on a loopback
//     address, anybody who says the cluster's name is a node, by UDP too: QUIC encrypts there, but nobody is verified.
//   - Nothing blocks for long but Start, Leave and Close, and when Close has returned there is no connection, and no listener, left.
//     Of memberlist's own goroutines, which nobody can wait for, some end up to two probeIntervals later; they do nothing any more.
//
// All methods are safe to call from any goroutine, but not from Config.Tell and Config.Changed.
package cluster

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
	"github.com/serviceradar/poller/internal/tlsid"
)

// How leases go.
const (
	// term is how long a grant lets a node poll, from when it asked for it. Six beats may be lost before a lease is.
	term = 1500 * time.Millisecond
	// drift is by how much others' leases may last longer by our clock, with all that clocks do.
	drift = 50 * time.Millisecond
	// beatEvery is how often others are asked for their grants.
	beatEvery = 250 * time.Millisecond
)

// keepsAfter is how long after its start a node that is to poll without a majority does not: that is how long it takes to hear others, if they are there.
const keepsAfter = 3 * time.Second

// lossesFor is for how long it is remembered that a node died.
const lossesFor = 10 * time.Minute

// Cluster is this node's part in a cluster.
type Cluster struct {
	config    Config
	self      machine.NodeID
	transport *transport
	list      atomic.Pointer[memberlist.Memberlist] // nil until the node has started
	tell      teller
	drops     atomic.Uint64
	ignored   atomic.Uint64

	clock clock // leases go by it
	fence atomic.Pointer[fence]
	kick  chan struct{} // has the beats go out at once
	heard chan struct{} // somebody has answered, for Leave

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	ending sync.Mutex // held while memberlist leaves or shuts down
	ended  bool

	mu      sync.Mutex // for all below; nobody calls memberlist, which calls us, while he holds it
	born    time.Time  // when it started
	lease   *machine.Lease
	ours    machine.Announcement
	size    int // the configuration's
	members map[string]*member
	gone    map[string]*departed // who was a member, and has not come back
	deaths  map[string][]time.Time
	clashes map[string]*clash
	seq     uint64
	asked   map[uint64]time.Time // when beats went out
	beaten  uint64               // the last of them
	leaving bool
	over    bool   // nothing may be polled any more
	leftAt  uint64 // the first beat that says so
	last    outlook
	knew    map[MessageUnknown]bool
	crowded bool // TooMany was told
}

// fence is what Holds goes by.
type fence struct {
	era   uint64
	until time.Time
	keep  bool
}

// New returns a node of which nobody knows yet: it has no lease. An error says what to do.
func New(config Config) (*Cluster, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	c := newCluster(config)
	if meta := c.meta(); len(meta) > memberlist.MetaMaxSize {
		return nil, fmt.Errorf("cluster: the address for actors, %q, has more than %d bytes: it has to be a host:port", config.Remote, memberlist.MetaMaxSize)
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refresh(c.clock.now())
	return c, nil
}

// Start listens, and joins the cluster in the background; it is called once. It is over with Close; ctx is only for the start itself. An error
// says what was tried and what to do.
func (c *Cluster) Start(ctx context.Context) error {
	server, err := c.server(c.config.TLS)
	if err != nil {
		return err
	}
	c.ending.Lock()
	defer c.ending.Unlock()
	t, err := c.listen(ctx, server)
	if err != nil {
		return err
	}
	if err := t.start(ctx); err != nil {
		_ = t.Shutdown()
		return err
	}
	c.transport = t
	list, err := memberlist.Create(c.settings())
	if err != nil {
		c.transport = nil
		_ = t.Shutdown()
		return fmt.Errorf("cluster: start membership of %s on %s: %w", c.config.Node, c.config.Listen, err)
	}
	c.list.Store(list)
	c.mu.Lock()
	c.born = c.clock.now()
	c.mu.Unlock()
	c.wg.Go(c.beat)
	c.wg.Go(c.join)
	return nil
}

// newCluster returns one that is not connected to anything yet.
func newCluster(config Config) *Cluster {
	if config.Tell == nil {
		config.Tell = func(Event) {}
	}
	if config.Changed == nil {
		config.Changed = func() {}
	}
	if config.Clock == nil {
		config.Clock = func() int64 { return time.Now().UnixNano() }
	}
	self := machine.NodeID{Name: config.Node, Boot: boot()}
	return &Cluster{
		config:  config,
		self:    self,
		tell:    teller{to: config.Tell, thin: make(thin)},
		clock:   newClock(),
		kick:    make(chan struct{}, 1),
		heard:   make(chan struct{}, 1),
		lease:   machine.NewLease(self, config.Size, term, drift, config.Keep),
		size:    config.Size,
		members: make(map[string]*member),
		gone:    make(map[string]*departed),
		deaths:  make(map[string][]time.Time),
		clashes: make(map[string]*clash),
		asked:   make(map[uint64]time.Time),
		knew:    make(map[MessageUnknown]bool),
	}
}

// boot returns what tells this process from all others.
func boot() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// server returns the configuration for those who connect; nil is plaintext.
func (c *Cluster) server(id check.TLS) (*tls.Config, error) {
	switch id.Mode {
	case check.TLSMutual:
		config, err := tlsid.ServerFiles(id.CertFile, id.KeyFile, id.CAFile, func(err error) { c.config.Tell(IdentityRead{err}) })
		if err != nil {
			return nil, fmt.Errorf("cluster: %w", err)
		}
		if config == nil || config.ClientAuth != tls.RequireAndVerifyClientCert {
			return nil, errors.New("cluster: TLS mode mtls needs a certificate, its key and the authorities of the other nodes' certificates: " +
				"set cert_file, key_file and ca_file")
		}
		return config, nil
	case check.TLSNone, "":
		if host, _, err := net.SplitHostPort(c.config.Listen); err == nil && !net.ParseIP(host).IsLoopback() {
			return nil, fmt.Errorf("cluster: to listen on %s without TLS would let anybody be a node, and stop our actors: "+
				"use TLS mode mtls, or a loopback address", c.config.Listen)
		}
		return nil, nil // a nil configuration means plaintext
	case check.TLSServer:
	}
	return nil, fmt.Errorf("cluster: TLS mode %q does not tell nodes from strangers: use %q, or on a loopback address %q",
		id.Mode, check.TLSMutual, check.TLSNone)
}

func (c *Cluster) listen(ctx context.Context, server *tls.Config) (*transport, error) {
	l, s, err := listen(ctx, c.config.Listen)
	if err != nil {
		return nil, err
	}
	t := &transport{
		cluster:  c.config.Name,
		listener: l,
		socket:   s,
		refuse:   c.tell.refused,
		drop:     c.dropped,
	}
	t.identity.Store(&identity{server, c.client(c.config.TLS)})
	return t, nil
}

// client returns what connects to others.
func (c *Cluster) client(id check.TLS) func(host string) (*tls.Config, error) {
	return func(host string) (*tls.Config, error) { return c.config.Identities.Client(id, host) }
}

// Self returns this life of this node.
func (c *Cluster) Self() machine.NodeID { return c.self }

// Address returns where the node listens.
func (c *Cluster) Address() string { return c.transport.address().String() }

// Counts returns what was counted since the start.
func (c *Cluster) Counts() Counts {
	return Counts{Refused: c.tell.refusals.Load(), Dropped: c.drops.Load(), Ignored: c.ignored.Load()}
}

// Holds tells whether this node may poll, at this moment, in an era.
func (c *Cluster) Holds(era uint64) bool {
	f := c.fence.Load()
	return f.era == era && (f.keep || c.clock.now().Before(f.until))
}

// Minority tells whether this node polls, or would, without a majority.
func (c *Cluster) Minority() bool { return !c.clock.now().Before(c.fence.Load().until) }

// View returns what the node knows now. Nobody else has it. A member that has not beaten yet has no weight.
func (c *Cluster) View() *machine.View {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock.now()
	o := c.outlook(now)
	v := &machine.View{
		Self: c.self, Leased: o.leased, Minority: o.minority, Informed: o.informed, Era: o.era, Required: o.required,
		Size: o.size, Majority: o.size/2 + 1,
	}
	v.Members = append(v.Members, machine.Member{
		NodeID: c.self, Remote: c.config.Remote, Size: c.size, Version: c.config.Version,
		Weight: c.ours.Weight, Hash: c.ours.Hash, Draining: c.ours.Draining, Agents: c.ours.Agents, Held: c.ours.Held, Pins: c.ours.Pins,
	})
	for _, m := range c.members {
		if m.leaving {
			continue
		}
		v.Members = append(v.Members, m.view())
		v.Losses = max(v.Losses, m.losses)
	}
	slices.SortFunc(v.Members, func(a, b machine.Member) int { return cmp.Compare(a.Name, b.Name) })
	return v
}

// Announce sets what the node says of itself from now on. If that differs, others hear of it at once.
func (c *Cluster) Announce(a machine.Announcement) {
	c.mu.Lock()
	changed := a != c.ours
	c.ours = a
	c.mu.Unlock()
	if changed {
		c.config.Changed()
		poke(c.kick)
	}
}

// Asked says that another node asks this one for agents, so it has a lease, or had one just now. To be called before the answer is thought of.
func (c *Cluster) Asked(by machine.NodeID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock.now()
	c.lease.Asked(by, now)
	c.refresh(now)
}

// SetSize sets how many nodes there should be, by a new configuration. It forgets what nodes that are dead wanted.
func (c *Cluster) SetSize(size int) {
	c.mu.Lock()
	c.size = size
	for _, d := range c.gone {
		d.size = 0
	}
	c.resize()
	c.refresh(c.clock.now())
	c.mu.Unlock()
	poke(c.kick)
}

// Renew has the node go by an identity from now on: another, or the same whose files have been replaced, when Config.Identities has
// been refreshed. Connections are made anew. Its mode has to be that of the start. An error changes nothing.
func (c *Cluster) Renew(id check.TLS) error {
	server, err := c.server(id)
	if err != nil {
		return err
	}
	if secure := c.transport.identity.Load().server != nil; secure != (server != nil) {
		return fmt.Errorf("cluster: TLS mode %q can't take the place of another one while the node runs: restart it", id.Mode)
	}
	c.transport.identity.Store(&identity{server, c.client(id)})
	c.transport.hangUp()
	return nil
}

// Leave gives the lease up, has the others know that nothing is polled here any more, and takes the node's leave of them. It returns
// when all have answered, or ctx is over. The node still votes until Close.
func (c *Cluster) Leave(ctx context.Context) {
	c.mu.Lock()
	now := c.clock.now()
	if !c.leaving {
		c.leaving, c.over, c.leftAt = true, true, c.seq+1
		c.lease.GiveUp(now)
	}
	c.refresh(now)
	c.mu.Unlock()
	c.farewell(ctx)
	c.ending.Lock()
	defer c.ending.Unlock()
	list := c.list.Load()
	if c.ended || list == nil {
		return
	}
	// All have heard of it, most likely; this is for memberlist. It needs a moment to tell somebody.
	_ = list.Leave(leaveTimeout)
}

// Close ends everything. If the node has not left, others will find it dead. The error is that of closing the listener.
func (c *Cluster) Close() error {
	c.cancel()
	c.ending.Lock()
	defer c.ending.Unlock()
	if c.ended {
		return nil
	}
	c.ended = true
	c.mu.Lock()
	c.over = true
	c.refresh(c.clock.now())
	c.mu.Unlock()
	if c.transport == nil { // it was not started
		return nil
	}
	err := c.transport.Shutdown()
	_ = c.list.Load().Shutdown()
	c.wg.Wait()
	return err
}

// poke has whoever waits for a channel go on, now or when it waits next.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
