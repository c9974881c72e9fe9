package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
)

// Bounds of all files of a configuration together: more is a mistake, such as a pattern for something else.
const (
	maxFile  = 64 << 20 // bytes
	maxFiles = 10_000   // included ones
)

const holdsOnly = "an included file holds only [agents.NAME] and [profiles.NAME]"

// tables are the nodes of the tables that included files add to, in the order of the files.
type tables struct {
	agents, profiles []*node
	// files and urls are the arrays of sources, which only the main file has.
	files, urls []*node
	// silences are those of the main file for all.
	silences []*node
	// partial tells that there may be more, in files that can't be read: nothing follows from what is missing.
	partial bool
}

// add takes a file's table if it is one of those.
func (t *tables) add(n *node) bool {
	switch n.key {
	case agentsTable:
		t.agents = append(t.agents, n)
	case profilesTable:
		t.profiles = append(t.profiles, n)
	default:
		return false
	}
	return true
}

// includer reads the files that the main file includes.
type includer struct {
	*problems
	*tables
	from fs.FS
	used *Files
	// room is how many bytes may still be read.
	room int
	// seen are the absolute paths of the files that were read.
	seen map[string]bool
}

func newIncluder(p *problems, t *tables, from fs.FS, used *Files) *includer {
	return &includer{problems: p, tables: t, from: from, used: used, room: maxFile - len(p.main.text), seen: map[string]bool{}}
}

// include reads the files that a list of patterns names, each once.
func (r *includer) include(list *node) {
	if list.kind != nodeArray {
		r.fail(list, `found %s, want a list of patterns such as ["agents.d/*.toml"]`, list.found())
		return
	}
	for _, n := range list.elems {
		if n.kind != nodeString {
			r.fail(n, "found %s, want text in quotes", n.found())
			continue
		}
		pattern := n.value.(string)
		if want := wantPattern(pattern); want != "" {
			r.fail(n, "found %s, %s", foundText(pattern), want)
			continue
		}
		for _, name := range r.match(n, pattern) {
			if !r.read(n, pattern, name) {
				return
			}
		}
	}
}

// fail reports why some files are not read.
func (r *includer) fail(n *node, format string, args ...any) {
	r.partial = true
	r.value(n, format, args...)
}

// match returns the files that a pattern matches. It takes their names as the main file's was given.
func (r *includer) match(n *node, pattern string) []string {
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(filepath.Dir(r.main.name), pattern)
	}
	r.used.Patterns = append(r.used.Patterns, absolutePath(pattern))
	names, err := glob(r.from, pattern, maxFiles)
	switch {
	case errors.Is(err, errTooMany):
		r.fail(n, "found %s, which matches more than %d files; is this the right pattern?", n.found(), maxFiles)
	case err != nil:
		r.fail(n, "found %s, but what matches it can't be found out: %v; check that the user that the poller runs as can read that directory", n.found(), err)
	case len(names) == 0 && hasGlob(pattern):
		r.warn("include: %s matches no file", n.found())
	case len(names) == 0:
		r.fail(n, "found %s, but there is no file %s; check the path, or leave it out", n.found(), pattern)
	}
	return names
}

// read reads one of the files that a pattern matches, and returns whether to go on with others.
func (r *includer) read(n *node, pattern, name string) bool {
	absolute := absolutePath(name)
	switch {
	case r.main.name != "" && absolute == absolutePath(r.main.name):
		r.fail(n, `found %s, which matches this file itself; have the others in a directory of their own, such as "agents.d/*.toml"`, n.found())
		return true
	case r.seen[absolute]:
		return true
	case len(r.seen) == maxFiles:
		r.fail(n, "these are more than %d files; are these the right patterns?", maxFiles)
		return false
	}
	r.seen[absolute] = true
	r.used.Config = append(r.used.Config, absolute)
	text, err := r.text(name)
	switch {
	case err != nil && hasGlob(pattern):
		r.fail(n, "found %s, but %s, which matches it, can't be read: %v", n.found(), name, err)
		return true
	case err != nil:
		r.fail(n, "found %s, but %s can't be read: %v", n.found(), name, err)
		return true
	case len(text) > r.room:
		r.fail(n, "with %s the configuration is larger than %s; are these the right files?", name, formatSize(maxFile))
		return false
	}
	r.room -= len(text)
	r.parse(name, text)
	return true
}

// text returns a file's text, or a part of it if there is no room for all of it.
func (r *includer) text(name string) ([]byte, error) {
	const gone = "a link that leads nowhere, or removed just now: check the path"
	info, err := fs.Stat(r.from, name)
	if err != nil {
		return nil, readHint(err, gone)
	}
	// What is no plain file might be waited for without an end.
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is no plain file, but a directory or a device; leave it out")
	}
	text, err := readFile(r.from, name, int64(r.room)+1)
	if err != nil {
		return nil, readHint(err, gone)
	}
	return text, nil
}

// parse takes the tables of an included file's text.
func (r *includer) parse(name string, text []byte) {
	doc := newDocument(name, text)
	doc.rank = len(r.seen)
	root := parseTOML(r.problems, doc)
	if root == nil {
		r.partial = true
		return
	}
	for _, n := range root.sortedKids() {
		switch {
		case r.add(n):
		case slices.Contains(rootSpec.tables[""], n.key):
			r.key(n, n.path(), "not allowed here: %s; write it in the main file", holdsOnly)
		default:
			hint := suggestText(n.key, []string{agentsTable, profilesTable})
			r.key(n, n.path(), "unknown key%s", cmp.Or(hint, "; "+holdsOnly))
		}
	}
}

// wantPattern is for a path or a pattern of paths.
func wantPattern(s string) string {
	const want = `want a path or a pattern such as "agents.d/*.toml"`
	switch {
	case strings.Contains(s, "://"):
		return want + ", not a URL"
	case strings.Contains(s, "**"):
		return `but ** reaches no deeper than * here; write each level, such as "agents.d/*/*.toml"`
	}
	return wantPathText(s, want)
}

// wantPathText says what is wrong with a path or a pattern of whatever files, which ought to be as want says.
func wantPathText(s, want string) string {
	switch {
	case strings.TrimSpace(s) != s || s == "":
		return want
	case strings.IndexFunc(s, unicode.IsControl) >= 0:
		return want + ", without control characters such as line breaks"
	case strings.HasPrefix(s, "~") || strings.HasPrefix(s, "$") || strings.Contains(s, "${"):
		return "which is no shell's to expand; write the path in full"
	}
	if _, err := filepath.Match(s, ""); err != nil {
		return fmt.Sprintf("which is no valid pattern (%v): [ begins a set that ends with ], and \\ goes before a character that is meant as such", err)
	}
	return ""
}
