package probe

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
)

func TestParseRedis(t *testing.T) {
	t.Parallel()
	o, err := parseRedis(Target{Details: `{"target": "db", "db": 2, "role": "slave", "command": ["hget", "k", "f"], "expect": ["a"]}`})
	if err != nil || o.port != 6379 || o.DB != 2 || o.Role != "slave" || len(o.Command) != 3 || o.expected == nil {
		t.Errorf("%+v, %v", o, err)
	}
	for details, want := range map[string]string{
		`{"target": "db", "db": -1}`:                 "db is -1: write the number of a database",
		`{"target": "db", "role": "primary"}`:        `role is "primary": write master or slave`,
		`{"target": "db", "expect": 1}`:              "expect is there without a command",
		`{"target": "db", "command": ["SET","k"]}`:   `the command "SET" is none of those that checks send, which only read: BITCOUNT, DBSIZE`,
		`{"target": "db", "command": [""]}`:          `the command "" is none`,
		`{"target": "db", "command": ["CONFIG"]}`:    `the command "CONFIG" is none`,
		`{"target": "db", "command": "GET k"}`:       "command is a string: write a list",
		`{"target": "redis://:secret@db.example/0"}`: "write host.example or host.example:6379",
	} {
		if _, err := parseRedis(Target{Details: details}); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v; want %s", details, err, want)
		}
	}
}

// There is no login with a user name alone; without one the check would be somebody else.
func TestRedisUserAlone(t *testing.T) {
	t.Parallel()
	settings := &Settings{Credentials: map[string]Credentials{"db": {Username: "monitor", Hosts: []string{"127.0.0.1"}}}}
	r, err := Redis(t.Context(), Target{Details: fmt.Sprintf(`{"target": %q, "credentials": "db", "tls": "off"}`, closedAddr), Settings: settings})
	if err == nil || !strings.Contains(err.Error(), `credentials "db" have a user name and no password: add one`) || strings.Contains(err.Error(), "monitor") {
		t.Errorf("%s, %v; want an error", r.Message, err)
	}
}

func TestReadRESP(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]any{
		"+OK\r\n":                         "OK",
		":-3\r\n":                         number("-3"),
		"$4\r\na\r\nb\r\n":                "a\r\nb",
		"$0\r\n\r\n":                      "",
		"$-1\r\n":                         nil,
		"*-1\r\n":                         nil,
		"*0\r\n":                          []any{},
		"*2\r\n$1\r\na\r\n*1\r\n:1\r\n":   []any{"a", []any{number("1")}},
		"-ERR no\r\n":                     respError("ERR no"),
		"*1\r\n-ERR no\r\n":               respError("ERR no"),
		"":                                io.EOF,
		"+OK":                             io.EOF,
		"$2\r\na":                         io.ErrUnexpectedEOF,
		"$9223372036854775807\r\na":       errTooMuch,
		"*9223372036854775807\r\n":        errTooMuch,
		"\r\n":                            errors.New("is no reply"),
		"+OK\n":                           errors.New("is no reply"),
		"$-2\r\n":                         errors.New("is no reply"),
		"$x\r\n":                          errors.New("is no reply"),
		"%1\r\n":                          errors.New("is no reply"),
		strings.Repeat("*1\r\n", 5):       errors.New("lists within lists"),
		"+" + strings.Repeat("x", 100000): errors.New("is no reply"),
	} {
		got, err := readRESP(bufio.NewReader(strings.NewReader(text)), 0)
		if wantErr, ok := want.(error); ok {
			if !errors.Is(err, wantErr) && (err == nil || !strings.Contains(err.Error(), wantErr.Error())) {
				t.Errorf("%.40q: %#v, %v; want %v", text, got, err, want)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%.40q: %#v, %v; want %#v", text, got, err, want)
		}
	}
}

type brokenWriter struct{ io.Reader }

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// A server that has no room for a client says so before it hangs up.
func TestRESPWithoutAsking(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]error{
		"-ERR max number of clients reached\r\n": respError("ERR max number of clients reached"),
		"+OK\r\n":                                io.ErrClosedPipe,
		"":                                       io.ErrClosedPipe,
	} {
		if _, err := newRESP(brokenWriter{strings.NewReader(text)}).do("PING"); !errors.Is(err, want) {
			t.Errorf("%q: %v; want %v", text, err, want)
		}
	}
}

// What servers say that the tests have none of.
func TestExplainRedis(t *testing.T) {
	t.Parallel()
	for reply, want := range map[string]string{
		"-LOADING Redis is loading the dataset in memory":                                  "LOADING Redis is loading",
		"-ERR invalid password":                                                            "the password is not accepted",
		"-ERR Client sent AUTH, but no password is set":                                    "the server has no password, and the check's credentials have one",
		"-ERR AUTH <password> called without any password configured for the default user": "the server has no password",
		"+QUEUED": "",
	} {
		addr, _ := answer(t, func(conn net.Conn) {
			_, _ = io.WriteString(conn, reply+"\r\n"+reply+"\r\n")
		})
		r, err := Redis(t.Context(), Target{Details: fmt.Sprintf(`{"target": %q, "credentials": "good", "tls": "off"}`, addr), Settings: loginSettings})
		if want == "" {
			want = `PONG is what it should say, and it says "QUEUED"`
		}
		wantDown(t, r, err, want)
	}
}

func FuzzReadRESP(f *testing.F) {
	for _, seed := range []string{"+OK\r\n", "$4\r\na\r\nb\r\n", "*2\r\n$1\r\na\r\n*1\r\n:1\r\n", "-ERR no\r\n", "$-1\r\n", "*99999999\r\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		value, err := readRESP(bufio.NewReader(strings.NewReader(text)), 0)
		if err != nil && value != nil {
			t.Errorf("%q: both %#v and %v", text, value, err)
		}
		if shown := brief(value, maxValue); len(shown) > 8*maxValue {
			t.Errorf("%q: %d bytes are shown", text, len(shown))
		}
	})
}
