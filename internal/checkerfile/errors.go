package checkerfile

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Error is one thing that is wrong with a checker's file.
type Error struct {
	File string
	// Line and Column count from 1, columns in characters.
	Line, Column int
	// Key is the dotted key, empty if the error is about the text as a whole.
	Key string
	// Msg says what was found and what is allowed. No secret is in it.
	Msg string
}

func (e Error) Error() string {
	if e.Key == "" {
		return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Msg)
	}
	return fmt.Sprintf("%s:%d:%d: %s: %s", e.File, e.Line, e.Column, e.Key, e.Msg)
}

// Errors are all that is wrong with a file, by position.
type Errors []Error

// Error returns one line for each error.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].Error()
	}
	return strings.Join(lines, "\n")
}

// problem is an Error before its offset became a line and a column.
type problem struct {
	at       int
	key, msg string
}

// errors returns what was found, in order, or nil.
func (r *reader) errors() error {
	if len(r.found) == 0 {
		return nil
	}
	slices.SortStableFunc(r.found, func(a, b problem) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.key, b.key)) })
	out := make(Errors, len(r.found))
	line, start, seen := 1, 0, 0 // the line of what was seen last, and where that starts
	for i, p := range r.found {
		between := r.doc[seen:p.at]
		line += bytes.Count(between, []byte("\n"))
		if end := bytes.LastIndexByte(between, '\n'); end >= 0 {
			start = seen + end + 1
		}
		seen = p.at
		out[i] = Error{File: r.name, Line: line, Column: utf8.RuneCount(r.doc[start:p.at]) + 1, Key: p.key, Msg: p.msg}
	}
	return out
}

// value reports what is wrong with a node's value.
func (r *reader) value(n *node, format string, args ...any) {
	r.found = append(r.found, problem{n.at, n.path, fmt.Sprintf(format, args...)})
}

// key reports what is wrong with a key, or with a table as a whole.
func (r *reader) key(n *node, path, format string, args ...any) {
	r.found = append(r.found, problem{n.key, path, fmt.Sprintf(format, args...)})
}

func (r *reader) warn(n *node, format string, args ...any) {
	line := bytes.Count(r.doc[:n.at], []byte("\n")) + 1
	r.file.Warnings = append(r.file.Warnings, fmt.Sprintf("%s:%d: %s: %s", r.name, line, n.path, fmt.Sprintf(format, args...)))
}
