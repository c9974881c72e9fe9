package spool

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var scripted = Config{MaxBytes: 16 << 10, MaxAge: time.Hour}

// TestStateOutlivesAllReports: results are not asked for from the beginning because core has all.
func TestStateOutlivesAllReports(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"acknowledged": `
			append a 10 0 x=1 ->
			reopen ->
			drain -> a
			reopen ->
			state -> x=1
			kept -> 0
			reopen ->
			append b 10 0 y=1 ->
			files .seg -> 1
			reopen ->
			state -> x=1 y=1
			drain -> b`,
		"dropped by hand": `
			append a 400 0 x=1 ->
			append b 400 0 ->
			append c 400 0 ->
			reopen ->
			dropall -> 3
			reopen ->
			state -> x=1
			append d 10 0 ->
			drop d ->
			reopen ->
			state -> x=1
			kept -> 0
			files .seg -> 1`,
		"that of what is dropped by hand": `
			append a 10 0 x=1 y=1 ->
			append b 10 0 x=2 ->
			append c 10 0 ->
			drop b ->
			append d 10 0 ->
			reopen ->
			look -> kept:a kept:c kept:d
			state -> x=2 y=1`,
		"that of what is dropped by hand from a file at rest": `
			append a 10 0 x=1 y=1 ->
			append b 10 0 x=2 ->
			append c 10 0 ->
			reopen ->
			drop b ->
			drop a ->
			reopen ->
			look -> kept:c
			state -> x=2 y=1`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			openDisk(t, scripted).run(script)
		})
	}
}

// TestDropTellsNoLoss: what is dropped by hand is not missed at the next opening, even if newer ones went before it.
func TestDropTellsNoLoss(t *testing.T) {
	t.Parallel()
	for step, want := range map[string]string{"dropall": "2", "drop a": ""} {
		d := openDisk(t, scripted)
		d.run(`
			append a 400 0 ->
			append b 400 0 ->
			append c 400 0 ->
			next -> a
			append e 15800 0 -> b c
			reopen ->`)
		d.run(step + " -> " + want)
		d.run("reopen ->")
	}
}

func (d *disk) only(suffix string) string {
	d.t.Helper()
	names := d.list(suffix)
	if len(names) != 1 {
		d.t.Fatalf("%q end with %s", names, suffix)
	}
	return names[0]
}

// change changes a closed spool's file.
func (d *disk) change(path string, change func(content []byte) []byte) {
	d.t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(path, change(content), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

func flip(content []byte) []byte {
	content[len(content)-1] ^= 1
	return content
}

// withAside is a spool with a report that was set aside.
func withAside(t *testing.T) *disk {
	d := openDisk(t, scripted)
	d.run(`
		append a 10 0 ->
		append b 10 0 ->
		next -> a
		aside a no
		ack a`)
	return d
}

func TestRetryOfWhatIsDamagedItself(t *testing.T) {
	t.Parallel()
	d := withAside(t)
	d.change(d.only(asideSuffix), flip)
	id := filepath.Base(d.only(asideSuffix))
	d.run("reopen ->")
	d.run("retry " + id + " -> " + id + " is damaged, and can't be sent to core")
	d.run("reopen ->")
	d.run("files .aside -> 1")
	d.run("drop " + id + " ->")
	d.run("look -> kept:b")
}

// TestRetriedKeepsItsNumber though the marks are lost: nothing replaces it.
func TestRetriedKeepsItsNumber(t *testing.T) {
	t.Parallel()
	d := withAside(t)
	d.run("retry a ->")
	if err := errors.Join(d.Close(), os.Remove(filepath.Join(d.dir, marksName))); err != nil {
		t.Fatal(err)
	}
	d.run(`
		reopen -> Damaged
		next -> a
		aside c never
		retry c ->
		look -> again:a(no) again:c(never) kept:a kept:b`)
}

// TestDamagedRetry: it is shown, set aside once, and can be dropped for good.
func TestDamagedRetry(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func([]byte) []byte{
		"a flipped bit": flip,
		"cut short":     func(b []byte) []byte { return b[:len(b)/2] },
		"empty":         func([]byte) []byte { return nil },
	} {
		d := withAside(t)
		d.run("retry a ->")
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		d.change(d.only(retrySuffix), change)
		var ids []string
		if err := Look(d.dir, func(e Entry) error { ids = append(ids, string(e.Kind)+":"+e.ID); return nil }); err != nil {
			t.Fatal(err)
		}
		id := filepath.Base(d.only(retrySuffix)) + "-0"
		if got, want := strings.Join(ids, " "), "damaged:"+id+" kept:b"; got != want {
			t.Errorf("%s: Look shows %s, want %s", name, got, want)
		}
		d.run("reopen -> Damaged")
		d.run("files .retry -> 0")
		d.run("reopen ->")
		d.run("drop " + id + " ->")
		d.run("reopen ->")
		d.run("look -> kept:b")
	}
}

// TestDamageIsShownOnceAndDropped though the rest of its segment stays.
func TestDamageIsShownOnceAndDropped(t *testing.T) {
	t.Parallel()
	d := openDisk(t, scripted)
	d.run(`
		append a 10 0 x=1 ->
		append b 10 0 ->`)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d.change(d.only(segmentSuffix), flip)
	shown := func() (ids []string) {
		t.Helper()
		if err := Look(d.dir, func(e Entry) error { ids = append(ids, e.ID); return nil }); err != nil {
			t.Fatal(err)
		}
		return ids
	}
	before := shown()
	d.run("reopen -> Damaged Lost")
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if after := shown(); len(before) != 2 || strings.Join(before, " ") != strings.Join(after, " ") {
		t.Errorf("Look shows %q before it is set aside, %q afterwards", before, after)
	}
	d.run("reopen ->")
	d.run("drop " + before[1] + " ->")
	d.run(`
		reopen ->
		look -> kept:a
		state -> x=1
		append c 10 0 ->
		drain -> a c
		reopen ->
		state -> x=1`)
}

func TestFound(t *testing.T) {
	t.Parallel()
	found := func(dir string, want bool) {
		t.Helper()
		if got, err := Found(dir); got != want || err != nil {
			t.Errorf("found in %s: %v, %v", dir, got, err)
		}
	}
	d := withAside(t)
	found(d.dir, true)
	found(filepath.Dir(d.dir), false)
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, lockName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(other, marksName), 0o700); err != nil {
		t.Fatal(err)
	}
	found(other, false)
	for _, suffix := range []string{segmentSuffix, asideSuffix} {
		lone := t.TempDir()
		if err := os.Link(d.only(suffix), filepath.Join(lone, filepath.Base(d.only(suffix)))); err != nil {
			t.Fatal(err)
		}
		found(lone, true)
	}
	if _, err := Found(filepath.Join(other, "none")); err == nil {
		t.Error("found in no directory")
	}
}

// TestDropIsWholeInTwoFiles: a crash came before the first could be removed, and the report is in both.
func TestDropIsWholeInTwoFiles(t *testing.T) {
	t.Parallel()
	d := openDisk(t, scripted)
	d.run(`
		append a 10 0 ->
		reopen ->`)
	first := d.only(segmentSuffix)
	content, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	d.run("append b 10 0 ->")
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(first, content, 0o600); err != nil {
		t.Fatal(err)
	}
	d.run(`
		reopen ->
		files .seg -> 2
		look -> kept:a kept:b
		drop a ->
		reopen ->
		look -> kept:b
		drop b ->
		reopen ->
		files .seg -> 0
		look ->`)
}

// TestDropKeepsTheStateOfADamagedSegment: where it begins, the state was, and that it can't be read is not to be forgotten
// with the bytes.
func TestDropKeepsTheStateOfADamagedSegment(t *testing.T) {
	t.Parallel()
	d := openDisk(t, scripted)
	d.run(`
		append a 400 0 x=1 ->
		append b 400 0 ->
		append c 400 0 y=1 ->
		append e 10 0 ->`)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d.change(d.list(segmentSuffix)[1], func(content []byte) []byte {
		content[headerSize] ^= 1 // of the state
		return content
	})
	d.run(`
		reopen -> Damaged
		state -> x=1 y=1`)
	damaged := strings.TrimSuffix(filepath.Base(d.only(damageSuffix)), damageSuffix)
	d.run("drop " + damaged + " ->")
	d.run(`
		drop a ->
		drop b ->
		reopen ->
		state -> x=1 y=1
		drop c ->
		reopen ->
		state -> x=1 y=1
		look -> kept:e`)
}
