package observe

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Visible writes out what a terminal would obey or hide rather than show, as Go does: \x1b, \u202e, \xff.
// What checkers say goes to the terminals of those who look at them.
func Visible(text string) string {
	var b strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		if strconv.IsGraphic(r) && (r != utf8.RuneError || size > 1) {
			b.WriteRune(r)
		} else {
			quoted := strconv.Quote(text[:size])
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		text = text[size:]
	}
	return b.String()
}

// VisibleLines is Visible for text with line breaks and tabs, which stay. Further lines are indented, so
// that none can be taken for one of ours.
func VisibleLines(text, indent string) string {
	lines := strings.Split(strings.TrimRight(strings.ReplaceAll(text, "\r\n", "\n"), "\n"), "\n")
	for i, line := range lines {
		cells := strings.Split(line, "\t")
		for j, cell := range cells {
			cells[j] = Visible(cell)
		}
		lines[i] = strings.Join(cells, "\t")
	}
	return strings.Join(lines, "\n"+indent)
}

// VisibleJSON is Visible for a JSON text as encoding/json writes it: its value stays the same, with \u202e in its
// strings. Line breaks between them stay. What it returns may be the text itself.
func VisibleJSON(text []byte) []byte {
	end := 0
	var out []byte
	for i, r := range string(text) { // which is not copied
		if r == '\n' || ' ' <= r && r <= '~' || r != utf8.RuneError && strconv.IsGraphic(r) {
			continue
		}
		out = append(out, text[end:i]...)
		_, size := utf8.DecodeRune(text[i:])
		end = i + size
		if high, low := utf16.EncodeRune(r); high != utf8.RuneError {
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		} else {
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	if end == 0 {
		return text
	}
	return append(out, text[end:]...)
}
