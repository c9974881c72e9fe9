// Package daemon puts the poller together and runs it: configuration, transport, queue, actors,
// log and admin server. Start is called once; Stop ends everything that Start began, within the
// time of its context.
package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/cluster"
	"github.com/serviceradar/poller/internal/observe"
	"github.com/serviceradar/poller/internal/spool"
	"github.com/serviceradar/poller/internal/tlsid"
	"github.com/serviceradar/poller/internal/transport"
	"github.com/serviceradar/poller/internal/watch"
	"github.com/serviceradar/poller/internal/wire"
)

// Options are what a Daemon is made of.
type Options struct {
	Config *config.Config
	// Files are those that it depends on. When one of them changes, Load reads it again, with the targets that were found; if
	// Load is nil, nobody does, and nobody looks for targets. The files come from the file system, or from the disk if that
	// is nil. It may be called by several goroutines at once.
	Files config.Files
	Load  func(targets map[string][]config.Target, from fs.FS) config.Loaded
	// Warnings of Config were told already.
	Warnings []string
	Log      zerolog.Logger
	// Observe gets the actors' events beside the log; it may be nil, and must not block.
	Observe actors.Observer
	// Dial opens network connections; nil means the network's.
	Dial transport.Dialer
	// Lookup finds the addresses of hosts; nil means the network's.
	Lookup transport.LookupFunc
}

// Daemon is a poller that runs in this process.
type Daemon struct {
	o          Options
	board      *observe.Board
	identities *tlsid.Store
	core       *transport.Core
	hosts      *transport.Resolver
	queue      *queue
	system     *actors.System
	admin      atomic.Pointer[observe.Admin] // nil if it does not listen
	tell       *narrator
	find       *finder
	manager    manager
	started    chan struct{} // closed when all is there that load uses
	watch      *watch.Watch  // nil if there is nothing to watch

	measure     measurer
	connections atomic.Int64 // open ones to checkers

	cluster *cluster.Cluster              // nil without one
	polls   atomic.Pointer[actors.System] // as system, for the cluster to tell
	drain   sync.Once                     // closes toEnd
	orders  sync.WaitGroup                // reloads that other nodes have ordered
	toEnd   chan struct{}

	present atomic.Pointer[present]
	asked   atomic.Bool          // somebody wants the configuration to be read, whether or not the files changed
	diffing sync.Mutex           // one diff at a time
	last    reading              // only load uses it, as it does
	expire  map[string]time.Time // when certificates do, by their files
}

// New wires a daemon. Nothing runs before Start.
func New(o Options) *Daemon {
	return &Daemon{o: o, board: new(observe.Board), identities: tlsid.NewStore(), started: make(chan struct{}), toEnd: make(chan struct{})}
}

// Start starts the actors and the admin server; the first cycle begins at once. After an error
// nothing runs.
func (d *Daemon) Start(ctx context.Context) error {
	cfg, stateDir, err := d.configure(ctx)
	if err != nil {
		return err
	}
	if err := d.startPolling(ctx, cfg, stateDir); err != nil {
		return errors.Join(err, d.Stop(ctx))
	}
	if admin := d.admin.Load(); admin != nil {
		d.serveAdmin(admin)
	}
	d.watchFiles()
	close(d.started)
	d.find.begin()
	kept, _ := d.queue.Kept()
	d.o.Log.Info().Str("poller_id", cfg.PollerID).Str("source_ip", cfg.SourceIP).Int("agents", len(cfg.Agents)).
		Int("checks_total", countChecks(cfg)).Stringer("interval", cfg.Poll.Interval).Strs("core", cfg.Core.Addresses).
		Str("admin", d.AdminAddress()).Str("spool", cmp.Or(d.queue.dir, config.StateMemory)).Int("kept", kept).Msg("poller started")
	d.manager.ready(ctx, d.system.Alive)
	return nil
}

// configure finds the configuration to start with, and whatever else may not be as it should. With an error nothing stays open.
func (d *Daemon) configure(ctx context.Context) (cfg *config.Config, stateDir string, err error) {
	d.hosts = transport.NewResolver(d.o.Lookup)
	undo := []func(){d.hosts.Close}
	defer func() {
		if err != nil {
			for _, f := range slices.Backward(undo) {
				f()
			}
		}
	}()
	if stateDir, err = prepareStateDir(d.o.Config); err != nil {
		return nil, "", err
	}
	d.tell = newNarrator(d.o.Log, d.board, d.o.Config)
	d.tell.warned = d.o.Warnings
	d.manager.failed = func(err error) { d.tell.problem(err, "the service manager can't be told how the poller is") }
	if cfg, err = d.findFirst(ctx, stateDir); err != nil {
		return nil, "", err
	}
	undo = append(undo, d.find.close)
	first, err := d.prepare(cfg)
	if err != nil {
		return nil, "", err
	}
	d.present.Store(first)
	d.tell.follow(cfg)
	d.measure = d.newMeasurer(cfg)
	if cfg.Admin.Listen != "" {
		admin, err := observe.ListenAdmin(ctx, cfg.Admin.Listen)
		if err != nil {
			return nil, "", err
		}
		d.admin.Store(admin)
	}
	return cfg, stateDir, nil
}

// startPolling opens the spool, starts the actors, and has other nodes know of this one. After an error Stop ends what was started.
func (d *Daemon) startPolling(ctx context.Context, cfg *config.Config, stateDir string) error {
	queue, err := openQueue(cfg, stateDir, d.measure.Synced, d.spoolEvent)
	if err != nil {
		return err
	}
	d.queue = queue
	d.core = transport.NewCore(d.coreConfig(cfg))
	options := actors.Options{
		Config:   cfg,
		Identity: d.present.Load().identity,
		Boot:     d.queue.boot,
		Dial:     d.dialChecker,
		Core:     d.core,
		Spool:    d.queue,
		State:    d.queue.state,
		Observe:  d.observer(),
		Log:      d.frameworkLog(cfg),
	}
	if d.o.Load != nil {
		options.Load = d.load
	}
	if options.Sharing, err = d.prepareNode(cfg); err != nil {
		return err
	}
	if d.system, err = actors.Start(options); err != nil {
		return err
	}
	if d.cluster == nil {
		return nil
	}
	d.polls.Store(d.system)
	return d.cluster.Start(ctx)
}

// frameworkLog takes what the actor framework logs: warnings and errors. In a cluster these are all about connections to other nodes that end,
// of which membership tells what there is to know.
func (d *Daemon) frameworkLog(cfg *config.Config) *slog.Logger {
	if cfg.Cluster.Enabled && d.o.Log.GetLevel() > zerolog.DebugLevel {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(zerolog.NewSlogHandler(d.o.Log.Level(max(d.o.Log.GetLevel(), zerolog.WarnLevel))))
}

// Stop stops in order: runs in flight, open cycles, deliveries, connections. It returns an error
// if ctx ended first; what is still running then ends within shutdown_timeout. It may be called again.
func (d *Daemon) Stop(ctx context.Context) error {
	if d.tell == nil { // it was not started
		return nil
	}
	d.board.Set(time.Now(), conditionStopping, false, "stopping: nothing new is polled")
	d.manager.stopping()
	var errs []error
	if d.watch != nil {
		errs = append(errs, d.watch.Close())
	}
	if d.find != nil { // else it could not be started
		d.find.close()
	}
	if d.system != nil {
		if d.cluster != nil {
			errs = append(errs, d.leave(ctx))
		}
		errs = append(errs, d.system.Stop(ctx))
		d.orders.Wait()
		d.tell.flush()
	}
	if d.cluster != nil {
		errs = append(errs, d.cluster.Close())
	}
	if d.core != nil {
		errs = append(errs, d.core.Close())
	}
	d.hosts.Close()
	if admin := d.admin.Load(); admin != nil {
		errs = append(errs, admin.Stop(ctx))
	}
	if d.queue == nil { // it could not be started
		return errors.Join(errs...)
	}
	errs = append(errs, d.queue.close(ctx))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("stop: %w; %s", err, d.queue.rest())
	}
	d.tellStopped()
	return nil
}

func (d *Daemon) tellStopped() {
	kept, _ := d.queue.Kept()
	log := d.Log()
	switch {
	case kept == 0:
		log.Info().Msg("poller stopped; nothing is left to deliver")
	case d.queue.disk != nil:
		log.Info().Int("kept", kept).Str("spool", d.queue.dir).Msg("poller stopped; these reports are kept, and delivered after the next start")
	default:
		log.Error().Int("kept", kept).Msg("poller stopped before core had taken all; these reports were kept in memory and are lost")
	}
}

// Log is the log at the level that the configuration has by now.
func (d *Daemon) Log() *zerolog.Logger {
	d.tell.mu.Lock()
	defer d.tell.mu.Unlock()
	log := d.tell.log
	return &log
}

// AdminAddress returns where the admin server listens; empty if it does not.
func (d *Daemon) AdminAddress() string {
	if admin := d.admin.Load(); admin != nil {
		return admin.Address()
	}
	return ""
}

// Ready returns the conditions of readiness and whether all are fulfilled.
func (d *Daemon) Ready() (bool, []observe.Condition) { return d.board.Read(time.Now()) }

func (d *Daemon) spoolEvent(e spool.Event) {
	d.measure.spoolEvent(e)
	d.tell.spoolEvent(e)
}

func (d *Daemon) observer() actors.Observer {
	return func(e actors.Event) {
		d.measure.observe(e) // first, so that whoever reads the log finds it in the metrics
		d.tell.observe(e)
		if d.o.Observe != nil {
			d.o.Observe(e)
		}
	}
}

func identity(cfg *config.Config) wire.Identity {
	return wire.Identity{
		PollerID: cfg.PollerID, Partition: cfg.Partition, SourceIP: cfg.SourceIP, KVStoreID: cfg.KVStoreID,
		Bare: cfg.Core.Envelope == config.EnvelopeBare, MaxMessage: min(int(cfg.Core.MaxMessage), maxReport(cfg)), MaxReport: maxReport(cfg),
	}
}

func checkerConfig(cfg *config.Config, dial transport.Dialer, identities *tlsid.Store) transport.CheckerConfig {
	return transport.CheckerConfig{
		PollerID: cfg.PollerID, MaxResults: maxReport(cfg), FindDead: cfg.Poll.Interval, Dial: dial, Identities: identities,
	}
}

func (d *Daemon) coreConfig(cfg *config.Config) transport.CoreConfig {
	return transport.CoreConfig{
		Addresses: cfg.Core.Addresses, Timeout: cfg.Core.Timeout, TLS: cfg.Core.TLS,
		FindDead: cfg.Poll.Interval, Dial: d.o.Dial, Identities: d.identities,
	}
}

func countChecks(cfg *config.Config) int {
	n := 0
	for i := range cfg.Agents {
		n += len(cfg.Agents[i].Checks)
	}
	return n
}
