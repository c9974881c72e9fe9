package daemon

import (
	"fmt"

	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/tlsid"
)

// CheckIdentities loads every TLS identity of a configuration once and returns all that is wrong with
// the files, an error for each identity. A poller that runs does not need it: it loads them when it connects, and
// reports what it finds; this is for telling beforehand.
func CheckIdentities(cfg *config.Config) []error {
	seen := make(map[check.TLS]bool)
	var errs []error
	load := func(user string, id check.TLS) {
		if seen[id] {
			return
		}
		seen[id] = true
		if _, err := tlsid.Client(id, "localhost"); err != nil {
			errs = append(errs, fmt.Errorf("for %s: %w", user, err))
		}
	}
	load("core", cfg.Core.TLS)
	if c := cfg.Cluster; c.Enabled {
		load("other nodes", c.TLS)
		if err := ownAuthority(cfg); err != nil {
			errs = append(errs, err)
		}
	}
	for i := range cfg.Agents {
		load("agent "+cfg.Agents[i].Name, cfg.Agents[i].TLS)
	}
	return errs
}
