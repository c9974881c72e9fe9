package probe

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"unicode/utf8"
)

// maxExpression is how long a regular expression may be, in bytes: a long one can take gigabytes when it is compiled.
const maxExpression = 1 << 10

// compile makes a pattern of a regular expression, nil of none.
func compile(expression string) (*regexp.Regexp, error) {
	if expression == "" {
		return nil, nil
	}
	if len(expression) > maxExpression {
		return nil, fmt.Errorf("matches has %d bytes: write a regular expression of %d at most", len(expression), maxExpression)
	}
	pattern, err := regexp.Compile(expression)
	if err != nil {
		return nil, fmt.Errorf("matches is not a regular expression (RE2): %w", err)
	}
	return pattern, nil
}

// matches tells whether a pattern is in a text. It gives up when the context ends: some patterns take minutes for a MiB.
func matches(ctx context.Context, pattern *regexp.Regexp, text []byte) bool {
	return pattern.MatchReader(&runes{ctx: ctx, text: text}) && ctx.Err() == nil
}

// runes reads a text until the context ends.
type runes struct {
	ctx  context.Context // runes live as long as the call
	text []byte
}

// ReadRune is for regexp.
func (r *runes) ReadRune() (rune, int, error) {
	if len(r.text) == 0 || r.ctx.Err() != nil {
		return 0, 0, io.EOF
	}
	char, size := utf8.DecodeRune(r.text)
	r.text = r.text[size:]
	return char, size, nil
}
