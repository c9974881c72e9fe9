package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// databases are the checks that have databaseOptions.
var databases = map[string]Func{"PostgreSQL": Postgres, "MySQL": MySQL, "Redis": Redis}

// loginSettings have the logins that the tests' servers know, and some that they don't.
var loginSettings = &Settings{Credentials: map[string]Credentials{
	"good":  {Username: "monitor", Password: "swordfish", Hosts: []string{"127.0.0.1", "db.example"}},
	"wrong": {Username: "monitor", Password: "sawfish", Hosts: []string{"127.0.0.1"}},
	"alien": {Username: "stranger", Password: "sawfish", Hosts: []string{"127.0.0.1"}},
	"old":   {Password: "swordfish", Hosts: []string{"127.0.0.1"}},
	"full":  {Username: "full", Password: "swordfish", Hosts: []string{"127.0.0.1"}},
	"tls":   {Username: "careful", Password: "swordfish", Hosts: []string{"127.0.0.1", "db.example"}},
}}

// withLogin is a server that the checks of all databases are to log in to, with TLS or without.
func withLogin(addr, mode string) Target {
	return Target{Details: fmt.Sprintf(`{"target": %q, "credentials": "good", "tls": %q}`, addr, mode), Settings: loginSettings}
}

// answer has a server take one connection and do something with it. The channel it returns is closed when the
// connection is.
func answer(t *testing.T, do func(conn net.Conn)) (addr string, closed <-chan struct{}) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		do(conn)
		_, _ = io.Copy(io.Discard, conn)
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return l.Addr().String(), done
}

func TestDatabasesDown(t *testing.T) {
	t.Parallel()
	for name, look := range databases {
		r, err := look(t.Context(), withLogin(closedAddr, "off"))
		wantDown(t, r, err, name+" at 127.0.0.1:1: connection refused: nothing listens there")
		if m := unmarshal(t, r); m["host"] != "127.0.0.1" || m["port"] != 1.0 || m["value"] != nil {
			t.Errorf("%s: %s", name, r.Message)
		}
		late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
		defer cancel()
		r, err = look(late, withLogin(closedAddr, "off"))
		wantDown(t, r, err, "no answer within", "firewall")
	}
}

// A server that takes the connection and says nothing, with and without TLS, and one that is given up before.
func TestDatabasesSilent(t *testing.T) {
	t.Parallel()
	for name, look := range databases {
		for _, mode := range []string{"off", "verify"} {
			t.Run(name+" "+mode, func(t *testing.T) {
				t.Parallel()
				addr, closed := answer(t, func(net.Conn) {})
				ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
				defer cancel()
				r, err := look(ctx, withLogin(addr, mode))
				wantDown(t, r, err, name+" at "+addr+": connected, but there was no answer to the ", " within ", "does it hang?")
				if timings, _ := unmarshal(t, r)["timings"].(map[string]any); timings["connect"] == 0.0 {
					t.Errorf("no time for the connection: %s", r.Message)
				}
				wantClosed(t, closed)

				addr, closed = answer(t, func(net.Conn) {})
				canceled, cancel := context.WithCancel(t.Context())
				time.AfterFunc(50*time.Millisecond, cancel)
				if r, err := look(canceled, withLogin(addr, "off")); !errors.Is(err, context.Canceled) {
					t.Errorf("taken back: %s, %v; want an error", r.Message, err)
				}
				wantClosed(t, closed)
			})
		}
	}
}

func wantClosed(t *testing.T, closed <-chan struct{}) {
	t.Helper()
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Error("the connection is still open")
	}
}

func TestDatabasesGarbage(t *testing.T) {
	t.Parallel()
	const http = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request"
	for name, look := range databases {
		for garbage, want := range map[string]string{
			"":                             "it closed the connection instead of an answer to the ",
			http:                           "",
			strings.Repeat("\x00", 100):    "",
			strings.Repeat("-hm ", 300000): "",
		} {
			addr, closed := answer(t, func(conn net.Conn) {
				_, _ = io.WriteString(conn, garbage)
				_ = conn.(*net.TCPConn).CloseWrite()
			})
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			r, err := look(ctx, withLogin(addr, "off"))
			if ctx.Err() != nil {
				t.Errorf("%s, %.10q: it waited until the deadline", name, garbage)
			}
			cancel()
			wantDown(t, r, err, want)
			if strings.Contains(string(r.Message), net.ErrClosed.Error()) {
				t.Errorf("%s, %.10q: the reason is our own doing: %s", name, garbage, r.Message)
			}
			if len(r.Message) > 1000 {
				t.Errorf("%s, %.10q: %d bytes are told of garbage", name, garbage, len(r.Message))
			}
			wantClosed(t, closed)
		}
	}
}

// Credentials go to no host that they are not for, and such as no login can be made of go nowhere: there is no connection at all.
func TestDatabasesCredentials(t *testing.T) {
	t.Parallel()
	for name, look := range databases {
		connected := make(chan struct{})
		addr, _ := answer(t, func(net.Conn) { close(connected) })
		details := fmt.Sprintf(`{"target": %q, "credentials": "db", "tls": "off"}`, addr)
		named := fmt.Sprintf(`{"target": %q, "credentials": "db", "server_name": "b.example"}`, addr)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		for _, test := range []struct {
			details     string
			credentials Credentials
			want        string
		}{
			{details, Credentials{Username: "user", Password: "secret", Hosts: []string{"10.0.0.1"}}, `credentials "db" are not for the host "127.0.0.1"`},
			{named, Credentials{Username: "user", Password: "secret", Hosts: []string{"127.0.0.1"}}, `credentials "db" are not for the host "b.example"`},
			{named, Credentials{Username: "user", Password: "secret", Hosts: []string{"b.example"}}, `credentials "db" are not for the host "127.0.0.1"`},
			{details, Credentials{Token: "secret", Hosts: []string{"127.0.0.1"}}, `credentials "db" have a token: this check takes a user name and a password`},
		} {
			settings := &Settings{Credentials: map[string]Credentials{"db": test.credentials}}
			r, err := look(ctx, Target{Details: test.details, Settings: settings})
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: %s, %v; want %s", name, r.Message, err, test.want)
			}
		}
		if _, err := look(t.Context(), Target{Details: details}); err == nil || !strings.Contains(err.Error(), "[credentials.db]") {
			t.Errorf("%s: without settings: %v", name, err)
		}
		select {
		case <-connected:
			t.Errorf("%s: it connected", name)
		default:
		}
	}
}

func TestDatabaseOptions(t *testing.T) {
	t.Parallel()
	for details, want := range map[string]string{
		`db.example`:                           "db.example 5432 off db.example",
		`db.example:6432`:                      "db.example 6432 off db.example",
		`[2001:db8::1]`:                        "2001:db8::1 5432 off 2001:db8::1",
		`{"target": "db.example"}`:             "db.example 5432 off db.example",
		`{"target": "db", "credentials": "c"}`: "db 5432 verify db",
		`{"target": "db", "credentials": "c", "tls": "off"}`:            "db 5432 off db",
		`{"target": "db", "tls": "insecure"}`:                           "db 5432 insecure db",
		`{"target": "db", "tls": "verify", "server_name": "x.example"}`: "db 5432 verify x.example",
	} {
		o, err := parsePostgres(Target{Details: details})
		if got := fmt.Sprint(o.host, " ", o.port, " ", o.TLS, " ", o.ServerName); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", details, got, err, want)
		}
	}
	if o, err := parsePostgres(Target{Details: "db", Port: 7}); err != nil || o.port != 7 {
		t.Errorf("a port apart: %d, %v", o.port, err)
	}
	for details, want := range map[string]string{
		"":                                       "it has no host",
		"postgres://user:secret@db.example/db":   "URLs, lists of hosts and sockets are not taken",
		"user:secret@db.example":                 "write host.example or host.example:5432",
		"host=db password=secret":                "is not one host and port",
		"a.example,b.example":                    "is not one host and port",
		"/var/run/postgresql":                    "is not one host and port",
		"db:0":                                   "with a port from 1 to 65535",
		`{"target": "db", "tls": "maybe"}`:       `tls is "maybe": write off, verify or insecure`,
		`{"target": "db", "tls": 1}`:             "not what this check takes: tls is a number: write text",
		`{"target": "db", "server_name": "x"}`:   `tls is off: write "tls": "verify", or leave it out`,
		`{"target": "db", "password": "secret"}`: `unknown field "password"`,
		`{"target": "db", "expect": 1}`:          "expect is there without a query",
		`{"target": "db", "query": "SELECT 1", "expect": {"a": 1}}`:   "expect is an object",
		`{"target": "db", "query": "SELECT 1", "expect": [1]}`:        "expect is a list",
		`{"target": "db", "query": "SELECT 1", "expect": 1, "rw": 1}`: `unknown field "rw"`,
	} {
		_, err := parsePostgres(Target{Details: details})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v; want %s", details, err, want)
		}
	}
}

func TestSameValue(t *testing.T) {
	t.Parallel()
	const big = "9007199254740993" // a float64 makes …992 of it
	for _, test := range []struct {
		expect string
		value  any
		want   bool
	}{
		{`3`, json.Number("3"), true},
		{`3`, json.Number("3.00"), true},
		{`3`, "3", true},
		{`3`, "three", false},
		{`3`, nil, false},
		{`3`, true, false},
		{big, json.Number(big), true},
		{big, json.Number("9007199254740992"), false},
		{`1e400`, json.Number("2e400"), false},
		{`1.5`, json.Number("15e-1"), true},
		{`"3"`, "3", true},
		{`"3"`, json.Number("3"), true},
		{`"3"`, json.Number("3.0"), false},
		{`"up"`, "up", true},
		{`"up"`, "UP", false},
		{`true`, true, true},
		{`true`, "true", false},
		{`false`, nil, false},
		{`null`, nil, true},
		{`null`, "", false},
		{`["a", 1, null]`, []any{"a", "1", nil}, true},
		{`["a"]`, []any{"a", "b"}, false},
		{`["a"]`, "a", false},
		{`"a"`, []any{"a"}, false},
		{`true`, []any{true}, false},
	} {
		o := databaseOptions{Expect: json.RawMessage(test.expect)}
		if err := o.readExpect(); err != nil {
			t.Fatal(err)
		}
		if got := sameValue(o.expected, test.value); got != test.want {
			t.Errorf("%s and %#v: %v", test.expect, test.value, got)
		}
	}
}

func TestBrief(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		value any
		want  string
	}{
		{nil, "null"},
		{json.Number("1.50"), "1.50"},
		{"short", `"short"`},
		{"a longer one", `"a long…"`},
		{[]any{"a", "b", "c"}, `"[\"a\",\"…"`},
		{"\xff\"", `"\""`},
	} {
		if got := string(brief(test.value, 6)); got != test.want {
			t.Errorf("%#v: %s; want %s", test.value, got, test.want)
		}
	}
	for text, want := range map[string]any{"1": json.Number("1"), "-1.5e3": json.Number("-1.5e3"), "NaN": "NaN", "0x1": "0x1", "01": "01", "": "", "true": "true"} {
		if got := number(text); got != want {
			t.Errorf("number(%q) = %#v; want %#v", text, got, want)
		}
	}
}

// What a server says may have in it what it was told, as it is or quoted, and where it is cut off, too.
func TestDatabaseSaysNoSecret(t *testing.T) {
	t.Parallel()
	const user, password = "ann", `sword"fish`
	settings := &Settings{Credentials: map[string]Credentials{"db": {Username: user, Password: password, Hosts: []string{"127.0.0.1"}}}}
	const hello = "+OK\r\n+PONG\r\n"
	long := strings.Repeat("x", maxSaid-5) + password
	for said, want := range map[string]string{
		"-ERR \x1b[31m" + user + " told me " + password + "\r\n":       "the server refuses the login: ERR  [31m[hidden] told me [hidden]",
		`-ERR {"a":"sword\"fish"}` + "\r\n":                            `the server refuses the login: ERR {\"a\":\"[hidden]\"}`,
		"-" + long + "\r\n":                                            "x[hidd…",
		"sword\"fish says " + user + "\r\n":                            "that is no reply: [hidden] says [hidden]",
		long + "\r\n":                                                  "that is no reply: xxx",
		"+OK\r\n+" + long + "\r\n":                                     "PONG is what it should say",
		hello + "$35\r\nredis_version:sword\"fish\r\nrole:ann\r\n\r\n": `its role is \"[hidden]\", expected is \"master\"`,
		hello + "$13\r\nrole:master\r\n\r\n*3\r\n+sword\"fish 1\r\n:1\r\n*1\r\n+by ann\r\n":         `the value is [\"[hidden] 1\",1,[\"by [hidden]\"]], expected is 1`,
		hello + "$13\r\nrole:master\r\n\r\n+" + strings.Repeat("x", maxValue-5) + password + "\r\n": "the value is",
	} {
		addr, _ := answer(t, func(conn net.Conn) {
			_, _ = io.WriteString(conn, said)
			_ = conn.(*net.TCPConn).CloseWrite()
		})
		details := fmt.Sprintf(`{"target": %q, "credentials": "db", "tls": "off", "role": "master", "command": ["GET", "k"], "expect": 1}`, addr)
		r, err := Redis(t.Context(), Target{Details: details, Settings: settings})
		told := string(r.Message)
		if err != nil || r.Available || !strings.Contains(told, want) {
			t.Errorf("%q: %s, %v; want %s", said, told, err, want)
		}
		if strings.Contains(told, "sword") || strings.Contains(told, "fish") || strings.Contains(told, user) {
			t.Errorf("%q: a secret is told: %s", said, told)
		}
	}
	hidden := &session{hide: hiding("314", "ann")}
	for _, test := range []struct {
		value any
		want  string
	}{
		{json.Number("3.314"), `"3.[hidden]"`},
		{json.Number("315"), `315`},
		{nil, `null`},
		{true, `true`},
	} {
		if got := string(hidden.brief(test.value, maxValue)); got != test.want {
			t.Errorf("%v: %s; want %s", test.value, got, test.want)
		}
	}
}

func FuzzDatabaseOptions(f *testing.F) {
	for _, seed := range []string{
		"", "db", "db:1", "[::1]:1", `{"target":"db","tls":"verify","server_name":"x"}`, `{"target":"db","query":"SELECT 1","expect":[1e999]}`,
		`{"target":"db","command":["GET","k"],"expect":null,"role":"master","db":1}`, `{"target":"db","in_recovery":true,"database":"d"}`,
		`{"target":"db","credentials":"c","database":"d","query":"SELECT 1","expect":1}`,
	} {
		f.Add(seed, int32(0))
	}
	f.Fuzz(func(t *testing.T, details string, port int32) {
		target := Target{Details: details, Port: port}
		p, errP := parsePostgres(target)
		m, errM := parseMySQL(target)
		r, errR := parseRedis(target)
		for _, one := range []struct {
			o   databaseOptions
			err error
		}{{p.databaseOptions, errP}, {m.databaseOptions, errM}, {r.databaseOptions, errR}} {
			o := one.o
			if one.err != nil {
				continue
			}
			if o.host == "" || o.port < 1 || o.port > 65535 || o.ServerName == "" || !strings.Contains("off verify insecure", o.TLS) {
				t.Errorf("%q is taken as %+v", details, o)
			}
			if len(brief(o.expected, maxValue)) > 8*maxValue {
				t.Errorf("%q: what is expected is told in full", details)
			}
			sameValue(o.expected, o.expected)
		}
	})
}
