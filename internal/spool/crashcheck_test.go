package spool

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// What a loss of power may leave, at its ends.
var (
	allOld = func(int) int { return 0 }
	allNew = func(n int) int { return n - 1 }
)

// anyOf returns all that a state of the disk comes to after a loss of power, over many seeds.
func anyOf(c *crashFiles) (states []string) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		if state := contents(c.restart(rng.IntN)); !slices.Contains(states, state) {
			states = append(states, state)
		}
	}
	slices.Sort(states)
	return states
}

// contents returns all files with their content: "a=xy b=". A sector of the same byte throughout is one of it, and 0
// stands for the byte 0.
func contents(c *crashFiles) string {
	infos, err := c.list()
	if err != nil {
		return err.Error()
	}
	var files []string
	for _, info := range infos {
		content, err := c.read(info.name)
		if err != nil {
			return err.Error()
		}
		text := info.name + "="
		for sector := range slices.Chunk(content, diskSector) {
			if len(sector) == diskSector && bytes.Count(sector, sector[:1]) == diskSector {
				sector = sector[:1]
			}
			text += strings.ReplaceAll(string(sector), "\x00", "0")
		}
		files = append(files, text)
	}
	slices.Sort(files)
	return strings.Join(files, " ")
}

// sectors returns a sector of each letter.
func sectors(letters string) []byte {
	var b []byte
	for _, letter := range []byte(letters) {
		b = append(b, slices.Repeat([]byte{letter}, diskSector)...)
	}
	return b
}

// writeAt writes sectors from a sector on.
func writeAt(t *testing.T, f file, sector int, letters string) {
	t.Helper()
	if _, err := f.WriteAt(sectors(letters), int64(sector*diskSector)); err != nil {
		t.Error(err)
	}
}

// TestPowerLoss holds all that can be left of a file "a" that has "xy" on the disk, and of others that are not there.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, c *crashFiles, a file)
		want string // all there may be, separated by |
		kill string // and if only the process ends
	}{
		{"nothing", func(*testing.T, *crashFiles, file) {}, "a=xy", "a=xy"},
		{"written in place", func(t *testing.T, _ *crashFiles, a file) {
			writeAt(t, a, 0, "XY")
		}, "a=XY|a=Xy|a=xY|a=xy", "a=XY"},
		{"written in place twice", func(t *testing.T, _ *crashFiles, a file) {
			writeAt(t, a, 1, "1")
			writeAt(t, a, 1, "2")
		}, "a=x1|a=x2|a=xy", "a=x2"},
		{"appended", func(t *testing.T, _ *crashFiles, a file) {
			writeAt(t, a, 2, "zZ")
		}, "a=xy|a=xy0|a=xy00|a=xy0Z|a=xyz|a=xyz0|a=xyzZ", "a=xyzZ"},
		{"synced", func(t *testing.T, _ *crashFiles, a file) {
			writeAt(t, a, 1, "Yz")
			noErrors(t, a.Sync())
		}, "a=xYz", "a=xYz"},
		{"written after the sync", func(t *testing.T, _ *crashFiles, a file) {
			writeAt(t, a, 1, "Yz")
			noErrors(t, a.Sync())
			writeAt(t, a, 1, "?")
		}, "a=x?z|a=xYz", "a=x?z"},
		{"behind a hole", func(t *testing.T, _ *crashFiles, a file) {
			noErrors(t, a.Truncate(diskSector), a.Sync())
			writeAt(t, a, 2, "z")
		}, "a=x|a=x0|a=x00|a=x0z", "a=x0z"},
		{"cut off", func(t *testing.T, _ *crashFiles, a file) {
			noErrors(t, a.Truncate(diskSector))
		}, "a=x|a=x0|a=xy", "a=x"},
		{"cut off and synced", func(t *testing.T, _ *crashFiles, a file) {
			noErrors(t, a.Truncate(diskSector), a.Sync(), a.Truncate(2*diskSector), a.Sync())
		}, "a=x0", "a=x0"},
		{"created", func(t *testing.T, c *crashFiles, _ file) {
			b := must(c.create("b"))(t)
			writeAt(t, b, 0, "b")
			noErrors(t, b.Sync())
		}, "a=xy|a=xy b=b", "a=xy b=b"},
		{"created, the directory synced", func(t *testing.T, c *crashFiles, _ file) {
			b := must(c.create("b"))(t)
			noErrors(t, c.sync())
			writeAt(t, b, 0, "b")
		}, "a=xy b=|a=xy b=0|a=xy b=b", "a=xy b=b"},
		{"removed", func(t *testing.T, c *crashFiles, _ file) { noErrors(t, c.remove("a")) }, "|a=xy", ""},
		{"removed and synced", func(t *testing.T, c *crashFiles, _ file) { noErrors(t, c.remove("a"), c.sync()) }, "", ""},
		{"renamed", func(t *testing.T, c *crashFiles, _ file) { noErrors(t, c.rename("a", "b")) }, "|a=xy|a=xy b=xy|b=xy", "b=xy"},
		{"renamed and synced", func(t *testing.T, c *crashFiles, _ file) { noErrors(t, c.rename("a", "b"), c.sync()) }, "b=xy", "b=xy"},
		{"renamed to itself", func(t *testing.T, c *crashFiles, _ file) { noErrors(t, c.rename("a", "a")) }, "a=xy", "a=xy"},
		{"replaced", func(t *testing.T, c *crashFiles, _ file) {
			b := must(c.create("b"))(t)
			writeAt(t, b, 0, "b")
			noErrors(t, b.Sync(), c.sync(), c.rename("b", "a"))
		}, "a=b|a=b b=b|a=xy|a=xy b=b", "a=b"},
		{"replaced without a sync of the new file", func(t *testing.T, c *crashFiles, _ file) {
			b := must(c.create("b"))(t)
			writeAt(t, b, 0, "b")
			noErrors(t, c.rename("b", "a"), c.sync())
		}, "a=|a=0|a=b", "a=b"},
		{"a failed sync", func(t *testing.T, c *crashFiles, a file) {
			c.fail(fault{ops: opSync, times: 1})
			writeAt(t, a, 2, "z")
			if err := a.Sync(); !errors.Is(err, syscall.EIO) {
				t.Error(err)
			}
			noErrors(t, a.Sync()) // as if all were well
		}, "a=xy0|a=xyz", "a=xyz"},
		{"a failed sync, and the sector written again", func(t *testing.T, c *crashFiles, a file) {
			c.fail(fault{ops: opSync, times: 1})
			writeAt(t, a, 0, "XY")
			if err := a.Sync(); err == nil {
				t.Error("no error")
			}
			writeAt(t, a, 1, "!")
			noErrors(t, a.Sync())
		}, "a=X!|a=x!", "a=X!"},
		{"a failed sync of the directory", func(t *testing.T, c *crashFiles, _ file) {
			c.fail(fault{ops: opSyncDirectory, times: 1})
			_ = must(c.create("b"))(t)
			if err := c.sync(); !errors.Is(err, syscall.EIO) {
				t.Error(err)
			}
			_ = must(c.create("c"))(t)
			noErrors(t, c.sync())
		}, "a=xy b= c=|a=xy c=", "a=xy b= c="},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCrashFiles()
			c.put("a", string(sectors("xy")))
			tt.do(t, c, must(c.open("a"))(t))
			live, killed := contents(c), c.kill()
			if got := contents(killed); got != tt.kill || got != live {
				t.Errorf("after a kill %q, before it %q, want %q", got, live, tt.kill)
			}
			for name, disk := range map[string]*crashFiles{"disk": c, "disk of a killed process": killed} {
				if got := strings.Join(anyOf(disk), "|"); got != tt.want {
					t.Errorf("%s may have %q\nwant %q", name, got, tt.want)
				}
			}
			states := anyOf(c)
			for _, end := range []func(int) int{allOld, allNew} {
				if got := contents(c.restart(end)); !slices.Contains(states, got) {
					t.Errorf("%q is no state", got)
				}
			}
		})
	}
}

// TestCrashPoints crashes at each step of a small job.
func TestCrashPoints(t *testing.T) {
	t.Parallel()
	job := func(c *crashFiles) {
		a, err := c.create("a")
		if err != nil {
			return
		}
		_, _ = a.WriteAt([]byte("hello"), 0)
		_ = a.Truncate(4)
		_ = a.Sync()
		_ = c.rename("a", "b")
		_ = c.sync()
		_ = c.remove("b")
		_ = a.Close()
	}
	whole := newCrashFiles()
	job(whole)
	// What is there after a kill, and what is safe: the step not done, and done.
	want := []struct{ step, kill, safe, killDone, safeDone string }{
		{"create a", "", "", "a=", ""},
		{"write a, 5 bytes", "a=", "", "a=he", ""},
		{"truncate a", "a=hello", "", "a=hell", ""},
		{"sync a", "a=hell", "", "a=hell", ""},
		{"rename a to b", "a=hell", "", "b=hell", ""},
		{"sync directory .", "b=hell", "", "b=hell", "b=hell"},
		{"remove b", "b=hell", "b=hell", "", "b=hell"},
	}
	if whole.steps() != len(want) || whole.openFiles() != 0 {
		t.Fatalf("%d steps, %d files open", whole.steps(), whole.openFiles())
	}
	for k, w := range want {
		if got := whole.describe(k + 1); !strings.HasSuffix(got, ": "+w.step) {
			t.Errorf("%s, want %s", got, w.step)
		}
		for done, want := range map[int][2]string{0: {w.kill, w.safe}, 2: {w.killDone, w.safeDone}} {
			c := newCrashFiles()
			c.crashAt(k+1, done)
			job(c)
			if c.steps() != k+1 {
				t.Errorf("%d steps before a crash at step %d", c.steps(), k+1)
			}
			if got := [2]string{contents(c.kill()), contents(c.restart(allOld))}; got != want {
				t.Errorf("%s, %d done: left are %q, want %q", w.step, done, got, want)
			}
			if err := c.sync(); !errors.Is(err, errCrashed) {
				t.Error(err)
			}
		}
	}
}

// TestSyncAfterKill: a crash in a sync is none that failed. The next process's sync makes all durable, but what
// an earlier one failed to write.
func TestSyncAfterKill(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		stop func(c *crashFiles)
		want string
	}{
		{func(*crashFiles) {}, "a= b=x"},
		{func(c *crashFiles) { c.crashAt(c.steps()+1, 0) }, "a= b=x"},
		{func(c *crashFiles) { c.fail(fault{}) }, "a=0"},
	} {
		c := newCrashFiles()
		a := must(c.create("a"))(t)
		noErrors(t, c.sync())
		writeAt(t, a, 0, "x")
		noErrors(t, c.rename("a", "b"))
		_ = must(c.create("a"))(t)
		for _, sync := range []func(*crashFiles, file) error{
			func(c *crashFiles, _ file) error { return c.sync() },
			func(_ *crashFiles, f file) error { return f.Sync() },
		} {
			now := c.kill()
			f := must(now.open("b"))(t)
			tt.stop(now)
			_ = sync(now, f)
			c = now
		}
		c = c.kill()
		noErrors(t, must(c.open("b"))(t).Sync(), c.sync())
		if got := contents(c.restart(allOld)); got != tt.want {
			t.Errorf("left is %q, want %q", got, tt.want)
		}
	}
}

// TestTwoNames: a renamed file that has both names after a loss of power is still one.
func TestTwoNames(t *testing.T) {
	t.Parallel()
	c := newCrashFiles()
	c.put("a", string(sectors("xy")))
	noErrors(t, c.rename("a", "b"))
	names := 0
	c = c.restart(func(int) int { names++; return names - 1 }) // a as it was, b as it became
	writeAt(t, must(c.open("a"))(t), 1, "Y")
	if got := contents(c); got != "a=xY b=xY" || c.usedBytes() != 2*diskSector {
		t.Errorf("left is %q, of %d bytes", got, c.usedBytes())
	}
}

func TestDead(t *testing.T) {
	t.Parallel()
	for _, end := range []func(*crashFiles){
		func(c *crashFiles) { c.kill() },
		func(c *crashFiles) { c.restart(allNew) },
	} {
		c := newCrashFiles()
		a := must(c.create("a"))(t)
		end(c)
		second := func(_ any, err error) error { return err }
		for k, err := range []error{
			second(c.create("a")), second(c.open("a")), second(c.read("a")), second(c.list()), c.rename("a", "b"), c.remove("a"), c.sync(),
			second(a.WriteAt([]byte("x"), 0)), a.Truncate(0), a.Sync(), a.Close(),
		} {
			if !errors.Is(err, errCrashed) {
				t.Errorf("operation %d of dead files: %v", k, err)
			}
		}
	}
}

// TestAlike: what a directory refuses, these files refuse, and alike.
func TestAlike(t *testing.T) {
	t.Parallel()
	_, onDisk := tempDirectory(t)
	for _, d := range []files{onDisk, newCrashFiles()} {
		a := must(d.create("a"))(t)
		noErrors(t, a.Close())
		second := func(_ any, err error) error { return err }
		for _, tt := range []struct{ err, want error }{
			{second(d.create("a")), fs.ErrExist},
			{second(d.open("b")), fs.ErrNotExist},
			{second(d.read("b")), fs.ErrNotExist},
			{d.rename("b", "c"), fs.ErrNotExist},
			{d.remove("b"), fs.ErrNotExist},
			{second(a.WriteAt([]byte("x"), 0)), fs.ErrClosed},
			{a.Truncate(0), fs.ErrClosed},
			{a.Sync(), fs.ErrClosed},
			{a.Close(), fs.ErrClosed},
			{d.rename("a", "a"), nil},
		} {
			if !errors.Is(tt.err, tt.want) {
				t.Errorf("%T: %v, want %v", d, tt.err, tt.want)
			}
		}
	}
}

// BenchmarkCrashFiles is a report's share: it is appended and synced, and a mark is written in place.
func BenchmarkCrashFiles(b *testing.B) {
	c := newCrashFiles()
	a, _ := c.create("a")
	marks, _ := c.create("marks")
	report, mark := make([]byte, 300), make([]byte, diskSector)
	for n := 0; b.Loop(); n++ {
		_, _ = a.WriteAt(report, int64(n%1000*len(report)))
		_ = a.Sync()
		_, _ = marks.WriteAt(mark, int64(n%2*diskSector))
	}
}
