package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/serviceradar/poller/config"
)

// StateDir returns the directory that the configuration means: empty if nothing is kept on disk.
func StateDir(cfg *config.Config) (string, error) {
	dir, _, err := stateDir(cfg)
	return dir, err
}

// stateDir is StateDir, and tells whether the directory is ours to make.
func stateDir(cfg *config.Config) (dir string, ours bool, err error) {
	switch cfg.StateDir {
	case config.StateMemory:
		return "", false, nil
	case config.StateAuto:
	default:
		return cfg.StateDir, false, nil
	}
	if dir, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":"); dir != "" {
		return dir, false, nil
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "poller"), true, nil
	}
	if home, err := os.UserHomeDir(); err == nil && filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", "poller"), true, nil
	}
	return "", false, errors.New(`state_dir is "auto", and none of $STATE_DIRECTORY, $XDG_STATE_HOME and $HOME says where that is: ` +
		`set state_dir to the path of a directory, or to "memory" to keep nothing on disk`)
}

// prepareStateDir returns the directory when it is there; empty if nothing is kept on disk. The user's own is made
// if need be. Any other has to exist, for it may be on something that is not mounted now.
func prepareStateDir(cfg *config.Config) (string, error) {
	dir, ours, err := stateDir(cfg)
	if err != nil || dir == "" {
		return "", err
	}
	if ours {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", fmt.Errorf("make the directory of the state: %w", err)
		}
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("the state directory %s does not exist: make it, as the user that the poller runs as, with mkdir -m 0700 %s, or mount what it is on", dir, dir)
	case err != nil:
		return "", fmt.Errorf("look at the state directory: %w", err)
	case !info.IsDir():
		return "", fmt.Errorf("the state directory %s is no directory: set state_dir to one", dir)
	}
	return dir, nil
}
