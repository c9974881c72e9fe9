package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"math"
	"slices"
	"time"
)

// A record is what files of the spool are made of. All numbers are little-endian:
//
//	 0  magic           4 bytes
//	 4  format version  1
//	 5  kind            1
//	 6  content length  4
//	10  number          8, of a report, else 0
//	18  CRC32C          4, of the content
//	22  CRC32C          4, of the place and of all the above
//	26  content
//
// The place is the file's salt and the record's offset in it: so what looks like a record within a
// report is not mistaken for one when a damaged file is searched for the next. The first 26 bytes
// stay as they are in all versions, so that any version recognizes a newer one.
type record struct {
	kind   kind
	number uint64 // of a report in the order of appending; 0 if it has none
	id     string // the report's, or that of the part of it that was set aside
	at     time.Time
	state  map[string]string
	// why something is aside, and since when.
	reason string
	since  time.Time
	body   []byte
}

// kind tells what a record is.
type kind byte

const (
	// kindReport is a report: id, at, state and body.
	kindReport kind = 1 + iota
	// kindState is what all earlier segments made of the state.
	kindState
	// kindAside is a report, or a part of one, that core refuses for good: id, at, since, reason, body.
	kindAside
	// kindDamage is what of a segment could not be read: id is the segment's name; since, reason, body.
	kindDamage
)

const (
	formatVersion = 1
	headerSize    = 26
)

var (
	magic      = []byte{0xd8, 'p', 'q', 0x1a}
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// errDamaged is why something is no record.
var errDamaged = errors.New("damaged")

// newerError says that a newer version wrote this.
type newerError struct {
	file    string
	version byte
}

func (e *newerError) Error() string {
	return fmt.Sprintf("%s has format %d, and this poller knows no newer one than %d: run the poller that wrote it until all is delivered, or give this one another state_dir; nothing was changed",
		e.file, e.version, formatVersion)
}

// place is where a record stands.
type place struct {
	salt   uint32
	offset int64
}

func (p place) seed() uint32 {
	var b [12]byte
	binary.LittleEndian.PutUint32(b[:], p.salt)
	binary.LittleEndian.PutUint64(b[4:], uint64(p.offset)) //nolint:gosec // an offset
	return crc32.Checksum(b[:], castagnoli)
}

// header is the beginning of a record.
type header struct {
	version byte
	kind    kind
	length  int
	number  uint64
	sum     uint32 // of the content
}

// readHeader returns the header at the beginning of b; false if there is none, or a damaged one.
func readHeader(b []byte, at place) (header, bool) {
	if len(b) < headerSize || !bytes.HasPrefix(b, magic) ||
		crc32.Update(at.seed(), castagnoli, b[:22]) != binary.LittleEndian.Uint32(b[22:]) {
		return header{}, false
	}
	return header{
		version: b[4],
		kind:    kind(b[5]),
		length:  int(binary.LittleEndian.Uint32(b[6:])),
		number:  binary.LittleEndian.Uint64(b[10:]),
		sum:     binary.LittleEndian.Uint32(b[18:]),
	}, true
}

// appendTo appends the record to a file's content b, which begins at offset.
func (r *record) appendTo(b []byte, salt uint32, offset int64) []byte {
	return append(r.appendHead(b, place{salt: salt, offset: offset + int64(len(b))}), r.body...)
}

// appendHead appends the record as far as its body.
func (r *record) appendHead(b []byte, at place) []byte {
	start := len(b)
	b = append(b, make([]byte, headerSize)...)
	b = r.appendAbout(b)
	h, about := b[start:start+headerSize], b[start+headerSize:]
	length := len(about) + len(r.body)
	if length > math.MaxUint32 {
		panic(fmt.Sprintf("spool: a report of %d bytes", length))
	}
	copy(h, magic)
	h[4], h[5] = formatVersion, byte(r.kind)
	binary.LittleEndian.PutUint32(h[6:], uint32(length))
	binary.LittleEndian.PutUint64(h[10:], r.number)
	binary.LittleEndian.PutUint32(h[18:], crc32.Update(crc32.Checksum(about, castagnoli), castagnoli, r.body))
	binary.LittleEndian.PutUint32(h[22:], crc32.Update(at.seed(), castagnoli, h[:22]))
	return b
}

// appendAbout appends what of the content comes before the body: what each kind has; the rest is empty.
func (r *record) appendAbout(b []byte) []byte {
	b = appendText(b, r.id)
	b = appendTime(b, r.at)
	b = appendTime(b, r.since)
	b = appendText(b, r.reason)
	b = binary.AppendUvarint(b, uint64(len(r.state)))
	for _, key := range slices.Sorted(maps.Keys(r.state)) {
		b = appendText(appendText(b, key), r.state[key])
	}
	return b
}

// size is what the record takes in a file.
func (r *record) size() int64 {
	n := headerSize + textSize(r.id) + timeSize(r.at) + timeSize(r.since) + textSize(r.reason) + uvarintSize(len(r.state)) + len(r.body)
	for key, value := range r.state {
		n += textSize(key) + textSize(value)
	}
	return int64(n)
}

// readContent takes apart what appendAbout made, and the body behind it. Texts are copies; the body is a part of b.
func readContent(h header, b []byte) (*record, error) {
	if crc32.Checksum(b, castagnoli) != h.sum {
		return nil, errDamaged
	}
	in := &reader{rest: b}
	r := &record{kind: h.kind, number: h.number, id: in.text(), at: in.time(), since: in.time(), reason: in.text()}
	if n := in.uvarint(); n > 0 && n <= uint64(len(in.rest)) {
		r.state = make(map[string]string, n)
		for range n {
			key := in.text()
			r.state[key] = in.text()
		}
	}
	if in.failed {
		return nil, errDamaged
	}
	r.body = in.rest
	return r, nil
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func textSize(s string) int { return uvarintSize(len(s)) + len(s) }

func uvarintSize(n int) int {
	var b [binary.MaxVarintLen64]byte
	return binary.PutUvarint(b[:], uint64(n)) //nolint:gosec // a length
}

// appendTime appends a time as nanoseconds since 1970; the zero time as none.
func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return binary.AppendUvarint(b, 0)
	}
	return binary.LittleEndian.AppendUint64(binary.AppendUvarint(b, 8), uint64(t.UnixNano()))
}

func timeSize(t time.Time) int {
	if t.IsZero() {
		return 1
	}
	return 1 + 8
}

// reader takes a content apart; after a failure all it returns is empty.
type reader struct {
	rest   []byte
	failed bool
}

func (r *reader) uvarint() uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.fail()
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *reader) take() []byte {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.fail()
		return nil
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *reader) text() string { return string(r.take()) }

func (r *reader) time() time.Time {
	b := r.take()
	if len(b) != 8 {
		if len(b) != 0 {
			r.fail()
		}
		return time.Time{}
	}
	return time.Unix(0, int64(binary.LittleEndian.Uint64(b))) //nolint:gosec // as it was written
}

func (r *reader) fail() { r.rest, r.failed = nil, true }
