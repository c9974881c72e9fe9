package tlsid

import (
	"crypto/tls"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
)

func TestServerFiles(t *testing.T) {
	t.Parallel()
	ca := tlsidtest.NewCA(t)
	id := ca.Issue(t, "checker")
	nobody := func(err error) { t.Errorf("told %v", err) }
	for _, test := range []struct {
		cert, key, ca string
		want          string
	}{
		{"", "", "", "plaintext"},
		{id.CertFile, id.KeyFile, "", tls.NoClientCert.String()},
		{id.CertFile, id.KeyFile, id.CAFile, tls.RequireAndVerifyClientCert.String()},
		{id.CertFile, "", "", "error"},
		{"", id.KeyFile, "", "error"},
		{"", "", id.CAFile, "error"},
	} {
		config, err := ServerFiles(test.cert, test.key, test.ca, nobody)
		got := "plaintext"
		switch {
		case err != nil:
			got = "error"
		case config != nil:
			got = config.ClientAuth.String()
		}
		if got != test.want {
			t.Errorf("ServerFiles(%q, %q, %q) = %s (%v); want %s", test.cert, test.key, test.ca, got, err, test.want)
		}
	}
}

// years are the dates of a certificate that is valid in a bubble and out of it.
var years = tlsidtest.Valid(time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC))

// followed is a server that follows its files, and what it told.
type followed struct {
	t      *testing.T
	id     check.TLS
	config *tls.Config
	told   []error
}

// inFollowed is in a bubble, whose time stands still while the test does something.
func inFollowed(t *testing.T, ca *tlsidtest.CA, do func(s *followed)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &followed{t: t, id: ca.Issue(t, "checker")}
		s.id.CAFile = write(t, content(t, ca.File))
		var err error
		s.config, err = ServerFiles(s.id.CertFile, s.id.KeyFile, s.id.CAFile, func(err error) { s.told = append(s.told, err) })
		if err != nil {
			t.Fatal(err)
		}
		do(s)
	})
}

// lets wants the handshake of a client to succeed, or not, and the server to show the certificate in a file.
func (s *followed) lets(client check.TLS, want bool, shown string) {
	s.t.Helper()
	state, err := handshake(s.t, mustClient(s.t, client, "checker"), s.config)
	if (err == nil) != want {
		s.t.Errorf("handshake: %v, want success: %t", err, want)
	}
	if err == nil && !state.PeerCertificates[0].Equal(parse(s.t, shown)) {
		s.t.Errorf("the server does not show the certificate in %s", shown)
	}
}

// tells wants something to have been told since the last time: an error with all the words; nil without any.
func (s *followed) tells(words ...string) {
	s.t.Helper()
	if len(s.told) != 1 {
		s.t.Fatalf("told %v, want one", s.told)
	}
	wantError(s.t, s.told[0], words...)
	s.told = nil
}

func (s *followed) tellsNothing() {
	s.t.Helper()
	if len(s.told) > 0 {
		s.t.Fatalf("told %v", s.told)
	}
}

func TestServerFollowsItsFiles(t *testing.T) {
	t.Parallel()
	ca, other := tlsidtest.NewCA(t, years), tlsidtest.NewCA(t, years)
	inFollowed(t, ca, func(s *followed) {
		client := ca.Issue(s.t, "poller")
		stranger := other.Issue(s.t, "poller")
		stranger.CAFile = ca.File
		first := s.id.CertFile + ".first"
		tlsidtest.Replace(s.t, first, s.id.CertFile)
		s.lets(client, true, first)

		second := ca.Issue(s.t, "checker")
		tlsidtest.ReplacePair(s.t, s.id, second)
		s.lets(client, true, first) // it has looked within this second
		time.Sleep(lookEvery)
		s.lets(client, true, second.CertFile)
		s.tells()

		s.lets(stranger, false, "")
		tlsidtest.Replace(s.t, s.id.CAFile, other.File)
		s.lets(client, true, second.CertFile) // as above
		time.Sleep(lookEvery)
		s.lets(stranger, true, second.CertFile)
		s.lets(client, false, "")
		s.tells()
		time.Sleep(lookEvery)
		s.lets(stranger, true, second.CertFile)
		s.tellsNothing()
	})
}

// TestServerResumesNothing: a client that comes with a session of before would not meet what is new.
func TestServerResumesNothing(t *testing.T) {
	t.Parallel()
	ca := tlsidtest.NewCA(t, years)
	inFollowed(t, ca, func(s *followed) {
		client := mustClient(s.t, ca.Issue(s.t, "poller"), "checker")
		client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		for range 2 {
			if state, err := handshake(s.t, client, s.config); err != nil || state.DidResume {
				s.t.Errorf("resumed: %t, %v", state.DidResume, err)
			}
		}
	})
}

func TestServerKeepsWhatItHad(t *testing.T) {
	t.Parallel()
	ca := tlsidtest.NewCA(t, years)
	inFollowed(t, ca, func(s *followed) {
		client := ca.Issue(s.t, "poller")
		first := s.id
		first.CertFile += ".first"
		first.KeyFile += ".first"
		tlsidtest.Replace(s.t, first.CertFile, s.id.CertFile)
		tlsidtest.Replace(s.t, first.KeyFile, s.id.KeyFile)

		tlsidtest.Replace(s.t, s.id.CertFile, ca.Issue(s.t, "checker").CertFile)
		time.Sleep(lookEvery)
		s.lets(client, true, first.CertFile)
		s.tells(s.id.KeyFile, "not the key of", "stays in use")
		if err := os.Remove(s.id.CAFile); err != nil {
			s.t.Fatal(err)
		}
		time.Sleep(lookEvery)
		s.lets(client, true, first.CertFile)
		s.tells(s.id.KeyFile, "not the key of", s.id.CAFile, "there is no such file")
		time.Sleep(lookEvery)
		s.lets(client, true, first.CertFile)
		s.tellsNothing()

		tlsidtest.ReplacePair(s.t, s.id, first)
		tlsidtest.Replace(s.t, s.id.CAFile, ca.File)
		time.Sleep(lookEvery)
		s.lets(client, true, first.CertFile)
		s.tells()
	})
}

// TestServerExpires: that is told once, though the time is another one each time; and a new certificate is found.
func TestServerExpires(t *testing.T) {
	t.Parallel()
	ca := tlsidtest.NewCA(t, years)
	inFollowed(t, ca, func(s *followed) {
		client := ca.Issue(s.t, "poller", years)
		time.Sleep(25 * time.Hour)
		for range 3 {
			s.lets(client, false, "") // the client does not like it
			time.Sleep(time.Minute)
		}
		s.tells(s.id.CertFile, "has expired")
		tlsidtest.ReplacePair(s.t, s.id, ca.Issue(s.t, "checker"))
		s.lets(client, true, s.id.CertFile)
		s.tells()
	})
}
