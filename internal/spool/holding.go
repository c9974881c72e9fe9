package spool

import "time"

// Holding is what a queue keeps.
type Holding struct {
	Reports int
	Bytes   int64
	// Oldest is when the first of the reports took place; zero if there is none.
	Oldest time.Time
}

// Holding tells what is kept. It does not wait for the disk: while another method does, it is what was kept before.
func (d *Disk) Holding() Holding { return *d.holding.Load() }

// hold makes what is kept now what Holding tells.
func (d *Disk) hold() {
	h := &Holding{Reports: d.reports, Bytes: d.bytes}
	if s := d.head(); s != nil {
		h.Oldest = s.oldest
	} else if len(d.pending) > 0 {
		h.Oldest = d.pending[0].at
	}
	d.holding.Store(h)
}
