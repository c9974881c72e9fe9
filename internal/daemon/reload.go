package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/observe"
	"github.com/serviceradar/poller/internal/transport"
	"github.com/serviceradar/poller/internal/watch"
	"github.com/serviceradar/poller/internal/wire"
)

// present is what the daemon goes by, until the next reload.
type present struct {
	config   *config.Config
	identity wire.Identity
	dial     transport.Dialer // of checkers' connections
}

// reading is what the last look at the files of the configuration came to.
type reading struct {
	files config.Files
	stamp string // of those that were known before, then; empty means that they may have changed since
	found int    // the version of the targets that it was read with
	err   error
}

// reloadTimeout is how long a Reload waits: its actor may have failed just now, and then nobody answers.
const reloadTimeout = time.Minute

// Reload loads the configuration and the certificates again, now, and waits until what they came to is in effect. An error
// says what can't be used; in that nothing changes.
func (d *Daemon) Reload(ctx context.Context) error {
	over := d.manager.reloading()
	defer over()
	ctx, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()
	d.asked.Store(true)
	return d.system.Reload(ctx)
}

// load is the actors' Load. It is called by one goroutine at a time.
func (d *Daemon) load(ctx context.Context, known *config.Config) (*actors.Settings, error) {
	select {
	case <-d.started:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	cfg, sources, err := d.read(known)
	if err == nil && cfg != nil {
		err = d.replace(ctx, cfg)
	}
	if err == nil && sources != nil {
		d.follow(sources)
	}
	now := d.present.Load()
	renewed := d.renew(now.config)
	if now.config == known && len(renewed) == 0 {
		return nil, err
	}
	return &actors.Settings{Config: now.config, Identity: now.identity, Renewed: renewed}, err
}

// read returns the configuration as it is written now; nil if it is as before, or if nothing was written since that was found
// wrong, which is the error then.
// With it come other sources of targets, if there are any.
func (d *Daemon) read(known *config.Config) (*config.Config, *candidate, error) {
	now := d.present.Load().config
	stamp := watch.Stamp(d.last.files.Config, d.last.files.Patterns)
	targets, found := d.find.targets()
	asked := d.asked.Swap(false)
	if _, written := errors.AsType[config.Errors](d.last.err); !written && d.last.err != nil {
		asked = true // what else is wrong may have been mended elsewhere
	}
	if !asked && len(d.last.files.Config) > 0 && stamp == d.last.stamp && found == d.last.found && now == known {
		return nil, nil, d.last.err
	}
	loaded, sources := d.readWith(targets)
	if loaded.Err != nil { // and so maybe not all are known
		loaded.Files = both(d.last.files, loaded.Files)
	}
	d.last = reading{files: loaded.Files, stamp: stamp, found: found, err: loaded.Err}
	d.followFiles()
	if loaded.Err != nil {
		return nil, nil, loaded.Err
	}
	d.tell.warnings(loaded.Warnings)
	d.tell.skipped(loaded.Config.Skipped, loaded.Config.SkippedTotal)
	if config.Compare(now, loaded.Config).Empty() {
		return nil, sources, nil
	}
	config.Adopt(now, loaded.Config)
	return loaded.Config, sources, nil
}

// follow looks for targets elsewhere, as the configuration that is in effect says.
func (d *Daemon) follow(sources *candidate) {
	version, same := d.find.commit(sources, d.last.found)
	if same { // else it was read with others, and will be again
		d.last.found = version
	}
	d.followFiles()
	if err := d.find.settled(); err != nil {
		d.tell.problem(err, "what earlier sources of targets found stays on the disk")
	}
}

// readWith reads the configuration with targets; if it says to look for them elsewhere, with what is there.
func (d *Daemon) readWith(targets map[string][]config.Target) (config.Loaded, *candidate) {
	loaded := d.o.Load(targets, nil)
	if loaded.Err != nil {
		return loaded, nil
	}
	sources, err := d.find.prepare(loaded.Config.Discovery)
	switch {
	case err != nil:
		loaded.Config, loaded.Err = nil, fmt.Errorf("discovery: %w", err)
	case sources != nil:
		loaded = d.o.Load(targetsOf(sources.set), nil)
	}
	return loaded, sources
}

// both returns all files that a configuration depends on, or another.
func both(a, b config.Files) config.Files {
	union := func(a, b []string) []string { return slices.Compact(slices.Sorted(slices.Values(slices.Concat(a, b)))) }
	return config.Files{Config: union(a.Config, b.Config), Patterns: union(a.Patterns, b.Patterns), TLS: union(a.TLS, b.TLS)}
}

// replace goes by another configuration from now on, as far as that is not the actors' to do. After an error all is as before.
func (d *Daemon) replace(ctx context.Context, cfg *config.Config) (err error) {
	defer func() { d.last.err = err }()
	before := d.present.Load()
	if err := mayReplace(before.config, cfg); err != nil {
		return err
	}
	next, err := d.prepare(cfg)
	if err != nil {
		return err
	}
	if cfg.Admin.Listen != before.config.Admin.Listen {
		if err := d.moveAdmin(ctx, cfg.Admin.Listen); err != nil {
			return err
		}
	}
	d.present.Store(next)
	d.core.Reconfigure(d.coreConfig(cfg))
	d.queue.reconfigure(cfg)
	if d.cluster != nil {
		d.cluster.SetSize(cfg.Cluster.Size)
	}
	return nil
}

// mayReplace returns an error that names what can't change while the poller runs.
func mayReplace(before, cfg *config.Config) error {
	var errs []error
	for _, k := range []struct{ name, before, now, why string }{
		{"poller_id", before.PollerID, cfg.PollerID, "core knows this poller, and what is kept for it, by that"},
		{"state_dir", before.StateDir, cfg.StateDir, "reports are kept there"},
		{"log.format", before.Log.Format, cfg.Log.Format, "whoever reads the log counts on one"},
	} {
		if k.before != k.now {
			errs = append(errs, fmt.Errorf("%s can't change from %q to %q while the poller runs, because %s: restart it, or write what it was", k.name, k.before, k.now, k.why))
		}
	}
	if a, b := before.Admin.Listen, cfg.Admin.Listen; a != b && portOf(a) != "0" && portOf(a) == portOf(b) {
		errs = append(errs, fmt.Errorf("admin.listen can't change from %q to %q while the poller runs, because both have the same port: restart it, or choose another port", a, b))
	}
	return errors.Join(append(errs, clusterStays(before, cfg)...)...)
}

// clusterStays returns an error for each key of [cluster] that can't change while the poller runs.
func clusterStays(before, cfg *config.Config) []error {
	if !before.Cluster.Enabled && !cfg.Cluster.Enabled {
		return nil
	}
	var errs []error
	for _, k := range config.Compare(before, cfg).Keys {
		switch k.Key {
		case "cluster.size", "cluster.weight":
			continue
		}
		if strings.HasPrefix(k.Key, "cluster.") {
			errs = append(errs, fmt.Errorf("%s can't change from %s to %s while the poller runs, because the other nodes count on it: "+
				"restart it, or write what it was", k.Key, k.Old, k.New))
		}
	}
	return errs
}

// portOf returns the port of an address; 0, which is any, if there is none.
func portOf(address string) string {
	if _, port, err := net.SplitHostPort(address); err == nil {
		return port
	}
	return "0"
}

// mayConnect returns an error if there are too few descriptors for all agents. What a Dial of its own needs is not for us to know.
func (d *Daemon) mayConnect(cfg *config.Config) error {
	if d.o.Dial != nil {
		return nil
	}
	return checkDescriptors(cfg.Agents, descriptors())
}

// prepare returns what goes with a configuration.
func (d *Daemon) prepare(cfg *config.Config) (*present, error) {
	if err := d.mayConnect(cfg); err != nil {
		return nil, err
	}
	p := &present{config: cfg, dial: d.o.Dial}
	if p.dial == nil {
		p.dial = transport.NetDialer(cfg.Poll.Interval)
	}
	p.identity = identity(cfg)
	p.identity.Resolve = d.hosts.Address
	return p, p.identity.Prepare(cfg.Agents)
}

// renew looks at the files of the certificates, and returns the identities for which there are new ones. What can't be used is
// told, and what it was before stays in use.
func (d *Daemon) renew(cfg *config.Config) []check.TLS {
	used := make(map[check.TLS]bool)
	used[cfg.Core.TLS], used[cfg.Cluster.TLS] = true, true
	for _, a := range cfg.Agents {
		used[a.TLS] = true
	}
	d.identities.Retain(func(id check.TLS) bool { return used[id] })
	renewed, errs := d.identities.Refresh(time.Now())
	d.tell.identities(time.Now(), errs)
	d.measureCertificates()
	for _, id := range renewed {
		if id == cfg.Core.TLS {
			d.core.Renew()
		}
		if d.cluster != nil && id == cfg.Cluster.TLS {
			if err := d.cluster.Renew(id); err != nil {
				d.tell.problem(err, "connections to other nodes go by the certificate from before")
			}
		}
	}
	return renewed
}

// measureCertificates tells when the certificates expire that are in use.
func (d *Daemon) measureCertificates() {
	expire := make(map[string]time.Time)
	for _, f := range d.identities.Files() {
		expire[f.Path] = f.NotAfter
	}
	for path := range d.expire {
		if _, used := expire[path]; !used {
			d.measure.TLSExpiry(path, time.Time{})
		}
	}
	for path, at := range expire {
		d.measure.TLSExpiry(path, at)
	}
	d.expire = expire
}

// dialChecker returns the client of an agent's checker.
func (d *Daemon) dialChecker(a *check.Agent) (actors.Checker, error) {
	now := d.present.Load()
	cfg := checkerConfig(now.config, now.dial, d.identities)
	cfg.Open = &d.connections
	return transport.NewChecker(a, cfg)
}

// moveAdmin has the admin server listen at another address, before it ceases to do so at the old one; empty means nowhere.
func (d *Daemon) moveAdmin(ctx context.Context, address string) error {
	var next *observe.Admin
	if address != "" {
		var err error
		if next, err = observe.ListenAdmin(ctx, address); err != nil {
			return err
		}
		d.serveAdmin(next)
	}
	if before := d.admin.Swap(next); before != nil {
		if err := before.Stop(ctx); err != nil {
			d.tell.problem(err, "the admin server did not stop in order at its old address")
		}
	}
	return nil
}

// unwatched is what follows where changes are not heard of.
const unwatched = "some changes of files may not be heard of; the poller looks for them every 30 s"

// watchFiles begins to watch the files that the configuration depends on, if it came from any.
func (d *Daemon) watchFiles() {
	if d.o.Load == nil || len(d.last.files.Config) == 0 {
		return
	}
	changed := func(string) {
		d.find.touched()
		d.system.Changed()
	}
	failed := func(err error) { d.tell.problem(err, unwatched) }
	files, err := watch.New(changed, failed)
	if err != nil {
		failed(err)
		return
	}
	d.watch = files
	d.followFiles()
}

// ShutdownTimeout is how long a stop may take.
func (d *Daemon) ShutdownTimeout() time.Duration { return d.present.Load().config.ShutdownTimeout }

func (d *Daemon) serveAdmin(admin *observe.Admin) {
	admin.Serve(d.system.Alive, d.board, d.measure.Metrics, map[string]http.HandlerFunc{
		"POST " + DiffPath: d.serveDiff, "GET " + ClusterPath: d.serveCluster, "POST " + OrderPath: d.serveOrder,
		"POST " + MovePath: d.serveMove,
	})
}

// followFiles has changes of the files heard of that were read last.
func (d *Daemon) followFiles() {
	if d.watch == nil {
		return
	}
	files := d.last.files
	if err := d.watch.Follow(slices.Concat(files.Config, files.TLS), slices.Concat(files.Patterns, d.find.paths())); err != nil {
		d.tell.problem(err, unwatched)
	}
}
