package tlsid

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/serviceradar/poller/internal/check"
)

// What the files are for.
const (
	ownCertificate = "our own certificate (cert_file)"
	ownKey         = "the key of our own certificate (key_file)"
)

// files names what is read and checked together: our own certificate with its key, or the authorities that
// peers' certificates are checked against.
type files struct {
	cert, key string
	ca        string
	peers     string // whom the authorities are for, in words; empty for our own certificate
}

func own(id check.TLS) files { return files{cert: id.CertFile, key: id.KeyFile} }

func (f files) authorities() string { return "the authorities for " + f.peers + " (ca_file)" }

// contents is what is in files.
type contents struct{ cert, key, ca []byte }

func (f files) read() (c contents, err error) {
	if f.peers != "" {
		c.ca, err = read(f.ca, f.authorities())
		return c, err
	}
	var keyErr error
	c.cert, err = read(f.cert, ownCertificate)
	c.key, keyErr = read(f.key, ownKey)
	return c, both(err, keyErr)
}

// sum tells contents apart.
func (c contents) sum() [sha256.Size]byte {
	h := sha256.New()
	for _, data := range [][]byte{c.cert, c.key, c.ca} {
		part := sha256.Sum256(data)
		_, _ = h.Write(part[:]) // a hash never fails
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// source is what files came to. It is not changed any more.
type source struct {
	sum  [sha256.Size]byte // of their contents
	pair []tls.Certificate // our own, one
	pool *x509.CertPool    // of authorities
	// until is when our own certificate expires, or the last of the authorities.
	until time.Time
}

// usable tells whether there is a source, and it has not expired.
func (s *source) usable(now time.Time) bool { return s != nil && !now.After(s.until) }

// load reads files and checks what is in them.
func (f files) load(now time.Time) (*source, error) {
	c, err := f.read()
	if err != nil {
		return nil, err
	}
	return f.parse(c, now)
}

func (f files) parse(c contents, now time.Time) (*source, error) {
	src := &source{sum: c.sum()}
	var err error
	if f.peers != "" {
		src.pool, src.until, err = parseAuthorities(f, c.ca, now)
	} else {
		src.pair, src.until, err = parsePair(f, c, now)
	}
	if err != nil {
		return nil, err
	}
	return src, nil
}

// again returns what files come to now: the same source if nothing has changed in them.
func (s *source) again(f files, now time.Time) (*source, error) {
	c, err := f.read()
	if err == nil {
		same := c.sum() == s.sum
		if same && s.usable(now) {
			return s, nil
		}
		var src *source
		if src, err = f.parse(c, now); err == nil || same {
			return src, err
		}
	}
	if !s.usable(now) {
		return nil, fmt.Errorf("%w; what was read before has expired on %s, so that no connection can be made with it", err, date(s.until))
	}
	return nil, fmt.Errorf("%w; what was read before stays in use until it expires on %s", err, date(s.until))
}

func parsePair(f files, c contents, now time.Time) (pair []tls.Certificate, until time.Time, err error) {
	chain, err := certificates(c.cert, f.cert, ownCertificate)
	if err != nil {
		return nil, until, err
	}
	if err := checkKeyBlock(c.key, f.key); err != nil {
		return nil, until, err
	}
	loaded, err := tls.X509KeyPair(c.cert, c.key)
	if err != nil {
		return nil, until, pairError(f, err)
	}
	if err := checkDates(chain[0], f.cert, now); err != nil {
		return nil, until, err
	}
	return []tls.Certificate{loaded}, chain[0].NotAfter, nil
}

func parseAuthorities(f files, data []byte, now time.Time) (pool *x509.CertPool, until time.Time, err error) {
	found, err := certificates(data, f.ca, f.authorities())
	if err != nil {
		return nil, until, err
	}
	pool = x509.NewCertPool()
	for _, cert := range found {
		// One that has expired stays in: bundles keep old ones, and verification skips them.
		pool.AddCert(cert)
		if cert.NotAfter.After(until) {
			until = cert.NotAfter
		}
	}
	if now.After(until) {
		last := found[len(found)-1]
		return nil, until, fmt.Errorf("TLS file %s, %s: every certificate in it has expired (%s on %s): get the authority's current certificate",
			f.ca, f.authorities(), subject(last), date(last.NotAfter))
	}
	return pool, until, nil
}
