// Package daemon puts the poller together and runs it: configuration, transport, queue, actors,
// log and admin server. Start is called once; Stop ends everything that Start began, within the
// time of its context.
package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/observe"
	"github.com/serviceradar/poller/internal/spool"
	"github.com/serviceradar/poller/internal/transport"
	"github.com/serviceradar/poller/internal/wire"
)

// Options are what a Daemon is made of.
type Options struct {
	Config *config.Config
	Log    zerolog.Logger
	// Observe gets the actors' events beside the log; it may be nil, and must not block.
	Observe actors.Observer
	// Dial opens network connections; nil means the network's.
	Dial transport.Dialer
	// Lookup finds the addresses of hosts; nil means the network's.
	Lookup transport.LookupFunc
}

// Daemon is a poller that runs in this process.
type Daemon struct {
	o      Options
	board  *observe.Board
	core   *transport.Core
	hosts  *transport.Resolver
	queue  *queue
	system *actors.System
	admin  *observe.Admin
	tell   *narrator

	measure     measurer
	connections atomic.Int64 // open ones to checkers
}

// New wires a daemon. Nothing runs before Start.
func New(o Options) *Daemon {
	return &Daemon{o: o, board: new(observe.Board)}
}

// Start starts the actors and the admin server; the first cycle begins at once. After an error
// nothing runs.
func (d *Daemon) Start(ctx context.Context) error {
	cfg := d.o.Config
	if d.o.Dial == nil { // what another one needs is not for us to know
		if err := checkDescriptors(cfg.Agents, descriptors()); err != nil {
			return err
		}
	}
	d.tell = newNarrator(d.o.Log, d.board, cfg)
	d.measure = d.newMeasurer()
	if cfg.Admin.Listen != "" { // first, for it is what may fail
		admin, err := observe.ListenAdmin(ctx, cfg.Admin.Listen)
		if err != nil {
			return err
		}
		d.admin = admin
	}
	queue, err := openQueue(cfg, d.measure.Synced, d.spoolEvent)
	if err != nil {
		return errors.Join(err, d.Stop(ctx))
	}
	d.queue = queue
	d.core = transport.NewCore(transport.CoreConfig{
		Addresses: cfg.Core.Addresses, Timeout: cfg.Core.Timeout, TLS: cfg.Core.TLS,
		FindDead: cfg.Poll.Interval, Dial: d.o.Dial,
	})
	d.hosts = transport.NewResolver(d.o.Lookup)
	who := identity(cfg)
	who.Resolve = d.hosts.Address
	if err := who.Prepare(cfg.Agents); err != nil {
		return errors.Join(err, d.Stop(ctx))
	}
	dial := d.o.Dial
	if dial == nil {
		dial = transport.NetDialer(cfg.Poll.Interval)
	}
	checking := checkerConfig(cfg, dial)
	checking.Open = &d.connections
	system, err := actors.Start(actors.Options{
		Config:   cfg,
		Identity: who,
		Boot:     d.queue.boot,
		Dial: func(a *check.Agent) (actors.Checker, error) {
			return transport.NewChecker(a, checking)
		},
		Core:    d.core,
		Spool:   d.queue,
		State:   d.queue.state,
		Observe: d.observer(),
		Log:     slog.New(zerolog.NewSlogHandler(d.o.Log.Level(max(d.o.Log.GetLevel(), zerolog.WarnLevel)))),
	})
	if err != nil {
		return errors.Join(err, d.Stop(ctx))
	}
	d.system = system
	if d.admin != nil {
		d.admin.Serve(system.Alive, d.board, d.measure.Metrics)
	}
	kept, _ := d.queue.Kept()
	d.o.Log.Info().Str("poller_id", cfg.PollerID).Str("source_ip", cfg.SourceIP).Int("agents", len(cfg.Agents)).
		Int("checks_total", countChecks(cfg)).Stringer("interval", cfg.Poll.Interval).Strs("core", cfg.Core.Addresses).
		Str("admin", d.AdminAddress()).Str("spool", cmp.Or(d.queue.dir, config.StateMemory)).Int("kept", kept).Msg("poller started")
	return nil
}

// Stop stops in order: runs in flight, open cycles, deliveries, connections. It returns an error
// if ctx ended first; what is still running then ends within shutdown_timeout. It may be called again.
func (d *Daemon) Stop(ctx context.Context) error {
	if d.tell == nil { // it was not started
		return nil
	}
	d.board.Set(time.Now(), conditionStopping, false, "stopping: nothing new is polled")
	var errs []error
	if d.system != nil {
		errs = append(errs, d.system.Stop(ctx))
		d.tell.flush()
	}
	if d.core != nil {
		errs = append(errs, d.core.Close())
		d.hosts.Close()
	}
	if d.admin != nil {
		errs = append(errs, d.admin.Stop(ctx))
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
	switch {
	case kept == 0:
		d.o.Log.Info().Msg("poller stopped; nothing is left to deliver")
	case d.queue.disk != nil:
		d.o.Log.Info().Int("reports", kept).Str("spool", d.queue.dir).Msg("poller stopped; these reports are kept, and delivered after the next start")
	default:
		d.o.Log.Error().Int("reports", kept).Msg("poller stopped before core had taken all; these reports were kept in memory and are lost")
	}
}

// AdminAddress returns where the admin server listens; empty if it does not.
func (d *Daemon) AdminAddress() string {
	if d.admin == nil {
		return ""
	}
	return d.admin.Address()
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

func checkerConfig(cfg *config.Config, dial transport.Dialer) transport.CheckerConfig {
	return transport.CheckerConfig{PollerID: cfg.PollerID, MaxResults: maxReport(cfg), FindDead: cfg.Poll.Interval, Dial: dial}
}

func countChecks(cfg *config.Config) int {
	n := 0
	for i := range cfg.Agents {
		n += len(cfg.Agents[i].Checks)
	}
	return n
}
