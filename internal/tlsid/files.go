package tlsid

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/serviceradar/poller/internal/check"
)

// maxFile bounds what is read of a file: the largest bundles of authorities have well below 1 MiB,
// and a path that is a device or a log by mistake should not fill the memory.
const maxFile = 8 << 20

const certificateBlock = "CERTIFICATE"

// loadPair loads our own certificate with its key.
func loadPair(id check.TLS, now time.Time) (tls.Certificate, error) {
	certPEM, err := read(id.CertFile, "our own certificate (cert_file)")
	keyPEM, keyErr := read(id.KeyFile, "the key of our own certificate (key_file)")
	if err = both(err, keyErr); err != nil {
		return tls.Certificate{}, err
	}
	chain, err := certificates(certPEM, id.CertFile, "our own certificate (cert_file)")
	if err != nil {
		return tls.Certificate{}, err
	}
	if err := checkKeyBlock(keyPEM, id.KeyFile); err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return tls.Certificate{}, pairError(id, err)
	}
	if err := checkDates(chain[0], id.CertFile, now); err != nil {
		return tls.Certificate{}, err
	}
	return pair, nil
}

// loadAuthorities loads the certificates that peers' certificates are checked against.
func loadAuthorities(file, peers string, now time.Time) (*x509.CertPool, error) {
	purpose := "the authorities for " + peers + " (ca_file)"
	data, err := read(file, purpose)
	if err != nil {
		return nil, err
	}
	found, err := certificates(data, file, purpose)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	alive := false
	for _, cert := range found {
		// One that has expired stays in: bundles keep old ones, and verification skips them.
		pool.AddCert(cert)
		alive = alive || !now.After(cert.NotAfter)
	}
	if !alive {
		last := found[len(found)-1]
		return nil, fmt.Errorf("TLS file %s, %s: every certificate in it has expired (%s on %s): get the authority's current certificate",
			file, purpose, subject(last), date(last.NotAfter))
	}
	return pool, nil
}

// both returns what is wrong, on one line if it is two things.
func both(a, b error) error {
	if a == nil || b == nil {
		return cmp.Or(a, b)
	}
	return fmt.Errorf("%w; %w", a, b)
}

func read(file, purpose string) ([]byte, error) {
	if file == "" {
		return nil, fmt.Errorf("TLS needs a file with %s, and none is set: set it to the path of a PEM file", purpose)
	}
	// Looked at before it is opened: to open a pipe would wait for its other end.
	info, err := os.Stat(file)
	if err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("TLS file %s, %s: it is not a regular file: name a PEM file", file, purpose)
	}
	if err == nil && info.Size() > maxFile {
		return nil, fmt.Errorf("TLS file %s, %s: it has %d bytes, far more than any such file: name a PEM file",
			file, purpose, info.Size())
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(file) //nolint:gosec // the operator chooses the file
	}
	if err != nil {
		return nil, readError(file, purpose, err)
	}
	return data, nil
}

func readError(file, purpose string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("TLS file %s, %s: there is no such file: check the path: %w",
			file, purpose, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("TLS file %s, %s: no permission to read it: let the user that this process runs as read it: %w",
			file, purpose, err)
	}
	return fmt.Errorf("TLS file %s, %s: it can't be read: %w", file, purpose, err)
}

// certificates returns the certificates in data, at least one.
func certificates(data []byte, file, purpose string) ([]*x509.Certificate, error) {
	var found []*x509.Certificate
	var others []string
	for rest := data; ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		if block.Type != certificateBlock {
			others = append(others, block.Type)
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("TLS file %s, %s: certificate %d in it can't be parsed: issue or copy it again: %w",
				file, purpose, len(found)+1, err)
		}
		found = append(found, cert)
	}
	if len(found) > 0 {
		return found, nil
	}
	return nil, fmt.Errorf("TLS file %s, %s: no PEM block of type %s in it (%s): %s",
		file, purpose, certificateBlock, holds(data, others), hintForBlocks(others))
}

// checkKeyBlock finds what the standard library would call by a less helpful name.
func checkKeyBlock(data []byte, file string) error {
	const purpose = "the key of our own certificate (key_file)"
	var others []string
	for rest := data; ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
			return fmt.Errorf("TLS file %s, %s: the key is encrypted, and nobody is there to type a password: "+
				"decrypt it with openssl pkey -in FILE -out NEWFILE, readable for this process only", file, purpose)
		}
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			return nil
		}
		others = append(others, block.Type)
	}
	return fmt.Errorf("TLS file %s, %s: no PEM block of a PRIVATE KEY in it (%s): %s",
		file, purpose, holds(data, others), hintForBlocks(others))
}

func holds(data []byte, blocks []string) string {
	switch {
	case len(bytes.TrimSpace(data)) == 0:
		return "the file is empty"
	case len(blocks) == 0:
		return "there is no PEM block at all"
	}
	return "it holds " + strings.Join(blocks, ", ")
}

func hintForBlocks(blocks []string) string {
	if len(blocks) > 0 {
		return "check whether the certificate's and the key's file are swapped"
	}
	return "name a PEM file; one in DER form can be converted with openssl x509 or openssl pkey, -inform DER"
}

func pairError(id check.TLS, err error) error {
	// The library has no error value for this most common of mistakes.
	if strings.Contains(err.Error(), "does not match") {
		return fmt.Errorf("TLS file %s, the key of our own certificate (key_file): "+
			"it is not the key of the certificate in %s: use the two files that were issued together: %w",
			id.KeyFile, id.CertFile, err)
	}
	return fmt.Errorf("TLS files %s and %s, our own certificate and its key (cert_file, key_file): they can't be used together: %w",
		id.CertFile, id.KeyFile, err)
}

func checkDates(cert *x509.Certificate, file string, now time.Time) error {
	var why, todo string
	switch {
	case now.After(cert.NotAfter):
		why, todo = "it has expired", "issue a new one"
	case now.Before(cert.NotBefore):
		why, todo = "it is not valid yet", "check this machine's clock, or wait"
	default:
		return nil
	}
	return fmt.Errorf("TLS file %s, our own certificate (cert_file), %s: %s: valid from %s until %s, and it is %s now: %s",
		file, subject(cert), why, date(cert.NotBefore), date(cert.NotAfter), date(now), todo)
}

// subject names a certificate as people know it.
func subject(cert *x509.Certificate) string {
	if name := cert.Subject.String(); name != "" {
		return name
	}
	return "serial number " + cert.SerialNumber.String()
}

func date(t time.Time) string { return t.UTC().Format(time.RFC3339) }
