package discover

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Config says what a Set is made of.
type Config struct {
	// Sources have different IDs.
	Sources []Source
	// StateDir is the directory in which the last good lists outlive the process; it is made if only that itself is
	// missing. Empty means that they do not.
	StateDir string
	// Instance names this process among those with the same sources, so that not all of them ask a URL at the same
	// moment.
	Instance string
}

// Set is all sources together. It does not change: With makes another one.
type Set struct {
	store    *store
	instance string
	sources  map[string]*source
}

// New returns a Set with the lists that its sources had when the last process ended. What of that can't be read is no
// error, but in the Status; errors say what is wrong with the sources, all of it.
func New(cfg Config) (*Set, error) {
	s := &Set{store: &store{dir: cfg.StateDir}, instance: cfg.Instance}
	return s.With(cfg.Sources)
}

// With returns a Set with other sources. One that stays as it is, by its ID and all else, is shared by both; one that
// is changed keeps the lists of the documents that it still has.
func (s *Set) With(sources []Source) (*Set, error) {
	next := &Set{store: s.store, instance: s.instance, sources: make(map[string]*source, len(sources))}
	var wrong []error
	for i := range sources {
		def := &sources[i]
		if _, twice := next.sources[def.ID]; twice {
			wrong = append(wrong, fmt.Errorf("source %s: there are two of this ID", quoted(def.ID)))
			continue
		}
		made, err := s.source(def)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("source %s: %w", quoted(def.ID), err))
		}
		next.sources[def.ID] = made
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}
	return next, nil
}

func (s *Set) source(def *Source) (*source, error) {
	before := s.sources[def.ID]
	if before != nil && before.def.same(def) {
		return before, nil
	}
	if err := def.Validate(); err != nil {
		return nil, err
	}
	made, err := newSource(def, s.store, s.instance)
	if err != nil {
		return nil, err
	}
	if before != nil {
		made.inherit(before)
	} else {
		made.restore()
	}
	return made, nil
}

// Next returns when a source wants to be looked at next, whether or not anything changes; the zero time if at once.
// Without sources it is not ok.
func (s *Set) Next() (next time.Time, ok bool) {
	for _, src := range s.sources {
		if at := src.due(); !ok || at.Before(next) {
			next, ok = at, true
		}
	}
	return next, ok
}

// Due returns the IDs of the sources that want to be looked at by now, sorted.
func (s *Set) Due(now time.Time) []string {
	return slices.DeleteFunc(s.ids(), func(id string) bool { return s.sources[id].due().After(now) })
}

// Look looks at a source now, and returns whether its targets changed. It blocks while files are read and written,
// for a URL at most 30 s; looks at the same source wait for each other. If the context is cancelled the look does not
// count. A source that there is not has not changed.
func (s *Set) Look(ctx context.Context, id string, now time.Time) (changed bool) {
	src := s.sources[id]
	return src != nil && src.look(ctx, now)
}

// Targets returns the targets of each source, by its ID. They are shared, and must not be changed.
func (s *Set) Targets() map[string][]Target {
	all := make(map[string][]Target, len(s.sources))
	for id, src := range s.sources {
		all[id] = src.current()
	}
	return all
}

// Status is how a source is.
type Status struct {
	ID string
	// Kind is "file" or "http".
	Kind string
	// Targets is how many there are.
	Targets int
	// Good is when the last look was without an error; zero if there is none yet. After a restart it is the one at which
	// the lists last changed.
	Good time.Time
	// Err is why not all of the source can be read now, since Since; what can't be read has its last good list. Nil if
	// all is well.
	Err   error
	Since time.Time
	// Held is how many targets are not listed any more, but stay until a further look confirms it; since HeldSince.
	Held      int
	HeldSince time.Time
	// Warning says what is odd about the targets; empty if nothing is.
	Warning string
	// StateErr is why the lists would not outlive a restart, or, until there are new ones, why those of the last process
	// are not known.
	StateErr error
	// Next is when the source wants to be looked at; zero if at once.
	Next time.Time
}

// Status returns how all sources are, sorted by their IDs.
func (s *Set) Status() []Status {
	all := make([]Status, 0, len(s.sources))
	for _, id := range s.ids() {
		all = append(all, s.sources[id].status())
	}
	return all
}

// Prune removes from StateDir what was left by sources that are no more. To be called when the Set is in use, for the
// one before may have had them.
func (s *Set) Prune() error {
	if err := s.store.prune(s.ids()); err != nil {
		return fmt.Errorf("remove the lists of sources that are no more from %s: %w", s.store.dir, err)
	}
	return nil
}

func (s *Set) ids() []string { return slices.Sorted(maps.Keys(s.sources)) }
