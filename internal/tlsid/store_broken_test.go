package tlsid

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
)

// TestBrokenFiles: whatever is wrong with a file, what there was stays in use, and each look says so, until the file
// is well.
func TestBrokenFiles(t *testing.T) {
	t.Parallel()
	ca := tlsidtest.NewCA(t)
	now := time.Now()
	expired := ca.Issue(t, "poller", tlsidtest.Valid(now.Add(-2*time.Hour), now.Add(-time.Hour)))
	early := ca.Issue(t, "poller", tlsidtest.Valid(now.Add(time.Hour), now.Add(2*time.Hour)))
	bundle := write(t, content(t, ca.File)+content(t, tlsidtest.NewCA(t).File))
	expiredCA := tlsidtest.NewCA(t, tlsidtest.Valid(now.Add(-2*time.Hour), now.Add(-time.Hour)))
	with := func(text string) func(*testing.T, check.TLS, string) {
		return func(t *testing.T, _ check.TLS, file string) { tlsidtest.Replace(t, file, write(t, text)) }
	}
	cut := func(part float64) func(*testing.T, check.TLS, string) {
		return func(t *testing.T, id check.TLS, file string) {
			whole := content(t, file)
			with(whole[:int(part*float64(len(whole)))])(t, id, file)
		}
	}
	remove := func(t *testing.T, _ check.TLS, file string) {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	certs := func(id check.TLS) string { return id.CertFile }
	keys := func(id check.TLS) string { return id.KeyFile }
	cas := func(id check.TLS) string { return id.CAFile }
	for name, tt := range map[string]struct {
		file  func(check.TLS) string
		spoil func(t *testing.T, id check.TLS, file string)
		words []string
	}{
		"certificate empty":         {certs, with(""), []string{"the file is empty"}},
		"certificate cut short":     {certs, cut(0.7), []string{"1 PEM blocks begin", "0 can be read", "not wholly written"}},
		"certificate no PEM":        {certs, with("hello"), []string{"no PEM block at all"}},
		"certificate damaged":       {certs, with("-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n"), []string{"can't be parsed"}},
		"certificate expired":       {certs, func(t *testing.T, id check.TLS, _ string) { tlsidtest.ReplacePair(t, id, expired) }, []string{"has expired"}},
		"certificate not valid yet": {certs, func(t *testing.T, id check.TLS, _ string) { tlsidtest.ReplacePair(t, id, early) }, []string{"not valid yet"}},
		"certificate vanished":      {certs, remove, []string{"there is no such file"}},
		"certificate replaced alone": {certs, func(t *testing.T, _ check.TLS, file string) {
			tlsidtest.Replace(t, file, ca.Issue(t, "poller").CertFile)
		}, []string{"not the key of the certificate"}},
		"certificate's chain cut short": {certs, func(t *testing.T, id check.TLS, file string) {
			with(content(t, file)+content(t, ca.File)[:300])(t, id, file)
		}, []string{"2 PEM blocks begin", "1 can be read"}},
		"certificate a directory":        {certs, func(t *testing.T, id check.TLS, file string) { remove(t, id, file); link(t, t.TempDir(), file) }, []string{"not a regular file"}},
		"certificate that can't be read": {certs, func(t *testing.T, id check.TLS, file string) { remove(t, id, file); link(t, file, file) }, []string{"it can't be read"}},
		"key empty":                      {keys, with("\n"), []string{"the file is empty"}},
		"key cut short":                  {keys, cut(0.5), []string{"0 can be read"}},
		"key vanished":                   {keys, remove, []string{"there is no such file"}},
		"key replaced alone": {keys, func(t *testing.T, _ check.TLS, file string) {
			tlsidtest.Replace(t, file, ca.Issue(t, "poller").KeyFile)
		}, []string{"not the key of the certificate"}},
		"authorities empty":     {cas, with(""), []string{"the file is empty"}},
		"authorities cut short": {cas, cut(0.8), []string{"2 PEM blocks begin", "1 can be read"}},
		"authorities cut in a heading": {cas, func(t *testing.T, id check.TLS, file string) {
			with(content(t, ca.File)+"-----BEGIN CERT")(t, id, file)
		}, []string{"2 PEM blocks begin"}},
		"authorities expired":  {cas, func(t *testing.T, _ check.TLS, file string) { tlsidtest.Replace(t, file, expiredCA.File) }, []string{"every certificate in it has expired"}},
		"authorities vanished": {cas, remove, []string{"there is no such file"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id := ca.Issue(t, "poller")
			id.CAFile = write(t, content(t, bundle))
			mine := id.CertFile + ".mine"
			tlsidtest.Replace(t, mine, id.CertFile)
			k := keep(t, id)
			tt.spoil(t, id, tt.file(id))
			for range 2 {
				k.refreshed(false, append(tt.words, tt.file(id), "what was read before stays in use until it expires on "+date(parse(t, mine).NotAfter)[:10])...)
				k.shows(mine)
				k.talks(ca, true)
			}
			next := ca.Issue(t, "poller")
			for _, file := range []string{id.CertFile, id.KeyFile, id.CAFile} {
				_ = os.Remove(file) // a directory's link is not replaced
			}
			tlsidtest.ReplacePair(t, id, next)
			tlsidtest.Replace(t, id.CAFile, bundle)
			k.refreshed(true)
			k.shows(next.CertFile)
			k.talks(ca, true)
		})
	}
}

func link(t *testing.T, to, file string) {
	t.Helper()
	if err := os.Symlink(to, file); err != nil {
		t.Fatal(err)
	}
}

// TestPartsAreApart: authorities that are broken do not keep a new certificate from being used.
func TestPartsAreApart(t *testing.T) {
	t.Parallel()
	ca := tlsidtest.NewCA(t)
	id := ca.Issue(t, "poller")
	id.CAFile = write(t, content(t, ca.File))
	k := keep(t, id)
	next := ca.Issue(t, "poller")
	tlsidtest.ReplacePair(t, id, next)
	tlsidtest.Replace(t, id.CAFile, write(t, ""))
	k.refreshed(true, id.CAFile, "the file is empty", "stays in use")
	k.shows(next.CertFile)
	k.talks(ca, true)
}

// TestDirectorySwap: Kubernetes has the files behind a link to a directory, and puts that to another one.
func TestDirectorySwap(t *testing.T) {
	t.Parallel()
	ca, dir := tlsidtest.NewCA(t), t.TempDir()
	old, next := ca.Issue(t, "poller"), ca.Issue(t, "poller")
	link(t, filepath.Dir(old.CertFile), filepath.Join(dir, "..data"))
	link(t, filepath.Join("..data", "cert.pem"), filepath.Join(dir, "cert.pem"))
	link(t, filepath.Join("..data", "key.pem"), filepath.Join(dir, "key.pem"))
	id := old
	id.CertFile, id.KeyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	k := keep(t, id)
	k.shows(old.CertFile)
	link(t, filepath.Dir(next.CertFile), filepath.Join(dir, "..data_tmp"))
	if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	k.refreshed(true)
	k.shows(next.CertFile)
}
