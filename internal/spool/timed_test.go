package spool

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// slowDisk is a directory whose fsyncs take a second each, also those that fail.
type slowDisk struct{ files }

type slowFile struct{ file }

func (s slowDisk) create(name string) (file, error) { return s.slow(s.files.create(name)) }

func (s slowDisk) open(name string) (file, error) { return s.slow(s.files.open(name)) }

func (s slowDisk) slow(f file, err error) (file, error) {
	if err != nil {
		return nil, err
	}
	return slowFile{f}, nil
}

func (s slowDisk) sync() error {
	time.Sleep(time.Second)
	return s.files.sync()
}

func (f slowFile) Sync() error {
	time.Sleep(time.Second)
	return f.file.Sync()
}

// TestSyncsAreTimed: each fsync is told, of files and of the directory; and while one takes its time, Holding tells what was
// kept before.
func TestSyncsAreTimed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var times []time.Duration
		c := newCrashFiles()
		d, err := open(slowDisk{c}, Config{MaxBytes: 1 << 20, MaxAge: time.Hour, Synced: func(took time.Duration) { times = append(times, took) }})
		if err != nil {
			t.Fatal(err)
		}
		began := len(times)
		at := time.Now()
		appended := make(chan struct{})
		go func() {
			defer close(appended)
			_, _, _ = d.Append("a", at, []byte("body"), nil)
		}()
		time.Sleep(time.Second / 2)
		synctest.Wait()
		if got := d.Holding(); got != (Holding{}) {
			t.Errorf("while the first report is being written, %+v is kept", got)
		}
		<-appended
		if got := d.Holding(); got.Reports != 1 || got.Bytes == 0 || !got.Oldest.Equal(at) {
			t.Errorf("Holding: %+v, want a report of %v", got, at)
		}
		if began == 0 || len(times) != began+2 { // of the segment, which is new, and of the directory
			t.Errorf("%d fsyncs to open, %d to append", began, len(times)-began)
		}
		for _, took := range times {
			if took != time.Second {
				t.Errorf("an fsync took %v, want 1s", took)
			}
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestHoldingAfterDamage: what turns out to be damaged only when it is to be delivered is not said to be kept any more.
func TestHoldingAfterDamage(t *testing.T) {
	t.Parallel()
	d := openDisk(t, roomy)
	for i := range 20 {
		d.append(fmt.Sprint("r", i), 10_000)
	}
	if err := os.Truncate(filepath.Join(d.dir, d.segments[1].names[0]), 15_000); err != nil {
		t.Fatal(err)
	}
	if ids := d.drain(); len(ids) == 20 || len(ids) < 10 { // which looks at Holding each time
		t.Errorf("%d reports are left", len(ids))
	}
	if d.told() != "Damaged Lost" {
		t.Errorf("told: %s", d.told())
	}
}
