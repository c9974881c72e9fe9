//go:build cluster && linux

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/net/http2"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
)

// TestClusterStrangers has strangers talk to all ports of each node. They may read nothing but that they are refused, change nothing, and the
// nodes must tell of them.
func TestClusterStrangers(t *testing.T) {
	noLeaks(t)
	r := newRig(t, "127.0.0.1", onLoopback(3))
	c := &course{from: r.startAll()}
	other, self := tlsidtest.NewCA(t).Issue(t, nodeName(0), tlsidtest.Hosts(clusterName)), tlsidtest.SelfSigned(t, nodeName(0), tlsidtest.Hosts(clusterName))
	strangers := []struct {
		name string
		tls  *tls.Config // nil: plaintext
	}{
		{"plaintext", nil},
		{"no certificate", &tls.Config{}},
		{"a certificate of the checkers' authority", showing(pairOf(t, other))},
		{"a certificate of its own", showing(pairOf(t, self))},
	}
	for i, at := range []struct {
		name    string
		port    int
		intrude func(t *testing.T, source, target string, with *tls.Config) ([]byte, error)
	}{{"membership", 7946, intrudeAs}, {"remote", 7947, intrudeAs}, {"membership's UDP", 7946, intrudeByUDP}} {
		for j, s := range strangers {
			// By its address it is found in the logs.
			source := fmt.Sprintf("127.9.%d.%d", i+1, j+1)
			for _, n := range r.nodes {
				got, err := at.intrude(t, source, fmt.Sprintf("%s:%d", n.address, at.port), s.tls)
				if len(got) > 0 || err == nil || os.IsTimeout(err) {
					t.Errorf("%s at the %s port of %s was not turned away: it read %q, %v", s.name, at.name, n, got, err)
				}
				t.Logf("%s at the %s port of %s: %v; in its log: %s", s.name, at.name, n, err, n.said(source))
			}
		}
		for _, n := range r.nodes {
			if n.said(fmt.Sprintf("127.9.%d.", i+1)) == "" {
				t.Errorf("%s says nothing of strangers at its %s port", n, at.name)
			}
		}
	}
	<-time.After(3 * every)
	r.tell(c, r.seen.history())
	r.finish()
}

func pairOf(t *testing.T, id check.TLS) tls.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(id.CertFile, id.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// showing shows a certificate whether it is wanted or not.
func showing(pair tls.Certificate) *tls.Config {
	return &tls.Config{GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }}
}

// intrudeAs connects from a source address, speaks first, as a client of gRPC does, and returns what it could read, and why that ended.
func intrudeAs(t *testing.T, source, target string, with *tls.Config) (got []byte, err error) {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	conn, err := dialer.DialContext(t.Context(), "tcp", target)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	const waits = 10 * time.Second
	if err := conn.SetDeadline(time.Now().Add(waits)); err != nil {
		t.Fatal(err)
	}
	if with != nil {
		with = with.Clone()
		with.InsecureSkipVerify = true // a stranger does not care
		with.NextProtos = []string{"h2"}
		conn = tls.Client(conn, with)
	}
	if _, err := io.WriteString(conn, http2.ClientPreface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
		return nil, err
	}
	got, err = io.ReadAll(conn)
	if with == nil && len(got) > 0 && got[0] == alertRecord {
		got = nil // says nothing but that this is no TLS
	}
	if err == nil {
		err = errors.New("the connection was closed")
	}
	return got, err
}

// intrudeByUDP is intrudeAs by QUIC, in the language of the nodes' packets. Who has no TLS shows no certificate, and speaks another language.
func intrudeByUDP(t *testing.T, source, target string, with *tls.Config) (got []byte, err error) {
	t.Helper()
	socket, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", source+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.Close() }()
	by := &quic.Transport{Conn: socket}
	defer func() { _ = by.Close() }()
	to, err := net.ResolveUDPAddr("udp", target)
	if err != nil {
		t.Fatal(err)
	}
	speaks := "poller-packets/1"
	if with == nil {
		with, speaks = &tls.Config{}, "h3"
	}
	with = with.Clone()
	with.InsecureSkipVerify = true // a stranger does not care
	with.NextProtos = []string{speaks}
	const waits = 10 * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), waits)
	defer cancel()
	conn, err := by.Dial(ctx, to, with, &quic.Config{EnableDatagrams: true})
	if err != nil {
		return nil, err
	}
	stream, err := conn.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	_ = stream.SetDeadline(time.Now().Add(waits))
	_ = conn.SendDatagram([]byte("x"))
	if _, err := io.WriteString(stream, "p\x03rig"); err != nil { // a node's introduction
		return nil, err
	}
	got, err = io.ReadAll(stream)
	if err == nil {
		err = errors.New("the connection was closed")
	}
	return got, err
}

// alertRecord is how TLS begins to say that something is wrong.
const alertRecord = 21

// said is the first line of the node's log that tells of an address. It may come a little later than the connection's end.
func (n *node) said(address string) string {
	n.t.Helper()
	for until := time.Now().Add(2 * time.Second); time.Now().Before(until); <-time.After(every / 20) {
		text, err := os.ReadFile(n.log)
		if err != nil {
			n.t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, address) {
				return strings.TrimSpace(line)
			}
		}
	}
	return ""
}
