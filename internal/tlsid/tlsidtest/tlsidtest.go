// Package tlsidtest makes certificate authorities and certificates for tests, when they run.
//
// Files lie in the test's own temporary directory and go with it. Dates follow the clock of the
// moment, so that certificates made in a synctest bubble are valid in it.
package tlsidtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/check"
)

// CA is a certificate authority of a test's own.
type CA struct {
	// File is the PEM file with its certificate.
	File string

	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Option changes a certificate that is to be issued.
type Option func(*x509.Certificate)

// Hosts makes the certificate one for these names and addresses only. Without it a certificate is
// for its own name, localhost and the loopback addresses 127.0.0.1 and ::1.
func Hosts(hosts ...string) Option {
	return func(c *x509.Certificate) {
		c.DNSNames, c.IPAddresses = nil, nil
		for _, host := range hosts {
			if ip := net.ParseIP(host); ip != nil {
				c.IPAddresses = append(c.IPAddresses, ip)
			} else {
				c.DNSNames = append(c.DNSNames, host)
			}
		}
	}
}

// Valid sets the certificate's dates. Without it a certificate is valid from an hour ago for a day.
func Valid(from, until time.Time) Option {
	return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = from, until }
}

// NewCA makes an authority that nobody else trusts.
func NewCA(t testing.TB, opts ...Option) *CA {
	t.Helper()
	key := newKey(t)
	template := newTemplate(t, "test authority", opts)
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign
	template.ExtKeyUsage = nil
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatalf("make an authority: %v", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatalf("parse the authority's certificate: %v", err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	writePEM(t, file, "CERTIFICATE", der)
	return &CA{File: file, cert: cert, key: key}
}

// Issue makes a certificate for servers and clients alike. The identity returned has mode mtls,
// its files and the authority's, and no ServerName.
func (ca *CA) Issue(t testing.TB, name string, opts ...Option) check.TLS {
	t.Helper()
	key := newKey(t)
	return issue(t, newTemplate(t, name, opts), key, ca.cert, ca.key, ca.File)
}

// SelfSigned makes one that no authority issued. The identity returned has no file of authorities.
func SelfSigned(t testing.TB, name string, opts ...Option) check.TLS {
	t.Helper()
	key := newKey(t)
	template := newTemplate(t, name, opts)
	return issue(t, template, key, template, key, "")
}

// issue makes a certificate of a template that another one and its key sign.
func issue(t testing.TB, template *x509.Certificate, key *ecdsa.PrivateKey, by *x509.Certificate, byKey *ecdsa.PrivateKey, caFile string) check.TLS {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, by, key.Public(), byKey)
	if err != nil {
		t.Fatalf("issue a certificate for %s: %v", template.Subject.CommonName, err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatalf("encode the key of %s: %v", template.Subject.CommonName, err)
	}
	dir := t.TempDir()
	id := check.TLS{
		Mode:     check.TLSMutual,
		CertFile: filepath.Join(dir, "cert.pem"),
		KeyFile:  filepath.Join(dir, "key.pem"),
		CAFile:   caFile,
	}
	writePEM(t, id.CertFile, "CERTIFICATE", der)
	writePEM(t, id.KeyFile, "PRIVATE KEY", keyDER)
	return id
}

// Replace puts the content of a file in the place of another, which need not be there, at once: no reader sees a part of it.
func Replace(t testing.TB, file, by string) {
	t.Helper()
	content, err := os.ReadFile(by) //nolint:gosec // the test's own file
	if err != nil {
		t.Fatalf("read %s: %v", by, err)
	}
	temporary := file + ".new"
	if err = os.WriteFile(temporary, content, 0o600); err == nil { //nolint:gosec // as above
		err = os.Rename(temporary, file)
	}
	if err != nil {
		t.Fatalf("replace %s: %v", file, err)
	}
}

// ReplacePair does so with the certificate and the key of an identity, first the certificate.
func ReplacePair(t testing.TB, id, by check.TLS) {
	t.Helper()
	Replace(t, id.CertFile, by.CertFile)
	Replace(t, id.KeyFile, by.KeyFile)
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatalf("make a key: %v", err)
	}
	return key
}

func newTemplate(t testing.TB, name string, opts []Option) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatalf("make a serial number: %v", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	Hosts(name, "localhost", "127.0.0.1", "::1")(template)
	for _, opt := range opts {
		opt(template)
	}
	return template
}

func writePEM(t testing.TB, file, block string, der []byte) {
	t.Helper()
	data := pem.EncodeToMemory(&pem.Block{Type: block, Bytes: der})
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatalf("write %s: %v", file, err)
	}
}
