package config

import (
	"bytes"
	"errors"
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
//
// TOML forbids to write a key twice, and numbers of more than 64 bits; but what is meant is clear enough to
// read on and to look for what else is wrong.
type builder struct {
	*problems
	doc    *document
	parser unstable.Parser
	root   *node
	table  *node // where key = value goes
}

// parseTOML returns the root table of a document, or nil if its text can't be understood as one. It is TOML
// if there are no problems.
func parseTOML(p *problems, doc *document) *node {
	b := &builder{problems: p, doc: doc, root: &node{doc: doc, index: -1, kids: map[string]*node{}}}
	if !b.checkText() {
		return nil
	}
	b.table = b.root
	b.parser.Reset(doc.text)
	for b.parser.NextExpression() {
		b.expression(b.parser.Expression())
	}
	if err := b.parser.Error(); err != nil {
		b.parserError(err)
		return nil
	}
	return b.root
}

// checkText reports what is no text for the parser.
func (b *builder) checkText() bool {
	text := b.doc.text
	if len(text) > maxFile {
		b.atOffset(0, "the file is larger than %s; is this the configuration file?", formatSize(maxFile))
		return false
	}
	if utf8.Valid(text) {
		return true
	}
	rest := text
	for {
		r, size := utf8.DecodeRune(rest)
		if r == utf8.RuneError && size <= 1 {
			break
		}
		rest = rest[size:]
	}
	b.atOffset(len(text)-len(rest), "found the byte 0x%02x, which is not UTF-8; save the file as UTF-8", rest[0])
	return false
}

// atOffset reports what is wrong with the text as a whole.
func (b *builder) atOffset(offset int, format string, args ...any) {
	b.value(&node{doc: b.doc, index: -1, off: uint32(offset)}, format, args...) //nolint:gosec // maxFile bounds it
}

func (b *builder) parserError(err error) {
	bad, ok := errors.AsType[*unstable.ParserError](err)
	if !ok {
		b.atOffset(0, "not valid TOML: %v", err)
		return
	}
	// The highlight is a part of the text; at the end of the text it may be empty.
	offset := len(b.doc.text) - cap(bad.Highlight)
	b.atOffset(max(0, min(offset, len(b.doc.text))), "not valid TOML: %s", bad.Message)
}

func (b *builder) expression(n *unstable.Node) {
	switch n.Kind {
	case unstable.KeyValue:
		b.keyValue(b.table, n)
	case unstable.Table:
		b.header(n)
	case unstable.ArrayTable:
		b.arrayHeader(n)
	default:
		panic("config: the parser returned an expression of kind " + n.Kind.String())
	}
}

// header is [a.b.c].
func (b *builder) header(n *unstable.Node) {
	parent, key := b.headerParent(n)
	old := parent.kids[string(key.Data)]
	switch {
	case old == nil:
		b.table = add(parent, key, nodeTable, fromHeader)
	case old.kind == nodeTable && old.origin == fromPath:
		old.origin, old.keyOff, old.off = fromHeader, key.Raw.Offset, key.Raw.Offset
		b.table = old
	default:
		b.table = b.again(old, key, nodeTable, fromHeader)
	}
}

// arrayHeader is [[a.b.c]].
func (b *builder) arrayHeader(n *unstable.Node) {
	parent, key := b.headerParent(n)
	array := parent.kids[string(key.Data)]
	switch {
	case array == nil:
		array = add(parent, key, nodeArray, fromHeader)
	case array.kind != nodeArray || array.origin != fromHeader:
		array = b.again(array, key, nodeArray, fromHeader)
	}
	b.table = &node{
		doc: b.doc, parent: array, index: len(array.elems), keyOff: key.Raw.Offset, off: key.Raw.Offset,
		kind: nodeTable, origin: fromHeader, kids: map[string]*node{},
	}
	array.elems = append(array.elems, b.table)
}

// headerParent walks a header's key but for its last part, which it returns.
func (b *builder) headerParent(n *unstable.Node) (*node, *unstable.Node) {
	table := b.root
	keys := n.Key()
	for keys.Next() {
		key := keys.Node()
		if keys.IsLast() {
			return table, key
		}
		next := table.kids[string(key.Data)]
		switch {
		case next == nil:
			next = add(table, key, nodeTable, fromPath)
		case next.origin == fromLiteral || next.kind != nodeTable && next.kind != nodeArray:
			next = b.again(next, key, nodeTable, fromPath)
		case next.kind == nodeArray:
			next = next.elems[len(next.elems)-1]
		}
		table = next
	}
	panic("config: the parser returned a header without a name")
}

// keyValue is a.b.c = value, in the table of the last header or in an inline table.
func (b *builder) keyValue(table *node, n *unstable.Node) {
	keys := n.Key()
	for keys.Next() {
		key := keys.Node()
		old := table.kids[string(key.Data)]
		if keys.IsLast() {
			if old == nil {
				old = add(table, key, nodeTable, fromLiteral)
			} else {
				old = b.again(old, key, nodeTable, fromLiteral)
			}
			b.fill(old, n.Value(), b.valueOffset(key))
			return
		}
		switch {
		case old == nil:
			old = add(table, key, nodeTable, fromDots)
		case old.kind != nodeTable || old.origin != fromDots:
			old = b.again(old, key, nodeTable, fromDots)
		}
		table = old
	}
	panic("config: the parser returned a value without a key")
}

func add(parent *node, key *unstable.Node, kind nodeKind, origin nodeOrigin) *node {
	n := &node{
		doc: parent.doc, parent: parent, key: string(key.Data), index: -1,
		keyOff: key.Raw.Offset, off: key.Raw.Offset, kind: kind, origin: origin,
	}
	if kind == nodeTable && origin != fromLiteral {
		n.kids = map[string]*node{}
	}
	parent.kids[n.key] = n
	return n
}

// again reports that the key of old is written twice, and adds another node for it.
func (b *builder) again(old *node, key *unstable.Node, kind nodeKind, origin nodeOrigin) *node {
	line, _ := b.doc.position(int(old.keyOff))
	n := add(old.parent, key, kind, origin)
	old.parent.earlier = append(old.parent.earlier, old)
	old.twice, n.twice = true, true
	// A later header may move n.
	b.key(&node{doc: b.doc, keyOff: key.Raw.Offset}, n.path(), "already written on line %d; write it once", line)
	return n
}

// valueOffset finds where the value after a key starts: the parser does not say it of arrays.
func (b *builder) valueOffset(key *unstable.Node) uint32 {
	rest := b.doc.text[key.Raw.Offset+key.Raw.Length:]
	value := bytes.TrimLeft(rest, " \t=")
	return key.Raw.Offset + key.Raw.Length + uint32(len(rest)-len(value)) //nolint:gosec // maxFile bounds it
}

// fill fills in n from v, whose offset is as given.
func (b *builder) fill(n *node, v *unstable.Node, offset uint32) {
	n.off, n.origin = offset, fromLiteral
	switch v.Kind { // all others are scalars
	case unstable.InlineTable:
		n.kind, n.kids = nodeTable, map[string]*node{}
		for kids := v.Children(); kids.Next(); {
			b.keyValue(n, kids.Node())
		}
	case unstable.Array:
		n.kind = nodeArray
		for elems := v.Children(); elems.Next(); {
			elem := &node{doc: n.doc, parent: n, index: len(n.elems), keyOff: offset}
			at := offset
			if raw := elems.Node().Raw; raw.Length > 0 {
				at = raw.Offset
			}
			b.fill(elem, elems.Node(), at)
			elem.keyOff = elem.off
			n.elems = append(n.elems, elem)
		}
	case unstable.String:
		n.kind, n.value = nodeString, string(v.Data)
	default:
		b.scalar(n, string(v.Data))
	}
}

// scalar fills in a number, a boolean, a date or a time.
func (b *builder) scalar(n *node, raw string) {
	n.raw = raw
	// Few values are not strings, and plain numbers are the most of them.
	if i, err := strconv.ParseInt(raw, 10, 64); err == nil && strconv.FormatInt(i, 10) == raw {
		n.kind, n.value = nodeInt, i
		return
	}
	var one struct{ V any }
	if err := toml.Unmarshal([]byte("V = "+raw), &one); err != nil {
		if bound := beyond(raw); bound != 0 {
			b.value(n, "found %s, which is beyond %d, where numbers end", shorten(raw), bound)
		} else {
			b.value(n, "not valid TOML: found %s: %s", shorten(raw), strings.TrimPrefix(err.Error(), "toml: "))
		}
		n.kind = nodeBad
		return
	}
	n.kind, n.value = nodeOther, one.V
	if _, ok := one.V.(int64); ok {
		n.kind = nodeInt
	}
}

// beyond returns the bound that an integer of TOML breaks, 0 if it is none or breaks none.
func beyond(raw string) int64 {
	i, err := strconv.ParseInt(strings.ReplaceAll(raw, "_", ""), 0, 64)
	if errors.Is(err, strconv.ErrRange) {
		return i
	}
	return 0
}
