package daemon

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/cluster"
	"github.com/serviceradar/poller/internal/observe"
	"github.com/serviceradar/poller/internal/tlsid"
)

// sharedEpoch is since when the nodes of a cluster count their cycles.
var sharedEpoch = time.Date(2020, time.January, 1, 0, 0, 0, 0, time.UTC)

// epochOf returns that moment on this process's monotonic clock, which a wall clock that is set does not move.
func epochOf(now time.Time) time.Time { return now.Add(-now.Round(0).Sub(sharedEpoch)) }

// prepareNode makes the daemon one node of a cluster, if its configuration says so. Nobody is talked to yet.
func (d *Daemon) prepareNode(cfg *config.Config) (*actors.Sharing, error) {
	c := cfg.Cluster
	if !c.Enabled {
		return nil, nil
	}
	if err := ownAuthority(cfg); err != nil {
		return nil, err
	}
	server, err := serverTLS(c.TLS, d.tell.nodeTLS)
	if err != nil {
		return nil, fmt.Errorf("cluster.tls: %w", err)
	}
	epoch := epochOf(time.Now())
	version, _ := observe.Build()
	d.cluster, err = cluster.New(cluster.Config{
		Name: c.Name, Node: c.Node, Listen: c.Listen, Remote: c.Remote, Seeds: c.Seeds, Size: c.Size, Keep: c.OnMinority == config.MinorityKeep,
		TLS: c.TLS, Identities: d.identities, Version: version, PollerID: cfg.PollerID,
		Clock: func() int64 { return int64(time.Since(epoch)) },
		Tell:  d.tell.node, Changed: func() {
			if system := d.polls.Load(); system != nil {
				system.ViewChanged()
			}
		},
	})
	if err != nil {
		return nil, err
	}
	return &actors.Sharing{
		Cluster: d.cluster, Epoch: epoch, Obey: d.obey,
		Remoting: actors.Remoting{
			Listen: c.Remote, Server: server, Client: func(host string) (*tls.Config, error) { return d.identities.Client(c.TLS, host) },
			Tune: cluster.Hasten,
		},
	}, nil
}

// serverTLS is the configuration of a listener that follows its files; nil for plaintext.
func serverTLS(id check.TLS, tell func(error)) (*tls.Config, error) {
	if id.Mode != check.TLSMutual {
		return nil, nil // plaintext, which config allows on loopback only
	}
	return tlsid.ServerFiles(id.CertFile, id.KeyFile, id.CAFile, tell)
}

// ownAuthority makes sure that none of the authorities whose certificates checkers or core have is trusted by the nodes: whoever has
// one could else command them.
func ownAuthority(cfg *config.Config) error {
	mine := cfg.Cluster.TLS.CAFile
	if mine == "" {
		return nil
	}
	known, err := certificatesIn(mine)
	if err != nil {
		return fmt.Errorf("cluster.tls.ca_file: %w", err)
	}
	others := map[string]string{cfg.TLS.CAFile: "tls.ca_file", cfg.Core.TLS.CAFile: "core.tls.ca_file"}
	for _, a := range cfg.Agents {
		if others[a.TLS.CAFile] == "" {
			others[a.TLS.CAFile] = "agents." + a.Name + ".tls.ca_file"
		}
	}
	delete(others, "")
	for file, key := range others {
		theirs, err := certificatesIn(file)
		if err != nil {
			continue // whoever uses it says so
		}
		for der := range theirs {
			if known[der] {
				return fmt.Errorf("cluster.tls.ca_file %s and %s %s have an authority in common: whoever has a certificate of it could command the nodes; "+
					"make one for the nodes alone", mine, key, file)
			}
		}
	}
	return nil
}

// certificatesIn returns what a file of certificates has.
func certificatesIn(file string) (map[string]bool, error) {
	text, err := os.ReadFile(file) //nolint:gosec // it is the configuration's
	if err != nil {
		return nil, err
	}
	all := make(map[string]bool)
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return all, nil
		}
		if block.Type == "CERTIFICATE" {
			all[string(block.Bytes)] = true
		}
	}
}

// leave hands over what the node polls, and says good-bye. Half of the time is left for what is to be done after it.
func (d *Daemon) leave(ctx context.Context) error {
	within := ctx
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		within, cancel = context.WithDeadline(ctx, time.Now().Add(time.Until(deadline)/2))
		defer cancel()
	}
	err := d.system.HandOver(within)
	if errors.Is(err, context.DeadlineExceeded) {
		d.tell.problem(err, "not all agents could be handed over in time; the others take them over when this node is gone")
		err = nil
	}
	d.cluster.Leave(ctx)
	return err
}
