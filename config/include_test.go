package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// tree is a disk of files by their absolute paths.
func tree(files map[string]string) fstest.MapFS {
	out := fstest.MapFS{}
	for name, text := range files {
		out[strings.TrimPrefix(name, "/")] = &fstest.MapFile{Data: []byte(text)}
	}
	return out
}

// agentText is an agent with one check.
func agentText(name string) string {
	return "[agents." + name + "]\naddress = \"127.0.0.1:1\"\nchecks = [{ name = \"ssh\", type = \"port\" }]\n"
}

func agentNames(c *Config) []string {
	names := []string{}
	for _, a := range c.Agents {
		names = append(names, a.Name)
	}
	return names
}

// TestInclude: which files patterns mean, and in what order they are read.
func TestInclude(t *testing.T) {
	t.Parallel()
	disk := tree(map[string]string{
		"/etc/poller/agents.d/b.toml":         agentText("b"),
		"/etc/poller/agents.d/a.toml":         agentText("a"),
		"/etc/poller/agents.d/notes.txt":      "not for us",
		"/etc/poller/agents.d/.#a.toml":       "an editor's own",
		"/etc/poller/agents.d/..data/a.toml":  agentText("a"),
		"/etc/poller/agents.d/north/c.toml":   agentText("c"),
		"/etc/poller/agents.d/south/c.toml":   agentText("d"),
		"/etc/poller/agents.d/south/deep/x/y": "too deep",
		"/etc/poller/[x].toml":                agentText("x"),
		"/srv/e.toml":                         agentText("e"),
	})
	const in = "/etc/poller/"
	tests := map[string]struct {
		include  string
		agents   []string
		files    []string
		patterns []string
		warnings []string
	}{
		"nothing": {include: ``, agents: []string{}, warnings: []string{noAgents}},
		"a directory": {
			include: `"agents.d/*.toml"`, agents: []string{"a", "b"},
			files: []string{in + "agents.d/a.toml", in + "agents.d/b.toml"}, patterns: []string{in + "agents.d/*.toml"},
		},
		"subdirectories": {
			include: `"agents.d/*/*.toml"`, agents: []string{"c", "d"},
			files: []string{in + "agents.d/north/c.toml", in + "agents.d/south/c.toml"}, patterns: []string{in + "agents.d/*/*.toml"},
		},
		"in the order of the patterns, each once": {
			include: `"../../srv/e.toml", "agents.d/b.toml", "./agents.d/?.toml", "/srv/*"`, agents: []string{"a", "b", "e"},
			files:    []string{"/srv/e.toml", in + "agents.d/b.toml", in + "agents.d/a.toml"},
			patterns: []string{"/srv/e.toml", in + "agents.d/b.toml", in + "agents.d/?.toml", "/srv/*"},
		},
		"a name with special characters": {
			include: `'\[x].toml'`, agents: []string{"x"}, files: []string{in + "[x].toml"}, patterns: []string{in + `\[x].toml`},
		},
		"hidden files that are meant": {
			include: `"agents.d/..da*/*"`, agents: []string{"a"},
			files: []string{in + "agents.d/..data/a.toml"}, patterns: []string{in + "agents.d/..da*/*"},
		},
		"no match": {
			include: `"agents.d/*.tml", "gone/*.toml", "agents.d/a.toml/*"`, agents: []string{},
			patterns: []string{in + "agents.d/*.tml", in + "gone/*.toml", in + "agents.d/a.toml/*"},
			warnings: []string{
				`include: "agents.d/*.tml" matches no file`, `include: "gone/*.toml" matches no file`,
				`include: "agents.d/a.toml/*" matches no file`, noAgents,
			},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := assemble(in+"poller.toml", []byte(minimal+"include = ["+test.include+"]\n"), Source{FS: disk}, noAddresses)
			if out.Err != nil {
				t.Fatal(out.Err)
			}
			if diff := cmp.Diff(test.agents, agentNames(out.Config)); diff != "" {
				t.Errorf("agents (-want +got):\n%s", diff)
			}
			want := Files{Config: append([]string{in + "poller.toml"}, test.files...), Patterns: test.patterns}
			if diff := cmp.Diff(want, out.Files); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.warnings, out.Warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}

func writeFile(t testing.TB, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestIncludeFromDisk loads real files, named as from the working directory.
func TestIncludeFromDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"poller.toml": minimal + "include = [\"agents.d/*.toml\", \"more/c.toml\"]\ntls = { mode = \"tls\", ca_file = \"ca.pem\" }\n" + agentText("main"),
		"agents.d/a.toml": agentText("a") + "tls = { mode = \"mtls\", cert_file = \"a.pem\", key_file = \"../keys/a.key\", ca_file = \"/ca.pem\" }\n" +
			"profile = \"web\"\n",
		"more/c.toml":     agentText("c") + "tls = { mode = \"tls\", ca_file = \"c.pem\" }\nprofile = \"web\"\n",
		"agents.d/b.toml": "[profiles.web]\nchecks = [{ name = \"http\", type = \"http\" }]\n",
	} {
		writeFile(t, filepath.Join(dir, name), text)
	}
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	relative, err := filepath.Rel(wd, filepath.Join(dir, "poller.toml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{relative, filepath.Join(dir, "poller.toml")} {
		out := Read(Source{File: name})
		if out.Err != nil {
			t.Fatal(out.Err)
		}
		in := func(names ...string) []string {
			for i := range names {
				names[i] = filepath.Join(dir, names[i])
			}
			return names
		}
		want := Files{
			Config:   in("poller.toml", "agents.d/a.toml", "agents.d/b.toml", "more/c.toml"),
			Patterns: in("agents.d/*.toml", "more/c.toml"),
			// Each starts at the directory of the file that names it.
			TLS: append(in("agents.d/a.pem", "ca.pem", "keys/a.key", "more/c.pem"), "/ca.pem"),
		}
		slices.Sort(want.TLS)
		if diff := cmp.Diff(want, out.Files); diff != "" {
			t.Errorf("%s: files (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff([]string{"a", "c", "main"}, agentNames(out.Config)); diff != "" || len(out.Config.Agents[0].Checks) != 2 {
			t.Errorf("%s: agents (-want +got):\n%s", name, diff)
		}
	}
}

// brokenFS fails for some names.
type brokenFS struct {
	fs.FS
	fails map[string]error
}

func (b brokenFS) Open(name string) (fs.File, error) {
	if err := b.fails[name]; err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return b.FS.Open(name)
}

// Stat tells of files that can't be read, too.
func (b brokenFS) Stat(name string) (fs.FileInfo, error) {
	if err := b.fails[name]; errors.Is(err, fs.ErrNotExist) {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return fs.Stat(b.FS, name)
}

// TestIncludeFails: files that can't be had are errors, and so are directories: their agents must not vanish.
func TestIncludeFails(t *testing.T) {
	t.Parallel()
	files := map[string]string{
		"/etc/poller.toml":            minimal,
		"/etc/agents.d/a.toml":        "[agents.a]\naddress = \"nowhere\"\nprofile = \"web\"\n",
		"/etc/agents.d/b.toml":        "[profiles.web]\nchecks = [{ name = \"http\", type = \"http\" }]\n",
		"/etc/secret.d/x.toml":        "",
		"/etc/fifo.d/pipe.toml":       "",
		"/etc/many/x/y":               "",
		"/etc/dangling.d/gone.toml":   "",
		"/etc/half.d/1_broken.toml":   "[agents.z",
		"/etc/half.d/2_complete.toml": agentText("y"),
	}
	disk := tree(files)
	disk["etc/fifo.d/pipe.toml"].Mode = fs.ModeNamedPipe
	for i := range maxFiles + 1 {
		disk[fmt.Sprintf("etc/many/x/%d.toml", i)] = &fstest.MapFile{}
	}
	from := brokenFS{disk, map[string]error{
		"etc/secret.d": fs.ErrPermission, "etc/agents.d/b.toml": fs.ErrPermission, "etc/dangling.d/gone.toml": fs.ErrNotExist,
	}}
	const nowhere = `/etc/agents.d/a.toml:2:11: agents.a.address: found "nowhere", want host:port such as "127.0.0.1:50051", "checker.example:50051" or "[::1]:50051"`
	tests := map[string]struct {
		include, want string
		files         []string
	}{
		"a file": {
			include: `"agents.d/*.toml"`, files: []string{"/etc/agents.d/a.toml", "/etc/agents.d/b.toml"},
			want: `:4:12: include[0]: found "agents.d/*.toml", but /etc/agents.d/b.toml, which matches it, can't be read: permission denied; ` +
				"let the user that the poller runs as read it\n" + nowhere, // but not that the profile is unknown
		},
		"a file by its name": {
			include: `"agents.d/b.toml"`, files: []string{"/etc/agents.d/b.toml"},
			want: `:4:12: include[0]: found "agents.d/b.toml", but /etc/agents.d/b.toml can't be read: permission denied; let the user that the poller runs as read it`,
		},
		"a directory": {
			include: `"secret.d/*.toml"`,
			want: `:4:12: include[0]: found "secret.d/*.toml", but what matches it can't be found out: open etc/secret.d: permission denied; ` +
				"check that the user that the poller runs as can read that directory",
		},
		"a directory below another": {
			include: `"secret.d/*/*.toml"`,
			want: `:4:12: include[0]: found "secret.d/*/*.toml", but what matches it can't be found out: open etc/secret.d: permission denied; ` +
				"check that the user that the poller runs as can read that directory",
		},
		"a pipe": {
			include: `"fifo.d/*.toml"`, files: []string{"/etc/fifo.d/pipe.toml"},
			want: `:4:12: include[0]: found "fifo.d/*.toml", but /etc/fifo.d/pipe.toml, which matches it, can't be read: it is no plain file, but a directory or a device; leave it out`,
		},
		"a link to nothing": {
			include: `"dangling.d/*.toml"`, files: []string{"/etc/dangling.d/gone.toml"},
			want: `:4:12: include[0]: found "dangling.d/*.toml", but /etc/dangling.d/gone.toml, which matches it, can't be read: file does not exist; ` +
				"a link that leads nowhere, or removed just now: check the path",
		},
		"the file itself": {
			include: `"*.toml"`,
			want:    `:4:12: include[0]: found "*.toml", which matches this file itself; have the others in a directory of their own, such as "agents.d/*.toml"`,
		},
		"too many": {
			include: `"many/*/*.toml"`,
			want:    `:4:12: include[0]: found "many/*/*.toml", which matches more than 10000 files; is this the right pattern?`,
		},
		"no TOML": { // the others are read all the same
			include: `"half.d/*", "agents.d/a.toml"`, files: []string{"/etc/half.d/1_broken.toml", "/etc/half.d/2_complete.toml", "/etc/agents.d/a.toml"},
			want: "/etc/half.d/1_broken.toml:1:9: not valid TOML: expected ']' to close table name\n" + nowhere,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := assemble("/etc/poller.toml", []byte(minimal+"include = ["+test.include+"]\n"), Source{FS: from}, noAddresses)
			want := test.want
			if strings.HasPrefix(want, ":") {
				want = "/etc/poller.toml" + want
			}
			if out.Config != nil || out.Err == nil || out.Err.Error() != want {
				t.Errorf("got:\n%v\nwant:\n%s", out.Err, want)
			}
			// What was broken is known, so that somebody can wait until it is mended.
			if diff := cmp.Diff(append([]string{"/etc/poller.toml"}, test.files...), out.Files.Config); diff != "" || len(out.Files.Patterns) == 0 {
				t.Errorf("files (-want +got):\n%s\npatterns: %q", diff, out.Files.Patterns)
			}
			if len(out.Warnings) > 0 {
				t.Errorf("warnings: %q", out.Warnings)
			}
		})
	}
}

// TestTooManyFiles: files that several patterns match count together.
func TestTooManyFiles(t *testing.T) {
	t.Parallel()
	disk := fstest.MapFS{}
	for i := range maxFiles {
		disk[fmt.Sprintf("d/%d.toml", i)] = &fstest.MapFile{}
	}
	disk["e/1.toml"] = &fstest.MapFile{}
	text := minimal + `include = ["d/*", "d/*.toml", "e/*.toml"]`
	_, _, err := parse("/poller.toml", []byte(text), Source{FS: disk}, noAddresses)
	want := "/poller.toml:4:31: include[2]: these are more than 10000 files; are these the right patterns?"
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
	text = minimal + `include = ["d/*", "d/*.toml"]`
	if _, _, err := parse("/poller.toml", []byte(text), Source{FS: disk}, noAddresses); err != nil {
		t.Error(err)
	}
}

// TestTooLarge: the room is for all files together.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	disk := tree(map[string]string{"/d/1.toml": "# 4567", "/d/2.toml": "# 4567", "/d/3.toml": "not read any more"})
	for room, want := range map[int]string{
		17: "",
		11: `/poller.toml:1:12: include[0]: with /d/2.toml the configuration is larger than 64MiB; are these the right files?`,
		5:  `/poller.toml:1:12: include[0]: with /d/1.toml the configuration is larger than 64MiB; are these the right files?`,
	} {
		p := &problems{main: newDocument("/poller.toml", []byte(`include = ["d/[12].toml", "d/3.toml"]`))}
		root := parseTOML(p, p.main)
		r := newIncluder(p, &tables{}, fileSystem(disk), &Files{})
		if r.room != maxFile-len(p.main.text) {
			t.Fatalf("room for %d bytes beside the main file's %d", r.room, len(p.main.text))
		}
		if r.room = room; want == "" {
			root.kids["include"].elems = root.kids["include"].elems[:1]
		}
		r.include(root.kids["include"])
		if err := p.errors(); err == nil && want != "" || err != nil && err.Error() != want {
			t.Errorf("room for %d: got:\n%v\nwant:\n%s", room, err, want)
		}
	}
}

// noFS makes sure that nobody reads from it.
type noFS struct{ t *testing.T }

func (n noFS) Open(name string) (fs.File, error) {
	n.t.Errorf("opened %s", name)
	return nil, syscall.EIO
}

// TestParseReadsNothing: Parse touches no file unless the text says so.
func TestParseReadsNothing(t *testing.T) {
	t.Parallel()
	for _, include := range []string{"", "include = []\n"} {
		c, _, err := Parse("/etc/poller.toml", []byte(minimal+include+agentText("a")), Source{File: "/other.toml", FS: noFS{t}})
		if err != nil || len(c.Agents) != 1 {
			t.Errorf("Config %+v, error %v", c, err)
		}
	}
}

// TestFilesOfFailures: what is known of the files when the main file is broken.
func TestFilesOfFailures(t *testing.T) {
	t.Parallel()
	main := []string{"/etc/poller.toml"}
	tests := map[string]struct {
		text string
		want Files
	}{
		"gone":    {want: Files{Config: main}},
		"no TOML": {text: "include = [", want: Files{Config: main}},
		"a value": {
			text: "include = [\"a*/*.toml\"]\ntls = { mode = \"mtsl\", ca_file = \"ca.pem\" }\n" +
				"agents.a = { address = \"\", tls = { mode = 5, key_file = \"k.pem\" } }",
			want: Files{Config: main, Patterns: []string{"/etc/a*/*.toml"}, TLS: []string{"/etc/ca.pem", "/etc/k.pem"}},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := tree(nil)
			if test.text != "" {
				disk = tree(map[string]string{"/etc/poller.toml": test.text})
			}
			out := Read(Source{File: "/etc/poller.toml", FS: disk})
			if _, ok := errors.AsType[Errors](out.Err); !ok || out.Config != nil {
				t.Fatalf("Config %v, error %v", out.Config, out.Err)
			}
			if diff := cmp.Diff(test.want, out.Files); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
