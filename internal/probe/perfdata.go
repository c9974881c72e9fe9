package probe

import (
	"encoding/json"
	"strings"
	"unicode"
)

// perfdatum is one value that a plugin has measured: 'label'=value[unit];[warn];[crit];[min];[max].
type perfdatum struct {
	Label string `json:"label"`
	// Value has all digits of the plugin; null where it says that it could not measure, by a U.
	Value *json.Number `json:"value"`
	Unit  string       `json:"unit,omitempty"`
	// Warn and Crit are ranges, as the plugin writes them: 10, 10:, ~:10, @10:20.
	Warn string       `json:"warn,omitempty"`
	Crit string       `json:"crit,omitempty"`
	Min  *json.Number `json:"min,omitempty"`
	Max  *json.Number `json:"max,omitempty"`
}

// parsePerfdata reads what stands after the bar in a plugin's output. What it can't read is left over, as it stands.
func parsePerfdata(text string) (data []perfdatum, rest string) {
	var left []string
	for {
		text = strings.TrimLeftFunc(text, unicode.IsSpace)
		if text == "" {
			return data, strings.Join(left, " ")
		}
		label, after, ok := cutLabel(text)
		if !ok {
			after = text
		}
		end := strings.IndexFunc(after, unicode.IsSpace)
		if end < 0 {
			end = len(after)
		}
		if d, whole := parseValues(after[:end]); ok && whole {
			d.Label = label
			data = append(data, d)
		} else {
			left = append(left, text[:len(text)-len(after)+end])
		}
		text = after[end:]
	}
}

// cutLabel takes a label with its = off a text. A label with spaces or = in it stands in single quotes, and quotes
// in it are doubled.
func cutLabel(text string) (label, after string, ok bool) {
	quoted, isQuoted := strings.CutPrefix(text, "'")
	if !isQuoted {
		end := strings.IndexFunc(text, func(r rune) bool { return r == '=' || r == '\'' || unicode.IsSpace(r) })
		if end <= 0 || text[end] != '=' {
			return "", "", false
		}
		return text[:end], text[end+1:], true
	}
	var b strings.Builder
	for {
		part, more, found := strings.Cut(quoted, "'")
		if !found {
			return "", "", false
		}
		b.WriteString(part)
		if quoted, isQuoted = strings.CutPrefix(more, "'"); isQuoted {
			b.WriteByte('\'')
			continue
		}
		after, ok = strings.CutPrefix(more, "=")
		return b.String(), after, ok && b.Len() > 0
	}
}

// parseValues reads value[unit];[warn];[crit];[min];[max].
func parseValues(text string) (d perfdatum, ok bool) {
	const most = 5
	fields := strings.Split(strings.TrimRight(text, ";"), ";")
	if len(fields) > most {
		return d, false
	}
	fields = append(fields, make([]string, most-len(fields))...)
	if fields[0] != "U" {
		number, unit := cutNumber(fields[0])
		if number == "" || strings.ContainsAny(unit, "0123456789'\"=") {
			return d, false
		}
		d.Value, d.Unit = &number, unit
	}
	d.Warn, d.Crit = fields[1], fields[2]
	for i, bound := range []**json.Number{&d.Min, &d.Max} {
		field := fields[3+i]
		if field == "" {
			continue
		}
		number, unit := cutNumber(field)
		if number == "" || unit != "" && unit != d.Unit {
			return d, false
		}
		*bound = &number
	}
	return d, true
}

// cutNumber takes a decimal number off a text and returns it as JSON writes it, with all its digits; "" if there is none.
func cutNumber(text string) (number json.Number, rest string) {
	sign, digits := "", strings.TrimPrefix(text, "+")
	if digits == text && strings.HasPrefix(text, "-") {
		sign, digits = "-", text[1:]
	}
	whole, rest := cutDigits(digits)
	var fraction string
	if after, ok := strings.CutPrefix(rest, "."); ok {
		fraction, rest = cutDigits(after)
	}
	if whole == "" && fraction == "" {
		return "", text
	}
	if whole = strings.TrimLeft(whole, "0"); whole == "" {
		whole = "0"
	}
	if fraction != "" {
		fraction = "." + fraction
	}
	exponent := ""
	if rest != "" && (rest[0] == 'e' || rest[0] == 'E') {
		after := strings.TrimLeft(rest[1:], "+-")
		// More than one sign, or more than three digits, are no number that anybody could use.
		if power, unit := cutDigits(after); power != "" && len(power) <= 3 && len(rest)-1-len(after) <= 1 {
			exponent, rest = rest[:len(rest)-len(unit)], unit
		}
	}
	return json.Number(sign + whole + fraction + exponent), rest
}

func cutDigits(text string) (digits, rest string) {
	rest = strings.TrimLeft(text, "0123456789")
	return text[:len(text)-len(rest)], rest
}
