package discover

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	jsonv1 "github.com/go-json-experiment/json/v1"
)

// readJSON is as strict as Prometheus about unknown keys, and as lenient about the case of those that it knows.
func readJSON(document []byte) ([]*group, error) {
	var groups []*group
	err := json.Unmarshal(document, &groups, json.RejectUnknownMembers(true), json.MatchCaseInsensitiveNames(true),
		jsonv1.MatchCaseSensitiveDelimiter(true)) // else "tar-gets" were "targets"
	if err != nil {
		return nil, explainJSON(err, document)
	}
	return groups, nil
}

// UnmarshalJSONFrom takes a string, and notes where it is.
func (t *text) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	raw, err := d.ReadValue()
	if err != nil {
		return err
	}
	t.offset = int(d.InputOffset()) - len(raw)
	if raw.Kind() != '"' {
		return errors.New("found " + nameOfKind(raw.Kind()) + ", want text in quotes")
	}
	value, err := jsontext.AppendUnquote(nil, raw)
	t.value = string(value)
	return err
}

func nameOfKind(k jsontext.Kind) string {
	switch k {
	case jsontext.KindNull:
		return "null"
	case jsontext.KindFalse, jsontext.KindTrue:
		return "a truth value"
	case jsontext.KindString:
		return "text"
	case jsontext.KindNumber:
		return "a number"
	case jsontext.KindBeginObject, jsontext.KindEndObject:
		return "an object"
	default:
		return "a list"
	}
}

// explainJSON says what the library found, in words of the document and not of Go.
func explainJSON(err error, document []byte) *Error {
	if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		msg := syntax.Err.Error()
		if strings.Contains(msg, "unexpected EOF") {
			msg = "the text ends too early; is a part of it missing?"
		}
		return at(document, int(syntax.ByteOffset), "not valid JSON: "+msg+within(syntax.JSONPointer))
	}
	meaning, ok := errors.AsType[*json.SemanticError](err)
	if !ok {
		return &Error{Msg: err.Error()}
	}
	var msg string
	switch {
	case errors.Is(meaning.Err, json.ErrUnknownName):
		msg = fmt.Sprintf("unknown key %s%s, want targets or labels",
			quoted(meaning.JSONPointer.LastToken()), within(meaning.JSONPointer.Parent()))
	case meaning.Err != nil:
		msg = meaning.Err.Error() + within(meaning.JSONPointer)
	default:
		msg = "found " + nameOfKind(meaning.JSONKind) + within(meaning.JSONPointer) + ", " + wantShape
	}
	return at(document, int(meaning.ByteOffset), msg)
}

// within says where in the document, which helps where all of it is one line.
func within(p jsontext.Pointer) string {
	if p == "" {
		return ""
	}
	return " at " + quoted(string(p))
}

// at returns an error at an offset.
func at(document []byte, offset int, msg string) *Error {
	before := document[:max(0, min(offset, len(document)))]
	start := bytes.LastIndexByte(before, '\n') + 1
	return &Error{Line: bytes.Count(before, []byte("\n")) + 1, Column: utf8.RuneCount(before[start:]) + 1, Msg: msg}
}
