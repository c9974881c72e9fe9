package discover

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSourcesThatAreWrong(t *testing.T) {
	t.Parallel()
	for want, def := range map[string]Source{
		"no ID":                                 {URL: "http://a/"},
		"neither files nor a URL":               {ID: "x"},
		"both files and a URL":                  {ID: "x", URL: "http://a/", Files: []string{"/a.json"}},
		"absolute path":                         {ID: "x", Files: []string{"a.json"}},
		"not for its directory":                 {ID: "x", Files: []string{"/etc/*/a.json"}},
		"pattern is not complete":               {ID: "x", Files: []string{"/etc/[a.json"}},
		"ends in .json, .yml or .yaml":          {ID: "x", Files: []string{"/etc/*"}},
		"no host or is not of http or https":    {ID: "x", URL: "ftp://a/"},
		"that is none":                          {ID: "x", URL: "http://a b/"},
		"found a refresh of 500ms":              {ID: "x", URL: "http://a/", Refresh: time.Second / 2},
		"found a refresh of -1s":                {ID: "x", URL: "http://a/", Refresh: -time.Second},
		`source "x": found "/etc/*.toml", want`: {ID: "x", Files: []string{"/a.json", "/etc/*.toml"}},
	} {
		if _, err := New(Config{Sources: []Source{{ID: "y", URL: "http://a/"}, def}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want one with %q", err, want)
		}
	}
}

// All files are looked at in the same moment, for one wake-up; pollers with the same sources ask at different ones, and
// each always at its own.
func TestNext(t *testing.T) {
	t.Parallel()
	if next, ok := new(Set).Next(); ok {
		t.Errorf("a Set without sources wants to look at %v", next)
	}
	dir, s := t.TempDir(), serve(t)
	phases := make(map[time.Duration]bool)
	for i := range 20 {
		set, err := New(Config{Instance: fmt.Sprint(i), Sources: []Source{
			{ID: "a", Files: []string{filepath.Join(dir, "a.json")}},
			{ID: "b", Files: []string{filepath.Join(dir, "b.json")}},
			{ID: "c", URL: s.url},
		}})
		must(t, err)
		if next, ok := set.Next(); !ok || !next.IsZero() || len(set.Due(start)) != 3 {
			t.Fatalf("new sources are to be looked at at %v, %v; due are %v", next, ok, set.Due(start))
		}
		now := start.Add(time.Duration(i) * time.Second)
		var phase time.Duration
		for round := range 3 {
			for _, id := range set.Due(now) {
				set.Look(t.Context(), id, now)
			}
			status := set.Status()
			for _, st := range status[:2] {
				if want := start.Add(5 * time.Minute); !st.Next.Equal(want) {
					t.Errorf("files are looked at at %v, want %v", st.Next, want)
				}
			}
			if next, ok := set.Next(); !ok || !next.Equal(earlier(status[0].Next, status[2].Next)) {
				t.Errorf("next is %v of %+v", next, status)
			}
			later := status[2].Next.Sub(now)
			if later <= 0 || later > time.Minute || (round > 0 && later != time.Minute) {
				t.Errorf("the URL is asked %v later, want a minute", later)
			}
			now = now.Add(later)
			if phase = now.Sub(start) % time.Minute; round == 0 {
				phases[phase] = true
			}
		}
	}
	if len(phases) < 15 {
		t.Errorf("20 pollers ask at %d different moments of a minute", len(phases))
	}
}

// What is damaged is told, and does no harm.
func TestDamagedState(t *testing.T) {
	t.Parallel()
	dir, state := t.TempDir(), t.TempDir()
	path := filepath.Join(dir, "a.json")
	write(t, path, `[{"targets":["a:1","b:1"]}]`, start.Add(-time.Hour))
	cfg := Config{Sources: []Source{{ID: "x", Files: []string{path}}}, StateDir: state}
	first, err := New(cfg)
	must(t, err)
	first.Look(t.Context(), "x", start)
	file := filepath.Join(state, first.store.name("x"))
	whole := read(t, file)
	damaged := map[string][]byte{
		"empty":   nil,
		"other":   []byte(strings.Replace(string(whole), `"source":"x"`, `"source":"y"`, 1)),
		"newer":   []byte(strings.Replace(string(whole), `"version":1`, `"version":2`, 1)),
		"address": []byte(strings.Replace(string(whole), `"address":"a:1"`, `"address":"a:0"`, 1)),
		"name":    []byte(strings.Replace(string(whole), `"name":"a:1"`, `"name":""`, 1)),
	}
	for n := 1; n < len(whole); n += 7 {
		damaged[fmt.Sprintf("cut off at %d", n)] = whole[:n]
	}
	for name, content := range damaged {
		must(t, os.WriteFile(file, content, 0o600))
		set, err := New(cfg)
		must(t, err)
		wantTargets(t, set, "nothing")
		if err := only(t, set).StateErr; err == nil || !strings.Contains(err.Error(), file) {
			t.Fatalf("%s: the error is %v", name, err)
		}
		must(t, os.Rename(path, path+".away"))
		set.Look(t.Context(), "x", start)
		if !bytes.Equal(read(t, file), content) {
			t.Errorf("%s: it was replaced, though nothing better is known", name)
		}
		must(t, os.Rename(path+".away", path))
		set.Look(t.Context(), "x", start)
		wantTargets(t, set, "a:1 b:1")
		if err := only(t, set).StateErr; err != nil {
			t.Errorf("%s: after a look, too: %v", name, err)
		}
		if diff := cmp.Diff(string(whole), string(read(t, file))); diff != "" {
			t.Errorf("%s: it was not written again: %s", name, diff)
		}
	}
}

// Before and after a change of the configuration, a source may be saved at the same time.
func TestSaveAtTheSameTime(t *testing.T) {
	t.Parallel()
	d := &store{dir: t.TempDir()}
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for range 25 {
				if err := d.save(&state{Version: stateVersion, Source: "x", Lists: []savedList{{Targets: targets("a:1 b:1 c:1 d:1"[:4*i+3])}}}); err != nil {
					t.Error(err)
				}
				if saved, err := d.load("x"); err != nil || len(saved.Lists) != 1 {
					t.Errorf("found %+v: %v", saved, err)
				}
			}
		})
	}
	all.Wait()
}

// A directory that can't be written to is told, and tried again at each look.
func TestStateThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, state := filepath.Join(dir, "a.json"), filepath.Join(dir, "missing", "discovery")
	write(t, path, `[{"targets":["a:1"]}]`, start.Add(-time.Hour))
	cfg := Config{Sources: []Source{{ID: "x", Files: []string{path}}}, StateDir: state}
	set, err := New(cfg)
	must(t, err)
	if !set.Look(t.Context(), "x", start) {
		t.Error("not changed")
	}
	wantTargets(t, set, "a:1")
	if err := only(t, set).StateErr; err == nil || !strings.Contains(err.Error(), "not kept over a restart") {
		t.Errorf("the error is %v", err)
	}
	// Also by a source that was changed meanwhile.
	cfg.Sources[0].Refresh = time.Hour
	set, err = set.With(cfg.Sources)
	must(t, err)
	must(t, os.Mkdir(filepath.Dir(state), 0o700))
	if set.Look(t.Context(), "x", start.Add(time.Minute)) {
		t.Error("changed again")
	}
	if err := only(t, set).StateErr; err != nil {
		t.Error(err)
	}
	must(t, os.Remove(path))
	set, err = New(cfg)
	must(t, err)
	wantTargets(t, set, "a:1")
}

func TestPrune(t *testing.T) {
	t.Parallel()
	dir, state := t.TempDir(), t.TempDir()
	path := filepath.Join(dir, "a.json")
	write(t, path, `[{"targets":["a:1"]}]`, start.Add(-time.Hour))
	sources := []Source{{ID: "x", Files: []string{path}}, {ID: "y", Files: []string{path}}}
	set, err := New(Config{Sources: sources, StateDir: state})
	must(t, err)
	set.Look(t.Context(), "x", start)
	set.Look(t.Context(), "y", start)
	write(t, filepath.Join(state, "of somebody else"), "", start)
	set, err = set.With(sources[:1])
	must(t, err)
	must(t, set.Prune())
	entries, err := os.ReadDir(state)
	must(t, err)
	if len(entries) != 2 || entries[0].Name() != set.store.name("x") {
		t.Errorf("what is left: %v", entries)
	}
	must(t, newSet(t, sources[0]).Prune())
}

// Nothing that is not a regular file is opened: a pipe would never end.
func TestFilesThatAreNone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "a.json"), 0o700))
	must(t, os.Symlink(os.DevNull, filepath.Join(dir, "b.json")))
	huge, err := os.Create(filepath.Join(dir, "c.json"))
	must(t, err)
	must(t, huge.Truncate(maxDocument+1)) // sparse
	must(t, huge.Close())
	set := newSet(t, Source{Files: []string{filepath.Join(dir, "*.json")}})
	set.Look(t.Context(), "x", start)
	for _, want := range []string{"a.json: it is not a regular file", "b.json: it is not a regular file", "c.json: has more than 8 MiB"} {
		if err := only(t, set).Err; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want one with %q", err, want)
		}
	}
}

// A file is truncated and written anew, and looked at after every byte: no target is lost or made up in between.
func TestWriterInPlace(t *testing.T) {
	t.Parallel()
	for name, document := range map[string]string{
		"a.yaml": "- targets: [a:1, a:20]\n- targets: [b:1]\n- targets: [b:20]\n- targets:\n  - d:1\n  - d:20\n",
		"a.json": `[{"targets": ["a:1", "a:20"]}, {"targets": ["b:1", "b:20"]}, {"targets": ["d:1", "d:20"]}]`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), name)
			set := newSet(t, Source{Files: []string{path}})
			look := func(later time.Duration) {
				t.Helper()
				info, err := os.Stat(path)
				must(t, err)
				set.Look(t.Context(), "x", info.ModTime().Add(later))
			}
			must(t, os.WriteFile(path, []byte(document), 0o600))
			look(settleFor)
			longer := strings.Replace(document, `"d:20"`, `"d:20", "e:1"`, 1)
			if name == "a.yaml" {
				longer = document + "  - e:1\n  - e:20\n"
			}
			for _, next := range []string{document, longer} {
				file, err := os.Create(path)
				must(t, err)
				for i := range next {
					look(0)
					_, err := file.WriteString(next[i : i+1])
					must(t, err)
					look(time.Second)
					wantTargets(t, set, "a:1 a:20 b:1 b:20 d:1 d:20")
				}
				must(t, file.Close())
			}
			look(settleFor)
			if st := only(t, set); st.Err != nil || st.Held > 0 || st.Targets == 6 {
				t.Errorf("status %+v", st)
			}
		})
	}
}

// A poller runs for months, and files come and go.
func TestFilesThatAreGoneAreForgotten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	set := newSet(t, Source{Files: []string{filepath.Join(dir, "*.json")}})
	set.Look(t.Context(), "x", start) // nothing matches
	for i := range 5 {
		path := filepath.Join(dir, fmt.Sprint(i, ".json"))
		write(t, path, `[{"targets":["a:1"]}]`, start)
		for range 2 {
			set.Look(t.Context(), "x", start.Add(time.Duration(i)*time.Hour))
			set.Look(t.Context(), "x", start.Add(time.Duration(i)*time.Hour+holdFor))
			write(t, filepath.Join(dir, "last.json"), `[]`, start)
			must(t, os.RemoveAll(path))
		}
	}
	src := set.sources["x"]
	if docs, ok := src.docs.(*files); len(src.lists) != 1 || !ok || len(docs.memos) != 1 {
		t.Errorf("known are %v, remembered %v", src.lists, docs)
	}
}

// A file system may have another clock. Its files are not fresh for ever.
func TestFileFromTheFuture(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.json")
	set := newSet(t, Source{Files: []string{path}})
	write(t, path, `[{"targets":["a:1","b:1"]}]`, start.Add(time.Hour))
	set.Look(t.Context(), "x", start)
	write(t, path, `[{"targets":["a:1"]}]`, start.Add(time.Hour))
	set.Look(t.Context(), "x", start)
	wantTargets(t, set, "a:1")
}

// Everything at once, for the race detector.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	dir, s := t.TempDir(), serve(t)
	path := filepath.Join(dir, "a.json")
	s.answers["/t"] = answer{status: 200, contentType: "application/json", body: `[{"targets":["w:1"]}]`}
	sources := []Source{{ID: "a", Files: []string{path}}, {ID: "w", URL: s.url + "/t"}}
	set, err := New(Config{Sources: sources, StateDir: filepath.Join(t.TempDir(), "new")})
	must(t, err)
	other, err := set.With([]Source{{ID: "a", Files: []string{path}, Refresh: time.Hour}, sources[1]})
	must(t, err)
	var all sync.WaitGroup
	for _, set := range []*Set{set, set, other} {
		all.Go(func() {
			for i := range 20 {
				write(t, path, fmt.Sprintf(`[{"targets":["a:%d","b:1"]}]`, i%2+1), start)
				set.Look(t.Context(), "a", start.Add(time.Duration(i)*time.Minute))
				set.Look(t.Context(), "w", start.Add(time.Duration(i)*time.Minute))
			}
		})
	}
	for _, read := range []func(){
		func() {
			for range 20 {
				set.Targets()
			}
		},
		func() { set.Status() },
		func() { set.Next() },
		func() { _, _ = set.With(nil) },
		func() { _, _ = other.With(sources) },
	} {
		all.Go(func() {
			for range 100 {
				read()
			}
		})
	}
	all.Wait()
	for _, set := range []*Set{set, other} {
		if list := set.Targets(); len(list["a"]) != 2 || len(list["w"]) != 1 {
			t.Errorf("targets are %v", list)
		}
		for _, st := range set.Status() {
			if st.StateErr != nil {
				t.Error(st.StateErr)
			}
		}
	}
}
