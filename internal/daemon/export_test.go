package daemon

// Kept tells how many reports are kept for core, and their bytes. Only the reporter may ask, so only an
// observer while it is told of ReportTaken.
func (d *Daemon) Kept() (reports int, bytes int64) { return d.queue.Kept() }
