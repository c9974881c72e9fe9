package spool

import (
	"slices"
	"time"
)

// makeRoom drops whole segments, the oldest first, until size more bytes may be kept; false if they
// may not. What is on its way to core is not dropped.
func (d *Disk) makeRoom(size int64) (dropped []string, fits bool) {
	var lent int64
	if d.lent != nil {
		lent = d.lent.size()
	}
	// Dropping helps only a report that has room beside the one on its way to core.
	for !d.cfg.DropNewest && lent+size <= d.cfg.MaxBytes && d.bytes+size > d.cfg.MaxBytes {
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
			d.pending = slices.Delete(d.pending, i, i+1)
			d.forgetPending(r)
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

// dropOld drops the reports that are too old.
func (d *Disk) dropOld(now time.Time) (ids []string) {
	old := func(r *record) bool { return now.Sub(r.at) > d.cfg.MaxAge }
	for _, s := range slices.Clone(d.segments) {
		if s.reports > 0 && now.Sub(s.oldest) > d.cfg.MaxAge {
			ids = append(ids, d.dropFrom(s, old)...)
		}
	}
	for _, r := range slices.Clone(d.pending) {
		if r != d.lent && old(r) {
			i := slices.Index(d.pending, r)
			d.pending = slices.Delete(d.pending, i, i+1)
			d.forgetPending(r)
			ids = append(ids, r.id)
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

// dropPending removes the first n reports in memory.
func (d *Disk) dropPending(n int) {
	for _, r := range d.pending[:n] {
		d.forgetPending(r)
	}
	d.pending = slices.Delete(d.pending, 0, n)
}

func (d *Disk) forgetPending(r *record) {
	d.pendingBytes -= r.size()
	d.bytes -= r.size()
	d.reports--
}
