package checkerfile

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/agnivade/levenshtein"
)

// reader reads a tree into a File, and collects what is wrong with it.
type reader struct {
	name   string
	dir    string // where relative paths start
	doc    []byte // the text
	others bool   // whether others may read the file
	from   outside
	file   *File
	found  []problem
	warned bool // that others may read the file
}

// read reads a node's value to where it goes, and tells whether it is of the right shape. If not, that is reported.
type read func(n *node) bool

// keys are those of a table.
type keys map[string]read

const (
	maxCount    = 1_000_000
	maxDuration = 365 * 24 * time.Hour // longer is a slip
)

// table reads a table with fixed keys.
func (r *reader) table(known keys) read {
	return func(n *node) bool {
		kids, ok := n.value.(table)
		if !ok {
			r.value(n, "found %s, want a table", n.kind())
			return false
		}
		for _, kid := range kids.inOrder() {
			if read := known[kid.name]; read != nil {
				read(kid)
			} else {
				r.key(kid, kid.path, "unknown key%s", known.hint(kid.name))
			}
		}
		return true
	}
}

// named reads a table of tables with names that the operator has given them.
func (r *reader) named(what string, each func(name string, n *node)) read {
	return func(n *node) bool {
		kids, ok := n.value.(table)
		if !ok {
			r.value(n, "found %s, want tables with a name each: write [%s.NAME]", n.kind(), what)
			return false
		}
		for _, kid := range kids.inOrder() {
			if kid.name == "" {
				r.key(kid, kid.path, "has no name; give it one that checks can name it by")
				continue
			}
			each(kid.name, kid)
		}
		return true
	}
}

// then also notes that the key is there.
func (r *reader) then(there *bool, next read) read {
	return func(n *node) bool {
		*there = true
		return next(n)
	}
}

func (r *reader) text(to *string, want func(string) string) read {
	return func(n *node) bool {
		text, ok := n.value.(string)
		if !ok {
			r.value(n, "found %s, want text in quotes", n.found())
			return false
		}
		if bad := want(text); bad != "" {
			r.value(n, "found %s, %s", n.found(), bad)
		}
		*to = text
		return true
	}
}

func (r *reader) oneOf(to *string, allowed ...string) read {
	return r.text(to, func(s string) string {
		if slices.Contains(allowed, s) {
			return ""
		}
		bad := "want one of " + strings.Join(allowed, ", ")
		if near := nearest(s, allowed); near != "" {
			bad += fmt.Sprintf("; did you mean %q?", near)
		}
		return bad
	})
}

// path reads the path of a file or a directory.
func (r *reader) path(to *string) read {
	return func(n *node) bool {
		if !r.text(to, wantPath)(n) {
			return false
		}
		*to = r.absolute(*to)
		return true
	}
}

func (r *reader) absolute(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(r.dir, path)
}

func wantPath(s string) string {
	if s == "" || strings.Contains(s, "\x00") {
		return "want a path"
	}
	return ""
}

func (r *reader) count(to *int) read {
	return func(n *node) bool {
		number, ok := n.value.(int64)
		if !ok || number < 1 || number > maxCount {
			r.value(n, "found %s, want a whole number from 1 to %d", n.found(), maxCount)
			return ok
		}
		*to = int(number)
		return true
	}
}

func (r *reader) duration(to *time.Duration, least time.Duration) read {
	return func(n *node) bool {
		text, ok := n.value.(string)
		d, err := time.ParseDuration(text)
		switch {
		case !ok || err != nil:
			r.value(n, `found %s, want a duration such as "5s"`, n.found())
		case d < least:
			r.value(n, "found %s, want at least %q", n.found(), least)
		case d > maxDuration:
			r.value(n, "found %s, want a year at most", n.found())
		}
		*to = d
		return ok
	}
}

// list reads a list of texts, of which there is at least one.
func (r *reader) list(to *[]string, want func(i int, s string) string) read {
	return func(n *node) bool {
		elems, ok := n.value.([]*node)
		if !ok || len(elems) == 0 {
			r.value(n, `found %s, want a list of texts such as ["a", "b"]`, map[bool]string{true: "an empty list", false: n.found()}[ok])
			return ok
		}
		for i, elem := range elems {
			text, isText := elem.value.(string)
			if !isText {
				r.value(elem, "found %s, want text in quotes", elem.found())
			} else if bad := want(i, text); bad != "" {
				r.value(elem, "found %s, %s", elem.found(), bad)
			}
			*to = append(*to, text)
		}
		return true
	}
}

// secret has the keys of a secret, which stands in the file or where one of two other keys says. None of them is ever shown.
func (r *reader) secret(name string, given *bool, to *string) keys {
	source := func(look func(n *node, text string)) read {
		return func(n *node) bool {
			text, ok := n.value.(string)
			switch {
			case *given:
				r.key(n, n.path, "there is a %s already; write one of %[1]s, %[1]s_file and %[1]s_env", name)
			case !ok:
				r.value(n, "found %s, want text in quotes", n.kind())
			case text == "":
				r.value(n, "found an empty text")
			default:
				look(n, text)
			}
			*given = true
			return ok
		}
	}
	return keys{
		name: source(func(n *node, text string) {
			*to = text
			if r.others && !r.warned {
				r.warned = true
				r.warn(n, "this file has secrets in it, and others on this machine may read it: chmod o= it")
			}
		}),
		name + "_file": source(func(n *node, file string) { *to = r.secretFile(n, file) }),
		name + "_env": source(func(n *node, variable string) {
			value, ok := r.from.variable(variable)
			if !ok || value == "" {
				r.value(n, "the environment variable %q is not set, or empty", shorten(variable))
			}
			*to = value
		}),
	}
}

// secretFile returns what is in a secret's file, without the line break that editors leave at the end.
func (r *reader) secretFile(n *node, file string) string {
	text, others, err := r.from.file(r.absolute(file), maxSecret)
	if err != nil {
		r.value(n, "can't read %q: %v", shorten(file), err)
		return ""
	}
	if others {
		r.warn(n, "others on this machine may read %s: chmod o= it", shorten(file))
	}
	text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	if len(text) == 0 {
		r.value(n, "the file %q is empty", shorten(file))
	}
	return string(text)
}

// withoutMark leaves out what some editors put before UTF-8.
func withoutMark(text []byte) []byte {
	// The parser computes offsets from capacities, so the capacity must end with the text.
	return slices.Clip(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")))
}

// nearest returns the candidate with the fewest slips to the name, "" if all have too many.
func nearest(name string, candidates []string) string {
	const tooLong = 64 // nobody mistypes that much, and the cost grows with the length
	if len(name) > tooLong {
		return ""
	}
	best, distance := "", max(1, len(name)/3)+1
	for _, c := range candidates {
		if d := levenshtein.ComputeDistance(strings.ToLower(name), c); d < distance {
			best, distance = c, d
		}
	}
	return best
}
