package spool

import (
	"slices"
	"time"
)

// SetBounds changes MaxBytes, MaxAge and DropNewest; Tell stays. Smaller bounds hold from the next Append on, which
// drops, and returns, what they leave no room for; with DropNewest that is the new report, for as long as too much is
// kept. For what was set aside they hold when something is set aside the next time.
func (d *Disk) SetBounds(cfg Config) {
	d.mu.Lock()
	defer d.mu.Unlock()
	cfg.Tell = d.cfg.Tell
	d.cfg, d.segmentSize = cfg, segmentSize(cfg)
}

// segmentSize is when a segment is full: they are dropped whole, and a spool that keeps only little should not lose
// much of it at once. Those that were written under other bounds stay as they are.
func segmentSize(cfg Config) int64 { return max(min(maxSegment, cfg.MaxBytes/16), 1) }

// makeRoom drops whole segments, the oldest first, until size more bytes may be kept; false if they
// may not. What is on its way to core is not dropped.
func (d *Disk) makeRoom(size int64) (dropped []string, fits bool) {
	var lent int64
	if d.lent != nil {
		lent = d.lent.size()
	}
	// Dropping helps only a report that has room beside the one on its way to core. But what is kept may be too much
	// by itself, if the bounds were changed.
	canFit := lent+size <= d.cfg.MaxBytes
	for !d.cfg.DropNewest && (canFit && d.bytes+size > d.cfg.MaxBytes || d.bytes > d.cfg.MaxBytes) {
		ids, ok := d.dropOldest()
		if !ok {
			break
		}
		dropped = append(dropped, ids...)
	}
	return dropped, d.bytes+size <= d.cfg.MaxBytes
}

// dropOldest drops the oldest segment, or if there is nothing on disk the oldest report in memory; false if there
// is nothing to drop.
func (d *Disk) dropOldest() (ids []string, ok bool) {
	for _, s := range slices.Clone(d.segments) {
		if s.reports == 0 || s.reports == 1 && d.lent != nil && d.lent == d.loadedFirst(s) {
			continue
		}
		return d.dropFrom(s, func(*record) bool { return true }), true
	}
	for i, r := range d.pending {
		if r != d.lent {
			d.dropPending(i)
			return []string{r.id}, true
		}
	}
	return nil, false
}

func (d *Disk) loadedFirst(s *segment) *record {
	if len(s.records) == 0 {
		return nil
	}
	return s.records[0]
}

// dropOld drops the reports that are too old, up to the first that is not: what is done is so in order.
func (d *Disk) dropOld(now time.Time) (ids []string) {
	young := false
	old := func(r *record) bool {
		young = young || now.Sub(r.at) <= d.cfg.MaxAge
		return !young
	}
	for _, s := range slices.Clone(d.segments) {
		if s.reports == 0 {
			continue
		}
		if now.Sub(s.oldest) <= d.cfg.MaxAge || d.load(s) != nil && now.Sub(s.newest) <= d.cfg.MaxAge {
			return ids
		}
		if ids = append(ids, d.dropFrom(s, old)...); young {
			return ids
		}
	}
	for i := 0; i < len(d.pending); {
		switch r := d.pending[i]; {
		case r == d.lent:
			i++
		case old(r):
			d.dropPending(i)
			ids = append(ids, r.id)
		default:
			return ids
		}
	}
	return ids
}

// dropFrom drops reports of a segment, but not the one on its way to core.
func (d *Disk) dropFrom(s *segment, which func(*record) bool) (ids []string) {
	if err := d.load(s); err != nil {
		d.loseSegment(s, err)
		return nil
	}
	ids = d.remove(s, func(r *record) bool { return r != d.lent && which(r) })
	if s.reports == 0 && s == d.tail() {
		d.closeCurrent()
	}
	d.removeEmpty()
	return ids
}

// loseSegment drops a segment that can't be read, and says so.
func (d *Disk) loseSegment(s *segment, cause error) {
	d.tell(Lost{Reports: s.reports, Cause: "dropped for want of room or because of their age, from " + s.names[0] + ", which can't be read: " + cause.Error()})
	d.forget(s)
	d.removeEmpty()
}

// forget takes all out of a segment whose reports are not known one by one.
func (d *Disk) forget(s *segment) {
	if !s.retried {
		d.advance(s.last+1, uint64(s.reports)) //nolint:gosec // a count
	}
	d.reports -= s.reports
	d.bytes -= s.bytes
	s.reports, s.bytes, s.records = 0, 0, nil
}

// dropPending removes a report in memory, before which there is none but the one that is on its way to core.
func (d *Disk) dropPending(i int) {
	r := d.pending[i]
	d.pending = slices.Delete(d.pending, i, i+1)
	d.pendingBytes -= r.size()
	d.bytes -= r.size()
	d.reports--
	d.passed(r.number)
}
