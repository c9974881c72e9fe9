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

// stateDir is what state_dir comes to.
type stateDir struct {
	path string // empty if nothing is kept on disk
	from string // who named it, for messages
	// create tells that it is the user's, and made when it is missed. Others may be a volume that is
	// not mounted: what would be written in its place is never found again.
	create bool
}

// StateDir returns the directory in which the poller keeps its state, by cfg.StateDir and the environment;
// empty if nothing is kept on disk. StateAuto is the first of $STATE_DIRECTORY, which systemd sets, else
// $XDG_STATE_HOME/poller, else $HOME/.local/state/poller; if none of them is set, that is an error. The file
// system is not touched.
func StateDir(cfg *config.Config) (string, error) {
	dir, err := findStateDir(cfg)
	return dir.path, err
}

// prepareStateDir returns the same as StateDir, and sees to it that the directory can be used: the user's is
// created, with mode 0700, any other must exist. An error says what is wrong with it and what to do.
func prepareStateDir(cfg *config.Config) (string, error) {
	dir, err := findStateDir(cfg)
	if err != nil || dir.path == "" {
		return "", err
	}
	if dir.create {
		if err := os.MkdirAll(dir.path, 0o700); err != nil {
			return "", fmt.Errorf(`state directory %s (from %s) cannot be created: %w; set state_dir to a directory that exists, or to "memory"`,
				dir.path, dir.from, cause(err))
		}
	}
	if err := dir.usable(access); err != nil {
		return "", err
	}
	return dir.path, nil
}

func findStateDir(cfg *config.Config) (stateDir, error) {
	switch cfg.StateDir {
	case config.StateMemory:
		return stateDir{}, nil
	case config.StateAuto:
	default:
		return stateDir{path: cfg.StateDir, from: "state_dir"}, nil
	}
	for path := range strings.SplitSeq(os.Getenv("STATE_DIRECTORY"), ":") {
		if path != "" {
			return stateDir{path: path, from: "$STATE_DIRECTORY"}, nil
		}
	}
	// A relative path is as good as none: it would be another directory each time, by where the poller is started.
	for _, v := range []struct{ name, below string }{{"XDG_STATE_HOME", "poller"}, {"HOME", ".local/state/poller"}} {
		if base := os.Getenv(v.name); filepath.IsAbs(base) {
			return stateDir{path: filepath.Join(base, filepath.FromSlash(v.below)), from: "$" + v.name, create: true}, nil
		}
	}
	return stateDir{}, errors.New(`state_dir is "auto", but neither $STATE_DIRECTORY, $XDG_STATE_HOME nor $HOME is set to an absolute path; ` +
		`set state_dir to the path of a directory, or to "memory" to keep nothing on disk`)
}

// usable returns what is wrong with the directory, which mayUse is asked about last.
func (d stateDir) usable(mayUse func(path string) error) error {
	info, err := os.Stat(d.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("state directory %s (from %s) does not exist; create it: mkdir -m 0700 %[1]s, owned by the user that the poller runs as, "+
			"or mount the volume that it is on", d.path, d.from)
	case err != nil:
		return fmt.Errorf("state directory %s (from %s) cannot be looked at%s: %w; let the user that the poller runs as reach it",
			d.path, d.from, asUser(), cause(err))
	case !info.IsDir():
		return fmt.Errorf("state directory %s (from %s) is not a directory; set state_dir to one", d.path, d.from)
	}
	if err := mayUse(d.path); err != nil {
		return fmt.Errorf("state directory %s (from %s) cannot be written to%s%s: %w; let it be owned by the user that the poller runs as, "+
			"on a file system that can be written to", d.path, d.from, asUser(), owner(info), cause(err))
	}
	return nil
}

// asUser says who we are, where users have numbers.
func asUser() string {
	uid := os.Geteuid()
	if uid < 0 {
		return ""
	}
	return fmt.Sprintf(" by uid %d", uid)
}

// cause leaves out the path, which the message names already.
func cause(err error) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok && path.Err != nil {
		return path.Err
	}
	return err
}
