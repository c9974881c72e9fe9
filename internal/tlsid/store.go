package tlsid

import (
	"cmp"
	"crypto/tls"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/serviceradar/poller/internal/check"
)

// Store keeps the identities that the clients of a process have loaded: any number of connections share the parsed
// files. It never looks at a file by itself; Refresh does. A nil *Store keeps nothing.
type Store struct {
	// loading is held by whoever reads files or changes what is kept, so that nothing that Refresh has replaced is
	// put back by somebody who read it before. What is kept already is given out meanwhile.
	loading sync.Mutex
	renewed map[files]bool // was replaced since Refresh told of it last

	mu      sync.RWMutex // needed besides to change these
	sources map[files]*source
	users   map[check.TLS][]files // the identities, and what they use
}

// NewStore returns a Store without identities.
func NewStore() *Store {
	return &Store{renewed: make(map[files]bool), sources: make(map[files]*source), users: make(map[check.TLS][]files)}
}

var errNotKept = errors.New("not kept")

// Client returns what the function Client does. It reads files only if the identity is not kept yet, or has expired;
// if they can't be used, the next call reads them again.
func (s *Store) Client(id check.TLS, host string) (*tls.Config, error) {
	return s.client(id, host, time.Now())
}

func (s *Store) client(id check.TLS, host string, now time.Time) (*tls.Config, error) {
	if s == nil {
		return client(id, host, fromDisk(now))
	}
	if config, err := s.kept(id, host, now); !errors.Is(err, errNotKept) {
		return config, err
	}
	s.loading.Lock()
	defer s.loading.Unlock()
	loaded := make(map[files]*source)
	config, err := client(id, host, func(f files) (src *source, err error) {
		if src = s.sources[f]; !src.usable(now) {
			src, err = f.load(now)
		}
		loaded[f] = src
		return src, err
	})
	if err != nil {
		return nil, err
	}
	s.keep(loaded)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[id] = slices.Collect(maps.Keys(loaded))
	return config, nil
}

// kept is Client without reading files; errNotKept if it would have to.
func (s *Store) kept(id check.TLS, host string, now time.Time) (*tls.Config, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, known := s.users[id]
	return client(id, host, func(f files) (*source, error) {
		if src := s.sources[f]; known && src.usable(now) {
			return src, nil
		}
		return nil, errNotKept
	})
}

// keep puts sources in the place of those that there were; s.loading is held.
func (s *Store) keep(loaded map[files]*source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for f, src := range loaded {
		if old := s.sources[f]; old != nil && old != src {
			s.renewed[f] = true
		}
		s.sources[f] = src
	}
}

// Refresh reads the files of all identities again. What differs and can be used takes the place of what was there, for
// all that Client returns from then on. It returns the identities for which that is so, in no order; and an error for
// each certificate with its key, and each file of authorities, that can't be used, for as long as that lasts: what was
// there before stays in use then. The words of an error may have the time of day in them. A certificate and a key that
// do not match may be about to be replaced one after the other, and a file that is cut short about to be written: look
// again a moment later before telling anybody.
func (s *Store) Refresh(now time.Time) (changed []check.TLS, errs []error) {
	s.mu.RLock()
	before := maps.Clone(s.sources)
	s.mu.RUnlock()
	loaded := make(map[files]*source)
	for _, f := range slices.SortedFunc(maps.Keys(before), files.compare) { // nobody waits for these files
		src, err := before[f].again(f, now)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		loaded[f] = src
	}
	s.loading.Lock()
	defer s.loading.Unlock()
	maps.DeleteFunc(loaded, func(f files, _ *source) bool { return s.sources[f] != before[f] }) // read anew, or forgotten
	s.keep(loaded)
	for id, used := range s.users {
		if slices.ContainsFunc(used, func(f files) bool { return s.renewed[f] }) {
			changed = append(changed, id)
		}
	}
	clear(s.renewed)
	return changed, errs
}

func (f files) compare(g files) int {
	return cmp.Or(cmp.Compare(f.cert, g.cert), cmp.Compare(f.key, g.key), cmp.Compare(f.ca, g.ca))
}

// Retain forgets the identities that are no longer of use, and what only they used. Of must not call the Store.
func (s *Store) Retain(of func(check.TLS) bool) {
	s.loading.Lock()
	defer s.loading.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	used := make(map[files]bool)
	maps.DeleteFunc(s.users, func(id check.TLS, uses []files) bool {
		if !of(id) {
			return true
		}
		for _, f := range uses {
			used[f] = true
		}
		return false
	})
	maps.DeleteFunc(s.sources, func(f files, _ *source) bool { return !used[f] })
	maps.DeleteFunc(s.renewed, func(f files, _ bool) bool { return !used[f] })
}

// File is a file with certificates that is in use.
type File struct {
	Path string
	// Authorities: it has those that peers' certificates are checked against, else our own certificate.
	Authorities bool
	// NotAfter is when our own certificate expires, or the last of the authorities: bundles keep old ones.
	NotAfter time.Time
}

// Files returns the files with certificates that are in use, as they were when they were read, ordered by path.
func (s *Store) Files() []File {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var all []File
	for f, src := range s.sources {
		all = append(all, File{Path: cmp.Or(f.cert, f.ca), Authorities: f.peers != "", NotAfter: src.until})
	}
	slices.SortFunc(all, func(a, b File) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), a.NotAfter.Compare(b.NotAfter))
	})
	return all
}
