package probe

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	tlsPort = 443
	// maxCertificates and maxNames bound what is told of a target's chain, and of the names in its certificate.
	maxCertificates, maxNames = 10, 100
	// maxName is how much is told of one name, in bytes: those in certificates may be of any length.
	maxName = 256
)

type tlsOptions struct {
	Target     string   `json:"target"`
	ServerName string   `json:"server_name"`
	MinDays    int      `json:"min_days"`
	Names      []string `json:"names"`
	StartTLS   string   `json:"starttls"`

	host string
	port int32
}

// tlsMessage is told of a target that shook hands.
type tlsMessage struct {
	Host       string `json:"host"`
	Port       int32  `json:"port"`
	ServerName string `json:"server_name"` // the one that the certificate has to have
	Verified   bool   `json:"verified"`
	tlsFacts
	Chain        []certificate `json:"chain"`         // as the target sent it, its own first, at most 10
	ResponseTime int64         `json:"response_time"` // ns
	Error        string        `json:"error,omitempty"`
}

// tlsFailure is told of a target that did not.
type tlsFailure struct {
	Error string `json:"error"`
	Host  string `json:"host"`
	Port  int32  `json:"port"`
}

// tlsFacts are told of every TLS connection.
type tlsFacts struct {
	Version string `json:"version,omitempty"` // empty where the handshake had no end
	Cipher  string `json:"cipher,omitempty"`
	Subject string `json:"subject"`
	Issuer  string `json:"issuer"`
	// NotAfter and DaysLeft are of the chain: of what expires first in it.
	NotAfter time.Time `json:"not_after"`
	DaysLeft int       `json:"days_left"`
	Names    []string  `json:"names"` // of the certificate, at most 100
}

type certificate struct {
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	DaysLeft  int       `json:"days_left"`
	Serial    string    `json:"serial"` // hexadecimal
}

func parseTLS(target Target) (tlsOptions, error) {
	var o tlsOptions
	if err := parse(target.Details, &o.Target, &o); err != nil {
		return o, err
	}
	port := target.Port
	if _, _, err := net.SplitHostPort(o.Target); err != nil && port == 0 {
		port = tlsPort
	}
	var err error
	if o.host, o.port, err = hostPort(Target{Details: o.Target, Port: port}); err != nil {
		return o, err
	}
	o.ServerName = cmp.Or(o.ServerName, o.host)
	if slices.Contains(o.Names, "") {
		return o, errors.New("names has one that is empty: write names or addresses that the certificate has to be for")
	}
	if o.StartTLS != "" && o.StartTLS != "smtp" {
		return o, fmt.Errorf(`starttls is %q: write "smtp", or leave it out where TLS begins at once`, o.StartTLS)
	}
	return o, wantDays(o.MinDays)
}

func wantDays(days int) error {
	if days < 0 {
		return fmt.Errorf("min_days is %d: write for how many days the certificate still has to be valid, 0 or more", days)
	}
	return nil
}

// TLS shakes hands with a target and looks at its certificate. Details is host:port, or a host alone with the port in
// Target.Port, or else 443. Available is a certificate that is verified, for the names and for as many days as are
// expected. One that is not is described all the same.
func TLS(ctx context.Context, target Target) (Result, error) {
	o, err := parseTLS(target)
	if err != nil {
		return Result{}, err
	}
	began := time.Now()
	conn, err := connect(ctx, o.host, o.port)
	if err != nil {
		return o.failed(ctx, explain(err, time.Since(began)), began)
	}
	defer conn.close()
	if o.StartTLS != "" {
		if err := startTLS(conn); err != nil {
			return o.failed(ctx, explainSMTP(ctx, err, time.Since(began)), began)
		}
	}
	// It is verified below, so that there is something to tell of one that is not accepted.
	state, err := conn.shakeHands(ctx, &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: o.ServerName,
		InsecureSkipVerify: true, //nolint:gosec // see above
	})
	now := time.Now()
	took := now.Sub(began)
	if err != nil {
		return o.failed(ctx, explainHandshake(err, took), began)
	}
	err = verify(&state, target.RootCAs, now)
	why := o.judge(state, err, now)
	message := tlsMessage{
		Host: o.host, Port: o.port, ServerName: o.ServerName, Verified: err == nil,
		tlsFacts: factsOf(state, now), Chain: chainOf(state, now), ResponseTime: took.Nanoseconds(),
	}
	if why != "" {
		message.Error = fmt.Sprintf("TLS to %s: %s", o.address(), why)
	}
	return result(why == "", took, message)
}

func (o *tlsOptions) address() string { return net.JoinHostPort(o.host, strconv.Itoa(int(o.port))) }

func (o *tlsOptions) failed(ctx context.Context, why string, began time.Time) (Result, error) {
	if errors.Is(ctx.Err(), context.Canceled) {
		return Result{}, fmt.Errorf("TLS to %s: %w", o.address(), ctx.Err())
	}
	return result(false, time.Since(began), tlsFailure{fmt.Sprintf("TLS to %s: %s", o.address(), why), o.host, o.port})
}

// judge says what is wrong with a certificate; empty is nothing. The error is that of its verification.
func (o *tlsOptions) judge(state tls.ConnectionState, err error, now time.Time) string {
	if err != nil {
		return explain(err, 0)
	}
	for _, name := range o.Names {
		if state.PeerCertificates[0].VerifyHostname(name) != nil {
			return fmt.Sprintf("the certificate is not for the name %q: it is for %s",
				name, strings.Join(namesOf(state.PeerCertificates[0]), ", "))
		}
	}
	return tooShort(state, o.MinDays, now)
}

// tooShort says that a chain is not valid for so many days more; empty is that it is.
func tooShort(state tls.ConnectionState, days int, now time.Time) string {
	if days == 0 {
		return "" // whoever verifies knows better
	}
	first := firstToExpire(state)
	left := daysLeft(first, now)
	if left >= days {
		return ""
	}
	which := "the certificate"
	if !first.Equal(state.PeerCertificates[0]) {
		which = fmt.Sprintf("a certificate in its chain, that of %q,", excerpt(first.Subject.String(), maxName))
	}
	return fmt.Sprintf("%s is valid until %s, %d days more, which is less than min_days, %d: renew it",
		which, first.NotAfter.UTC().Format(time.RFC3339), left, days)
}

// verify does what crypto/tls does unless it is told not to, and keeps the chains in the state.
func verify(state *tls.ConnectionState, roots *x509.CertPool, now time.Time) error {
	sent := state.PeerCertificates
	options := x509.VerifyOptions{
		Roots: roots, DNSName: state.ServerName, CurrentTime: now, Intermediates: x509.NewCertPool(),
	}
	for _, c := range sent[1:] {
		options.Intermediates.AddCert(c)
	}
	chains, err := sent[0].Verify(options)
	if err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: sent, Err: err}
	}
	state.VerifiedChains = chains
	return nil
}

// firstToExpire returns the certificate that ends the validity of a target's chain. Of several chains it is that of the
// one that lasts longest; where none is verified, only the target's own certificate counts.
func firstToExpire(state tls.ConnectionState) *x509.Certificate {
	var best *x509.Certificate
	for _, chain := range state.VerifiedChains {
		first := chain[0]
		for _, c := range chain[1:] {
			if c.NotAfter.Before(first.NotAfter) {
				first = c
			}
		}
		if best == nil || first.NotAfter.After(best.NotAfter) {
			best = first
		}
	}
	if best == nil {
		best = state.PeerCertificates[0]
	}
	return best
}

func daysLeft(c *x509.Certificate, now time.Time) int {
	return int(math.Floor(c.NotAfter.Sub(now).Hours() / 24))
}

func factsOf(state tls.ConnectionState, now time.Time) tlsFacts {
	own, first := state.PeerCertificates[0], firstToExpire(state)
	facts := tlsFacts{
		Subject: excerpt(own.Subject.String(), maxName), Issuer: excerpt(own.Issuer.String(), maxName),
		NotAfter: first.NotAfter.UTC(), DaysLeft: daysLeft(first, now), Names: namesOf(own),
	}
	if state.Version != 0 {
		facts.Version, facts.Cipher = tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite)
	}
	return facts
}

// factsOfRefused are those of a certificate that crypto/tls did not accept; nil if that is not what the error is of.
func factsOfRefused(err error, now time.Time) *tlsFacts {
	refused, ok := errors.AsType[*tls.CertificateVerificationError](err)
	if !ok || len(refused.UnverifiedCertificates) == 0 {
		return nil
	}
	facts := factsOf(tls.ConnectionState{PeerCertificates: refused.UnverifiedCertificates}, now)
	return &facts
}

func chainOf(state tls.ConnectionState, now time.Time) []certificate {
	var chain []certificate
	for _, c := range state.PeerCertificates[:min(len(state.PeerCertificates), maxCertificates)] {
		chain = append(chain, certificate{
			Subject: excerpt(c.Subject.String(), maxName), Issuer: excerpt(c.Issuer.String(), maxName),
			NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(), DaysLeft: daysLeft(c, now),
			Serial: excerpt(c.SerialNumber.Text(16), maxName),
		})
	}
	return chain
}

func namesOf(c *x509.Certificate) []string {
	names := []string{}
	for _, name := range c.DNSNames[:min(len(c.DNSNames), maxNames)] {
		names = append(names, excerpt(name, maxName))
	}
	for _, ip := range c.IPAddresses[:min(len(c.IPAddresses), maxNames-len(names))] {
		names = append(names, ip.String())
	}
	return names
}

// link is a TCP connection to a target that is closed when the probe's time ends, whatever is being done on it.
type link struct {
	net.Conn
	keep func() bool
}

// connect makes one. A target that does not answer, or that is not there, is the error.
func connect(ctx context.Context, host string, port int32) (*link, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
	if err != nil {
		return nil, err
	}
	return &link{conn, context.AfterFunc(ctx, func() { _ = conn.Close() })}, nil
}

func (l *link) close() {
	l.keep()
	_ = l.Close() // whatever was written has been answered, or was not to be
}

// shakeHands makes the connection one with TLS.
func (l *link) shakeHands(ctx context.Context, config *tls.Config) (tls.ConnectionState, error) {
	secured := tls.Client(l.Conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		return tls.ConnectionState{}, cmp.Or(ctx.Err(), err)
	}
	l.Conn = secured
	state := secured.ConnectionState()
	state.ServerName = config.ServerName // which it leaves empty where it is an address
	return state, nil
}

// startTLS has a mail server go on in TLS.
func startTLS(conn io.ReadWriter) error {
	replies := textproto.NewReader(bufio.NewReader(io.LimitReader(conn, maxReply)))
	for _, step := range []struct {
		say  string
		want int
	}{{"", 220}, {"EHLO localhost", 250}, {"STARTTLS", 220}} {
		if step.say != "" {
			if _, err := io.WriteString(conn, step.say+"\r\n"); err != nil {
				return err
			}
		}
		if _, _, err := replies.ReadResponse(step.want); err != nil {
			return fmt.Errorf("%s: %w", cmp.Or(step.say, "its greeting"), err)
		}
	}
	if replies.R.Buffered() > 0 {
		return errors.New("it went on in the clear after it had agreed to TLS")
	}
	return nil
}

func explainSMTP(ctx context.Context, err error, took time.Duration) string {
	if ctx.Err() != nil {
		return fmt.Sprintf("connected, but the mail server did not come to TLS within %v: does it speak SMTP?", took.Round(time.Millisecond))
	}
	return "the target did not do its part in SMTP to begin TLS: " + excerpt(err.Error(), maxQuote)
}

func explainHandshake(err error, took time.Duration) string {
	_, notTLS := errors.AsType[tls.RecordHeaderError](err)
	switch {
	case notTLS:
		return "the target does not speak TLS"
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return "the target closed the connection in the TLS handshake: does it speak TLS?"
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("connected, but the TLS handshake had no end within %v: does the target speak TLS?", took.Round(time.Millisecond))
	}
	return explain(err, took)
}
