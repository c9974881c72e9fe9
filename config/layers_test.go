package config

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

// flags returns the flags of AddFlags and some others, parsed.
func flags(t *testing.T, args ...string) *pflag.FlagSet {
	t.Helper()
	fs := pflag.NewFlagSet("poller", pflag.ContinueOnError)
	AddFlags(fs)
	fs.String("config", "", "not a key")
	fs.String("include", "x", "a key of the file alone")
	fs.Duration("poll.interval", time.Hour, "a key with a flag of a kind and a default of its own")
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return fs
}

func TestPrecedence(t *testing.T) {
	t.Parallel()
	file := minimal + "[log]\nlevel = \"warn\"\nformat = \"json\"\n[poll]\ninterval = \"20s\"\nrate = 7\n"
	src := Source{
		Environ: []string{
			"POLLER_LOG__LEVEL=error", "POLLER_LOG__FORMAT=console", "POLLER_POLL__RATE=9", "POLLER_ADMIN__LISTEN=",
			"POLLER_CORE__ADDRESSES=core-1:1, core-2:2", "POLLER_CORE__MAX_MESSAGE=1MiB", "POLLER_CORE__TLS__MODE=tls",
			"PATH=/bin", "POLLER", "poller_poll__rate=1",
		},
		Flags: flags(t, "--log.level=debug", "--core.addresses=core-3:3", "--core.addresses=core-4:4,core-5:5", "--poll.interval=10s", "--config=x"),
	}
	c, warnings, err := parse("poller.toml", []byte(file), src, noAddresses)
	if err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.Log = Log{Level: "debug", Format: "console"}                  // flag over environment over file
	want.Core.Addresses = []string{"core-3:3", "core-4:4", "core-5:5"} // lists are replaced, not joined
	want.Poll.Interval = 10 * time.Second
	want.Poll.Rate = 9
	want.Admin.Listen = "" // set to nothing is set
	want.Core.MaxMessage = 1 << 20
	want.Core.TLS.Mode = "tls" // an own identity, though the file has none for core
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{noAgents}, warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}

	src.Flags = nil
	c, _, err = parse("poller.toml", []byte(file), src, noAddresses)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"core-1:1", "core-2:2"}, c.Core.Addresses); diff != "" {
		t.Errorf("addresses of the environment (-want +got):\n%s", diff)
	}
	if c.Log.Level != "error" || c.Poll.Interval != 20*time.Second {
		t.Errorf("level %q, interval %s; want those of the environment and the file", c.Log.Level, c.Poll.Interval)
	}
}

// TestUnchangedFlags makes sure that flags which nobody gave set nothing.
func TestUnchangedFlags(t *testing.T) {
	t.Parallel()
	c, _, err := parse("poller.toml", []byte(minimal), Source{Flags: flags(t)}, noAddresses)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(defaults(), c); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestLayerErrors(t *testing.T) {
	t.Parallel()
	src := Source{
		Environ: []string{
			"POLLER_POLL__RATE=many", "POLLER_POLL__MAX_IN_FLIGHT=0", "POLLER_CORE__TIMEOUT=soon",
			"POLLER_CORE__ADDRESSES=core:1,,core:2", "POLLER_LOG__LEVEL=inf", "POLLER_PARTITION=\xff", "POLLER_TLS__CERT_FILE=a.pem",
		},
		Flags: flags(t, "--log.format=yaml", "--source_ip=a b"),
	}
	text := minimal + "[poll]\nrate = \"fast\"\n[restart]\ninitial = \"1h\"\n"
	_, _, err := parse("poller.toml", []byte(text), src, noAddresses)
	want := strings.Join([]string{
		// The file's mistake is told although the environment wins over it.
		`poller.toml:5:8: poll.rate: found "fast", want a whole number`,
		`poller.toml:7:11: restart.initial: found restart.initial "1h" above restart.max "30s"; the first back-off must not be longer than the longest`,
		`environment POLLER_CORE__ADDRESSES: core.addresses[1]: found "", want host:port such as "127.0.0.1:50051", "checker.example:50051" or "[::1]:50051"`,
		`environment POLLER_CORE__TIMEOUT: core.timeout: found "soon", want a duration such as "30s"`,
		`environment POLLER_LOG__LEVEL: log.level: found "inf", want one of trace, debug, info, warn, error; did you mean "info"?`,
		`environment POLLER_PARTITION: partition: found "\xff", which is not UTF-8`,
		`environment POLLER_POLL__MAX_IN_FLIGHT: poll.max_in_flight: found "0", want more than zero`,
		`environment POLLER_POLL__RATE: poll.rate: found "many", want a whole number`,
		`environment POLLER_TLS__CERT_FILE: tls.cert_file: found "a.pem", but the mode is "none", which uses no TLS; write mode = "tls" or "mtls", or leave this out`,
		`flag --log.format: log.format: found "yaml", want one of auto, console, json`,
		`flag --source_ip: source_ip: found "a b", want "auto", an address such as "192.0.2.10", or a host name`,
	}, "\n")
	if err == nil {
		t.Fatal("parsed, want errors")
	}
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestNoFollowUps makes sure that a bad value is told once, not once more for what it leads to.
func TestNoFollowUps(t *testing.T) {
	t.Parallel()
	text := "poller_id = \"edge-1\"\nagents.a = { address = \"a:1\", checks = [{ name = \"a\", type = \"t\", interval = \"7s\" }] }\n"
	src := Source{Environ: []string{"POLLER_CORE__ADDRESSES= ", "POLLER_POLL__INTERVAL=often"}}
	_, _, err := parse("poller.toml", []byte(text), src, noAddresses)
	want := "environment POLLER_CORE__ADDRESSES: core.addresses: found an empty list, want at least one\n" +
		`environment POLLER_POLL__INTERVAL: poll.interval: found "often", want a duration such as "30s"`
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}

// TestTwice makes sure that nothing follows from values of which nobody knows which one is meant.
func TestTwice(t *testing.T) {
	t.Parallel()
	const again = ": already written on line 4; write it once"
	const agent = "\n[agents.a]\naddress = \"127.0.0.1:1\"\n"
	const checks = "[[agents.a.checks]]\nname = \"ssh\"\ntype = \"port\"\n"
	const named = "\npoller_id = \"edge-1\"\nsource_ip = \"192.0.2.10\"\n[core]\n"
	tests := map[string]struct {
		text, want string
	}{
		"a check's interval": {
			text: minimal + "poll.interval = \"7s\"\npoll.interval = \"11s\"" + agent + checks + "interval = \"30s\"\n",
			want: "5:6: poll.interval" + again,
		},
		"a timeout": {
			text: minimal + "[poll]\ninterval = \"7s\"\n[poll]\ntimeout = \"9s\"\n",
			want: "6:2: poll" + again,
		},
		"a required key in the first table":  {text: named + "addresses = [\"a:1\"]\n[core]\n", want: "6:2: core" + again},
		"a required key in the second table": {text: named + "[core]\naddresses = [\"a:1\"]\n", want: "5:2: core" + again},
		"an identity":                        {text: minimal + "[tls]\nmode = \"mtls\"\n[tls]\nca_file = \"ca.pem\"\n", want: "6:2: tls" + again},
		"an agent's identity": {
			text: minimal + agent[1:] + "[agents.a.tls]\nmode = \"mtls\"\n[agents.a.tls]\nca_file = \"ca.pem\"\n",
			want: "8:11: agents.a.tls: already written on line 6; write it once",
		},
		"an agent copied":       {text: minimal + agent[1:] + checks + agent[1:] + checks, want: "9:9: agents.a" + again},
		"an agent continued":    {text: minimal + agent[1:] + "[agents.a]\ntimeout = \"5s\"\n", want: "6:9: agents.a" + again},
		"an agent's first part": {text: minimal + "[agents.a]\ntimeout = \"5s\"\n" + agent[1:], want: "6:9: agents.a" + again},
		"the agents": {
			text: minimal + "[agents]\na.address = \"127.0.0.1:1\"\n[agents]\nb.address = \"127.0.0.1:1\"\n",
			want: "6:2: agents" + again,
		},
		"the source": {text: minimal + "source_ip = \"auto\"\n", want: "4:1: source_ip: already written on line 2; write it once"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := parse("poller.toml", []byte(test.text), Source{}, noAddresses)
			if want := "poller.toml:" + test.want; err == nil || err.Error() != want {
				t.Errorf("got:\n%v\nwant:\n%s", err, want)
			}
		})
	}
}

// TestWarningsWithErrors makes sure that an error keeps no warning from the operator.
func TestWarningsWithErrors(t *testing.T) {
	t.Parallel()
	const identity = `tls: mode "tls" shows checkers and core no certificate of ours, so cert_file and key_file are not used; ` +
		`write mode = "mtls" if they ask for one`
	const environment = "environment: these variables set no key and are ignored: POLLER_X; " +
		"core.timeout is set by POLLER_CORE__TIMEOUT, with two underscores for the dot, and agents by the file alone"
	const tls = "tls = { mode = \"tls\", cert_file = \"a.pem\", key_file = \"a.key\" }\n"
	src := Source{Environ: []string{"POLLER_X=", "POLLER_LOG__LEVEL=loud"}}
	const loud = "\nenvironment POLLER_LOG__LEVEL: log.level: found \"loud\", want one of trace, debug, info, warn, error"
	tests := map[string]struct {
		text, want string
		warnings   []string
	}{
		"a value": {
			text: minimal + tls + "poll.rate = 0\n", want: "poller.toml:5:13: poll.rate: found 0, want more than zero" + loud,
			warnings: []string{environment, identity, noAgents},
		},
		"no TOML": {
			text: tls + "poll.rate\n", want: "poller.toml:2:10: not valid TOML: expected '=' after key" + loud,
			warnings: []string{environment},
		},
		"checks that are none": {
			text: minimal + "agents.a = { address = \"a:1\", checks = 5 }\nagents.b = { address = \"b:1\", checks = [] }\n",
			want: "poller.toml:4:40: agents.a.checks: found 5, want an array of tables: write [[agents.a.checks]] before each check" + loud,
			warnings: []string{
				environment, `agents without checks are asked nothing: "b"; add [[agents.NAME.checks]]`,
			},
		},
		"a source that is none": {
			text: "poller_id = \"edge-1\"\nsource_ip = 5\ncore.addresses = [\"a:1\"]\nagents = 5\n",
			want: "poller.toml:2:13: source_ip: found 5, want text in quotes: \"5\"\n" +
				"poller.toml:4:10: agents: found 5, want a table for each agent: write [agents.NAME]" + loud,
			warnings: []string{environment},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, warnings, err := parse("poller.toml", []byte(test.text), src, noAddresses)
			if c != nil || err == nil || err.Error() != test.want {
				t.Errorf("Config %v, errors:\n%v\nwant:\n%s", c, err, test.want)
			}
			if diff := cmp.Diff(test.warnings, warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestUnknownVariables(t *testing.T) {
	t.Parallel()
	src := Source{Environ: []string{
		"POLLER_SERVICE_HOST=10.0.0.1", "POLLER_PORT=tcp://10.0.0.1:50051", "POLLER_LOG_LEVEL=debug", "POLLER_INCLUDE=x",
		"POLLER_AGENTS__LOCAL__ADDRESS=a:1", "POLLER_PORT=again",
	}}
	c, warnings, err := parse("poller.toml", []byte(minimal), src, noAddresses)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(defaults(), c); diff != "" {
		t.Errorf("unknown variables changed something (-want +got):\n%s", diff)
	}
	want := []string{
		"environment: these variables set no key and are ignored: POLLER_AGENTS__LOCAL__ADDRESS, POLLER_INCLUDE, " +
			"POLLER_LOG_LEVEL (did you mean POLLER_LOG__LEVEL?), POLLER_PORT, POLLER_SERVICE_HOST; " +
			"core.timeout is set by POLLER_CORE__TIMEOUT, with two underscores for the dot, and agents by the file alone",
		noAgents,
	}
	if diff := cmp.Diff(want, warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func TestEnvKeys(t *testing.T) {
	t.Parallel()
	want := strings.Fields(`
		POLLER_ADMIN__LISTEN POLLER_BREAKER__FAILURES POLLER_BREAKER__PROBE
		POLLER_CLUSTER__ENABLED POLLER_CLUSTER__LISTEN POLLER_CLUSTER__NAME POLLER_CLUSTER__NODE POLLER_CLUSTER__ON_MINORITY
		POLLER_CLUSTER__REMOTE POLLER_CLUSTER__SEEDS POLLER_CLUSTER__SIZE
		POLLER_CLUSTER__TLS__CA_FILE POLLER_CLUSTER__TLS__CERT_FILE POLLER_CLUSTER__TLS__KEY_FILE POLLER_CLUSTER__TLS__MODE
		POLLER_CLUSTER__TLS__SERVER_NAME POLLER_CLUSTER__WEIGHT
		POLLER_CORE__ADDRESSES POLLER_CORE__ENVELOPE POLLER_CORE__MAX_MESSAGE POLLER_CORE__TIMEOUT
		POLLER_CORE__TLS__CA_FILE POLLER_CORE__TLS__CERT_FILE POLLER_CORE__TLS__KEY_FILE POLLER_CORE__TLS__MODE POLLER_CORE__TLS__SERVER_NAME
		POLLER_KV_STORE_ID POLLER_LOG__FORMAT POLLER_LOG__LEVEL POLLER_METRICS__PER_CHECK POLLER_PARTITION POLLER_POLLER_ID
		POLLER_POLL__INTERVAL POLLER_POLL__MAX_IN_FLIGHT POLLER_POLL__RATE POLLER_POLL__TIMEOUT
		POLLER_RESTART__BUDGET POLLER_RESTART__INITIAL POLLER_RESTART__MAX POLLER_RESTART__WINDOW
		POLLER_SHUTDOWN_TIMEOUT POLLER_SOURCE_IP POLLER_SPOOL__MAX_AGE POLLER_SPOOL__MAX_BYTES POLLER_SPOOL__WHEN_FULL
		POLLER_STATE_DIR POLLER_TLS__CA_FILE POLLER_TLS__CERT_FILE POLLER_TLS__KEY_FILE POLLER_TLS__MODE POLLER_TLS__SERVER_NAME`)
	slices.Sort(want)
	if diff := cmp.Diff(want, EnvKeys()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
