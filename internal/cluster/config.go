package cluster

import (
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/tlsid"
)

// How membership goes: with these a node that is gone is found dead after 1.3 to 1.8 s, which is about when its lease is over.
const (
	// probeInterval is how often another member is probed, and what suspicion counts in.
	probeInterval = 300 * time.Millisecond
	// probeTimeout is how long a probe may go without an answer before others are asked to probe, too.
	probeTimeout = 150 * time.Millisecond
	// suspicionMult is how many probeIntervals a suspect has to defend itself.
	suspicionMult = 3
	// suspicionMaxMult is 1, for suspicion is not to last longer when fewer others confirm it: a node must not die late because many did.
	suspicionMaxMult = 1
	// awarenessMax bounds how much slower a node probes that finds itself slow.
	awarenessMax = 2
	// gossipInterval is how often news is passed on, where probes don't carry it anyway.
	gossipInterval = 100 * time.Millisecond
	// pushPullInterval is how often all that is known is exchanged with another, for what gossip has missed.
	pushPullInterval = 15 * time.Second
	// streamTimeout bounds such an exchange.
	streamTimeout = time.Second
	// reclaimAfter is how long a node has to be dead before one of its name comes in from another address: long enough for one that was taken
	// for dead by mistake to say so.
	reclaimAfter = 500 * time.Millisecond
)

// Config says what a Cluster is made of. All but Seeds, Clock, Tell and Changed is needed.
type Config struct {
	// Name is the cluster's; nodes of another one are refused. It has at most 255 bytes.
	Name string
	// Node is this node's name, unique in the cluster.
	Node string
	// Listen is the ip:port at which this node listens, by TCP and UDP, and others reach it. With port 0 it gets one (Address).
	Listen string
	// Remote is the host:port at which others reach its actors.
	Remote string
	// Seeds are host:port of nodes that may let this one in. They are looked up each time; its own address may be among them.
	Seeds []string
	// Size is how many nodes there should be.
	Size int
	// Keep says that the node polls on when it does not hear a majority.
	Keep bool
	// TLS is the node's identity, in mode mtls: for connecting to others, and for those who connect, whose configuration follows the
	// files. A node's certificate has to be for TLS.ServerName, or for its address if that is empty. Mode none is for loopback addresses.
	TLS check.TLS
	// Identities has the identity for connecting to others; nil reads the files for each connection.
	Identities *tlsid.Store
	// Version is the program's.
	Version string
	// PollerID is who this node is, to core; each node needs its own.
	PollerID string
	// Clock returns the cluster time in nanoseconds, which nodes compare; nil is the wall clock.
	Clock func() int64
	// Tell takes events, from many goroutines at once. It must not block, and not call the Cluster.
	Tell func(Event)
	// Changed is called when the members, what one of them announces, the lease or who is required has changed: look at View. It
	// must not block, and not call the Cluster.
	Changed func()
}

func (c *Config) check() error {
	switch {
	case c.Name == "" || len(c.Name) > memberlist.LabelMaxSize:
		return fmt.Errorf("cluster: its name has %d bytes: it needs 1 to %d", len(c.Name), memberlist.LabelMaxSize)
	case c.Node == "":
		return errors.New("cluster: the node has no name: give each node one of its own")
	case c.Remote == "":
		return errors.New("cluster: there is no address at which others reach the node's actors: give it a host:port")
	case c.Size < 1:
		return fmt.Errorf("cluster: a cluster of %d nodes: it has at least one", c.Size)
	}
	return nil
}

func (c *Cluster) settings() *memberlist.Config {
	s := memberlist.DefaultLANConfig()
	s.Name = c.config.Node
	s.Label = c.config.Name
	s.Transport = c.transport
	at := c.transport.address()
	s.BindAddr, s.BindPort = at.IP.String(), at.Port
	s.AdvertiseAddr, s.AdvertisePort = s.BindAddr, s.BindPort
	s.ProbeInterval, s.ProbeTimeout = probeInterval, probeTimeout
	s.SuspicionMult, s.SuspicionMaxTimeoutMult = suspicionMult, suspicionMaxMult
	s.AwarenessMaxMultiplier = awarenessMax
	s.GossipInterval = gossipInterval
	s.PushPullInterval = pushPullInterval
	s.TCPTimeout = streamTimeout
	s.DeadNodeReclaimTime = reclaimAfter
	s.UDPBufferSize = mostInDatagram
	s.EnableCompression = false // the most there is to say fits into a packet anyway
	d := (*delegate)(c)
	s.Delegate, s.Events, s.Conflict, s.Alive = d, d, d, d
	// All that people should know comes as events.
	s.Logger = log.New(discard{}, "", 0)
	return s
}

// discard takes what memberlist logs.
type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }
