package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Entry is something that is in a spool's directory.
type Entry struct {
	// ID is the report's, or that of the part of it that was set aside; for what is damaged a name.
	ID   string
	Kind EntryKind
	// At is when the report took place, Since when it was set aside, Reason why.
	At, Since time.Time
	Reason    string
	// File is where it is, Bytes what it takes there.
	File  string
	Bytes int64
	// Body is what was appended; of what is damaged the bytes as they are.
	Body []byte
}

// EntryKind tells what an Entry is.
type EntryKind string

// The kinds.
const (
	// Kept is a report that waits for core.
	Kept EntryKind = "kept"
	// Again is one that was set aside and is tried again, before all others.
	Again EntryKind = "again"
	// Aside is what core refused for good.
	Aside EntryKind = "aside"
	// Unreadable is what is damaged.
	Unreadable EntryKind = "damaged"
)

// Look shows all that is in a spool's directory: what is kept in the order in which core gets it, then what was set aside. It
// changes nothing, and fails if another process uses the directory. It ends with the first error of each.
func Look(dir string, each func(Entry) error) (err error) {
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("look at the spool: %w", err)
	}
	unlock, err := lockToLook(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	fs, err := openDirectory(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fs.close()) }()
	d := newDisk(fs, Config{})
	in := &inventory{disk: d, damages: make(map[string][]damage)}
	if err := in.take(); err != nil {
		return fmt.Errorf("look at the spool in %s: %w", dir, err)
	}
	for _, s := range slices.Concat(in.retried, in.segments) {
		if err := in.showSegment(s, each); err != nil {
			return err
		}
	}
	for _, f := range d.aside {
		if err := d.showAside(f, each); err != nil {
			return err
		}
	}
	return nil
}

func (in *inventory) showSegment(s *segment, each func(Entry) error) error {
	read := in.disk.readReports
	if s.retried {
		read = func(names []string, _ func(string, []damage)) ([]*record, error) { return in.disk.readSingle(names[0]) }
	}
	records, err := read(s.names, func(string, []damage) {})
	if err != nil {
		return err
	}
	for _, r := range records {
		e := Entry{ID: r.id, Kind: Kept, At: r.at, File: s.names[0], Bytes: r.size(), Body: r.body}
		if s.retried {
			e.Kind, e.Since, e.Reason = Again, r.since, r.reason
		}
		if err := each(e); err != nil {
			return err
		}
	}
	for _, name := range s.names {
		for _, dm := range in.damages[name] {
			id := damageID(name, dm.offset)
			if in.disk.hasAside(id + damageSuffix) {
				continue // where its bytes are, too
			}
			e := Entry{ID: id, Kind: Unreadable, Reason: damageReason(name, dm), File: name, Bytes: int64(len(dm.bytes)), Body: dm.bytes}
			if err := each(e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *Disk) showAside(f asideFile, each func(Entry) error) error {
	b, err := d.files.read(f.name)
	if err != nil {
		return err
	}
	records, _, err := scan(f.name, 0, b)
	if err != nil {
		return err
	}
	if len(records) == 0 {
		return each(Entry{ID: f.id, Kind: Unreadable, Reason: "this file of what was set aside is damaged itself", File: f.name, Bytes: f.size, Body: b})
	}
	r := records[0]
	e := Entry{ID: r.id, Kind: Aside, At: r.at, Since: r.since, Reason: r.reason, File: f.name, Bytes: f.size, Body: r.body}
	if r.kind == kindDamage {
		e.Kind = Unreadable
	}
	return each(e)
}

// Found tells whether a directory has a spool in it. It changes nothing, while Look and Open close a
// directory to others: ask before, if people gave its name.
func Found(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, fmt.Errorf("look for a spool: %w", err)
	}
	return slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		name, suffix := e.Name(), filepath.Ext(e.Name())
		_, _, isSegment := parseSegmentName(name)
		ours := isSegment || name == marksName || suffix == asideSuffix || suffix == damageSuffix || suffix == retrySuffix
		return ours && e.Type().IsRegular()
	}), nil
}
