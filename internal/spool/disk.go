package spool

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// ErrClosed is the error of a Disk that was closed.
var ErrClosed = errors.New("the spool is closed")

// maxSegment is when a segment is full, in bytes; less if a spool may keep only little.
const maxSegment = 8 << 20

// Disk is a queue of reports in files. See the package's comment for what it guarantees. All methods
// may be called from several goroutines at once, and wait for the disk.
type Disk struct {
	files  files
	unlock func() error

	mu          sync.Mutex
	cfg         Config
	segmentSize int64
	// segments are what is on disk, oldest first. The last may be empty, others are not.
	segments []*segment
	// current is the last segment's file; nil if the next report begins a new one.
	current file
	// pending are the reports that are not on disk, because it fails: the newest.
	pending      []*record
	pendingBytes int64
	// unsafe is why they are not.
	unsafe error

	marks     marks
	marksFile file
	marksErr  error // why the marks are not saved
	marksSafe bool  // the marks that were saved last are durable
	reserved  bool  // there is a reserve

	memoryLimit int64 // MemoryLimit
	reports     int   // kept
	bytes       int64 // that these take
	lent        *record
	recent      recent
	state       map[string]string
	stateNews   bool // the state has what is in no file, because its report went to core from memory
	aside       []asideFile
	closed      bool

	// holding is for those who don't wait for the disk.
	holding atomic.Pointer[Holding]
}

// segment is a file of reports, or what was made of two of them.
type segment struct {
	// names of its files. Two if the removal of the first was missed: they have reports in common then.
	names   []string
	salt    uint32
	size    int64 // of the file that is written
	reports int   // that are kept
	bytes   int64 // that these take
	last    uint64
	// oldest and newest are the times of the first report and of the latest.
	oldest, newest time.Time
	// records are the reports that are kept, if they are loaded.
	records []*record
	loaded  bool
	// rewrite: what is in it is to be written again, with the next report.
	rewrite bool
	// whole: the state that the segments before it come to is in it, too.
	whole bool
	// junk: nothing in it can be read.
	junk bool
	// retried: it is a single report that was put back by hand, before all others, and has no number.
	retried bool
}

// State returns the values that Append was given last, as far as they are safe.
func (d *Disk) State() map[string]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.state)
}

// Retain forgets the state under keys that are no longer of use.
func (d *Disk) Retain(of func(key string) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.DeleteFunc(d.state, func(key, _ string) bool { return !of(key) })
}

// Boot returns a number that is greater at each opening.
func (d *Disk) Boot() uint64 { return d.marks.boot }

// Append keeps a report, which took place at, and returns the ids of the reports dropped for it: first
// those that are too old by at, then those that there is no room for, which may be the report itself.
// With it the values of state are kept, and those that it does not name stay. An id that was appended before changes nothing; if there was no
// room for it then, there is none now. It returns when the report is on the disk; if that fails, the report is
// kept in memory until it can be written, and Safe and Config.Tell say so. The body is Disk's from then on.
func (d *Disk) Append(id string, at time.Time, body []byte, state map[string]string) (tooOld, noRoom []string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.hold()
	if d.closed {
		return nil, nil, ErrClosed
	}
	if known, refused := d.recent.find(id); known {
		if refused {
			noRoom = []string{id}
		}
		return nil, noRoom, nil
	}
	r := &record{kind: kindReport, id: id, at: at, state: state, body: body}
	tooOld = d.dropOld(at)
	noRoom, fits := d.makeRoom(r.size())
	if len(tooOld)+len(noRoom) > 0 {
		_ = d.saveMarks(true) // or they could come back
	}
	if !fits {
		_ = d.flush() // the others
	}
	if !fits || d.memoryFull(r.size()) {
		d.recent.add(id, true)
		return tooOld, append(noRoom, id), nil
	}
	d.add(r)
	noRoom = append(noRoom, d.write()...)
	d.recent.add(id, slices.Contains(noRoom, id))
	return tooOld, noRoom, nil
}

// add gives a report its number, which no other gets, whatever becomes of it.
func (d *Disk) add(r *record) {
	r.number = d.marks.written
	d.marks.written++
	d.pending = append(d.pending, r)
	d.pendingBytes += r.size()
	d.reports++
	d.bytes += r.size()
}

// Next returns the oldest report, which stays, and is not dropped, until Ack. An error means that
// it can't be read now; it may be later.
func (d *Disk) Next() (id string, body []byte, ok bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.hold()
	if d.closed {
		return "", nil, false, ErrClosed
	}
	r, err := d.oldest()
	if r == nil || err != nil {
		return "", nil, false, err
	}
	d.lent = r
	return r.id, r.body, true, nil
}

// oldest returns the oldest report; nil if there is none.
func (d *Disk) oldest() (*record, error) {
	for _, s := range slices.Clone(d.segments) {
		if err := d.load(s); err != nil {
			return nil, err
		}
		if s.reports > 0 {
			return s.records[0], nil
		}
	}
	if len(d.pending) > 0 {
		return d.pending[0], nil
	}
	return nil, nil
}

// Ack removes the oldest report, if it has this id.
func (d *Disk) Ack(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.hold()
	if d.closed {
		return
	}
	r, err := d.oldest()
	if err != nil || r == nil || r.id != id {
		return
	}
	d.lent = nil
	if len(d.pending) > 0 && r == d.pending[0] {
		d.dropPending(0)
		maps.Copy(d.state, r.state)
		d.stateNews = d.stateNews || len(r.state) > 0
		_ = d.saveMarks(true) // or it could come again, or be missed
		return
	}
	s := d.head()
	s.records[0] = nil // or its memory would not be free
	s.records = s.records[1:]
	s.dated()
	d.gone(s, r)
	if !s.retried {
		_ = d.saveMarks(false)
	}
	before := len(d.segments)
	d.removeEmpty()
	if len(d.segments) < before && isFull(d.unsafe) {
		_ = d.flush() // into the space that became free; without any it would cost each report a vain try
	}
	d.beginEarly()
}

// beginEarly begins a new segment when nothing is kept and the last one is half full: it needs more syncs than a
// report does, and now nobody waits for them.
func (d *Disk) beginEarly() {
	if d.reports == 0 && d.current != nil && d.tail().size > d.segmentSize/2 {
		_ = d.begin(nil) // if it fails, the next report begins one
	}
}

// Kept tells how many reports there are, and the bytes that they take.
func (d *Disk) Kept() (reports int, bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.reports, d.bytes
}

// Safe returns nil if all reports are on the disk, else why not.
func (d *Disk) Safe() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.unsafe
}

// Close tries once more to write what is not on the disk, and gives the directory free. It returns an error
// if reports are lost thereby. Afterwards all that would change something fails.
func (d *Disk) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	var errs []error
	if err := d.flush(); err != nil {
		errs = append(errs, fmt.Errorf("%d reports could be kept in memory only and are lost: %w", len(d.pending), err))
	}
	if d.stateNews && d.unsafe == nil {
		_ = d.begin(nil) // if it fails, results are asked for again
	}
	if err := d.saveMarks(true); err != nil {
		errs = append(errs, fmt.Errorf("save the read position: %w; reports that core has already may be sent again", err))
	}
	d.closeFiles()
	return errors.Join(append(errs, d.unlock())...)
}

func (d *Disk) head() *segment {
	for _, s := range d.segments {
		if s.reports > 0 {
			return s
		}
	}
	return nil
}

func (d *Disk) tail() *segment {
	if len(d.segments) == 0 {
		return nil
	}
	return d.segments[len(d.segments)-1]
}

// remove takes reports out of a segment that is loaded, and returns their ids.
func (d *Disk) remove(s *segment, which func(*record) bool) (ids []string) {
	before := s.records
	s.records = nil
	for _, r := range before {
		if !which(r) {
			s.records = append(s.records, r)
			continue
		}
		ids = append(ids, r.id)
		d.gone(s, r)
	}
	s.dated()
	return ids
}

// dated keeps the time of the first report.
func (s *segment) dated() {
	if len(s.records) > 0 {
		s.oldest = s.records[0].at
	}
}

// gone counts a report that was taken out of a segment's records, and moves the read position.
func (d *Disk) gone(s *segment, r *record) {
	s.reports--
	s.bytes -= r.size()
	d.reports--
	d.bytes -= r.size()
	if !s.retried {
		d.passed(r.number)
	}
}

// passed moves the read position behind a report that is done. They are done in order, but for the
// one that is on its way to core when others are dropped.
func (d *Disk) passed(number uint64) {
	if number == d.marks.except {
		d.marks.except = 0
		return
	}
	d.advance(number+1, 1)
}

// advance moves the read position; so many reports with numbers below the new one are done by that.
func (d *Disk) advance(to, done uint64) {
	m := &d.marks
	if to <= m.position {
		return
	}
	if d.lent != nil && d.lent.number >= m.position && d.lent.number < to {
		m.except = d.lent.number
		done++
	}
	m.gaps -= min(to-m.position-done, m.gaps)
	m.position = to
}

// removeEmpty removes the segments that have no report left, but for the one that is written, and for those that
// have the state: from the last that has all of it (whole) to the end. What comes behind that one may be torn.
func (d *Disk) removeEmpty() {
	last := d.tail()
	state := make(map[*segment]bool)
	for _, s := range slices.Backward(d.segments) {
		if len(d.state) == 0 || s.retried {
			break
		}
		if state[s] = !s.junk; s.whole {
			break
		}
	}
	d.segments = slices.DeleteFunc(d.segments, func(s *segment) bool {
		if s.reports > 0 || s == last && d.current != nil || state[s] {
			return false
		}
		return d.removeFiles(s)
	})
}

// removeFiles removes a segment's files. The read position is saved before, or what is in them would be
// missed at the next opening. It returns false if it is to be tried again.
func (d *Disk) removeFiles(s *segment) bool {
	if !s.retried && d.saveMarks(true) != nil {
		return false
	}
	for _, name := range s.names { // if it stays, it is removed at the next opening
		if s.retried || isFull(d.unsafe) { // and then its space is waited for
			_ = d.files.remove(name)
		} else {
			d.files.discard(name)
		}
	}
	if s.retried { // the file is all that says that it is not done
		_ = d.files.sync()
	}
	return true
}

func (d *Disk) closeFiles() {
	d.closeCurrent()
	if d.marksFile != nil {
		_ = d.marksFile.Close()
		d.marksFile = nil
	}
}

func (d *Disk) closeCurrent() {
	if d.current != nil {
		_ = d.current.Close()
		d.current = nil
	}
}
