package spool

import (
	"bytes"
	"errors"
	"fmt"
)

// damage is a part of a file that can't be read.
type damage struct {
	offset int64
	bytes  []byte
	number uint64 // of the report that it was; 0 if that is not known
	reason string
}

// scan reads a file's content. What is damaged does not hide what comes behind it. The only error
// is a *newerError.
func scan(name string, salt uint32, content []byte) (records []*record, damages []damage, err error) {
	for offset := 0; offset < len(content); {
		r, end, err := scanOne(name, salt, content, offset)
		if newer, ok := errors.AsType[*newerError](err); ok {
			return nil, nil, newer
		}
		if err != nil {
			d := damage{offset: int64(offset), bytes: content[offset:end], reason: err.Error()}
			if r != nil {
				d.number = r.number
			}
			damages = append(damages, d)
		} else {
			records = append(records, r)
		}
		offset = end
	}
	return records, damages, nil
}

// scanOne reads the record at offset, and says where it ends. With an error, the record is nil or has
// only what is known all the same.
func scanOne(name string, salt uint32, content []byte, offset int) (*record, int, error) {
	h, ok := readHeader(content[offset:], place{salt, int64(offset)})
	if !ok {
		end := nextHeader(salt, content, offset+1)
		return nil, end, errors.New(unreadable(content[offset:end], end == len(content)))
	}
	if h.version > formatVersion {
		return nil, 0, &newerError{file: name, version: h.version}
	}
	end := offset + headerSize + h.length
	if end > len(content) || end < offset {
		end = nextHeader(salt, content, offset+headerSize)
		return &record{number: h.number}, end, fmt.Errorf("%s is cut short: %d bytes of %d are there", h, end-offset-headerSize, h.length)
	}
	r, err := readContent(h, content[offset+headerSize:end])
	if err != nil || h.kind < kindReport || h.kind > kindDamage {
		return &record{number: h.number}, end, fmt.Errorf("the checksum of %s is wrong", h)
	}
	return r, end, nil
}

// nextHeader returns where the next record begins, or the end of the content.
func nextHeader(salt uint32, content []byte, from int) int {
	for from < len(content) {
		i := bytes.Index(content[from:], magic)
		if i < 0 {
			break
		}
		from += i
		if _, ok := readHeader(content[from:], place{salt, int64(from)}); ok {
			return from
		}
		from++
	}
	return len(content)
}

// unreadable says what can be said of something that begins with no header.
func unreadable(b []byte, last bool) string {
	switch {
	case len(bytes.Trim(b, "\x00")) == 0:
		return fmt.Sprintf("%d zeros: never written, as after a power failure, or not readable", len(b))
	case last && len(b) < headerSize:
		return fmt.Sprintf("%d bytes, too few for a record: it is cut short", len(b))
	}
	return fmt.Sprintf("the heading of a record is damaged, or these %d bytes were never wholly written", len(b))
}

func (h header) String() string {
	switch h.kind {
	case kindReport:
		return fmt.Sprintf("report number %d", h.number)
	case kindState:
		return "the record of the state"
	case kindAside:
		return "what was set aside"
	case kindDamage:
		return "the copy of damaged bytes"
	}
	return fmt.Sprintf("a record of kind %d", h.kind)
}
