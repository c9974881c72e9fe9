package discover

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"sync"
	"time"
)

// reader looks at a source's documents. Read is not called twice at the same time.
type reader interface {
	// read returns what a look at now came to, by where each document is from. Known are those that there were.
	read(ctx context.Context, known []string, now time.Time) map[string]sighting
	// covers tells whether a document may be one of the source's.
	covers(from string) bool
}

// source is one source and all that is known of it.
type source struct {
	def   Source
	docs  reader
	store *store
	phase time.Duration // of its looks, within a refresh

	looking sync.Mutex // held while one looks

	mu       sync.Mutex
	lists    map[string]*list // by where they are from
	targets  []Target         // all lists, merged
	warning  string           // what merging came to
	good     time.Time        // when the last look was without an error, or what the state says
	next     time.Time        // of the next look
	storeErr error            // why the state is not on disk, or was not read; nil if all is well
	dirty    bool             // the state on disk is older than the lists
}

func newSource(def *Source, store *store, instance string) (*source, error) {
	s := &source{def: *def, store: store, lists: make(map[string]*list)}
	s.def.Files = slices.Clone(def.Files)
	if def.isFile() {
		s.docs = newFiles(s.def.Files) // all at the same moments, for the process to wake up once
		return s, nil
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(instance + "\x00" + def.ID))
	s.phase = time.Duration(h.Sum64() % uint64(def.refresh())).Truncate(time.Second) //nolint:gosec // positive, and so is the rest
	var err error
	s.docs, err = newWeb(&s.def)
	return s, err
}

// restore takes the last good lists from the disk.
func (s *source) restore() {
	saved, err := s.store.load(s.def.ID)
	s.storeErr = err
	s.good = saved.Good
	for _, l := range saved.Lists {
		s.adopt(l.From, &list{targets: l.Targets})
	}
	s.targets, s.warning = merge(s.listed())
}

// inherit takes what another one knows, which had the same ID before the configuration was changed.
func (s *source) inherit(from *source) {
	from.mu.Lock()
	defer from.mu.Unlock()
	for name, l := range from.lists {
		known := *l
		s.adopt(name, &known)
	}
	if len(s.lists) > 0 {
		s.good = from.good
	}
	s.storeErr, s.dirty = from.storeErr, from.dirty
	s.targets, s.warning = merge(s.listed())
}

func (s *source) adopt(from string, l *list) {
	if s.docs.covers(from) {
		s.lists[from] = l
	}
}

// look looks at the source now, and returns whether its targets changed.
func (s *source) look(ctx context.Context, now time.Time) (changed bool) {
	s.looking.Lock()
	defer s.looking.Unlock()
	seen := s.docs.read(ctx, s.begin(now), now)
	if errors.Is(ctx.Err(), context.Canceled) {
		return false // what it came to says nothing of the source
	}
	changed, state := s.take(seen, now)
	if state != nil {
		err := s.store.save(state)
		s.mu.Lock()
		s.storeErr, s.dirty = err, err != nil
		s.mu.Unlock()
	}
	return changed
}

// begin puts off the next look, and returns where the documents are from that are known.
func (s *source) begin(now time.Time) (known []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = s.regular(now)
	return slices.Collect(maps.Keys(s.lists))
}

// regular returns the next moment after now at which the source is looked at in any case.
func (s *source) regular(now time.Time) time.Time {
	every := s.def.refresh()
	into := (time.Duration(now.UnixNano()) - s.phase) % every
	if into < 0 {
		into += every
	}
	return now.Add(every - into)
}

// take takes what a look came to. It returns what is to be saved, if there is something new.
func (s *source) take(seen map[string]sighting, now time.Time) (changed bool, save *state) {
	s.mu.Lock()
	defer s.mu.Unlock()
	failed := false
	for from, sight := range seen {
		l := s.lists[from]
		if l == nil {
			l = new(list)
			s.lists[from] = l
		}
		if l.see(sight, s.def.again(), now) {
			s.dirty, changed = true, true
		}
		if sight.gone && len(l.targets) == 0 {
			delete(s.lists, from)
		}
		failed = failed || sight.err != nil
	}
	for _, l := range s.lists {
		if at := l.next(now); !at.IsZero() && at.Before(s.next) {
			s.next = at
		}
	}
	if !failed {
		s.good = now
	}
	if changed {
		before := s.targets
		s.targets, s.warning = merge(s.listed())
		changed = !equalTargets(before, s.targets)
	}
	if s.dirty {
		save = s.state()
	}
	return changed, save
}

// listed returns the lists in the order in which they are merged.
func (s *source) listed() []listed {
	all := make([]listed, 0, len(s.lists))
	for _, from := range slices.Sorted(maps.Keys(s.lists)) {
		all = append(all, listed{from: from, targets: s.lists[from].targets})
	}
	return all
}

// state returns what is to outlive the process.
func (s *source) state() *state {
	saved := &state{Version: stateVersion, Source: s.def.ID, Good: s.good}
	for _, l := range s.listed() {
		if len(l.targets) > 0 {
			saved.Lists = append(saved.Lists, savedList{From: l.from, Targets: l.targets})
		}
	}
	return saved
}

// maxTold is how many errors of a source are told in full.
const maxTold = 3

// status returns how the source is.
func (s *source) status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{
		ID: s.def.ID, Kind: "http", Targets: len(s.targets), Good: s.good,
		Warning: s.warning, StateErr: s.storeErr, Next: s.next,
	}
	if s.def.isFile() {
		st.Kind = "file"
	}
	var wrong []error
	for _, from := range slices.Sorted(maps.Keys(s.lists)) {
		l := s.lists[from]
		if l.err != nil {
			wrong = append(wrong, l.err)
			st.Since = earlier(st.Since, l.since)
		}
		if l.held.lost > 0 {
			st.Held += l.held.lost
			st.HeldSince = earlier(st.HeldSince, l.held.since)
		}
	}
	if more := len(wrong) - maxTold; more > 0 {
		wrong = append(wrong[:maxTold], fmt.Errorf("and %d more", more))
	}
	st.Err = errors.Join(wrong...)
	return st
}

// earlier returns the earlier of two times; the zero time is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

func (s *source) due() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next
}

func (s *source) current() []Target {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.targets
}
