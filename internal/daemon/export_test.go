package daemon

// Kept tells how many reports are kept for core, and their bytes.
func (d *Daemon) Kept() (reports int, bytes int64) { return d.queue.Kept() }
