// Package checkerfile reads the checker's own file, TOML: where it listens, how much it does at once, and what probes may use
// that pollers must not see or choose: credentials and commands.
//
// Guarantees:
//   - What Read returns without an error is complete and valid, defaults included. What is wrong it tells all at once, each
//     with line, column and key.
//   - Secrets appear in no error and no warning.
//   - What is read is bounded.
package checkerfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/serviceradar/poller/internal/probe"
)

// File is what a checker's file says.
type File struct {
	// Listen is host:port.
	Listen string
	Log    Log
	TLS    TLS
	// MaxInFlight bounds how many checks run at once, Limits how many of one kind.
	MaxInFlight int
	Limits      map[string]int
	// StopTimeout is how long checks under way may go on when the checker stops.
	StopTimeout time.Duration
	// Settings are for the probes.
	Settings probe.Settings
	// Warnings say what is right and still ought to be looked at.
	Warnings []string
}

// Log is how the checker logs.
type Log struct{ Level, Format string }

// TLS are the paths of PEM files, empty for none.
type TLS struct{ CertFile, KeyFile, CAFile string }

// Default returns what holds without a file.
func Default() *File {
	return &File{
		Listen: "127.0.0.1:50051", Log: Log{Level: "info", Format: "auto"},
		MaxInFlight: 256, Limits: map[string]int{}, StopTimeout: 5 * time.Second,
		Settings: probe.Settings{Credentials: map[string]probe.Credentials{}, Commands: map[string]probe.Command{}},
	}
}

const (
	maxFile   = 16 << 20
	maxSecret = 64 << 10
)

// Read reads a checker's file. Secrets that it names files or variables for are looked up now. If there is something wrong
// with what it says, the error is an Errors.
func Read(name string) (*File, error) {
	text, others, err := readFile(name, maxFile)
	if err != nil {
		return nil, fmt.Errorf("read the checker's file %s: %w: check its path, and that the checker's user may read it", name, err)
	}
	return parse(name, text, others, outside{readFile, os.LookupEnv})
}

// outside is where secrets come from, if not from the file itself.
type outside struct {
	// file also tells whether others than the owner and the group may read it.
	file     func(name string, limit int64) (text []byte, others bool, err error)
	variable func(name string) (string, bool)
}

func readFile(name string, limit int64) (text []byte, others bool, err error) {
	info, err := os.Stat(name) //nolint:gosec // the operator names it
	if err != nil {
		return nil, false, withoutPath(err)
	}
	if !info.Mode().IsRegular() {
		return nil, false, errors.New("it is no regular file") // one that nobody writes to would be waited for
	}
	file, err := os.Open(name) //nolint:gosec // the operator names it
	if err != nil {
		return nil, false, withoutPath(err)
	}
	defer func() { _ = file.Close() }() // it was only read
	text, err = io.ReadAll(io.LimitReader(file, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("it has more than %d KiB", limit>>10)
	}
	const readableByOthers = 0o004
	return text, runtime.GOOS != "windows" && info.Mode().Perm()&readableByOthers != 0, err
}

// withoutPath leaves out the path, which the error's reader is told anyway.
func withoutPath(err error) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err
	}
	return err
}

// parse reads a file's text. Relative paths in it start at its directory; others tells who may read it.
func parse(name string, text []byte, others bool, from outside) (*File, error) {
	text = withoutMark(text)
	r := &reader{name: name, doc: text, others: others, from: from, file: Default()}
	if absolute, err := filepath.Abs(name); err == nil {
		r.dir = filepath.Dir(absolute)
	}
	root, at, wrong := parseTree(text)
	if wrong != "" {
		r.found = []problem{{at: at, msg: wrong}}
		return nil, r.errors()
	}
	r.table(r.keys())(root)
	if err := r.errors(); err != nil {
		return nil, err
	}
	return r.file, nil
}
