package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Files are opened by the names that the operator gives them, of which relative ones start at the working
// directory; other than an fs.FS usually does, disk and rooted take such names.

// disk is what the process sees.
type disk struct{}

func (disk) Open(name string) (fs.File, error) {
	return os.Open(name) //nolint:gosec // the operator names the file
}
func (disk) Stat(name string) (fs.FileInfo, error)      { return os.Stat(name) }
func (disk) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }

// rooted takes an fs.FS for the whole disk.
type rooted struct{ fsys fs.FS }

func (r rooted) Open(name string) (fs.File, error)          { return r.fsys.Open(inside(name)) }
func (r rooted) Stat(name string) (fs.FileInfo, error)      { return fs.Stat(r.fsys, inside(name)) }
func (r rooted) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(r.fsys, inside(name)) }

// inside returns the name of a file as the FS of the whole disk wants it.
func inside(name string) string {
	absolute := absolutePath(name)
	name = strings.TrimPrefix(filepath.ToSlash(absolute[len(filepath.VolumeName(absolute)):]), "/")
	return cmp.Or(name, ".")
}

func fileSystem(fsys fs.FS) fs.FS {
	if fsys == nil {
		return disk{}
	}
	return rooted{fsys}
}

// readFile reads a file, but no more than limit bytes of it.
func readFile(from fs.FS, name string, limit int64) (_ []byte, err error) {
	file, err := from.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return io.ReadAll(io.LimitReader(file, limit))
}

// readHint leaves out the path, which the error's reader knows already, and says what to do; gone is what to
// do if there is no such file.
func readHint(err error, gone string) error {
	hint := "check that it is a readable file"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		hint = gone
	case errors.Is(err, fs.ErrPermission):
		hint = "let the user that the poller runs as read it"
	}
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		err = path.Err
	}
	return fmt.Errorf("%w; %s", err, hint)
}

// absolutePath is the name itself if the working directory is not known.
func absolutePath(name string) string {
	if absolute, err := filepath.Abs(name); err == nil {
		return absolute
	}
	return name
}

// errTooMany is the error of a pattern that matches more than a limit.
var errTooMany = errors.New("too many match it")

const globCharacters = `*?[\`

// hasGlob tells whether a path is a pattern.
func hasGlob(path string) bool { return strings.ContainsAny(path, globCharacters) }

// glob returns what matches a pattern of filepath.Match, in the order of the names; nothing, if it has no
// special characters and there is no such file. filepath.Glob would pass over directories that can't be read,
// as if they were empty, and all their agents would be gone. As in a shell, a name that begins with a dot
// is matched only by what begins with one, too: that keeps editors' and Kubernetes' own files out.
func glob(from fs.FS, pattern string, limit int) ([]string, error) {
	if !hasGlob(pattern) {
		if _, err := fs.Stat(from, pattern); err != nil {
			return nil, unlessGone(err)
		}
		return []string{pattern}, nil
	}
	dir, last := filepath.Dir(pattern), filepath.Base(pattern)
	dirs, err := glob(from, dir, limit)
	if err != nil {
		return nil, err
	}
	var matches []string
	for _, dir := range dirs {
		entries, err := list(from, dir)
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			name := entry.Name()
			if strings.HasPrefix(name, ".") && !strings.HasPrefix(last, ".") {
				continue
			}
			switch ok, err := filepath.Match(last, name); {
			case err != nil:
				return nil, err
			case ok && len(matches) == limit:
				return nil, errTooMany
			case ok:
				matches = append(matches, filepath.Join(dir, name))
			}
		}
	}
	return matches, nil
}

// list returns what is in a directory, sorted by name; nothing, if it is gone or no directory.
func list(from fs.FS, dir string) ([]fs.DirEntry, error) {
	info, err := fs.Stat(from, dir)
	if err != nil || !info.IsDir() {
		return nil, unlessGone(err)
	}
	entries, err := fs.ReadDir(from, dir)
	return entries, unlessGone(err)
}

func unlessGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
