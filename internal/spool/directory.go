package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gofrs/flock"
)

const lockName = "lock"

// Open opens the spool in a directory, which it makes if only that itself is missing. The directory
// has to belong to the user of this process. It is locked until Close.
func Open(dir string, cfg Config) (*Disk, error) {
	fs, unlock, err := openLocked(dir)
	if err != nil {
		return nil, err
	}
	d, err := open(fs, cfg)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the spool in %s: %w", dir, err), unlock())
	}
	d.unlock = unlock
	return d, nil
}

func openLocked(dir string) (_ *directory, unlock func() error, err error) {
	if err := prepare(dir); err != nil {
		return nil, nil, err
	}
	release, err := lock(dir)
	if err != nil {
		return nil, nil, err
	}
	fs, err := openDirectory(dir)
	if err != nil {
		return nil, nil, errors.Join(err, release())
	}
	return fs, func() error { return errors.Join(fs.close(), release()) }, nil
}

// prepare makes the directory, or makes sure that it is ours alone.
func prepare(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return fmt.Errorf("make the directory of the spool: %w", err)
		}
		return syncDirectory(filepath.Dir(dir)) // which has to know of it
	}
	if err != nil {
		return fmt.Errorf("look at the directory of the spool: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("the spool needs a directory, and %s is none: remove it, or choose another state_dir", dir)
	}
	if owner, ok := ownerOf(info); ok && owner != os.Geteuid() {
		return fmt.Errorf("the directory of the spool, %s, belongs to the user %d, and this poller runs as %d: run it as that user, or chown the directory and all in it",
			dir, owner, os.Geteuid())
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // a directory needs x
			return fmt.Errorf("close the directory of the spool to others: %w", err)
		}
	}
	return nil
}

func syncDirectory(path string) error {
	d, err := openDirectory(path)
	if err != nil {
		return err
	}
	return errors.Join(d.sync(), d.close())
}

// lock keeps other processes out of the directory.
func lock(dir string) (release func() error, err error) {
	path := filepath.Join(dir, lockName)
	l := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	locked, err := l.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock the spool: %w", err)
	}
	if !locked {
		return nil, inUse(dir, path)
	}
	// Only for people: what counts is the lock.
	if err := os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil && !isFull(err) {
		return nil, errors.Join(fmt.Errorf("lock the spool: %w", err), l.Unlock())
	}
	return l.Unlock, nil
}

// lockToLook keeps a poller out of the directory while somebody looks at it, who may be another user, or see it on
// a file system that is read-only.
func lockToLook(dir string) (release func() error, err error) {
	path := filepath.Join(dir, lockName)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return func() error { return nil }, nil // a poller that runs would have made it
	}
	l := flock.New(path, flock.SetFlag(os.O_RDONLY))
	locked, err := l.TryRLock()
	if err != nil {
		return nil, fmt.Errorf("lock the spool: %w", err)
	}
	if !locked {
		return nil, inUse(dir, path)
	}
	return l.Unlock, nil
}

func inUse(dir, path string) error {
	return fmt.Errorf("the spool in %s is in use by %s: stop that first, or give this one another state_dir", dir, holder(path))
}

func holder(path string) string {
	b, err := os.ReadFile(path) //nolint:gosec // our own file
	if pid := strings.TrimSpace(string(b)); err == nil && pid != "" {
		return "the process with pid " + pid
	}
	return "another process"
}
