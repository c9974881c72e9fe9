package spool

import (
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestOpenClosesToOthers: a directory that others may look into is closed to them, as one that was made by hand.
func TestOpenClosesToOthers(t *testing.T) {
	t.Parallel()
	d := openDisk(t, roomy)
	if err := os.Chmod(d.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	d.reopen()
	if info, err := os.Stat(d.dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory has mode %v, %v", info.Mode(), err)
	}
}

// TestOpenInPlaceOfAFile: what stands where the directory should be is left alone.
func TestOpenInPlaceOfAFile(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/spool"
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, roomy); err == nil || !strings.Contains(err.Error(), path+" is none: remove it") {
		t.Errorf("Open: %v", err)
	}
}

// TestAsideGetsOld: what was set aside goes when it is older than MaxAge, the newest excepted, and that is told.
func TestAsideGetsOld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := openDisk(t, Config{MaxBytes: 1 << 20, MaxAge: time.Hour})
		began := time.Now()
		for _, id := range []string{"a", "b", "c"} {
			if err := d.SetAside(id, []byte("body"), "no"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(31 * time.Minute)
		}
		if diff := cmp.Diff([]Event{AsideDropped{ID: "a", Since: began}}, d.events); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
		if got := d.look(); got != "aside:b(no) aside:c(no)" {
			t.Errorf("there is %s", got)
		}
	})
}

// TestBootGoesByTheClock: in a directory that was lost the boot number does not begin again.
func TestBootGoesByTheClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := uint64(time.Now().Unix())
		d := openDisk(t, roomy)
		if got := d.Boot(); got != began {
			t.Errorf("boot %d at %d", got, began)
		}
		d.reopen()
		if got := d.Boot(); got != began+1 {
			t.Errorf("boot %d at the second opening, within a second of %d", got, began)
		}
	})
}
