package discover

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/serviceradar/poller/internal/check"
)

// maxDocument bounds a document, in bytes. It is good for 80,000 targets with some labels each; YAML of that size takes
// half a gigabyte while it is read.
const maxDocument = 8 << 20

// Format is how a document is written.
type Format uint8

// The formats.
const (
	JSON Format = iota
	YAML
)

// formatOf returns the format of a file by its name.
func formatOf(path string) (_ Format, ok bool) {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".json":
		return JSON, true
	case ".yml", ".yaml":
		return YAML, true
	}
	return 0, false
}

// Error is what is wrong with a document.
type Error struct {
	// Line and Column count from 1, columns in characters; both are 0 where nobody knows.
	Line, Column int
	// Msg says what was found and what is allowed.
	Msg string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Msg
	}
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Msg)
}

// wantShape is what a document ought to be, in either format.
const wantShape = `want a list of groups such as [{"targets": ["host:port"], "labels": {"name": "text"}}]`

// text is a string of a document, and where it begins: at a line and a column in YAML, at an offset in JSON.
type text struct {
	value        string
	offset       int
	line, column int
}

// group is what a document is a list of.
type group struct {
	Targets []*text          `json:"targets" yaml:"targets"`
	Labels  map[string]*text `json:"labels"  yaml:"labels"`
}

// Parse returns all targets of a document, in its order, which is empty if there are none. Meta are labels that are
// added to those of each group. An error is an *Error: of a document with anything wrong in it nothing is taken.
func Parse(document []byte, format Format, meta map[string]string) ([]Target, error) {
	if len(document) > maxDocument {
		return nil, &Error{Msg: fmt.Sprintf("has more than %d MiB, which no list of targets has", maxDocument>>20)}
	}
	read := readJSON
	if format == YAML {
		read = readYAML
	}
	groups, err := read(document)
	if err != nil {
		return nil, err
	}
	var targets []Target
	for i, g := range groups {
		if g == nil {
			return nil, &Error{Msg: fmt.Sprintf("group %d is null, want {\"targets\": …}", i+1)}
		}
		var wrong *fault
		if targets, wrong = g.appendTo(targets, meta); wrong != nil {
			return nil, wrong.in(document, format, i)
		}
	}
	return targets, nil
}

// fault is what is wrong within a group, at a text; at is nil if nobody knows where.
type fault struct {
	at  *text
	msg string
}

// in returns the fault as an error of the document.
func (f *fault) in(document []byte, format Format, group int) *Error {
	msg := fmt.Sprintf("group %d: %s", group+1, f.msg)
	switch {
	case f.at == nil:
		return &Error{Msg: msg}
	case format == JSON:
		return at(document, f.at.offset, msg)
	}
	return &Error{Line: f.at.line, Column: f.at.column, Msg: msg}
}

// appendTo adds the group's targets.
func (g *group) appendTo(targets []Target, meta map[string]string) ([]Target, *fault) {
	labels := make(map[string]string, len(g.Labels)+len(meta))
	for name, value := range g.Labels {
		if name == "" {
			return nil, &fault{at: value, msg: `a label has no name`}
		}
		if value != nil { // as for Prometheus, null is no text
			labels[name] = value.value
		}
	}
	maps.Copy(labels, meta)
	name := ""
	if len(g.Targets) == 1 {
		name = labels[AgentLabel]
	}
	if name != "" {
		if want := check.WantName(name); want != "" {
			return nil, &fault{at: g.Labels[AgentLabel], msg: fmt.Sprintf("label %q is %s, %s", AgentLabel, quoted(name), want)}
		}
	}
	targets = slices.Grow(targets, len(g.Targets))
	for i, t := range g.Targets {
		if t == nil {
			return nil, &fault{msg: fmt.Sprintf("target %d is null, want host:port", i+1)}
		}
		if want := wantAddress(t.value); want != "" {
			return nil, &fault{at: t, msg: fmt.Sprintf("target %d is %s, %s", i+1, quoted(t.value), want)}
		}
		targets = append(targets, Target{Name: cmp.Or(name, t.value), Address: t.value, Labels: labels})
	}
	return targets, nil
}

// wantAddress says what a target ought to be, "" if it is.
func wantAddress(s string) string {
	const want = `want host:port such as "192.0.2.7:50051", "checker.example:50051" or "[::1]:50051"`
	host, port, err := net.SplitHostPort(s)
	if err != nil || !check.IsHost(host) {
		return want
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return "whose port is not a number from 1 to 65535"
	}
	return ""
}

const maxQuoted = 80

// quoted repeats a text in a message.
func quoted(s string) string {
	if utf8.RuneCountInString(s) > maxQuoted {
		s = string([]rune(s)[:maxQuoted]) + "…"
	}
	return strconv.Quote(s)
}
