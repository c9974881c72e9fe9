package config

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceradar/poller/internal/check"
)

// withTargets parses testdata/good/discovery.toml with what its sources have found.
func withTargets(t testing.TB, targets map[string][]Target) *Config {
	t.Helper()
	text := read(t, "testdata/good/discovery.toml")
	c, warnings, err := parse("/etc/poller/poller.toml", text, Source{Targets: targets}, noAddresses)
	if err != nil || len(warnings) > 0 {
		t.Fatalf("error %v, warnings %q", err, warnings)
	}
	return c
}

// TestTargets: what targets come to, and how they give way to what is written and to each other.
func TestTargets(t *testing.T) {
	t.Parallel()
	north := map[string]string{"site": "north", "check": "ssh", "agent": "x", "__meta_filepath": "/a b.json"}
	c := withTargets(t, map[string][]Target{
		webFiles: {
			{Name: "z", Address: "[::1]:2", Labels: north},
			{Name: "b.example:1", Address: "b.example:1", Labels: north},
			{Name: "written", Address: "b.example:2", Labels: north},
			{Name: "off", Address: "not looked at"},
		},
		plainURL: {
			{Name: "z", Address: "[::1]:2"}, // the same, and the first counts
			{Name: "b.example:1", Address: "192.0.2.1:1"},
			{Name: "plain", Address: "192.0.2.2:1", Labels: map[string]string{"__meta_url": "http://[::1]"}},
		},
		"file:/unknown.json": {{Name: "unknown", Address: "192.0.2.3:1"}},
	})
	identity := check.TLS{Mode: check.TLSServer, CAFile: "/etc/poller/ca.pem"}
	web := func(name, address string) *check.Agent {
		return &check.Agent{Name: name, Address: address, HealthService: "AgentService", MaxMessage: 4 << 20, TLS: identity, Checks: []check.Check{
			{Name: "http", Type: "http", Details: "https://" + name + ".north/?%2Fa+b.json", Interval: time.Minute, Timeout: 10 * time.Second, Confirm: 1},
			{Name: "ssh", Type: "port", Details: address, Interval: 30 * time.Second, Timeout: 10 * time.Second, Confirm: 1},
		}}
	}
	want := []*check.Agent{
		web("b.example:1", "b.example:1"),
		{Name: "plain", Address: "192.0.2.2:1", HealthService: "AgentService", MaxMessage: 4 << 20, TLS: identity, Checks: []check.Check{
			{Name: "network", Type: "sweep", Method: check.StreamResults, Interval: 10 * time.Minute, Timeout: 10 * time.Second, Confirm: 1},
		}},
		{Name: "written", Address: "127.0.0.1:1", HealthService: "AgentService", MaxMessage: 4 << 20, TLS: identity, Checks: []check.Check{
			{Name: "own", Type: "t", Interval: 30 * time.Second, Timeout: 10 * time.Second, Confirm: 1},
		}},
		web("z", "[::1]:2"),
	}
	if diff := cmp.Diff(want, c.Agents); diff != "" {
		t.Errorf("agents (-want +got):\n%s", diff)
	}
	labels := map[string]string{"site": "north", "check": "ssh", "agent": "x"}
	if diff := cmp.Diff(map[string]map[string]string{"b.example:1": labels, "z": labels}, c.Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"off"}, c.Disabled); diff != "" {
		t.Errorf("disabled (-want +got):\n%s", diff)
	}
	wantSkipped := []string{plainURL + `: target "b.example:1" at "192.0.2.1:1": there is an agent of that name already, found at "b.example:1"; names are unique, and the first counts`}
	if diff := cmp.Diff(wantSkipped, c.Skipped); diff != "" {
		t.Errorf("skipped (-want +got):\n%s", diff)
	}
	roundTrip(t, c)
	before := withTargets(t, nil)
	d := Compare(before, c)
	if diff := cmp.Diff(Diff{Added: []string{"b.example:1", "plain", "z"}}, d); diff != "" || before.Hash() == c.Hash() {
		t.Errorf("compared with no targets (-want +got):\n%s", diff)
	}
	if _, _, removed := Adopt(c, before); len(removed) != 3 {
		t.Errorf("%d agents removed with the targets, want 3", len(removed))
	}
}

// TestSkipped: what is wrong with a target leaves out that target, and nothing else.
func TestSkipped(t *testing.T) {
	t.Parallel()
	labels := func(more ...string) map[string]string {
		all := map[string]string{"site": "north", "check": "ssh"}
		for i := 0; i < len(more); i += 2 {
			all[more[i]] = more[i+1]
		}
		return all
	}
	c := withTargets(t, map[string][]Target{webURL: {
		{Name: "", Address: "a:1", Labels: labels()},
		{Name: "a\nb", Address: "a:1", Labels: labels()},
		{Name: "a\xff", Address: "a:1", Labels: labels()},
		{Name: "address", Address: "https://user:secret@a:1", Labels: labels()},
		{Name: "label-name", Address: "a:1", Labels: labels("a\tb", "x")},
		{Name: "label-name-too", Address: "a:1", Labels: labels("a\tb", "x")},
		{Name: "label-value", Address: "a:1", Labels: labels("long one", strings.Repeat("x", maxLabel+1))},
		{Name: "missing", Address: "a:1", Labels: map[string]string{"check": "ssh"}},
		{Name: "no-labels", Address: "a:1"},
		{Name: "check-name", Address: "a:1", Labels: labels("check", "a\nb")},
		{Name: "collides", Address: "a:1", Labels: labels("check", "http")},
		{Name: "right", Address: "a:1", Labels: labels()},
	}})
	var names []string
	for _, a := range c.Agents {
		names = append(names, a.Name)
	}
	if diff := cmp.Diff([]string{"right", "written"}, names); diff != "" {
		t.Errorf("agents (-want +got):\n%s", diff)
	}
	want := []string{
		`"" at "a:1": name: found "", want a name`,
		`"a\nb" at "a:1": name: found "a\nb", want a name without control characters such as line breaks`,
		`"a\xff" at "a:1": name: found "a\xff", which is not UTF-8`,
		`"address" at "https://user:***@a:1": address: found "https://user:***@a:1", want host:port such as "127.0.0.1:50051", "checker.example:50051" or "[::1]:50051"`,
		`"check-name" at "a:1": profiles.web.checks[1].name: it comes to "a\nb", want a name without control characters such as line breaks`,
		`"collides" at "a:1": profiles.web.checks[1].name: the name "http" is that of two checks of this profile; names are unique within an agent`,
		`"label-name" at "a:1": a label's name: found "a\tb", want a name without control characters such as line breaks`,
		`"label-name-too" at "a:1": a label's name: found "a\tb", want a name without control characters such as line breaks`,
		`"label-value" at "a:1": labels."long one": found "` + strings.Repeat("x", 80) + `…", which has 4097 bytes, want at most 4096`,
		`"missing" at "a:1": profiles.web.checks[0].details: its labels have no "site"; write it there, or {{ index .labels "site" }} here if it may be missing`,
		`"no-labels" at "a:1": profiles.web.checks[0].details: its labels have no "site"; write it there, or {{ index .labels "site" }} here if it may be missing`,
	}
	for i := range want {
		want[i] = webURL + ": target " + want[i]
	}
	if diff := cmp.Diff(want, c.Skipped); diff != "" {
		t.Errorf("skipped (-want +got):\n%s", diff)
	}
}

// TestSkippedMany: the list has a bound, whatever the order in which they were found.
func TestSkippedMany(t *testing.T) {
	t.Parallel()
	var targets []Target
	for i := range 250 {
		targets = append(targets, Target{Name: fmt.Sprintf("a%03d", 249-i), Address: "nowhere"})
	}
	c := withTargets(t, map[string][]Target{plainFiles: targets})
	const why = ` at "nowhere": address: found "nowhere", want host:port such as "127.0.0.1:50051", "checker.example:50051" or "[::1]:50051"`
	if len(c.Skipped) != maxSkipped+1 || c.Skipped[0] != plainFiles+`: target "a000"`+why || c.Skipped[99] != plainFiles+`: target "a099"`+why ||
		c.Skipped[100] != "and 150 more" {
		t.Errorf("%d entries: %q", len(c.Skipped), c.Skipped)
	}
}

// TestTargetsOfBrokenConfig: a profile that is wrong stays an error, told once.
func TestTargetsOfBrokenConfig(t *testing.T) {
	t.Parallel()
	text := []byte(minimal + "discovery.file = [{ paths = [\"/a.json\"], profile = \"web\" }]\n[[profiles.web.checks]]\nname = \"{{ .labels.site }}\"\ntype = \"{{ .agnet }}\"\n")
	src := Source{Targets: map[string][]Target{"file:/a.json": {{Name: "a", Address: "a:1"}}}}
	_, warnings, err := parse("poller.toml", text, src, noAddresses)
	want := `poller.toml:7:8: profiles.web.checks[0].type: found "{{ .agnet }}", but there is no .agnet; did you mean "agent"?`
	if err == nil || err.Error() != want || len(warnings) > 0 {
		t.Errorf("warnings %q, errors:\n%v\nwant:\n%s", warnings, err, want)
	}
}
