package daemon

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
)

// The nodes' authority is theirs alone, whatever the file is called and whatever else is in it.
func TestOwnAuthority(t *testing.T) {
	t.Parallel()
	nodes, checkers := tlsidtest.NewCA(t), tlsidtest.NewCA(t)
	read := func(file string) []byte {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	both := t.TempDir() + "/bundle.crt"
	if err := os.WriteFile(both, append(read(nodes.File), read(checkers.File)...), 0o600); err != nil {
		t.Fatal(err)
	}
	identity := func(file string) check.TLS { return check.TLS{Mode: check.TLSMutual, CAFile: file} }
	for name, tt := range map[string]struct {
		cluster, all, core, agent string
		want                      string // in the error; empty for none
	}{
		"none":        {},
		"apart":       {cluster: nodes.File, all: checkers.File, core: checkers.File, agent: checkers.File},
		"of checkers": {cluster: both, agent: checkers.File, want: "agents.web.tls.ca_file " + checkers.File},
		"of core":     {cluster: nodes.File, core: both, want: "core.tls.ca_file " + both},
		"of all":      {cluster: nodes.File, all: both, want: "tls.ca_file " + both},
		"no file":     {cluster: both + ".none", want: "cluster.tls.ca_file"},
		"theirs none": {cluster: nodes.File, agent: both + ".none"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := &config.Config{TLS: identity(tt.all), Agents: []*check.Agent{{Name: "web", TLS: identity(tt.agent)}}}
			cfg.Core.TLS, cfg.Cluster.TLS = identity(tt.core), identity(tt.cluster)
			switch err := ownAuthority(cfg); {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("the error is %v, want %q in it", err, tt.want)
			}
		})
	}
}

// All nodes count their cycles from the same moment, by clocks that nobody sets.
func TestEpoch(t *testing.T) {
	t.Parallel()
	now := time.Now()
	if since := now.Sub(epochOf(now)); since.Round(time.Second) != time.Since(sharedEpoch).Round(time.Second) {
		t.Errorf("it is %v since the epoch, want %v", since, time.Since(sharedEpoch))
	}
	if at := epochOf(now).Add(now.Sub(epochOf(now))); !at.Equal(now) || !strings.Contains(at.String(), "m=") {
		t.Errorf("%v is not %v on the monotonic clock", at, now)
	}
}
