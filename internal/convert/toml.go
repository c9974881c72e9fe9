package convert

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/serviceradar/poller/config"
)

// table is a table of the TOML.
type table struct {
	// header stands above it: [core]; empty for the outermost.
	header string
	// key is its dotted key, as config names it in errors.
	key string
	// path is the object of the JSON that it comes from; comments leave it out.
	path  string
	from  *value
	lines []line
}

// line is a comment or a key with its value.
type line struct {
	comment    string
	key, value string
	// from is what config's errors about the key are about.
	from *value
}

// newTable makes a table of the dotted key. It has to be added to the tables to be written.
func newTable(key string, from *value) *table {
	return &table{header: "[" + key + "]", key: key, path: from.path(), from: from}
}

func (t *table) comment(text string) { t.lines = append(t.lines, line{comment: text}) }

func (t *table) set(key, value string, from *value) {
	t.lines = append(t.lines, line{key: key, value: value, from: from})
}

// carry sets a key to a text as it is.
func (c *conversion) carry(t *table, key, s string, from *value) {
	c.placeholders(t, s, from)
	t.set(key, config.Quote(s), from)
}

// placeholders warns of what nobody has replaced in a text.
func (c *conversion) placeholders(t *table, s string, from *value) {
	if strings.Contains(strings.ToLower(s), placeholder) {
		c.warn(t, from.path(), "holds %q: write what it has to be", placeholder)
	}
}

// placeholder stands in samples for what everybody has to write themselves.
const placeholder = "changeme"

// write returns the tables as a text, and notes where their keys come from.
func (c *conversion) write() []byte {
	var out bytes.Buffer
	for i, t := range c.tables {
		if i > 0 {
			out.WriteByte('\n')
		}
		if t.header != "" {
			out.WriteString(t.header + "\n")
		}
		if t.key != "" {
			c.origins[t.key] = t.from
		}
		for _, l := range t.lines {
			if l.key == "" {
				writeComment(&out, l.comment)
				continue
			}
			out.WriteString(l.key + " = " + l.value + "\n")
			c.origins[join(t.key, l.key)] = l.from
		}
	}
	return out.Bytes()
}

// origin is where in the JSON a key comes from that config names in an error; nil if it comes from nowhere.
func (c *conversion) origin(key string) *value {
	if from := c.origins[key]; from != nil {
		return from
	}
	return c.origins[strings.TrimSuffix(key, "[0]")] // the one address of core
}

// width is how long a comment's line becomes, in characters, if its words allow.
const width = 110

// writeComment writes a comment in as many lines as it needs.
func writeComment(out *bytes.Buffer, comment string) {
	room := 0
	for i, word := range strings.Split(comment, " ") {
		need := utf8.RuneCountInString(word) + 1
		switch {
		case i == 0:
			out.WriteString("#")
			room = width - 1
		case need > room:
			out.WriteString("\n#  ")
			room = width - 3
		}
		if word != "" {
			out.WriteString(" " + word)
		}
		room -= need
	}
	out.WriteByte('\n')
}

// addComments adds the comments of another table that t does not have.
func (t *table) addComments(other *table) {
	for _, l := range other.lines {
		same := func(has line) bool { return has.key == "" && has.comment == l.comment }
		if l.key == "" && !slices.ContainsFunc(t.lines, same) {
			t.lines = append(t.lines, l)
		}
	}
}
