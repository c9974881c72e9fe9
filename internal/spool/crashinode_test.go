package spool

import (
	"bytes"
	"maps"
	"slices"
)

// diskSector is what a disk writes as a whole or not at all.
const diskSector = 512

// inode is a file of crashFiles, whatever its names.
type inode struct {
	name    string // the latest
	links   int
	handles int

	cached []byte               // what is read
	synced []byte               // what outlives a loss of power
	late   map[int]late[[]byte] // by sector; whole sectors
	sizes  []int                // since the last sync that worked
	held   []bool               // the sectors that it has room for on the disk
}

func (i *inode) write(p []byte, off int) {
	if len(p) == 0 {
		return
	}
	end := off + len(p)
	if end > len(i.cached) {
		i.resize(end)
	}
	copy(i.cached[off:], p)
	i.change(off, end)
}

func (i *inode) truncate(size int) {
	before := len(i.cached)
	i.resize(size)
	if size < before {
		i.change(size, before)
	}
}

func (i *inode) resize(size int) {
	i.cached = resize(i.cached, size)
	i.sizes = append(i.sizes, size)
}

// change keeps a version of the sectors that have bytes from..to.
func (i *inode) change(from, to int) {
	if i.late == nil {
		i.late = map[int]late[[]byte]{}
	}
	first, n := from/diskSector, (to-1)/diskSector-from/diskSector+1
	now := make([]byte, n*diskSector)
	copy(now, i.cached[first*diskSector:])
	for k := range n {
		sector := now[k*diskSector : (k+1)*diskSector]
		i.late[first+k] = i.late[first+k].add(sector)
	}
}

// sync makes what is dirty durable.
func (i *inode) sync() {
	i.synced = resize(i.synced, len(i.cached))
	for sector, l := range i.late {
		if l.dirty {
			put(i.synced, sector, l.versions[len(l.versions)-1])
			delete(i.late, sector)
		}
	}
	i.sizes = i.sizes[:0]
}

// giveUp makes what is dirty clean, without having written it.
func (i *inode) giveUp() {
	for sector, l := range i.late {
		i.late[sector] = late[[]byte]{l.versions, false}
	}
}

// afterPowerLoss returns what restart says that there is of the file.
func (i *inode) afterPowerLoss(choose func(n int) int) *inode {
	content := resize(bytes.Clone(i.synced), i.sizeAfter(choose))
	for _, sector := range slices.Sorted(maps.Keys(i.late)) {
		versions := i.late[sector].versions
		if k := choose(len(versions) + 1); k > 0 {
			put(content, sector, versions[k-1])
		}
	}
	// A hole has room from now on, as if it had been written.
	held := slices.Repeat([]bool{true}, (len(content)+diskSector-1)/diskSector)
	return &inode{synced: content, cached: bytes.Clone(content), held: held}
}

func (i *inode) sizeAfter(choose func(n int) int) int {
	if len(i.sizes) == 0 {
		return len(i.synced)
	}
	low, high := min(len(i.synced), slices.Min(i.sizes)), max(len(i.synced), slices.Max(i.sizes))
	between := max(0, (high-1)/diskSector-low/diskSector) // the ends of sectors
	switch k := choose(1 + between + len(i.sizes)); {
	case k == 0:
		return len(i.synced)
	case k <= between:
		return (low/diskSector + k) * diskSector
	default:
		return i.sizes[k-1-between]
	}
}

func (i *inode) clone() *inode {
	versions := make(map[int]late[[]byte], len(i.late))
	for sector, l := range i.late {
		versions[sector] = late[[]byte]{slices.Clone(l.versions), l.dirty}
	}
	return &inode{
		cached: bytes.Clone(i.cached), synced: bytes.Clone(i.synced), late: versions, sizes: slices.Clone(i.sizes), held: slices.Clone(i.held),
	}
}

func (i *inode) sectorsHeld() int {
	n := 0
	for _, held := range i.held {
		if held {
			n++
		}
	}
	return n
}

// put copies a sector to its place, as far as it is within the content.
func put(content []byte, sector int, version []byte) {
	if at := sector * diskSector; at < len(content) {
		copy(content[at:], version)
	}
}

// resize returns b with a size; what is new is zeros.
func resize(b []byte, size int) []byte {
	if before := len(b); size > before {
		b = slices.Grow(b, size-before)[:size]
		clear(b[before:])
	}
	return b[:size]
}
