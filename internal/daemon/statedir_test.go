package daemon

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/serviceradar/poller/config"
)

// environ sets the variables that count, and no others.
func environ(t *testing.T, stateDirectory, xdg, home string) {
	t.Helper()
	t.Setenv("STATE_DIRECTORY", stateDirectory)
	t.Setenv("XDG_STATE_HOME", xdg)
	t.Setenv("HOME", home)
}

// wantError wants an error that holds all of these.
func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v, want %q in it", err, part)
		}
	}
}

func TestStateDir(t *testing.T) {
	for name, tt := range map[string]struct{ written, systemd, xdg, home, want string }{
		"memory":            {"memory", "/s", "/x", "/h", ""},
		"path":              {"/srv/state", "/s", "/x", "/h", "/srv/state"},
		"systemd":           {"auto", "/var/lib/poller", "/x", "/h", "/var/lib/poller"},
		"systemd, several":  {"auto", "/var/lib/a:/var/lib/b", "/x", "/h", "/var/lib/a"},
		"systemd, empty":    {"auto", ":", "/x", "/h", "/x/poller"},
		"XDG":               {"auto", "", "/x", "/h", "/x/poller"},
		"XDG, relative":     {"auto", "", "x", "/h", "/h/.local/state/poller"},
		"home":              {"auto", "", "", "/h", "/h/.local/state/poller"},
		"memory of nobody":  {"memory", "", "", "", ""},
		"a path for nobody": {"/srv/state", "", "", "", "/srv/state"},
	} {
		t.Run(name, func(t *testing.T) {
			environ(t, tt.systemd, tt.xdg, tt.home)
			got, err := StateDir(&config.Config{StateDir: tt.written})
			if err != nil || got != tt.want {
				t.Errorf("got %q, error %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestStateDirOfNobody(t *testing.T) {
	for _, home := range []string{"", "relative"} {
		environ(t, "", home, home)
		for _, of := range []func(*config.Config) (string, error){StateDir, prepareStateDir} {
			dir, err := of(&config.Config{StateDir: config.StateAuto})
			wantError(t, err, "$STATE_DIRECTORY", "$XDG_STATE_HOME", "$HOME", "set state_dir to", `"memory"`)
			if dir != "" {
				t.Errorf("with an error came %q", dir)
			}
		}
	}
}

// TestPrepareStateDirOfUser: it is created, for the user alone, and is left as it is the next time.
func TestPrepareStateDirOfUser(t *testing.T) {
	for variable, below := range map[string]string{"XDG_STATE_HOME": "a/poller", "HOME": "a/.local/state/poller"} {
		base := t.TempDir()
		environ(t, "", "", "")
		t.Setenv(variable, filepath.Join(base, "a"))
		want := filepath.Join(base, below)
		for range 2 {
			if got, err := prepareStateDir(&config.Config{StateDir: config.StateAuto}); err != nil || got != want {
				t.Fatalf("got %q, error %v; want %q", got, err, want)
			}
			for dir := want; dir != base; dir = filepath.Dir(dir) {
				if info, err := os.Stat(dir); err != nil || info.Mode() != fs.ModeDir|0o700 {
					t.Errorf("%s: %v, error %v", dir, info.Mode(), err)
				}
			}
		}
	}
}

func TestPrepareStateDirOfUserFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	environ(t, "", "", file)
	_, err := prepareStateDir(&config.Config{StateDir: config.StateAuto})
	wantError(t, err, filepath.Join(file, ".local/state/poller")+" (from $HOME) cannot be created: not a directory; set state_dir to")
}

// TestPrepareStateDirOfOthers: what somebody else has to make is looked at, and never made.
func TestPrepareStateDirOfOthers(t *testing.T) {
	base := t.TempDir()
	file, missing := filepath.Join(base, "file"), filepath.Join(base, "missing")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for from, prepare := range map[string]func(path string) (string, error){
		"state_dir": func(path string) (string, error) {
			environ(t, "", base, base)
			return prepareStateDir(&config.Config{StateDir: path})
		},
		"$STATE_DIRECTORY": func(path string) (string, error) {
			environ(t, path+":"+base, base, base)
			return prepareStateDir(&config.Config{StateDir: config.StateAuto})
		},
	} {
		if got, err := prepare(base); err != nil || got != base {
			t.Errorf("%s: got %q, error %v", from, got, err)
		}
		for path, want := range map[string]string{
			missing:                    " does not exist; create it: mkdir -m 0700 " + missing + ", owned by",
			file:                       " is not a directory; set state_dir to one",
			filepath.Join(file, "sub"): ": not a directory; let the user",
		} {
			got, err := prepare(path)
			wantError(t, err, "state directory "+path+" (from "+from+")", want)
			if got != "" {
				t.Errorf("with an error came %q", got)
			}
		}
	}
	if entries, err := os.ReadDir(base); err != nil || len(entries) != 1 {
		t.Errorf("something was made: %v, error %v", entries, err)
	}
}

// TestPrepareStateDirInMemory: nothing is looked at.
func TestPrepareStateDirInMemory(t *testing.T) {
	environ(t, "", "", "")
	if got, err := prepareStateDir(&config.Config{StateDir: config.StateMemory}); err != nil || got != "" {
		t.Errorf("got %q, error %v", got, err)
	}
}

// TestStateDirNotWritable is told what access would say to others than root.
func TestStateDirNotWritable(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	if err := os.Chmod(path, 0o750); err != nil {
		t.Fatal(err)
	}
	for _, why := range []error{syscall.EACCES, syscall.EROFS} {
		err := stateDir{path: path, from: "state_dir"}.usable(func(string) error { return why })
		wantError(t, err, "cannot be written to by uid ", "it is owned by uid ", "with mode 0750", why.Error(), "let it be owned by the user")
	}
}
