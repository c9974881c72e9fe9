package config

import (
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/serviceradar/poller/internal/check"
)

func printed(t fataler, c *Config) string {
	t.Helper()
	var b strings.Builder
	if err := c.Print(&b); err != nil {
		t.Fatalf("printing: %v", err)
	}
	return b.String()
}

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// masked returns what Print shows of a Config.
func masked(c *Config) *Config {
	out := *c
	for _, s := range []*string{&out.PollerID, &out.Partition, &out.SourceIP, &out.KVStoreID, &out.Cluster.Name, &out.Cluster.Node} {
		*s = Mask(*s)
	}
	out.Disabled, out.Discovery, out.Skipped, out.SkippedTotal = nil, nil, nil, 0 // they are in comments, or not there
	out.Labels = maps.Clone(c.Labels)
	for name, labels := range out.Labels {
		labels = maps.Clone(labels)
		for label, value := range labels {
			labels[label] = Mask(value)
		}
		out.Labels[name] = labels
	}
	out.Silences = maps.Clone(c.Silences)
	for agent, checks := range out.Silences {
		out.Silences[agent] = make(map[string][]check.Silence)
		for name, list := range checks {
			list = slices.Clone(list)
			for i := range list {
				list[i].Reason = Mask(list[i].Reason)
			}
			out.Silences[agent][Mask(name)] = list
		}
	}
	maskTLS(&out.TLS)
	maskTLS(&out.Core.TLS)
	maskTLS(&out.Cluster.TLS)
	out.Agents = slices.Clone(c.Agents)
	for i := range out.Agents {
		a := *out.Agents[i]
		out.Agents[i] = &a
		a.HealthService = Mask(a.HealthService)
		maskTLS(&a.TLS)
		a.Checks = slices.Clone(a.Checks)
		for j := range a.Checks {
			k := &a.Checks[j]
			k.Name, k.Type, k.Details = Mask(k.Name), Mask(k.Type), Mask(k.Details)
		}
	}
	return &out
}

func maskTLS(tls *check.TLS) {
	tls.CertFile, tls.KeyFile, tls.CAFile = Mask(tls.CertFile), Mask(tls.KeyFile), Mask(tls.CAFile)
}

// roundTrip fails unless what is printed parses to the same again.
func roundTrip(t fataler, c *Config) {
	t.Helper()
	text := printed(t, c)
	again, _, err := parse("poller.toml", []byte(text), Source{}, noAddresses)
	if err != nil {
		t.Fatalf("parsing what was printed: %v\n%s", err, text)
	}
	if diff := cmp.Diff(masked(c), again); diff != "" {
		t.Fatalf("printed and parsed again (-want +got):\n%s\n%s", diff, text)
	}
}

func TestPrint(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/good/*.toml")
	if err != nil || len(files) < 4 {
		t.Fatalf("found %d good files, error %v", len(files), err)
	}
	for _, file := range files {
		c, _ := mustParse(t, string(read(t, file)))
		roundTrip(t, c)
	}
}

func TestPrintDefaults(t *testing.T) {
	t.Parallel()
	const want = `poller_id = "edge-1"
partition = "default"
source_ip = "192.0.2.10"
kv_store_id = ""
state_dir = "auto"
shutdown_timeout = "15s"

[log]
level = "info"
format = "auto"

[admin]
listen = "127.0.0.1:9464"

[metrics]
per_check = false

[core]
addresses = ["127.0.0.1:50052"]
timeout = "15s"
max_message = "3MiB"
envelope = "serviceradar"

[poll]
interval = "30s"
timeout = "10s"
rate = 500
max_in_flight = 2048

[breaker]
failures = 5
probe = "3s"

[restart]
initial = "100ms"
max = "30s"
budget = 10
window = "1m"

[spool]
max_bytes = "1GiB"
max_age = "168h"
when_full = "drop_oldest"

[cluster]
enabled = false
name = "default"
node = ""
listen = "127.0.0.1:7946"
remote = "127.0.0.1:7947"
seeds = []
size = 3
on_minority = "step_down"
weight = 1

[tls]
mode = "none"
cert_file = ""
key_file = ""
ca_file = ""
server_name = ""

[cluster.tls]
mode = "none"
cert_file = ""
key_file = ""
ca_file = ""
server_name = ""
`
	if diff := cmp.Diff(want, printed(t, defaults())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPrintFails(t *testing.T) {
	t.Parallel()
	full := errors.New("disk full")
	if err := defaults().Print(failingWriter{full}); !errors.Is(err, full) {
		t.Errorf("got %v, want %v", err, full)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestMask(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"https://user:secret@host/path":             "https://user:***@host/path",
		"https://:secret@host":                      "https://:***@host",
		"redis://user:p@ss@host:6379/0":             "redis://user:***@host:6379/0",
		`{"a":"http://u:p@h/","b":"amqp://v:q@h/"}`: `{"a":"http://u:***@h/","b":"amqp://v:***@h/"}`,
		"https://user:***@host":                     "https://user:***@host",
		"http://u:p@h/?a=1&X-Token=abc&b=2#c":       "http://u:***@h/?a=1&X-Token=***&b=2#c",
		"https://h/?api_key=k&password=":            "https://h/?api_key=***&password=",
		// Nothing secret here.
		"https://host:8080/mail?to=a@b": "https://host:8080/mail?to=a@b",
		"https://user@host":             "https://user@host",
		"https://h/token=1?key=2":       "https://h/token=1?key=2",
		"127.0.0.1:22":                  "127.0.0.1:22",
		"user:name@host":                "user:name@host",
	} {
		if got := Mask(s); got != want {
			t.Errorf("Mask(%q) = %q, want %q", s, got, want)
		}
	}
	c, _ := mustParse(t, string(read(t, "testdata/good/full.toml")))
	if text := printed(t, c); strings.Contains(text, "secret") || !strings.Contains(text, "https://user:***@web.example/") {
		t.Errorf("the password is not masked:\n%s", text)
	}
}

func TestQuote(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"": `""`, "a b": `"a b"`, `a"b\c`: `"a\"b\\c"`, "a\n\t\x00\x7f": `"a\n\t\u0000\u007F"`, "é\xff": `"é` + "\ufffd" + `"`,
	} {
		if got := Quote(s); got != want {
			t.Errorf("Quote(%q) = %s, want %s", s, got, want)
		}
	}
}

// TestPrintProperty prints and parses agents with names and targets of all kinds.
func TestPrintProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.String().Filter(func(s string) bool { return wantName(s) == "" })
		free := rapid.String().Filter(func(s string) bool { return strings.ToValidUTF8(s, "") == s })
		identity := rapid.SampledFrom([]check.TLS{
			{Mode: check.TLSNone},
			{Mode: check.TLSServer, ServerName: "core.example"},
			{Mode: check.TLSMutual, CertFile: "/a \"quoted\".pem", KeyFile: "/b.key", CAFile: "/ca.pem"},
		})
		c := defaults()
		c.KVStoreID = free.Draw(t, "kv")
		c.Spool.MaxBytes = rapid.Int64Min(4<<20).Draw(t, "bytes")
		c.Poll.Interval = time.Duration(rapid.Int64Range(int64(time.Second), int64(time.Hour)).Draw(t, "interval"))
		c.Poll.Timeout = min(c.Poll.Timeout, c.Poll.Interval)
		c.TLS, c.Core.TLS = identity.Draw(t, "tls"), identity.Draw(t, "core")
		for _, agent := range rapid.SliceOfNDistinct(name, 0, 4, rapid.ID[string]).Draw(t, "agents") {
			a := &check.Agent{Name: agent, Address: "[::1]:1", HealthService: free.Draw(t, "health"), MaxMessage: rapid.Int64Range(64<<10, 64<<20).Draw(t, "max"), TLS: identity.Draw(t, "identity")}
			for _, n := range rapid.SliceOfNDistinct(name, 0, 4, Mask).Draw(t, "checks") {
				k := check.Check{Name: n, Type: name.Draw(t, "type"), Details: free.Draw(t, "details"), Port: rapid.Int32Range(0, maxPort).Draw(t, "port")}
				k.Interval = c.Poll.Interval * time.Duration(rapid.IntRange(1, 9).Draw(t, "multiple"))
				k.Timeout = time.Duration(rapid.Int64Range(int64(minTimeout), int64(c.Poll.Interval)).Draw(t, "timeout"))
				k.Method = rapid.SampledFrom([]check.Method{check.GetStatus, check.GetResults, check.StreamResults}).Draw(t, "method")
				if k.Confirm = 1; !k.HasResults() {
					k.Confirm = rapid.Uint8Range(1, 100).Draw(t, "confirm")
					texts := rapid.SampledFrom([]string{`data.x == "é\n"`, `data.x == "É\n"`, `data.x matches '\\d'`, "response_time < 2"})
					if list := rapid.SliceOfNDistinct(texts, 0, 3, rapid.ID[string]).Draw(t, "assert"); len(list) > 0 {
						k.Assert = &check.Assertions{Texts: list}
					}
				}
				drawSilences(t, c, agent, n)
				a.Checks = append(a.Checks, k)
			}
			c.Agents = append(c.Agents, a)
			drawSilences(t, c, agent, "")
			if labels := rapid.MapOfN(name, free.Filter(func(s string) bool { return wantLabel(s) == "" }), 0, 3).Draw(t, "labels"); len(labels) > 0 {
				if c.Labels == nil {
					c.Labels = map[string]map[string]string{}
				}
				c.Labels[agent] = labels
			}
		}
		drawSilences(t, c, "", "")
		sortAgents(c.Agents)
		roundTrip(t, c)
	})
}

// drawSilences gives a configuration some silences of an agent or a check.
func drawSilences(t *rapid.T, c *Config, agent, chk string) {
	moment := func(least, most int64) time.Time {
		return time.Unix(rapid.Int64Range(least, most).Draw(t, "s"), rapid.Int64Range(0, 1e9-1).Draw(t, "ns")).UTC()
	}
	reason := rapid.String().Filter(func(s string) bool { return wantReason(s) == "" && strings.ToValidUTF8(s, "") == s })
	var list []check.Silence
	for range rapid.IntRange(0, 2).Draw(t, "silences") {
		list = append(list, check.Silence{From: moment(0, 1e9), To: moment(1e9+1, 2e11), Reason: reason.Draw(t, "reason")})
	}
	entry := agentEntry{silences: c.Silences[agent]}
	entry.silence(chk, list)
	c.silence(agent, entry.silences)
}
