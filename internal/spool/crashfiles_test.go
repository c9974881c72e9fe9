package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
)

// errCrashed is what every operation fails with once the power, or the process, is gone.
var errCrashed = errors.New("crashed")

// crashFiles are the files of a directory on a disk that fails in the ways that disks do, in memory.
//
// Names and contents are kept apart, as in a file system: a name leads to a file. Of each there is what
// is read (the page cache) and what is synced; in between there is what is late. A loss of power (restart)
// takes what is late, or part of it, and nothing that is synced. The end of the process (kill) takes nothing.
//
// All that changes or syncs something is a step: create, WriteAt, Truncate, Sync, rename, remove, sync. They are
// numbered from 1. What is refused for itself (no such file, a closed file) is no step.
//
// It is safe for concurrent use; the same calls in the same order come to the same.
type crashFiles struct {
	mu     sync.Mutex
	names  map[string]*inode // as they are read
	synced map[string]*inode // as they outlive a loss of power
	late   map[string]late[*inode]

	trace  []operation
	crash  crash
	dead   bool
	faults []*fault

	room        int // in sectors, for all files
	used        int
	copyOnWrite bool
	handles     int
}

// crash is when the crash is to be.
type crash struct{ step, done int }

// late is what came since the last sync that worked: what is read last, then what was read
// between, any of which the disk may have. A sync that works settles it, if it is dirty. A sync
// that failed leaves it clean: nothing will write it any more.
type late[T any] struct {
	versions []T
	dirty    bool
}

func (l late[T]) add(v T) late[T] { return late[T]{append(l.versions, v), true} }

func newCrashFiles() *crashFiles {
	return &crashFiles{
		names: map[string]*inode{}, synced: map[string]*inode{}, late: map[string]late[*inode]{}, room: math.MaxInt,
	}
}

var _ files = (*crashFiles)(nil)

// steps is how many steps there were.
func (c *crashFiles) steps() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.trace)
}

// describe says what a step was, for a failing test.
func (c *crashFiles) describe(n int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprintf("step %d: %v", n, c.trace[n-1])
}

// openFiles is how many files are open.
func (c *crashFiles) openFiles() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.handles
}

// crashAt makes the crash happen at a step to come. Of a WriteAt the first done bytes are still written; another step
// is still done if done is not 0. Its caller never hears of that: it and all others get errCrashed.
func (c *crashFiles) crashAt(step, done int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.crash = crash{step, done}
}

// restart returns what is there after a loss of power, all of it synced. These files are dead from then on,
// crashed before or not; restart may be called again, for something else that the same loss may leave.
// choose(n) returns one of [0,n): 0 keeps what was synced, n-1 what was written last. Anything deterministic will do,
// such as IntN of a rand.Rand. Independently of one another:
//   - a name leads where it led at the last sync, or where it ever led since then (so a renamed file may have both
//     names, or none, and both may lead to the same file),
//   - a sector (512 bytes) of a file is as it was at any time since the last sync; zeros, if it had never been there,
//   - a file has a size that it had since the last sync, or ends with a sector in between.
//
// The room stays as it is; faults do not.
func (c *crashFiles) restart(choose func(n int) int) *crashFiles {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead = true
	next := newCrashFiles()
	after := map[*inode]*inode{}
	names := maps.Clone(c.synced)
	for _, name := range slices.Sorted(maps.Keys(c.late)) {
		versions := c.late[name].versions
		if k := choose(len(versions) + 1); k > 0 {
			names[name] = versions[k-1]
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		before := names[name]
		if before == nil {
			continue
		}
		if after[before] == nil {
			after[before] = before.afterPowerLoss(choose)
		}
		next.names[name], next.synced[name] = after[before], after[before]
	}
	next.inherit(c)
	return next
}

// kill returns what is there after the end of the process: everything that was written, but what was not synced
// may still be lost with the power. These files are dead from then on; kill and restart may be called again. The room
// stays as it is; faults do not.
func (c *crashFiles) kill() *crashFiles {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead = true
	next := newCrashFiles()
	clones := map[*inode]*inode{nil: nil}
	clone := func(i *inode) *inode {
		if _, done := clones[i]; !done {
			clones[i] = i.clone()
		}
		return clones[i]
	}
	for name, i := range c.names {
		next.names[name] = clone(i)
	}
	for name, i := range c.synced {
		next.synced[name] = clone(i)
	}
	for name, l := range c.late {
		versions := make([]*inode, len(l.versions))
		for k, i := range l.versions {
			versions[k] = clone(i)
		}
		next.late[name] = late[*inode]{versions, l.dirty}
	}
	next.inherit(c)
	return next
}

// inherit takes over the disk's room, and counts what the files here use of it.
func (c *crashFiles) inherit(from *crashFiles) {
	c.room, c.copyOnWrite = from.room, from.copyOnWrite
	for _, name := range slices.Sorted(maps.Keys(c.names)) {
		i := c.names[name]
		i.name = name
		if i.links++; i.links == 1 {
			c.used += i.sectorsHeld()
		}
	}
}

func (c *crashFiles) list() ([]fileInfo, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.refuse(opList, "."); err != nil {
		return nil, err
	}
	infos := make([]fileInfo, 0, len(c.names))
	for name, i := range c.names {
		infos = append(infos, fileInfo{name: name, size: int64(len(i.cached))})
	}
	// In the same order each time, but not in one that a user could rely on.
	slices.SortFunc(infos, func(a, b fileInfo) int { return strings.Compare(b.name, a.name) })
	return infos, nil
}

func (c *crashFiles) read(name string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, err := c.find(opRead, name)
	if err == nil {
		err = c.refuse(opRead, name)
	}
	if err != nil {
		return nil, err
	}
	return append([]byte{}, i.cached...), nil
}

func (c *crashFiles) create(name string) (file, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.names[name] != nil && !c.dead {
		return nil, opCreate.failed(name, fs.ErrExist)
	}
	done, err := c.begin(opCreate, 1, name)
	i := &inode{}
	if done > 0 {
		c.lead(name, i)
	}
	return c.handle(i, err)
}

func (c *crashFiles) open(name string) (file, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, err := c.find(opOpen, name)
	if err == nil {
		err = c.refuse(opOpen, name)
	}
	return c.handle(i, err)
}

func (c *crashFiles) handle(i *inode, err error) (file, error) {
	if err != nil {
		return nil, err
	}
	i.handles++
	c.handles++
	return &crashFile{files: c, inode: i}, nil
}

func (c *crashFiles) rename(from, to string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, err := c.find(opRename, from)
	if err != nil {
		return err
	}
	done, err := c.begin(opRename, 1, from, to)
	if done > 0 && from != to {
		c.lead(to, i)
		c.lead(from, nil)
	}
	return err
}

func (c *crashFiles) remove(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.find(opRemove, name); err != nil {
		return err
	}
	done, err := c.begin(opRemove, 1, name)
	if done > 0 {
		c.lead(name, nil)
	}
	return err
}

func (c *crashFiles) discard(name string) { _ = c.remove(name) }

// sync that fails is as a file's: what was changed is never made durable by a later one.
func (c *crashFiles) sync() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	done, err := c.begin(opSyncDirectory, 1, ".")
	if c.dead && done == 0 {
		return err
	}
	for name, l := range c.late {
		switch {
		case done == 0:
			c.late[name] = late[*inode]{l.versions, false}
		case l.dirty:
			c.synced[name] = c.names[name] // nil, if it is gone
			delete(c.late, name)
		}
	}
	return err
}

// find returns the file that a name leads to.
func (c *crashFiles) find(o op, name string) (*inode, error) {
	if c.dead {
		return nil, o.failed(name, errCrashed)
	}
	if i := c.names[name]; i != nil {
		return i, nil
	}
	return nil, o.failed(name, fs.ErrNotExist)
}

// lead makes a name lead to a file, or to nil: nowhere.
func (c *crashFiles) lead(name string, to *inode) {
	before := c.names[name]
	if c.names[name] = to; to == nil {
		delete(c.names, name)
	} else {
		to.name = name
		to.links++
	}
	if before != nil {
		before.links--
		c.release(before, len(before.cached))
	}
	c.late[name] = c.late[name].add(to)
}
