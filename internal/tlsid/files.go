package tlsid

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

// maxFile bounds what is read of a file: the largest bundles of authorities have well below 1 MiB,
// and a path that is a device or a log by mistake should not fill the memory.
const maxFile = 8 << 20

const certificateBlock = "CERTIFICATE"

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

// blocks returns the PEM blocks in data. One that is cut short is an error, though there may be others: a file that
// is being written must not be taken for a whole one.
func blocks(data []byte, file, purpose string) ([]*pem.Block, error) {
	var found []*pem.Block
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		found = append(found, block)
	}
	const begin = "\n-----BEGIN"
	if begun := bytes.Count(append([]byte("\n"), data...), []byte(begin)); begun > len(found) {
		return nil, fmt.Errorf("TLS file %s, %s: %d PEM blocks begin in it, and %d can be read: it is not wholly written, or damaged: copy it again",
			file, purpose, begun, len(found))
	}
	return found, nil
}

// certificates returns the certificates in data, at least one.
func certificates(data []byte, file, purpose string) ([]*x509.Certificate, error) {
	all, err := blocks(data, file, purpose)
	if err != nil {
		return nil, err
	}
	var found []*x509.Certificate
	for _, block := range all {
		if block.Type != certificateBlock {
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
		file, purpose, certificateBlock, holds(data, all), hintForBlocks(all))
}

// checkKeyBlock finds what the standard library would call by a less helpful name.
func checkKeyBlock(data []byte, file string) error {
	all, err := blocks(data, file, ownKey)
	if err != nil {
		return err
	}
	for _, block := range all {
		if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
			return fmt.Errorf("TLS file %s, %s: the key is encrypted, and nobody is there to type a password: "+
				"decrypt it with openssl pkey -in FILE -out NEWFILE, readable for this process only", file, ownKey)
		}
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			return nil
		}
	}
	return fmt.Errorf("TLS file %s, %s: no PEM block of a PRIVATE KEY in it (%s): %s",
		file, ownKey, holds(data, all), hintForBlocks(all))
}

func holds(data []byte, found []*pem.Block) string {
	switch {
	case len(bytes.TrimSpace(data)) == 0:
		return "the file is empty"
	case len(found) == 0:
		return "there is no PEM block at all"
	}
	types := make([]string, len(found))
	for i, block := range found {
		types[i] = block.Type
	}
	return "it holds " + strings.Join(types, ", ")
}

func hintForBlocks(found []*pem.Block) string {
	if len(found) > 0 {
		return "check whether the certificate's and the key's file are swapped"
	}
	return "name a PEM file; one in DER form can be converted with openssl x509 or openssl pkey, -inform DER"
}

func pairError(f files, err error) error {
	// The library has no error value for this most common of mistakes.
	if strings.Contains(err.Error(), "does not match") {
		return fmt.Errorf("TLS file %s, the key of our own certificate (key_file): "+
			"it is not the key of the certificate in %s: use the two files that were issued together: %w",
			f.key, f.cert, err)
	}
	return fmt.Errorf("TLS files %s and %s, our own certificate and its key (cert_file, key_file): they can't be used together: %w",
		f.cert, f.key, err)
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
