// Package watch tells when files may have changed.
//
// What it promises: whoever follows a file is told after its content, or whatever leads to it, was changed, replaced, removed
// or brought about: also if it is a link, or lies below one, as where Kubernetes mounts a volume and exchanges a link to all of
// its files at once. It may tell in vain. It does not tell on file systems whose changes the kernel does not hear of, such as
// NFS; so callers also look by themselves, now and then. Nothing runs while nothing changes.
package watch

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/fsnotify/fsnotify"
)

// mostLinks bounds the links that lead to one file, as the kernel does.
const mostLinks = 40

// Watch follows files. It is safe for concurrent use.
type Watch struct {
	changed func(name string)
	failed  func(error)
	kernel  *fsnotify.Watcher
	ended   chan struct{} // closed when nothing more is told

	mu       sync.Mutex
	names    map[string]bool // whatever leads to a file, and the file
	patterns []string
	dirs     map[string]bool // that are watched
}

// New returns a Watch that follows nothing yet. Changed is called after each change with what changed, with
// nothing when some were missed, of which failed is told; neither may call the Watch.
func New(changed func(name string), failed func(error)) (*Watch, error) {
	kernel, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch files: %w; on Linux fs.inotify.max_user_instances may be too low", err)
	}
	w := &Watch{changed: changed, failed: failed, kernel: kernel, ended: make(chan struct{}), dirs: make(map[string]bool)}
	go w.run()
	return w, nil
}

// Close ends it; nothing is told any more when it returns.
func (w *Watch) Close() error {
	err := w.kernel.Close()
	<-w.ended
	return err
}

// Follow follows these files from now on, and those that patterns match, and no others. All are absolute paths; patterns are as
// filepath.Match has them. Nothing needs to exist. What can't be watched is returned as one error, and the rest is followed.
// Call it again after a change: what leads to a file may be another by then.
func (w *Watch) Follow(files, patterns []string) error {
	names := make(map[string]bool)
	dirs := make(map[string]bool)
	for _, file := range files {
		for _, name := range leading(file) {
			names[name] = true
			dirs[filepath.Dir(name)] = true
		}
	}
	for _, pattern := range patterns {
		for _, dir := range patternDirs(pattern) {
			for _, name := range leading(dir) {
				names[name] = true
				dirs[filepath.Dir(name)] = true
			}
			dirs[dir] = true
		}
		matches, _ := filepath.Glob(pattern) // a pattern that is wrong matches nothing
		for _, file := range matches {
			for _, name := range leading(file) {
				names[name] = true
				dirs[filepath.Dir(name)] = true
			}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.names, w.patterns = names, slices.Clone(patterns)
	for dir := range w.dirs {
		if !dirs[dir] {
			delete(w.dirs, dir)
			_ = w.kernel.Remove(dir) // it may be gone, and the kernel's watch with it
		}
	}
	var errs []error
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		// Also those that are watched: another directory may have that name by now.
		if err := w.kernel.Add(dir); err == nil {
			w.dirs[dir] = true
		} else if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, fsnotify.ErrClosed) { // then what would lead to it is watched
			errs = append(errs, fmt.Errorf("watch directory %s for changes: %w", dir, err))
		}
	}
	return errors.Join(errs...)
}

// leading returns the links that lead to a file, and the file itself as it is without them; up to the first that is not there.
func leading(file string) []string {
	var names []string
	at, rest := string(filepath.Separator), parts(file)
	for links := 0; len(rest) > 0 && links < mostLinks; {
		next := filepath.Join(at, rest[0]) // which takes .. for what it is: at has no links in it
		rest = rest[1:]
		info, err := os.Lstat(next)
		if err != nil {
			return append(names, next)
		}
		if info.Mode()&os.ModeSymlink == 0 {
			at = next
			continue
		}
		links++
		names = append(names, next)
		target, err := os.Readlink(next)
		if err != nil {
			return names
		}
		if filepath.IsAbs(target) {
			at = string(filepath.Separator)
		}
		rest = append(parts(target), rest...)
	}
	return append(names, at)
}

func parts(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == filepath.Separator })
}

// patternDirs returns the directories in which files may be that a pattern matches, and those in which such may come about.
func patternDirs(pattern string) []string {
	dir := filepath.Dir(pattern)
	if !strings.ContainsAny(dir, `*?[\`) {
		return []string{dir}
	}
	dirs, _ := filepath.Glob(dir) // a pattern that is wrong matches nothing
	return append(dirs, patternDirs(dir)...)
}

func (w *Watch) run() {
	defer close(w.ended)
	for {
		select {
		case event, ok := <-w.kernel.Events:
			if !ok {
				return
			}
			if w.concerns(event.Name) {
				w.changed(event.Name)
			}
		case err, ok := <-w.kernel.Errors:
			if !ok {
				return
			}
			// Such as that there were more changes at once than the kernel keeps.
			w.failed(fmt.Errorf("watch files for changes: %w", err))
			w.changed("")
		}
	}
}

func (w *Watch) concerns(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.names[name] {
		return true
	}
	for _, pattern := range w.patterns {
		for p := pattern; p != filepath.Dir(p); p = filepath.Dir(p) { // or a directory that it matches
			if matches, _ := filepath.Match(p, name); matches {
				return true
			}
		}
	}
	return false
}
