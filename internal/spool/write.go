package spool

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
)

// write writes what is pending, and returns the ids of what had to be dropped because memory is
// bounded, too.
func (d *Disk) write() (dropped []string) {
	err := d.flush()
	for err != nil && d.pendingBytes > d.memoryLimit && !d.cfg.DropNewest {
		ids, ok := d.dropOldest() // which may be on the disk, and make room there
		if !ok {
			break
		}
		_ = d.saveMarks(true)
		dropped = append(dropped, ids...)
		err = d.flush()
	}
	return dropped
}

// memoryFull says whether a report must be refused because memory has no room for it, nor the disk for
// what is in memory. It is then not tried to be written: what is on the disk could come again. So it is, whatever
// is configured, if the disk fails and is not full: to drop what is on it and can be read makes no room in memory.
func (d *Disk) memoryFull(size int64) bool {
	if len(d.pending) == 0 || d.pendingBytes+size <= d.memoryLimit {
		return false
	}
	err := d.flush()
	return err != nil && (d.cfg.DropNewest || !isFull(err) && d.head() != nil)
}

// flush writes what is pending, in order, and keeps track of whether that works.
func (d *Disk) flush() error {
	for len(d.pending) > 0 {
		batch := d.batch()
		if err := d.writeBatch(batch); err != nil {
			err = fmt.Errorf("write a report to the spool: %w", err)
			if known := d.unsafe != nil && isFull(d.unsafe) == isFull(err); !known {
				d.tell(Unsafe{Err: err})
			}
			d.unsafe = err
			return err
		}
		for _, r := range batch {
			d.pendingBytes -= r.size()
			maps.Copy(d.state, r.state)
		}
		d.pending = d.pending[len(batch):]
		_ = d.saveMarks(false)
	}
	d.pending = nil
	if d.unsafe != nil {
		d.unsafe = nil
		d.tell(SafeAgain{})
	}
	d.makeReserve()
	return nil
}

// batch returns the first of what is pending: what fits into a segment, at least one.
func (d *Disk) batch() []*record {
	size := d.pending[0].size()
	n := 1
	for ; n < len(d.pending); n++ {
		if size += d.pending[n].size(); size > d.segmentSize {
			break
		}
	}
	return d.pending[:n:n]
}

// writeBatch writes reports, and returns when they are safe.
func (d *Disk) writeBatch(batch []*record) error {
	size := sizeOf(batch)
	s := d.tail()
	if d.current != nil && (s.reports == 0 && s.size < d.segmentSize || s.size+size <= d.segmentSize) {
		err := d.extend(s, batch)
		if s.rewrite { // what it has may not be on the disk either
			err = d.begin(batch)
		}
		return err
	}
	return d.begin(batch)
}

func sizeOf(records []*record) (size int64) {
	for _, r := range records {
		size += r.size()
	}
	return size
}

// extend writes reports to the end of the current segment.
func (d *Disk) extend(s *segment, batch []*record) error {
	records := batch
	if d.stateNews {
		records = append([]*record{{kind: kindState, state: d.state}}, batch...)
	}
	end, err := writeRecords(d.current, s.salt, s.size, records)
	if err != nil {
		if d.current.Truncate(s.size) != nil {
			d.closeCurrent() // the next report begins a new one
		}
		return err
	}
	if err := d.current.Sync(); err != nil {
		// The kernel may have forgotten what it could not write, and another try would succeed without it.
		s.rewrite = true
		d.closeCurrent()
		return err
	}
	s.size = end
	s.take(batch)
	d.stateNews = false
	return nil
}

// smallBody bounds the bodies that are copied, to be written at once with what is before them.
const smallBody = 64 << 10

// writeRecords writes records to a file from offset on, and returns where they end. Nothing of what is larger than
// smallBody is copied.
func writeRecords(f file, salt uint32, offset int64, records []*record) (end int64, err error) {
	for _, r := range records {
		b := r.appendHead(nil, place{salt: salt, offset: offset})
		rest := r.body
		if len(rest) <= smallBody {
			b, rest = append(b, rest...), nil
		}
		for _, part := range [][]byte{b, rest} {
			if len(part) == 0 {
				continue
			}
			if _, err := f.WriteAt(part, offset); err != nil {
				return 0, err
			}
			offset += int64(len(part))
		}
	}
	return offset, nil
}

// begin writes reports to a new segment, before them those of the last one if that is to be written again;
// to one of their own, if they are too much for one.
func (d *Disk) begin(batch []*record) error {
	d.closeCurrent()
	again := d.tail()
	if again != nil && !again.rewrite {
		again = nil
	}
	if again != nil && again.reports > 0 && len(batch) > 0 && again.bytes+sizeOf(batch) > d.segmentSize {
		if err := d.begin(nil); err != nil {
			return err
		}
		return d.begin(batch)
	}
	s := &segment{salt: rand.Uint32(), loaded: true, whole: true} //nolint:gosec // no secret
	s.names = []string{segmentName(d.marks.segment, s.salt)}
	d.marks.segment++
	if again != nil {
		s.take(again.records)
	}
	records := append(slices.Clone(s.records), &record{kind: kindState, state: d.state}) // behind those, which have older values
	file, size, err := d.createSegment(s.names[0], s.salt, append(records, batch...))
	if err != nil {
		return err
	}
	s.take(batch)
	s.size = size
	d.current = file
	d.stateNews = false
	d.succeed(s, again)
	return nil
}

// succeed puts a new segment behind the others, or in the place of the last one if that is written again in it.
func (d *Disk) succeed(s, again *segment) {
	previous := d.tail()
	if again != nil {
		d.segments = d.segments[:len(d.segments)-1]
	}
	d.segments = append(d.segments, s)
	switch {
	case again != nil:
		if !d.removeFiles(again) { // it has nothing that is not in s
			s.names = append(again.names, s.names...)
		}
	case previous != nil && previous.reports == 0:
		d.removeEmpty()
	case previous != nil && previous != d.head():
		previous.unload()
	}
}

// createSegment makes a file that is safe with all it has, and returns its size.
func (d *Disk) createSegment(name string, salt uint32, records []*record) (f file, size int64, err error) {
	if f, err = d.files.create(name); err != nil {
		return nil, 0, err
	}
	if size, err = writeRecords(f, salt, 0, records); err == nil {
		if err = f.Sync(); err == nil {
			err = d.files.sync()
		}
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close(), d.files.remove(name))
	}
	return f, size, nil
}

func (s *segment) take(records []*record) {
	for _, r := range records {
		if s.reports == 0 {
			s.oldest = r.at
		}
		if r.at.After(s.newest) {
			s.newest = r.at
		}
		s.last = max(s.last, r.number)
		s.records = append(s.records, r)
		s.reports++
		s.bytes += r.size()
	}
}

func (s *segment) unload() { s.records, s.loaded = nil, false }

// reserveName is the file of the reserve: space that is given up when the disk is full, so that what core
// has can still be recorded.
const reserveName = "reserve"

// useReserve gives the reserve up; false if there is none.
func (d *Disk) useReserve() bool {
	if !d.reserved {
		return false
	}
	d.reserved = false
	return d.files.remove(reserveName) == nil
}

// makeReserve makes a reserve, if there is space for it: 256 KiB beside segments of 8 MiB.
func (d *Disk) makeReserve() {
	if d.reserved {
		return
	}
	content := make([]byte, d.segmentSize/32)
	for i := range content {
		content[i] = byte(i*7 + i>>8) // nothing that a file system could leave out
	}
	d.reserved = d.writeFile(reserveName, content) == nil
}

// writeFile makes a file, or replaces it, so that it is there wholly or not at all.
func (d *Disk) writeFile(name string, content []byte) error {
	temporary := name + temporarySuffix
	_ = d.files.remove(temporary) // what a crash has left
	f, err := d.files.create(temporary)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(content, 0); err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, d.files.remove(temporary))
	}
	if err := d.files.rename(temporary, name); err != nil {
		return errors.Join(err, d.files.remove(temporary))
	}
	return d.files.sync()
}
