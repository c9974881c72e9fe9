package assertion

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// maxValues bounds how many values are decoded of an answer, and so what that takes.
const maxValues = 100_000

var errMany = errors.New("the answer has more than " + strconv.Itoa(maxValues) + " values; name the keys that are meant")

// decoder makes values of JSON: nil, bool, int or float64, string, []any and map[string]any. What it takes for JSON is what
// encoding/json does: of equal keys the last counts, and bytes that are not UTF-8 are replaced.
type decoder struct {
	buffer bytes.Buffer
	json   jsontext.Decoder
	values int
}

// decode returns an answer's value: of an object only the members with these keys, unless the whole is wanted.
func (d *decoder) decode(message []byte, keys []string, whole bool) (any, error) {
	d.buffer, d.values = *bytes.NewBuffer(message), 0
	d.json.Reset(&d.buffer, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	defer func() { d.buffer = bytes.Buffer{} }()
	var data any
	var err error
	if d.json.PeekKind() == '{' && !whole {
		data, err = d.object(keys, false)
	} else {
		data, err = d.value()
	}
	if err == nil {
		if _, err = d.json.ReadToken(); errors.Is(err, io.EOF) {
			return data, nil
		}
	}
	switch {
	case errors.Is(err, errMany):
		return nil, err
	case len(bytes.TrimSpace(message)) == 0:
		return nil, errors.New("the answer is empty")
	}
	return nil, errors.New("the answer is no JSON: " + show(string(message[:min(len(message), 2*maxShown)])))
}

// object reads the object that comes next.
func (d *decoder) object(keys []string, whole bool) (map[string]any, error) {
	if _, err := d.json.ReadToken(); err != nil {
		return nil, err
	}
	out := make(map[string]any, len(keys))
	for d.json.PeekKind() != '}' {
		raw, err := d.json.ReadValue()
		if err != nil {
			return nil, err
		}
		key, wanted := keyOf(raw, keys, whole)
		if !wanted {
			if err := d.json.SkipValue(); err != nil {
				return nil, err
			}
			continue
		}
		if out[key], err = d.value(); err != nil {
			return nil, err
		}
	}
	_, err := d.json.ReadToken()
	return out, err
}

// keyOf returns what a key says, and whether it is wanted.
func keyOf(raw jsontext.Value, keys []string, whole bool) (string, bool) {
	text := unquote(raw)
	if whole {
		return string(text), true
	}
	for _, key := range keys {
		if string(text) == key {
			return key, true
		}
	}
	return "", false
}

// value reads the value that comes next.
func (d *decoder) value() (any, error) {
	if d.values++; d.values > maxValues {
		return nil, errMany
	}
	if kind := d.json.PeekKind(); kind == '{' {
		return d.object(nil, true)
	} else if kind == '[' {
		return d.list()
	}
	raw, err := d.json.ReadValue()
	if err != nil {
		return nil, err
	}
	return scalar(raw), nil
}

func (d *decoder) list() ([]any, error) {
	if _, err := d.json.ReadToken(); err != nil {
		return nil, err
	}
	out := []any{}
	for d.json.PeekKind() != ']' {
		item, err := d.value()
		if err != nil {
			return nil, err
		}
		out = append(out, item)
	}
	_, err := d.json.ReadToken()
	return out, err
}

// scalar returns the value of what is neither an object nor a list.
func scalar(raw jsontext.Value) any {
	switch raw[0] {
	case '"':
		return string(unquote(raw))
	case 't', 'f':
		return raw[0] == 't'
	case 'n':
		return nil
	}
	return number(raw)
}

// number returns a whole number of 64 bits as an int, any other as a float64; one beyond that as an infinite one, which is
// on the right side of all others.
func number(raw jsontext.Value) any {
	if !bytes.ContainsAny(raw, ".eE") {
		if i, err := strconv.Atoi(string(raw)); err == nil {
			return i
		}
	}
	f, _ := strconv.ParseFloat(string(raw), 64)
	return f
}

// unquote returns what a JSON string says. Few have anything escaped, or bytes that are not UTF-8.
func unquote(raw jsontext.Value) []byte {
	if bytes.IndexByte(raw, '\\') < 0 && utf8.Valid(raw) {
		return raw[1 : len(raw)-1]
	}
	plain, _ := jsontext.AppendUnquote(nil, raw) // it has been read: it is a string
	return plain
}
