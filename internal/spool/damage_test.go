package spool

import (
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// damaged is a small spool at rest: of the reports r0 to r8 in several segments the first is
// acknowledged, and another was set aside.
type damaged struct {
	t     *testing.T
	disk  *crashFiles
	kept  []string
	where map[string][]span // of each file, its reports
}

// span is where a report is in a file.
type span struct {
	id         string
	start, end int
}

var smallConfig = Config{MaxBytes: 6000, MaxAge: time.Hour}

func newDamaged(t *testing.T) *damaged {
	t.Helper()
	s := &damaged{t: t, disk: newCrashFiles(), where: make(map[string][]span)}
	d, err := open(s.disk, smallConfig)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 9 {
		id := fmt.Sprint("r", i)
		if _, noRoom, err := d.Append(id, start, body(id, 60), map[string]string{"k": id}); noRoom != nil || err != nil {
			t.Fatal(noRoom, err)
		}
		if i > 0 {
			s.kept = append(s.kept, id)
		}
	}
	if id, got, ok, err := d.Next(); !ok || err != nil || d.SetAside(id, got, "no") != nil {
		t.Fatal(ok, err)
	}
	d.Ack("r0")
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	segments := 0
	for _, f := range valueOf(s.disk.list()) {
		_, salt, ok := parseSegmentName(f.name)
		if !ok {
			continue
		}
		segments++
		content, _ := s.disk.read(f.name)
		for offset := 0; offset < len(content); {
			r, end, err := scanOne(f.name, salt, content, offset)
			if err != nil {
				t.Fatal(err)
			}
			if r.kind == kindReport {
				s.where[f.name] = append(s.where[f.name], span{r.id, offset, end})
			}
			offset = end
		}
	}
	if segments < 3 {
		t.Fatalf("only %d segments", segments)
	}
	return s
}

func valueOf[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// opened is what a spool comes to.
type opened struct {
	ids     []string
	events  []Event
	lost    int
	files   []string // of Damaged
	content *crashFiles
}

// open opens and delivers all.
func (s *damaged) open(c *crashFiles, what string) (o opened) {
	s.t.Helper()
	cfg := smallConfig
	cfg.Tell = func(e Event) {
		o.events = append(o.events, e)
		switch e := e.(type) {
		case Lost:
			o.lost += e.Reports
		case Damaged:
			o.files = append(o.files, e.File)
			if e.Err != nil || e.Reason == "" {
				s.t.Errorf("%s: %+v", what, e)
			}
		}
	}
	d, err := open(c, cfg)
	if err != nil {
		s.t.Errorf("%s: %v", what, err)
		return o
	}
	for {
		id, got, ok, err := d.Next()
		if err != nil {
			s.t.Errorf("%s: Next: %v", what, err)
			return o
		}
		if !ok {
			break
		}
		if string(got) != string(body(id, 60)) {
			s.t.Errorf("%s: %s has the body %q", what, id, got)
		}
		o.ids = append(o.ids, id)
		d.Ack(id)
	}
	if n, bytes := d.Kept(); n != 0 || bytes != 0 {
		s.t.Errorf("%s: %d reports of %d bytes are kept at the end", what, n, bytes)
	}
	if err := d.Close(); err != nil {
		s.t.Errorf("%s: Close: %v", what, err)
	}
	o.content = c
	return o
}

// missing returns what of the kept did not come, and fails if something came that was not kept: r0 may
// come again if repeat is set.
func (s *damaged) missing(what string, ids []string, repeat bool) (missing []string) {
	s.t.Helper()
	if repeat && len(ids) > 0 && ids[0] == "r0" {
		ids = ids[1:]
	}
	for _, id := range s.kept {
		if len(ids) > 0 && ids[0] == id {
			ids = ids[1:]
			continue
		}
		missing = append(missing, id)
	}
	if len(ids) > 0 {
		s.t.Errorf("%s: these came, invented, again or out of order: %q", what, ids)
	}
	return missing
}

// check opens twice: what is lost by it, and no more, is missing, counted, and told once.
func (s *damaged) check(c *crashFiles, what, file string, lost []string) {
	s.t.Helper()
	asleep, c := c.kill(), c.kill()
	first := s.open(c, what)
	if got := s.missing(what, first.ids, file == marksName); !slices.Equal(got, lost) {
		s.t.Errorf("%s: missing %q, want %q; told %+v", what, got, lost, first.events)
	}
	if first.lost != len(lost) {
		s.t.Errorf("%s: told that %d are lost, not %q: %+v", what, first.lost, lost, first.events)
	}
	if _, _, isSegment := parseSegmentName(file); isSegment {
		s.explained(c, what, first)
	}
	// Without delivering anything: the same is not told at each start.
	if d, err := open(asleep, smallConfig); err != nil || d.Close() != nil {
		s.t.Errorf("%s: %v", what, err)
	}
	if again := s.open(asleep, what); len(again.events) > 0 {
		s.t.Errorf("%s: told again: %+v", what, again.events)
	} else if !slices.Equal(again.ids, first.ids) {
		s.t.Errorf("%s: %q comes at the second opening, not %q", what, again.ids, first.ids)
	}
}

// explained holds that a file says what happened.
func (s *damaged) explained(c *crashFiles, what string, o opened) {
	s.t.Helper()
	for _, name := range o.files {
		records, _, err := scan(name, 0, valueOf(c.read(name)))
		if err != nil || len(records) != 1 || records[0].kind != kindDamage || records[0].reason == "" {
			s.t.Errorf("%s: %s does not say what happened: %+v %v", what, name, records, err)
		}
	}
	if o.lost > 0 && len(o.events) == 0 {
		s.t.Errorf("%s: nothing was told", what)
	}
}

// TestEveryByteFlipped flips each byte of each file of a small spool.
func TestEveryByteFlipped(t *testing.T) {
	t.Parallel()
	s := newDamaged(t)
	tried := 0
	for _, f := range valueOf(s.disk.list()) {
		if f.name == reserveName {
			continue
		}
		for at := range f.size {
			for _, bits := range []byte{0x01, 0x80, 0xff} {
				tried++
				c := s.disk.kill()
				c.flip(f.name, int(at), bits)
				what := fmt.Sprintf("%s, byte %d ^ %#x", f.name, at, bits)
				s.check(c, what, f.name, s.hit(f.name, int(at), int(at)+1))
				if t.Failed() {
					t.FailNow()
				}
			}
		}
	}
	t.Logf("%d flips", tried)
}

// hit returns the kept reports that have a byte in a part of a file.
func (s *damaged) hit(name string, from, to int) (ids []string) {
	for _, sp := range s.where[name] {
		if sp.start < to && from < sp.end && slices.Contains(s.kept, sp.id) {
			ids = append(ids, sp.id)
		}
	}
	return ids
}

// TestEveryLength cuts each file of a small spool off at each length.
func TestEveryLength(t *testing.T) {
	t.Parallel()
	s := newDamaged(t)
	tried := 0
	for _, f := range valueOf(s.disk.list()) {
		if f.name == reserveName {
			continue
		}
		for size := range int(f.size) {
			tried++
			c := s.disk.kill()
			c.cut(f.name, size)
			s.check(c, fmt.Sprintf("%s, cut to %d", f.name, size), f.name, s.hit(f.name, size, int(f.size)))
			if t.Failed() {
				t.FailNow()
			}
		}
	}
	t.Logf("%d lengths", tried)
}

// badSectors can't read some of its bytes.
type badSectors struct {
	content string
	bad     func(at int64) bool
}

func (s badSectors) ReadAt(p []byte, off int64) (int, error) {
	for i := range p {
		at := off + int64(i)
		if at >= int64(len(s.content)) {
			return i, io.EOF
		}
		if s.bad(at) {
			return i, &fs.PathError{Op: "read", Path: "x", Err: syscall.EIO}
		}
		p[i] = s.content[at]
	}
	return len(p), nil
}

// TestBadSectors: what a disk can't read costs what is in that block only.
func TestBadSectors(t *testing.T) {
	t.Parallel()
	content := strings.Repeat("a", 4096) + strings.Repeat("b", 4096) + "c"
	got := make([]byte, len(content))
	if err := readBlocks(badSectors{content, func(at int64) bool { return at == 5000 }}, got); err != nil {
		t.Fatal(err)
	}
	if want := strings.Repeat("a", 4096) + strings.Repeat("\x00", 4096) + "c"; string(got) != want {
		t.Errorf("read %q", got)
	}
}

// TestMissingFile: a segment that somebody removed is noticed.
func TestMissingFile(t *testing.T) {
	t.Parallel()
	s := newDamaged(t)
	for _, f := range valueOf(s.disk.list()) {
		if strings.HasSuffix(f.name, segmentSuffix) {
			c := s.disk.kill()
			if err := c.remove(f.name); err != nil {
				t.Fatal(err)
			}
			s.check(c, f.name+" removed", f.name, s.hit(f.name, 0, int(f.size)))
		}
	}
}
