package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const ofState = "poller_id = \"p\"\nsource_ip = \"127.0.0.1\"\ncore.addresses = [\"127.0.0.1:1\"]\nstate_dir = %q\n%s"

func TestSpoolWhere(t *testing.T) {
	t.Parallel()
	k := newKept(t)
	file := configFile(t, ofState, k.state, "")
	want := poller(t, "spool", "ls", "--dir", k.dir)
	if want.code != 0 || !strings.HasPrefix(want.stdout, "ID ") {
		t.Fatalf("%+v", want)
	}
	for _, args := range [][]string{{"-c", file}, {"--dir", k.state}} {
		if r := poller(t, append([]string{"spool", "ls"}, args...)...); r.code != 0 || r.stdout != want.stdout {
			t.Errorf("%q: %+v, want %+v", args, r, want)
		}
	}
	empty := t.TempDir()
	if err := os.Chmod(empty, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		want string
		args []string
	}{
		{"-c FILE, or the directory with --dir DIR", nil},
		{"not both", []string{"-c", file, "--dir", k.dir}},
		{`state_dir is "memory": nothing is kept on disk`, []string{"-c", configFile(t, ofState, "memory", "")}},
		{"there is no spool in " + empty, []string{"--dir", empty}},
		{"there is no spool in " + filepath.Join(empty, "none"), []string{"--dir", filepath.Join(empty, "none")}},
		{"there is no spool in " + filepath.Join(empty, "spool"), []string{"-c", configFile(t, ofState, empty, "")}},
		{"1 error in the configuration", []string{"-c", configFile(t, ofState, empty, "nonsense = 1\n")}},
		{"none.toml", []string{"-c", filepath.Join(empty, "none.toml")}},
		{"not a directory", []string{"--dir", file}},
	} {
		for _, command := range [][]string{{"ls"}, {"drop", "--kept"}} {
			args := append(append([]string{"spool"}, command...), tt.args...)
			if r := poller(t, args...); r.code != 1 || r.stdout != "" || !strings.Contains(r.stderr, tt.want) {
				t.Errorf("%q: %+v, want %q", args, r, tt.want)
			}
		}
	}
	info, err := os.Stat(empty)
	if files, _ := os.ReadDir(empty); err != nil || info.Mode().Perm() != 0o755 || len(files) > 0 {
		t.Errorf("a directory that is no spool's has now mode %v and %v in it, %v", info.Mode(), files, err)
	}
}

func TestSpoolIsInUse(t *testing.T) {
	t.Parallel()
	k := newKept(t)
	d := k.open()
	defer k.close(d)
	want := fmt.Sprintf("the spool in %s is in use by the process with pid %d: stop that first, or give this one another state_dir\n", k.dir, os.Getpid())
	for _, command := range [][]string{{"ls"}, {"show", "p/1"}, {"export"}, {"retry", "p/0"}, {"drop", "p/0"}, {"drop", "--kept"}} {
		if r := k.run(command...); r.code != 1 || r.stdout != "" || r.stderr != "poller: "+want {
			t.Errorf("%q: %+v, want %s", command, r, want)
		}
	}
}

// TestSpoolByTheConfiguration: its bounds hold. A report that the poller would drop for its age is tried again with a warning.
func TestSpoolByTheConfiguration(t *testing.T) {
	t.Parallel()
	k := newKept(t)
	file := configFile(t, ofState, k.state, "spool.max_age = \"2h\"\n")
	r := poller(t, "spool", "retry", "p/0", "-c", file)
	if r.code != 0 || !strings.HasPrefix(r.stdout, "p/0 of ") || !strings.Contains(r.stderr, "warning: p/0 is older than spool.max_age") {
		t.Errorf("%+v", r)
	}
	if r := poller(t, "spool", "drop", "p/0", "-c", file); r.code != 0 || !strings.HasPrefix(r.stdout, "dropped p/0: to be tried again, 182 bytes") {
		t.Errorf("%+v", r)
	}
	if got, want := k.ids(), "kept:p/1 kept:p/2 kept:p/3 aside:p/8"; got != want {
		t.Errorf("ls lists %s, want %s", got, want)
	}
}

func TestSpoolHelp(t *testing.T) {
	t.Parallel()
	if r := poller(t, "spool"); r.code != 0 || !strings.Contains(r.stdout, "retry ") {
		t.Errorf("%+v", r)
	}
	if r := poller(t, "spool", "list"); r.code != 1 || !strings.Contains(r.stderr, `no command "list"`) {
		t.Errorf("%+v", r)
	}
}
