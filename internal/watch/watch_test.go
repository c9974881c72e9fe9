package watch

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// place is a directory with a Watch that tells told.
type place struct {
	*testing.T
	dir  string
	told chan string
	*Watch
}

func newPlace(t *testing.T) *place {
	t.Parallel()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	p := &place{T: t, dir: dir, told: make(chan string, 1000)}
	p.must(err)
	p.Watch, err = New(func(name string) { p.told <- name }, func(err error) { t.Error(err) })
	p.must(err)
	t.Cleanup(func() { p.must(p.Close()) })
	return p
}

func (p *place) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

func (p *place) at(name string) string { return filepath.Join(p.dir, name) }

func (p *place) write(name, text string) {
	p.Helper()
	p.must(os.MkdirAll(filepath.Dir(p.at(name)), 0o700))
	p.must(os.WriteFile(p.at(name), []byte(text), 0o600))
}

func (p *place) link(target, name string) {
	p.Helper()
	p.must(os.Symlink(target, p.at(name)))
}

// wantTold waits until it is told of a change of name.
func (p *place) wantTold(name, what string) {
	p.Helper()
	for late := time.After(10 * time.Second); ; {
		select {
		case told := <-p.told:
			if told == p.at(name) {
				return
			}
		case <-late:
			p.Fatalf("not told that %s", what)
		}
	}
}

// settle forgets what was told so far.
func (p *place) settle() {
	p.Helper()
	for len(p.told) > 0 {
		<-p.told
	}
}

func (p *place) follow(names ...string) {
	p.Helper()
	var files []string
	for _, name := range names {
		files = append(files, p.at(name))
	}
	p.must(p.Follow(files, nil))
}

func TestFile(t *testing.T) {
	p := newPlace(t)
	p.write("a", "1")
	p.follow("a", "sub/b")
	p.write("a", "2")
	p.wantTold("a", "a file was written")
	p.settle()
	p.write("new", "3")
	p.must(os.Rename(p.at("new"), p.at("a")))
	p.wantTold("a", "a file was replaced")
	p.settle()
	p.must(os.Remove(p.at("a")))
	p.wantTold("a", "a file was removed")
	p.settle()
	p.write("a", "4")
	p.wantTold("a", "a file is back")
	p.settle()
	p.must(os.Mkdir(p.at("sub"), 0o700))
	p.wantTold("sub", "the directory of a file came about")
	p.settle()
	p.follow("a", "sub/b")
	p.write("sub/b", "5")
	p.wantTold("sub/b", "a file came about in it")
}

func TestLinks(t *testing.T) {
	p := newPlace(t)
	p.write("live/cert-1", "1")
	p.write("live/cert-2", "1")
	p.link("cert-1", "live/cert")
	p.link("live/cert", "cert")
	p.follow("cert")
	p.write("live/cert-1", "2")
	p.wantTold("live/cert-1", "what a link leads to was written")
	p.settle()
	p.link("cert-2", "live/next")
	p.must(os.Rename(p.at("live/next"), p.at("live/cert")))
	p.wantTold("live/cert", "a link on the way was replaced")
	p.settle()
	p.follow("cert")
	p.write("live/cert-2", "3")
	p.wantTold("live/cert-2", "what it leads to now was written")
}

// A volume of Kubernetes: all files are links below a link that is exchanged.
func TestVolume(t *testing.T) {
	p := newPlace(t)
	p.write("..1/poller.toml", "1")
	p.link("..1", "..data")
	p.link("..data/poller.toml", "poller.toml")
	for i, next := range []string{"..2", "..3"} {
		p.follow("poller.toml")
		p.settle()
		p.write(next+"/poller.toml", next)
		p.link(next, "..data_tmp")
		p.must(os.Rename(p.at("..data_tmp"), p.at("..data")))
		p.must(os.RemoveAll(p.at([]string{"..1", "..2"}[i])))
		p.wantTold("..data", "the volume was exchanged")
	}
}

// The same for files that a pattern matches.
func TestVolumeOfPatterns(t *testing.T) {
	p := newPlace(t)
	p.write("..1/a.json", "1")
	p.link("..1", "..data")
	p.link("..data/a.json", "a.json")
	p.must(p.Follow(nil, []string{p.at("*.json")}))
	p.write("..2/a.json", "2")
	p.link("..2", "..data_tmp")
	p.must(os.Rename(p.at("..data_tmp"), p.at("..data")))
	p.wantTold("..data", "the volume was exchanged")
}

func TestPatterns(t *testing.T) {
	p := newPlace(t)
	p.write("agents.d/a.toml", "1")
	p.must(p.Follow(nil, []string{p.at("agents.d/*.toml"), p.at("sites/*/agents.toml")}))
	p.write("agents.d/b.toml", "1")
	p.wantTold("agents.d/b.toml", "a file came about that a pattern matches")
	p.settle()
	p.must(os.Remove(p.at("agents.d/a.toml")))
	p.wantTold("agents.d/a.toml", "a file was removed that a pattern matches")
	p.settle()
	p.must(os.MkdirAll(p.at("sites/x"), 0o700))
	p.wantTold("sites", "a directory on the way of a pattern came about")
	p.must(p.Follow(nil, []string{p.at("agents.d/*.toml"), p.at("sites/*/agents.toml")}))
	p.settle()
	p.write("sites/x/agents.toml", "1")
	p.wantTold("sites/x/agents.toml", "a file came about in a directory that a pattern matches")
}

func TestConcernsNothingElse(t *testing.T) {
	p := newPlace(t)
	p.write("a", "1")
	p.must(p.Follow([]string{p.at("a")}, []string{p.at("d/*.toml")}))
	for name, want := range map[string]bool{"a": true, "b": false, "d": true, "d/x.toml": true, "d/x.tmp": false, "d/sub/x.toml": false} {
		if got := p.concerns(p.at(name)); got != want {
			t.Errorf("%s concerns us: %v, want %v", name, got, want)
		}
	}
	p.must(p.Follow(nil, nil))
	if p.concerns(p.at("a")) || len(p.kernel.WatchList()) != 0 {
		t.Errorf("still watched: %v", p.kernel.WatchList())
	}
}

func TestLeading(t *testing.T) {
	p := newPlace(t)
	p.write("x/f", "1")
	p.link(p.at("x"), "abs")
	p.link("../x/../abs/f", "x/up")
	p.link("round", "round")
	for name, want := range map[string][]string{
		"x/f":       {"x/f"},
		"abs/f":     {"abs", "x/f"},
		"x/up":      {"x/up", "abs", "x/f"},
		"missing/f": {"missing"},
	} {
		var got []string
		for _, n := range leading(p.at(name)) {
			rel, err := filepath.Rel(p.dir, n)
			p.must(err)
			got = append(got, rel)
		}
		if !slices.Equal(got, want) {
			t.Errorf("what leads to %s: %v, want %v", name, got, want)
		}
	}
	if got := leading(p.at("round")); len(got) == 0 || got[0] != p.at("round") {
		t.Errorf("what leads round: %v", got)
	}
}
