package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// serveDNS serves a handler over UDP and TCP on one port of loopback until the test ends.
func serveDNS(t *testing.T, handler dns.HandlerFunc) (addr string) {
	t.Helper()
	for range 20 {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		packets, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", l.Addr().String())
		if err != nil { // somebody else has this port of UDP
			_ = l.Close()
			continue
		}
		for _, s := range []*dns.Server{{Listener: l, Handler: handler}, {PacketConn: packets, Handler: handler}} {
			started := make(chan struct{})
			s.NotifyStartedFunc = func() { close(started) }
			ended := make(chan error, 1)
			go func() { ended <- s.ActivateAndServe() }()
			<-started
			t.Cleanup(func() {
				_ = s.Shutdown()
				if err := <-ended; err != nil {
					t.Errorf("the DNS server ended with %v", err)
				}
			})
		}
		return l.Addr().String()
	}
	t.Fatal("no port is free for both UDP and TCP")
	return ""
}

// zone answers from what stands in it, as dig shows it, by name.
func zone(records map[string][]string) dns.HandlerFunc {
	return func(w dns.ResponseWriter, question *dns.Msg) {
		answer := new(dns.Msg).SetReply(question)
		answer.Authoritative = true
		lines, known := records[dns.CanonicalName(question.Question[0].Name)]
		if !known {
			answer.Rcode = dns.RcodeNameError
		}
		for _, line := range lines {
			record, err := dns.NewRR(line)
			if err != nil {
				panic(err)
			}
			if kind := record.Header().Rrtype; kind == question.Question[0].Qtype || kind == dns.TypeCNAME {
				answer.Answer = append(answer.Answer, record)
			}
		}
		_ = w.WriteMsg(answer)
	}
}

func dnsDetails(server, rest string) Target {
	return Target{Details: fmt.Sprintf(`{"server": %q, %s}`, server, rest)}
}

func TestDNS(t *testing.T) {
	t.Parallel()
	server := serveDNS(t, zone(map[string][]string{
		"host.example.":  {"host.example. 60 IN A 192.0.2.1", "host.example. 60 IN A 192.0.2.2", "host.example. 60 IN AAAA 2001:db8::1"},
		"alias.example.": {"alias.example. 60 IN CNAME host.example.", "host.example. 60 IN A 192.0.2.1"},
		"empty.example.": {},
		"example.": {
			"example. 60 IN MX 10 Mail.example.", "example. 60 IN NS ns.example.", `example. 60 IN TXT "v=spf1 " "-all"`,
			"example. 60 IN SOA ns.example. root.example. 1 2 3 4 5", `example. 60 IN CAA 0 issue "ca.example"`,
		},
		"text.example.":           {`text.example. 60 IN TXT "say \"a\\b\"; " "gr\195\188n"`, `text.example. 60 IN TXT "caf\233"`},
		"_ldap._tcp.example.":     {"_ldap._tcp.example. 60 IN SRV 0 5 389 ldap.example."},
		"1.2.0.192.in-addr.arpa.": {"1.2.0.192.in-addr.arpa. 60 IN PTR host.example."},
	}))
	for _, test := range []struct {
		options string
		answers []string
	}{
		{`"target": "host.example"`, []string{"192.0.2.1", "192.0.2.2"}},
		{`"target": "HOST.example.", "type": "a"`, []string{"192.0.2.1", "192.0.2.2"}},
		{`"target": "host.example", "expect": ["192.0.2.2"]`, []string{"192.0.2.1", "192.0.2.2"}},
		{`"target": "host.example", "tcp": true`, []string{"192.0.2.1", "192.0.2.2"}},
		{`"target": "host.example", "type": "AAAA", "expect": ["2001:0DB8:0::1"]`, []string{"2001:db8::1"}},
		{`"target": "alias.example"`, []string{"192.0.2.1"}},
		{`"target": "alias.example", "type": "CNAME", "expect": ["host.EXAMPLE"]`, []string{"host.example."}},
		{`"target": "example", "type": "MX", "expect": ["10 mail.example"]`, []string{"10 Mail.example."}},
		{`"target": "example", "type": "NS"`, []string{"ns.example."}},
		{`"target": "example", "type": "TXT", "expect": ["v=spf1 -all"]`, []string{"v=spf1 -all"}},
		{`"target": "text.example", "type": "TXT", "expect": ["say \"a\\b\"; grün"]`, []string{`say "a\b"; grün`, "caf"}},
		{`"target": "example", "type": "SOA"`, []string{"ns.example. root.example. 1 2 3 4 5"}},
		{`"target": "example", "type": "CAA"`, []string{`0 issue "ca.example"`}},
		{`"target": "_ldap._tcp.example", "type": "SRV"`, []string{"0 5 389 ldap.example."}},
		{`"target": "192.0.2.1", "type": "PTR", "expect": ["host.example"]`, []string{"host.example."}},
		{`"target": "nobody.example", "rcode": "nxdomain"`, []string{}},
	} {
		r, err := DNS(t.Context(), dnsDetails(server, test.options))
		if err != nil {
			t.Errorf("%s: %v", test.options, err)
			continue
		}
		var m dnsMessage
		if err := json.Unmarshal(r.Message, &m); err != nil {
			t.Fatal(err)
		}
		if !r.Available || !slices.Equal(m.Answers, test.answers) || m.Count != len(test.answers) || m.Server != server || m.Error != "" ||
			!m.Authoritative || m.ResponseTime <= 0 || r.ResponseTime.Nanoseconds() != m.ResponseTime ||
			m.TCP != strings.Contains(test.options, "tcp\":") {
			t.Errorf("%s: %v %s; want %q", test.options, r.Available, r.Message, test.answers)
		}
	}
	for options, want := range map[string]string{
		`"target": "nobody.example"`:                                               "A nobody.example: the server " + server + " answered NXDOMAIN",
		`"target": "nobody.example", "expect": ["192.0.2.1"]`:                      "instead of NOERROR: there is no such name",
		`"target": "host.example", "rcode": "NXDOMAIN"`:                            "answered NOERROR instead of NXDOMAIN: the name exists",
		`"target": "empty.example"`:                                                "knows the name, but has no A of it",
		`"target": "host.example", "type": "MX"`:                                   "knows the name, but has no MX of it",
		`"target": "host.example", "expect": ["192.0.2.1", "192.0.2.3"]`:           `did not answer "192.0.2.3", but 192.0.2.1, 192.0.2.2`,
		`"target": "example", "type": "TXT", "expect": ["V=SPF1 -all"]`:            `did not answer "V=SPF1 -all"`,
		`"target": "host.example", "authenticated": true`:                          "did not validate its answer",
		`"target": "nobody.example", "rcode": "NXDOMAIN", "authenticated": true`:   "did not validate its answer",
		`"target": "host.example", "type": "AAAA", "expect": ["::ffff:192.0.2.1"]`: "did not answer",
	} {
		r, err := DNS(t.Context(), dnsDetails(server, options))
		wantDown(t, r, err, want)
	}
}

// What a server is told of the question, and what it says beside the answers.
func TestDNSFlags(t *testing.T) {
	t.Parallel()
	server := serveDNS(t, func(w dns.ResponseWriter, question *dns.Msg) {
		answer := new(dns.Msg).SetReply(question)
		record, _ := dns.NewRR(fmt.Sprintf("flags. 60 IN TXT rd=%v,ad=%v", question.RecursionDesired, question.AuthenticatedData))
		answer.Answer = append(answer.Answer, record)
		answer.AuthenticatedData = question.AuthenticatedData
		_ = w.WriteMsg(answer)
	})
	for options, want := range map[string]string{
		`"target": "flags", "type": "TXT"`:                         "rd=true,ad=false",
		`"target": "flags", "type": "TXT", "recursion": false`:     "rd=false,ad=false",
		`"target": "flags", "type": "TXT", "authenticated": true`:  "rd=true,ad=true",
		`"target": "flags", "type": "TXT", "authenticated": false`: "rd=true,ad=false",
	} {
		r, err := DNS(t.Context(), dnsDetails(server, options))
		m := unmarshal(t, r)
		if err != nil || !r.Available || !strings.Contains(string(r.Message), want) || m["authoritative"] != false ||
			m["authenticated"] != strings.Contains(want, "ad=true") {
			t.Errorf("%s: %s, %v; want %s", options, r.Message, err, want)
		}
	}
}

func TestDNSRcodes(t *testing.T) {
	t.Parallel()
	for rcode, want := range map[int]string{
		dns.RcodeServerFailure: "answered SERVFAIL instead of NOERROR: it got no answer that it trusts",
		dns.RcodeRefused:       "answered REFUSED instead of NOERROR: it does not answer this machine",
		dns.RcodeBadCookie:     "answered BADCOOKIE",
		dns.RcodeFormatError:   "answered FORMERR",
		14:                     "answered rcode 14",
	} {
		server := serveDNS(t, func(w dns.ResponseWriter, question *dns.Msg) {
			answer := new(dns.Msg).SetRcode(question, rcode)
			if rcode > 0xF {
				answer.SetEdns0(512, false)
			}
			_ = w.WriteMsg(answer)
		})
		r, err := DNS(t.Context(), dnsDetails(server, `"target": "host.example"`))
		wantDown(t, r, err, want)
	}
	server := serveDNS(t, func(w dns.ResponseWriter, question *dns.Msg) {
		_ = w.WriteMsg(new(dns.Msg).SetRcode(question, dns.RcodeNotImplemented))
	})
	r, err := DNS(t.Context(), dnsDetails(server, `"target": "host.example", "rcode": "NOTIMPL"`))
	if err != nil || !r.Available {
		t.Errorf("the other name of an rcode: %s, %v", r.Message, err)
	}
}

// An answer that is cut off is asked for again over TCP; many answers are counted, and some of them told.
func TestDNSTruncated(t *testing.T) {
	t.Parallel()
	server := serveDNS(t, func(w dns.ResponseWriter, question *dns.Msg) {
		answer := new(dns.Msg).SetReply(question)
		if w.LocalAddr().Network() == "udp" {
			answer.Truncated = true
		} else {
			for i := range 50 {
				answer.Answer = append(answer.Answer, &dns.TXT{
					Hdr: dns.RR_Header{Name: "many.", Rrtype: dns.TypeTXT, Class: dns.ClassINET},
					Txt: []string{fmt.Sprint(i), strings.Repeat("x", 255), strings.Repeat("x", 255), "end"},
				})
			}
		}
		_ = w.WriteMsg(answer)
	})
	r, err := DNS(t.Context(), dnsDetails(server, `"target": "many", "type": "TXT", "expect": ["49`+strings.Repeat("x", 510)+`end"]`))
	var m dnsMessage
	if jsonErr := json.Unmarshal(r.Message, &m); err != nil || jsonErr != nil {
		t.Fatal(err, jsonErr)
	}
	if !r.Available || !m.TCP || m.Count != 50 || len(m.Answers) != maxAnswers || len(m.Answers[0]) != maxAnswer+len("…") {
		t.Errorf("%d answers of %d, over TCP: %v: %s", len(m.Answers), m.Count, m.TCP, m.Error)
	}
}

func TestDNSNoAnswer(t *testing.T) {
	t.Parallel()
	silent := serveDNS(t, func(dns.ResponseWriter, *dns.Msg) {})
	other := serveDNS(t, func(w dns.ResponseWriter, question *dns.Msg) {
		answer := new(dns.Msg).SetReply(question)
		answer.Question[0].Name = "other.example."
		_ = w.WriteMsg(answer)
	})
	rubbish, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() { _ = rubbish.Close(); <-ended })
	go func() {
		defer close(ended)
		for {
			n, from, err := rubbish.ReadFrom(make([]byte, 512))
			if n == 0 || err != nil {
				return
			}
			_, _ = rubbish.WriteTo([]byte("nonsense, and longer than a header"), from)
		}
	}()
	for name, test := range map[string]struct{ server, options, want string }{
		"silent over UDP":  {silent, `"target": "a.example"`, "A a.example: the server " + silent + ": no answer within"},
		"silent over TCP":  {silent, `"target": "a.example", "tcp": true`, "no answer within"},
		"nobody listens":   {closedAddr, `"target": "a.example"`, "connection refused"},
		"nobody, over TCP": {closedAddr, `"target": "a.example", "tcp": true`, "connection refused"},
		"another question": {other, `"target": "a.example"`, "it answered another question"},
		"rubbish":          {rubbish.LocalAddr().String(), `"target": "a.example"`, "its answer can't be read: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			r, err := DNS(ctx, dnsDetails(test.server, test.options))
			wantDown(t, r, err, test.want)
			if took := r.ResponseTime; took > 3*time.Second {
				t.Errorf("it ended after %v", took)
			}
		})
	}
	canceled, cancel := context.WithCancel(t.Context())
	defer time.AfterFunc(50*time.Millisecond, cancel).Stop()
	if r, err := DNS(canceled, dnsDetails(silent, `"target": "a.example"`)); !errors.Is(err, context.Canceled) {
		t.Errorf("taken back: %s, %v; want an error", r.Message, err)
	}
}

// A packet that is lost is not a server that is down, and neither is the first of two resolvers.
func TestDNSAsksAgain(t *testing.T) {
	t.Parallel()
	var questions atomic.Int32
	answering := zone(map[string][]string{"a.example.": {"a.example. 60 IN A 192.0.2.1"}})
	server := serveDNS(t, func(w dns.ResponseWriter, question *dns.Msg) {
		if questions.Add(1) > 1 {
			answering(w, question)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	r, err := DNS(ctx, dnsDetails(server, `"target": "a.example"`))
	if err != nil || !r.Available || questions.Load() != 2 {
		t.Errorf("after %d questions: %s, %v", questions.Load(), r.Message, err)
	}

	o, err := parseDNS("a.example")
	if err != nil {
		t.Fatal(err)
	}
	o.servers = []string{closedAddr, server}
	if _, by, err := o.ask(t.Context()); err != nil || by != server {
		t.Errorf("of two resolvers: %s, %v", by, err)
	}
}

func TestSystemResolvers(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if _, err := systemResolvers(file); err == nil || !strings.Contains(err.Error(), `name one as "server"`) {
		t.Errorf("without a file: %v", err)
	}
	for text, want := range map[string][]string{
		"nameserver 192.0.2.1\nsearch example\nnameserver ::1\n": {"192.0.2.1:53", "[::1]:53"},
		"search example\n": nil,
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := systemResolvers(file); !slices.Equal(got, want) || (err == nil) != (want != nil) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func TestParseDNS(t *testing.T) {
	t.Parallel()
	for details, want := range map[string]string{
		"":                                   "it is no name",
		"https://host.example":               "it is no name: write host.example",
		`a.example\`:                         "it is no name",
		"a..example":                         "it is no name",
		"it's.example":                       "it is no name",
		`{"target": "a\u0000.example"}`:      "it is no name",
		"grün.example":                       `target "grün.example": a name in DNS is ASCII: write it as xn--…`,
		`{"target": "a", "type": "ANY"}`:     `type is "ANY": use A, AAAA, CAA, CNAME`,
		`{"target": "a", "rcode": "OK"}`:     `rcode is "OK": use NOERROR`,
		`{"target": "a", "server": "x:y"}`:   "server: target \"x:y\": its port is \"y\"",
		`{"target": "a", "server": ":53"}`:   "server: target \":53\": it has no host",
		`{"target": "a", "nameserver": "b"}`: `unknown field "nameserver"`,
		`{"target": "a", "expect": "b"}`:     "expect is a string: write a list",
		`{"target": "a", "rcode": "NXDOMAIN", "expect": ["b"]}`: "expect has answers, but with rcode NXDOMAIN there are none",
	} {
		if r, err := DNS(t.Context(), Target{Details: details}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %s, %v; want %s", details, r.Message, err, want)
		}
	}
	for server, want := range map[string]string{
		"192.0.2.1": "192.0.2.1:53", "192.0.2.1:5353": "192.0.2.1:5353", "2001:db8::1": "[2001:db8::1]:53",
		"[2001:db8::1]:5353": "[2001:db8::1]:5353", "ns.example": "ns.example:53",
	} {
		o, err := parseDNS(dnsDetails(server, `"target": "a"`).Details)
		if err != nil || !slices.Equal(o.servers, []string{want}) {
			t.Errorf("server %s: %v, %v; want %s", server, o.servers, err, want)
		}
	}
}

func TestTXT(t *testing.T) {
	t.Parallel()
	for presented, want := range map[string]string{
		"": "", "plain": "plain", `\"`: `"`, `\\\\`: `\\`, `\195\188`: "ü", `\\195`: `\195`, `\1234`: "{4", `\a12`: "a12", `a\`: `a\`, `\25`: "25",
	} {
		if got := unescape(presented); got != want {
			t.Errorf("%s is shown as %q; want %q", presented, got, want)
		}
	}
}

func FuzzParseDNS(f *testing.F) {
	for _, seed := range []string{
		"", "host.example", `{"target":"192.0.2.1","type":"PTR"}`, `{"target":"a","server":"[::1]:53","expect":["b"]}`,
		`{"target":"a\\.","rcode":"refused"}`, "it's.example", "grün.example", "a;b",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, details string) {
		o, err := parseDNS(details)
		if err != nil {
			return
		}
		question := new(dns.Msg).SetQuestion(o.name, dnsTypes[o.Type])
		if _, err := question.Pack(); err != nil {
			t.Errorf("%q: the question for %q can't be sent: %v", details, o.name, err)
		}
		if sent, err := question.Pack(); err != nil || question.Unpack(sent) != nil || question.Question[0].Name != o.name {
			t.Errorf("%q: the question for %q comes back as one for %q", details, o.name, question.Question[0].Name)
		}
		for _, server := range o.servers {
			if _, _, err := net.SplitHostPort(server); err != nil {
				t.Errorf("%q: %v", details, err)
			}
		}
	})
}
