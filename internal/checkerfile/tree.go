package checkerfile

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// node is a value of the file: what it is, and where.
type node struct {
	// path is the dotted key as TOML writes it, name the last part of it as it is meant.
	path, name string
	// key and at are the offsets of the key and of the value; the same for a table with a header.
	key, at int
	// value is a string, an int64, a bool, a table, a []*node, or nil for whatever no key of ours takes.
	value any
}

type table map[string]*node

// inOrder returns a table's entries in the order of the file.
func (t table) inOrder() []*node {
	return slices.SortedFunc(maps.Values(t), func(a, b *node) int { return a.key - b.key })
}

// found says what a node is, for messages; not for one that may be a secret.
func (n *node) found() string {
	switch v := n.value.(type) {
	case string:
		return strconv.Quote(shorten(v))
	case int64:
		return strconv.FormatInt(v, 10)
	case bool:
		return strconv.FormatBool(v)
	}
	return n.kind()
}

// kind says what a node is, without its value.
func (n *node) kind() string {
	switch n.value.(type) {
	case string:
		return "text"
	case int64:
		return "a number"
	case bool:
		return "true or false"
	case table:
		return "a table"
	case []*node:
		return "an array"
	}
	return "a fraction, a date or a time"
}

func shorten(s string) string {
	const most = 80
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most]) + "…"
}

// tree makes nodes of go-toml's expressions: its Unmarshal keeps no positions. What is TOML and what isn't, such as a key that is
// written twice, Unmarshal has decided before.
type tree struct {
	text []byte
	root *node
	into *node // where key = value goes
}

// parseTree returns the root table of a text, or what is wrong with it as TOML, and at which offset.
func parseTree(text []byte) (root *node, at int, wrong string) {
	for i, r := range string(text) {
		if _, size := utf8.DecodeRune(text[i:]); r == utf8.RuneError && size == 1 {
			return nil, i, "not UTF-8; save the file as UTF-8"
		}
	}
	var parser unstable.Parser
	t := &tree{text: text, root: &node{value: table{}}}
	t.into = t.root
	parser.Reset(text)
	for parser.NextExpression() { // to the end first: the parser's own errors have offsets
	}
	if bad, ok := errors.AsType[*unstable.ParserError](parser.Error()); ok {
		// The highlight is a part of the text, which has no capacity beyond its end.
		return nil, min(max(0, len(text)-cap(bad.Highlight)), len(text)), "not valid TOML: " + bad.Message
	}
	if err := toml.Unmarshal(text, new(map[string]any)); err != nil {
		at, wrong := explainTOML(text, err)
		return nil, at, wrong
	}
	parser.Reset(text)
	for parser.NextExpression() {
		t.expression(parser.Expression())
	}
	return t.root, 0, ""
}

// explainTOML says what is wrong with a text that has TOML's form, and where, without words that may hold a value.
func explainTOML(text []byte, err error) (at int, wrong string) {
	wrong = "not valid TOML: no number, date or time can have this value; text needs quotes"
	bad, ok := errors.AsType[*toml.DecodeError](err)
	if !ok {
		return 0, wrong
	}
	line, column := bad.Position()
	for ; line > 1; line-- {
		at += bytes.IndexByte(text[at:], '\n') + 1
	}
	if message := strings.TrimPrefix(bad.Error(), "toml: "); strings.Contains(message, " already ") || strings.Contains(message, " should be ") {
		wrong = "not valid TOML: " + message + "; write it once"
	}
	return min(at+column-1, len(text)), wrong
}

func (t *tree) expression(n *unstable.Node) {
	switch n.Kind {
	case unstable.Table:
		t.into = t.walk(t.root, n)
	case unstable.ArrayTable:
		array := t.walk(t.root, n)
		elems, _ := array.value.([]*node)
		t.into = &node{path: array.path + "[" + strconv.Itoa(len(elems)) + "]", key: array.key, at: array.at, value: table{}}
		array.value = append(elems, t.into)
	default:
		t.keyValue(t.into, n)
	}
}

// walk follows a key from a table, makes what is not there yet, and returns the last of it.
func (t *tree) walk(from *node, n *unstable.Node) *node {
	for keys := n.Key(); keys.Next(); {
		if elems, ok := from.value.([]*node); ok {
			from = elems[len(elems)-1]
		}
		key, kids := keys.Node(), from.value.(table)
		name, offset := string(key.Data), int(key.Raw.Offset)
		next := kids[name]
		if next == nil {
			next = &node{path: join(from.path, name), name: name, key: offset, at: offset, value: table{}}
			kids[name] = next
		}
		from = next
	}
	return from
}

func (t *tree) keyValue(into *node, n *unstable.Node) {
	var end int // of the key
	for keys := n.Key(); keys.Next(); {
		raw := keys.Node().Raw
		end = int(raw.Offset + raw.Length)
	}
	at := end
	for at < len(t.text) && strings.IndexByte(" \t=", t.text[at]) >= 0 {
		at++
	}
	t.fill(t.walk(into, n), n.Value(), at)
}

// fill fills in n from v, whose offset is as given.
func (t *tree) fill(n *node, v *unstable.Node, at int) {
	n.at, n.value = at, nil
	switch v.Kind {
	case unstable.InlineTable:
		n.value = table{}
		for kids := v.Children(); kids.Next(); {
			t.keyValue(n, kids.Node())
		}
	case unstable.Array:
		elems := []*node{}
		for children := v.Children(); children.Next(); {
			if child := children.Node(); child.Kind != unstable.Comment {
				elem := &node{path: n.path + "[" + strconv.Itoa(len(elems)) + "]"}
				t.fill(elem, child, at)
				if child.Raw.Length > 0 {
					elem.at = int(child.Raw.Offset)
				}
				elem.key = elem.at
				elems = append(elems, elem)
			}
		}
		n.value = elems
	case unstable.String:
		n.value = string(v.Data)
	case unstable.Bool:
		n.value = string(v.Data) == "true"
	case unstable.Integer:
		i, _ := strconv.ParseInt(strings.ReplaceAll(string(v.Data), "_", ""), 0, 64) // Unmarshal has read it
		n.value = i
	default:
	}
}

// join writes a dotted key as TOML does.
func join(path, key string) string {
	bare := key != "" && strings.IndexFunc(key, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	}) < 0
	if !bare {
		key = strconv.Quote(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}
