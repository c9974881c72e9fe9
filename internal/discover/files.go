package discover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// files reads the documents of a source's files.
type files struct {
	named []string // without a pattern
	// patterns are for the files of a directory, by the directory.
	patterns map[string][]string
	memos    map[string]*memo // by path
}

func newFiles(paths []string) *files {
	f := &files{patterns: make(map[string][]string), memos: make(map[string]*memo)}
	for _, path := range paths {
		path = filepath.Clean(path)
		if dir, name := filepath.Split(path); isPattern(name) {
			f.patterns[dir] = append(f.patterns[dir], name)
		} else {
			f.named = append(f.named, path)
		}
	}
	return f
}

// read returns what a look at now came to, by path. What is wrong with all files of a directory is by the directory.
// Of the paths that are known, those that are gone are in it, too; those in such a directory are not.
func (f *files) read(_ context.Context, known []string, now time.Time) map[string]sighting {
	seen := make(map[string]sighting)
	for _, path := range f.named {
		seen[path] = f.file(path, now)
	}
	for dir := range f.patterns {
		paths, err := f.list(dir)
		if err != nil {
			seen[dir] = sighting{err: err}
		}
		for _, path := range paths {
			if _, named := seen[path]; !named {
				seen[path] = f.file(path, now)
			}
		}
	}
	for _, path := range known {
		dir, _ := filepath.Split(path)
		if _, there := seen[path]; !there && seen[dir].err == nil {
			seen[path] = sighting{settled: true, gone: true}
			delete(f.memos, path)
		}
	}
	return seen
}

// covers tells whether a document is one of the source's.
func (f *files) covers(path string) bool {
	dir, name := filepath.Split(path)
	return slices.Contains(f.named, path) || matches(f.patterns[dir], name)
}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		ok, err := filepath.Match(pattern, name)
		return ok && err == nil
	})
}

// list returns the files of a directory that its patterns match. Unlike filepath.Glob it tells a directory that can't
// be read from one that has none; and one that has none is an error, too, for so looks a volume that is not mounted.
func (f *files) list(dir string) (paths []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		err = explainFile(err, "directory")
	}
	for _, entry := range entries {
		if matches(f.patterns[dir], entry.Name()) {
			paths = append(paths, filepath.Join(dir, entry.Name()))
		}
	}
	if err == nil && len(paths) == 0 {
		err = errors.New("no file matches, as if a volume were not mounted; to have no targets, let there be a file with the list []")
	}
	if err != nil {
		return nil, fmt.Errorf("target files %s: %w", filepath.Join(dir, strings.Join(f.patterns[dir], ", ")), err)
	}
	return paths, nil
}

func (f *files) file(path string, now time.Time) sighting {
	document, changed, err := readFile(path)
	if err != nil {
		return sighting{err: fmt.Errorf("target file %s: %w", path, err)}
	}
	m := f.memos[path]
	if m == nil {
		m = new(memo)
		f.memos[path] = m
	}
	format, _ := formatOf(path)
	targets, err := m.parse(document, format, map[string]string{"__meta_filepath": path})
	if err != nil {
		return sighting{err: fmt.Errorf("target file %s: %w", path, err)}
	}
	// A clock that is behind the file's must not keep it unsettled.
	return sighting{targets: targets, settled: now.Sub(changed).Abs() >= settleFor}
}

// readFile returns a file's content, and when it was changed.
func readFile(path string) (content []byte, changed time.Time, err error) {
	// Looked at before it is opened: to open a pipe would wait for its other end.
	info, err := os.Stat(path)
	if err != nil {
		return nil, time.Time{}, explainFile(err, "file")
	}
	if !info.Mode().IsRegular() {
		return nil, time.Time{}, errors.New("it is not a regular file: name one, or a pattern that passes it over")
	}
	file, err := os.Open(path) //nolint:gosec // the operator chooses the file
	if err != nil {
		return nil, time.Time{}, explainFile(err, "file")
	}
	content, err = io.ReadAll(io.LimitReader(file, maxDocument+1))
	if err == nil {
		info, err = file.Stat() // again: it may have been written to meanwhile
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, time.Time{}, explainFile(err, "file")
	}
	return content, info.ModTime(), nil
}

// explainFile says what to do; its caller names the path.
func explainFile(err error, kind string) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok && path.Err != nil {
		err = path.Err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no such %s: check the path, or whether its volume is mounted: %w", kind, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("no permission to read the %s: let the user that this process runs as read it: %w", kind, err)
	}
	return fmt.Errorf("the %s can't be read: %w", kind, err)
}
