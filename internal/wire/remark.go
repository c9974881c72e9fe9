package wire

import (
	"slices"
	"strconv"

	"github.com/serviceradar/poller/internal/check"
)

// remarkOn is what the poller has to say of a status beside the checker's words: members of an object, each with a comma
// before it.
func remarkOn(st *check.Status) string {
	var b []byte
	if st.Reason == check.Assertion {
		b = appendQuoted(append(b, `,"error":`...), st.Detail)
		b = appendQuoted(append(b, `,"reason":`...), string(st.Reason))
	}
	if st.Confirming > 0 {
		b = strconv.AppendUint(append(b, `,"confirming":`...), uint64(st.Confirming), 10)
	}
	if st.Silenced != "" {
		b = appendQuoted(append(b, `,"silenced":`...), st.Silenced)
	}
	if st.Minority {
		b = append(b, `,"minority":true`...)
	}
	return string(b)
}

// remark has a remark go along. It follows what is said, within the envelope; without one it becomes a part of what is said,
// but where core's form is fixed.
func (c *content) remark(f *frame, members string) {
	switch {
	case f.envelope > 0:
		c.after = members
	case serviceType(f.check) != check.TypeSync:
		c.text = withMembers(c.text, members)
	}
}

// withMembers adds members to the object that a message is; another message becomes the first member of one.
func withMembers(message []byte, members string) []byte {
	text := trim(message)
	a, isObject, err := read(text)
	switch {
	case len(text) == 0 || isObject && err == nil && a.empty:
		return append(append([]byte("{"), members[1:]...), '}')
	case isObject && err == nil:
		return slices.Concat(text[:a.end], []byte(members), text[a.end:])
	case err != nil:
		text = quote(string(text))
	}
	return slices.Concat([]byte(`{"message":`), text, []byte(members), []byte("}"))
}
