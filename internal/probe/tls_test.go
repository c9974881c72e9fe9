package probe

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
)

// serveTCP has every connection to a port of its own handled, until the test ends. The end of the handler closes it.
func serveTCP(t *testing.T, handle func(net.Conn)) (addr string) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var handlers sync.WaitGroup
	handlers.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			handlers.Go(func() {
				defer func() { stop(); _ = conn.Close() }()
				handle(conn)
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); cancel(); handlers.Wait() })
	return l.Addr().String()
}

// serveTLS does so with TLS: the handler has the connection after the handshake.
func serveTLS(t *testing.T, id check.TLS, handle func(net.Conn)) (addr string) {
	t.Helper()
	config := serverConfig(t, id)
	return serveTCP(t, func(conn net.Conn) {
		secured := tls.Server(conn, config)
		if secured.Handshake() == nil {
			handle(secured)
			_ = secured.Close()
		}
	})
}

func serverConfig(t *testing.T, id check.TLS) *tls.Config {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(id.CertFile, id.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
}

// rootsOf is a pool with the certificates in a file.
func rootsOf(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		t.Fatalf("no certificates in %s", file)
	}
	return pool
}

// readAll is a handler that waits for the peer to close.
func readAll(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

// saying is one that says something first.
func saying(text string) func(net.Conn) {
	return func(conn net.Conn) { _, _ = io.WriteString(conn, text); readAll(conn) }
}

// details are a JSON object with a target and options.
func details(target, options string) string { return `{"target":"` + target + `",` + options + `}` }

// inDays is a time so many and a half days from now.
func inDays(days int) time.Time {
	return time.Now().Add(time.Duration(days)*24*time.Hour + 12*time.Hour)
}

func TestTLS(t *testing.T) {
	t.Parallel()
	ca := tlsidtest.NewCA(t, tlsidtest.Valid(time.Now().Add(-time.Hour), inDays(90)))
	long := ca.Issue(t, "long", tlsidtest.Valid(time.Now().Add(-time.Hour), inDays(365)))
	good := ca.Issue(t, "good", tlsidtest.Valid(time.Now().Add(-time.Hour), inDays(30)), tlsidtest.Hosts("127.0.0.1", "a.example", "*.b.example"))
	expired := ca.Issue(t, "expired", tlsidtest.Valid(time.Now().Add(-72*time.Hour), time.Now().Add(-36*time.Hour)))
	early := ca.Issue(t, "early", tlsidtest.Valid(time.Now().Add(time.Hour), inDays(30)))
	selfSigned := tlsidtest.SelfSigned(t, "self")
	stranger := tlsidtest.NewCA(t).Issue(t, "stranger")
	roots := rootsOf(t, ca.File)
	for name, test := range map[string]struct {
		id       check.TLS
		options  string
		subject  string
		days     float64
		verified bool
		want     []string // in the error; none is available
	}{
		"good":                  {good, ``, "CN=good", 30, true, nil},
		"days enough":           {good, `,"min_days":30`, "CN=good", 30, true, nil},
		"days too few":          {good, `,"min_days":31`, "CN=good", 30, true, []string{"the certificate is valid until 20", ", 30 days more, which is less than min_days, 31: renew it"}},
		"authority ends sooner": {long, `,"min_days":91`, "CN=long", 90, true, []string{`a certificate in its chain, that of "CN=test authority",`, "90 days more"}},
		"names":                 {good, `,"names":["a.example","x.b.example","127.0.0.1"]`, "CN=good", 30, true, nil},
		"name missing":          {good, `,"names":["a.example","c.example"]`, "CN=good", 30, true, []string{`not for the name "c.example": it is for a.example, *.b.example, 127.0.0.1`}},
		"server name":           {good, `,"server_name":"a.example"`, "CN=good", 30, true, nil},
		"wrong server name":     {good, `,"server_name":"c.example"`, "CN=good", 30, false, []string{"is not accepted", "not c.example"}},
		"expired":               {expired, ``, "CN=expired", -2, false, []string{"is not accepted", "expired"}},
		"not yet":               {early, ``, "CN=early", 30, false, []string{"is not accepted", "not yet valid"}},
		"self-signed":           {selfSigned, ``, "CN=self", 0, false, []string{"is not accepted", "unknown authority", "add the authority"}},
		"of another authority":  {stranger, `,"min_days":1000`, "CN=stranger", 0, false, []string{"is not accepted", "unknown authority"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := serveTLS(t, test.id, readAll)
			r, err := TLS(t.Context(), Target{Details: `{"target":"` + addr + `"` + test.options + `}`, RootCAs: roots})
			if test.want != nil {
				wantDown(t, r, err, append(test.want, "TLS to "+addr)...)
			} else if err != nil || !r.Available {
				t.Errorf("%s, %v; want available", r.Message, err)
			}
			m := unmarshal(t, r)
			if m["subject"] != test.subject || m["days_left"] != test.days || m["verified"] != test.verified ||
				m["version"] != "TLS 1.3" || !strings.HasPrefix(m["cipher"].(string), "TLS_") || m["response_time"] != float64(r.ResponseTime) {
				t.Errorf("%s; want %s, %v days, verified %v", r.Message, test.subject, test.days, test.verified)
			}
			chain := m["chain"].([]any)
			first := chain[0].(map[string]any)
			if len(chain) != 1 || first["subject"] != test.subject || first["serial"] == "" || first["not_before"] == "" || first["not_after"] == "" {
				t.Errorf("chain: %s", r.Message)
			}
		})
	}
}

func TestTLSDown(t *testing.T) {
	t.Parallel()
	r, err := TLS(t.Context(), Target{Details: closedAddr})
	wantDown(t, r, err, "TLS to 127.0.0.1:1: connection refused: nothing listens there")
	r, err = TLS(t.Context(), Target{Details: "127.0.0.1", Port: 1})
	wantDown(t, r, err, "TLS to 127.0.0.1:1: connection refused")
	r, err = TLS(t.Context(), Target{Details: serveTCP(t, func(conn net.Conn) { _, _ = io.WriteString(conn, "220 mail\r\n"); readAll(conn) })})
	wantDown(t, r, err, "does not speak TLS")
	r, err = TLS(t.Context(), Target{Details: serveTCP(t, func(conn net.Conn) { _, _ = conn.Read(make([]byte, 1024)) })})
	wantDown(t, r, err, "in the TLS handshake")
}

// A target that takes the connection and says nothing: the probe ends with its time, and so does the connection.
func TestTLSSlow(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{}, 1)
	addr := serveTCP(t, func(conn net.Conn) { readAll(conn); closed <- struct{}{} })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	r, err := TLS(ctx, Target{Details: addr})
	wantDown(t, r, err, "connected, but the TLS handshake had no end within")
	<-closed
	ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	r, err = TLS(ctx, Target{Details: details(addr, `"starttls":"smtp"`)})
	wantDown(t, r, err, "connected, but the mail server did not come to TLS within")
	<-closed
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if r, err := TLS(canceled, Target{Details: addr}); !errors.Is(err, context.Canceled) {
		t.Errorf("taken back: %s, %v; want an error", r.Message, err)
	}
}

func TestStartTLS(t *testing.T) {
	t.Parallel()
	ca := tlsidtest.NewCA(t)
	config := serverConfig(t, ca.Issue(t, "mail"))
	// dialogue is a server that has an answer ready for each line.
	dialogue := func(answers ...string) string {
		return serveTCP(t, func(conn net.Conn) {
			lines := bufio.NewReader(conn)
			for _, answer := range answers {
				if _, err := io.WriteString(conn, answer); err != nil {
					return
				}
				if strings.HasPrefix(answer, "221") {
					return
				}
				if line, _ := lines.Peek(1); len(line) == 0 || line[0] < 'A' {
					break // TLS begins
				}
				_, _ = lines.ReadString('\n')
			}
			secured := tls.Server(&buffered{conn, lines}, config)
			if secured.Handshake() == nil {
				readAll(secured)
			}
		})
	}
	const greeting, hello, agreed = "220 mail ESMTP\r\n", "250-mail\r\n250 STARTTLS\r\n", "220 go ahead\r\n"
	for name, test := range map[string]struct{ addr, want string }{
		"good":           {dialogue(greeting, hello, agreed), ""},
		"busy":           {dialogue("421 too busy\r\n"), `did not do its part in SMTP to begin TLS: its greeting: 421 "too busy"`},
		"no TLS":         {dialogue(greeting, hello, "502 not here\r\n"), `STARTTLS: 502 "not here"`},
		"no mail":        {dialogue("hello\r\n"), "its greeting: "},
		"closed":         {dialogue("220 mail\r\n", "221 bye"), "EHLO localhost: "},
		"in the clear":   {dialogue(greeting, hello, agreed+"250 injected\r\n"), "went on in the clear"},
		"without an end": {serveTCP(t, saying(strings.Repeat("220-x", maxReply))), "its greeting: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := TLS(t.Context(), Target{Details: details(test.addr, `"starttls":"smtp"`), RootCAs: rootsOf(t, ca.File)})
			if test.want != "" {
				wantDown(t, r, err, test.want)
			} else if err != nil || !r.Available || unmarshal(t, r)["subject"] != "CN=mail" {
				t.Errorf("%s, %v; want available", r.Message, err)
			}
		})
	}
}

// buffered is a connection of which some has been read already.
type buffered struct {
	net.Conn
	from *bufio.Reader
}

func (b *buffered) Read(p []byte) (int, error) { return b.from.Read(p) }

// What a probe was connected to sees the end of it when the probe returns, not when its time has ended.
func TestLeaveNoConnection(t *testing.T) {
	// The collector closes connections that were forgotten. Not in parallel, because it is everybody's.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	closed := make(chan struct{}, 2)
	addr := serveTLS(t, tlsidtest.SelfSigned(t, "self"), func(conn net.Conn) { readAll(conn); closed <- struct{}{} })
	for name, look := range map[string]func() (Result, error){
		"tls": func() (Result, error) { return TLS(t.Context(), Target{Details: addr}) },
		"port": func() (Result, error) {
			return Port(t.Context(), Target{Details: details(addr, `"tls":true,"insecure":true,"send":"x"`)})
		},
	} {
		if r, err := look(); err != nil {
			t.Errorf("%s: %s, %v", name, r.Message, err)
		}
		select {
		case <-closed:
		case <-time.After(10 * time.Second):
			t.Errorf("%s: the connection is still open", name)
		}
	}
}

func TestTLSOptions(t *testing.T) {
	t.Parallel()
	for details, want := range map[string]tlsOptions{
		"host.example":      {host: "host.example", port: 443, ServerName: "host.example"},
		"host.example:8443": {host: "host.example", port: 8443, ServerName: "host.example"},
		"2001:db8::1":       {host: "2001:db8::1", port: 443, ServerName: "2001:db8::1"},
		`{"target":"10.0.0.1:993","server_name":"imap.example","min_days":14}`: {
			host: "10.0.0.1", port: 993, ServerName: "imap.example", MinDays: 14,
		},
	} {
		o, err := parseTLS(Target{Details: details})
		if err != nil || o.host != want.host || o.port != want.port || o.ServerName != want.ServerName || o.MinDays != want.MinDays {
			t.Errorf("%s: %+v, %v", details, o, err)
		}
	}
	for details, want := range map[string]string{
		"":                               "it has no host",
		`{"target":"a","min_days":-1}`:   "min_days is -1",
		`{"target":"a","names":[""]}`:    "names has one that is empty",
		`{"target":"a","starttls":"x"}`:  `starttls is "x": write "smtp"`,
		`{"target":"a","insecure":true}`: `unknown field "insecure"`,
	} {
		if _, err := TLS(t.Context(), Target{Details: details}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %s", details, err, want)
		}
	}
}

// What certificates say is bounded.
func TestTLSManyNames(t *testing.T) {
	t.Parallel()
	c := &x509.Certificate{IPAddresses: []net.IP{net.IPv4zero}}
	for i := range maxNames - 1 {
		c.DNSNames = append(c.DNSNames, strconv.Itoa(i)+strings.Repeat("x", 2*maxName))
	}
	for _, want := range []int{maxNames, maxNames, maxNames} {
		names := namesOf(c)
		if len(names) != want || len(names[0]) > maxName+len("…") {
			t.Errorf("%d names, the first %d bytes", len(names), len(names[0]))
		}
		c.DNSNames = append(c.DNSNames, "one.more")
	}
}

func FuzzTLSDetails(f *testing.F) {
	for _, seed := range []string{"", "a", "a:1", "[::1]:443", `{"target":"a","names":["b"],"min_days":3}`, `{"target":"a","server_name":"b"}`, `{"min_days":-1}`} {
		f.Add(seed, int32(0))
	}
	f.Add("a", int32(65536))
	f.Fuzz(func(t *testing.T, details string, port int32) {
		o, err := parseTLS(Target{Details: details, Port: port})
		if err == nil && (o.host == "" || o.port < 1 || o.port > 65535 || o.ServerName == "" || o.MinDays < 0) {
			t.Errorf("%q is taken for %+v", details, o)
		}
	})
}
