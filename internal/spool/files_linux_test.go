package spool

import "testing"

// TestReadOfABadDisk: a file of which the disk can't read anything is no reason not to open a spool. Nothing is mapped at
// the first address of a process, so to read its memory from there fails as a disk does.
func TestReadOfABadDisk(t *testing.T) {
	t.Parallel()
	dir, err := openDirectory("/proc/self")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dir.close() }()
	if content, err := dir.read("mem"); err != nil || len(content) != 0 { // for its size is 0
		t.Errorf("read %d bytes, %v", len(content), err)
	}
}
