package config

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceradar/poller/internal/check"
)

// minimal is the least that is a configuration; more can be added.
const minimal = `poller_id = "edge-1"
source_ip = "192.0.2.10"
core.addresses = ["127.0.0.1:50052"]
`

const noAgents = "no agents configured: only heartbeats are reported"

// defaults is what minimal comes to: the defaults that are promised to users.
func defaults() *Config {
	none := check.TLS{Mode: check.TLSNone}
	return &Config{
		PollerID: "edge-1", Partition: "default", SourceIP: "192.0.2.10", StateDir: "auto", ShutdownTimeout: 15 * time.Second,
		Log:   Log{Level: "info", Format: "auto"},
		Admin: Admin{Listen: "127.0.0.1:9464"},
		Core: Core{
			Addresses: []string{"127.0.0.1:50052"}, Timeout: 15 * time.Second,
			MaxMessage: 3 << 20, Envelope: EnvelopeServiceRadar, TLS: none,
		},
		Poll:    Poll{Interval: 30 * time.Second, Timeout: 10 * time.Second, Rate: 500, MaxInFlight: 2048},
		Breaker: Breaker{Failures: 5, Probe: 3 * time.Second},
		Restart: Restart{Initial: 100 * time.Millisecond, Max: 30 * time.Second, Budget: 10, Window: time.Minute},
		Spool:   Spool{MaxBytes: 1 << 30, MaxAge: 168 * time.Hour, WhenFull: DropOldest},
		Cluster: Cluster{
			Name: "default", Listen: "127.0.0.1:7946", Remote: "127.0.0.1:7947", Size: 3, OnMinority: MinorityStepDown, Weight: 1, TLS: none,
		},
		TLS: none,
	}
}

// parse is Parse with the host's addresses as a parameter.
func parse(name string, text []byte, src Source, addresses addressesFunc) (*Config, []string, error) {
	out := assemble(name, text, src, addresses)
	return out.Config, out.Warnings, out.Err
}

func mustParse(t testing.TB, text string) (*Config, []string) {
	t.Helper()
	c, warnings, err := parse("/etc/poller/poller.toml", []byte(text), Source{}, noAddresses)
	if err != nil {
		t.Fatalf("parsing: %v", err)
	}
	return c, warnings
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"minimal.toml", "bom_crlf.toml"} {
		c, warnings := mustParse(t, string(read(t, filepath.Join("testdata/good", file))))
		if diff := cmp.Diff(defaults(), c); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
		if diff := cmp.Diff([]string{noAgents}, warnings); diff != "" {
			t.Errorf("%s: warnings (-want +got):\n%s", file, diff)
		}
	}
}

// day returns the beginning of a day that is far away.
func day(n int) time.Time { return time.Date(2999, time.March, n, 0, 0, 0, 0, time.UTC) }

func TestFull(t *testing.T) {
	t.Parallel()
	mtls := check.TLS{
		Mode: check.TLSMutual, CertFile: "/etc/poller/poller.pem", KeyFile: "/etc/poller/poller.key", CAFile: "/etc/poller/ca.pem",
	}
	want := &Config{
		PollerID: "edge-7", Partition: "north", SourceIP: "edge-7.example", KVStoreID: "kv", StateDir: "/var/lib/poller",
		ShutdownTimeout: 20 * time.Second,
		Log:             Log{Level: "debug", Format: "json"},
		Admin:           Admin{Listen: "[::1]:9465"},
		Metrics:         Metrics{PerCheck: true},
		Core: Core{
			Addresses: []string{"core-1.example:50052", "[2001:db8::2]:50052"}, Timeout: 10 * time.Second,
			MaxMessage: 1_000_000, Envelope: EnvelopeBare,
			TLS: check.TLS{Mode: check.TLSServer, CAFile: "/etc/poller/core-ca.pem", ServerName: "core.example"},
		},
		Poll:    Poll{Interval: 20 * time.Second, Timeout: 5 * time.Second, Rate: 100, MaxInFlight: 64},
		Breaker: Breaker{Failures: 3, Probe: 5 * time.Second},
		Restart: Restart{Initial: time.Second, Max: time.Minute, Budget: 5, Window: 2 * time.Minute},
		Spool:   Spool{MaxBytes: 16 << 20, MaxAge: 24 * time.Hour, WhenFull: DropNewest},
		Cluster: Cluster{
			Enabled: true, Name: "north", Node: "node-7", Listen: "192.0.2.10:7950", Remote: "[2001:db8::10]:7951",
			Seeds: []string{"192.0.2.10:7950", "node-8.example:7950", "node-8.example:7950"}, Size: 5, OnMinority: MinorityKeep, Weight: 2,
			TLS: check.TLS{
				Mode: check.TLSMutual, CertFile: "/etc/poller/node.pem", KeyFile: "/etc/poller/node.key", CAFile: "/etc/poller/nodes-ca.pem",
				ServerName: "nodes.example",
			},
		},
		TLS: mtls,
		Agents: []*check.Agent{
			{
				Name: "db.example.org", Address: "[::1]:50051", HealthService: "AgentService", MaxMessage: 4 << 20, TLS: mtls,
				Checks: []check.Check{{Name: "postgres", Type: "process", Confirm: 1, Interval: 20 * time.Second, Timeout: 5 * time.Second}},
			},
			{
				Name: "web", Address: "web.example:50051", HealthService: check.NoHealth, MaxMessage: 16 << 20, TLS: check.TLS{Mode: check.TLSNone},
				Checks: []check.Check{
					{
						Name: "front page", Type: "http", Details: "https://user:secret@web.example/", Confirm: 3,
						Interval: time.Minute, Timeout: 4 * time.Second,
						Assert: &check.Assertions{Texts: []string{"data.code == 200", `data.proto in ["HTTP/2.0", 'h3']`, "response_time < 2"}},
					},
					{Name: "ssh", Type: "port", Details: "web.example", Port: 22, Confirm: 1, Interval: 20 * time.Second, Timeout: 2 * time.Second},
					{Name: "network", Type: "sweep", Method: check.StreamResults, Confirm: 1, Interval: 10 * time.Minute, Timeout: time.Minute},
					{Name: "devices sync", Type: "grpc", Method: check.GetResults, Confirm: 1, Interval: 20 * time.Second, Timeout: 4 * time.Second},
				},
			},
		},
		Silences: check.Silences{
			"":               {"": {{From: day(1), To: day(2), Reason: "the site moves"}, {From: day(1), To: day(3), Reason: "and is tried"}}},
			"db.example.org": {"": {{From: day(4).Add(-time.Hour), To: day(4), Reason: "new disks"}}},
			"web": {
				"":           {{From: day(5), To: day(5).Add(500 * time.Millisecond), Reason: "restart"}},
				"front page": {{From: day(6), To: day(7), Reason: `see https://user:secret@wiki.example/`}},
				"network":    {{From: day(6), To: day(7), Reason: "new \"switch\""}},
			},
		},
	}
	c, warnings := mustParse(t, string(read(t, "testdata/good/full.toml")))
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(warnings) > 0 {
		t.Errorf("warnings: %q", warnings)
	}
}

func TestShapes(t *testing.T) {
	t.Parallel()
	want := defaults()
	want.Core.Addresses = []string{"core.example:50052"}
	want.Poll.Interval, want.Poll.Timeout = 5*time.Second, 5*time.Second
	want.Agents = []*check.Agent{{
		Name: "inline", Address: "127.0.0.1:1", HealthService: "AgentService", MaxMessage: 4 << 20, TLS: want.TLS,
		// The timeout is the built-in one, shrunk.
		Checks: []check.Check{{Name: "a", Type: "t", Details: `{"deep": [1]}`, Confirm: 1, Interval: 5 * time.Second, Timeout: 5 * time.Second}},
	}}
	c, _ := mustParse(t, string(read(t, "testdata/good/shapes.toml")))
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTimeouts(t *testing.T) {
	t.Parallel()
	const agent = `
[agents.a]
address = "127.0.0.1:1"
`
	const checks = `
[[agents.a.checks]]
name = "each cycle"
type = "t"
[[agents.a.checks]]
name = "slow"
type = "t"
interval = "30s"
[[agents.a.checks]]
name = "own"
type = "t"
timeout = "1s"
`
	tests := map[string]struct {
		text string
		want []int // seconds
	}{
		"the default shrinks with the cycle": {text: `poll.interval = "6s"` + agent + checks, want: []int{6, 6, 1}},
		"the default, where it fits":         {text: `poll.interval = "15s"` + agent + checks, want: []int{10, 10, 1}},
		"poll's":                             {text: `poll = { interval = "6s", timeout = "3s" }` + agent + checks, want: []int{3, 3, 1}},
		"the agent's wins over poll's":       {text: `poll = { interval = "6s", timeout = "3s" }` + agent + `timeout = "4s"` + checks, want: []int{4, 4, 1}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := mustParse(t, minimal+test.text)
			for i, seconds := range test.want {
				want := time.Duration(seconds) * time.Second
				if got := c.Agents[0].Checks[i]; got.Timeout != want {
					t.Errorf("check %q has timeout %s, want %s", got.Name, got.Timeout, want)
				}
			}
		})
	}
}

func TestIdentities(t *testing.T) {
	t.Parallel()
	c, warnings := mustParse(t, minimal+`
tls = { mode = "mtls", cert_file = "tls/../poller.pem", key_file = "/keys/poller.key", ca_file = "ca.pem" }
core.tls = { mode = "none" }
[agents.inherits]
address = "127.0.0.1:1"
[agents.own]
address = "127.0.0.1:1"
tls = { mode = "tls", cert_file = "a.pem", key_file = "a.key" }
`)
	mtls := check.TLS{
		Mode: check.TLSMutual, CertFile: "/etc/poller/poller.pem", KeyFile: "/keys/poller.key", CAFile: "/etc/poller/ca.pem",
	}
	got := []check.TLS{c.TLS, c.Core.TLS, c.Agents[0].TLS, c.Agents[1].TLS}
	want := []check.TLS{
		mtls,
		{Mode: check.TLSNone}, // an own identity replaces [tls] wholly
		mtls,
		{Mode: check.TLSServer, CertFile: "/etc/poller/a.pem", KeyFile: "/etc/poller/a.key"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	wantWarnings := []string{
		`agents.own.tls: mode "tls" shows checkers and core no certificate of ours, so cert_file and key_file are not used; ` +
			`write mode = "mtls" if they ask for one`,
		`agents without checks are asked nothing: "inherits", "own"; add [[agents.NAME.checks]]`,
	}
	if diff := cmp.Diff(wantWarnings, warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	good := map[string]int64{
		"1": 1, "512KiB": 512 << 10, "3 MiB": 3 << 20, "1.5GiB": 3 << 29, "64B": 64, "9223372036854775807": math.MaxInt64,
	}
	for s, want := range good {
		if got, bad := parseSize(s); got != want || bad != "" {
			t.Errorf("parseSize(%q) = %d, %q, want %d", s, got, bad, want)
		}
		if got, bad := parseSize(formatSize(want)); got != want || bad != "" {
			t.Errorf("formatSize(%d) = %q, which is %d, %q", want, formatSize(want), got, bad)
		}
	}
	for _, s := range []string{"", "MiB", "-1", "+1", "1,000", "1m", "3mib", "1e3", "0x10", ".5GiB", "9223372036854775808", "8388608TiB", "٣"} {
		if got, bad := parseSize(s); bad == "" {
			t.Errorf("parseSize(%q) = %d, want a complaint", s, got)
		}
	}
}

func TestFormatDuration(t *testing.T) {
	t.Parallel()
	for want, d := range map[string]time.Duration{
		"10s": 10 * time.Second, "1m": time.Minute, "1h": time.Hour, "1h0m10s": time.Hour + 10*time.Second,
		"1h30m": 90 * time.Minute, "100ms": 100 * time.Millisecond, "20m": 20 * time.Minute, "168h": 168 * time.Hour, "0s": 0,
	} {
		if got := formatDuration(d); got != want {
			t.Errorf("formatDuration(%d) = %q, want %q", d, got, want)
		}
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "poller.toml")
	text := minimal + "state_dir = \"./state/\"\n" + `tls = { mode = "tls", ca_file = "ca.pem" }`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, _, err := Load(Source{File: file})
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, "ca.pem"); c.TLS.CAFile != want {
		t.Errorf("ca_file is %q, want it in the file's directory: %q", c.TLS.CAFile, want)
	}
	if want := filepath.Join(dir, "state"); c.StateDir != want {
		t.Errorf("state_dir is %q, want it in the file's directory: %q", c.StateDir, want)
	}
	for name, want := range map[string]string{
		filepath.Join(dir, "gone.toml"): "cannot read the configuration file: no such file or directory; " +
			"check the path, or copy deploy/poller.toml to it and adapt that",
		dir: "cannot read the configuration file: is a directory; check that it is a readable file",
	} {
		_, _, err := Load(Source{File: name})
		if err == nil || err.Error() != name+": "+want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestLoadWithoutFile(t *testing.T) {
	t.Parallel()
	c, _, err := Load(Source{Environ: []string{
		"POLLER_POLLER_ID=edge-1", "POLLER_SOURCE_IP=192.0.2.10", "POLLER_CORE__ADDRESSES=127.0.0.1:50052",
	}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(defaults(), c); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	_, _, err = Load(Source{})
	want := "configuration: core.addresses: missing: " + missingCoreAddresses + "\nconfiguration: poller_id: missing: " + missingPollerID
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}

// TestStateDir: what state_dir comes to, where it is right.
func TestStateDir(t *testing.T) {
	t.Parallel()
	for written, want := range map[string]string{
		"auto": "auto", "memory": "memory", "./memory": "/etc/poller/memory", "spool": "/etc/poller/spool", "../x": "/etc/x",
		"/var/lib//poller/": "/var/lib/poller", "/srv/a $b/~c": "/srv/a $b/~c", "./~c": "/etc/poller/~c",
	} {
		c, _ := mustParse(t, minimal+"state_dir = "+Quote(written))
		if c.StateDir != want {
			t.Errorf("in the file, %q comes to %q, want %q", written, c.StateDir, want)
		}
		src := Source{Environ: []string{"POLLER_STATE_DIR=" + written}}
		c, _, err := parse("/etc/poller/poller.toml", []byte(minimal+`state_dir = "/else"`), src, noAddresses)
		if err != nil || c.StateDir != want {
			t.Errorf("in the environment, %q comes to %+v, error %v; want %q", written, c, err, want)
		}
	}
	// In memory the spool may be smaller than on disk, where 1MiB is enough.
	mustParse(t, minimal+"state_dir = \"memory\"\ncore.max_message = \"64KiB\"\nspool.max_bytes = \"64KiB\"")
	mustParse(t, minimal+"core.max_message = \"64KiB\"\nspool.max_bytes = \"1MiB\"")
}

// TestMetricsThatNobodyCanRead: it is no error, because an environment may switch the server off for a file that is used elsewhere.
func TestMetricsThatNobodyCanRead(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"admin.listen = \"\"\nmetrics.per_check = true\n":            `metrics.per_check: nobody can read metrics, because admin.listen is ""; give it a host:port, or leave this out`,
		"admin.listen = \"127.0.0.1:1\"\nmetrics.per_check = true\n": "",
		"admin.listen = \"\"\n":                                      "",
	} {
		_, warnings := mustParse(t, minimal+text+"[agents.a]\naddress = \"127.0.0.1:1\"\nchecks = [{ name = \"a\", type = \"t\" }]\n")
		if got := strings.Join(warnings, "\n"); got != want {
			t.Errorf("%s: warnings %q, want %q", text, got, want)
		}
	}
}

// TestSample loads the sample that operators copy, and wants nothing in it to be noteworthy.
func TestSample(t *testing.T) {
	t.Parallel()
	c, warnings, err := Load(Source{File: "../deploy/poller.toml", Environ: []string{"POD_IP=192.0.2.10"}})
	if err != nil || len(warnings) > 0 {
		t.Fatalf("error %v, warnings %q", err, warnings)
	}
	if len(c.Agents) < 2 {
		t.Errorf("the sample has %d agents, want at least two", len(c.Agents))
	}
	// Whatever the sample shows outside the agents is the default, so that copying it changes nothing.
	want := defaults()
	want.Agents, want.Labels, want.Core.Addresses, want.PollerID = c.Agents, c.Labels, c.Core.Addresses, c.PollerID
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("the sample differs from the defaults (-want +got):\n%s", diff)
	}
	// And it shows each key, if only in a comment.
	text := string(read(t, "../deploy/poller.toml"))
	for _, name := range slices.Concat(rootSpec.tables[""], agentSpec.tables[""], checkSpec.tables[""]) {
		if k := rootSpec.byName[name]; (k == nil || !k.later) && !strings.Contains(text, name) {
			t.Errorf("the sample does not show %s", name)
		}
	}
	for i := range rootSpec.keys {
		k := &rootSpec.keys[i]
		last := k.name[strings.LastIndexByte(k.name, '.')+1:]
		if !k.later && !strings.Contains(text, last) {
			t.Errorf("the sample does not show %s", k.name)
		}
		if k.later && strings.Contains(text, "\n"+k.name) {
			t.Errorf("the sample shows %s, which is not built", k.name)
		}
	}
}

// TestStreamsByDefault: the types whose results are large, and what is called sync.
func TestStreamsByDefault(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]check.Method{
		`name = "a", type = "sweep", results_interval = "1m"`:                 check.StreamResults,
		`name = "a", type = "sync", results_interval = "1m"`:                  check.StreamResults,
		`name = "my-sync-1", type = "grpc", results_interval = "1m"`:          check.StreamResults,
		`name = "a", type = "grpc", results_interval = "1m"`:                  check.GetResults,
		`name = "a", type = "grpc", results_interval = "1m", stream = true`:   check.StreamResults,
		`name = "a", type = "sweep", results_interval = "1m", stream = false`: check.GetResults,
		`name = "sync", type = "sync"`:                                        check.GetStatus,
	} {
		c, _ := mustParse(t, minimal+"[agents.a]\naddress = \"127.0.0.1:1\"\nchecks = [{ "+text+" }]\n")
		if got := c.Agents[0].Checks[0].Method; got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}
