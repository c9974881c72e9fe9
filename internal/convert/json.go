package convert

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/serviceradar/poller/config"
)

// kind is what a value is in JSON.
type kind uint8

const (
	kindNull kind = iota
	kindTruth
	kindNumber
	kindText
	kindArray
	kindObject
)

// value is a value of the JSON: what it is, and where.
type value struct {
	parent *value
	key    string // in an object
	index  int    // in an array, else -1
	off    int    // where it begins in the text
	kind   kind
	truth  bool
	text   string   // of text; of a number its digits
	kids   []*value // of an object or an array, in order
}

// path returns where the value is, fit for a terminal: agents.local.checks[2].
func (v *value) path() string {
	switch {
	case v.parent == nil:
		return ""
	case v.index >= 0:
		return v.parent.path() + "[" + strconv.Itoa(v.index) + "]"
	}
	return join(v.parent.path(), segment(v.key))
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// segment writes a key in a path.
func segment(key string) string {
	if config.QuoteKey(key) == key && len(key) <= maxFound {
		return key
	}
	return quoted(key)
}

// maxFound is how many characters of a value a message repeats.
const maxFound = 80

// quoted repeats a text in a message.
func quoted(s string) string { return strconv.Quote(shorten(config.Mask(s))) }

func shorten(s string) string {
	if utf8.RuneCountInString(s) <= maxFound {
		return s
	}
	return string([]rune(s)[:maxFound]) + "…"
}

// found says what the value is, for messages.
func (v *value) found() string {
	switch v.kind {
	case kindNull:
		return "null"
	case kindTruth:
		return strconv.FormatBool(v.truth)
	case kindNumber:
		return shorten(v.text)
	case kindText:
		return quoted(v.text)
	case kindArray:
		return "an array"
	case kindObject:
		return "an object"
	}
	panic("convert: a kind without words")
}

// fault is what is wrong with a text that is no JSON, and where.
type fault struct {
	off int
	msg string
}

// byteOrderMark is what some editors put before UTF-8; it means nothing.
var byteOrderMark = []byte("\xef\xbb\xbf")

// readJSON returns the text's outermost object.
func readJSON(text []byte) (*value, *fault) {
	if off := invalidUTF8(text); off >= 0 {
		return nil, &fault{off: off, msg: fmt.Sprintf("found the byte 0x%02x, which is not UTF-8; save the file as UTF-8", text[off])}
	}
	mark := len(text) - len(bytes.TrimPrefix(text, byteOrderMark))
	body := text[mark:]
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, &fault{msg: "the file is empty; want the JSON configuration of ServiceRadar's poller"}
	}
	// All of it is checked before any of it is read, also how deeply it nests.
	if err := json.Unmarshal(body, new(json.RawMessage)); err != nil {
		return nil, syntaxFault(err, mark, len(text))
	}
	r := &reader{text: text, mark: mark, tokens: json.NewDecoder(bytes.NewReader(body))}
	r.tokens.UseNumber()
	root := r.read(&value{index: -1})
	if root.kind != kindObject {
		return nil, &fault{off: root.off, msg: "found " + root.found() + ", want an object: the JSON configuration of ServiceRadar's poller"}
	}
	return root, nil
}

// invalidUTF8 returns where text is not UTF-8, or -1.
func invalidUTF8(text []byte) int {
	for off := 0; off < len(text); {
		r, size := utf8.DecodeRune(text[off:])
		if r == utf8.RuneError && size == 1 {
			return off
		}
		off += size
	}
	return -1
}

// syntaxFault places an error of the JSON that starts after a mark of this length.
func syntaxFault(err error, mark, end int) *fault {
	off := mark
	if bad, ok := errors.AsType[*json.SyntaxError](err); ok {
		off += int(bad.Offset) - 1 // it counts the character that it does not like
	}
	msg := strings.TrimPrefix(err.Error(), "json: ")
	if strings.Contains(msg, "unexpected end") {
		off, msg = end, "the text ends too early; is a bracket or a quote missing, or a part of the file?"
	}
	return &fault{off: max(0, min(off, end)), msg: "not valid JSON: " + msg}
}

// reader makes values of tokens.
type reader struct {
	text   []byte
	mark   int
	tokens *json.Decoder
}

func (r *reader) next() json.Token {
	t, err := r.tokens.Token()
	if err != nil {
		panic("convert: JSON that was valid is not: " + err.Error())
	}
	return t
}

// read fills in v, which knows its place in its parent.
func (r *reader) read(v *value) *value {
	v.off = r.mark + int(r.tokens.InputOffset())
	for strings.IndexByte(" \t\r\n:,", r.text[v.off]) >= 0 {
		v.off++
	}
	switch t := r.next().(type) {
	case bool:
		v.kind, v.truth = kindTruth, t
	case json.Number:
		v.kind, v.text = kindNumber, t.String()
	case string:
		v.kind, v.text = kindText, t
	case json.Delim:
		v.kind = kindArray
		if t == '{' {
			v.kind = kindObject
		}
		r.kids(v)
	}
	return v
}

func (r *reader) kids(v *value) {
	for r.tokens.More() {
		kid := &value{parent: v, index: -1}
		if v.kind == kindArray {
			kid.index = len(v.kids)
		} else {
			kid.key, _ = r.next().(string)
		}
		v.kids = append(v.kids, r.read(kid))
	}
	r.next() // the bracket that closes it
}

// position returns the line and the column, in characters, of an offset; both count from 1.
func position(text []byte, off int) (line, column int) {
	before := bytes.TrimPrefix(text[:off], byteOrderMark)
	start := bytes.LastIndexByte(before, '\n') + 1
	return bytes.Count(before, []byte("\n")) + 1, utf8.RuneCount(before[start:]) + 1
}
