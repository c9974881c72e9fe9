package spool

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
	"weak"

	"github.com/google/go-cmp/cmp"
)

// disk is a Disk in a test's directory, and what it told.
type disk struct {
	*Disk
	t      *testing.T
	dir    string
	cfg    Config
	events []Event
}

func openDisk(t *testing.T, cfg Config) *disk {
	t.Helper()
	d := &disk{t: t, dir: filepath.Join(t.TempDir(), "spool"), cfg: cfg}
	d.cfg.Tell = func(e Event) { d.events = append(d.events, e) }
	d.reopen()
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func (d *disk) reopen() {
	d.t.Helper()
	if d.Disk != nil {
		if err := d.Close(); err != nil {
			d.t.Errorf("Close: %v", err)
		}
	}
	opened, err := Open(d.dir, d.cfg)
	if err != nil {
		d.t.Fatalf("Open: %v", err)
	}
	d.Disk = opened
}

func (d *disk) append(id string, size int) {
	d.t.Helper()
	if tooOld, noRoom, err := d.Append(id, start, body(id, size), nil); tooOld != nil || noRoom != nil || err != nil {
		d.t.Errorf("append %s: dropped %q and %q, %v", id, tooOld, noRoom, err)
	}
}

// drain acknowledges all, and returns the ids in order.
func (d *disk) drain() (ids []string) {
	d.t.Helper()
	for {
		id, got, ok, err := d.Next()
		if err != nil {
			d.t.Fatalf("Next: %v", err)
		}
		d.wantHolding()
		if !ok {
			return ids
		}
		if string(got) != string(body(id, len(got))) {
			d.t.Errorf("%s has another's body", id)
		}
		ids = append(ids, id)
		d.Ack(id)
	}
}

// TestSegmentsBeginWhenNobodyWaits: in the usual course, where each report is delivered before the next, none has to
// wait for the syncs that a new segment needs.
func TestSegmentsBeginWhenNobodyWaits(t *testing.T) {
	t.Parallel()
	d := openDisk(t, roomy) // segments of 64 KiB
	segments := make(map[string]bool)
	for i := range 100 {
		before := d.tail()
		d.append(fmt.Sprint("r", i), 10_000)
		if i > 0 && d.tail() != before {
			t.Errorf("report %d began a segment", i)
		}
		segments[d.tail().names[0]] = true
		d.drain()
	}
	if n := len(segments); n < 20 || n > 30 {
		t.Errorf("100 reports of 10 kB are in %d segments, want four in each", n)
	}
}

// TestRemovedByHand: when somebody removes the files, or the directory, of a spool that is in use, no report is said to be
// safe that nobody would find.
func TestRemovedByHand(t *testing.T) {
	t.Parallel()
	d := openDisk(t, roomy)
	d.append("a", 10)
	d.append("b", 10)
	for _, name := range d.list("") {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	d.append("c", 10)
	if err := d.Safe(); err != nil || len(d.events) > 0 {
		t.Errorf("Safe: %v; told %+v", err, d.events)
	}
	d.reopen()
	if diff := cmp.Diff([]string{"a", "b", "c"}, d.drain()); diff != "" || len(d.events) > 0 {
		t.Errorf("(-want +got):\n%s; told %+v", diff, d.events)
	}
	d.append("d", 10)
	if err := os.RemoveAll(d.dir); err != nil {
		t.Fatal(err)
	}
	d.append("e", 10)
	if err := d.Safe(); err == nil || d.told() != "PositionUnsafe Unsafe" && d.told() != "Unsafe" {
		t.Errorf("Safe: %v; told %s", err, d.told())
	}
	if diff := cmp.Diff([]string{"d", "e"}, d.drain()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

var roomy = Config{MaxBytes: 1 << 20, MaxAge: time.Hour}

func TestDiskKeepsOrderOverOpenings(t *testing.T) {
	t.Parallel()
	d := openDisk(t, roomy)
	var want []string
	for i := range 500 {
		id := fmt.Sprint("r", i)
		want = append(want, id)
		d.append(id, 1000)
		if i%100 == 99 {
			d.reopen()
		}
	}
	if n, _ := d.Kept(); n != 500 {
		t.Errorf("%d kept", n)
	}
	if diff := cmp.Diff(want, d.drain()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n, bytes := d.Kept(); n != 0 || bytes != 0 {
		t.Errorf("%d reports of %d bytes are kept", n, bytes)
	}
	d.reopen()
	if ids := d.drain(); ids != nil {
		t.Errorf("acknowledged reports came again: %q", ids)
	}
	if len(d.events) > 0 {
		t.Errorf("told: %+v", d.events)
	}
	names, _ := os.ReadDir(d.dir)
	var list []string
	for _, n := range names {
		list = append(list, n.Name())
	}
	t.Log(strings.Join(list, " "))
}

// TestFullDiskIsTriedWhenSpaceBecameFree: not with each report that core takes, for each try takes all that waits in memory.
func TestFullDiskIsTriedWhenSpaceBecameFree(t *testing.T) {
	t.Parallel()
	c := newCrashFiles()
	d, err := open(c, roomy)
	if err != nil {
		t.Fatal(err)
	}
	c.limit(c.usedBytes()+3*int(d.segmentSize), false)
	n := 0
	for ; len(d.pending) < 5; n++ {
		if _, noRoom, err := d.Append(fmt.Sprint("r", n), start, make([]byte, 1000), nil); noRoom != nil || err != nil {
			t.Fatal(noRoom, err)
		}
	}
	for d.Safe() != nil {
		id, _, ok, err := d.Next()
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		steps, files := c.steps(), len(d.segments)
		d.Ack(id)
		if got := c.steps() - steps; len(d.segments) == files && got != 1 {
			t.Errorf("to acknowledge %s takes %d steps, want the one for the read position", id, got)
		}
	}
	if left, _ := d.Kept(); left <= 5 {
		t.Errorf("space became free with a segment, and was used when there were but %d of %d reports", left, n)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// TestDiskThatFailsKeepsWhatIsOnIt: when memory is full, too, the newest go, for to drop others would make no room.
func TestDiskThatFailsKeepsWhatIsOnIt(t *testing.T) {
	t.Parallel()
	c := newCrashFiles()
	d, err := open(c, roomy)
	if err != nil {
		t.Fatal(err)
	}
	d.memoryLimit = 5000
	var refused []string
	for i := range 20 {
		if i == 10 {
			c.fail(fault{ops: opWrite | opCreate})
		}
		_, noRoom, err := d.Append(fmt.Sprint("r", i), start, make([]byte, 1000), nil)
		if err != nil {
			t.Fatal(err)
		}
		refused = append(refused, noRoom...)
	}
	if diff := cmp.Diff([]string{"r14", "r15", "r16", "r17", "r18", "r19"}, refused); diff != "" {
		t.Errorf("dropped (-want +got):\n%s", diff)
	}
	c.mend()
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if n, _ := d.Kept(); n != 14 {
		t.Errorf("%d reports are kept", n)
	}
}

// TestDeliveredIsFree: what is delivered keeps no memory, as otherwise the last report would until the next comes.
func TestDeliveredIsFree(t *testing.T) {
	t.Parallel()
	type queue interface {
		Append(id string, at time.Time, body []byte, state map[string]string) (tooOld, noRoom []string, err error)
		Next() (id string, body []byte, ok bool, err error)
		Ack(id string)
	}
	for name, q := range map[string]queue{"disk": openDisk(t, Config{MaxBytes: 1 << 20, MaxAge: time.Hour}), "memory": NewMemory(Config{MaxBytes: 1 << 20, MaxAge: time.Hour})} {
		var bodies []weak.Pointer[byte]
		for i := range 3 {
			b := body(fmt.Sprint(i), 1000)
			bodies = append(bodies, weak.Make(&b[0]))
			if _, _, err := q.Append(fmt.Sprint(i), start, b, nil); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 3 {
			q.Ack(fmt.Sprint(i))
		}
		runtime.GC()
		for i, b := range bodies {
			if b.Value() != nil {
				t.Errorf("%s: report %d still takes memory", name, i)
			}
		}
		runtime.KeepAlive(q)
	}
}
