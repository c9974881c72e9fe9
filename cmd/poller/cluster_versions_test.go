//go:build cluster && linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// newer is what the next version of the poller does otherwise: its messages have a field more, and there are a kind and a version more.
var newer = []struct{ glob, old, new string }{
	{
		"../../actors/envelope.go", "return &cluster.Envelope{Kind: kind, Version: envelopeVersion, Body: text}",
		`return &cluster.Envelope{Kind: kind, Version: envelopeVersion, Body: append(text, 0x82, 0x7d, 3, 'n', 'e', 'w')}`,
	},
	{
		"../../actors/*.go", "	m.followLease(now)\n", `	m.followLease(now)
	for _, other := range m.view.Members {
		if other.NodeID != m.view.Self {
			m.send(other.NodeID, 99, &cluster.WantNames{Hash: "of the next version"})
			remote := other.Remote
			m.env.workers.Schedule(func() { m.env.post(remote, &cluster.Envelope{Kind: kindAsk, Version: 7, Body: []byte{0xff}}) })
		}
	}
`,
	},
	{
		"../../internal/cluster/beats.go", "Version: version, Body: marshal(body)}",
		"Version: version, Body: append(marshal(body), 0x82, 0x7d, 3, 'n', 'e', 'w')}",
	},
}

// newerBinary builds the poller of the next version.
func newerBinary(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	replace := make(map[string]string)
	for i, c := range newer {
		files, err := filepath.Glob(c.glob)
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, file := range files {
			name, err := filepath.Abs(file)
			if err != nil {
				t.Fatal(err)
			}
			source := name
			if changed := replace[name]; changed != "" {
				source = changed
			}
			text, err := os.ReadFile(source)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(text), c.old); n > 0 {
				found += n
				replace[name] = filepath.Join(dir, fmt.Sprintf("%d.go", i))
				writeText(t, replace[name], strings.ReplaceAll(string(text), c.old, c.new))
			}
		}
		if found != 1 {
			t.Fatalf("%s: %q is there %d times, want once", c.glob, c.old, found)
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	writeText(t, filepath.Join(dir, "overlay.json"), string(overlay))
	program := filepath.Join(dir, "poller")
	build := exec.CommandContext(t.Context(), "go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", program, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return program
}

// TestClusterVersions brings a node of the next version among two of this one, and then makes all of them such: no due run is missed, no answer
// lost, and what the old ones do not know they ignore, and say so.
func TestClusterVersions(t *testing.T) {
	noLeaks(t)
	program := newerBinary(t)
	r := newRig(t, "127.0.0.1", onLoopback(3))
	c := &course{from: r.startAll()}
	for i, n := range r.nodes {
		r.wander()
		began := r.now()
		n.stop()
		c.handover = append(c.handover, r.settle(r.others(n), wholeShare)-began)
		back := r.now()
		n.program = program
		n.start()
		c.handback = append(c.handback, max(r.settle(r.nodes, wholeShare)-back, 0))
		if i > 0 {
			continue
		}
		for _, old := range r.others(n) {
			for _, what := range []string{`"kind":99,"version":1`, `"kind":1,"version":7`} {
				if old.said(what) == "" {
					t.Errorf("%s says nothing of the messages that it does not know: %s", old, what)
				}
			}
		}
	}
	r.tell(c, r.seen.history())
	r.finish()
	if answered, lost, _, again := r.seen.atCore(); lost > 0 || again > 0 {
		t.Errorf("of %d runs that were answered core lacks %d, and has %d twice", answered, lost, again)
	}
}
