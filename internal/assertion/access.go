package assertion

import (
	"encoding/json"
	"slices"
	"strconv"

	"github.com/expr-lang/expr/ast"
)

// access is a variable, or a member of data or of an item of it.
type access struct {
	// text is as it is written, of what it is taken from.
	text string
	from *access
	// key is a string or an int; nil if it is only known at run time, or for what is no member.
	key any
	// lenient: it need not be there.
	lenient bool
	// single: it has to be a single value, because it is evaluated for each item of a list.
	single bool
	// item tells that it is an item of a list, or a member of one.
	item bool
}

// MarshalJSON tells accesses apart: the library takes what is written alike for the same, and writes values as JSON.
func (at *access) MarshalJSON() ([]byte, error) {
	return json.Marshal(at.text)
}

func (r *rewriter) variable(n *ast.IdentifierNode) {
	if r.accesses[n] != nil {
		return
	}
	switch n.Value {
	case varData:
		r.data = true
		r.bare[n] = true
	case "$env":
		r.refuse("unknown name $env")
	case varResponseTime:
	default: // of available there is nothing to tell, and what is unknown the library refuses
		return
	}
	at := &access{text: n.Value}
	r.accesses[n] = at
	r.named = append(r.named, at)
}

// member has a member of data looked up by us.
func (r *rewriter) member(node *ast.Node, n *ast.MemberNode) {
	from := r.accesses[n.Node]
	switch {
	case from == nil && isNamed(n.Node): // the library refuses it
		return
	case from == nil:
		r.refuse("a key is taken of data or of an item only: write (data.a.x ?? data.b.x), not (data.a ?? data.b).x")
		return
	case from.text == varResponseTime:
		return
	}
	at := &access{from: from, lenient: n.Optional, item: from.item}
	args := []ast.Node{n.Node, &ast.ConstantNode{Value: at}}
	switch key := n.Property.(type) {
	case *ast.StringNode:
		at.key = key.Value
		if from.text == varData {
			delete(r.bare, n.Node)
			r.keys = append(r.keys, key.Value)
		}
	case *ast.IntegerNode:
		at.key = key.Value
	case *ast.UnaryNode:
		if i, ok := key.Node.(*ast.IntegerNode); ok && key.Operator == "-" { // from the end
			at.key = -i.Value
		}
	}
	if at.key == nil {
		args = append(args, n.Property)
	}
	at.text = from.text + r.suffix(at.key, n.Property)
	r.forget(from)
	if !at.item {
		r.named = append(r.named, at)
	}
	call := &ast.CallNode{Callee: &ast.IdentifierNode{Value: fnMember}, Arguments: args}
	r.accesses[call] = at
	ast.Patch(node, call)
}

// isNamed tells whether a node is a name, or a key taken of one.
func isNamed(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		return true
	case *ast.MemberNode:
		return isNamed(n.Node)
	}
	return false
}

// suffix is how a key is written after what it is taken from.
func (r *rewriter) suffix(key any, written ast.Node) string {
	switch k := key.(type) {
	case string:
		if isName(k) {
			return "." + k
		}
		return "[" + strconv.Quote(k) + "]"
	case int:
		return "[" + strconv.Itoa(k) + "]"
	}
	return "[" + r.written(written) + "]"
}

// forget takes back the mention of something of which only a member was meant.
func (r *rewriter) forget(at *access) {
	r.named = slices.DeleteFunc(r.named, func(other *access) bool { return other == at })
}

// distinct returns what is named, each text once.
func (r *rewriter) distinct() []*access {
	var out []*access
	seen := map[string]bool{}
	for _, at := range r.named {
		if !seen[at.text] {
			seen[at.text] = true
			out = append(out, at)
		}
	}
	return out
}
