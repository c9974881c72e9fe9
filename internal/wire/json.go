package wire

import (
	"bytes"
	"errors"
	"io"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// scanner walks over one JSON text where it stands: nothing is copied, no number or string is
// understood, so that what is taken from it is what was written. What it takes for JSON is what
// encoding/json does: equal keys and bytes that are not UTF-8 are let pass.
type scanner struct {
	buffer  bytes.Buffer
	decoder jsontext.Decoder
	text    []byte
	// key and value are the member that next has read; key is without its quotes and escapes, value
	// as it stands. At is where the key begins, quote included; they end at valueEnd.
	key, value   []byte
	at, valueEnd int
	err          error
}

var errMore = errors.New("there is more after the end of the JSON")

var scanners = sync.Pool{New: func() any { return new(scanner) }}

// scan begins to walk; done must follow.
func scan(text []byte) *scanner {
	s := scanners.Get().(*scanner)
	s.buffer, s.text, s.err = *bytes.NewBuffer(text), text, nil
	s.decoder.Reset(&s.buffer, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	return s
}

func (s *scanner) done() {
	s.buffer, s.text, s.key, s.value = bytes.Buffer{}, nil, nil, nil
	scanners.Put(s)
}

// kind tells what comes next: '{', '[', '"', '0', 't', 'f' or 'n'; 0 if it is no JSON or nothing.
func (s *scanner) kind() jsontext.Kind { return s.decoder.PeekKind() }

// enter steps into the object or the array that comes next.
func (s *scanner) enter() {
	if _, err := s.decoder.ReadToken(); err != nil {
		s.err = err
	}
}

// next reads the next member of an object; false at its end, or with the first error.
func (s *scanner) next() bool {
	if s.err != nil {
		return false
	}
	if s.kind() == '}' {
		s.enter()
		return false
	}
	key := s.skip()
	s.at = s.valueEnd - len(key)
	s.value = s.skip()
	if s.err != nil {
		return false
	}
	s.key = unquote(key)
	return true
}

// skip reads a value of any kind and returns it as it stands.
func (s *scanner) skip() []byte {
	value, err := s.decoder.ReadValue()
	if err != nil {
		s.err = err
		return nil
	}
	s.valueEnd = int(s.decoder.InputOffset())
	return s.text[s.valueEnd-len(value) : s.valueEnd]
}

// end wants the end of the text, and returns the first error there was.
func (s *scanner) end() error {
	if s.err != nil {
		return s.err
	}
	switch _, err := s.decoder.ReadToken(); {
	case err == nil:
		return errMore
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}

// maxDepth is how deep arrays and objects may be in one another for encoding/json, which core has.
const maxDepth = 10_000

var errDeep = errors.New("arrays and objects are too deep in one another")

// tooDeep tells whether a text would be too deep within core's envelope. It need not be JSON.
func tooDeep(text []byte) bool { return deeper(text, maxDepth) }

// deeper tells whether arrays and objects are in one another at so many levels, or more.
func deeper(text []byte, levels int) bool {
	if len(text) < levels {
		return false
	}
	depth, inString := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '[' || c == '{':
			if depth++; depth >= levels {
				return true
			}
		case c == ']' || c == '}':
			depth--
		}
	}
	return false
}

// trim cuts off the white space of JSON, which is less than Unicode's.
func trim(text []byte) []byte { return bytes.Trim(text, " \t\r\n") }

// unquote returns what a JSON string says. Few have anything escaped.
func unquote(text []byte) []byte {
	if bytes.IndexByte(text, '\\') < 0 {
		return text[1 : len(text)-1]
	}
	plain, _ := jsontext.AppendUnquote(nil, text) // it has been read: it is a string
	return plain
}
