package observe

import (
	"strconv"
	"strings"
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
