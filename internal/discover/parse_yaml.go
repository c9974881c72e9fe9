package discover

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// readYAML is as strict as Prometheus about unknown and repeated keys. The library refuses documents that nest deeply
// or whose aliases multiply them.
func readYAML(document []byte) ([]*group, error) {
	loader, err := yaml.NewLoader(bytes.NewReader(document), yaml.WithKnownFields(), yaml.WithUniqueKeys())
	if err != nil {
		return nil, err
	}
	var groups []*group
	switch err := loader.Load(&groups); {
	case errors.Is(err, io.EOF): // nothing but comments
		return nil, nil
	case err != nil:
		return nil, explainYAML(err)
	}
	for {
		var more yaml.Node
		switch err := loader.Load(&more); {
		case errors.Is(err, io.EOF):
			return groups, nil
		case err != nil:
			return nil, explainYAML(err)
		case !isNull(&more):
			const msg = "a second document begins, which Prometheus would not read: put all groups into one list"
			return nil, &Error{Line: more.Line, Column: more.Column, Msg: msg}
		}
	}
}

// isNull tells whether a document has nothing in it, such as after a last "---".
func isNull(document *yaml.Node) bool {
	return !slices.ContainsFunc(document.Content, func(n *yaml.Node) bool { return n.ShortTag() != "!!null" })
}

// UnmarshalYAML takes a scalar as it is written, and notes where it is.
func (t *text) UnmarshalYAML(n *yaml.Node) error {
	switch {
	case n.Kind == yaml.MappingNode:
		return errors.New("found a mapping, want text")
	case n.Kind != yaml.ScalarNode:
		return errors.New("found a list, want text")
	case n.ShortTag() == "!!binary" || !strings.HasPrefix(n.ShortTag(), "!!"):
		return fmt.Errorf("found something tagged %s, want text", n.ShortTag())
	}
	*t = text{value: n.Value, line: n.Line, column: n.Column}
	return nil
}

// The library names types of Go.
var (
	yamlKind    = regexp.MustCompile("^cannot construct !!([a-z]+)")
	yamlUnknown = regexp.MustCompile(`^field (.*) not found in type`)
)

// explainYAML says what the library found, in words of the document and not of Go.
func explainYAML(err error) *Error {
	first, ok := errors.AsType[*yaml.LoadError](err)
	if !ok {
		return &Error{Msg: "not valid YAML: " + err.Error()}
	}
	msg := first.Message
	if kind := yamlKind.FindStringSubmatch(msg); kind != nil {
		msg = "found " + nameOfTag(kind[1]) + ", " + wantShape
	} else if key := yamlUnknown.FindStringSubmatch(msg); key != nil {
		msg = "unknown key " + quoted(key[1]) + ", want targets or labels"
	} else if first.Stage != yaml.ConstructorStage {
		msg = "not valid YAML: " + msg
	}
	e := &Error{Msg: msg}
	if first.Mark.Line > 0 {
		e.Line, e.Column = first.Mark.Line, first.Mark.Column
	}
	return e
}

func nameOfTag(tag string) string {
	switch tag {
	case "map":
		return "a mapping"
	case "seq":
		return "a list"
	case "null":
		return "nothing"
	case "str":
		return "text"
	}
	return "a value"
}
