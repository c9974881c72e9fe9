package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceradar/poller/internal/check"
)

// The IDs of the sources in testdata/good/discovery.toml.
const (
	webFiles   = "file:/etc/poller/targets.d/*.json,/etc/poller/targets.d/*.json.yaml,/srv/targets.YML"
	plainFiles = "file:/srv/targets.YML"
	webURL     = "http:https://inventory.example:8443/a%2Fb?site=***&key=***&***#north"
	plainURL   = "http:http://[::1]"
)

// TestDiscovery: what [discovery] comes to, before anybody looked at the sources.
func TestDiscovery(t *testing.T) {
	t.Parallel()
	out := assemble("/etc/poller/poller.toml", read(t, "testdata/good/discovery.toml"), Source{}, noAddresses)
	if out.Err != nil || len(out.Warnings) > 0 {
		t.Fatalf("error %v, warnings %q", out.Err, out.Warnings)
	}
	want := []Discovery{
		{ID: webFiles, Files: []string{"/etc/poller/targets.d/*.json", "/srv/targets.YML", "/etc/poller/targets.d/*.json.yaml"}, Profile: "web"},
		{ID: plainFiles, Files: []string{"/srv/targets.YML"}, Refresh: 10 * time.Minute, Profile: "plain"},
		{
			ID: webURL, URL: "https://User:secret@Inventory.example:8443/a%2Fb?site=north&key=secret&secret#north",
			Refresh: 30 * time.Second, Profile: "web",
		},
		{ID: plainURL, URL: "http://[::1]", Profile: "plain"},
	}
	if diff := cmp.Diff(want, out.Config.Discovery); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Files{Config: []string{"/etc/poller/poller.toml"}, TLS: []string{"/etc/poller/ca.pem"}}, out.Files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	const comments = `
# [[discovery.file]]
# paths = ["/etc/poller/targets.d/*.json", "/srv/targets.YML", "/etc/poller/targets.d/*.json.yaml"]
# profile = "web"

# [[discovery.file]]
# paths = ["/srv/targets.YML"]
# refresh = "10m"
# profile = "plain"

# [[discovery.http]]
# url = "https://***@inventory.example:8443/a%2Fb?site=***&key=***&***#north"
# refresh = "30s"
# profile = "web"

# [[discovery.http]]
# url = "http://[::1]"
# profile = "plain"

[agents.written]
`
	if text := printed(t, out.Config); !strings.Contains(text, comments) {
		t.Errorf("printed:\n%s\nwant in it:\n%s", text, comments)
	}
}

// TestSourcesWarn: a source is an agent to come, but one whose profile is empty is of no use.
func TestSourcesWarn(t *testing.T) {
	t.Parallel()
	_, warnings := mustParse(t, minimal+"discovery.file = [{ paths = [\"a.json\"], profile = \"web\" }]\n[profiles.web]\n")
	want := []string{`discovery.file[0].profile: the profile "web" has no checks, so agents that are found are asked nothing; add [[profiles.web.checks]]`}
	if diff := cmp.Diff(want, warnings); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	_, warnings = mustParse(t, minimal+"discovery.file = []\n")
	if diff := cmp.Diff([]string{noAgents}, warnings); diff != "" {
		t.Errorf("without sources (-want +got):\n%s", diff)
	}
}

// TestSourcesElsewhere: the profile may be in another file, even in one that can't be read; and a directory that looks
// like a pattern would be one.
func TestSourcesElsewhere(t *testing.T) {
	t.Parallel()
	const text = minimal + "include = [\"d/*.toml\"]\n[discovery]\nfile = [{ paths = [\"a.json\"], profile = \"web\" }]\n"
	for name, test := range map[string]struct{ file, included, want string }{
		"included": {"/etc/poller.toml", "[profiles.web]\nchecks = [{ name = \"a\", type = \"t\" }]\n", ""},
		"broken":   {"/etc/poller.toml", "[profiles", "/etc/d/a.toml:1:9: not valid TOML: expected ']' to close table name"},
		"directory": {
			"/etc/[1]/poller.toml", "",
			`/etc/[1]/poller.toml:6:20: discovery.file[0].paths[0]: found "a.json", which starts at /etc/[1], but that would be a pattern; ` +
				"write it in full, from a directory without *?[\\ in its name\n" +
				`/etc/[1]/poller.toml:6:41: discovery.file[0].profile: found "web", which is no profile; there are none: write [profiles.web]`,
		},
	} {
		disk := tree(map[string]string{"/etc/d/a.toml": test.included})
		_, _, err := parse(test.file, []byte(text), Source{FS: disk}, noAddresses)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%s: got:\n%s\nwant:\n%s", name, got, test.want)
		}
	}
}

// TestCompareSources: what is told of sources has no secrets, and a new secret makes no new source.
func TestCompareSources(t *testing.T) {
	t.Parallel()
	text := string(read(t, "testdata/good/discovery.toml"))
	old, _ := mustParse(t, text)
	text = strings.ReplaceAll(text, "secret", "other")
	text = strings.Replace(text, "/srv/targets.YML\"]", "/srv/other.yml\"]", 1)
	text = strings.Replace(text, "refresh = \"30s\"", "refresh = \"31s\"", 1)
	next, _ := mustParse(t, text)
	const want = `4 other keys changed
  discovery."file:/srv/targets.YML": removed { paths = ["/srv/targets.YML"], refresh = "10m", profile = "plain" }
  discovery."http:https://inventory.example:8443/a%2Fb?site=***&key=***&***#north".url: "https://***@inventory.example:8443/a%2Fb?site=***&key=***&***#north" changed (masked)
  discovery."http:https://inventory.example:8443/a%2Fb?site=***&key=***&***#north".refresh: "30s" -> "31s"
  discovery."file:/srv/other.yml": added { paths = ["/srv/other.yml"], refresh = "10m", profile = "plain" }
`
	if diff := cmp.Diff(want, Compare(old, next).String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestMaskURL(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"https://inventory.example/targets": "https://inventory.example/targets",
		"HTTPS://INVENTORY.example/Targets": "https://inventory.example/Targets",
		"https://u:p@h:1/a%2Fb/?a=1&b&c=#d": "https://***@h:1/a%2Fb/?a=***&***&c=***#d",
		"https://u@[fe80::1%25eth0]":        "https://***@[fe80::1%25eth0]",
		"https://***@h?a=***":               "https://***@h?a=***",
		"https://h?":                        "https://h",
		// No URLs with a host.
		"": "", "h/?key=secret": "", "user:secret@h": "", "https://h:x/": "", "mailto:a@b": "", "https:///": "", "//h/": "",
	} {
		if got, ok := check.MaskURL(s); got != want || ok != (want != "") {
			t.Errorf("check.MaskURL(%q) = %q, %v, want %q", s, got, ok, want)
		}
	}
}
