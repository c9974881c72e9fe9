package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A configuration elsewhere is compared as if it were in place of the running poller's, with that one's environment.
func TestDiff(t *testing.T) {
	t.Parallel()
	const head = "include = [\"agents.d/*.toml\"]\n"
	file := configFile(t, head+twoAgents, "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")
	next := configFile(t, head+twoAgents, "127.0.0.1:1", "127.0.0.1:9", "127.0.0.1:3")
	for _, f := range []string{file, next} {
		if err := os.Mkdir(filepath.Join(filepath.Dir(f), "agents.d"), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(filepath.Dir(f), "agents.d", "more.toml"), another, "127.0.0.1:4")
	}
	write(t, filepath.Join(filepath.Dir(next), "agents.d", "new.toml"), strings.ReplaceAll(another, "another", "new"), "127.0.0.1:5")
	p := start(t, file)
	admin := p.await(t, "poller started")["admin"].(string)

	r := poller(t, "diff", "-c", file, "--admin", admin)
	if r.code != 0 || strings.TrimSpace(r.stdout) != "nothing changes" || r.stderr != "" {
		t.Errorf("against itself: %+v", r)
	}
	r = poller(t, "diff", "-c", next, "--admin", admin)
	for _, want := range []string{"new", "one", `address: "127.0.0.1:2" -> "127.0.0.1:9"`, "1 agent added, 1 changed"} {
		if r.code != 0 || !strings.Contains(r.stdout, want) || r.stderr != "" {
			t.Errorf("%+v\nwant %q", r, want)
		}
	}
	if n := strings.Count(r.stdout, "1 agent added, 1 changed"); n != 1 {
		t.Errorf("the summary is there %d times:\n%s", n, r.stdout)
	}
	write(t, next, strings.Replace(twoAgents, `"p"`, `"q"`, 1), "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")
	r = poller(t, "diff", "-c", next, "--admin", admin)
	if r.code != 1 || !strings.Contains(r.stderr, "poller_id can't change") || !strings.Contains(r.stderr, "would refuse this") {
		t.Errorf("with another id: %+v", r)
	}
	if r = poller(t, "diff", "-c", next, "--admin", "127.0.0.1:1"); r.code != 1 || !strings.Contains(r.stderr, "does it run there?") {
		t.Errorf("where nobody listens: %+v", r)
	}
	p.signal(t)
	p.await(t, "stopping")
	p.signalUntil(t, "poller: second signal")
	p.end()
}
