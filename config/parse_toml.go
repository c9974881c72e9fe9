package config

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// builder makes a tree of nodes from go-toml's expressions, each node with its position.
//
// go-toml's own Unmarshal keeps no positions of values, and looks for keys that are written twice
// through a list: with 10,000 agents that takes seconds. So we use its parser, and the rules on which tables
// may be written again, and how, are here. A test holds them against Unmarshal.
type builder struct {
	parser unstable.Parser
	doc    *document
	root   *node
	table  *node // where key = value goes
}

// syntaxError is what makes a text no TOML.
type syntaxError struct {
	offset int
	msg    string
}

func (e *syntaxError) Error() string { return e.msg }

func syntaxAt(offset uint32, format string, args ...any) error {
	return &syntaxError{offset: int(offset), msg: fmt.Sprintf(format, args...)}
}

// parseTOML returns the root table. The error is a *syntaxError.
func parseTOML(doc *document) (*node, error) {
	if err := checkText(doc.text); err != nil {
		return nil, err
	}
	b := &builder{doc: doc, root: &node{index: -1, kids: map[string]*node{}}}
	b.table = b.root
	b.parser.Reset(doc.text)
	for b.parser.NextExpression() {
		if err := b.expression(b.parser.Expression()); err != nil {
			return nil, err
		}
	}
	if err := b.parser.Error(); err != nil {
		return nil, b.parserError(err)
	}
	return b.root, nil
}

func checkText(text []byte) error {
	if len(text) > maxFile {
		return syntaxAt(0, "the file is larger than %s; is this the configuration file?", formatSize(maxFile))
	}
	if utf8.Valid(text) {
		return nil
	}
	rest := text
	for {
		r, size := utf8.DecodeRune(rest)
		if r == utf8.RuneError && size <= 1 {
			break
		}
		rest = rest[size:]
	}
	return syntaxAt(uint32(len(text)-len(rest)), //nolint:gosec // maxFile bounds it
		"found the byte 0x%02x, which is not UTF-8; save the file as UTF-8", rest[0])
}

func (b *builder) parserError(err error) error {
	bad, ok := errors.AsType[*unstable.ParserError](err)
	if !ok {
		return syntaxAt(0, "not valid TOML: %v", err)
	}
	// The highlight is a part of the text; at the end of the text it may be empty.
	offset := len(b.doc.text) - cap(bad.Highlight)
	return &syntaxError{offset: max(0, min(offset, len(b.doc.text))), msg: "not valid TOML: " + bad.Message}
}

func (b *builder) expression(n *unstable.Node) error {
	switch n.Kind { // no other kind is an expression
	case unstable.KeyValue:
		return b.keyValue(b.table, n)
	case unstable.Table:
		return b.header(n)
	case unstable.ArrayTable:
		return b.arrayHeader(n)
	default:
		return syntaxAt(0, "not valid TOML: unexpected %s", n.Kind)
	}
}

// header is [a.b.c].
func (b *builder) header(n *unstable.Node) error {
	parent, key, err := b.headerParent(n)
	if err != nil {
		return err
	}
	old := parent.kids[string(key.Data)]
	switch {
	case old == nil:
		b.table = add(parent, key, nodeTable, fromHeader)
		return nil
	case old.kind == nodeTable && old.origin == fromPath:
		old.origin, old.keyOff, old.off = fromHeader, key.Raw.Offset, key.Raw.Offset
		b.table = old
		return nil
	}
	return b.twice(old, key)
}

// arrayHeader is [[a.b.c]].
func (b *builder) arrayHeader(n *unstable.Node) error {
	parent, key, err := b.headerParent(n)
	if err != nil {
		return err
	}
	array := parent.kids[string(key.Data)]
	switch {
	case array == nil:
		array = add(parent, key, nodeArray, fromHeader)
	case array.kind != nodeArray || array.origin != fromHeader:
		return b.twice(array, key)
	}
	b.table = &node{
		parent: array, index: len(array.elems), keyOff: key.Raw.Offset, off: key.Raw.Offset,
		kind: nodeTable, origin: fromHeader, kids: map[string]*node{},
	}
	array.elems = append(array.elems, b.table)
	return nil
}

// headerParent walks a header's key but for its last part, which it returns.
func (b *builder) headerParent(n *unstable.Node) (*node, *unstable.Node, error) {
	table := b.root
	keys := n.Key()
	for keys.Next() {
		key := keys.Node()
		if keys.IsLast() {
			return table, key, nil
		}
		next := table.kids[string(key.Data)]
		switch {
		case next == nil:
			next = add(table, key, nodeTable, fromPath)
		case next.origin == fromLiteral || next.kind != nodeTable && next.kind != nodeArray:
			return nil, nil, b.twice(next, key)
		case next.kind == nodeArray:
			next = next.elems[len(next.elems)-1]
		}
		table = next
	}
	return nil, nil, syntaxAt(0, "not valid TOML: a header without a name")
}

// keyValue is a.b.c = value, in the table of the last header or in an inline table.
func (b *builder) keyValue(table *node, n *unstable.Node) error {
	keys := n.Key()
	for keys.Next() {
		key := keys.Node()
		old := table.kids[string(key.Data)]
		if keys.IsLast() {
			if old != nil {
				return b.twice(old, key)
			}
			kid := add(table, key, nodeTable, fromLiteral)
			return b.value(kid, n.Value(), b.valueOffset(key))
		}
		switch {
		case old == nil:
			old = add(table, key, nodeTable, fromDots)
		case old.kind != nodeTable || old.origin != fromDots:
			return b.twice(old, key)
		}
		table = old
	}
	return syntaxAt(0, "not valid TOML: a value without a key")
}

func add(parent *node, key *unstable.Node, kind nodeKind, origin nodeOrigin) *node {
	n := &node{
		parent: parent, key: string(key.Data), index: -1,
		keyOff: key.Raw.Offset, off: key.Raw.Offset, kind: kind, origin: origin,
	}
	if kind == nodeTable && origin != fromLiteral {
		n.kids = map[string]*node{}
	}
	parent.kids[n.key] = n
	return n
}

func (b *builder) twice(old *node, key *unstable.Node) error {
	line, _ := b.doc.position(int(old.keyOff))
	return syntaxAt(key.Raw.Offset, "%s is already written on line %d; write it once", old.path(), line)
}

// valueOffset finds where the value after a key starts: the parser does not say it of arrays.
func (b *builder) valueOffset(key *unstable.Node) uint32 {
	rest := b.doc.text[key.Raw.Offset+key.Raw.Length:]
	value := bytes.TrimLeft(rest, " \t=")
	return key.Raw.Offset + key.Raw.Length + uint32(len(rest)-len(value)) //nolint:gosec // maxFile bounds it
}

// value fills in n from v, whose offset is as given.
func (b *builder) value(n *node, v *unstable.Node, offset uint32) error {
	n.off, n.origin = offset, fromLiteral
	switch v.Kind { // all others are scalars
	case unstable.InlineTable:
		n.kind, n.kids = nodeTable, map[string]*node{}
		for kids := v.Children(); kids.Next(); {
			if err := b.keyValue(n, kids.Node()); err != nil {
				return err
			}
		}
		return nil
	case unstable.Array:
		n.kind = nodeArray
		for elems := v.Children(); elems.Next(); {
			elem := &node{parent: n, index: len(n.elems), keyOff: offset}
			at := offset
			if raw := elems.Node().Raw; raw.Length > 0 {
				at = raw.Offset
			}
			if err := b.value(elem, elems.Node(), at); err != nil {
				return err
			}
			elem.keyOff = elem.off
			n.elems = append(n.elems, elem)
		}
		return nil
	case unstable.String:
		n.kind, n.value = nodeString, string(v.Data)
		return nil
	default:
		return n.scalar(string(v.Data))
	}
}

// scalar fills in a number, a boolean, a date or a time.
func (n *node) scalar(raw string) error {
	n.raw = raw
	// Few values are not strings, and plain numbers are the most of them.
	if i, err := strconv.ParseInt(raw, 10, 64); err == nil && strconv.FormatInt(i, 10) == raw {
		n.kind, n.value = nodeInt, i
		return nil
	}
	var one struct{ V any }
	if err := toml.Unmarshal([]byte("V = "+raw), &one); err != nil {
		return syntaxAt(n.off, "not valid TOML: found %s: %s", shorten(raw), strings.TrimPrefix(err.Error(), "toml: "))
	}
	n.kind, n.value = nodeOther, one.V
	if _, ok := one.V.(int64); ok {
		n.kind = nodeInt
	}
	return nil
}
