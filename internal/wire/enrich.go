package wire

import (
	"bytes"

	"github.com/serviceradar/poller/internal/check"
)

// Core finds the device of a status by keys in the checker's answer. Where the checker says neither of
// a pair, the poller fills it in, at the top of the object and under its key status. Nothing that
// the checker wrote is changed or moved, but for two things that core can't have: a status that is
// no object becomes status_text, and one that is null becomes an object.

// given tells which pairs of keys an object has.
type given struct{ ip, name bool }

func (g *given) note(key []byte) {
	switch string(key) {
	case "host_ip", "ip":
		g.ip = true
	case "host_name", "hostname":
		g.name = true
	}
}

// answer is what is known of a checker's object.
type answer struct {
	given
	empty bool // it has no members
	end   int  // where its closing brace is
	// status is the last member of that name; nothing if found is false.
	found      bool
	statusKey  int // where its key begins
	status     []byte
	statusEnd  int
	statusText bool // there is a member status_text
}

// read returns what is known of an object; false if the text is JSON of another kind, and an error
// if it is none.
func read(text []byte) (a answer, isObject bool, err error) {
	if tooDeep(text) {
		return answer{}, false, errDeep
	}
	s := scan(text)
	defer s.done()
	if s.kind() != '{' {
		s.skip()
		return answer{}, false, s.end()
	}
	s.enter()
	a.empty = true
	for s.next() {
		a.empty = false
		a.note(s.key)
		switch string(s.key) {
		case "status":
			a.found, a.statusKey, a.status, a.statusEnd = true, s.at, s.value, s.valueEnd
		case "status_text":
			a.statusText = true
		}
	}
	a.end = bytes.LastIndexByte(text, '}')
	return a, true, s.end()
}

// content is what a status says, on its way into a message: JSON, and the host whose keys an object gets. What is written
// is the text, where it stands, with the keys between.
type content struct {
	text []byte
	host host // unknown: the text goes as it is
	answer
	// inner is what is known of the object under its key status, if that is one.
	inner      given
	innerEmpty bool
	// after is the remark that follows all that; mostly there is none.
	after string
}

// contentOf returns the checker's message as JSON: text is wrapped, nothing becomes an empty object,
// and objects get the keys of the host that they lack.
func contentOf(message []byte, h host) content {
	message = trim(message)
	if len(message) == 0 {
		return content{text: []byte("{}"), host: h, answer: answer{empty: true, end: 1}}
	}
	a, isObject, err := read(message)
	switch {
	case err != nil:
		wrapped := append(appendQuoted([]byte(`{"message":`), string(message)), '}')
		return content{text: wrapped, host: h, answer: answer{end: len(wrapped) - 1}}
	case !isObject:
		return content{text: message}
	}
	c := content{text: message, host: h, answer: a}
	if h.known() && a.found && a.status[0] == '{' {
		c.inner, c.innerEmpty = readStatus(a.status)
	}
	return c
}

// failureOf returns what stands in for the checker's own words when there are none.
func failureOf(st *check.Status, h host) content {
	text := make([]byte, 0, len(st.Detail)+len(st.Reason)+64)
	text = appendQuoted(append(text, `{"error":`...), st.Detail)
	text = append(text, `,"reason":`...)
	text = append(appendQuoted(text, string(st.Reason)), '}')
	return content{text: text, host: h, answer: answer{end: len(text) - 1}}
}

func (c *content) append(b []byte) []byte { return append(c.appendSaid(b), c.after...) }

// appendSaid appends what is said, without the remark on it.
func (c *content) appendSaid(b []byte) []byte {
	if !c.host.known() {
		return append(b, c.text...)
	}
	from := 0 // where what is not written yet begins
	upTo := func(to int) { b, from = append(b, c.text[from:to]...), to }
	addStatus := !c.found
	switch {
	case !c.found:
	case c.status[0] == '{':
		upTo(c.statusEnd - 1)
		b = appendHost(b, c.inner, c.host, c.innerEmpty)
	case c.status[0] == 'n':
		upTo(c.statusEnd - len(c.status))
		b = append(appendHost(append(b, '{'), given{}, c.host, true), '}')
		from = c.statusEnd
	case !c.statusText:
		upTo(c.statusKey)
		b = append(b, `"status_text":`...)
		from = c.statusEnd - len(c.status)
		addStatus = true
	}
	upTo(c.end)
	before := len(b)
	b = appendHost(b, c.given, c.host, c.empty)
	if addStatus {
		if !c.empty || len(b) > before {
			b = append(b, ',')
		}
		b = append(appendHost(append(b, `"status":{`...), given{}, c.host, true), '}')
	}
	return append(b, c.text[c.end:]...)
}

func readStatus(status []byte) (g given, empty bool) {
	s := scan(status)
	defer s.done()
	empty = true
	s.enter()
	for s.next() {
		empty = false
		g.note(s.key)
	}
	return g, empty
}

// appendHost appends the pairs that are not given as members of an object, which is empty before them
// or not.
func appendHost(b []byte, g given, h host, empty bool) []byte {
	for _, pair := range [...]struct {
		members string
		given   bool
	}{{h.ip, g.ip}, {h.name, g.name}} {
		if pair.given || pair.members == "" {
			continue
		}
		if !empty {
			b = append(b, ',')
		}
		empty = false
		b = append(b, pair.members...)
	}
	return b
}
