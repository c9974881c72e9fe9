// Package config turns TOML files, POLLER_* environment variables and flags into a typed Config.
//
// Guarantees:
//   - A Config that Load or Parse returns is complete and valid: every default is applied, every
//     bound holds, every agent has its own final timeout, interval and identity. Nobody has to check it again.
//   - Flags win over the environment, the environment over the file, the file over the defaults.
//   - All that is wrong is reported at once, in order of position, the main file first, and nothing is half applied: an
//     error comes without a Config, but with all warnings. Each error names its place, what was found
//     and what is allowed. Only what is no TOML ends the reading of its file, at that place.
//   - What cannot be understood is an error, never ignored. The one exception are POLLER_* variables
//     that name no key, because Kubernetes injects such names: they make one warning.
//   - Files, directories and URLs that the configuration names (certificates, keys, state_dir, sources of agents) are
//     not opened, but for the files that it includes.
//   - The time to load grows linearly in agents, and ends whatever the templates in profiles say.
//
// All functions are safe to call from several goroutines. A Config is plain data; treat it as read-only: only Adopt
// changes one.
package config

import (
	"io/fs"
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

// Values of Cluster.OnMinority.
const (
	// MinorityStepDown has a node that has no majority poll nothing.
	MinorityStepDown = "step_down"
	// MinorityKeep has it go on, though others may poll the same.
	MinorityKeep = "keep"
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
	Cluster Cluster
	// TLS is the identity for every connection that has none of its own.
	TLS check.TLS
	// Agents are sorted by name, the checks of their profiles among theirs, after their own. Those that are
	// disabled are not among them.
	Agents []*check.Agent
	// Labels are those of each agent that has some, by name.
	Labels map[string]map[string]string
	// Silences are those for all, by no name, and those of each agent and check that has some. Times are in UTC.
	Silences check.Silences
	// Disabled are the names of the agents that are written but not in use, sorted.
	Disabled []string
	// Discovery are the sources of agents beside the file, those that are files first, each in the order written. What
	// Source.Targets had of them is among Agents.
	Discovery []Discovery
	// Skipped is what sources have found that is no agent: for each target its source, the target and why; sorted, and
	// at most 100 with a count of the others, of SkippedTotal. Neither counts when configurations are compared.
	Skipped      []string
	SkippedTotal int
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

// Cluster says with whom this node shares what there is to poll. If Enabled is false the rest means nothing, and was only looked at for
// its form.
type Cluster struct {
	Enabled bool
	// Name is that of the cluster; nodes of another name are strangers.
	Name string
	// Node is the name of this node, unique in the cluster: that of the host if none was written. It is empty only if the cluster is not
	// enabled.
	Node string
	// Listen is where the others reach the membership of this node, Remote where they reach its actors: each an IP address, never an
	// unspecified one, and a port, never 0; they differ.
	Listen, Remote string
	// Seeds are host:port of the membership of any nodes, maybe this one among them, maybe some twice. Nil if Size is 1 and none is written.
	Seeds []string
	// Size is how many nodes there should be, at most 64; the majority is counted of this.
	Size int
	// OnMinority is MinorityStepDown or MinorityKeep.
	OnMinority string
	// Weight is this node's share of the agents relative to others', at most 100; one with 0 votes, and polls nothing.
	Weight int
	// TLS is the identity of this node for the others, and for that alone: mode mtls, or none if Listen and Remote are on loopback. Its
	// CAFile is that of no other identity.
	TLS check.TLS
}

// Source is where configuration comes from.
type Source struct {
	// File is the TOML file; empty means none.
	File string
	// Environ is the environment, as os.Environ returns it.
	Environ []string
	// Flags that were changed and whose name is a key (log.level) count; others are ignored. May be nil.
	Flags *pflag.FlagSet
	// FS has File and what it includes, as an absolute path without its first slash; nil means the disk.
	FS fs.FS
	// Targets are what the sources of Config.Discovery have found, by their IDs. They never make an error.
	Targets map[string][]Target
	// Now is for telling which silences are over; zero means the time of the host's clock.
	Now time.Time
}

// Loaded is what loading a configuration came to.
type Loaded struct {
	// Config is nil if there is an error.
	Config *Config
	// Warnings are for the operator; they come with an error as well as without.
	Warnings []string
	// Err is nil or of type Errors.
	Err error
	// Files are those that all this depends on; with an error as far as they are known.
	Files Files
}

// Files are what a configuration depends on: when one of them changes, loading it again may come to something
// else. All are absolute paths.
type Files struct {
	// Config are the main file and those that it includes, in the order in which they are read, including
	// those that can't be.
	Config []string
	// Patterns are those of include, as for filepath.Match but that * matches no name that begins with a dot. What
	// matches one later is a part of the configuration, too. A path without special characters is one as well.
	Patterns []string
	// TLS are the files with certificates, keys and authorities, sorted. They are read when connections are made.
	TLS []string
}

// Load reads src.File, if there is one, and what it includes. If src.File cannot be read, that is the only
// error, and there are no warnings. The strings are warnings for the operator, and come with an error as well
// as without. The error is of type Errors; with one, the Config is nil.
func Load(src Source) (*Config, []string, error) {
	out := Read(src)
	return out.Config, out.Warnings, out.Err
}

// Read is Load for those who want to know when to load again.
func Read(src Source) Loaded {
	if src.File == "" {
		return assemble("", nil, src, hostAddresses)
	}
	text, err := readFile(fileSystem(src.FS), src.File, maxFile+1)
	if err != nil {
		err = readHint(err, "check the path, or copy deploy/poller.toml to it and adapt that")
		return Loaded{
			Err:   Errors{{File: src.File, Msg: "cannot read the configuration file: " + err.Error()}},
			Files: Files{Config: []string{absolutePath(src.File)}},
		}
	}
	return assemble(src.File, text, src, hostAddresses)
}

// Parse is Load with the text of the main file given. The name stands in messages, and relative paths in the
// configuration start at its directory; src.File is not read, and no other file but what the text includes.
func Parse(name string, text []byte, src Source) (*Config, []string, error) {
	out := assemble(name, text, src, hostAddresses)
	return out.Config, out.Warnings, out.Err
}
