package tlsid

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
)

// kept is a Store with an identity, whose files a test replaces.
type kept struct {
	*Store
	t  *testing.T
	id check.TLS
	// ours is a file with the authorities of all certificates that the clients show.
	ours string
}

func keep(t *testing.T, id check.TLS) *kept {
	t.Helper()
	k := &kept{Store: NewStore(), t: t, id: id, ours: write(t, content(t, id.CAFile))}
	k.config()
	return k
}

// config is what a client gets now.
func (k *kept) config() *tls.Config {
	k.t.Helper()
	config, err := k.Client(k.id, "checker")
	if err != nil {
		k.t.Fatalf("Client: %v", err)
	}
	return config
}

// refreshed wants a Refresh to change the identity, or not to, and to complain with all the words, or not at all.
func (k *kept) refreshed(changed bool, words ...string) {
	k.t.Helper()
	got, errs := k.Refresh(time.Now())
	if want := []check.TLS{k.id}; changed && !slices.Equal(got, want) || !changed && len(got) > 0 {
		k.t.Errorf("changed are %v, want %t", got, changed)
	}
	switch {
	case len(errs) > 1, len(errs) == 1 && len(words) == 0:
		k.t.Errorf("errors: %v", errs)
	case len(errs) == 0:
		wantError(k.t, nil, words...)
	default:
		wantError(k.t, errs[0], words...)
	}
}

func parse(t *testing.T, file string) *x509.Certificate {
	t.Helper()
	found, err := certificates([]byte(content(t, file)), file, "a test's")
	if err != nil {
		t.Fatal(err)
	}
	return found[0]
}

// shows wants the clients to show the certificate in a file.
func (k *kept) shows(file string) {
	k.t.Helper()
	if got := k.config().Certificates[0].Leaf; !got.Equal(parse(k.t, file)) {
		k.t.Errorf("clients show %s of %s, not the one in %s", got.Subject, got.NotBefore, file)
	}
}

// talks wants the clients to trust a server of an authority, or not to.
func (k *kept) talks(ca *tlsidtest.CA, want bool) {
	k.t.Helper()
	id := ca.Issue(k.t, "checker")
	id.CAFile = k.ours
	if _, err := handshake(k.t, k.config(), mustServer(k.t, id)); (err == nil) != want {
		k.t.Errorf("handshake: %v, want success: %t", err, want)
	}
}

func TestStoreShares(t *testing.T) {
	t.Parallel()
	ca := tlsidtest.NewCA(t)
	id := ca.Issue(t, "poller")
	named, server := id, check.TLS{Mode: check.TLSServer, CAFile: ca.File}
	named.ServerName = "elsewhere"
	store := NewStore()
	var configs []*tls.Config
	for _, who := range []struct {
		id         check.TLS
		host, name string
	}{{id, "a", "a"}, {id, "b", "b"}, {named, "c", "elsewhere"}, {server, "d", "d"}} {
		config, err := store.Client(who.id, who.host)
		if err != nil {
			t.Fatal(err)
		}
		if config.ServerName != who.name || config.MinVersion != tls.VersionTLS12 {
			t.Errorf("%s: the server's name is %q, TLS at least %s", who.host, config.ServerName, tls.VersionName(config.MinVersion))
		}
		if who.id.Mode == check.TLSMutual {
			configs = append(configs, config)
		} else if len(config.Certificates) > 0 {
			t.Errorf("mode %s shows a certificate", who.id.Mode)
		}
		if config.RootCAs != configs[0].RootCAs {
			t.Errorf("%s has a pool of its own", who.host)
		}
	}
	for _, config := range configs {
		if &config.Certificates[0] != &configs[0].Certificates[0] {
			t.Errorf("%s has a certificate of its own", config.ServerName)
		}
	}
	if configs[0] == configs[1] {
		t.Error("two hosts have the same configuration")
	}
}

// TestStoreAsClient: what needs no files, and what can't be.
func TestStoreAsClient(t *testing.T) {
	t.Parallel()
	id := tlsidtest.NewCA(t).Issue(t, "poller")
	withoutCA := id
	withoutCA.CAFile = ""
	for name, store := range map[string]*Store{"a store": NewStore(), "none": nil} {
		if config, err := store.Client(check.TLS{}, "host"); config != nil || err != nil {
			t.Errorf("%s, plaintext: %v, %v", name, config, err)
		}
		if config, err := store.Client(check.TLS{Mode: check.TLSServer}, "host"); err != nil || config.RootCAs != nil || config.ServerName != "host" {
			t.Errorf("%s, the system's authorities: %v, %v", name, config, err)
		}
		if config, err := store.Client(id, "host"); err != nil || len(config.Certificates) != 1 || config.RootCAs == nil {
			t.Errorf("%s, mode mtls: %v, %v", name, config, err)
		}
		config, err := store.Client(withoutCA, "host")
		if config != nil {
			t.Errorf("%s: mode mtls without authorities got a configuration", name)
		}
		wantError(t, err, "(ca_file)", "none is set")
		_, err = store.Client(check.TLS{Mode: "ssl"}, "host")
		wantError(t, err, `"ssl"`)
	}
}

// TestRefreshUnchanged: what is the same as before is not even parsed.
func TestRefreshUnchanged(t *testing.T) {
	t.Parallel()
	k := keep(t, tlsidtest.NewCA(t).Issue(t, "poller"))
	before := k.config()
	tlsidtest.ReplacePair(t, k.id, k.id) // new files, old content
	k.refreshed(false)
	if now := k.config(); &now.Certificates[0] != &before.Certificates[0] || now.RootCAs != before.RootCAs {
		t.Error("it was parsed again")
	}
}

func TestCertificateRotation(t *testing.T) {
	t.Parallel()
	ca := tlsidtest.NewCA(t)
	k := keep(t, ca.Issue(t, "poller"))
	old, next := k.config(), ca.Issue(t, "poller")
	tlsidtest.ReplacePair(t, k.id, next)
	before := old.Certificates[0].Leaf
	if now := k.config().Certificates[0].Leaf; !now.Equal(before) {
		t.Error("it looked at the files by itself")
	}
	k.refreshed(true)
	k.shows(next.CertFile)
	k.talks(ca, true)
	if !old.Certificates[0].Leaf.Equal(before) {
		t.Error("a configuration that was given out has changed")
	}
	k.refreshed(false)
}

// TestAuthorityRotation: the old authority, both, the new one alone.
func TestAuthorityRotation(t *testing.T) {
	t.Parallel()
	old, next := tlsidtest.NewCA(t), tlsidtest.NewCA(t)
	id := old.Issue(t, "poller")
	id.CAFile = write(t, content(t, old.File))
	k := keep(t, id)
	k.ours = write(t, content(t, old.File)+content(t, next.File))
	k.talks(next, false)
	tlsidtest.Replace(t, id.CAFile, k.ours)
	k.refreshed(true)
	k.talks(old, true)
	k.talks(next, true)
	tlsidtest.ReplacePair(t, id, next.Issue(t, "poller"))
	tlsidtest.Replace(t, id.CAFile, next.File)
	k.refreshed(true)
	k.talks(next, true)
	k.talks(old, false)
	k.ours = next.File
	k.talks(next, true)
}

// TestNotLoaded: of an identity that can't be loaded nothing is kept, so that each try looks again.
func TestNotLoaded(t *testing.T) {
	t.Parallel()
	ca := tlsidtest.NewCA(t)
	id := ca.Issue(t, "poller")
	key := content(t, id.KeyFile)
	if err := os.Remove(id.KeyFile); err != nil {
		t.Fatal(err)
	}
	store := NewStore()
	for range 2 {
		_, err := store.Client(id, "checker")
		wantError(t, err, id.KeyFile, "there is no such file")
		if changed, errs := store.Refresh(time.Now()); len(changed)+len(errs)+len(store.Files()) > 0 {
			t.Errorf("it keeps something: %v, %v, %v", changed, errs, store.Files())
		}
	}
	tlsidtest.Replace(t, id.KeyFile, write(t, key))
	if _, err := store.Client(id, "checker"); err != nil {
		t.Errorf("mended: %v", err)
	}
}

// TestExpiredInUse: what has expired is not given out, and a new one is found with the next connection; the others are
// told of it.
func TestExpiredInUse(t *testing.T) {
	t.Parallel()
	ca := tlsidtest.NewCA(t, tlsidtest.Valid(time.Now(), time.Now().AddDate(1, 0, 0)))
	id := ca.Issue(t, "poller")
	other := id
	other.ServerName = "other"
	k := keep(t, id)
	if _, err := k.Client(other, "checker"); err != nil {
		t.Fatal(err)
	}
	late := parse(t, id.CertFile).NotAfter.Add(time.Second)
	for range 2 {
		_, err := k.client(id, "checker", late)
		wantError(t, err, id.CertFile, "has expired", "issue a new one")
		changed, errs := k.Refresh(late)
		if len(changed) > 0 || len(errs) != 1 {
			t.Fatalf("Refresh: %v, %v", changed, errs)
		}
		wantError(t, errs[0], id.CertFile, "has expired", "issue a new one")
		if strings.Contains(errs[0].Error(), "before") {
			t.Errorf("there was nothing else before: %v", errs[0])
		}
	}
	tlsidtest.Replace(t, id.KeyFile, ca.Issue(t, "poller").KeyFile)
	_, errs := k.Refresh(late)
	wantError(t, errs[0], id.KeyFile, "not the key of", "what was read before has expired on "+date(late.Add(-time.Second)))

	next := ca.Issue(t, "poller", tlsidtest.Valid(late.Add(-time.Hour), late.Add(time.Hour)))
	tlsidtest.ReplacePair(t, id, next)
	config, err := k.client(id, "checker", late)
	if err != nil || !config.Certificates[0].Leaf.Equal(parse(t, next.CertFile)) {
		t.Errorf("mended: %v", err)
	}
	changed, errs := k.Refresh(late)
	if len(changed) != 2 || !slices.Contains(changed, id) || !slices.Contains(changed, other) || len(errs) > 0 {
		t.Errorf("Refresh: %v, %v; want both identities", changed, errs)
	}
	if changed, errs := k.Refresh(late); len(changed)+len(errs) > 0 {
		t.Errorf("Refresh once more: %v, %v", changed, errs)
	}
}

func TestRetainAndFiles(t *testing.T) {
	t.Parallel()
	ca := tlsidtest.NewCA(t)
	one, two := ca.Issue(t, "one"), ca.Issue(t, "two")
	store := NewStore()
	for _, id := range []check.TLS{one, two} {
		if _, err := store.Client(id, "checker"); err != nil {
			t.Fatal(err)
		}
	}
	want := func(ids ...check.TLS) {
		t.Helper()
		var files []File
		for _, id := range ids {
			files = append(files, File{Path: id.CertFile, NotAfter: parse(t, id.CertFile).NotAfter})
		}
		if len(ids) > 0 {
			files = append(files, File{Path: ca.File, Authorities: true, NotAfter: parse(t, ca.File).NotAfter})
		}
		slices.SortFunc(files, func(a, b File) int { return len(a.Path) - len(b.Path) })
		got := store.Files()
		slices.SortFunc(got, func(a, b File) int { return len(a.Path) - len(b.Path) })
		if diff := cmp.Diff(files, got); diff != "" {
			t.Errorf("files (-want +got):\n%s", diff)
		}
	}
	want(one, two)
	store.Retain(func(check.TLS) bool { return true })
	want(one, two)
	store.Retain(func(id check.TLS) bool { return id == two })
	want(two)
	tlsidtest.ReplacePair(t, one, ca.Issue(t, "one"))
	if changed, errs := store.Refresh(time.Now()); len(changed)+len(errs) > 0 {
		t.Errorf("Refresh: %v, %v, of what nobody uses", changed, errs)
	}
	store.Retain(func(check.TLS) bool { return false })
	want()
}

// TestStoreTogether does all at once, while the files are replaced; a configuration always has a certificate and its key.
func TestStoreTogether(t *testing.T) {
	t.Parallel()
	ca := tlsidtest.NewCA(t)
	id := ca.Issue(t, "poller")
	identities := []check.TLS{ca.Issue(t, "poller"), ca.Issue(t, "poller")}
	store := NewStore()
	if _, err := store.Client(id, "checker"); err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	const times = 50
	again := func(do func()) {
		work.Go(func() {
			for range times {
				do()
			}
		})
	}
	again(func() { store.Refresh(time.Now()) })
	again(func() { store.Files() })
	again(func() { store.Retain(func(check.TLS) bool { return true }) })
	for range 4 {
		again(func() {
			config, err := store.Client(id, "checker")
			if err != nil {
				t.Errorf("Client: %v", err)
				return
			}
			pair := config.Certificates[0]
			public := pair.PrivateKey.(crypto.Signer).Public().(*ecdsa.PublicKey)
			if !public.Equal(pair.Leaf.PublicKey) {
				t.Error("a certificate with another's key")
			}
		})
	}
	for n := range times {
		tlsidtest.ReplacePair(t, id, identities[n%2])
	}
	work.Wait()
	store.Refresh(time.Now())
	if config, err := store.Client(id, "checker"); err != nil || !config.Certificates[0].Leaf.Equal(parse(t, identities[1].CertFile)) {
		t.Errorf("the last certificate is not in use: %v", err)
	}
}
