package config

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceradar/poller/internal/check"
)

// TestProfiles: what the checks of profiles come to for their agents.
func TestProfiles(t *testing.T) {
	t.Parallel()
	want := defaults()
	agent := func(name, address string, checks ...check.Check) *check.Agent {
		for i := range checks {
			if checks[i].Interval == 0 {
				checks[i].Interval = 30 * time.Second
			}
			checks[i].Confirm = max(checks[i].Confirm, 1)
			if checks[i].Timeout == 0 {
				checks[i].Timeout = 10 * time.Second
			}
		}
		return &check.Agent{Name: name, Address: address, HealthService: "AgentService", MaxMessage: 4 << 20, TLS: want.TLS, Checks: checks}
	}
	want.Agents = []*check.Agent{
		agent("both", "127.0.0.1:2",
			check.Check{Name: "own", Type: "{{ .agent }}", Details: "{{ not for agents }}", Timeout: 4 * time.Second},
			check.Check{Name: "http", Type: "http", Details: "https://both/?at=a+b", Port: 443, Confirm: 2, Interval: time.Minute, Timeout: 2 * time.Second},
			check.Check{Name: "sync of both", Type: "grpc", Method: check.StreamResults, Interval: time.Minute, Timeout: 4 * time.Second}),
		agent("empty", "127.0.0.1:3"),
		agent("shared", "127.0.0.1:1",
			check.Check{Name: "http", Type: "http", Details: "https://shared/", Port: 443, Confirm: 2, Interval: time.Minute, Timeout: 2 * time.Second},
			check.Check{Name: "shared", Type: "grpc", Method: check.GetResults, Interval: time.Minute}),
	}
	want.Labels = map[string]map[string]string{"both": {"at": "a b", "name of it": "sync of both"}}
	moves := map[string][]check.Silence{"http": {{From: day(1), To: day(2), Reason: "the site moves"}}}
	want.Silences = check.Silences{"both": moves, "shared": moves}
	want.Disabled = []string{"older", "unused"}
	c, warnings := mustParse(t, string(read(t, "testdata/good/profiles.toml")))
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{`agents without checks are asked nothing: "empty"; add [[agents.NAME.checks]]`}, warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
	const labels = "labels = { at = \"a b\", \"name of it\" = \"sync of both\" }\n"
	const disabled = "\n# Disabled agents: \"older\", \"unused\"\n"
	if text := printed(t, c); !strings.Contains(text, labels) || !strings.HasSuffix(text, disabled) || strings.Contains(text, "profile") {
		t.Errorf("printed:\n%s\nwant in it:\n%s%s", text, labels, disabled)
	}
}

// TestDisabled: agents that are disabled are checked as all others, and then none of the Config's.
func TestDisabled(t *testing.T) {
	t.Parallel()
	c, warnings := mustParse(t, minimal+"agents.b = { address = \"b:1\", disabled = true, tls = { mode = \"tls\", ca_file = \"ca.pem\" } }\nagents.a = { address = \"a:1\", disabled = true }\n")
	want := defaults()
	want.Disabled = []string{"a", "b"}
	if diff := cmp.Diff(want, c); diff != "" || len(warnings) > 0 || len(c.TLSFiles()) > 0 {
		t.Errorf("(-want +got):\n%s\nwarnings %q, TLS files %q", diff, warnings, c.TLSFiles())
	}
	_, _, err := parse("poller.toml", []byte(minimal+"agents.a = { address = \"a\", disabled = true, profile = \"p\" }\n"), Source{}, noAddresses)
	wantErr := `poller.toml:4:24: agents.a.address: found "a", want host:port such as "127.0.0.1:50051", "checker.example:50051" or "[::1]:50051"` + "\n" +
		`poller.toml:4:56: agents.a.profile: found "p", which is no profile; there are none: write [profiles.p], or leave this out`
	if err == nil || err.Error() != wantErr {
		t.Errorf("got:\n%v\nwant:\n%s", err, wantErr)
	}
}

// TestBrokenProfile: nothing follows from a profile that is wrong for the agents that have it.
func TestBrokenProfile(t *testing.T) {
	t.Parallel()
	_, warnings, err := parse("poller.toml", []byte(minimal+"[[profiles.web.checks]]\nname = \"{{ .labels.site }}\"\ntype = \"{{ .agnet }}\"\n"+
		"[agents.a]\naddress = \"127.0.0.1:1\"\nprofile = \"web\"\n"), Source{}, noAddresses)
	want := `poller.toml:6:8: profiles.web.checks[0].type: found "{{ .agnet }}", but there is no .agnet; did you mean "agent"?`
	if err == nil || err.Error() != want || len(warnings) > 0 {
		t.Errorf("warnings %q, errors:\n%v\nwant:\n%s", warnings, err, want)
	}
}

// TestLongTemplate: the rules for a name hold for what a template comes to, not for the template.
func TestLongTemplate(t *testing.T) {
	t.Parallel()
	c, _ := mustParse(t, minimal+"[[profiles.web.checks]]\nname = \"\"\"{{/*"+strings.Repeat(" long\n", 256)+"*/}}{{ .agent }}\"\"\"\ntype = \"t\"\n"+
		"[agents.a]\naddress = \"127.0.0.1:1\"\nprofile = \"web\"\n")
	if got := c.Agents[0].Checks[0].Name; got != "a" {
		t.Errorf("the check is called %q, want %q", got, "a")
	}
}

// TestFaultsOfMany: what thousands of agents have against a profile is told once.
func TestFaultsOfMany(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(minimal + "[[profiles.web.checks]]\nname = \"a\"\ntype = \"t\"\ndetails = \"{{ .labels.site }}\"\n[agents]\n")
	for i := range 3000 {
		fmt.Fprintf(&b, "a%04d = { address = \"127.0.0.1:1\", profile = \"web\" }\n", i)
	}
	_, _, err := parse("poller.toml", []byte(b.String()), Source{}, noAddresses)
	want := `poller.toml:7:11: profiles.web.checks[0].details: found "{{ .labels.site }}"; for 3000 agents, the first of them "a0000" (poller.toml:9), ` +
		`its labels have no "site"; write it there, or {{ index .labels "site" }} here if it may be missing`
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%.1000v\nwant:\n%s", err, want)
	}
}
