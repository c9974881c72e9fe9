package assertion

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/vm/runtime"
)

// Functions that stand in for what the language has of its own. Nobody can call them, because no name has a space.
const (
	fnMember = "member of"
	fnEqual  = "equal to"
	fnWithin = "within a"
	fnText   = "text of"
	fnList   = "list of"
	// fnValues is for what min, max and mean are of, fnSummand for each of what sum adds up.
	fnValues  = "values of"
	fnSummand = "summand of"
	// fnWhole is for what int makes whole, fnSigned for what may change its sign.
	fnWhole    = "whole of"
	fnSigned   = "signed of"
	fnAdd      = "sum of"
	fnSubtract = "difference of"
	fnMultiply = "product of"
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

// mismatch is the error of a member that is not as it has to be.
type mismatch struct {
	text string
	// item tells that the text does not say of what.
	item bool
}

func (m *mismatch) Error() string { return m.text }

// member looks a member up: of what, which access, and the key if that has none.
func member(params ...any) (any, error) {
	at, from := params[1].(*access), params[0]
	key := at.key
	if len(params) > 2 {
		key = params[2]
	}
	value, found := lookUp(from, key)
	mismatchf := func(format string, args ...any) error { return &mismatch{fmt.Sprintf(format, args...), at.item} }
	switch {
	case !found && at.lenient && (from == nil || isContainer(from)):
		return nil, nil //nolint:nilnil // null is a value
	case !found && isContainer(from):
		return nil, mismatchf("%s has no %s", at.from.text, keyText(key))
	case !found:
		return nil, mismatchf("%s is %s and has no %s", at.from.text, show(from), keyText(key))
	}
	if at.single && !isSingle(value) {
		return nil, mismatchf("%s is %s; what is evaluated for each item may take only numbers, short texts, true and false from data", at.text, show(value))
	}
	return value, nil
}

// lookUp returns a member of an object, or an item of a list; from its end, if the index is negative.
func lookUp(from, key any) (value any, found bool) {
	switch from := from.(type) {
	case map[string]any:
		if name, ok := key.(string); ok {
			value, found = from[name]
		}
	case []any:
		i, ok := key.(int)
		if ok && i < 0 {
			i += len(from)
		}
		if ok && i >= 0 && i < len(from) {
			return from[i], true
		}
	}
	return value, found
}

func isContainer(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return true
	}
	return false
}

func isSingle(v any) bool {
	const short = 1 << 10
	text, isText := v.(string)
	return !isContainer(v) && (!isText || len(text) <= short)
}

// kindOf is what a value is, in a word; the kinds are all that can be compared.
func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "true or false"
	case int, float64:
		return "a number"
	case string:
		return "a text"
	case map[string]any:
		return "an object"
	}
	return "a list"
}

// equal compares values of one kind.
func equal(params ...any) (any, error) {
	a, b := params[0], params[1]
	if kindOf(a) != kindOf(b) {
		return nil, fmt.Errorf("%s is compared with %s", kindOf(a), kindOf(b))
	}
	return runtime.Equal(a, b), nil
}

// text wants a text.
func text(params ...any) (any, error) {
	if _, ok := params[0].(string); !ok {
		return nil, fmt.Errorf("%s stands where a text is wanted", kindOf(params[0]))
	}
	return params[0], nil
}

// list wants a list.
func list(params ...any) (any, error) {
	if _, ok := items(params[0]); !ok {
		return nil, fmt.Errorf("%s stands where a list is wanted", kindOf(params[0]))
	}
	return params[0], nil
}

// values wants a number, or a list that has numbers and nothing else.
func values(params ...any) (any, error) {
	if isNumber(params[0]) {
		return params[0], nil
	}
	list, ok := items(params[0])
	switch {
	case !ok:
		return nil, fmt.Errorf("%s stands where a list is wanted", kindOf(params[0]))
	case len(list) == 0:
		return nil, errors.New("no values")
	}
	for _, item := range list {
		if !isNumber(item) {
			return nil, fmt.Errorf("%s stands where a number is wanted", kindOf(item))
		}
	}
	return params[0], nil
}

// summand wants a number. One that is so large that the sum could go beyond 64 bits becomes a float64: there are at most maxValues.
func summand(params ...any) (any, error) {
	if !isNumber(params[0]) {
		return nil, fmt.Errorf("%s stands where a number is wanted", kindOf(params[0]))
	}
	const most = math.MaxInt64 / maxValues
	if i, ok := params[0].(int); ok && (i > most || i < -most) {
		return float64(i), nil
	}
	return params[0], nil
}

// whole wants what an int can be made of.
func whole(params ...any) (any, error) {
	if f, ok := params[0].(float64); ok && !(f >= math.MinInt64 && f < math.MaxInt64) { // MaxInt64 becomes 2^63
		return nil, fmt.Errorf("%s is beyond whole numbers of 64 bits", show(f))
	}
	return params[0], nil
}

// signed makes a float64 of the one whole number without a counterpart.
func signed(params ...any) (any, error) {
	if params[0] == math.MinInt64 {
		return float64(math.MinInt64), nil
	}
	return params[0], nil
}

// arithmetic is what an operator does, with float64 if the result is beyond whole numbers of 64 bits. Exact returns the result of
// whole numbers, and whether it is right.
func arithmetic(general func(a, b any) any, exact func(a, b int) (int, bool)) func(...any) (any, error) {
	return func(params ...any) (any, error) {
		a, aIs := params[0].(int)
		b, bIs := params[1].(int)
		if !aIs || !bIs {
			return general(params[0], params[1]), nil
		}
		if result, ok := exact(a, b); ok {
			return result, nil
		}
		return general(float64(a), float64(b)), nil
	}
}

var (
	add = arithmetic(runtime.Add, func(a, b int) (int, bool) {
		sum := a + b
		return sum, (sum > a) == (b > 0)
	})
	subtract = arithmetic(runtime.Subtract, func(a, b int) (int, bool) {
		difference := a - b
		return difference, (difference < a) == (b > 0)
	})
	multiply = arithmetic(runtime.Multiply, func(a, b int) (int, bool) {
		if a == 0 || b == 0 {
			return 0, true
		}
		product := a * b
		return product, product/b == a && (product < 0) == ((a < 0) != (b < 0))
	})
)

func isNumber(v any) bool {
	return kindOf(v) == "a number"
}

// within tells whether a value is in a list, or a key in an object. A value of another kind than all of the list is a mistake.
func within(params ...any) (any, error) {
	value, in := params[0], params[1]
	if object, ok := in.(map[string]any); ok {
		key, ok := value.(string)
		if !ok {
			return nil, fmt.Errorf("%s is looked for among the keys of an object", kindOf(value))
		}
		_, found := object[key]
		return found, nil
	}
	list, ok := items(in)
	if !ok {
		return nil, fmt.Errorf("%s has nothing in it", kindOf(in))
	}
	alike := len(list) == 0
	for _, item := range list {
		if runtime.Equal(value, item) {
			return true, nil
		}
		alike = alike || kindOf(value) == kindOf(item)
	}
	if !alike {
		return nil, fmt.Errorf("%s is looked for where there is none", kindOf(value))
	}
	return false, nil
}

// items returns what a list has. The library makes typed ones of those that are written.
func items(list any) ([]any, bool) {
	switch list := list.(type) {
	case []any:
		return list, true
	case []int:
		return boxed(list), true
	case []float64:
		return boxed(list), true
	case []string:
		return boxed(list), true
	}
	return nil, false
}

func boxed[T any](list []T) []any {
	out := make([]any, len(list))
	for i := range list {
		out[i] = list[i]
	}
	return out
}
