package daemon

import "context"

// Alive returns nil once the actors have started.
func (d *Daemon) Alive(ctx context.Context) error { return d.system.Alive(ctx) }

// Kept tells how many reports are kept for core, and their bytes.
func (d *Daemon) Kept() (reports int, bytes int64) { return d.queue.Kept() }
