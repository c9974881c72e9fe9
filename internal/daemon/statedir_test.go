package daemon_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/daemon"
)

func TestStateDir(t *testing.T) {
	for _, tt := range []struct {
		name, configured          string
		stateDirectory, xdg, home string
		want, fails               string
	}{
		{name: "memory", configured: "memory", home: "/home/p", want: ""},
		{name: "a path", configured: "/var/lib/p", stateDirectory: "/s", want: "/var/lib/p"},
		{name: "systemd", configured: "auto", stateDirectory: "/var/lib/poller", xdg: "/x", home: "/home/p", want: "/var/lib/poller"},
		{name: "systemd, several", configured: "auto", stateDirectory: "/var/lib/poller:/var/lib/other", want: "/var/lib/poller"},
		{name: "XDG", configured: "auto", xdg: "/x", home: "/home/p", want: "/x/poller"},
		{name: "XDG, relative, which is not to count", configured: "auto", xdg: "x", home: "/home/p", want: "/home/p/.local/state/poller"},
		{name: "home", configured: "auto", home: "/home/p", want: "/home/p/.local/state/poller"},
		{name: "nothing", configured: "auto", fails: `none of $STATE_DIRECTORY, $XDG_STATE_HOME and $HOME says where that is: set state_dir to the path of a directory, or to "memory"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("STATE_DIRECTORY", tt.stateDirectory)
			t.Setenv("XDG_STATE_HOME", tt.xdg)
			t.Setenv("HOME", tt.home)
			got, err := daemon.StateDir(&config.Config{StateDir: tt.configured})
			if got != tt.want || (err != nil) != (tt.fails != "") || err != nil && !strings.Contains(err.Error(), tt.fails) {
				t.Errorf("%q, %v; want %q, %q", got, err, tt.want, tt.fails)
			}
		})
	}
}

// TestStateDirThatIsOfNoUse: the poller does not start, and says what is wrong and what to do.
func TestStateDirThatIsOfNoUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	spoolIsAFile := filepath.Join(dir, "taken")
	if err := os.Mkdir(spoolIsAFile, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(daemon.SpoolDirectory(spoolIsAFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(dir, "missing")
	for dir, want := range map[string]string{
		missing:      "the state directory " + missing + " does not exist: make it, as the user that the poller runs as, with mkdir -m 0700 " + missing,
		file:         "the state directory " + file + " is no directory",
		file + "/x":  "look at the state directory: stat " + file + "/x: not a directory",
		spoolIsAFile: "the spool needs a directory, and " + daemon.SpoolDirectory(spoolIsAFile) + " is none",
	} {
		cfg, _, err := config.Parse("test.toml", []byte("admin.listen = \"\"\n"+onDisk(dir, "")), config.Source{})
		if err != nil {
			t.Fatal(err)
		}
		d := daemon.New(daemon.Options{Config: cfg, Log: zerolog.Nop()})
		if err := d.Start(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err := os.Stat(missing); err == nil {
		t.Error("a directory that was named was made")
	}
}
