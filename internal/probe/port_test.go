package probe

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
)

// echo answers a line with the line, and then waits.
func echo(conn net.Conn) {
	line, _ := bufio.NewReader(conn).ReadString('\n')
	_, _ = io.WriteString(conn, line)
	readAll(conn)
}

func TestPortConversation(t *testing.T) {
	t.Parallel()
	echoing, mail := serveTCP(t, echo), serveTCP(t, saying("220 mail ESMTP\r\n"))
	brief := serveTCP(t, func(conn net.Conn) { _, _ = io.WriteString(conn, "bye") })
	mute := serveTCP(t, func(net.Conn) {})
	huge := serveTCP(t, saying(strings.Repeat("x", 100*maxReply)))
	for name, test := range map[string]struct {
		details  string
		received string
		want     []string // in the error; none is available
	}{
		"banner":           {`{"target":"` + mail + `","expect":"220"}`, "220 mail ESMTP\r\n", nil},
		"pattern":          {`{"target":"` + mail + `","matches":"^220 .*SMTP\r\n"}`, "220 mail ESMTP\r\n", nil},
		"both":             {`{"target":"` + mail + `","expect":"220","matches":"E?SMTP"}`, "220 mail ESMTP\r\n", nil},
		"send":             {`{"target":"` + echoing + `","send":"PING\r\n","expect":"PING\r\n"}`, "PING\r\n", nil},
		"only send":        {`{"target":"` + echoing + `","send":"PING\r\n"}`, "", nil},
		"closed, at last":  {`{"target":"` + brief + `","expect":"bye"}`, "bye", nil},
		"other banner":     {`{"target":"` + brief + `","expect":"220"}`, "bye", []string{`is open, but "220" did not come; the target said "bye", and closed the connection`}},
		"other pattern":    {`{"target":"` + brief + `","expect":"b","matches":"^220"}`, "bye", []string{`is open, but nothing came that matches "^220"; the target said "bye"`}},
		"says nothing":     {`{"target":"` + mute + `","expect":"220"}`, "", []string{`"220" did not come; the target said nothing, and closed`}},
		"says too much":    {`{"target":"` + huge + `","expect":"y"}`, strings.Repeat("x", maxQuote) + "…", []string{`"y" did not come in the first 16 KiB; the target said "xxx`}},
		"TLS without TLS":  {`{"target":"` + mail + `","tls":true}`, "", []string{"is open, but the target does not speak TLS"}},
		"TLS with nobody":  {`{"target":"` + mute + `","tls":true}`, "", []string{"is open, but the target closed the connection in the TLS handshake"}},
		"refused, and TLS": {`{"target":"` + closedAddr + `","tls":true,"expect":"x"}`, "", []string{"Port 1 is not accessible: 127.0.0.1: connection refused"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := Port(t.Context(), Target{Details: test.details})
			if test.want != nil {
				wantDown(t, r, err, test.want...)
			} else if err != nil || !r.Available || r.ResponseTime <= 0 {
				t.Errorf("%s, %v; want available", r.Message, err)
			}
			if received, _ := unmarshal(t, r)["received"].(string); received != test.received {
				t.Errorf("received %q; want %q", received, test.received)
			}
		})
	}
}

// An answer may come in any pieces, and no more of it is read than has to be.
func TestPortReads(t *testing.T) {
	t.Parallel()
	o, err := parsePort(Target{Details: details("a:25", `"expect":"20 m","matches":"^220 mail\r\n"`)})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]error{
		"220 mail\r\nand more":                  nil,
		"220 mai":                               io.EOF,
		"220 m" + strings.Repeat("x", maxReply): errOtherReply,
	} {
		var c conversation
		if err := c.read(t.Context(), iotest.OneByteReader(strings.NewReader(text)), o); !errors.Is(err, want) {
			t.Errorf("%.20q: %v; want %v", text, err, want)
		}
		if reply := string(c.reply); len(reply) > maxReply || !strings.HasPrefix(text, reply) || want == nil && reply != "220 mail\r\n" {
			t.Errorf("%.20q: it has read %.20q", text, reply)
		}
	}
}

func TestPortTLS(t *testing.T) {
	t.Parallel()
	ca := tlsidtest.NewCA(t)
	roots := rootsOf(t, ca.File)
	good := serveTLS(t, ca.Issue(t, "good"), echo)
	named := serveTLS(t, ca.Issue(t, "named", tlsidtest.Hosts("imap.example")), readAll)
	selfSigned := serveTLS(t, tlsidtest.SelfSigned(t, "self"), echo)
	for name, test := range map[string]struct {
		addr, options, subject string
		want                   []string
	}{
		"good":              {good, `"send":"hello\n","expect":"hello"`, "CN=good", nil},
		"wrong name":        {named, `"insecure":false`, "CN=named", []string{"is open, but the target's certificate is not accepted", "127.0.0.1"}},
		"other server name": {named, `"server_name":"imap.example"`, "CN=named", nil},
		"self-signed":       {selfSigned, `"send":"hello\n"`, "CN=self", []string{"not accepted", "unknown authority"}},
		"insecure":          {selfSigned, `"insecure":true,"send":"hello\n","expect":"hello"`, "CN=self", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := Port(t.Context(), Target{Details: `{"target":"` + test.addr + `","tls":true,` + test.options + `}`, RootCAs: roots})
			if test.want != nil {
				wantDown(t, r, err, test.want...)
			} else if err != nil || !r.Available {
				t.Errorf("%s, %v; want available", r.Message, err)
			}
			m := unmarshal(t, r)
			facts, _ := m["tls"].(map[string]any)
			if facts["subject"] != test.subject || facts["days_left"] != 0.0 || (m["insecure"] == true) != (name == "insecure") {
				t.Errorf("%s; want subject %s", r.Message, test.subject)
			}
			if (facts["version"] == nil) != (test.want != nil) {
				t.Errorf("version and cipher are those of a handshake with an end: %s", r.Message)
			}
		})
	}
}

// Targets that say nothing, or shake no hands: the probe ends with its time, and so do the connections.
func TestPortSlow(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{}, 3)
	silent := serveTCP(t, func(conn net.Conn) { readAll(conn); closed <- struct{}{} })
	drip := serveTCP(t, func(conn net.Conn) { saying("220-wait\r\n")(conn); closed <- struct{}{} })
	for want, details := range map[string]string{
		`is open, but "220" did not come within`:  `{"target":"` + silent + `","expect":"220"}`,
		`nothing came that matches "220 " within`: `{"target":"` + drip + `","matches":"220 "}`,
		"the TLS handshake had no end within":     `{"target":"` + silent + `","tls":true}`,
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			r, err := Port(ctx, Target{Details: details})
			wantDown(t, r, err, want)
			<-closed
		})
	}
}

// A target that reads nothing, however much there is to send.
func TestPortTakesNothing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	ours, theirs := net.Pipe()
	defer func() { _ = theirs.Close() }()
	conn := &link{ours, context.AfterFunc(ctx, func() { _ = ours.Close() })}
	defer conn.close()
	var c conversation
	err := c.hold(ctx, conn, portOptions{Send: "PING"}, Target{})
	if err == nil {
		t.Fatal("it was sent")
	}
	if why := c.explain(ctx, err, portOptions{}, time.Second); why != "the target did not take what was sent within 1s" {
		t.Error(why)
	}
}

func TestPortOptions(t *testing.T) {
	t.Parallel()
	for details, want := range map[string]string{
		`{"target":"a:1","server_name":"b"}`:                                   `add "tls": true`,
		`{"target":"a:1","insecure":true}`:                                     `add "tls": true`,
		details("a:1", `"matches":"`+strings.Repeat("x", maxExpression+1)+`"`): "matches has 1025 bytes",
		`{"target":"a:1","matches":"("}`:                                       "matches is not a regular expression (RE2)",
		`{"target":"a:1","expekt":"x"}`:                                        `unknown field "expekt"`,
		`{"expect":"x"}`:                                                       "it has no host",
	} {
		if _, err := Port(t.Context(), Target{Details: details}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %s", details, err, want)
		}
	}
}

// What the details look like in JSON is no matter of what is sent on the wire.
func TestPortOfObject(t *testing.T) {
	t.Parallel()
	addr, port := listen(t)
	r, err := Port(t.Context(), Target{Details: `{"target":"127.0.0.1"}`, Port: port})
	if err != nil || !r.Available || len(unmarshal(t, r)) != 3 {
		t.Errorf("%s: %s, %v; want host, port and response_time", addr, r.Message, err)
	}
}

func FuzzPortDetails(f *testing.F) {
	for _, seed := range []string{
		"", "a:1", "[::1]:22", `{"target":"a:1","send":"x\r\n","expect":"y","matches":"z+"}`, `{"target":"a:1","tls":true,"server_name":"b"}`,
		`{"target":"a:1","matches":"("}`,
	} {
		f.Add(seed, int32(0))
	}
	f.Add("a", int32(65536))
	f.Fuzz(func(t *testing.T, details string, port int32) {
		o, err := parsePort(Target{Details: details, Port: port})
		if err == nil && (o.host == "" || o.port < 1 || o.port > 65535 || (o.pattern == nil) != (o.Matches == "") || o.Insecure && !o.TLS) {
			t.Errorf("%q is taken for %+v", details, o)
		}
	})
}
