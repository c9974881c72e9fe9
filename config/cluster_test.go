package config

import (
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
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
