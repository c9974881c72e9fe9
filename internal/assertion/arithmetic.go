package assertion

import (
	"fmt"
	"math"

	"github.com/expr-lang/expr/vm/runtime"
)

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
