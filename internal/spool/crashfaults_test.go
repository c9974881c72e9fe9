package spool

import (
	"fmt"
	"io/fs"
	"math"
	"path"
	"slices"
	"syscall"
)

// op is a kind of operation; as a bit, so that a fault can have several.
type op int

const (
	opCreate op = 1 << iota
	opWrite
	opTruncate
	opSync
	opRename
	opRemove
	opSyncDirectory
	opOpen // this and what follows is no step
	opRead
	opList
	opClose
)

func (o op) String() string {
	return map[op]string{
		opCreate: "create", opWrite: "write", opTruncate: "truncate", opSync: "sync", opRename: "rename", opRemove: "remove",
		opSyncDirectory: "sync directory", opOpen: "open", opRead: "read", opList: "list", opClose: "close",
	}[o]
}

func (o op) failed(name string, err error) error {
	return &fs.PathError{Op: o.String(), Path: name, Err: err}
}

// operation is a step that there was. Of a write, size is how many bytes it was to have.
type operation struct {
	op       op
	name, to string
	size     int
}

func (s operation) String() string {
	text := s.op.String() + " " + s.name
	switch s.op {
	case opWrite:
		text += fmt.Sprintf(", %d bytes", s.size)
	case opRename:
		text += " to " + s.to
	default:
	}
	return text
}

// fault makes operations fail. Where several fit, the first does.
//
// A Sync, or a directory's sync, that fails is as on Linux: what it was to write counts as written. It can be read until
// the power goes, and may be lost then, whatever later syncs say; but a sector, or name, that is changed again is dirty again.
type fault struct {
	ops   op     // of these kinds; 0 is all
	name  string // of files whose latest name is like this (as in path.Match); "" is all. The directory is "."
	from  int    // from this step on
	to    int    // up to this step, itself included; 0 is for ever. What is no step counts as the next one.
	times int    // so often; 0 is always
	done  int    // how many bytes a WriteAt writes all the same; another step is done all the same if it is not 0
	err   error  // what they fail with; nil is EIO
}

func (f *fault) hits(o op, step int, names []string) bool {
	like := func(name string) bool {
		ok, err := path.Match(f.name, name)
		if err != nil {
			panic(err)
		}
		return ok
	}
	return (f.ops == 0 || f.ops&o != 0) && f.from <= step && (f.to == 0 || step <= f.to) &&
		(f.name == "" || slices.ContainsFunc(names, like))
}

// fail adds a fault.
func (c *crashFiles) fail(f fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.err == nil {
		f.err = syscall.EIO
	}
	c.faults = append(c.faults, &f)
}

// mend ends all faults, but not the limit.
func (c *crashFiles) mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = nil
}

// limit bounds what all files together hold, in bytes; below 0 is no bound. Room is taken by whole sectors, when they
// are first written: a WriteAt that needs more than there is writes what fits and fails with ENOSPC. Files that
// are removed and closed, or cut off, give it back. With copyOnWrite a sector that is written in place needs another one for as
// long as the WriteAt takes. Neither names nor holes take room.
func (c *crashFiles) limit(size int, copyOnWrite bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.room, c.copyOnWrite = size/diskSector, copyOnWrite
	if size < 0 {
		c.room = math.MaxInt
	}
}

// usedBytes is what limit bounds.
func (c *crashFiles) usedBytes() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used * diskSector
}

// flip flips bits of the byte at a place of a file on the disk, which must be there. It is meant for files at rest.
func (c *crashFiles) flip(name string, at int, bits byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := c.names[name]
	i.cached[at] ^= bits
	if at < len(i.synced) {
		i.synced[at] ^= bits
	}
}

// cut cuts a file on the disk off at a size below its own. It is meant for files at rest.
func (c *crashFiles) cut(name string, size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := c.names[name]
	i.cached, i.synced = i.cached[:size], i.synced[:min(size, len(i.synced))]
	c.release(i, size)
}

// put lays a file on the disk, in place of what has its name: all of it is durable.
func (c *crashFiles) put(name, content string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := &inode{}
	c.lead(name, i)
	delete(c.late, name)
	c.synced[name] = i
	i.write([]byte(content), 0)
	i.sync()
	c.take(i, 0, len(content))
}

// begin begins a step. It returns how much of its size is to be done, and the error that it ends with.
func (c *crashFiles) begin(o op, size int, names ...string) (int, error) {
	if c.dead {
		return 0, o.failed(names[0], errCrashed)
	}
	c.trace = append(c.trace, operation{op: o, name: names[0], to: names[len(names)-1], size: size})
	if len(c.trace) == c.crash.step {
		c.dead = true
		return min(c.crash.done, size), o.failed(names[0], errCrashed)
	}
	if f := c.fault(o, len(c.trace), names); f != nil {
		return min(f.done, size), o.failed(names[0], f.err)
	}
	return size, nil
}

// refuse returns the error of what is no step.
func (c *crashFiles) refuse(o op, name string) error {
	if c.dead {
		return o.failed(name, errCrashed)
	}
	if f := c.fault(o, len(c.trace)+1, []string{name}); f != nil {
		return o.failed(name, f.err)
	}
	return nil
}

func (c *crashFiles) fault(o op, step int, names []string) *fault {
	for k, f := range c.faults {
		if !f.hits(o, step, names) {
			continue
		}
		if f.times--; f.times == 0 {
			c.faults = slices.Delete(c.faults, k, k+1)
		}
		return f
	}
	return nil
}

// take takes room for n bytes from off on, and returns how many of them have it.
func (c *crashFiles) take(i *inode, off, n int) int {
	free := c.room - c.used
	for sector := off / diskSector; sector*diskSector < off+n; sector++ {
		if missing := sector + 1 - len(i.held); missing > 0 {
			i.held = append(i.held, make([]bool, missing)...)
		}
		if i.held[sector] && !c.copyOnWrite {
			continue
		}
		if free <= 0 {
			return max(0, sector*diskSector-off)
		}
		free--
		if !i.held[sector] {
			i.held[sector] = true
			c.used++
		}
	}
	return n
}

// release gives back the room of what is beyond a size, and all of what nobody can reach any more.
func (c *crashFiles) release(i *inode, size int) {
	if i.links == 0 && i.handles == 0 {
		size = 0
	}
	keep := min((size+diskSector-1)/diskSector, len(i.held))
	c.used -= i.sectorsHeld()
	i.held = i.held[:keep]
	c.used += i.sectorsHeld()
}

// crashFile is an open file of crashFiles.
type crashFile struct {
	files  *crashFiles
	inode  *inode
	closed bool
}

func (f *crashFile) WriteAt(p []byte, off int64) (int, error) {
	f.files.mu.Lock()
	defer f.files.mu.Unlock()
	if err := f.usable(opWrite); err != nil {
		return 0, err
	}
	n, err := f.files.begin(opWrite, len(p), f.inode.name)
	if fits := f.files.take(f.inode, int(off), n); fits < n {
		n = fits
		if err == nil {
			err = opWrite.failed(f.inode.name, syscall.ENOSPC)
		}
	}
	f.inode.write(p[:n], int(off))
	return n, err
}

func (f *crashFile) Truncate(size int64) error {
	f.files.mu.Lock()
	defer f.files.mu.Unlock()
	if err := f.usable(opTruncate); err != nil {
		return err
	}
	done, err := f.files.begin(opTruncate, 1, f.inode.name)
	if done > 0 {
		f.inode.truncate(int(size))
		f.files.release(f.inode, int(size))
	}
	return err
}

func (f *crashFile) Sync() error {
	f.files.mu.Lock()
	defer f.files.mu.Unlock()
	if err := f.usable(opSync); err != nil {
		return err
	}
	done, err := f.files.begin(opSync, 1, f.inode.name)
	switch {
	case done > 0:
		f.inode.sync()
	case !f.files.dead:
		f.inode.giveUp()
	}
	return err
}

// Close is no step, and does not sync.
func (f *crashFile) Close() error {
	f.files.mu.Lock()
	defer f.files.mu.Unlock()
	if err := f.usable(opClose); err != nil {
		return err
	}
	f.closed = true
	f.files.handles--
	f.inode.handles--
	f.files.release(f.inode, len(f.inode.cached))
	return nil
}

func (f *crashFile) usable(o op) error {
	switch {
	case f.files.dead:
		return o.failed(f.inode.name, errCrashed)
	case f.closed:
		return o.failed(f.inode.name, fs.ErrClosed)
	}
	return nil
}
