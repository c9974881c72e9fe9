package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/serviceradar/poller/internal/check"
)

const discoveryTable = "discovery"

// The arrays of sources in discoveryTable.
const (
	fileSources = discoveryTable + ".file"
	httpSources = discoveryTable + ".http"
)

// Discovery is a source of agents beside the file.
type Discovery struct {
	// ID is unique, and the same as long as the source is: "file:" and the paths, sorted, or "http:" and the URL without
	// user, password and the values of its query, so that a new token makes no new source.
	ID string
	// Files are absolute paths that end in .json, .yml or .yaml, their last element possibly a pattern of
	// filepath.Match. Nil if there is a URL.
	Files []string
	// URL is of http or https, and may have secrets in it. Empty if there are Files.
	URL string
	// Refresh is how often the source is looked at; 0 means the default of its kind.
	Refresh time.Duration
	// Profile is the one whose checks each agent of the source has.
	Profile string
}

// spec returns what may be written of the source.
func (d *Discovery) spec() *spec[Discovery] {
	if d.URL != "" {
		return httpSpec
	}
	return fileSpec
}

// has tells whether Print writes a key of the source.
func (d *Discovery) has(k *key[Discovery]) bool { return k.name != "refresh" || d.Refresh != 0 }

var fileSpec = newSourceSpec(key[Discovery]{
	name: "paths", rule: rule{kind: kindList, paths: true, want: wantTargetFile},
	required: `the files that list targets; write paths = ["targets.d/*.json"] or such`,
	field:    func(d *Discovery) any { return &d.Files },
})

var httpSpec = newSourceSpec(key[Discovery]{
	name: "url", rule: rule{kind: kindURL, want: wantURL},
	required: `what lists targets; write url = "https://inventory.example/targets" or such`,
	field:    func(d *Discovery) any { return &d.URL },
})

func newSourceSpec(where key[Discovery]) *spec[Discovery] {
	return newSpec([]key[Discovery]{
		where,
		{name: "refresh", rule: duration(time.Second), field: func(d *Discovery) any { return &d.Refresh }},
		{
			name: "profile", rule: text(nil), required: `a name under [profiles], for an agent that is found has no other checks; write profile = "web" or such`,
			field: func(d *Discovery) any { return &d.Profile },
		},
	})
}

// sources reads [discovery], when the profiles are known.
func (r *agentReader) sources(found *tables) {
	first := map[string]*node{}
	for _, array := range found.files {
		r.sourceList(array, fileSpec, first)
	}
	for _, array := range found.urls {
		r.sourceList(array, httpSpec, first)
	}
}

// shapeOf is found without a text, which may be a URL with secrets.
func shapeOf(n *node) string {
	if n.kind == nodeString {
		return "text"
	}
	return n.found()
}

// sourceList reads the sources of a kind.
func (r *agentReader) sourceList(array *node, s *spec[Discovery], first map[string]*node) {
	if array.kind != nodeArray {
		r.value(array, "found %s, want an array of tables: write [[%s]] before each source", shapeOf(array), array.path())
		return
	}
	for _, n := range array.elems {
		if n.kind != nodeTable {
			r.value(n, "found %s, want a table: write { %s = …, profile = … }, or [[%s]] before each source", shapeOf(n), s.keys[0].name, array.path())
			continue
		}
		r.source(n, s, first)
	}
}

// source reads a source, unless it is one that there is already.
func (r *agentReader) source(n *node, s *spec[Discovery], first map[string]*node) {
	before := len(r.found)
	d := Discovery{}
	w := &walker[Discovery]{
		spec: s, problems: r.problems,
		set: func(k *key[Discovery], value any, _ *node) { store(k.field(&d), value) },
	}
	w.walk(n, "")
	w.missing(n)
	if written := n.kids["profile"]; written != nil && written.kind == nodeString {
		r.sourceProfile(written, d.Profile)
	}
	for i, path := range d.Files {
		d.Files[i] = r.targetFile(n.kids["paths"].elems[i], path)
	}
	if len(r.found) > before {
		return
	}
	d.ID = sourceID(&d)
	if old := first[d.ID]; old != nil {
		line, _ := old.doc.position(int(old.keyOff))
		r.key(n, n.path(), "%s", sameSource(&d, line))
		return
	}
	first[d.ID] = n
	r.config.Discovery = append(r.config.Discovery, d)
}

func sameSource(d *Discovery, line int) string {
	const again = "the source on line %d has the same "
	if d.URL == "" {
		return fmt.Sprintf(again+"paths; write it once", line)
	}
	return fmt.Sprintf(again+"URL but for what may be secret: user, password and the values of the query; "+
		"write it once, or if they are two, tell them apart by an end such as #north, which is not sent", line)
}

// sourceProfile reports a profile that there is not, or that is of no use.
func (r *agentReader) sourceProfile(written *node, name string) {
	switch p := r.profiles[name]; {
	case p == nil && !r.incomplete:
		hint := strings.TrimSuffix(r.suggestProfile(name), orLeaveOut)
		r.value(written, "found %s, which is no profile%s", foundText(name), hint)
	case p != nil && len(p.checks) == 0 && !p.broken:
		r.warn("%s: the profile %s has no checks, so agents that are found are asked nothing; add [[profiles.%s.checks]]",
			written.path(), foundText(name), QuoteKey(Mask(name)))
	}
}

// targetFile returns a path or pattern as an absolute one.
func (r *agentReader) targetFile(n *node, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	path = filepath.Join(n.doc.dir, path)
	if dir := filepath.Dir(path); hasGlob(dir) {
		r.value(n, "found %s, which starts at %s, but that would be a pattern; write it in full, from a directory without %s in its name",
			n.found(), dir, globCharacters)
	}
	return path
}

// sourceID returns the ID of a source.
func sourceID(d *Discovery) string {
	if d.URL != "" {
		shown, _ := check.MaskURL(d.URL)
		scheme, rest, _ := strings.Cut(shown, "://")
		return "http:" + scheme + "://" + strings.TrimPrefix(rest, check.Hidden+"@")
	}
	paths := slices.Sorted(slices.Values(d.Files))
	return "file:" + strings.Join(slices.Compact(paths), ",")
}
