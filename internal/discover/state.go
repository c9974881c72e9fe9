package discover

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/serviceradar/poller/internal/check"
)

const stateVersion = 1

// state is what a source leaves for the next process: its last good lists.
type state struct {
	Version int    `json:"version"`
	Source  string `json:"source"`
	// Good is when the source was last looked at without an error before this was written.
	Good  time.Time   `json:"good"`
	Lists []savedList `json:"lists"`
}

type savedList struct {
	From    string   `json:"from"`
	Targets []Target `json:"targets"`
}

// store is the directory of the states, a file for each source.
type store struct {
	dir string     // empty if nothing is kept
	mu  sync.Mutex // held while files are written
}

const stateSuffix = ".json"

// name is the name of a source's file.
func (*store) name(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:16]) + stateSuffix
}

// load returns what a source left, which may be nothing. What is damaged is an error, and of no use.
func (d *store) load(id string) (state, error) {
	if d.dir == "" {
		return state{}, nil
	}
	path := filepath.Join(d.dir, d.name(id))
	content, err := os.ReadFile(path) //nolint:gosec // our own file
	if errors.Is(err, fs.ErrNotExist) {
		return state{}, nil
	}
	var saved state
	if err == nil {
		err = json.Unmarshal(content, &saved)
	}
	if err == nil {
		err = saved.check(id)
	}
	if err != nil {
		return state{}, fmt.Errorf("the last good lists of source %s can't be taken from %s, so only what is found now counts: %w",
			quoted(id), path, err)
	}
	return saved, nil
}

// check returns why a state that was read is not what was written.
func (s *state) check(id string) error {
	switch {
	case s.Version != stateVersion:
		return fmt.Errorf("it has version %d of the format, and this is for version %d", s.Version, stateVersion)
	case s.Source != id:
		return fmt.Errorf("it is of the source %s", quoted(s.Source))
	}
	for _, l := range s.Lists {
		for i := range l.Targets {
			t := &l.Targets[i]
			if wantAddress(t.Address) != "" || (t.Name != t.Address && check.WantName(t.Name) != "") {
				return fmt.Errorf("it is damaged: a target is called %s and is at %s", quoted(t.Name), quoted(t.Address))
			}
		}
	}
	return nil
}

// save writes a state, as a whole or not at all, and returns when it is durable.
func (d *store) save(s *state) error {
	if d.dir == "" {
		return nil
	}
	content, err := json.Marshal(s)
	if err == nil {
		err = d.write(d.name(s.Source), content)
	}
	if err != nil {
		return fmt.Errorf("the lists of source %s are not kept over a restart: %w", quoted(s.Source), err)
	}
	return nil
}

func (d *store) write(name string, content []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.prepare(); err != nil {
		return err
	}
	path := filepath.Join(d.dir, name)
	file, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) //nolint:gosec // our own file
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return syncDirectory(d.dir)
}

// prepare makes the directory, if only that itself is missing.
func (d *store) prepare() error {
	switch err := os.Mkdir(d.dir, 0o700); {
	case errors.Is(err, fs.ErrExist):
		return nil // if it is no directory, that is found out soon enough
	case err != nil:
		return err
	}
	return syncDirectory(filepath.Dir(d.dir))
}

// syncDirectory does nothing on Windows, which can't sync a directory and writes its changes in order.
func syncDirectory(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	dir, err := os.Open(path) //nolint:gosec // our own directory
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// prune removes what other sources left.
func (d *store) prune(ids []string) error {
	if d.dir == "" {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	entries, err := os.ReadDir(d.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var wrong []error
	for _, entry := range entries {
		ours := slices.ContainsFunc(ids, func(id string) bool { return d.name(id) == entry.Name() })
		if !ours && entry.Type().IsRegular() && strings.Contains(entry.Name(), stateSuffix) {
			wrong = append(wrong, os.Remove(filepath.Join(d.dir, entry.Name())))
		}
	}
	return errors.Join(append(wrong, err)...)
}
