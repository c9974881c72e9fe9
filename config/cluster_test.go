package config

import (
	"errors"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceradar/poller/internal/check"
)

// TestNode: a node that has no name is called as its host is, if that is a name for a node.
func TestNode(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		written, host string
		err           error
		want, problem string
	}{
		"written":                             {written: "n", host: "h", want: "n"},
		"written, where the host has no name": {written: "n", err: errors.New("no name"), want: "n"},
		"of the host":                         {host: "edge-1.example", want: "edge-1.example"},
		"unknown":                             {err: errors.New("no name"), problem: `missing, and the name of this host can't be found: no name; write node = "node-1" or such`},
		"empty":                               {problem: `missing, and found "" as the name of this host, want a name; write node = "node-1" or such`},
		"no name":                             {host: "a/b", problem: `missing, and found "a/b" as the name of this host, want a name without a slash; write node = "node-1" or such`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &problems{main: newDocument("x.toml", nil)}
			l := newLayers(p)
			l.origins["cluster.enabled"] = place{source: "environment POLLER_CLUSTER__ENABLED"}
			c := &Config{Cluster: Cluster{Node: tt.written}}
			l.node(c, func() (string, error) { return tt.host, tt.err })
			if c.Cluster.Node != tt.want {
				t.Errorf("node %q, want %q", c.Cluster.Node, tt.want)
			}
			got, want := "", ""
			if tt.problem != "" {
				want = "environment POLLER_CLUSTER__ENABLED: cluster.node: " + tt.problem
			}
			if err := p.errors(); err != nil {
				got = err.Error()
			}
			if got != want {
				t.Errorf("error %q, want %q", got, want)
			}
		})
	}
}

// TestClusterOnLoopback: what may do without certificates, and what is filled in.
func TestClusterOnLoopback(t *testing.T) {
	t.Parallel()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	want := defaults().Cluster
	want.Enabled, want.Node, want.Size = true, host, 1
	want.Remote = "[::1]:7946"
	c, _ := mustParse(t, minimal+"[cluster]\nenabled = true\nsize = 1\nremote = \"[0:0:0:0:0:0:0:1]:7946\"\nseeds = []\n")
	if diff := cmp.Diff(want, c.Cluster); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	want.Size, want.Seeds, want.Listen = 3, []string{"127.0.0.1:7956", "127.0.0.1:7956"}, "127.2.0.1:7956"
	src := Source{Environ: []string{
		"POLLER_CLUSTER__ENABLED=true", "POLLER_CLUSTER__SEEDS=127.0.0.1:7956, 127.0.0.1:7956", "POLLER_CLUSTER__LISTEN=[::ffff:127.2.0.1]:7956",
	}}
	c, _, err = parse("poller.toml", []byte(minimal+"cluster.remote = \"[::1]:7946\"\n"), src, noAddresses)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, c.Cluster); diff != "" {
		t.Errorf("from the environment (-want +got):\n%s", diff)
	}
	roundTrip(t, c)
}

// TestClusterOff: as long as it is not enabled, nothing has to fit together, and nothing is filled in or used.
func TestClusterOff(t *testing.T) {
	t.Parallel()
	want := defaults().Cluster
	want.Listen, want.Remote, want.TLS.CAFile = "192.0.2.10:1", "192.0.2.10:1", "/etc/poller/ca.pem"
	c, _ := mustParse(t, minimal+`tls = { mode = "tls", ca_file = "other.pem" }
core.tls = { mode = "tls", ca_file = "ca.pem" }
[cluster]
listen = "192.0.2.10:1"
remote = "192.0.2.10:1"
tls.ca_file = "ca.pem"
`)
	if diff := cmp.Diff(want, c.Cluster); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	c.Cluster.TLS.CertFile = "/node.pem"
	if files := c.TLSFiles(); slices.Contains(files, "/node.pem") {
		t.Errorf("the files %q are used", files)
	}
	c.Cluster.Enabled = true
	if files := c.TLSFiles(); !slices.Contains(files, "/node.pem") {
		t.Errorf("the files %q are used, /node.pem is not", files)
	}
}

// TestPollingHash: it is that of what nodes have in common, and of nothing else.
func TestPollingHash(t *testing.T) {
	t.Parallel()
	full := string(read(t, "testdata/good/full.toml"))
	base, _ := mustParse(t, full)
	if h := base.PollingHash(); len(h) != 16 || strings.Trim(h, "0123456789abcdef") != "" || h == base.Hash() {
		t.Errorf("hash %q, want 16 hexadecimal digits that are not Hash's", h)
	}
	agreed := []string{"partition", "poll.interval", "poll.timeout", "poll.rate", "breaker.failures", "breaker.probe"}
	for i := range rootSpec.keys {
		k := &rootSpec.keys[i]
		if k.later {
			continue
		}
		other := *base
		field := reflect.ValueOf(k.field(&other)).Elem()
		field.Set(different(t, field))
		if differs, want := other.PollingHash() != base.PollingHash(), slices.Contains(agreed, k.name); differs != want {
			t.Errorf("%s differs, and so does the hash: %v, want %v", k.name, differs, want)
		}
	}
	for what, tt := range map[string]struct {
		change func(c *Config, a *check.Agent)
		want   bool // that the hash differs
	}{
		"nothing":             {func(*Config, *check.Agent) {}, false},
		"an agent's name":     {func(_ *Config, a *check.Agent) { a.Name = "x" }, true},
		"its address":         {func(_ *Config, a *check.Agent) { a.Address = "x:1" }, true},
		"its health service":  {func(_ *Config, a *check.Agent) { a.HealthService = "x" }, true},
		"its largest message": {func(_ *Config, a *check.Agent) { a.MaxMessage++ }, true},
		"its mode of TLS":     {func(_ *Config, a *check.Agent) { a.TLS.Mode = check.TLSNone }, true},
		"whom it expects":     {func(_ *Config, a *check.Agent) { a.TLS.ServerName = "x" }, true},
		"its files":           {func(_ *Config, a *check.Agent) { a.TLS.CertFile, a.TLS.KeyFile, a.TLS.CAFile = "a", "b", "c" }, false},
		"a check":             {func(_ *Config, a *check.Agent) { a.Checks = slices.Clone(a.Checks); a.Checks[0].Details = "x" }, true},
		"one check less":      {func(_ *Config, a *check.Agent) { a.Checks = a.Checks[1:] }, true},
		"a label":             {func(c *Config, a *check.Agent) { c.Labels = map[string]map[string]string{a.Name: {"site": "x"}} }, true},
		"the silences":        {func(c *Config, _ *check.Agent) { c.Silences = nil }, true},
		"the silences for all": {func(c *Config, _ *check.Agent) {
			own := maps.Clone(c.Silences)
			delete(own, "")
			c.Silences = own
		}, true},
		"one agent less":  {func(c *Config, _ *check.Agent) { c.Agents = c.Agents[1:] }, true},
		"a source":        {func(c *Config, _ *check.Agent) { c.Discovery = []Discovery{{ID: "x"}} }, false},
		"what is skipped": {func(c *Config, _ *check.Agent) { c.Skipped, c.Disabled = []string{"x"}, []string{"y"} }, false},
	} {
		other := *base
		agent := *base.Agents[0]
		other.Agents = append([]*check.Agent{&agent}, base.Agents[1:]...)
		tt.change(&other, &agent)
		if differs := other.PollingHash() != base.PollingHash(); differs != tt.want {
			t.Errorf("%s differs, and so does the hash: %v, want %v", what, differs, tt.want)
		}
	}
	inherited, _ := mustParse(t, minimal+"tls = { mode = \"tls\" }\n"+agentText("a"))
	written, _ := mustParse(t, minimal+agentText("a")+"tls = { mode = \"tls\", ca_file = \"ca.pem\" }\n")
	if inherited.PollingHash() != written.PollingHash() {
		t.Error("where the identity is written makes a difference")
	}
}
