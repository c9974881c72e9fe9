package tlsid

import (
	"crypto/tls"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/serviceradar/poller/internal/check"
)

// lookEvery is how long a server goes on without looking whether its files have changed.
const lookEvery = time.Second

// ServerFiles is Server for callers that have file names and no mode: no files mean plaintext, a
// certificate with its key mode tls, and authorities besides mode mtls. The configuration follows the
// files: a handshake looks at them if a second has passed since the last look, and goes by what is new.
// Tell is told, during that handshake, nil if there is something new, or again what there was, and all is
// well; or why files can't be used, in whose place what was there before stays. The same is not told twice in a row.
func ServerFiles(certFile, keyFile, caFile string, tell func(error)) (*tls.Config, error) {
	id := check.TLS{Mode: check.TLSMutual, CertFile: certFile, KeyFile: keyFile, CAFile: caFile}
	switch {
	case certFile == "" && keyFile == "" && caFile == "":
		return nil, nil // a nil configuration means plaintext, as for Server
	case certFile == "" || keyFile == "":
		return nil, errors.New("TLS for a server needs a certificate file and a key file, and one of them is not given: " +
			"name both, or give no TLS file at all to serve plaintext")
	case caFile == "":
		id.Mode = check.TLSServer
	}
	return follow(id, tell, time.Now())
}

// following is the identity of a server that follows its files.
type following struct {
	id   check.TLS
	tell func(error)

	config atomic.Pointer[tls.Config] // what the files came to last

	looking sync.Mutex // held by the one handshake that looks
	sources map[files]*source
	looked  time.Time
	wrong   string // what was wrong at the last look; empty if nothing was
}

func follow(id check.TLS, tell func(error), now time.Time) (*tls.Config, error) {
	s := &following{id: id, tell: tell, sources: make(map[files]*source), looked: now}
	config, err := server(id, func(f files) (src *source, err error) {
		src, err = f.load(now)
		s.sources[f] = src
		return src, err
	})
	if err != nil {
		return nil, err
	}
	s.use(config)
	following := config.Clone()
	following.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.current(time.Now()), nil }
	return following, nil
}

// use has handshakes go by a configuration from now on.
func (s *following) use(config *tls.Config) {
	config.SessionTicketsDisabled = true // or a client could go on with a session from before
	s.config.Store(config)
}

// current is the configuration for a handshake. While one looks at the files, others go by what there is.
func (s *following) current(now time.Time) *tls.Config {
	if s.looking.TryLock() {
		defer s.looking.Unlock()
		if now.Sub(s.looked) >= lookEvery {
			s.looked = now
			s.look(now)
		}
	}
	return s.config.Load()
}

// look looks at the files; s.looking is held.
func (s *following) look(now time.Time) {
	var wrong error
	changed := false
	config, err := server(s.id, func(f files) (*source, error) {
		src, err := s.sources[f].again(f, now)
		if err != nil {
			wrong = both(wrong, err)
			return s.sources[f], nil
		}
		changed = changed || src != s.sources[f]
		s.sources[f] = src
		return src, nil
	})
	if wrong = both(wrong, err); err == nil && changed {
		s.use(config)
	}
	before := s.wrong
	if s.wrong = ""; wrong != nil {
		s.wrong = strings.ReplaceAll(wrong.Error(), date(now), "") // the time is another one at each look
	}
	if changed && wrong == nil || s.wrong != before {
		s.tell(wrong)
	}
}
