package probe

import (
	"fmt"
	"io"
	"net"
	"strconv"
	"testing"
	"time"
)

func TestRedisServer(t *testing.T) {
	t.Parallel()
	program := program(t, "redis-server", "redis-server")
	h := newHome(t)
	cert, key, roots := h.certificate(t)
	tlsPort := 0
	const users = "user default on >swordfish ~* +@all\nuser monitor on >swordfish ~* +@all\nuser careful on >swordfish +ping +auth\n"
	s := h.start(t, program, func(port int) []string {
		tlsPort = freePort(t)
		config := fmt.Sprintf("port %d\ntls-port %d\ntls-cert-file %s\ntls-key-file %s\ntls-auth-clients no\nbind 127.0.0.1\nsave \"\"\ndatabases 4\nmaxclients 8\n%s",
			port, tlsPort, cert, key, users)
		return []string{h.write(t, "redis.conf", config)}
	}, func(port int) bool {
		r, err := Redis(t.Context(), Target{Details: fmt.Sprintf(`{"target": "127.0.0.1:%d", "credentials": "good", "tls": "off"}`, port), Settings: loginSettings})
		return err == nil && r.Available
	})
	fill(t, s.addr())
	details := func(more string) string {
		return `{"target": "ADDR", "credentials": "good", "tls": "off"` + more + `}`
	}
	wantReal(t, s, Redis, roots, []question{
		{name: "up", details: details(`, "role": "master"`)},
		{name: "a password alone", details: `{"target": "ADDR", "credentials": "old", "tls": "off"}`},
		{name: "slave", details: details(`, "role": "slave"`), reasons: []string{`its role is "master", expected is "slave"`}},
		{name: "no login", details: "ADDR", reasons: []string{"the server wants a login: name credentials"}},
		{name: "wrong password", details: `{"target": "ADDR", "credentials": "wrong", "tls": "off"}`, reasons: []string{"the password is not accepted", "[credentials.wrong]"}},
		{name: "few rights", details: `{"target": "ADDR", "credentials": "tls", "tls": "off"}`},
		{name: "too few rights for the role", details: `{"target": "ADDR", "credentials": "tls", "tls": "off", "role": "master"}`, reasons: []string{"ACL"}},
		{name: "too few rights for the command", details: `{"target": "ADDR", "credentials": "tls", "tls": "off", "command": ["GET", "k"]}`, reasons: []string{"ACL", "the command"}},
		{name: "no TLS there", details: `{"target": "ADDR", "credentials": "good"}`, timeout: 500 * time.Millisecond, reasons: []string{"TLS"}},
		{name: "another database", details: details(`, "db": 3, "command": ["EXISTS", "k"], "expect": 0`), value: "0"},
		{name: "no such database", details: details(`, "db": 4`), reasons: []string{"there is no such database", "the check's db"}},
		{name: "value", details: details(`, "command": ["get", "k"], "expect": "v"`), value: `"v"`},
		{name: "number", details: details(`, "command": ["LLEN", "l"], "expect": 2`), value: "2"},
		{name: "list", details: details(`, "command": ["LRANGE", "l", "0", "-1"], "expect": ["b", "a"]`), value: `["b","a"]`},
		{name: "none", details: details(`, "command": ["GET", "none"], "expect": null`), value: "null"},
		{name: "another value", details: details(`, "command": ["GET", "k"], "expect": "w"`), reasons: []string{`the value is "v", expected is "w"`}},
		{name: "another type", details: details(`, "command": ["GET", "l"]`), reasons: []string{"the server refuses the command: WRONGTYPE"}},
		{name: "too few arguments", details: details(`, "command": ["GET"]`), reasons: []string{"the server refuses the command: ERR wrong number of arguments"}},
		{name: "a huge value", details: details(`, "command": ["GET", "huge"]`), reasons: []string{"more than 1048576 bytes in answer to the command"}},
	})
	secure := &server{port: tlsPort, cmd: s.cmd, log: s.log, down: s.down}
	wantReal(t, secure, Redis, roots, []question{
		{name: "TLS", details: `{"target": "ADDR", "credentials": "good"}`},
		{name: "TLS that is not verified", details: `{"target": "ADDR", "credentials": "good", "tls": "insecure"}`},
		{name: "another name", details: `{"target": "ADDR", "credentials": "good", "server_name": "db.example"}`, reasons: []string{"certificate is not accepted", "db.example"}},
		{name: "TLS is required", details: details(""), reasons: []string{`does it want "tls": "verify"?`}},
	})
	var others []net.Conn
	for range 8 {
		conn, err := net.Dial("tcp", s.addr())
		if err != nil {
			t.Fatal(err)
		}
		others = append(others, conn)
		_, _ = io.WriteString(conn, "PING\r\n")
		_, _ = conn.Read(make([]byte, 1)) // now the server has it
	}
	wantReal(t, s, Redis, roots, []question{{name: "crowded", details: details(""), reasons: []string{"too many connections"}}})
	for _, conn := range others {
		_ = conn.Close()
	}
	resume := s.pause(t)
	wantReal(t, s, Redis, roots, []question{{name: "hangs", details: details(""), timeout: 300 * time.Millisecond, reasons: []string{
		"connected, but there was no answer to the login within ", "does it hang?",
	}}})
	resume()
}

// fill writes what the checks are to read.
func fill(t *testing.T, addr string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	resp := newRESP(conn)
	for _, command := range [][]string{
		{"AUTH", "monitor", "swordfish"},
		{"SET", "k", "v"},
		{"LPUSH", "l", "a", "b"},
		{"SETRANGE", "huge", strconv.Itoa(maxDatabaseReply), "x"},
	} {
		if _, err := resp.do(command...); err != nil {
			t.Fatal(command, err)
		}
	}
}
