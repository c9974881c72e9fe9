package spool

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// readSegment returns all that is in a segment's file.
func (d *Disk) readSegment(name string) (records []*record, damages []damage, err error) {
	b, err := d.files.read(name)
	if err != nil {
		return nil, nil, err
	}
	_, salt, _ := parseSegmentName(name)
	records, damages, err = scan(name, salt, b)
	if len(b) == 0 {
		damages = []damage{{reason: "the file is empty: it is cut short, or was never written"}}
	}
	return records, damages, err
}

func parseSegmentName(name string) (n uint64, salt uint32, ok bool) {
	number, rest, _ := strings.Cut(name, "-")
	hex, isSegment := strings.CutSuffix(rest, segmentSuffix)
	n, err := strconv.ParseUint(number, 10, 64)
	s, err2 := strconv.ParseUint(hex, 16, 32)
	return n, uint32(s), isSegment && err == nil && err2 == nil
}

// load reads the reports of a segment that are kept. What can't be read any more is set aside and told.
func (d *Disk) load(s *segment) error {
	if s.loaded || s.reports == 0 {
		return nil
	}
	var records []*record
	var err error
	if s.retried {
		records, err = d.readSingle(s.names[0])
	} else {
		records, err = d.readReports(s.names, func(name string, damages []damage) { d.setDamageAside(name, damages) })
	}
	if err != nil {
		return err
	}
	d.adopt(s, records)
	return nil
}

// readReports reads the reports that are kept from the files of a segment, in order.
func (d *Disk) readReports(names []string, damaged func(name string, damages []damage)) ([]*record, error) {
	var all []*record
	for _, name := range names {
		records, damages, err := d.readSegment(name)
		if err != nil {
			return nil, err
		}
		damaged(name, damages)
		all = append(all, d.kept(records)...)
	}
	if len(names) > 1 {
		all = merge(all)
	}
	return all, nil
}

// readSingle reads a file that is no segment, and so has a single record; none if it is damaged.
func (d *Disk) readSingle(name string) ([]*record, error) {
	b, err := d.files.read(name)
	if err != nil {
		return nil, err
	}
	records, _, err := scan(name, 0, b)
	return records, err
}

// adopt makes these the records of a segment, and tells if there are fewer than before.
func (d *Disk) adopt(s *segment, records []*record) {
	before, bytes, last := s.reports, s.bytes, s.last
	s.reports, s.bytes, s.records, s.loaded = 0, 0, nil, true
	s.take(records)
	s.last = last
	d.reports += s.reports - before
	d.bytes += s.bytes - bytes
	if lost := before - s.reports; lost > 0 {
		if !s.retried {
			d.marks.gaps += uint64(lost)
		}
		d.tell(Lost{Reports: lost, Cause: "damaged in " + s.names[0] + " since they were written"})
	}
	if s.reports == 0 { // there is nothing that would be acknowledged
		if !s.retried {
			d.advance(s.last+1, 0)
		}
		d.removeEmpty()
	}
}

// kept returns the reports that are not done.
func (d *Disk) kept(records []*record) []*record {
	m := &d.marks
	return slices.DeleteFunc(slices.Clone(records), func(r *record) bool {
		return r.kind != kindReport || r.number < m.position && (r.number != m.except || m.except == 0)
	})
}

// merge puts records that come from two files in order. Of two with the same number the later stays.
func merge(records []*record) []*record {
	byNumber := make(map[uint64]*record, len(records))
	for _, r := range records {
		byNumber[r.number] = r
	}
	return slices.SortedFunc(maps.Values(byNumber), func(a, b *record) int { return cmp.Compare(a.number, b.number) })
}
