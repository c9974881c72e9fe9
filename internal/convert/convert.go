// Package convert writes the poller's TOML from the JSON configuration of ServiceRadar's poller.
//
// Guarantees:
//   - What it returns without an error is a configuration that config.Parse accepts, and is the same for
//     the same text.
//   - Nothing is lost in silence: what could not be carried, or not as it was, is a Note, and also a
//     comment in the TOML at the place that it is about.
//   - No connection becomes less secure than it was: where that would be so, there is an error.
//   - All that is in the way is reported at once, each with its place in the JSON. Only what is no JSON
//     ends the reading at that place.
//   - Notes and errors mask the secrets that config.Mask sees; the TOML holds them as the JSON did.
//
// All functions are safe to call from several goroutines.
package convert

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/serviceradar/poller/config"
)

// Result is a converted configuration.
type Result struct {
	// TOML is the text of the configuration.
	TOML []byte
	// Notes are in the order of the TOML, but that those of missing TLS and those without a place in it come last.
	Notes []Note
}

// Note is one thing that an operator should know of.
type Note struct {
	// Path is where in the JSON it is: agents.local.checks[2].details; empty if it is about the whole.
	Path string
	// Text says what was done and why.
	Text string
	// Warning marks what deserves a look before the configuration is used.
	Warning bool
}

// String returns the note as a line without its end.
func (n Note) String() string {
	if n.Path == "" {
		return n.Text
	}
	return n.Path + ": " + n.Text
}

// ServiceRadar converts the text of a poller.json, whose name stands in errors. The error is of type
// config.Errors, in order of position, the keys being paths in the JSON; with one, the Result is zero.
func ServiceRadar(name string, text []byte) (Result, error) {
	root, bad := readJSON(text)
	if bad != nil {
		line, column := position(text, bad.off)
		return Result{}, config.Errors{{File: name, Line: line, Column: column, Msg: bad.msg}}
	}
	c := &conversion{name: name, text: text, origins: map[string]*value{}}
	c.poller(root)
	toml := c.write()
	c.validate(toml)
	if len(c.problems) > 0 {
		return Result{}, c.errors()
	}
	return Result{TOML: toml, Notes: append(c.notes, c.placeless...)}, nil
}

// conversion is one call of ServiceRadar.
type conversion struct {
	name     string
	text     []byte
	problems []problem
	notes    []Note
	// placeless are the notes that have no place in the TOML but its header.
	placeless []Note
	// tables are the TOML, in order; the header is the first.
	tables []*table
	header *table
	// origins are where in the JSON the keys of the TOML come from.
	origins map[string]*value
	// interval is that of the poller, for those of the checks.
	interval time.Duration
}

// problem is a reason not to convert.
type problem struct {
	from *value
	path string
	msg  string
}

// problem reports what is wrong with a value.
func (c *conversion) problem(v *value, format string, args ...any) {
	c.problems = append(c.problems, problem{from: v, path: v.path(), msg: fmt.Sprintf(format, args...)})
}

// missing reports what an object does not have, but has to.
func (c *conversion) missing(object *value, name, want string) {
	if all := object.matches(name); len(all) > 0 {
		if v := merge(all); v.kind != kindText && v.kind != kindNull {
			return // it is there, and reported for what it is
		}
	}
	c.problems = append(c.problems, problem{from: object, path: join(object.path(), name), msg: "missing: " + want})
}

// note tells of something, also as a comment in the table.
func (c *conversion) note(at *table, path, format string, args ...any) {
	c.tell(at, Note{Path: path, Text: fmt.Sprintf(format, args...)})
}

// warn is note for what deserves a look.
func (c *conversion) warn(at *table, path, format string, args ...any) {
	c.tell(at, Note{Path: path, Text: fmt.Sprintf(format, args...), Warning: true})
}

func (c *conversion) tell(at *table, n Note) {
	n.Text = config.Mask(n.Text)
	if at == c.header {
		c.placeless = append(c.placeless, n)
	} else {
		c.notes = append(c.notes, n)
	}
	n.Path = strings.TrimPrefix(strings.TrimPrefix(n.Path, at.path), ".")
	comment := n.String()
	if n.Warning {
		comment = "WARNING: " + comment
	}
	at.comment(comment)
}

// validate has config judge what was written. What it refuses, it refuses for a value of the JSON, so
// the rules need not be repeated here.
func (c *conversion) validate(toml []byte) {
	_, _, err := config.Parse("", toml, config.Source{})
	refused, _ := errors.AsType[config.Errors](err)
	incomplete := len(c.problems) > 0
	for _, e := range refused {
		switch from := c.origin(e.Key); {
		case from != nil:
			c.problem(from, "%s", e.Msg)
		case incomplete: // then what is missing is what there are problems with
		default:
			c.problems = append(c.problems, problem{
				from: &value{}, path: e.Key,
				msg: "a fault of the converter, please report it: the poller does not accept what it wrote: " + e.Msg,
			})
		}
	}
}

// errors returns the problems by position, one for each place: others follow from the first.
func (c *conversion) errors() config.Errors {
	slices.SortStableFunc(c.problems, func(a, b problem) int {
		return cmp.Or(cmp.Compare(a.from.off, b.from.off), strings.Compare(a.path, b.path))
	})
	c.problems = slices.CompactFunc(c.problems, func(a, b problem) bool {
		return a.from.off == b.from.off && a.path == b.path
	})
	out := make(config.Errors, len(c.problems))
	for i, p := range c.problems {
		line, column := position(c.text, p.from.off)
		out[i] = config.Error{File: c.name, Line: line, Column: column, Key: p.path, Msg: config.Mask(p.msg)}
	}
	return out
}
