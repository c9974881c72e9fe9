package tlsid

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
)

// handshake connects a client to a server and passes a byte each way: a client learns only then
// that its certificate was refused.
func handshake(t *testing.T, clientConfig, serverConfig *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	clientEnd, serverEnd := net.Pipe()
	deadline := time.Now().Add(10 * time.Second)
	for _, end := range []net.Conn{clientEnd, serverEnd} {
		defer func() { _ = end.Close() }()
		if err := end.SetDeadline(deadline); err != nil {
			t.Fatal(err)
		}
	}
	served := make(chan error, 1)
	go func() {
		conn := tls.Server(serverEnd, serverConfig)
		_, err := conn.Write([]byte{1})
		_ = serverEnd.Close()
		served <- err
	}()
	conn := tls.Client(clientEnd, clientConfig)
	_, err := io.ReadFull(conn, make([]byte, 1))
	state := conn.ConnectionState()
	_ = clientEnd.Close()
	if serverErr := <-served; err != nil || serverErr != nil {
		return state, errors.Join(err, serverErr)
	}
	return state, nil
}

func mustClient(t *testing.T, id check.TLS, host string) *tls.Config {
	t.Helper()
	config, err := Client(id, host)
	if err != nil {
		t.Fatalf("Client: %v", err)
	}
	return config
}

func mustServer(t *testing.T, id check.TLS) *tls.Config {
	t.Helper()
	config, err := Server(id)
	if err != nil {
		t.Fatalf("Server: %v", err)
	}
	return config
}

func TestPlaintextIsNil(t *testing.T) {
	t.Parallel()
	for _, mode := range []check.TLSMode{"", check.TLSNone} {
		if config, err := Client(check.TLS{Mode: mode}, "host"); config != nil || err != nil {
			t.Errorf("Client with mode %q = %v, %v; want nil, nil", mode, config, err)
		}
		if config, err := Server(check.TLS{Mode: mode}); config != nil || err != nil {
			t.Errorf("Server with mode %q = %v, %v; want nil, nil", mode, config, err)
		}
	}
}

func TestMutual(t *testing.T) {
	t.Parallel()
	ca := tlsidtest.NewCA(t)
	server := mustServer(t, ca.Issue(t, "checker"))
	for _, host := range []string{"checker", "localhost", "127.0.0.1"} {
		state, err := handshake(t, mustClient(t, ca.Issue(t, "poller"), host), server)
		if err != nil {
			t.Errorf("host %s: %v", host, err)
		}
		if state.Version != tls.VersionTLS13 {
			t.Errorf("host %s: %s; want TLS 1.3", host, tls.VersionName(state.Version))
		}
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	ca, stranger := tlsidtest.NewCA(t), tlsidtest.NewCA(t)
	ours, theirs := ca.Issue(t, "poller"), stranger.Issue(t, "poller")
	withOurCA := theirs
	withOurCA.CAFile = ca.File
	onlyTLS := ours
	onlyTLS.Mode = check.TLSServer
	elsewhere := ours
	elsewhere.ServerName = "elsewhere"
	systemPool := onlyTLS
	systemPool.CAFile = ""
	old := mustClient(t, ours, "checker")
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11

	for name, client := range map[string]*tls.Config{
		"client of another authority":     mustClient(t, withOurCA, "checker"),
		"client without a certificate":    mustClient(t, onlyTLS, "checker"),
		"server of another authority":     mustClient(t, theirs, "checker"),
		"server unknown to the system":    mustClient(t, systemPool, "checker"),
		"server with another name":        mustClient(t, ours, "other"),
		"ServerName goes before the host": mustClient(t, elsewhere, "checker"),
		"TLS 1.1":                         old,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := handshake(t, client, mustServer(t, ca.Issue(t, "checker"))); err == nil {
				t.Error("the handshake succeeded")
			}
		})
	}
}

func TestServerOnly(t *testing.T) {
	t.Parallel()
	ca := tlsidtest.NewCA(t)
	id := ca.Issue(t, "checker")
	id.Mode = check.TLSServer
	client := check.TLS{Mode: check.TLSServer, CAFile: ca.File, ServerName: "checker"}
	if _, err := handshake(t, mustClient(t, client, "10.0.0.1"), mustServer(t, id)); err != nil {
		t.Errorf("a client without a certificate: %v", err)
	}
	id.CAFile = "/nonexistent"
	if _, err := Server(id); err != nil {
		t.Errorf("mode tls of a server needs no authorities: %v", err)
	}
}

func TestTLS12(t *testing.T) {
	t.Parallel()
	ca := tlsidtest.NewCA(t)
	client := mustClient(t, ca.Issue(t, "poller"), "checker")
	client.MaxVersion = tls.VersionTLS12
	state, err := handshake(t, client, mustServer(t, ca.Issue(t, "checker")))
	if err != nil || state.Version != tls.VersionTLS12 {
		t.Errorf("a peer with TLS 1.2 = %s, %v; want TLS 1.2", tls.VersionName(state.Version), err)
	}
}

func TestDates(t *testing.T) {
	t.Parallel()
	from := time.Date(2031, 5, 1, 0, 0, 0, 0, time.UTC)
	until := from.AddDate(0, 1, 0)
	ca := tlsidtest.NewCA(t, tlsidtest.Valid(from, until))
	id := ca.Issue(t, "checker", tlsidtest.Valid(from, until))
	dates := "valid from 2031-05-01T00:00:00Z until 2031-06-01T00:00:00Z"
	for _, test := range []struct {
		now  time.Time
		want []string
	}{
		{from.Add(-time.Second), []string{id.CertFile, "CN=checker", "not valid yet", dates, "2031-04-30T23:59:59Z", "clock"}},
		{from, nil},
		{until, nil},
		// The authority has the same dates; it is looked at first by servers.
		{until.Add(time.Second), []string{"expired"}},
	} {
		t.Run(test.now.Format(time.RFC3339), func(t *testing.T) {
			t.Parallel()
			_, err := server(id, fromDisk(test.now))
			wantError(t, err, test.want...)
			_, err = client(id, "checker", fromDisk(test.now))
			wantError(t, err, test.want...)
		})
	}
	_, err := client(id, "checker", fromDisk(until.Add(time.Second)))
	wantError(t, err, id.CertFile, "CN=checker", "has expired", dates, "2031-06-01T00:00:01Z", "issue a new one")
	_, err = server(id, fromDisk(until.Add(time.Second)))
	wantError(t, err, id.CAFile, "clients that connect to us", "every certificate in it has expired", "CN=test authority on 2031-06-01T00:00:00Z")
}

func ExampleClient() {
	_, err := Client(check.TLS{Mode: check.TLSServer, CAFile: "/etc"}, "checker.example.net")
	fmt.Println(err)
	// Output: TLS file /etc, the authorities for the servers we connect to (ca_file): it is not a regular file: name a PEM file
}
