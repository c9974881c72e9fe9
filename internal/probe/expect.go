package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// unmet is an expectation that an answer does not meet.
type unmet struct {
	option string // which one, as in the details
	why    string
	found  string // what was there, as the target said it, short and without secrets; may be empty
}

// judgeBody compares a body with what is expected of it; nil is that all is there. A body that was truncated goes on after it.
func (o *httpOptions) judgeBody(ctx context.Context, body []byte, truncated bool, hide *strings.Replacer) *unmet {
	where := "the body"
	if truncated {
		where = fmt.Sprintf("the first %d MiB of the body", maxBody>>20)
	}
	if o.Contains != "" && !bytes.Contains(body, []byte(o.Contains)) {
		return lacking("contains", fmt.Sprintf("%s does not contain %q", where, excerpt(o.Contains, maxQuote)), body, hide)
	}
	if o.NotContains != "" && bytes.Contains(body, []byte(o.NotContains)) {
		_, after, _ := strings.Cut(hide.Replace(string(body)), o.NotContains)
		return &unmet{
			"not_contains", fmt.Sprintf("the body contains %q, which it must not", excerpt(o.NotContains, maxQuote)),
			excerpt(o.NotContains+after, maxQuote),
		}
	}
	if o.pattern != nil && !matches(ctx, o.pattern, body) {
		if ctx.Err() != nil {
			return &unmet{"matches", fmt.Sprintf("the check's time ended while %q was looked for", excerpt(o.Matches, maxQuote)), ""}
		}
		return lacking("matches", fmt.Sprintf("%s does not match %q", where, excerpt(o.Matches, maxQuote)), body, hide)
	}
	for _, path := range slices.Sorted(maps.Keys(o.JSON)) {
		if failed := judgeJSON(body, where, path, jsontext.Value(o.JSON[path]), hide); failed != nil {
			return failed
		}
	}
	return nil
}

// lacking is of a body in which something is not there: it tells how the body begins.
func lacking(option, why string, body []byte, hide *strings.Replacer) *unmet {
	if len(body) == 0 {
		return &unmet{option, why + "; it is empty", ""}
	}
	found := excerpt(hide.Replace(string(body)), maxQuote)
	return &unmet{option, fmt.Sprintf("%s; it begins with %q", why, found), found}
}

func judgeJSON(body []byte, where, path string, want jsontext.Value, hide *strings.Replacer) *unmet {
	shown := excerpt(path, maxQuote)
	option := strings.TrimSpace("json " + shown)
	value, err := lookup(body, path)
	if err == nil {
		err = canonicalize(&value)
	}
	switch {
	case errors.Is(err, errNothingThere):
		return lacking(option, fmt.Sprintf("%s has nothing at %q", where, shown), body, hide)
	case err != nil:
		return lacking(option, fmt.Sprintf("%s can't be read as JSON as far as %q: %s", where, shown, jsonFault(err)), body, hide)
	case !bytes.Equal(value, want):
		found := excerpt(hide.Replace(string(value)), maxQuote)
		return &unmet{option, fmt.Sprintf("%s has %s at %q, not %s", where, found, shown, excerpt(string(want), maxQuote)), found}
	}
	return nil
}

var errNothingThere = errors.New("nothing there")

// lookup returns the value at a path in a JSON text: keys and numbers of elements, from 0, with dots between them. A path that
// begins with a slash is a JSON Pointer (RFC 6901); the empty one is all of it. Nothing is read of the text behind the value.
func lookup(text []byte, path string) (jsontext.Value, error) {
	var steps []string
	switch {
	case strings.HasPrefix(path, "/"):
		steps = slices.Collect(jsontext.Pointer(path).Tokens())
	case path != "":
		steps = strings.Split(path, ".")
	}
	d := jsontext.NewDecoder(bytes.NewReader(text))
	for _, step := range steps {
		if err := enter(d, step); err != nil {
			return nil, err
		}
	}
	value, err := d.ReadValue()
	return value.Clone(), err
}

// enter goes to the member of the value that comes next.
func enter(d *jsontext.Decoder, step string) error {
	kind := d.PeekKind()
	index := 0
	if kind == jsontext.KindBeginArray {
		number, err := strconv.ParseUint(step, 10, 31)
		if err != nil {
			return errNothingThere
		}
		index = int(number)
	} else if kind != jsontext.KindBeginObject && kind != jsontext.KindInvalid {
		return errNothingThere
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for ; ; index-- {
		if next := d.PeekKind(); next == jsontext.KindEndObject || next == jsontext.KindEndArray {
			return errNothingThere
		}
		if kind == jsontext.KindBeginArray && index == 0 {
			return nil
		}
		if kind == jsontext.KindBeginObject {
			name, err := d.ReadToken()
			if err != nil || name.String() == step {
				return err
			}
		}
		if err := d.SkipValue(); err != nil {
			return err
		}
	}
}

// canonicalize makes values that are the same the same text: 1.50 and 1.5, and objects whatever the order of their keys. Whole
// numbers keep all digits.
func canonicalize(value *jsontext.Value) error {
	return value.Canonicalize(jsontext.CanonicalizeRawInts(false))
}

// jsonFault says what is wrong with a JSON text without telling what is in it.
func jsonFault(err error) string {
	syntax, ok := errors.AsType[*jsontext.SyntacticError](err)
	switch {
	case !ok:
		return "it is empty, or ends too soon"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Sprintf("it ends too soon, after %d bytes", syntax.ByteOffset)
	case errors.Is(err, jsontext.ErrDuplicateName):
		return fmt.Sprintf("an object has a key twice, at byte %d", syntax.ByteOffset)
	}
	return fmt.Sprintf("byte %d is not JSON", syntax.ByteOffset)
}
