package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDirectory(t *testing.T) {
	t.Parallel()
	path, d := tempDirectory(t)
	a := must(d.create("a"))(t)
	if _, err := a.WriteAt([]byte("hello world"), 0); err != nil {
		t.Error(err)
	}
	noErrors(t, a.Truncate(5), a.Sync(), a.Close())
	a = must(d.open("a"))(t)
	if n, err := a.WriteAt([]byte("ipp"), 2); n != 3 || err != nil {
		t.Error(n, err)
	}
	noErrors(t, a.Close())
	noErrors(t, must(d.create("b"))(t).Close(), must(d.create("c"))(t).Close(), must(d.create("d"))(t).Close())
	noErrors(t, d.rename("a", "b"), d.rename("c", "e"), d.remove("d"), d.sync())
	// Neither a directory nor a link is a file.
	noErrors(t, os.Mkdir(filepath.Join(path, "f"), 0o700), os.Symlink("b", filepath.Join(path, "g")))

	if got := must(d.read("b"))(t); string(got) != "heipp" {
		t.Errorf("b has %q", got)
	}
	infos := must(d.list())(t)
	slices.SortFunc(infos, func(a, b fileInfo) int { return strings.Compare(a.name, b.name) })
	want := []fileInfo{{"b", 5}, {"e", 0}}
	if diff := cmp.Diff(want, infos, cmp.AllowUnexported(fileInfo{})); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	if mode := must(os.Stat(filepath.Join(path, "e")))(t).Mode(); mode != 0o600 && runtime.GOOS != "windows" {
		t.Errorf("files have mode %v", mode)
	}
	// Where the system shows what is open: to sync and to list leave nothing open but the root.
	handles, _ := filepath.Glob("/proc/self/fd/*")
	handles = slices.DeleteFunc(handles, func(handle string) bool {
		to, err := os.Readlink(handle)
		return err != nil || to != path
	})
	if len(handles) > 1 {
		t.Errorf("the directory is open %d times", len(handles))
	}
}

// TestDirectoryErrors: each says what was tried, on which path, and why it failed, once.
func TestDirectoryErrors(t *testing.T) {
	t.Parallel()
	path, d := tempDirectory(t)
	noErrors(t, os.WriteFile(filepath.Join(path, "there"), nil, 0o600))
	closed := must(d.open("there"))(t)
	noErrors(t, closed.Close())
	ended, err := openDirectory(path)
	noErrors(t, err, ended.close())
	_, notDirectory := openDirectory(filepath.Join(path, "there"))
	_, missing := openDirectory(filepath.Join(path, "gone"))

	at := func(name string) string { return filepath.Join(path, name) }
	second := func(_ any, err error) error { return err }
	for _, tt := range []struct {
		err   error
		begin string // of the message
		is    error
	}{
		{missing, "can't open directory " + at("gone"), fs.ErrNotExist},
		{notDirectory, "can't open directory " + at("there"), nil},
		{second(d.create("there")), "can't create " + at("there"), fs.ErrExist},
		{second(d.create("../out")), "can't create " + filepath.Join(path, "../out"), nil},
		{second(d.open("gone")), "can't open " + at("gone"), fs.ErrNotExist},
		{second(d.read("gone")), "can't read " + at("gone"), fs.ErrNotExist},
		{d.rename("gone", "x"), "can't rename " + at("gone") + " to x", fs.ErrNotExist},
		{d.remove("gone"), "can't remove " + at("gone"), fs.ErrNotExist},
		{second(closed.WriteAt([]byte("x"), 0)), "can't write " + at("there"), fs.ErrClosed},
		{closed.Truncate(0), "can't truncate " + at("there"), fs.ErrClosed},
		{closed.Sync(), "can't sync " + at("there"), fs.ErrClosed},
		{closed.Close(), "can't close " + at("there"), fs.ErrClosed},
		{second(ended.list()), "can't list directory " + path, fs.ErrClosed},
		{ended.sync(), "can't sync directory " + path, fs.ErrClosed},
	} {
		switch {
		case tt.err == nil:
			t.Errorf("no error, want %q", tt.begin)
		case tt.is != nil && !errors.Is(tt.err, tt.is):
			t.Errorf("%v: is not %v", tt.err, tt.is)
		default:
			why, ok := strings.CutPrefix(tt.err.Error(), tt.begin+": ")
			if !ok || why == "" || strings.Contains(why, ": ") {
				t.Errorf("%v: want %q and a reason", tt.err, tt.begin)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(path, "../out")); err == nil {
		t.Error("a file was made outside of the directory")
	}
}

// TestDiscard: what is discarded is gone when the directory is closed at the latest, and what isn't there is no error.
func TestDiscard(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	d := must(openDirectory(path))(t)
	for i := range 10 {
		noErrors(t, must(d.create(fmt.Sprint(i)))(t).Close())
	}
	for i := range 10 {
		d.discard(fmt.Sprint(i))
	}
	d.discard("gone")
	noErrors(t, d.close())
	if left := must(os.ReadDir(path))(t); len(left) != 0 {
		t.Errorf("%d files are left", len(left))
	}
}

func tempDirectory(t *testing.T) (path string, d *directory) {
	t.Helper()
	path = t.TempDir()
	d, err := openDirectory(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { noErrors(t, d.close()) })
	return path, d
}

// must returns what a call returned, and ends the test if it failed: must(f())(t).
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func noErrors(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}
