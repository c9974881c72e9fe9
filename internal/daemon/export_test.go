package daemon

import (
	"context"

	"github.com/serviceradar/poller/internal/observe"
	"github.com/serviceradar/poller/internal/spool"
)

// Alive returns nil once the actors have started.
func (d *Daemon) Alive(ctx context.Context) error { return d.system.Alive(ctx) }

// Kept tells how many reports are kept for core, and their bytes.
func (d *Daemon) Kept() (reports int, bytes int64) { return d.queue.Kept() }

// Metrics are those of the daemon.
func (d *Daemon) Metrics() *observe.Metrics { return d.measure.Metrics }

// Tell tells an event of the actors, or of the spool, as if it had taken place.
func (d *Daemon) Tell(event any) {
	switch event.(type) {
	case spool.Lost, spool.AsideDropped, spool.Damaged:
		d.spoolEvent(event)
	default:
		d.observer()(event)
	}
}
