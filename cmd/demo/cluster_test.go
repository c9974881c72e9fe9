//go:build unix

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/serviceradar/poller/config"
)

// TestMain lets the tests' program be that of the nodes, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "node" {
		main()
		return
	}
	os.Exit(m.Run())
}

// stageOut runs the demo's cluster with a script, in a directory for temporary files that must be empty after it. When it returns no process
// is left: somebody would wait for it, which goleak would see.
func stageOut(t *testing.T, script []step, length time.Duration) (string, error) {
	t.Helper()
	defer goleak.VerifyNone(t)
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	failed := demoCluster(ctx, out, script, false)
	text, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("temporary files are left: %v, %v", left, err)
	}
	return string(text), failed
}

// TestCluster runs three nodes and ends in the middle, when one is dead and one stands still; CI runs all of it.
func TestCluster(t *testing.T) {
	out, err := stageOut(t, []step{
		{at: 3 * time.Second, part: 0, do: (*node).kill, deed: deed{kind: goes, what: "killed"}},
		{at: 3 * time.Second, part: 2, do: (*node).freeze, deed: deed{kind: goes, what: "frozen", stood: true}},
		{at: time.Hour},
	}, 5*time.Second)
	if err != nil {
		t.Error(err)
	}
	for _, want := range []string{"plaintext", "a was killed", "c was frozen", "a dead", "c frozen", "LONGEST GAP", "all were asked to end"} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
}

func TestClusterErrors(t *testing.T) {
	for name, tt := range map[string]struct {
		step step
		want string
	}{
		"ends by itself": {step{do: func(n *node) error { return n.cmd.Process.Kill() }}, "node b ended though nobody had asked it to (signal: killed)"},
		"starts twice":   {step{do: (*node).start}, "was asked to end and has not"},
		"never polled":   {step{}, "agent-01 by none"},
	} {
		t.Run(name, func(t *testing.T) {
			tt.step.part = 1
			out, err := stageOut(t, []step{tt.step, {at: time.Hour}}, 20*time.Second)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q; it said:\n%s", err, tt.want, out)
			}
		})
	}
}

// A node ends with the demo, even if that has no time to ask it to.
func TestNodeEndsWithTheDemo(t *testing.T) {
	defer goleak.VerifyNone(t)
	file := filepath.Join(t.TempDir(), "a.toml")
	at := nodePlace()
	at.State = t.TempDir()
	if err := writeConfiguration(file, at); err != nil {
		t.Fatal(err)
	}
	if err := poll(t.Context(), file, strings.NewReader("")); err != nil {
		t.Error(err)
	}
}

func TestNodeErrors(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"", "/nowhere/a.toml"} {
		if err := poll(t.Context(), file, strings.NewReader("")); err == nil {
			t.Errorf("a node with the file %q starts", file)
		}
	}
}

func nodePlace() place {
	return place{
		Node: "a", State: "/tmp", Core: "127.0.0.1:1", Listen: "127.0.0.1:21001", Remote: "127.0.0.1:21002", Seeds: []string{"127.0.0.1:21001", "127.0.0.1:21003", "127.0.0.1:21005"},
		Agents: []agentAt{{"agent-01", "127.0.0.1:2"}, {"agent-02", "127.0.0.1:3"}},
	}
}

func TestNodeConfiguration(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "a.toml")
	if err := writeConfiguration(file, nodePlace()); err != nil {
		t.Fatal(err)
	}
	loaded := config.Read(config.Source{File: file})
	if loaded.Err != nil || len(loaded.Warnings) > 0 {
		t.Fatalf("the configuration is wrong: %v, %q", loaded.Err, loaded.Warnings)
	}
	c := loaded.Config
	got := fmt.Sprintln(len(c.Agents), c.PollerID, c.Cluster.Enabled, c.Cluster.Node, c.Cluster.Size, c.Poll.Interval == interval, c.ShutdownTimeout < endTimeout)
	if want := "2 a true a 3 true true\n"; got != want {
		t.Errorf("it is %q, want %q", got, want)
	}
}

func TestClusterFlags(t *testing.T) {
	t.Parallel()
	cmd := command()
	cmd.SetArgs([]string{"cluster", "--for", "-1s"})
	if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "above 0") {
		t.Errorf("--for -1s: %v", err)
	}
}

// The script leaves all nodes as it found them, so that it can be played again.
func TestScript(t *testing.T) {
	t.Parallel()
	balance := make(map[int]int)
	last := time.Duration(0)
	for i, s := range script {
		if s.at < last {
			t.Errorf("step %d comes %v after the begin, and the one before it %v", i, s.at, last)
		}
		last = s.at
		if s.deed.kind == goes {
			balance[s.part]--
		}
		if s.deed.kind == returns {
			balance[s.part]++
		}
	}
	if script[len(script)-1].do != nil || last >= 40*time.Second {
		t.Errorf("the script's last step does something, or it takes %v, which is not below 40 s", last)
	}
	for part, n := range balance {
		if n != 0 {
			t.Errorf("the node of part %d went %d times and did not return", part, -n)
		}
	}
}

func TestPrefixed(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	p := &prefixed{to: &out, prefix: "a: "}
	for _, part := range []string{"one", "\ntwo\nth", "ree\n", "rest"} {
		if n, err := p.Write([]byte(part)); n != len(part) || err != nil {
			t.Errorf("write %q: %d, %v", part, n, err)
		}
	}
	if got, want := out.String(), "a: one\na: two\na: three\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
