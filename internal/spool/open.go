package spool

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// open reads what there is and makes a Disk of it. Nothing is written before all of it has been read.
func open(fs files, cfg Config) (*Disk, error) {
	d := newDisk(fs, cfg)
	in := &inventory{disk: d, damages: make(map[string][]damage)}
	if err := in.take(); err != nil {
		return nil, err
	}
	if err := d.recover(in); err != nil {
		d.closeFiles()
		return nil, err
	}
	d.hold()
	return d, nil
}

func newDisk(fs files, cfg Config) *Disk {
	if cfg.Synced != nil {
		fs = timed{files: fs, synced: cfg.Synced}
	}
	d := &Disk{
		cfg: cfg, segmentSize: segmentSize(cfg), files: fs, memoryLimit: MemoryLimit,
		unlock: func() error { return nil }, state: make(map[string]string),
	}
	d.hold()
	return d
}

// inventory is what there is in the directory.
type inventory struct {
	disk      *Disk
	copies    int // of the marks that can be read
	segments  []*segment
	retried   []*segment
	damages   map[string][]damage // by segment
	temporary []string
	first     uint64 // the smallest number of a report that is kept
	seen      uint64 // the greatest number of any report
	last      string // the last segment's file, and its size
	lastSize  int64
	excepted  bool // the report that is kept though the position is behind it is there
}

// take reads all files. It changes nothing on disk.
func (in *inventory) take() error {
	list, err := in.disk.files.list()
	if err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b fileInfo) int { return cmp.Compare(a.name, b.name) })
	if err := in.takeMarks(list); err != nil {
		return err
	}
	for _, file := range list {
		if err := in.takeFile(file); err != nil {
			return err
		}
	}
	return nil
}

func (in *inventory) takeMarks(list []fileInfo) error {
	if !slices.ContainsFunc(list, func(f fileInfo) bool { return f.name == marksName }) {
		return nil
	}
	b, err := in.disk.files.read(marksName)
	if err != nil {
		return err
	}
	in.disk.marks, in.copies, err = decodeMarks(b)
	return err
}

func (in *inventory) takeFile(file fileInfo) error {
	d := in.disk
	switch name := file.name; {
	case name == reserveName:
		d.reserved = true
	case strings.HasSuffix(name, temporarySuffix):
		in.temporary = append(in.temporary, name)
	case strings.HasSuffix(name, retrySuffix):
		return in.takeRetried(name)
	case strings.HasSuffix(name, asideSuffix), strings.HasSuffix(name, damageSuffix):
		return in.takeAside(file)
	case strings.HasSuffix(name, segmentSuffix):
		if n, _, ok := parseSegmentName(name); ok {
			d.marks.segment = max(d.marks.segment, n+1)
			in.last, in.lastSize = name, file.size
			return in.takeSegment(name)
		}
	}
	return nil
}

// takeSegment takes a segment's reports, state and damage.
func (in *inventory) takeSegment(name string) error {
	d := in.disk
	records, damages, err := d.readSegment(name)
	if err != nil {
		return err
	}
	for _, dm := range damages {
		dm.bytes = bytes.Clone(dm.bytes) // or it would keep the whole file
		in.damages[name] = append(in.damages[name], dm)
	}
	s := &segment{names: []string{name}, junk: len(records) == 0}
	for _, r := range records {
		switch r.kind {
		case kindState:
			clear(d.state)
			maps.Copy(d.state, r.state)
			s.whole = true
		case kindReport:
			if s.whole || r.number > in.seen { // else it was written again, and newer ones have been there
				maps.Copy(d.state, r.state)
			}
			in.seen = max(in.seen, r.number)
		case kindAside, kindDamage:
		}
	}
	s.take(d.kept(records))
	for _, previous := range slices.Backward(in.segments) {
		if s.reports > 0 && s.records[0].number <= previous.last {
			return in.join(previous, s)
		}
	}
	for _, r := range s.records {
		in.excepted = in.excepted || r.number == d.marks.except
		if in.first == 0 || r.number < in.first {
			in.first = r.number
		}
	}
	s.unload()
	in.segments = append(in.segments, s)
	return nil
}

// join puts a segment to the one before, which it has reports in common with: it was written to take its place,
// and a crash came before it did.
func (in *inventory) join(previous, s *segment) error {
	names := append(previous.names, s.names...)
	all, err := in.disk.readReports(names, func(string, []damage) {})
	if err != nil {
		return err
	}
	*previous = segment{names: names, rewrite: true, whole: previous.whole || s.whole}
	previous.take(all)
	previous.unload()
	return nil
}

func (in *inventory) takeRetried(name string) error {
	m := &in.disk.marks
	if n, err := strconv.ParseUint(strings.TrimSuffix(name, retrySuffix), 10, 64); err == nil {
		m.aside = max(m.aside, n+1)
	}
	s := &segment{names: []string{name}, retried: true}
	records, damages, err := in.disk.readSegment(name)
	if err != nil {
		return err
	}
	s.take(records)
	s.unload()
	if s.reports == 0 {
		in.damages[name] = damages
	}
	in.retried = append(in.retried, s)
	return nil
}

func (in *inventory) takeAside(file fileInfo) error {
	d := in.disk
	if n, err := strconv.ParseUint(strings.TrimSuffix(file.name, asideSuffix), 10, 64); err == nil {
		d.marks.aside = max(d.marks.aside, n+1)
	}
	b, err := d.files.read(file.name)
	if err != nil {
		return err
	}
	records, _, err := scan(file.name, 0, b)
	if err != nil {
		return err
	}
	aside := asideFile{name: file.name, id: file.name, size: file.size} // as damaged as it may be
	if len(records) > 0 {
		aside.id, aside.since = records[0].id, records[0].since
	}
	d.aside = append(d.aside, aside)
	return nil
}

// recover makes the queue of what there is.
func (d *Disk) recover(in *inventory) error {
	d.segments = append(in.retried, in.segments...)
	for _, s := range d.segments {
		d.reports += s.reports
		d.bytes += s.bytes
	}
	fresh := in.copies == 0 && len(in.segments) == 0
	if in.copies > 0 {
		if err := d.openMarks(); err != nil {
			return err
		}
	}
	lost := d.countMissing(in)
	if lost == 0 {
		d.cutUnfinished(in)
	}
	d.syncTail() // before the marks tell of what is in it
	d.skipNumbers(d.recoverDamage(in))
	d.marks.boot = max(d.marks.boot+1, uint64(max(time.Now().Unix(), 0)))
	if err := d.saveMarks(true); err != nil && !isFull(err) {
		return fmt.Errorf("write the read position: %w", err)
	}
	if in.copies == 0 && !fresh {
		d.tell(Damaged{File: marksName, Reason: "the read position can't be read: reports that core has already may be sent again"})
	}
	if lost > 0 {
		d.tell(Lost{Reports: lost, Cause: "damaged or missing when the spool was opened"})
	}
	for _, name := range in.temporary {
		_ = d.files.remove(name)
	}
	d.removeEmpty()
	d.makeReserve()
	return d.loadTail()
}

// recoverDamage sets aside what can't be read, and returns how many bytes of it were not known yet.
func (d *Disk) recoverDamage(in *inventory) (fresh int) {
	for _, name := range slices.Sorted(maps.Keys(in.damages)) {
		n, kept := d.setDamageAside(name, in.damages[name])
		fresh += n
		if !kept { // then the segment itself has to be
			d.segments = slices.DeleteFunc(d.segments, func(s *segment) bool { return s.reports == 0 && slices.Contains(s.names, name) })
		}
	}
	return fresh
}

// countMissing brings the marks in line with what was found, and returns how many reports are missing that were
// not told before.
func (d *Disk) countMissing(in *inventory) (lost int) {
	m := &d.marks
	if in.copies == 0 {
		m.position = max(in.first, 1)
		if in.first == 0 {
			m.position = in.seen + 1
		}
	}
	var kept uint64 // of those from the position on
	for _, s := range in.segments {
		kept += uint64(s.reports) //nolint:gosec // a count
	}
	if in.excepted {
		kept--
	} else if m.except != 0 {
		m.except, lost = 0, 1
	}
	end := max(m.written, in.seen+1, m.position)
	missing := end - m.position - kept
	lost += int(missing - min(missing, m.gaps)) //nolint:gosec // a count
	m.written, m.gaps = end, missing
	return lost
}

// skipNumbers leaves out the numbers that damaged bytes may have had, for they must not be given again.
func (d *Disk) skipNumbers(damaged int) {
	if damaged > 0 {
		n := uint64(damaged/headerSize) + 1
		d.marks.written += n
		d.marks.gaps += n
	}
}

// cutUnfinished cuts off what the last file ends with, if that can't be read. When no report is missing, it is what
// was being written when the process was killed or the power went, and nobody was told that it is safe.
func (d *Disk) cutUnfinished(in *inventory) {
	damages := in.damages[in.last]
	if len(damages) == 0 {
		return
	}
	rest := damages[len(damages)-1]
	known := d.hasAside(damageID(in.last, rest.offset) + damageSuffix) // and so was told as lost
	if known || rest.offset+int64(len(rest.bytes)) != in.lastSize || d.cut(in.last, rest.offset) != nil {
		return
	}
	if in.damages[in.last] = damages[:len(damages)-1]; rest.offset == 0 {
		d.segments = slices.DeleteFunc(d.segments, func(s *segment) bool { return slices.Contains(s.names, in.last) })
	}
	d.tell(Unfinished{File: in.last, Bytes: len(rest.bytes)})
}

// cut shortens a file, or removes it if nothing is left of it.
func (d *Disk) cut(name string, size int64) error {
	if size == 0 {
		if err := d.files.remove(name); err != nil {
			return err
		}
		return d.files.sync()
	}
	f, err := d.files.open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Sync(), f.Close())
}

// loadTail loads the last segment if it is small, so that it is written again with the next report: else each
// start would leave a segment of its own. So it does if it is two in one, or can't be made safe.
func (d *Disk) loadTail() error {
	s := d.tail()
	if s == nil || s.retried {
		return nil
	}
	if s.rewrite = s.rewrite || s.bytes <= d.segmentSize/8; !s.rewrite {
		return nil
	}
	return d.load(s)
}

// syncTail makes the last segment safe: the process that wrote it may have been killed before it did.
func (d *Disk) syncTail() {
	s := d.tail()
	if s == nil || s.retried {
		return
	}
	var errs []error
	for _, name := range s.names {
		f, err := d.files.open(name)
		if err == nil {
			err = errors.Join(f.Sync(), f.Close())
		}
		errs = append(errs, err)
	}
	if errors.Join(append(errs, d.files.sync())...) != nil {
		s.rewrite = true
	}
}
