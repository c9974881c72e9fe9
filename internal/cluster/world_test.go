package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
	"github.com/serviceradar/poller/internal/tlsid"
	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
)

// world is the nodes of a test.
type world struct {
	t  *testing.T
	ca *tlsidtest.CA // nil for plaintext
	// news says that a node has told something, or that it has changed.
	news chan struct{}

	nodes []*node
}

// node is one of them, and what it told.
type node struct {
	*Cluster
	w *world

	mu     sync.Mutex
	events []Event
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{t: t, news: make(chan struct{}, 1)}
}

func newSecureWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.ca = tlsidtest.NewCA(t)
	return w
}

// start starts a node in a cluster of three whose seeds are the nodes that there are.
func (w *world) start(name string, change ...func(*Config)) *node {
	w.t.Helper()
	n := &node{w: w}
	config := Config{
		Name: clusterName, Node: name, Listen: "127.0.0.1:0", Remote: name + ".example:8090", Size: 3, Version: "v1", PollerID: "poller-of-" + name,
		Identities: tlsid.NewStore(), Tell: n.tell, Changed: func() { poke(w.news) },
	}
	for _, other := range w.nodes {
		config.Seeds = append(config.Seeds, other.Address())
	}
	if w.ca != nil {
		config.TLS = w.ca.Issue(w.t, name)
	}
	for _, do := range change {
		do(&config)
	}
	var err error
	if n.Cluster, err = startNode(w.t, config); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := n.Close(); err != nil {
			w.t.Errorf("close %s: %v", name, err)
		}
	})
	w.nodes = append(w.nodes, n)
	return n
}

func (n *node) tell(e Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = append(n.events, e)
	poke(n.w.news)
}

// until waits until something is so. It looks only when there is news, and now and then where that is about to come with time.
func (w *world) until(what string, so func() bool) {
	w.t.Helper()
	deadline := time.After(long)
	for !so() {
		select {
		case <-w.news:
		case <-deadline:
			for _, n := range w.nodes {
				w.t.Logf("%s: %+v, it told %s", n.self.Name, n.View(), n.told())
			}
			w.t.Fatalf("not within %v: %s", long, what)
		}
	}
}

func (n *node) told() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []string
	for _, e := range n.events {
		all = append(all, fmt.Sprintf("%T%+v", e, e))
	}
	return strings.Join(all, "\n")
}

// events returns those of a type.
func events[E Event](n *node) []E {
	n.mu.Lock()
	defer n.mu.Unlock()
	var found []E
	for _, e := range n.events {
		if e, ok := e.(E); ok {
			found = append(found, e)
		}
	}
	return found
}

// sees returns the names of the members.
func (n *node) sees() string {
	var names []string
	for _, m := range n.View().Members {
		names = append(names, m.Name)
	}
	return strings.Join(names, " ")
}

func (n *node) member(name string) machine.Member {
	for _, m := range n.View().Members {
		if m.Name == name {
			return m
		}
	}
	return machine.Member{}
}

func (n *node) requires() string {
	var names []string
	for _, id := range n.View().Required {
		names = append(names, id.Name)
	}
	return strings.Join(names, " ")
}

// ready tells whether it may start agents.
func (n *node) ready() bool {
	v := n.View()
	return v.Leased && v.Informed && n.Holds(v.Era)
}

// gather waits until all nodes see each other, and may poll.
func (w *world) gather(nodes ...*node) {
	w.t.Helper()
	var names []string
	for _, n := range nodes {
		names = append(names, n.self.Name)
	}
	slices.Sort(names)
	for _, n := range nodes {
		w.until(n.self.Name+" is one of the cluster", func() bool { return n.sees() == strings.Join(names, " ") && n.ready() })
	}
}

// three starts three nodes, and waits until they may poll.
func (w *world) three() (a, b, c *node) {
	w.t.Helper()
	a, b, c = w.start("a"), w.start("b"), w.start("c")
	w.gather(a, b, c)
	return a, b, c
}

func (n *node) die() {
	n.w.t.Helper()
	if err := n.Close(); err != nil {
		n.w.t.Error(err)
	}
}

func (n *node) leave() {
	n.w.t.Helper()
	ctx, cancel := context.WithTimeout(n.w.t.Context(), long)
	defer cancel()
	n.Leave(ctx)
	if err := ctx.Err(); err != nil {
		n.w.t.Errorf("%s leaves: %v", n.self.Name, err)
	}
}

// isolate cuts a node off from all others, and returns what takes that back.
func (n *node) isolate(stranger check.TLS) (mend func()) {
	n.w.t.Helper()
	server, err := tlsid.Server(stranger)
	if err != nil {
		n.w.t.Fatal(err)
	}
	before := n.transport.identity.Load()
	n.transport.identity.Store(&identity{server, func(string) (*tls.Config, error) { return nil, errors.New("cut off") }})
	n.transport.hangUp()
	return func() { n.transport.identity.Store(before) }
}

// shows returns the name in the certificate that the node shows to one who connects, by TCP and by UDP.
func (n *node) shows(id check.TLS) string {
	n.w.t.Helper()
	config, err := tlsid.Client(id, "127.0.0.1")
	if err != nil {
		n.w.t.Fatal(err)
	}
	conn, err := (&tls.Dialer{Config: config}).DialContext(n.w.t.Context(), "tcp", n.Address())
	if err != nil {
		n.w.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	link, err := carry(n.w.t, id).dialLink(n.w.t.Context(), n.Address())
	if err != nil {
		n.w.t.Fatal(err)
	}
	defer link.close()
	shown := conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName
	if byUDP := link.conn.ConnectionState().TLS.PeerCertificates[0].Subject.CommonName; byUDP != shown {
		n.w.t.Errorf("it shows %s by TCP, and %s by UDP", shown, byUDP)
	}
	return shown
}

// startNode starts a node that a test ends.
func startNode(t *testing.T, config Config) (*Cluster, error) {
	t.Helper()
	c, err := New(config)
	if err != nil {
		return nil, err
	}
	if err := c.Start(t.Context()); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}
