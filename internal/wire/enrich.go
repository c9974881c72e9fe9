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

// appendData appends the checker's message as JSON: text is wrapped, nothing becomes an empty object,
// and objects get the keys of the host that they lack.
func appendData(b, message []byte, h host) []byte {
	message = trim(message)
	if len(message) == 0 {
		return appendEnriched(b, []byte("{}"), answer{empty: true, end: 1}, h)
	}
	a, isObject, err := read(message)
	switch {
	case err != nil:
		wrapped := append(appendQuoted([]byte(`{"message":`), string(message)), '}')
		return appendEnriched(b, wrapped, answer{end: len(wrapped) - 1}, h)
	case !isObject:
		return append(b, message...)
	}
	return appendEnriched(b, message, a, h)
}

// appendFailure appends what stands in for the checker's own words when there are none.
func appendFailure(b []byte, st *check.Status, h host) []byte {
	text := make([]byte, 0, 256) // mostly enough, and not on the heap
	text = appendQuoted(append(text, `{"error":`...), st.Detail)
	text = append(text, `,"reason":`...)
	text = append(appendQuoted(text, string(st.Reason)), '}')
	return appendEnriched(b, text, answer{end: len(text) - 1}, h)
}

// appendEnriched appends an object with the keys of the host.
func appendEnriched(b, object []byte, a answer, h host) []byte {
	if !h.known() {
		return append(b, object...)
	}
	from := 0 // where what is not written yet begins
	upTo := func(to int) { b, from = append(b, object[from:to]...), to }
	addStatus := !a.found
	switch {
	case !a.found:
	case a.status[0] == '{':
		upTo(a.statusEnd - 1)
		inner, empty := readStatus(a.status)
		b = appendHost(b, inner, h, empty)
	case a.status[0] == 'n':
		upTo(a.statusEnd - len(a.status))
		b = append(appendHost(append(b, '{'), given{}, h, true), '}')
		from = a.statusEnd
	case !a.statusText:
		upTo(a.statusKey)
		b = append(b, `"status_text":`...)
		from = a.statusEnd - len(a.status)
		addStatus = true
	}
	upTo(a.end)
	before := len(b)
	b = appendHost(b, a.given, h, a.empty)
	if addStatus {
		if !a.empty || len(b) > before {
			b = append(b, ',')
		}
		b = append(appendHost(append(b, `"status":{`...), given{}, h, true), '}')
	}
	return append(b, object[a.end:]...)
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
