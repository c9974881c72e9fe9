package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"syscall"
)

// marks are what changes with each report, and so is written in place: the read position and what is
// known of the numbers of reports. Each report has the number after that of the one before, so that the numbers
// from position to written are those of the reports that are kept, and gaps: of these the numbers are known
// to stand for nothing (lost, and told; or left out behind damage). If at an opening there are fewer reports than that
// leaves, some are missing.
type marks struct {
	generation uint64 // of this writing
	// position: reports with smaller numbers are done, except this one; 0 if there is none.
	position, except uint64
	// written is the number that the next report gets.
	written uint64
	// gaps is how many of the numbers from position to written stand for no report, and were told.
	gaps uint64
	// boot counts the openings. It is never smaller than the clock's seconds at that time, so that it
	// does not begin again if the directory is lost.
	boot uint64
	// segment is the number that the next segment gets; aside the same for what is set aside.
	segment, aside uint64
}

const (
	marksName = "marks"
	// sector is what a disk writes wholly or not at all. Of the two copies, each in a sector of its
	// own, one is safe while the other is overwritten.
	sector    = 512
	marksSize = 8 + 8*8 + 4
)

var marksMagic = []byte{0xd8, 'p', 'm', 0x1a}

func (m *marks) fields() [8]*uint64 {
	return [...]*uint64{&m.generation, &m.position, &m.except, &m.written, &m.gaps, &m.boot, &m.segment, &m.aside}
}

func (m *marks) encode() []byte {
	b := append(make([]byte, 0, sector), marksMagic...)
	b = append(b, formatVersion, 0, 0, 0)
	for _, field := range m.fields() {
		b = binary.LittleEndian.AppendUint64(b, *field)
	}
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return b[:sector]
}

// decodeMarks returns the newer of the two copies, and how many of them can be read.
func decodeMarks(content []byte) (newest marks, copies int, err error) {
	for offset := 0; offset+sector <= len(content); offset += sector {
		b := content[offset : offset+sector]
		end := marksSize - 4
		if !bytes.HasPrefix(b, marksMagic) || crc32.Checksum(b[:end], castagnoli) != binary.LittleEndian.Uint32(b[end:]) {
			continue
		}
		if b[4] > formatVersion {
			return marks{}, 0, &newerError{file: marksName, version: b[4]}
		}
		var m marks
		for i, field := range m.fields() {
			*field = binary.LittleEndian.Uint64(b[8+8*i:])
		}
		if copies++; copies == 1 || m.generation > newest.generation {
			newest = m
		}
	}
	return newest, copies, nil
}

// saveMarks writes the marks, and if durable is set waits until they are safe. If that fails, a file of its
// own takes them: what a disk failed to write once is not to be relied on.
func (d *Disk) saveMarks(durable bool) error {
	if d.marks.generation++; !d.marksSafe { // so it is the same copy as last time
		d.marks.generation++
	}
	d.marksSafe = false
	err := d.overwriteMarks(durable)
	if isFull(err) && d.useReserve() {
		err = d.overwriteMarks(durable)
	}
	if err != nil {
		err = d.replaceMarks()
	}
	if (err != nil) != (d.marksErr != nil) {
		d.tell(PositionUnsafe{Err: err})
	}
	d.marksErr = err
	d.marksSafe = d.marksSafe || durable && err == nil
	return err
}

func (d *Disk) overwriteMarks(durable bool) error {
	if d.marksFile == nil {
		return fs.ErrNotExist
	}
	if _, err := d.marksFile.WriteAt(d.onDisk().encode(), int64(d.marks.generation%2)*sector); err != nil {
		return err
	}
	if !durable {
		return nil
	}
	return d.marksFile.Sync()
}

// onDisk returns the marks without what is in memory only: nobody is to miss that after a crash.
func (d *Disk) onDisk() *marks {
	m := d.marks
	if len(d.pending) > 0 {
		m.written = d.pending[0].number
	}
	return &m
}

func (d *Disk) replaceMarks() error {
	if d.marksFile != nil {
		_ = d.marksFile.Close()
		d.marksFile = nil
	}
	one := d.onDisk().encode()
	if err := d.writeFile(marksName, append(one[:sector:sector], one...)); err != nil {
		return err
	}
	file, err := d.files.open(marksName)
	if err != nil {
		return err
	}
	d.marksFile, d.marksSafe = file, true
	return nil
}

// openMarks opens the marks that were read, and makes sure that they are safe: the process that wrote them may have been
// killed before it did.
func (d *Disk) openMarks() error {
	file, err := d.files.open(marksName)
	if err != nil {
		return err
	}
	if file.Sync() != nil {
		return file.Close() // another file takes them
	}
	d.marksFile, d.marksSafe = file, true
	return nil
}

// isFull tells whether there is no space left.
func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
