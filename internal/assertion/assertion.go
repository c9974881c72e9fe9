// Package assertion has what people want of a checker's answer beside that the checker calls it available: expressions over
// its JSON, such as data.packet_loss < 20.
//
// The language is that of github.com/expr-lang/expr, without what could take long or hide a mistake:
//   - There are three variables: data, the checker's JSON; available, which is true, because of other answers nothing is
//     asserted; and response_time, in seconds. The result is true or false.
//   - A key that data does not have, a value that is null where a key is wanted of it, and values of different types that are
//     compared make the assertion fail and say so, also within "not" and with !=. What may be missing is written
//     data.x ?? 0 or data?.x, or asked for with "x" in data.
//   - Whole numbers of 64 bits are exact among themselves; other numbers, and both kinds beside each other, are compared as
//     float64, so beyond 2^53 with an error. Quotients are float64 always, and so is a sum, difference or product that is beyond
//     64 bits, or the sum of a list with numbers beyond 2^46. An int of what is beyond 64 bits, and the mean, min or max of no
//     values, make the assertion fail.
//   - A key is taken of data or of an item only. What is gone through has to be a list, which a text and an object are not.
//   - There are no variables of one's own, ranges, or patterns that are made at run time, and of functions only those
//     in functions. Within the braces of all, any and the like, data gives single values only. So what an assertion costs grows
//     linearly in the answer.
//
// What is not asked for is not decoded. All functions are safe to call from several goroutines.
package assertion

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/types"
	"github.com/expr-lang/expr/vm"

	"github.com/serviceradar/poller/internal/check"
)

// The variables.
const (
	varData         = "data"
	varAvailable    = "available"
	varResponseTime = "response_time"
)

// functions are those that there are. None makes a text or a list that is longer than what it is given.
var functions = []string{
	"abs", "all", "any", "ceil", "count", "float", "floor", "int", "len", "lower", "max", "mean", "min", "none", "one", "round", "sum",
	"trim", "upper",
}

// Bounds of an expression.
const (
	maxText   = 1000 // bytes
	maxNodes  = 500
	maxVisits = 10 * maxNodes // of nodes at all places where they are
	maxWithin = 50            // calls of our functions within a key, which is written out for each key that has it in it
	maxMemory = 100_000       // of expr's units, which are elements of lists that an expression makes
)

// Assertion is one expression, ready to be evaluated.
type Assertion struct {
	text    string
	program *vm.Program
	// named are what it says something about, in their order, each once.
	named []*access
	// data tells that it needs the answer, keys which of its members; if whole is set, all of them.
	data, whole bool
	keys        []string
}

// Compile returns the assertion of an expression. The error says what is wrong, in words that follow "found …,".
func Compile(text string) (*Assertion, error) {
	switch {
	case strings.TrimSpace(text) == "":
		return nil, errors.New("want an expression such as data.packet_loss < 20")
	case len(text) > maxText:
		return nil, fmt.Errorf("which has %d bytes, want an expression of at most %d", len(text), maxText)
	case strings.IndexFunc(text, unicode.IsControl) >= 0:
		return nil, errors.New("want an expression without control characters such as line breaks")
	case tooLarge(text):
		return nil, errors.New("want an expression that is less nested: what is compared twice, as in 0 < x < 5, or stands before ?: counts twice, " +
			"and so it is too large")
	}
	r := &rewriter{accesses: map[any]*access{}, bare: map[ast.Node]bool{}, lists: map[*ast.BuiltinNode]bool{}}
	program, err := expr.Compile(text, append(slices.Clip(options), expr.Patch(r))...)
	switch {
	case r.err != nil:
		return nil, r.err
	case err != nil:
		return nil, wanted(err)
	}
	return &Assertion{text: text, program: program, named: r.distinct(), data: r.data, whole: len(r.bare) > 0, keys: r.keys}, nil
}

// tooLarge tells whether it takes too many steps to go through an expression. Of x ?: y and 0 < x < 5 the library has x at two
// places, so each of them within another doubles what it takes to compile and to evaluate what is inside.
func tooLarge(text string) bool {
	config := conf.CreateNew()
	for _, option := range options {
		option(config)
	}
	tree, err := parser.ParseWithConfig(text, config)
	if err != nil { // which Compile says
		return false
	}
	var steps visits
	ast.Walk(&tree.Node, &steps)
	return steps > maxVisits
}

// visits counts how often a node is come to. Once there are too many it takes the tree apart, so that the walk ends soon.
type visits int

// Visit takes one node.
func (v *visits) Visit(node *ast.Node) {
	if *v++; *v > maxVisits {
		*node = &ast.NilNode{}
	}
}

// wanted says what the library has against an expression, on one line.
func wanted(err error) error {
	f, ok := errors.AsType[*file.Error](err)
	if !ok {
		return fmt.Errorf("want an expression that comes to true or false: %w", err)
	}
	msg := strings.ReplaceAll(f.Message, "\n", " ")
	if strings.HasPrefix(msg, "unknown name") {
		msg += "; known are " + varData + ", " + varAvailable + " and " + varResponseTime
	}
	return fmt.Errorf("want an expression that comes to true or false: %s, at character %d", msg, f.Column+1)
}

// options are those of every expression.
var options = func() []expr.Option {
	out := []expr.Option{
		expr.Env(types.Map{varData: types.Any, varAvailable: types.Bool, varResponseTime: types.Float64}),
		expr.AsBool(), expr.MaxNodes(maxNodes), expr.DisableAllBuiltins(),
		expr.Function(fnMember, member),
		expr.Function(fnEqual, equal, new(func(a, b any) bool)),
		expr.Function(fnWithin, within, new(func(a, b any) bool)),
		expr.Function(fnText, text, new(func(a any) string)),
		expr.Function(fnList, list, new(func(a any) any)),
		expr.Function(fnValues, values, new(func(a any) any)),
		expr.Function(fnSummand, summand, new(func(a any) any)),
		expr.Function(fnWhole, whole, new(func(a any) any)),
		expr.Function(fnSigned, signed, new(func(a any) any)),
		expr.Function(fnAdd, add, new(func(a, b any) any)),
		expr.Function(fnSubtract, subtract, new(func(a, b any) any)),
		expr.Function(fnMultiply, multiply, new(func(a, b any) any)),
	}
	for _, name := range functions {
		out = append(out, expr.EnableBuiltin(name))
	}
	return out
}()

// All returns the assertions of a check, which are evaluated in their order until one fails.
func All(list []*Assertion) *check.Assertions {
	set := &set{list: list}
	out := &check.Assertions{Unmet: set.unmet}
	for _, a := range list {
		out.Texts = append(out.Texts, a.text)
		set.data = set.data || a.data
		set.whole = set.whole || a.whole
		for _, key := range a.keys {
			if !slices.Contains(set.keys, key) {
				set.keys = append(set.keys, key)
			}
		}
	}
	return out
}

// set are the assertions of a check, and what they need of an answer between them.
type set struct {
	list        []*Assertion
	data, whole bool
	keys        []string
}

// evaluation is what it takes to evaluate assertions; its memory is used again.
type evaluation struct {
	decoder
	machine vm.VM
	env     map[string]any
}

// maxKept is of how many values an answer may have been for its evaluation's memory to be used again.
const maxKept = 1000

var evaluations = sync.Pool{New: func() any {
	return &evaluation{machine: vm.VM{MemoryBudget: maxMemory}, env: make(map[string]any, 3)}
}}

// unmet says which assertion an answer does not meet, and why.
func (s *set) unmet(a check.Answer) (detail string) {
	e := evaluations.Get().(*evaluation)
	asserted := s.list[0]
	defer func() {
		if p := recover(); p != nil { // a fault of ours or of the library: this evaluation is not used again
			detail = fmt.Sprintf("%s does not hold: it can't be evaluated: %v", asserted.text, p)
			return
		}
		if e.values > maxKept { // the machine may hold on to it
			return
		}
		clear(e.env)
		clear(e.machine.Stack[:cap(e.machine.Stack)])
		evaluations.Put(e)
	}()
	e.env[varAvailable], e.env[varResponseTime] = a.Available, a.ResponseTime.Seconds()
	if s.data {
		data, err := e.decode(a.Message, s.keys, s.whole)
		if err != nil {
			i := slices.IndexFunc(s.list, func(a *Assertion) bool { return a.data })
			return fmt.Sprintf("%s does not hold: %v", s.list[i].text, err)
		}
		e.env[varData] = data
	}
	for _, asserted = range s.list {
		if why, holds := asserted.holds(e); !holds {
			if why == "" {
				return asserted.text + " does not hold"
			}
			return asserted.text + " does not hold: " + why
		}
	}
	return ""
}

// holds evaluates an assertion, and says why it does not hold, as far as there is something to say.
func (a *Assertion) holds(e *evaluation) (why string, holds bool) {
	result, err := e.machine.Run(a.program, e.env)
	if err != nil {
		return because(err, a.values(e.env)), false
	}
	if result == true {
		return "", true
	}
	if result != false {
		return "it comes to " + show(result) + ", not to true or false", false
	}
	return a.values(e.env), false
}

// because says why there is no result, given what the values are.
func because(err error, values string) string {
	own, ok := errors.AsType[*mismatch](err)
	switch {
	case ok && own.item && values != "":
		return own.text + "; " + values
	case ok:
		return own.text
	case values == "":
		return cause(err)
	}
	return values + " (" + cause(err) + ")"
}

// values says what an assertion's values are.
func (a *Assertion) values(env map[string]any) string {
	const most = 5
	var parts []string
	for _, at := range a.named[:min(len(a.named), most)] {
		parts = append(parts, at.text+" is "+at.show(env))
	}
	return strings.Join(parts, ", ")
}

// cause is what the library has against values, in a few words.
func cause(err error) string {
	f, ok := errors.AsType[*file.Error](err)
	switch {
	case !ok:
		return err.Error()
	case strings.HasPrefix(f.Message, "interface conversion"), strings.HasPrefix(f.Message, "reflect"):
		return "a value is of the wrong type"
	}
	return shorten(strings.ReplaceAll(f.Message, "interface {}", "value"))
}
