// Package tlsid turns the name of a TLS identity, the files in check.TLS, into what a connection
// needs.
//
// Guarantees:
//   - Everything is read, parsed and checked when Client or Server is called. A configuration
//     that is returned can be used; its files are not looked at again.
//   - A Store does that once for each identity and shares what came of it, until Refresh finds other files. What
//     it gives out then is the new, whole; if that can't be used it is the old, and Refresh says so each time. Our own
//     certificate and its key are replaced together or not at all, and so are the authorities in a file. What
//     ServerFiles returns does the same, and looks by itself.
//   - No configuration is ever weaker than its mode says: the peer's certificate is verified
//     always, TLS is at least 1.2 (1.3 wherever the peer can), and mode mtls never falls back to
//     the system's authorities, which would let in anybody with a public certificate. That holds while files are
//     replaced, too: authorities that are gone from a file that is well are trusted no more, and a file
//     that is cut short is not taken for one with fewer of them.
//   - Our own certificate must be valid at the time of loading, and not have expired when a Store gives it out: peers
//     would refuse it anyhow, and say less about the reason.
//   - Errors name each file that is wrong, what it is for, why it can't be used and what to do.
//
// All functions and methods are safe to call from any goroutine.
package tlsid

import (
	"crypto/tls"
	"fmt"
	"time"

	"github.com/serviceradar/poller/internal/check"
)

// Client returns the configuration for connections to host, or nil for plaintext. The server's
// certificate has to be for id.ServerName, or for host (a name or address without its port) if
// that is empty.
func Client(id check.TLS, host string) (*tls.Config, error) {
	return client(id, host, fromDisk(time.Now()))
}

// Server returns the configuration for a listener, or nil for plaintext. In mode mtls only
// clients with a certificate of the authorities in id.CAFile get in; in mode tls anybody does.
func Server(id check.TLS) (*tls.Config, error) {
	return server(id, fromDisk(time.Now()))
}

// loader returns what files came to.
type loader func(files) (*source, error)

// fromDisk reads the files.
func fromDisk(now time.Time) loader {
	return func(f files) (*source, error) { return f.load(now) }
}

func client(id check.TLS, host string, load loader) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: id.ServerName}
	if config.ServerName == "" {
		config.ServerName = host
	}
	pair, pairErr := new(source), error(nil)
	switch id.Mode {
	case "", check.TLSNone:
		return nil, nil // a nil configuration means plaintext
	case check.TLSServer:
		if id.CAFile == "" {
			return config, nil // nil RootCAs are the system's
		}
	case check.TLSMutual:
		pair, pairErr = load(own(id))
	default:
		return nil, unknownMode(id.Mode)
	}
	authorities, err := load(files{ca: id.CAFile, peers: "the servers we connect to"})
	if err = both(pairErr, err); err != nil {
		return nil, err
	}
	config.Certificates, config.RootCAs = pair.pair, authorities.pool
	return config, nil
}

func server(id check.TLS, load loader) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	authorities, poolErr := new(source), error(nil)
	switch id.Mode {
	case "", check.TLSNone:
		return nil, nil // a nil configuration means plaintext
	case check.TLSServer:
	case check.TLSMutual:
		authorities, poolErr = load(files{ca: id.CAFile, peers: "the clients that connect to us"})
		config.ClientAuth = tls.RequireAndVerifyClientCert
	default:
		return nil, unknownMode(id.Mode)
	}
	pair, err := load(own(id))
	if err = both(err, poolErr); err != nil {
		return nil, err
	}
	config.Certificates, config.ClientCAs = pair.pair, authorities.pool
	return config, nil
}

func unknownMode(mode check.TLSMode) error {
	return fmt.Errorf("TLS mode %q is not known: use %q, %q or %q",
		mode, check.TLSNone, check.TLSServer, check.TLSMutual)
}
