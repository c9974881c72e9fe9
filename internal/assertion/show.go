package assertion

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxShown bounds in bytes what is shown of a value.
const maxShown = 100

// show returns a value for people, on one line, cut if it is long.
func show(v any) string {
	if at, ok := v.(string); ok { // before it is quoted, which takes time for long ones
		v = at[:min(len(at), maxShown+utf8.UTFMax)]
	}
	return shorten(string(appendShown(nil, v)))
}

// appendShown appends what is to be seen of a value; what is long is not written to its end.
func appendShown(b []byte, v any) []byte {
	if len(b) > maxShown {
		return b
	}
	switch v := v.(type) {
	case nil:
		return append(b, "null"...)
	case bool:
		return strconv.AppendBool(b, v)
	case int:
		return strconv.AppendInt(b, int64(v), 10)
	case float64:
		return strconv.AppendFloat(b, v, 'g', -1, 64)
	case string:
		return strconv.AppendQuote(b, v[:min(len(v), maxShown+utf8.UTFMax)])
	case map[string]any:
		b = append(b, '{')
		for i, key := range slices.Sorted(maps.Keys(v)) {
			b = separate(b, i)
			b = append(appendShown(b, key), ": "...)
			if b = appendShown(b, v[key]); len(b) > maxShown {
				break
			}
		}
		return append(b, '}')
	}
	list, _ := items(v)
	b = append(b, '[')
	for i, item := range list {
		if b = appendShown(separate(b, i), item); len(b) > maxShown {
			break
		}
	}
	return append(b, ']')
}

func separate(b []byte, i int) []byte {
	if i == 0 {
		return b
	}
	return append(b, ", "...)
}

// shorten cuts a text at maxShown.
func shorten(s string) string {
	if len(s) <= maxShown {
		return s
	}
	end := maxShown
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…"
}

// show returns what a name stands for, cut if it is long.
func (at *access) show(env map[string]any) string {
	value, found := at.read(env)
	switch {
	case !found && at.dynamic():
		return "another each time"
	case !found:
		return "not there"
	}
	return show(value)
}

// read returns what a name stands for.
func (at *access) read(env map[string]any) (value any, found bool) {
	if at.from == nil {
		value, found = env[at.text]
		return value, found
	}
	from, found := at.from.read(env)
	if !found {
		return nil, false
	}
	return lookUp(from, at.key)
}

// dynamic tells whether a key on the way is only known at run time.
func (at *access) dynamic() bool {
	return at.from != nil && (at.key == nil || at.from.dynamic())
}

// keyText is a key as people write it.
func keyText(key any) string {
	if name, ok := key.(string); ok && isName(name) {
		return name
	}
	return "[" + show(key) + "]"
}

// isName tells whether a key can be written after a dot.
func isName(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) < 0 && (s[0] < '0' || s[0] > '9')
}
