package assertion

import (
	"errors"
	"fmt"

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
		return value, nil // which is null
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
