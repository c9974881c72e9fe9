package probe

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestPostgresServer(t *testing.T) {
	t.Parallel()
	postgres, initdb := program(t, "postgresql", "postgres"), program(t, "postgresql", "initdb")
	h := newHome(t)
	data := h.path("data")
	h.run(t, initdb, "-D", data, "-U", "postgres", "-A", "scram-sha-256", "--pwfile", h.write(t, "pw", "swordfish"), "-E", "UTF8", "--no-sync")
	cert, key, roots := h.certificate(t)
	h.write(t, "data/pg_hba.conf", `
hostssl all      careful 127.0.0.1/32 scram-sha-256
host    clear    all     127.0.0.1/32 password
host    all      postgres,monitor,full 127.0.0.1/32 scram-sha-256
`)
	h.write(t, "init.sql", `
CREATE ROLE monitor LOGIN PASSWORD 'swordfish';
CREATE ROLE careful LOGIN PASSWORD 'swordfish';
CREATE ROLE "full" LOGIN PASSWORD 'swordfish' CONNECTION LIMIT 0;
CREATE DATABASE clear;
CREATE TABLE jobs (name text, n int, tmp numeric);
INSERT INTO jobs VALUES ('a', 3, 1.50), ('b', 4, NULL);
GRANT ALL ON jobs TO monitor;
`)
	single := h.command("/bin/sh", "-c", fmt.Sprintf("exec %s --single -j -D %s postgres < init.sql", postgres, data))
	// Statements end with an empty line there.
	h.write(t, "init.sql", strings.ReplaceAll(readFile(t, h.path("init.sql")), ";\n", ";\n\n"))
	if out, err := single.CombinedOutput(); err != nil || strings.Contains(string(out), "ERROR") {
		t.Fatalf("%v\n%s", err, out)
	}
	start := func() *server {
		return h.start(t, postgres, func(port int) []string {
			return []string{
				"-D", data, "-p", strconv.Itoa(port), "-c", "listen_addresses=127.0.0.1", "-k", "", "-F",
				"-c", "ssl=on", "-c", "ssl_cert_file=" + cert, "-c", "ssl_key_file=" + key, "-c", "log_statement=all",
			}
		}, func(port int) bool {
			r, err := Postgres(t.Context(), Target{
				Details:  fmt.Sprintf(`{"target": "127.0.0.1:%d", "credentials": "good", "database": "postgres", "tls": "off"}`, port),
				Settings: loginSettings,
			})
			return err == nil && r.Available
		})
	}
	s := start()
	details := func(more string) string {
		return `{"target": "ADDR", "credentials": "good", "database": "postgres", "tls": "off"` + more + `}`
	}
	wantReal(t, s, Postgres, roots, []question{
		{name: "up", details: details("")},
		{name: "TLS", details: `{"target": "ADDR", "credentials": "tls", "database": "postgres"}`},
		{name: "TLS that is not verified", details: `{"target": "ADDR", "credentials": "tls", "database": "postgres", "tls": "insecure"}`},
		{name: "TLS is required", details: `{"target": "ADDR", "credentials": "tls", "database": "postgres", "tls": "off"}`, reasons: []string{"without TLS", `"tls": "verify"`}},
		{name: "another name", details: `{"target": "ADDR", "credentials": "tls", "server_name": "db.example"}`, reasons: []string{"certificate is not accepted", "db.example"}},
		{name: "no login", details: `{"target": "ADDR", "database": "postgres"}`, reasons: []string{"the server wants a login"}},
		{name: "wrong password", details: `{"target": "ADDR", "credentials": "wrong", "database": "postgres", "tls": "off"}`, reasons: []string{"the password is not accepted", "[credentials.wrong]"}},
		{name: "crowded", details: `{"target": "ADDR", "credentials": "full", "database": "postgres", "tls": "off"}`, reasons: []string{"it has too many connections"}},
		{name: "no such user", details: `{"target": "ADDR", "credentials": "alien", "database": "postgres"}`, reasons: []string{"the login is not accepted", "pg_hba.conf"}},
		{name: "password in the clear", details: `{"target": "ADDR", "credentials": "good", "database": "clear", "tls": "off"}`, reasons: []string{"wants the password in the clear"}},
		{name: "no such database", details: `{"target": "ADDR", "credentials": "good", "database": "shop", "tls": "off"}`, reasons: []string{`database "shop" does not exist: create it`}},
		{name: "no database", details: `{"target": "ADDR", "credentials": "good", "tls": "off"}`, reasons: []string{`database "[hidden]" does not exist: create it`}},
		{name: "the user", details: details(`, "query": "SELECT current_user", "expect": "monitor"`), value: `"[hidden]"`},
		{name: "another user", details: details(`, "query": "SELECT repeat('x', 195) || current_user", "expect": 1`), reasons: []string{"x[hidd…"}},
		{name: "value", details: details(`, "query": "SELECT n, name FROM jobs ORDER BY n LIMIT 1", "expect": 3`), value: "3"},
		{name: "numeric", details: details(`, "query": "SELECT tmp FROM jobs WHERE n = 3", "expect": 1.5`), value: "1.50"},
		{name: "text", details: details(`, "query": "SELECT 'Grüße'", "expect": "Grüße"`), value: `"Grüße"`},
		{name: "bool", details: details(`, "query": "SELECT count(*) < 10 FROM jobs", "expect": true`), value: "true"},
		{name: "null", details: details(`, "query": "SELECT NULL", "expect": null`), value: "null"},
		{name: "no expectation", details: details(`, "query": "SHOW server_encoding"`), value: `"UTF8"`},
		{name: "no row", details: details(`, "query": "SELECT 1 WHERE false"`)},
		{name: "no row where one is expected", details: details(`, "query": "SELECT 1 WHERE false", "expect": 1`), reasons: []string{"gave no row, expected is 1"}},
		{name: "no column", details: details(`, "query": "SELECT FROM jobs", "expect": 1`), reasons: []string{"the value is null, expected is 1"}},
		{name: "another value", details: details(`, "query": "SELECT name FROM jobs WHERE n = 4", "expect": "a"`), reasons: []string{`the value is "b", expected is "a"`}},
		{name: "many rows", details: details(`, "query": "SELECT repeat('x', 1000) FROM generate_series(1, 1000000)", "expect": "y"`), reasons: []string{"xxx…", `expected is "y"`}},
		{name: "a huge value", details: details(`, "query": "SELECT repeat('x', 100000000)"`), reasons: []string{"more than 1048576 bytes in answer to the query"}},
		{name: "a long value", details: details(`, "query": "SELECT repeat('x', 2000)"`), value: `"` + strings.Repeat("x", maxValue) + `…"`},
		{name: "limit", details: details(`, "query": "SELECT setting::int BETWEEN 1 AND 9500 FROM pg_settings WHERE name = 'statement_timeout'", "expect": true`), value: "true"},
		{name: "writing", details: details(`, "query": "DELETE FROM jobs"`), reasons: []string{"would write, which checks don't"}},
		{name: "two statements", details: details(`, "query": "COMMIT; DELETE FROM jobs"`), reasons: []string{"the server refuses the query", "multiple commands"}},
		{name: "leaving the transaction", details: details(`, "query": "SET TRANSACTION READ WRITE"`)},
		{name: "nonsense", details: details(`, "query": "SELEKT"`), reasons: []string{"the server refuses the query", "syntax error", "42601"}},
		{name: "in recovery", details: details(`, "in_recovery": true`), reasons: []string{"in_recovery is false, expected is true"}},
		{name: "not in recovery", details: details(`, "in_recovery": false`)},
		{name: "nothing was written", details: details(`, "query": "SELECT count(*) FROM jobs", "expect": 2`), value: "2"},
	})
	if !s.wait(func(int) bool { // the server may be slow to see one off
		alone := strings.ReplaceAll(details(`, "query": "SELECT count(*) FROM pg_stat_activity WHERE usename = 'monitor'", "expect": 1`), "ADDR", s.addr())
		r, err := Postgres(t.Context(), Target{Details: alone, Settings: loginSettings})
		return err == nil && r.Available
	}) {
		t.Error("sessions are left on the server")
	}
	// Of the two that send too much it may complain.
	for _, complaint := range []string{"unexpected EOF", "could not receive data", "could not send data", "no transaction"} {
		if n := strings.Count(s.log.String(), complaint); n > 2 || n > 0 && complaint != "could not send data" {
			t.Errorf("the server complains of us %d times: %s\n%s", n, complaint, s.log)
		}
	}

	if !strings.Contains(s.log.String(), "statement: ROLLBACK") { // or a pooler would give up its connection
		t.Errorf("transactions are left open:\n%s", s.log)
	}
	wantReal(t, s, Postgres, roots, []question{
		{name: "slow", details: details(`, "query": "SELECT pg_sleep(30)"`), timeout: time.Second, reasons: []string{"the query", "s: "}},
	})

	resume := s.pause(t)
	wantReal(t, s, Postgres, roots, []question{{name: "hangs", details: details(""), timeout: 300 * time.Millisecond, reasons: []string{
		"connected, but there was no answer to the login within ", "does it hang?",
	}}})
	resume()

	s.stop()
	wantReal(t, s, Postgres, roots, []question{{name: "stopped", details: details(""), reasons: []string{"connection refused"}}})
	h.write(t, filepath.Join("data", "standby.signal"), "")
	wantReal(t, start(), Postgres, roots, []question{
		{name: "standby", details: details(`, "in_recovery": true`)},
		{name: "no primary", details: details(`, "in_recovery": false`), reasons: []string{"in_recovery is true, expected is false"}},
	})
}
