package spool

import (
	"fmt"
	"slices"
	"strings"
)

// Retry puts what was set aside back into the queue, before all others and in the order in which it was set aside.
// It is for people, on the directory of a stopped poller.
func (d *Disk) Retry(id string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.hold()
	i := slices.IndexFunc(d.aside, func(f asideFile) bool { return f.id == id })
	if i < 0 {
		return fmt.Errorf("nothing with the id %s was set aside", id)
	}
	f := d.aside[i]
	number, isReport := strings.CutSuffix(f.name, asideSuffix)
	records, err := d.readSingle(f.name)
	if err != nil {
		return err
	}
	if !isReport || len(records) == 0 {
		return fmt.Errorf("%s is damaged, and can't be sent to core", id)
	}
	s := &segment{names: []string{number + retrySuffix}, retried: true}
	if err := d.files.rename(f.name, s.names[0]); err != nil {
		return err
	}
	if err := d.files.sync(); err != nil {
		return err
	}
	s.take(records)
	s.unload()
	d.aside = slices.Delete(d.aside, i, i+1)
	at := 0
	for at < len(d.segments) && d.segments[at].retried && d.segments[at].names[0] < s.names[0] {
		at++
	}
	d.segments = slices.Insert(d.segments, at, s)
	d.reports += s.reports
	d.bytes += s.bytes
	return nil
}

// Drop removes a report from the queue, or what was set aside under this id. It is for people, on
// the directory of a stopped poller.
func (d *Disk) Drop(id string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.hold()
	if i := slices.IndexFunc(d.aside, func(f asideFile) bool { return f.id == id }); i >= 0 {
		if err := d.forgetDamage(d.aside[i].name); err != nil {
			return err
		}
		if err := d.files.remove(d.aside[i].name); err != nil {
			return err
		}
		d.aside = slices.Delete(d.aside, i, i+1)
		return d.files.sync()
	}
	for _, s := range slices.Clone(d.segments) {
		if err := d.load(s); err != nil {
			return err
		}
		i := slices.IndexFunc(s.records, func(r *record) bool { return r.id == id })
		if i >= 0 {
			err := d.dropOne(s, s.records[i])
			d.unload(s)
			return err
		}
		d.unload(s)
	}
	return fmt.Errorf("there is no report with the id %s, and nothing was set aside under it", id)
}

// unload gives the memory free, of all but the last, which may be loaded to be written again.
func (d *Disk) unload(s *segment) {
	if s != d.tail() {
		s.unload()
	}
}

// forgetDamage writes the segment again that a copy of damaged bytes was made from, if it is still there, or
// they would be found again.
func (d *Disk) forgetDamage(file string) error {
	id, isDamage := strings.CutSuffix(file, damageSuffix)
	if !isDamage {
		return nil
	}
	for _, s := range d.segments {
		for _, name := range s.names {
			if !s.retried && strings.HasPrefix(id, strings.TrimSuffix(name, segmentSuffix)+"-") {
				return d.rewriteWithout(name, 0) // which no report has
			}
		}
	}
	return nil
}

// dropOne writes a segment again without a report.
func (d *Disk) dropOne(s *segment, r *record) error {
	if s.retried {
		d.remove(s, func(other *record) bool { return other == r })
		d.removeEmpty()
		return d.files.sync()
	}
	for _, name := range s.names {
		if err := d.rewriteWithout(name, r.number); err != nil {
			return err
		}
	}
	s.records = slices.DeleteFunc(s.records, func(other *record) bool { return other == r })
	s.reports--
	s.bytes -= r.size()
	d.reports--
	d.bytes -= r.size()
	if r.number == d.marks.except {
		d.marks.except = 0
	} else {
		d.marks.gaps++
	}
	err := d.saveMarks(true)
	d.removeEmpty()
	return err
}

// rewriteWithout writes a segment's file again without a report and without what is damaged. The state that the
// report came with stays.
func (d *Disk) rewriteWithout(name string, number uint64) error {
	d.closeCurrent() // its file may be replaced
	records, damages, err := d.readSegment(name)
	if err != nil {
		return err
	}
	d.setDamageAside(name, damages)
	_, salt, _ := parseSegmentName(name)
	var b []byte
	for _, r := range records {
		if r.kind == kindReport && r.number != number {
			b = r.appendTo(b, salt, 0)
		}
	}
	// The last word on the state may be in what is left out. That this is newer than the file does no harm, for the
	// files behind it are newer still; and an empty file would pass for damage.
	b = (&record{kind: kindState, state: d.state}).appendTo(b, salt, 0)
	return d.writeFile(name, b)
}

// DropKept removes all reports from the queue, and returns how many there were. It is for people, on the
// directory of a stopped poller.
func (d *Disk) DropKept() (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.hold()
	n := d.reports
	d.lent = nil
	d.marks.except = 0
	for _, s := range d.segments {
		d.forget(s)
	}
	if err := d.saveMarks(true); err != nil {
		return 0, err
	}
	d.removeEmpty()
	return n, d.files.sync()
}
