// Package config turns a TOML file, POLLER_* environment variables and flags into a typed Config.
//
// Guarantees:
//   - A Config that Load or Parse returns is complete and valid: every default is applied, every
//     bound holds, every agent has its own final timeout, interval and identity. Nobody has to check it again.
//   - Flags win over the environment, the environment over the file, the file over the defaults.
//   - All that is wrong is reported at once, in order of position, and nothing is half applied: an
//     error comes without a Config, but with all warnings. Each error names its place, what was found
//     and what is allowed. Only what is no TOML ends the reading of the file, at that place.
//   - What cannot be understood is an error, never ignored. The one exception are POLLER_* variables
//     that name no key, because Kubernetes injects such names: they make one warning.
//   - Files and directories that the configuration names (certificates, keys, state_dir) are not opened.
//   - The time to load grows linearly in agents.
//
// All functions are safe to call from several goroutines. A Config is plain data; treat it as read-only.
package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/pflag"

	"github.com/serviceradar/poller/internal/check"
)

// Values of Core.Envelope.
const (
	// EnvelopeServiceRadar wraps each status in the JSON envelope that ServiceRadar's core expects.
	EnvelopeServiceRadar = "serviceradar"
	// EnvelopeBare sends the checker's own answer as it came.
	EnvelopeBare = "bare"
)

// Values of Spool.WhenFull.
const (
	// DropOldest makes room for a new report by dropping the oldest.
	DropOldest = "drop_oldest"
	// DropNewest keeps what is there and drops the new report.
	DropNewest = "drop_newest"
)

// Values of Config.StateDir that are no path.
const (
	// StateAuto is the directory that the service manager gave us, else one of the user's.
	StateAuto = "auto"
	// StateMemory means that nothing is kept on disk.
	StateMemory = "memory"
)

// Config is the whole configuration of a poller, with all defaults applied.
type Config struct {
	// PollerID is who we are, to core.
	PollerID string
	// Partition is the partition that core files our reports under.
	Partition string
	// SourceIP is an address or a host name: "auto" has been resolved.
	SourceIP string
	// KVStoreID is passed on to core.
	KVStoreID string
	// StateDir is StateAuto, StateMemory or the absolute path of a directory, which nobody has looked at: what
	// StateAuto comes to, and whether the directory is there, is found when the poller starts.
	StateDir string
	// ShutdownTimeout bounds an orderly stop.
	ShutdownTimeout time.Duration

	Log     Log
	Admin   Admin
	Metrics Metrics
	Core    Core
	Poll    Poll
	Breaker Breaker
	Restart Restart
	Spool   Spool
	// TLS is the identity for every connection that has none of its own.
	TLS check.TLS
	// Agents are sorted by name.
	Agents []*check.Agent
}

// Log says what is logged, and how.
type Log struct {
	// Level is trace, debug, info, warn or error.
	Level string
	// Format is auto, console or json.
	Format string
}

// Admin is the server for health, readiness and metrics.
type Admin struct {
	// Listen is a host:port; empty means no server.
	Listen string
}

// Metrics says what /metrics has.
type Metrics struct {
	// PerCheck adds series for each check.
	PerCheck bool
}

// Core is where reports are delivered to.
type Core struct {
	// Addresses are host:port, at least one; the first that answers is used.
	Addresses []string
	// Timeout bounds how long a delivery goes on without core taking any of it.
	Timeout time.Duration
	// MaxMessage bounds one message, in bytes.
	MaxMessage int64
	// Envelope is EnvelopeServiceRadar or EnvelopeBare.
	Envelope string
	// TLS is core's own identity if it was given one, else that of Config.TLS.
	TLS check.TLS
}

// Poll says when agents are asked.
type Poll struct {
	// Interval is one cycle.
	Interval time.Duration
	// Timeout is the default for checks, at most Interval. Use the checks' own: they have it applied.
	Timeout time.Duration
	// Rate is how many agents are started each second while a cycle is spread.
	Rate int
	// MaxInFlight bounds the agents being polled at once.
	MaxInFlight int
}

// Breaker says when a checker counts as broken.
type Breaker struct {
	// Failures is how many in a row open the breaker.
	Failures int
	// Probe is how often an open breaker looks whether the checker is back.
	Probe time.Duration
}

// Restart is the supervision of every actor.
type Restart struct {
	// Initial and Max bound the back-off between restarts.
	Initial, Max time.Duration
	// Budget is how many restarts are allowed within Window.
	Budget int
	Window time.Duration
}

// Spool bounds the reports that core has not acknowledged yet.
type Spool struct {
	MaxBytes int64
	MaxAge   time.Duration
	// WhenFull is DropOldest or DropNewest.
	WhenFull string
}

// Source is where configuration comes from.
type Source struct {
	// File is the TOML file; empty means none.
	File string
	// Environ is the environment, as os.Environ returns it.
	Environ []string
	// Flags that were changed and whose name is a key (log.level) count; others are ignored. May be nil.
	Flags *pflag.FlagSet
}

// maxFile bounds the configuration file: more is a mistake, such as a path to something else.
const maxFile = 64 << 20

// Load reads src.File, if there is one, and returns what Parse makes of it. If the file cannot be
// read, that is the only error, and there are no warnings.
func Load(src Source) (*Config, []string, error) {
	if src.File == "" {
		return Parse("", nil, src)
	}
	text, err := readFile(src.File)
	if err != nil {
		return nil, nil, Errors{{File: src.File, Msg: "cannot read the configuration file: " + err.Error()}}
	}
	return Parse(src.File, text, src)
}

// Parse makes a Config of a file's text, then the environment and the flags of src. The name stands in
// messages, and relative paths in the configuration start at its directory; src.File is not read. The strings
// are warnings for the operator, and come with an error as well as without. The error is of type Errors; with
// one, the Config is nil.
func Parse(name string, text []byte, src Source) (*Config, []string, error) {
	return parse(name, text, src, hostAddresses)
}

func readFile(name string) (_ []byte, err error) {
	file, err := os.Open(name) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, readHint(err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, readHint(err)
	}
	return text, nil
}

// readHint leaves out the path, which the error names already, and says what to do.
func readHint(err error) error {
	hint := "check that it is a readable file"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		hint = "check the path, or copy deploy/poller.toml to it and adapt that"
	case errors.Is(err, fs.ErrPermission):
		hint = "let the user that the poller runs as read it"
	}
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		err = path.Err
	}
	return fmt.Errorf("%w; %s", err, hint)
}
