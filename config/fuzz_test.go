package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/pelletier/go-toml/v2"
)

// addFixtures makes every fixture and the sample a seed.
func addFixtures(f *testing.F) {
	f.Helper()
	files, err := filepath.Glob("testdata/*/*.toml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(files, "../deploy/poller.toml") {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
}

// FuzzParse parses anything: it either says what is wrong, at a place within a text and in
// order, or yields a Config that survives being printed.
func FuzzParse(f *testing.F) {
	addFixtures(f)
	f.Add([]byte(minimal + "include = [\"/d/*.toml\"]\n[profiles.web]\nchecks = [{ name = \"{{ .labels.site }}\", type = \"t\" }]\n"))
	f.Add([]byte(minimal + "include = [\"/d/a.toml\"]\n" + agentText("a")))
	f.Add([]byte(minimal + "[discovery]\nfile = [{ paths = [\"/t/*.json\"], profile = \"web\" }]\nhttp = [{ url = \"http://h?x=1\", profile = \"web\" }]\n" +
		"[profiles.web]\nchecks = [{ name = \"{{ .labels.site }}\", type = \"t\", details = \"{{ .labels.__x }}\" }]\n"))
	found := map[string][]Target{
		"file:/t/*.json":      {{Name: "a", Address: "h:1", Labels: map[string]string{"site": "x", "__x": "y"}}, {Name: "b", Address: "h:2"}, {Name: "c", Address: "nowhere"}},
		"http:http://h?x=***": {{Name: "d\n", Address: "h:1"}, {Name: "e", Address: "h:1", Labels: map[string]string{"site": "x\n", "__x": ""}}},
	}
	src := Source{FS: tree(map[string]string{"/d/a.toml": agentText("a") + "labels.site = \"x\"\n", "/d/b.toml": "agents.b.profile = \"web\"\npoll = 1\n"})}
	files := []string{"poller.toml", "/d/a.toml", "/d/b.toml"}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, warnings, err := parse("poller.toml", text, src, noAddresses)
		more := src
		more.Targets = found
		withMore, sameWarnings, sameErr := parse("poller.toml", text, more, noAddresses)
		if (err == nil) != (sameErr == nil) || err != nil && err.Error() != sameErr.Error() || !slices.Equal(warnings, sameWarnings) {
			t.Fatalf("targets make a difference:\n%v %q\n%v %q", err, warnings, sameErr, sameWarnings)
		}
		if err == nil {
			roundTrip(t, c)
			roundTrip(t, withMore)
			return
		}
		all, ok := errors.AsType[Errors](err)
		if !ok || len(all) == 0 || c != nil {
			t.Fatalf("Config %v, error %#v", c, err)
		}
		for i, e := range all {
			if !slices.Contains(files, e.File) || e.Line < 1 || e.Column < 1 || e.Msg == "" {
				t.Errorf("error %d lacks something: %#v", i, e)
			}
		}
		inOrder := slices.IsSortedFunc(all, func(a, b Error) int {
			if a.File != b.File {
				return 0 // in the order of the patterns
			}
			if a.Line != b.Line {
				return a.Line - b.Line
			}
			return a.Column - b.Column
		})
		if !inOrder {
			t.Errorf("errors are not in order:\n%v", err)
		}
	})
}

// FuzzTOML holds our reading of TOML against go-toml's: what is a document, and what it says.
func FuzzTOML(f *testing.F) {
	addFixtures(f)
	for _, s := range []string{
		"a.b = 1\n[a]\n", "[a.b.c]\n[a]\nb.x = 1\n", "[a]\nb.c = 1\n[a.b]\n", "[a]\nb.c = 1\n[a.b.d]\n", "a = {b = 1}\n[a.c]\n",
		"a = [{b = 1}]\n[[a]]\n", "[[a]]\n[a.b]\n[[a]]\n[a.b]\n", "[[a]]\n[a]\n", "[a]\n[[a]]\n", "[a.b]\n[[a]]\n", "a = {b.c = 1, b.d = 2}\n",
		"a = {b = 1, b = 2}\n", "a = [1, [2, {b = 3}]]\n", "a = {b = {c = 1}, b.d = 2}\n", "a = 1e5\nb = inf\nc = 0x1F\nd = 1_000\n",
		"a = 1979-05-27 07:32:00Z\nb = 07:32:00\nc = 1979-05-27\n", "a = 9223372036854775808\n", "a = '''\nx'''\n\"\" = 1\n", "a = -0\nb = +1\n",
		"a = 2024-02-30\n", "a.b = 1\na = 2\n", "a = 1\na.b = 2\n", "[[a.b]]\n[a]\nb.c = 1\n", "[[a]]\nb = 1\n[[a.c]]\n[[a.c]]\n", "a = 00:00:99\n",
		"a = 99999999999999999999\na = 1\n[b]\n[b]\n", "a = [0xFFFFFFFFFFFFFFFFF, -9_223_372_036_854_775_809]\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p := &problems{main: newDocument("x.toml", text)}
		root := parseTOML(p, p.main)
		err := p.errors()
		if root == nil && err == nil {
			t.Fatal("neither a table nor an error")
		}
		var want map[string]any
		wantErr := toml.Unmarshal(p.main.text, &want)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("we say %v, go-toml says %v", err, wantErr)
		}
		if err != nil {
			return
		}
		if diff := cmp.Diff(want, root.tree(), cmpopts.EquateEmpty(), cmpopts.EquateNaNs()); diff != "" {
			t.Errorf("(-go-toml +we):\n%s", diff)
		}
	})
}

// tree returns the node as go-toml would: maps, slices and values.
func (n *node) tree() any {
	switch n.kind {
	case nodeTable:
		out := map[string]any{}
		for name, kid := range n.kids {
			out[name] = kid.tree()
		}
		return out
	case nodeArray:
		out := []any{}
		for _, elem := range n.elems {
			out = append(out, elem.tree())
		}
		return out
	case nodeString, nodeInt, nodeOther, nodeBad:
	}
	return n.value
}
