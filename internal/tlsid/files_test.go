package tlsid

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
)

// wantError checks that err says everything in parts; no parts mean no error.
func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		if len(parts) > 0 {
			t.Errorf("no error; want one with %q", parts)
		}
		return
	}
	if len(parts) == 0 {
		t.Errorf("error: %v; want none", err)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error: %v\nwant in it: %s", err, part)
		}
	}
}

func write(t *testing.T, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file.pem")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func content(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestErrors(t *testing.T) {
	t.Parallel()
	ca := tlsidtest.NewCA(t)
	good, other := ca.Issue(t, "checker"), ca.Issue(t, "other")
	missing := filepath.Join(t.TempDir(), "missing.pem")
	directory := t.TempDir()
	text := write(t, "hello\n")
	empty := write(t, " \n")
	broken := write(t, "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n")
	legacy := write(t, "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\naGVsbG8=\n-----END RSA PRIVATE KEY-----\n")
	encrypted := write(t, "-----BEGIN ENCRYPTED PRIVATE KEY-----\naGVsbG8=\n-----END ENCRYPTED PRIVATE KEY-----\n")
	badKey := write(t, "-----BEGIN PRIVATE KEY-----\naGVsbG8=\n-----END PRIVATE KEY-----\n")
	huge := write(t, "")
	if err := os.Truncate(huge, maxFile+1); err != nil {
		t.Fatal(err)
	}

	for name, test := range map[string]struct {
		change func(*check.TLS)
		want   []string
	}{
		"mode":         {func(id *check.TLS) { id.Mode = "ssl" }, []string{`"ssl"`, `"none", "tls" or "mtls"`}},
		"no cert_file": {func(id *check.TLS) { id.CertFile = "" }, []string{"our own certificate (cert_file)", "none is set"}},
		"no key_file":  {func(id *check.TLS) { id.KeyFile = "" }, []string{"the key of our own certificate (key_file)", "none is set"}},
		"no ca_file":   {func(id *check.TLS) { id.CAFile = "" }, []string{"the authorities for ", "(ca_file)", "none is set"}},
		"missing":      {func(id *check.TLS) { id.CertFile = missing }, []string{missing, "our own certificate (cert_file)", "there is no such file", "check the path"}},
		"missing key":  {func(id *check.TLS) { id.KeyFile = missing }, []string{missing, "(key_file)", "there is no such file"}},
		"all missing": {func(id *check.TLS) { id.CertFile, id.KeyFile, id.CAFile = missing+"1", missing+"2", missing+"3" }, []string{
			missing + "1, our own certificate", missing + "2, the key", missing + "3, the authorities", "(ca_file): there is no such file",
		}},
		"missing ca":       {func(id *check.TLS) { id.CAFile = missing }, []string{missing, "(ca_file)", "there is no such file"}},
		"directory":        {func(id *check.TLS) { id.CertFile = directory }, []string{directory, "not a regular file"}},
		"huge":             {func(id *check.TLS) { id.CAFile = huge }, []string{huge, "8388609 bytes"}},
		"text":             {func(id *check.TLS) { id.CertFile = text }, []string{text, "no PEM block of type CERTIFICATE", "no PEM block at all", "-inform DER"}},
		"empty":            {func(id *check.TLS) { id.CAFile = empty }, []string{empty, "the file is empty"}},
		"broken":           {func(id *check.TLS) { id.CAFile = broken }, []string{broken, "certificate 1 in it can't be parsed"}},
		"cert is a key":    {func(id *check.TLS) { id.CertFile = good.KeyFile }, []string{good.KeyFile, "it holds PRIVATE KEY", "swapped"}},
		"key is a cert":    {func(id *check.TLS) { id.KeyFile = good.CertFile }, []string{good.CertFile, "no PEM block of a PRIVATE KEY", "it holds CERTIFICATE", "swapped"}},
		"key is encrypted": {func(id *check.TLS) { id.KeyFile = encrypted }, []string{encrypted, "the key is encrypted", "openssl pkey"}},
		"encrypted of old": {func(id *check.TLS) { id.KeyFile = legacy }, []string{legacy, "the key is encrypted"}},
		"another's key":    {func(id *check.TLS) { id.KeyFile = other.KeyFile }, []string{other.KeyFile, "not the key of the certificate in " + good.CertFile, "issued together"}},
		"key is nonsense":  {func(id *check.TLS) { id.KeyFile = badKey }, []string{badKey, good.CertFile, "can't be used together"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id := good
			test.change(&id)
			if config, err := Client(id, "checker"); config != nil {
				t.Error("a client got a configuration")
			} else {
				wantError(t, err, test.want...)
			}
			if config, err := Server(id); config != nil {
				t.Error("a server got a configuration")
			} else {
				wantError(t, err, test.want...)
			}
		})
	}
}

func TestReadError(t *testing.T) {
	t.Parallel()
	err := readError("key.pem", "the key", &fs.PathError{Op: "open", Path: "key.pem", Err: fs.ErrPermission})
	wantError(t, err, "TLS file key.pem, the key", "no permission to read it", "the user that this process runs as")
	wantError(t, readError("key.pem", "the key", errors.New("input/output error")), "it can't be read: input/output error")
}

// Bundles keep authorities that have expired beside the current ones.
func TestBundle(t *testing.T) {
	t.Parallel()
	past := time.Now().AddDate(-1, 0, 0)
	old := tlsidtest.NewCA(t, tlsidtest.Valid(past, past.AddDate(0, 1, 0)))
	current := tlsidtest.NewCA(t)
	id := current.Issue(t, "checker")
	id.CAFile = write(t, content(t, old.File)+"a comment\n"+content(t, current.File))
	if _, err := handshake(t, mustClient(t, id, "checker"), mustServer(t, id)); err != nil {
		t.Errorf("a bundle with an old and a current authority: %v", err)
	}
	id.CAFile = old.File
	_, err := Client(id, "checker")
	wantError(t, err, old.File, "servers we connect to", "every certificate in it has expired")
}

// One file may hold the certificate and its key.
func TestOneFile(t *testing.T) {
	t.Parallel()
	id := tlsidtest.NewCA(t).Issue(t, "checker")
	id.CertFile = write(t, content(t, id.KeyFile)+content(t, id.CertFile))
	id.KeyFile = id.CertFile
	mustServer(t, id)
}
