package config

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// document is a file's text, for positions.
type document struct {
	name string
	dir  string // where relative paths in it start
	// rank is the file's place among all of a configuration's; the main file has 0.
	rank  int
	text  []byte
	lines []int // offsets of the lines' starts, once someone asked
}

// byteOrderMark is what some editors put before UTF-8; it means nothing, and is skipped.
var byteOrderMark = []byte("\xef\xbb\xbf")

func newDocument(name string, text []byte) *document {
	text = bytes.TrimPrefix(text, byteOrderMark)
	// The parser computes offsets from capacities, so the capacity must end with the text.
	return &document{name: name, dir: directory(name), text: slices.Clip(text)}
}

// position returns the line and the column, in characters, of an offset; both count from 1.
func (d *document) position(offset int) (line, column int) {
	if d.lines == nil {
		d.lines = []int{0}
		for i, c := range d.text {
			if c == '\n' {
				d.lines = append(d.lines, i+1)
			}
		}
	}
	line, found := slices.BinarySearch(d.lines, offset)
	if !found {
		line--
	}
	return line + 1, utf8.RuneCount(d.text[d.lines[line]:offset]) + 1
}

// nodeKind is what a value is in TOML.
type nodeKind uint8

const (
	nodeTable nodeKind = iota
	nodeArray
	nodeString
	nodeInt
	nodeOther // booleans, floats, dates and times
	nodeBad   // no value, such as a number beyond all bounds; that is reported already
)

// nodeOrigin is how a table or an array came to be; TOML allows some to be added to later.
type nodeOrigin uint8

const (
	fromHeader  nodeOrigin = iota // [a.b] or [[a.b]]
	fromPath                      // a in [a.b]
	fromDots                      // a in a.b = 1
	fromLiteral                   // { … } or [ … ]
)

// node is a value of the file: what it is, and where.
type node struct {
	doc    *document
	parent *node
	key    string
	index  int // in an array, else -1
	// keyOff and off are the offsets of the key and of the value; the same for a table with a header.
	keyOff, off uint32
	kind        nodeKind
	origin      nodeOrigin
	// twice marks each of the nodes that have the same key.
	twice   bool
	value   any // of nodeString a string, of nodeInt an int64, else what go-toml made of it
	raw     string
	kids    map[string]*node // of a table
	earlier []*node          // of a table: kids whose key was written again
	elems   []*node          // of an array
}

// path returns the node's dotted key as TOML writes it, array indices in brackets.
func (n *node) path() string {
	if n.parent == nil {
		return ""
	}
	if n.index >= 0 {
		return n.parent.path() + "[" + strconv.Itoa(n.index) + "]"
	}
	return join(n.parent.path(), QuoteKey(n.key))
}

// where names the node's file and line; empty if the file has no name.
func (n *node) where() string {
	if n.doc.name == "" {
		return ""
	}
	line, _ := n.doc.position(int(n.keyOff))
	return n.doc.name + ":" + strconv.Itoa(line)
}

// child returns the path of a key of the table n, whether it is there or not.
func (n *node) child(key string) string { return join(n.path(), key) }

func join(table, key string) string {
	if table == "" {
		return key
	}
	return table + "." + key
}

// QuoteKey writes one key of TOML, or one part of a dotted key: in quotes if it needs them.
func QuoteKey(key string) string {
	bare := key != "" && strings.IndexFunc(key, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	}) < 0
	if bare {
		return key
	}
	return Quote(key)
}

// maxFound is how many characters of a value a message repeats.
const maxFound = 80

// found says what the node is, for messages.
func (n *node) found() string {
	switch n.kind {
	case nodeTable:
		return "a table"
	case nodeArray:
		return "an array"
	case nodeString:
		return foundText(n.value.(string))
	case nodeInt, nodeOther, nodeBad:
	}
	return shorten(n.raw)
}

// foundText quotes what was found, for messages, which end up in logs.
func foundText(s string) string { return fmt.Sprintf("%q", shorten(Mask(s))) }

func shorten(s string) string {
	if utf8.RuneCountInString(s) <= maxFound {
		return s
	}
	return string([]rune(s)[:maxFound]) + "…"
}

// ambiguous tells whether the node or a table around it is one of those with the same key.
func (n *node) ambiguous() bool {
	for ; n != nil; n = n.parent {
		if n.twice {
			return true
		}
	}
	return false
}

// sortedKids returns all of a table's kids in the order of the file.
func (n *node) sortedKids() []*node {
	kids := make([]*node, 0, len(n.earlier)+len(n.kids))
	kids = append(kids, n.earlier...)
	for _, kid := range n.kids {
		kids = append(kids, kid)
	}
	slices.SortFunc(kids, func(a, b *node) int { return int(a.keyOff) - int(b.keyOff) })
	return kids
}
