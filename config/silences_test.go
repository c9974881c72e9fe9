package config

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestSilencesThatAreOver: what does nothing any more is told, once, with its place, and is no error.
func TestSilencesThatAreOver(t *testing.T) {
	t.Parallel()
	const silences = `silence = [{ from = 2026-03-01T00:00:00Z, to = 2026-03-02T00:00:00Z, reason = "x" }, { from = 2026-03-01T00:00:00Z, to = 2026-03-02T00:00:01Z, reason = "x" }]
`
	disk := tree(map[string]string{"/etc/poller/d.toml": "[profiles.web]\nchecks = [{ name = \"a\", type = \"t\", silence = [{ from = 2026-01-01T00:00:00Z, to = 2026-01-02T00:00:00Z, reason = \"x\" }] }]\n"})
	text := minimal + silences + "include = [\"d.toml\"]\n" +
		"[agents.a]\naddress = \"a:1\"\nprofile = \"web\"\n" + silences +
		"[agents.b]\naddress = \"b:1\"\nprofile = \"web\"\ndisabled = true\n" + silences
	for _, tt := range []struct {
		now  time.Time
		want []string
	}{
		{time.Date(2026, time.January, 1, 23, 59, 59, 0, time.UTC), nil},
		{time.Date(2026, time.March, 2, 1, 0, 0, 0, time.FixedZone("", 3600)), []string{
			"silences that are over and can be removed: agents.a.silence[0] (/etc/poller/poller.toml:9), agents.b.silence[0] (/etc/poller/poller.toml:14), " +
				"profiles.web.checks[0].silence[0] (/etc/poller/d.toml:2), silence[0] (/etc/poller/poller.toml:4)",
		}},
		{time.Time{}, []string{ // now, which is later
			"silences that are over and can be removed: agents.a.silence[0] (/etc/poller/poller.toml:9), agents.a.silence[1] (/etc/poller/poller.toml:9), " +
				"agents.b.silence[0] (/etc/poller/poller.toml:14), agents.b.silence[1] (/etc/poller/poller.toml:14), profiles.web.checks[0].silence[0] (/etc/poller/d.toml:2) and more",
		}},
	} {
		c, warnings, err := parse("/etc/poller/poller.toml", []byte(text), Source{FS: disk, Now: tt.now}, noAddresses)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, warnings); diff != "" {
			t.Errorf("at %v (-want +got):\n%s", tt.now, diff)
		}
		if len(c.Silences) != 2 || len(c.Silences["a"]) != 2 || len(c.Silences[""][""]) != 2 {
			t.Errorf("silences: %v", c.Silences)
		}
	}
}
