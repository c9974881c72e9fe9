package watch

import (
	"os"
	"testing"
	"time"
)

func TestStamp(t *testing.T) {
	p := newPlace(t)
	p.write("a", "1")
	p.link("a", "l")
	stamp := func() string { return Stamp([]string{p.at("l"), p.at("missing")}, []string{p.at("d/*.toml"), "["}) }
	at := time.Now().Add(-time.Hour)
	p.must(os.Chtimes(p.at("a"), at, at))
	before := stamp()
	if stamp() != before {
		t.Error("the stamp changes by itself")
	}
	for _, tt := range []struct {
		what   string
		change func()
	}{
		{"other content", func() { p.write("a", "2") }},
		{"a new file", func() { p.write("d/x.toml", "1") }},
		{"one is there", func() { p.write("missing", "") }},
		{"no permission", func() { p.must(os.Chmod(p.at("a"), 0)) }},
		{"one is gone", func() { p.must(os.Remove(p.at("a"))) }},
	} {
		tt.change()
		if now := stamp(); now == before {
			t.Errorf("%s: the stamp is as before", tt.what)
		} else {
			before = now
		}
	}
}
