package wire

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/proto/monitoring"
)

// maxChunks bounds the chunks of one stream of results.
const maxChunks = 1 << 16

// listKeys are where a chunk that is an object may have its list; the first that is there counts.
var listKeys = [...]string{"hosts", "devices", "results", "entries", "data"}

// Results makes an answer of what GetResults returned.
func Results(c *check.Check, r *monitoring.ResultsResponse) check.Answer {
	return check.Answer{
		Available: r.GetAvailable(),
		Message:   r.GetData(),
		Sequence:  r.GetCurrentSequence(),
		Nothing:   c.Type == check.TypeSweep && !c.IsSync() && !r.GetHasNewData(),
	}
}

// Merger joins the chunks of StreamResults: the lists of all of them to one, which for type sweep
// stands under hosts in the object of the first chunk. Elements and other keys stay as they were
// written, in their order.
//
// While it works it holds the merged data and no more than a chunk besides, if the chunks are numbered
// and alike in size. If not, it holds up to 2.2 times that for a moment, now and then.
type Merger struct {
	check *check.Check
	limit int // bytes of merged data

	chunks   int32
	total    int32 // as the first chunk has it; 0 if they are not numbered
	began    bool  // a chunk had data
	elements bool  // the list has some
	merged   []byte
	suffix   []byte // what comes after the list
	sequence string
	final    bool
}

// NewMerger returns a Merger for the results of a check, which may have up to limit bytes.
func NewMerger(c *check.Check, limit int) *Merger { return &Merger{check: c, limit: limit} }

// Add takes the next chunk, and tells whether it was the last. After an error, which is a
// *check.Failure, the stream is of no use.
func (m *Merger) Add(chunk *monitoring.ResultsChunk) (last bool, err error) {
	if err := m.number(chunk); err != nil {
		return false, err
	}
	if sequence := chunk.GetCurrentSequence(); sequence != "" {
		m.sequence = sequence
	}
	if data := trim(chunk.GetData()); len(data) > 0 {
		if err := m.take(data); err != nil {
			return false, err
		}
	}
	m.chunks++
	m.final = chunk.GetIsFinal()
	return m.final, nil
}

// number holds a chunk's number against what is due. A checker that numbers none leaves all at 0.
func (m *Merger) number(chunk *monitoring.ResultsChunk) error {
	if m.chunks == 0 {
		m.total = chunk.GetTotalChunks()
	}
	index, total := chunk.GetChunkIndex(), chunk.GetTotalChunks()
	switch {
	case m.chunks == maxChunks || m.total > maxChunks:
		return check.Failf(check.TooLarge, nil, "the results come in more than %d chunks; let the checker send larger ones", maxChunks)
	case total != m.total:
		return m.broken("chunk %d of the results says that there are %d chunks, the first one said %d", m.chunks, total, m.total)
	case total == 0 && index == 0: // no numbers at all
	case index < m.chunks:
		return m.broken("chunk %d of the results came again, or late, where chunk %d was due", index, m.chunks)
	case index > m.chunks:
		return m.broken("chunk %d of the results came where chunk %d was due", index, m.chunks)
	case total == 0:
	case chunk.GetIsFinal() && index != total-1:
		return m.broken("the results end with chunk %d of %d", index, total)
	case !chunk.GetIsFinal() && index >= total-1:
		return m.broken("chunk %d of %d of the results is not said to be the last", index, total)
	}
	return nil
}

func (m *Merger) broken(format string, args ...any) error {
	return check.Failf(check.BadAnswer, nil, format+": nothing of them is reported; see the checker's log", args...)
}

// take joins a chunk's list to the others.
func (m *Merger) take(data []byte) error {
	l, err := readList(data)
	if err != nil {
		return m.broken("chunk %d of the results %v", m.chunks, err)
	}
	if l.empty { // so ServiceRadar's agent says that a sweep has no news
		return nil
	}
	prefix := []byte("[")
	if !m.began && m.check.Type == check.TypeSweep {
		prefix, m.suffix, err = l.around()
		if err != nil {
			return m.broken("chunk %d of the results %v", m.chunks, err)
		}
	} else if !m.began {
		m.suffix = []byte("]")
	}
	elements := trim(l.elements)
	size := len(m.merged) + len(elements) + len(m.suffix) + 1
	if !m.began {
		size += len(prefix)
	}
	if size > m.limit {
		return check.Failf(check.TooLarge, nil, "the results have more than %d bytes, which is what can be kept; let the checker answer less", m.limit)
	}
	m.reserve(size)
	if !m.began {
		m.began = true
		m.merged = append(m.merged, prefix...)
	}
	if len(elements) > 0 {
		if m.elements {
			m.merged = append(m.merged, ',')
		}
		m.elements = true
		m.merged = append(m.merged, elements...)
	}
	return nil
}

// reserve makes room for size bytes at least, and for all that is to come if that can be foretold:
// doubling a buffer of this size would take three times the memory for a moment.
func (m *Merger) reserve(size int) {
	if size <= cap(m.merged) {
		return
	}
	foretold := size + size/8
	if m.total > 0 {
		foretold = int(int64(size) * int64(m.total) / int64(m.chunks+1))
		foretold += foretold / 16
		// Not all at the word of a first small chunk.
		foretold = min(foretold, 16*size+1<<20)
	}
	grown := make([]byte, len(m.merged), min(max(foretold, size), m.limit))
	copy(grown, m.merged)
	m.merged = grown
}

// Answer returns the merged results after the last chunk; before that, that the stream ended too soon.
func (m *Merger) Answer() (check.Answer, error) {
	if !m.final {
		return check.Answer{}, m.broken("the stream of results ended after %d chunks, none of which was said to be the last", m.chunks)
	}
	a := check.Answer{Available: true, Sequence: m.sequence}
	switch {
	case m.began:
		a.Message = clipped(append(m.merged, m.suffix...))
	case m.check.Type == check.TypeSweep && !m.check.IsSync():
		// A stream can't say has_new_data=false. It says nothing at all.
		a.Nothing = true
	default:
		a.Message = []byte("[]")
	}
	return a, nil
}

// clipped returns b without the room behind it, if that is much: it was foretold wrongly.
func clipped(b []byte) []byte {
	if cap(b)-len(b) > len(b)/4 {
		return bytes.Clone(b)
	}
	return b
}

// list is where a chunk has its elements.
type list struct {
	empty    bool   // the chunk is an empty object, and has no list
	elements []byte // without the brackets
	// object is the whole chunk if the list stands in it from at, its key included, to end.
	object  []byte
	at, end int
	hosts   bool // another member is called hosts
}

// readList finds the list in a chunk, an array or an object.
func readList(data []byte) (list, error) {
	s := scan(data)
	defer s.done()
	kind := s.kind()
	if kind == '{' {
		return readListOf(s, data)
	}
	value := s.skip()
	if err := s.end(); err != nil {
		return list{}, fmt.Errorf("is no JSON: %w", err)
	}
	if kind != '[' && kind != 'n' {
		return list{}, fmt.Errorf("is neither a list nor an object with one, but %s", excerpt(data))
	}
	return list{elements: elementsOf(value)}, nil
}

// readListOf finds the list in an object. One that is null is an empty one.
func readListOf(s *scanner, data []byte) (list, error) {
	l := list{object: data}
	best, members := none, 0
	var seen [len(listKeys)]bool
	s.enter()
	for s.next() {
		members++
		place := slices.Index(listKeys[:], string(s.key))
		if place < 0 {
			continue
		}
		if seen[place] {
			return list{}, fmt.Errorf("has %q twice: %s", listKeys[place], excerpt(data))
		}
		seen[place] = true
		if rank := rankOf(place, s.value); rank < best {
			best, l.at, l.end, l.elements = rank, s.at, s.valueEnd, elementsOf(s.value)
		}
	}
	if err := s.end(); err != nil {
		return list{}, fmt.Errorf("is no JSON: %w", err)
	}
	if members == 0 {
		return list{empty: true}, nil
	}
	if best == none {
		return list{}, fmt.Errorf("has no list under %q: %s", listKeys, excerpt(data))
	}
	l.hosts = seen[0] && best%len(listKeys) != 0
	return l, nil
}

// none is the rank of what is no list.
const none = 2 * len(listKeys)

// rankOf returns the rank of a value as the list: by the place of its key among listKeys, and a null
// after all arrays.
func rankOf(place int, value []byte) int {
	switch value[0] {
	case '[':
		return place
	case 'n':
		return place + len(listKeys)
	}
	return none
}

// elementsOf returns what is between the brackets; nothing of null.
func elementsOf(value []byte) []byte {
	if value[0] != '[' {
		return nil
	}
	return value[1 : len(value)-1]
}

// around returns what stands before and after the elements in a sweep.
func (l *list) around() (before, after []byte, err error) {
	if l.object == nil {
		return []byte(`{"hosts":[`), []byte("]}"), nil
	}
	if l.hosts {
		return nil, nil, fmt.Errorf(`has its list under another key, and "hosts" besides, where the list has to go: %s`, excerpt(l.object))
	}
	before = append(bytes.Clone(l.object[:l.at]), `"hosts":[`...)
	after = append([]byte("]"), l.object[l.end:]...)
	return before, after, nil
}

// excerpt is as much of a text as fits into a message.
func excerpt(text []byte) string {
	const most = 100
	if len(text) > most {
		return fmt.Sprintf("%q …", text[:most])
	}
	return fmt.Sprintf("%q", text)
}
