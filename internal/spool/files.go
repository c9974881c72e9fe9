package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
)

// files is what a spool needs of its directory. Names are plain file names within it.
type files interface {
	list() ([]fileInfo, error)        // every file in it, in no order
	read(name string) ([]byte, error) // the whole content
	create(name string) (file, error) // a new, empty file; fails if there is one
	open(name string) (file, error)   // an existing one, to be written in place
	rename(from, to string) error     // replaces to
	remove(name string) error
	discard(name string) // removes at some time, if it can; nobody waits for it
	sync() error         // makes creations, renames and removals durable
}

type fileInfo struct {
	name string
	size int64
}

// file is an open file.
type file interface {
	WriteAt(p []byte, off int64) (int, error)
	Truncate(size int64) error
	Sync() error
	Close() error
}

// directory is the directory at a path: the files of a running poller. Nothing outside of it is
// reached, whatever the names and links in it. Its errors say what was tried and on which path, and wrap
// the system's. It is safe for concurrent use.
type directory struct {
	root *os.Root
	path string
	// discarding are the removals that are under way.
	discarding sync.WaitGroup
}

var _ files = (*directory)(nil)

// openDirectory opens a directory that there is. It is closed with close.
func openDirectory(path string) (*directory, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, failed("open directory", path, err)
	}
	return &directory{root: root, path: path}, nil
}

// close waits for what is being discarded.
func (d *directory) close() error {
	d.discarding.Wait()
	return failed("close directory", d.path, d.root.Close())
}

// list leaves out what is no regular file, such as a directory.
func (d *directory) list() ([]fileInfo, error) {
	names, err := d.names()
	if err != nil {
		return nil, failed("list directory", d.path, err)
	}
	infos := make([]fileInfo, 0, len(names))
	for _, name := range names {
		info, err := d.root.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it went meanwhile
		}
		if err != nil {
			return nil, failed("look at", d.at(name), err)
		}
		if info.Mode().IsRegular() {
			infos = append(infos, fileInfo{name: name, size: info.Size()})
		}
	}
	return infos, nil
}

func (d *directory) names() ([]string, error) {
	self, err := d.root.Open(".")
	if err != nil {
		return nil, err
	}
	names, err := self.Readdirnames(-1)
	return names, errors.Join(err, self.Close())
}

func (d *directory) read(name string) ([]byte, error) {
	content, err := d.root.ReadFile(name)
	if errors.Is(err, syscall.EIO) {
		content, err = d.readAround(name)
	}
	return content, failed("read", d.at(name), err)
}

// readAround reads a file of which the disk can't read all: what can't be read is zeros, which no checksum
// takes for anything else.
func (d *directory) readAround(name string) ([]byte, error) {
	f, err := d.root.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	content := make([]byte, info.Size())
	return content, errors.Join(readBlocks(f, content), f.Close())
}

// readBlocks fills b, and leaves out the blocks that can't be read.
func readBlocks(r io.ReaderAt, b []byte) error {
	for offset := 0; offset < len(b); offset += block {
		part := b[offset:min(offset+block, len(b))]
		if _, err := r.ReadAt(part, int64(offset)); errors.Is(err, syscall.EIO) {
			clear(part)
		} else if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	return nil
}

func (d *directory) create(name string) (file, error) {
	return d.openFile("create", name, os.O_CREATE|os.O_EXCL)
}

func (d *directory) open(name string) (file, error) { return d.openFile("open", name, 0) }

func (d *directory) openFile(doing, name string, flag int) (file, error) {
	f, err := d.root.OpenFile(name, os.O_WRONLY|flag, 0o600)
	if err != nil {
		return nil, failed(doing, d.at(name), err)
	}
	return &openFile{file: f, path: d.at(name)}, nil
}

func (d *directory) rename(from, to string) error {
	return failed("rename", d.at(from)+" to "+to, d.root.Rename(from, to))
}

func (d *directory) remove(name string) error {
	return failed("remove", d.at(name), d.root.Remove(name))
}

// discard is for large files: to free their blocks may take a disk longer than to write them.
func (d *directory) discard(name string) {
	d.discarding.Go(func() { _ = d.root.Remove(name) })
}

// sync does nothing on Windows, which can't sync a directory and writes its changes in order.
func (d *directory) sync() error {
	if runtime.GOOS == "windows" {
		return nil
	}
	self, err := d.root.Open(".")
	if err == nil {
		err = errors.Join(self.Sync(), self.Close())
	}
	return failed("sync directory", d.path, err)
}

func (d *directory) at(name string) string { return filepath.Join(d.path, name) }

// errRemoved is the error of a file that somebody removed while it was written.
var errRemoved = errors.New("somebody removed it")

// openFile is a file of a directory.
type openFile struct {
	file *os.File
	path string // when it was opened
}

func (f *openFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.file.WriteAt(p, off)
	return n, failed("write", f.path, err)
}

func (f *openFile) Truncate(size int64) error {
	return failed("truncate", f.path, f.file.Truncate(size))
}

// Sync fails, too, if the file has been removed: nobody would find in it what was written.
func (f *openFile) Sync() error {
	err := f.file.Sync()
	if err == nil {
		err = f.there()
	}
	return failed("sync", f.path, err)
}

func (f *openFile) there() error {
	info, err := f.file.Stat()
	if err != nil {
		return err
	}
	if links, ok := linksTo(info); ok && links == 0 {
		return errRemoved
	}
	return nil
}

func (f *openFile) Close() error { return failed("close", f.path, f.file.Close()) }

// failed tells what could not be done to which path, if err is not nil.
func failed(doing, path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("can't %s %s: %w", doing, path, cause(err))
}

// cause strips what package os adds: its own names for calls, and paths from within the root only.
func cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return e.Err
	}
	return err
}
