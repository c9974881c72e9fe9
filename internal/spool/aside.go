package spool

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// asideFile is a file with what was set aside: a report, a part of one, or bytes that can't be read.
type asideFile struct {
	name  string
	id    string // the report's, or the segment's
	size  int64
	since time.Time
}

// block is what file systems give out: a file takes whole ones, however small it is.
const block = 4096

// takes is the space that the file takes.
func (f *asideFile) takes() int64 { return (f.size + block - 1) / block * block }

// The endings of the files' names.
const (
	segmentSuffix   = ".seg"
	asideSuffix     = ".aside"
	damageSuffix    = ".damaged"
	retrySuffix     = ".retry"
	temporarySuffix = ".tmp"
)

func segmentName(n uint64, salt uint32) string {
	return fmt.Sprintf("%010d-%08x%s", n, salt, segmentSuffix)
}

func asideName(n uint64) string { return fmt.Sprintf("%010d%s", n, asideSuffix) }

// damageID is the same each time that the damage is met.
func damageID(segment string, offset int64) string {
	return fmt.Sprintf("%s-%d", strings.TrimSuffix(segment, segmentSuffix), offset)
}

func damageReason(segment string, dm damage) string {
	return fmt.Sprintf("at byte %d of %s: %s", dm.offset, segment, dm.reason)
}

// SetAside keeps what core refuses for good in a file of its own, where people find it: a report that Next
// returned, or a part of it. The report stays in the queue. An error means that it is not kept.
func (d *Disk) SetAside(id string, body []byte, reason string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return ErrClosed
	}
	r := &record{kind: kindAside, id: id, since: time.Now(), reason: reason, body: body}
	if d.lent != nil {
		r.at = d.lent.at
	}
	name := asideName(d.marks.aside)
	if i := slices.IndexFunc(d.aside, func(f asideFile) bool { return f.id == id }); i >= 0 {
		name = d.aside[i].name // a crash came between this and Ack
		d.aside = slices.Delete(d.aside, i, i+1)
	} else {
		d.marks.aside++
	}
	return d.putAside(name, r)
}

// putAside writes what is set aside, and drops the oldest of it if it becomes too much.
func (d *Disk) putAside(name string, r *record) error {
	content := r.appendTo(nil, 0, 0)
	err := d.writeFile(name, content)
	if isFull(err) && d.useReserve() {
		err = d.writeFile(name, content)
	}
	if err != nil {
		return fmt.Errorf("set %s aside: %w", r.id, err)
	}
	d.aside = append(d.aside, asideFile{name: name, id: r.id, size: int64(len(content)), since: r.since})
	d.boundAside(r.since)
	return nil
}

// boundAside drops the oldest of what was set aside: what is older than max_age, or beyond a tenth of
// max_bytes, as the files take it on the disk: core may refuse many small reports. The newest stays in any case.
func (d *Disk) boundAside(now time.Time) {
	var total int64
	for i := range d.aside {
		total += d.aside[i].takes()
	}
	slices.SortStableFunc(d.aside, func(a, b asideFile) int {
		return cmp.Or(a.since.Compare(b.since), cmp.Compare(a.name, b.name))
	})
	for len(d.aside) > 1 && (total > d.cfg.MaxBytes/10 || now.Sub(d.aside[0].since) > d.cfg.MaxAge) {
		oldest := d.aside[0]
		_ = d.files.remove(oldest.name)
		d.aside = d.aside[1:]
		total -= oldest.takes()
		d.tell(AsideDropped{ID: oldest.id, Since: oldest.since})
	}
}

// setDamageAside copies what can't be read to files of its own, once, and tells it. It returns how many bytes
// of it are new, and whether all could be kept.
func (d *Disk) setDamageAside(segment string, damages []damage) (fresh int, kept bool) {
	kept = true
	for _, dm := range damages {
		id := damageID(segment, dm.offset)
		name := id + damageSuffix
		if d.hasAside(name) {
			continue
		}
		reason := damageReason(segment, dm)
		r := &record{kind: kindDamage, id: id, number: dm.number, since: time.Now(), reason: reason, body: dm.bytes}
		err := d.putAside(name, r)
		kept = kept && err == nil
		fresh += max(len(dm.bytes), 1)
		d.tell(Damaged{File: name, Reason: reason, Err: err})
	}
	return fresh, kept
}

func (d *Disk) hasAside(file string) bool {
	return slices.ContainsFunc(d.aside, func(f asideFile) bool { return f.name == file })
}
