package probe

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// whole is the greeting of a server, as short as it may be.
var whole = packet(0, "\n8.4.0\x00"+strings.Repeat("\x01", 13)+"\xff\xf7"+strings.Repeat("\x01", 29))

func packet(sequence byte, body string) string {
	return string([]byte{byte(len(body)), byte(len(body) >> 8), byte(len(body) >> 16), sequence}) + body
}

func TestReadGreeting(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]error{
		whole:                nil,
		whole + "more":       nil,
		whole[:len(whole)-1]: io.ErrUnexpectedEOF,
		packet(0, "\n8.4.0\x00"+strings.Repeat("\x01", 15)): nil,
		packet(0, "\n8.4.0\x00"+strings.Repeat("\x01", 14)): errNoGreeting,
		packet(0, "\n8.4.0\x00"+strings.Repeat("\x01", 43)): errNoGreeting,
		packet(0, "\n8.4.0"):                  errNoGreeting,
		packet(0, "\xff\x10\x04Too many"):     nil,
		packet(0, "\xff\x10\x04#08004Too"):    nil,
		packet(0, "\xff\x10\x04#0800"):        errNoGreeting,
		packet(0, "\xff\x10\x04"):             errNoGreeting,
		packet(1, whole[4:]):                  errNoGreeting,
		packet(0, ""):                         errNoGreeting,
		packet(0, "\t"+whole[5:]):             errNoGreeting,
		"SSH-2.0-OpenSSH_9.2p1":               errNoGreeting,
		"":                                    io.EOF,
		packet(0, strings.Repeat("\n", 1025)): errNoGreeting,
	} {
		got, err := readGreeting(strings.NewReader(text))
		if err != want || err == nil && !strings.HasPrefix(text, string(got)) { //nolint:errorlint // these very errors
			t.Errorf("%q: %q, %v; want %v", text, got, err, want)
		}
	}
}

// Servers that go on to talk after nonsense, and such whose greeting is all right and the next packet is not.
func TestMySQLStrangers(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"SSH-2.0-OpenSSH_9.2p1\r\n":                             "it does not answer to the login as MySQL does: that is no greeting",
		packet(0, "\xff\x10\x04Too many connections"):           "it has too many connections",
		packet(0, "\xff\x69\x04Host '10.0.0.1' is blocked"):     "the server has blocked this machine",
		packet(0, "\xff\x6a\x04Host '10.0.0.1' is not allowed"): "the server takes no connections from this machine",
		whole + packet(2, "\xff\x57\x0c#HY000insecure"):         `the server takes logins only with TLS: write "tls": "verify"`,
		whole + packet(2, "\xfemysql_clear_password\x00"):       "wants the password in the clear",
		whole + packet(2, "\xfedialog\x00"):                     "a way to log in that checks don't know",
	} {
		addr, closed := answer(t, func(conn net.Conn) { _, _ = io.WriteString(conn, text) })
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		r, err := MySQL(ctx, withLogin(addr, "off"))
		wantDown(t, r, err, want)
		wantClosed(t, closed)
	}
	addr, _ := answer(t, func(conn net.Conn) {
		for _, text := range []string{whole, packet(2, "\x00\x00\x00\x02\x00\x00\x00"), packet(1, "\xff")} {
			_, _ = io.WriteString(conn, text)
			_, _ = conn.Read(make([]byte, 1024)) // what it says to that
		}
	})
	soon, cancelSoon := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancelSoon()
	r, err := MySQL(soon, withLogin(addr, "off"))
	wantDown(t, r, err, "it does not answer to the ping as MySQL does: a packet of it ends too soon")

	addr, _ = answer(t, func(conn net.Conn) { _, _ = io.WriteString(conn, whole) })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r, err = MySQL(ctx, withLogin(addr, "insecure"))
	wantDown(t, r, err, "the server does not speak TLS there")
}

// What a hostile server has the driver do has no bound, so only servers are asked that somebody has named.
func TestMySQLWantsCredentials(t *testing.T) {
	t.Parallel()
	connected := make(chan struct{})
	addr, _ := answer(t, func(net.Conn) { close(connected) })
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	for _, details := range []string{addr, fmt.Sprintf(`{"target": %q, "tls": "verify"}`, addr)} {
		r, err := MySQL(ctx, Target{Details: details, Settings: loginSettings})
		if err == nil || !strings.Contains(err.Error(), "mysql asks only hosts that credentials in the checker's file name") {
			t.Errorf("%s: %s, %v; want an error", details, r.Message, err)
		}
	}
	select {
	case <-connected:
		t.Error("it connected")
	default:
	}
}

func TestMySQLValue(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		value  any
		column string
		want   any
	}{
		{nil, "INT", nil},
		{int64(-3), "INT", json.Number("-3")},
		{uint64(18446744073709551615), "UNSIGNED BIGINT", json.Number("18446744073709551615")},
		{float32(0.1), "FLOAT", json.Number("0.1")},
		{float64(1e300), "DOUBLE", json.Number("1e+300")},
		{[]byte("1.50"), "DECIMAL", json.Number("1.50")},
		{[]byte("3"), "VARCHAR", "3"},
	} {
		if got := mysqlValue(test.value, test.column); got != test.want {
			t.Errorf("%v, %s: %#v; want %#v", test.value, test.column, got, test.want)
		}
	}
}

func FuzzReadGreeting(f *testing.F) {
	for _, seed := range []string{whole, packet(0, "\xff\x10\x04#08004Too many"), "SSH-2.0", ""} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := readGreeting(bytes.NewReader(text))
		if err == nil && !bytes.HasPrefix(text, got) || err != nil && got != nil {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	})
}
