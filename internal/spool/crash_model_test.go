package spool

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"
)

// promise is a Disk on a disk that crashes, and what the package's comment promises of it, in plain
// form: which reports there have to be, and which there may be.
type promise struct {
	t       rapid.TB
	cfg     Config
	c       *crashFiles
	disk    *Disk
	segment int64 // the size of the largest segments that there may be
	// memoryLimit is the Disk's, if it is not 0.
	memoryLimit int64
	openFailing func(*crashFiles) // opens what is left by a crash, before that is looked at
	faulty      bool              // the disk failed some time
	failing     bool              // it fails now

	kept []entry // in order
	// gone are done, in order, and may come again after a loss of power; if marksFail, after a kill, too.
	gone      []entry
	marksFail bool
	lent      int // its number; 0 is none
	// states are what the state may be: first the one that is sure, last the one that was appended last.
	states []map[string]string
	asides map[string]bool // what was set aside and not dropped
	boot   uint64
	now    time.Time
	n      int // numbers the reports
	ends   int // since there was a new report

	// While the operation under way did not return, and what it left is not settled by an opening:
	adding    *entry // it is being appended,
	old       []int  // for which these are too old
	acking    int    // this is being acknowledged
	forgetful bool   // what was done while it was in memory only may have left its part of the state behind, or not
	forgot    bool   // the copy of something damaged was dropped, so that it may be told again
	lost      int    // is told at the next opening
	failed    bool   // the disk did, before the opening
	strange   string // what was told without a reason
}

// entry is a report that was appended.
type entry struct {
	n     int
	id    string
	at    time.Time
	body  []byte
	state map[string]string
	sure  bool // Append returned, and Safe was nil
	// doubtful: the disk failed to write it, and then the process was killed, so that nobody knows that any more.
	doubtful bool
}

func (e entry) bytes() int64 {
	return (&record{kind: kindReport, id: e.id, at: e.at, state: e.state, body: e.body}).size()
}

func total(entries []entry) (sum int64) {
	for _, e := range entries {
		sum += e.bytes()
	}
	return sum
}

func newPromise(t rapid.TB, cfg Config) *promise {
	m := &promise{
		t: t, cfg: cfg, segment: segmentSize(cfg), c: newCrashFiles(), states: []map[string]string{{}}, asides: make(map[string]bool), now: start,
	}
	m.cfg.Tell = m.tell
	return m
}

// tell holds that nothing is told that a crash does not explain.
func (m *promise) tell(e Event) {
	if dropped, ok := e.(AsideDropped); ok {
		m.forsake(dropped.ID)
		return
	}
	if m.c.dead {
		return
	}
	switch e := e.(type) {
	case PositionUnsafe:
		m.marksFail = e.Err != nil
	case Lost:
		if m.disk == nil && e.Reports == m.lost {
			return
		}
		m.strange = fmt.Sprintf("%T%+v", e, e)
	case Unfinished:
		return
	case Damaged:
		if m.forgot || m.failed {
			return
		}
	}
	if !m.faulty {
		m.strange = fmt.Sprintf("%T%+v", e, e)
	}
}

func (m *promise) forsake(id string) {
	delete(m.asides, id)
	m.forgot = m.forgot || !strings.HasPrefix(id, "r")
}

// setBounds changes the bounds, as for the process, so for those that come after it.
func (m *promise) setBounds(cfg Config) {
	m.disk.SetBounds(cfg)
	cfg.Tell = m.cfg.Tell
	m.cfg, m.segment = cfg, max(m.segment, segmentSize(cfg))
}

func (m *promise) fresh() entry {
	m.n++
	return entry{n: m.n, id: fmt.Sprint("r", m.n)}
}

// append appends a report, so long after the last, with a value of the state if there is a key.
func (m *promise) append(size int, after time.Duration, key string) {
	e := m.fresh()
	m.now = m.now.Add(after)
	e.at, e.body = m.now, body(e.id, size)
	if key != "" {
		e.state = map[string]string{key: e.id}
	}
	m.adding, m.old = &e, m.tooOld()
	tooOld, noRoom, err := m.disk.Append(e.id, e.at, e.body, e.state)
	if m.c.dead {
		return
	}
	m.adding = nil
	if err != nil {
		m.t.Fatalf("Append %s: %v", e.id, err)
	}
	dropped := m.drop(m.old)
	if got, want := tooOld, ids(dropped); !slices.Equal(got, want) {
		m.t.Fatalf("Append %s dropped %q for their age, want %q", e.id, got, want)
	}
	m.appended(e, noRoom, len(tooOld) > 0)
	if err := m.disk.Safe(); err != nil && !m.failing {
		m.t.Fatalf("not safe, and the disk works: %v", err)
	}
}

// tooOld are the first that are.
func (m *promise) tooOld() (numbers []int) {
	for _, e := range m.kept {
		if m.now.Sub(e.at) <= m.cfg.MaxAge {
			break
		}
		if e.n != m.lent {
			numbers = append(numbers, e.n)
		}
	}
	return numbers
}

// drop takes reports out. They may come again only if that can't be recorded.
func (m *promise) drop(numbers []int) (dropped []entry) {
	m.kept = slices.DeleteFunc(m.kept, func(e entry) bool {
		if !slices.Contains(numbers, e.n) {
			return false
		}
		dropped = append(dropped, e)
		return true
	})
	m.done(dropped)
	return dropped
}

func (m *promise) done(entries []entry) {
	m.gone = append(m.gone, entries...)
	m.forgetful = m.forgetful || slices.ContainsFunc(entries, func(e entry) bool { return !e.sure })
	slices.SortFunc(m.gone, func(a, b entry) int { return cmp.Compare(a.n, b.n) })
}

func ids(entries []entry) (ids []string) {
	for _, e := range entries {
		ids = append(ids, e.id)
	}
	return ids
}

// appended takes over what Append returned.
func (m *promise) appended(e entry, noRoom []string, durable bool) {
	refused := len(noRoom) > 0 && noRoom[len(noRoom)-1] == e.id
	if refused {
		noRoom = noRoom[:len(noRoom)-1]
	}
	dropped := m.head(len(noRoom))
	if !slices.Equal(ids(dropped), noRoom) {
		m.t.Fatalf("Append %s dropped %q, not the oldest: %q", e.id, noRoom, ids(dropped))
	}
	if complaint := m.unfair(e, dropped, refused); complaint != "" {
		m.t.Fatalf("Append %s (%d bytes, %d of %d are taken, lent %d) dropped %q, refused %v: %s",
			e.id, e.bytes(), total(m.kept), m.cfg.MaxBytes, m.lent, noRoom, refused, complaint)
	}
	m.drop(numbersOf(dropped))
	if (durable || len(dropped) > 0) && !m.marksFail {
		m.gone = nil
	}
	after := maps.Clone(m.states[len(m.states)-1])
	maps.Copy(after, e.state)
	switch {
	case refused && !m.faulty:
	case refused: // but it may have been written
		m.forgetful = true
		m.states = slices.Insert(m.states, len(m.states)-1, after)
	default:
		m.kept = append(m.kept, e)
		m.states = append(m.states, after)
		m.ends = 0
	}
	m.settle()
}

// settle makes sure what Safe says is.
func (m *promise) settle() {
	err := m.disk.Safe()
	if err != nil {
		if !m.faulty {
			m.t.Fatalf("not safe: %v", err)
		}
		return
	}
	for i := range m.kept {
		m.kept[i].sure = !m.kept[i].doubtful
	}
	if !m.forgetful {
		m.states = m.states[len(m.states)-1:]
	}
}

func numbersOf(entries []entry) (numbers []int) {
	for _, e := range entries {
		numbers = append(numbers, e.n)
	}
	return numbers
}

// head returns the first n that may be dropped.
func (m *promise) head(n int) (entries []entry) {
	for _, e := range m.kept {
		if e.n != m.lent && len(entries) < n {
			entries = append(entries, e)
		}
	}
	return entries
}

// slack is how much more than needed may be dropped: a segment.
func (m *promise) slack(dropped []entry) int64 {
	var largest int64
	for _, e := range dropped {
		largest = max(largest, e.bytes())
	}
	return m.segment + largest
}

// unfair says what is wrong with what was dropped for want of room.
func (m *promise) unfair(e entry, dropped []entry, refused bool) string {
	var lent, unsafe int64
	for _, k := range m.kept {
		if k.n == m.lent {
			lent = k.bytes()
		}
		if !k.sure {
			unsafe += k.bytes()
		}
	}
	need := total(m.kept) + e.bytes() - m.cfg.MaxBytes
	canFit := !m.cfg.DropNewest && lent+e.bytes() <= m.cfg.MaxBytes
	if m.failing && (canFit || m.cfg.DropNewest) && (m.disk.Safe() != nil || !m.cfg.DropNewest) {
		if inMemory := unsafe + e.bytes() - m.memoryLimit; inMemory > 0 && (unsafe > 0 || !m.cfg.DropNewest) {
			return m.unfairInMemory(dropped, refused)
		}
	}
	// What is kept may be too much by itself, since the bounds were changed.
	over := min(total(m.kept)-m.cfg.MaxBytes, total(m.kept)-lent)
	if m.cfg.DropNewest {
		over = 0
	}
	switch {
	case need > 0 && !canFit:
		if !refused || over <= 0 && len(dropped) > 0 {
			return "it had to be refused, and nothing else"
		}
		if total(dropped) < over || over > 0 && total(dropped)-over >= m.slack(dropped) {
			return fmt.Sprintf("%d bytes are dropped, and %d are too much", total(dropped), over)
		}
	case refused:
		return "there was room"
	case total(dropped) < need:
		return "too little is dropped"
	case len(dropped) > 0 && total(dropped)-max(need, 0) >= m.slack(dropped), need <= 0 && len(dropped) > 0:
		return fmt.Sprintf("too much is dropped: %d bytes for %d", total(dropped), need)
	}
	return ""
}

func (m *promise) unfairInMemory(dropped []entry, refused bool) string {
	switch {
	case m.cfg.DropNewest && (!refused && len(m.disk.pending) > 1 && m.disk.pendingBytes > m.memoryLimit || len(dropped) > 0):
		return "memory is full: it had to be refused"
	case !m.cfg.DropNewest && refused && m.disk.head() == nil && len(m.head(len(m.kept))) > len(dropped):
		return "memory is full: others had to be dropped"
	}
	return ""
}

// again appends what was appended before.
func (m *promise) again(n int) {
	id := fmt.Sprint("r", n)
	if !slices.ContainsFunc(m.disk.recent.ids, func(a appended) bool { return a.id == id }) {
		return // by a predecessor
	}
	_, refused := m.disk.recent.find(id)
	tooOld, noRoom, err := m.disk.Append(id, m.now, []byte("again"), map[string]string{"again": "!"})
	if len(tooOld) > 0 || len(noRoom) > 0 != refused || err != nil {
		m.t.Fatalf("Append %s again: %q, %q, %v", id, tooOld, noRoom, err)
	}
}

func (m *promise) next() {
	id, got, ok, err := m.disk.Next()
	if m.c.dead {
		return
	}
	if err != nil {
		m.t.Fatalf("Next: %v", err)
	}
	if ok != (len(m.kept) > 0) {
		m.t.Fatalf("Next: %v with %d reports", ok, len(m.kept))
	}
	if !ok {
		return
	}
	if want := m.kept[0]; id != want.id || string(got) != string(want.body) {
		m.t.Fatalf("Next is %s, want %s; or its body is %q", id, want.id, got)
	}
	m.lent = m.kept[0].n
}

func (m *promise) ack() {
	if len(m.kept) == 0 {
		m.disk.Ack("nobody")
		return
	}
	first := m.kept[0]
	m.acking = first.n
	m.disk.Ack(first.id)
	if m.c.dead {
		return
	}
	m.acking, m.lent = 0, 0
	m.kept = m.kept[1:]
	m.done([]entry{first})
	m.settle()
}

// setAside sets a part of the report that is lent aside.
func (m *promise) setAside(size int) {
	id := fmt.Sprint("r", m.lent, "/", m.n)
	err := m.disk.SetAside(id, body(id, size), "no")
	if m.c.dead || m.failing && err != nil {
		return
	}
	if err != nil {
		m.t.Fatalf("SetAside: %v", err)
	}
	m.asides[id] = true
}

// look holds that Kept agrees, and that nothing piles up.
func (m *promise) look() {
	if m.c.dead || m.disk == nil {
		return
	}
	if m.strange != "" {
		m.t.Fatalf("told: %s", m.strange)
	}
	if n, bytes := m.disk.Kept(); n != len(m.kept) || bytes != total(m.kept) {
		m.t.Fatalf("Kept: %d reports of %d bytes, want %d of %d", n, bytes, len(m.kept), total(m.kept))
	}
	holding := Holding{Reports: len(m.kept), Bytes: total(m.kept)}
	if len(m.kept) > 0 {
		holding.Oldest = m.kept[0].at
	}
	if got := m.disk.Holding(); got.Reports != holding.Reports || got.Bytes != holding.Bytes || !got.Oldest.Equal(holding.Oldest) {
		m.t.Fatalf("Holding: %+v, want %+v", got, holding)
	}
	if m.memoryLimit > 0 && m.lent == 0 && len(m.disk.pending) > 1 && m.disk.pendingBytes > m.memoryLimit {
		m.t.Fatalf("%d bytes are kept in memory", m.disk.pendingBytes)
	}
	if n := m.c.openFiles(); n > 2 {
		m.t.Fatalf("%d files are open", n)
	}
	if n := len(m.c.names); !m.faulty && n > len(m.kept)+len(m.disk.aside)+4+2*m.ends { // the marks, the reserve, the last segment, one that is replaced
		m.t.Fatalf("%d files for %d reports: %v", n, len(m.kept), slices.Sorted(maps.Keys(m.c.names)))
	}
}
