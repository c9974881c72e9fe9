package config

import (
	"math"
	"slices"
	"time"

	"github.com/serviceradar/poller/internal/check"
)

// Every key there is, once: its kind, bounds, default and where it goes. Known keys, environment variables,
// flags, error messages and Print all come from these tables.

// grpcLimit is the size above which a gRPC server with default settings refuses a message; core is one.
const grpcLimit = 4 << 20

// Bounds that many keys share.
const (
	maxCount    = 1_000_000
	maxDuration = int64(365 * 24 * time.Hour) // longer is a slip, and sums of times must not overflow
)

// minDisk bounds spool.max_bytes from below where the spool is on disk.
const minDisk = 1 << 20

// maxNodes bounds cluster.size: each node talks to each other a few times a second.
const maxNodes = 64

// minTimeout bounds the time of a run from below: less is a slip in the unit, and would fail every run.
const minTimeout = 10 * time.Millisecond

// defaultPollTimeout is the default timeout of a run where its check's interval allows it.
const defaultPollTimeout = 10 * time.Second

func duration(minimum time.Duration) rule {
	return rule{kind: kindDuration, min: int64(minimum), max: maxDuration}
}

func count() rule { return rule{kind: kindInt, min: 1, max: maxCount} }

func oneOf(values ...string) rule { return rule{kind: kindString, oneOf: values} }

func text(want func(string) string) rule { return rule{kind: kindString, want: want} }

const missingPollerID = `who this poller is, to core; write poller_id = "edge-1" or such`

const missingCoreAddresses = `where to deliver reports; write addresses = ["127.0.0.1:50052"] or such in [core]`

// rootSpec is the outermost table and all that is in it, but for the agents and what has to do with them.
var rootSpec = newSpec(append([]key[Config]{
	{
		name: "poller_id", rule: text(wantName), required: missingPollerID,
		usage: "who this poller is, to core", field: func(c *Config) any { return &c.PollerID },
	},
	{name: "partition", rule: text(wantName), def: "default", shared: true, field: func(c *Config) any { return &c.Partition }},
	{
		name: "source_ip", rule: text(wantSourceIP), def: sourceAuto,
		usage: "the address of this poller, to core: auto, an address or a host name", field: func(c *Config) any { return &c.SourceIP },
	},
	{name: "kv_store_id", rule: text(nil), def: "", field: func(c *Config) any { return &c.KVStoreID }},
	{name: "state_dir", rule: text(wantStateDir), def: StateAuto, field: func(c *Config) any { return &c.StateDir }},
	{name: "shutdown_timeout", rule: duration(time.Second), def: 15 * time.Second, field: func(c *Config) any { return &c.ShutdownTimeout }},

	{
		name: "log.level", rule: oneOf("trace", "debug", "info", "warn", "error"), def: "info",
		usage: "what to log: trace, debug, info, warn or error", field: func(c *Config) any { return &c.Log.Level },
	},
	{
		name: "log.format", rule: oneOf("auto", "console", "json"), def: "auto",
		usage: "how to log: auto (console on a terminal, else json), console or json", field: func(c *Config) any { return &c.Log.Format },
	},
	{
		name: "admin.listen", rule: text(wantListen), def: "127.0.0.1:9464",
		usage: "host:port for health, readiness and metrics; empty means off", field: func(c *Config) any { return &c.Admin.Listen },
	},
	{name: "metrics.per_check", rule: rule{kind: kindBool}, def: false, field: func(c *Config) any { return &c.Metrics.PerCheck }},

	{
		name: "core.addresses", rule: rule{kind: kindList, want: wantAddress}, required: missingCoreAddresses,
		usage: "host:port of core, then of its fail-overs", field: func(c *Config) any { return &c.Core.Addresses },
	},
	{name: "core.timeout", rule: duration(100 * time.Millisecond), def: 15 * time.Second, field: func(c *Config) any { return &c.Core.Timeout }},
	{name: "core.max_message", rule: rule{
		kind: kindSize, min: 64 << 10, max: grpcLimit - 4<<10,
		why: "core's gRPC server refuses messages above 4MiB unless told otherwise, and a report needs some room besides",
	}, def: int64(3 << 20), field: func(c *Config) any { return &c.Core.MaxMessage }},
	{
		name: "core.envelope", rule: oneOf(EnvelopeServiceRadar, EnvelopeBare), def: EnvelopeServiceRadar,
		field: func(c *Config) any { return &c.Core.Envelope },
	},

	{name: "poll.interval", rule: duration(time.Second), def: 30 * time.Second, shared: true, field: func(c *Config) any { return &c.Poll.Interval }},
	{name: "poll.timeout", rule: duration(minTimeout), def: defaultPollTimeout, shared: true, field: func(c *Config) any { return &c.Poll.Timeout }},
	{name: "poll.rate", rule: count(), def: int64(500), shared: true, field: func(c *Config) any { return &c.Poll.Rate }},
	{name: "poll.max_in_flight", rule: count(), def: int64(2048), field: func(c *Config) any { return &c.Poll.MaxInFlight }},

	{name: "breaker.failures", rule: count(), def: int64(5), shared: true, field: func(c *Config) any { return &c.Breaker.Failures }},
	{name: "breaker.probe", rule: duration(100 * time.Millisecond), def: 3 * time.Second, shared: true, field: func(c *Config) any { return &c.Breaker.Probe }},

	{name: "restart.initial", rule: duration(time.Millisecond), def: 100 * time.Millisecond, field: func(c *Config) any { return &c.Restart.Initial }},
	{name: "restart.max", rule: duration(time.Millisecond), def: 30 * time.Second, field: func(c *Config) any { return &c.Restart.Max }},
	{name: "restart.budget", rule: count(), def: int64(10), field: func(c *Config) any { return &c.Restart.Budget }},
	{name: "restart.window", rule: duration(time.Second), def: time.Minute, field: func(c *Config) any { return &c.Restart.Window }},

	{
		name: "spool.max_bytes", rule: rule{kind: kindSize, min: 1, max: math.MaxInt64}, def: int64(1 << 30),
		field: func(c *Config) any { return &c.Spool.MaxBytes },
	},
	{name: "spool.max_age", rule: duration(time.Second), def: 168 * time.Hour, field: func(c *Config) any { return &c.Spool.MaxAge }},
	{
		name: "spool.when_full", rule: oneOf(DropOldest, DropNewest), def: DropOldest,
		field: func(c *Config) any { return &c.Spool.WhenFull },
	},

	{name: "cluster.enabled", rule: rule{kind: kindBool}, def: false, field: func(c *Config) any { return &c.Cluster.Enabled }},
	{name: "cluster.name", rule: text(wantName), def: "default", field: func(c *Config) any { return &c.Cluster.Name }},
	{name: "cluster.node", rule: text(wantNode), def: "", field: func(c *Config) any { return &c.Cluster.Node }},
	{name: "cluster.listen", rule: text(wantNodeAddress), def: "127.0.0.1:7946", field: func(c *Config) any { return &c.Cluster.Listen }},
	{name: "cluster.remote", rule: text(wantNodeAddress), def: "127.0.0.1:7947", field: func(c *Config) any { return &c.Cluster.Remote }},
	{name: "cluster.seeds", rule: rule{kind: kindList, loose: true, want: wantAddress}, field: func(c *Config) any { return &c.Cluster.Seeds }},
	{name: "cluster.size", rule: rule{kind: kindInt, min: 1, max: maxNodes}, def: int64(3), field: func(c *Config) any { return &c.Cluster.Size }},
	{
		name: "cluster.on_minority", rule: oneOf(MinorityStepDown, MinorityKeep), def: MinorityStepDown,
		field: func(c *Config) any { return &c.Cluster.OnMinority },
	},
	{name: "cluster.weight", rule: rule{kind: kindInt, min: 0, max: 100}, def: int64(1), field: func(c *Config) any { return &c.Cluster.Weight }},

	{name: discoveryTable + ".dns", later: true},
	{name: discoveryTable + ".register", later: true},
}, slices.Concat(
	tlsKeys("tls", wantTLSMode, func(c *Config) *check.TLS { return &c.TLS }),
	tlsKeys("core.tls", wantTLSMode, func(c *Config) *check.TLS { return &c.Core.TLS }),
	tlsKeys(clusterTLS, wantNodeTLSMode, func(c *Config) *check.TLS { return &c.Cluster.TLS }))...,
), includeKey, silenceKey, agentsTable, profilesTable, fileSources, httpSources)

// tlsKeys are the keys of an identity.
func tlsKeys[T any](table string, wantMode func(string) string, of func(*T) *check.TLS) []key[T] {
	return []key[T]{
		{name: table + ".mode", rule: text(wantMode), def: string(check.TLSNone), field: func(t *T) any { return &of(t).Mode }},
		{name: table + ".cert_file", rule: text(nil), field: func(t *T) any { return &of(t).CertFile }},
		{name: table + ".key_file", rule: text(nil), field: func(t *T) any { return &of(t).KeyFile }},
		{name: table + ".ca_file", rule: text(nil), field: func(t *T) any { return &of(t).CAFile }},
		{name: table + ".server_name", rule: text(wantServerName), field: func(t *T) any { return &of(t).ServerName }},
	}
}

const (
	// includeKey lists patterns of further files with agents and profiles.
	includeKey = "include"
	// silenceKey is the array of silences: of all, of an agent, or of a check.
	silenceKey = "silence"
	// agentsTable holds a table for each agent, profilesTable one for each profile.
	agentsTable   = "agents"
	profilesTable = "profiles"
	// checksTable is the array of checks of an agent or a profile.
	checksTable = "checks"
	// labelsTable holds an agent's labels, of names that are free.
	labelsTable = "labels"
)

// agentEntry is an agent as written.
type agentEntry struct {
	check.Agent
	// timeout is the default for the agent's checks; 0 if it has none.
	timeout time.Duration
	// profile is a name under profilesTable; empty for none.
	profile string
	// labels are nil if there are none.
	labels   map[string]string
	disabled bool
	// silences are by check, and the agent's own under no name; nil if there are none.
	silences map[string][]check.Silence
}

var agentSpec = newSpec(append([]key[agentEntry]{
	{
		name: "address", rule: text(wantAddress), required: `the host:port of the checker's gRPC server; write address = "127.0.0.1:50051" or such`,
		field: func(a *agentEntry) any { return &a.Address },
	},
	{name: "timeout", rule: duration(minTimeout), applied: true, field: func(a *agentEntry) any { return &a.timeout }},
	{name: "health_service", rule: text(nil), def: "AgentService", field: func(a *agentEntry) any { return &a.HealthService }},
	{name: "max_message", rule: rule{kind: kindSize, min: 64 << 10, max: 64 << 20}, def: int64(grpcLimit), field: func(a *agentEntry) any { return &a.MaxMessage }},
	{name: "profile", rule: text(nil), applied: true, field: func(a *agentEntry) any { return &a.profile }},
	{name: "disabled", rule: rule{kind: kindBool}, applied: true, field: func(a *agentEntry) any { return &a.disabled }},
}, tlsKeys("tls", wantTLSMode, func(a *agentEntry) *check.TLS { return &a.TLS })...), labelsTable, silenceKey, checksTable)

// labelRule is for the value of each label.
var labelRule = text(wantLabel)

// profileSpec is a profile, which has nothing but its checks.
var profileSpec = newSpec[struct{}](nil, checksTable)

// checkEntry is a check as written.
type checkEntry struct {
	check.Check
	// resultsInterval is 0 if the check is asked for its status.
	resultsInterval time.Duration
	stream          *bool // nil if it is not written
	// asserted are the texts of Assert.
	asserted []string
	silences []check.Silence
}

var checkSpec = newSpec([]key[checkEntry]{
	{
		name: "name", rule: text(wantName), required: `a name that is unique within the agent; write name = "ssh" or such`,
		field: func(c *checkEntry) any { return &c.Name },
	},
	{
		name: "type", rule: text(wantName), required: `what the checker calls this kind of check; write type = "port" or such`,
		field: func(c *checkEntry) any { return &c.Type },
	},
	{name: "details", rule: text(nil), field: func(c *checkEntry) any { return &c.Details }},
	{name: "port", rule: rule{kind: kindInt, min: 0, max: maxPort}, field: func(c *checkEntry) any { return &c.Port }},
	{name: "interval", rule: duration(time.Second), field: func(c *checkEntry) any { return &c.Interval }},
	{name: "timeout", rule: duration(minTimeout), field: func(c *checkEntry) any { return &c.Timeout }},
	{name: "confirm", rule: rule{kind: kindInt, min: 1, max: 100}, def: int64(1), field: func(c *checkEntry) any { return &c.Confirm }},
	{name: "assert", rule: rule{kind: kindList, exact: true}, field: func(c *checkEntry) any { return &c.asserted }},
	{name: "results_interval", rule: duration(time.Second), field: func(c *checkEntry) any { return &c.resultsInterval }},
	{name: "stream", rule: rule{kind: kindBool}, field: func(c *checkEntry) any { return &c.stream }},
}, silenceKey)

// silenceSpec is one silence.
var silenceSpec = newSpec([]key[check.Silence]{
	{name: "from", rule: rule{kind: kindTime}, required: "when it begins; write from = 2026-03-01T22:00:00Z or such", field: func(s *check.Silence) any { return &s.From }},
	{name: "to", rule: rule{kind: kindTime}, required: "when it is over; write to = 2026-03-02T06:00:00Z or such", field: func(s *check.Silence) any { return &s.To }},
	{name: "reason", rule: text(wantReason), required: `why, for people; write reason = "new disks" or such`, field: func(s *check.Silence) any { return &s.Reason }},
})
