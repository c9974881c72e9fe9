package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestLookChangesNothing: people may look as another user, or on a file system that is read-only.
func TestLookChangesNothing(t *testing.T) {
	t.Parallel()
	d := openDisk(t, roomy)
	d.append("a", 10)
	if err := errors.Join(d.Close(), os.Remove(filepath.Join(d.dir, lockName)), os.Chmod(d.dir, 0o500)); err != nil {
		t.Fatal(err)
	}
	before := d.list("")
	found := 0
	if err := Look(d.dir, func(Entry) error { found++; return nil }); err != nil || found != 1 {
		t.Errorf("%d entries, %v", found, err)
	}
	info, err := os.Stat(d.dir)
	if after := d.list(""); err != nil || info.Mode().Perm() != 0o500 || !slices.Equal(before, after) {
		t.Errorf("files %q, before %q; mode %v, %v", after, before, info.Mode(), err)
	}
}

// TestLookAtARunningOne is refused, as one that runs is by it.
func TestLookAtARunningOne(t *testing.T) {
	t.Parallel()
	d := openDisk(t, roomy)
	want := fmt.Sprintf("in use by the process with pid %d", os.Getpid())
	if err := Look(d.dir, func(Entry) error { return nil }); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	d.append("a", 10)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	err := Look(d.dir, func(Entry) error {
		_, err := Open(d.dir, roomy)
		return err
	})
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("opened while somebody looks: %v", err)
	}
}

// TestModes: nobody else can read what the checkers said.
func TestModes(t *testing.T) {
	t.Parallel()
	d := openDisk(t, roomy)
	d.append("a", 10)
	info, err := os.Stat(d.dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory has mode %v, %v", info.Mode(), err)
	}
	for _, name := range d.list("") {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", name, info.Mode(), err)
		}
	}
}
