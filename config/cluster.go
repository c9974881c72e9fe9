package config

import (
	"net/netip"
	"path/filepath"

	"github.com/serviceradar/poller/internal/check"
)

// clusterTLS is the identity of a node for the others.
const clusterTLS = "cluster.tls"

// cluster holds the rules for [cluster], if it is enabled, and completes it. All other identities must be known.
func (l *layers) cluster(c *Config, hostName func() (string, error)) {
	if !c.Cluster.Enabled || l.bad["cluster.enabled"] {
		resolvePaths(&c.Cluster.TLS, l.main.dir)
		return
	}
	l.node(c, hostName)
	l.nodeAddresses(c)
	if !l.bad["cluster.seeds"] && !l.bad["cluster.size"] && len(c.Cluster.Seeds) == 0 && c.Cluster.Size > 1 {
		l.at(l.clusterPlace("cluster.seeds"), "cluster.seeds", "missing: the cluster has %d nodes, and none can find another without a seed; "+
			`list their membership addresses, which may be all, this node's among them: seeds = ["192.0.2.10:7946", "192.0.2.11:7946"]; or write size = 1`,
			c.Cluster.Size)
	}
	l.identity(&c.Cluster.TLS, clusterTLS)
	l.ownAuthority(c)
}

// clusterPlace is where a key is written, or else where the cluster is enabled.
func (l *layers) clusterPlace(key string) place {
	if where := l.origins[key]; where.written() {
		return where
	}
	return l.origins["cluster.enabled"]
}

// node names the node by its host if it has no name.
func (l *layers) node(c *Config, hostName func() (string, error)) {
	const key = "cluster.node"
	if c.Cluster.Node != "" || l.bad[key] {
		return
	}
	name, err := hostName()
	if err != nil {
		l.at(l.clusterPlace(key), key, `missing, and the name of this host can't be found: %v; write node = "node-1" or such`, err)
		return
	}
	want := wantNode(name)
	if name == "" {
		want = wantName(name)
	}
	if want != "" {
		l.at(l.clusterPlace(key), key, `missing, and found %s as the name of this host, %s; write node = "node-1" or such`, foundText(name), want)
		return
	}
	c.Cluster.Node = name
}

// nodeAddresses holds the rules for where other nodes reach this one, and writes both in the one form that all take for the same.
func (l *layers) nodeAddresses(c *Config) {
	if l.bad["cluster.listen"] || l.bad["cluster.remote"] {
		return
	}
	open := ""
	for _, a := range []struct {
		key     string
		address *string
	}{{"cluster.listen", &c.Cluster.Listen}, {"cluster.remote", &c.Cluster.Remote}} {
		at := netip.MustParseAddrPort(*a.address) // wantNodeAddress took it
		at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
		*a.address = at.String()
		if !at.Addr().IsLoopback() {
			open = a.key
		}
	}
	if c.Cluster.Listen == c.Cluster.Remote {
		l.at(l.clusterPlace("cluster.remote"), "cluster.remote", "found %q, which is cluster.listen, too; write another port", c.Cluster.Remote)
	}
	const mode = clusterTLS + ".mode"
	if open == "" || c.Cluster.TLS.Mode == check.TLSMutual || l.bad[mode] {
		return
	}
	where := l.origins[mode]
	if !where.written() {
		where = l.origins[open]
	}
	l.at(where, mode, `found %q while %s is not on loopback, want "mtls", because whoever reaches a node may stop its actors; `+
		"write that with cert_file, key_file and ca_file", c.Cluster.TLS.Mode, open)
}

// ownAuthority reports a CA of the nodes that is that of somebody else, too.
func (l *layers) ownAuthority(c *Config) {
	own := c.Cluster.TLS.CAFile
	if own == "" {
		return
	}
	whose := ""
	same := func(tls check.TLS) bool { return tls.CAFile != "" && filepath.Clean(tls.CAFile) == filepath.Clean(own) }
	switch {
	case same(c.TLS):
		whose = "tls"
	case same(c.Core.TLS):
		whose = "core.tls"
	default:
		for _, a := range c.Agents {
			if same(a.TLS) {
				whose = "agents." + QuoteKey(Mask(a.Name)) + ".tls"
				break
			}
		}
	}
	if whose != "" {
		const key = clusterTLS + ".ca_file"
		l.at(l.origins[key], key, "found %s, which is the ca_file of %s, too; a cluster needs a CA of its own, "+
			"because whoever has a certificate of that one could command the nodes", foundText(own), whose)
	}
}
