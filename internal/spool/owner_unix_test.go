//go:build unix

package spool

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestOpenOfAForeigner: a directory of another user is refused, with both users named, and stays as it is.
func TestOpenOfAForeigner(t *testing.T) {
	t.Parallel()
	dir, owner := "/", 0 // which is root's
	if os.Geteuid() == 0 {
		dir, owner = t.TempDir(), 1
		if err := os.Chown(dir, owner, -1); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(dir, roomy)
	want := fmt.Sprintf("belongs to the user %d, and this poller runs as %d: run it as that user, or chown", owner, os.Geteuid())
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Open: %v, want %q", err, want)
	}
	if after, err := os.ReadDir(dir); err != nil || len(after) != len(before) {
		t.Errorf("there is %v in it, %v; before %v", after, err, before)
	}
}
