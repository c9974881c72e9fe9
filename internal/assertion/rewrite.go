package assertion

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/expr-lang/expr/ast"
)

// rewriter makes an expression strict, and notes what it names. The library walks from the leaves to the root.
type rewriter struct {
	// accesses are by the nodes that they became.
	accesses map[any]*access
	named    []*access
	keys     []string
	// data tells that data is named; bare are the names of it without a key that is known.
	data bool
	bare map[ast.Node]bool
	// lists are the calls whose arguments are wrapped.
	lists map[*ast.BuiltinNode]bool
	err   error
}

// Visit takes one node, whose children it has taken. Of 0 < x < 5 and x ?: y the library has x at two places of the tree, so some
// nodes come again when what is in them has been replaced.
func (r *rewriter) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.IdentifierNode:
		r.variable(n)
	case *ast.PointerNode:
		if n.Name == "" {
			r.accesses[n] = &access{text: "an item", item: true}
		}
	case *ast.MemberNode:
		r.member(node, n)
	case *ast.ChainNode: // around what has ?. in it
		if at := r.accesses[n.Node]; at != nil {
			r.accesses[n] = at
		}
	case *ast.BinaryNode:
		r.binary(node, n)
	case *ast.UnaryNode:
		if _, literal := n.Node.(*ast.IntegerNode); n.Operator == "-" && !literal {
			r.wrap(&n.Node, fnSigned)
		}
	case *ast.CallNode:
		if isOurs(n) {
			return
		}
		r.refuse("there is no function %s; there are %s", r.written(n.Callee), strings.Join(functions, ", "))
	case *ast.BuiltinNode:
		r.builtin(n)
	case *ast.VariableDeclaratorNode:
		r.refuse("variables of one's own are not possible: leave let %s out", n.Name)
	case *ast.SequenceNode:
		r.refuse("there are several expressions: write each as an assertion of its own")
	}
}

func (r *rewriter) refuse(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("want an expression that comes to true or false: "+format, args...)
	}
}

// written is about how a node is written; what is not the same is not written alike.
func (r *rewriter) written(n ast.Node) string {
	if at := r.accesses[n]; at != nil {
		return at.text
	}
	inside := &calls{}
	ast.Walk(&n, inside)
	if len(inside.list) > maxWithin {
		r.refuse("a key has to be simpler: it is made of more than %d keys and operators", maxWithin)
		return "…"
	}
	text := n.String()
	for _, call := range slices.Backward(inside.list) { // from the outermost
		short := call.Arguments[0].String()
		if at := r.accesses[call]; at != nil {
			short = at.text
		} else if len(call.Arguments) > 1 {
			continue
		}
		text = strings.ReplaceAll(text, call.String(), short)
	}
	return text
}

// calls lists the calls of our functions.
type calls struct{ list []*ast.CallNode }

// Visit takes one node.
func (c *calls) Visit(node *ast.Node) {
	if call, ok := (*node).(*ast.CallNode); ok && isOurs(call) {
		c.list = append(c.list, call)
	}
}

func (r *rewriter) binary(node *ast.Node, n *ast.BinaryNode) {
	call := func(name string) ast.Node {
		return &ast.CallNode{Callee: &ast.IdentifierNode{Value: name}, Arguments: []ast.Node{n.Left, n.Right}}
	}
	switch n.Operator {
	case "==":
		if !isNil(n.Left) && !isNil(n.Right) {
			ast.Patch(node, call(fnEqual))
		}
	case "!=":
		if !isNil(n.Left) && !isNil(n.Right) {
			ast.Patch(node, &ast.UnaryNode{Operator: "not", Node: call(fnEqual)})
		}
	case "in":
		if key, ok := n.Left.(*ast.StringNode); ok && r.isData(n.Right) {
			delete(r.bare, n.Right)
			r.keys = append(r.keys, key.Value)
			r.forget(r.accesses[n.Right])
		}
		ast.Patch(node, call(fnWithin))
	case "??":
		r.allow(n.Left)
	case "+", "-", "*":
		if mayBeInt(n.Left) && mayBeInt(n.Right) {
			ast.Patch(node, call(map[string]string{"+": fnAdd, "-": fnSubtract, "*": fnMultiply}[n.Operator]))
		}
	case "..":
		r.refuse("ranges are not possible: compare with >= and <= instead")
	case "matches":
		if _, ok := n.Right.(*ast.StringNode); !ok {
			r.refuse("the pattern after matches has to be a text in quotes")
		}
		r.wantText(&n.Left)
	case "contains", "startsWith", "endsWith":
		r.wantText(&n.Left)
		r.wantText(&n.Right)
	}
}

func isNil(n ast.Node) bool {
	_, ok := n.(*ast.NilNode)
	return ok
}

// allow lets what stands before ?? be missing; of several ?? the library takes the first together.
func (r *rewriter) allow(n ast.Node) {
	if both, ok := n.(*ast.BinaryNode); ok && both.Operator == "??" {
		r.allow(both.Left)
		r.allow(both.Right)
	}
	for at := r.accesses[n]; at != nil; at = at.from {
		at.lenient = true
	}
}

// mayBeInt tells whether a node's value may be a whole number, as far as its type is known.
func mayBeInt(n ast.Node) bool {
	t := n.Type()
	return t == nil || t.Kind() == reflect.Interface || t.Kind() == reflect.Int
}

// wantText has what is no text in quotes be a text: for the library, null contains nothing.
func (r *rewriter) wantText(node *ast.Node) {
	if _, literal := (*node).(*ast.StringNode); !literal {
		r.wrap(node, fnText)
	}
}

// wrap has a function of ours have a look at a value.
func (r *rewriter) wrap(node *ast.Node, name string) {
	ast.Patch(node, &ast.CallNode{Callee: &ast.IdentifierNode{Value: name}, Arguments: []ast.Node{*node}})
}

// isOurs tells whether a call is of a function that stands in for something.
func isOurs(n *ast.CallNode) bool {
	name, ok := n.Callee.(*ast.IdentifierNode)
	return ok && strings.Contains(name.Value, " ")
}

func (r *rewriter) isData(n ast.Node) bool {
	at := r.accesses[n]
	return at != nil && at.text == varData
}

// builtin bounds what is evaluated for each item of a list, and has lists be lists: for the library, a text or an object is one.
func (r *rewriter) builtin(n *ast.BuiltinNode) {
	if r.lists[n] {
		return
	}
	r.lists[n] = true
	if !slices.Contains(functions, n.Name) { // the library lets some pass that are disabled
		r.refuse("there is no function %s; there are %s", n.Name, strings.Join(functions, ", "))
	}
	for i := range n.Arguments {
		predicate, ok := n.Arguments[i].(*ast.PredicateNode)
		if !ok {
			continue
		}
		if r.accesses[n.Arguments[0]] == nil {
			r.refuse("%s wants a list of data, such as %[1]s(data.disks, .used < 90)", n.Name)
		}
		inside := &singles{accesses: r.accesses}
		ast.Walk(&predicate.Node, inside)
		if inside.bare > 0 {
			r.refuse("within the braces of %s, data wants a key after it", n.Name)
		}
	}
	switch n.Name {
	case "all", "any", "none", "one", "count", "sum":
		r.wrap(&n.Arguments[0], fnList)
	case "min", "max", "mean":
		for i := range n.Arguments {
			r.wrap(&n.Arguments[i], fnValues)
		}
	case "int":
		r.wrap(&n.Arguments[0], fnWhole)
	case "abs":
		r.wrap(&n.Arguments[0], fnSigned)
	}
	if n.Name != "sum" {
		return
	}
	if len(n.Arguments) == 1 {
		n.Arguments = append(n.Arguments, &ast.PredicateNode{Node: &ast.PointerNode{}})
	}
	if predicate, ok := n.Arguments[1].(*ast.PredicateNode); ok {
		r.wrap(&predicate.Node, fnSummand)
	}
}

// singles has all that is taken from data be single values.
type singles struct {
	accesses map[any]*access
	// bare counts data without a key.
	bare int
}

// Visit takes one node.
func (s *singles) Visit(node *ast.Node) {
	at := s.accesses[*node]
	_, chain := (*node).(*ast.ChainNode)
	switch {
	case at == nil || at.item || chain:
	case at.text == varData:
		s.bare++
	case at.from != nil:
		at.single = true
		at.from.single = false
		if at.from.text == varData {
			s.bare--
		}
	}
}
