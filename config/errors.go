package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Error is one thing that is wrong with a configuration.
type Error struct {
	// File is the file's name as it was given, or the variable or flag: "environment POLLER_LOG__LEVEL",
	// "flag --log.level".
	File string
	// Line and Column count from 1, columns in characters; both are 0 where there is no file.
	Line, Column int
	// Key is the dotted key, empty if the error is about the text as a whole.
	Key string
	// Msg says what was found and what is allowed.
	Msg string
}

func (e Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
	}
	b.WriteString(": ")
	if e.Key != "" {
		b.WriteString(e.Key + ": ")
	}
	b.WriteString(e.Msg)
	return b.String()
}

// Errors are all that is wrong with a configuration: those of the file by position, then those of each
// included file, then those of the environment, then those of the flags.
type Errors []Error

// Error returns one line for each error.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].Error()
	}
	return strings.Join(lines, "\n")
}

// place is where a value was written: at a node of a file, or in a variable or flag. The zero place
// means that nobody wrote it.
type place struct {
	node   *node
	source string
}

func (p place) written() bool { return p.node != nil || p.source != "" }

// problems collects errors and warnings while a configuration is read.
type problems struct {
	main     *document // the file of what has no place
	found    []problem
	warnings []string
}

type problem struct {
	place place
	// onKey points at the key, not at its value.
	onKey bool
	key   string
	msg   string
}

// value reports what is wrong with the value of a node, unless it was no value to begin with.
func (p *problems) value(n *node, format string, args ...any) {
	if n.kind == nodeBad {
		return
	}
	p.found = append(p.found, problem{place: place{node: n}, key: n.path(), msg: fmt.Sprintf(format, args...)})
}

// key reports what is wrong with a node's key, or with a table as a whole.
func (p *problems) key(n *node, key, format string, args ...any) {
	p.found = append(p.found, problem{place: place{node: n}, onKey: true, key: key, msg: fmt.Sprintf(format, args...)})
}

// at reports what is wrong with a key's value, wherever it was written.
func (p *problems) at(where place, key, format string, args ...any) {
	p.found = append(p.found, problem{place: where, key: key, msg: fmt.Sprintf(format, args...)})
}

func (p *problems) warn(format string, args ...any) {
	p.warnings = append(p.warnings, fmt.Sprintf(format, args...))
}

// errors returns what was found, in order, or nil.
func (p *problems) errors() error {
	if len(p.found) == 0 {
		return nil
	}
	// Offsets, not lines, because lines are looked up only once the order is known. The files come first,
	// then "environment …", then "flag …", which is also the order of the alphabet.
	slices.SortStableFunc(p.found, func(a, b problem) int {
		return cmp.Or(
			cmp.Compare(a.place.source, b.place.source),
			cmp.Compare(p.docOf(a).rank, p.docOf(b).rank),
			cmp.Compare(a.offset(), b.offset()),
			strings.Compare(a.key, b.key),
			strings.Compare(a.msg, b.msg),
		)
	})
	out := make(Errors, len(p.found))
	for i, f := range p.found {
		doc := p.docOf(f)
		out[i] = Error{File: cmp.Or(f.place.source, doc.name, "configuration"), Key: f.key, Msg: f.msg}
		if f.place.source == "" && doc.name != "" {
			out[i].Line, out[i].Column = doc.position(f.offset())
		}
	}
	return out
}

// docOf is where a problem is, if it is in a file.
func (p *problems) docOf(f problem) *document {
	if f.place.node == nil {
		return p.main
	}
	return f.place.node.doc
}

func (f problem) offset() int {
	switch {
	case f.place.node == nil:
		return 0
	case f.onKey:
		return int(f.place.node.keyOff)
	}
	return int(f.place.node.off)
}
