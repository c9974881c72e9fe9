package probe

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestMySQLServer(t *testing.T) {
	t.Parallel()
	mariadbd, install := program(t, "mariadb-server", "mariadbd"), program(t, "mariadb-server", "mariadb-install-db")
	h := newHome(t)
	data := h.path("data")
	h.run(t, install, "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db")
	cert, key, roots := h.certificate(t)
	const users = `
CREATE USER monitor@'127.0.0.1' IDENTIFIED BY 'swordfish';
CREATE USER careful@'127.0.0.1' IDENTIFIED BY 'swordfish' REQUIRE SSL;
CREATE USER full@'127.0.0.1' IDENTIFIED BY 'swordfish' WITH MAX_USER_CONNECTIONS -1;
CREATE DATABASE shop;
CREATE DATABASE other;
CREATE TABLE other.secrets (name text);
CREATE TABLE shop.jobs (name text, n int, tmp decimal(5,2), f double);
INSERT INTO shop.jobs VALUES ('a', 3, 1.50, 0.1), ('b', 4, NULL, NULL);
GRANT ALL ON shop.* TO monitor@'127.0.0.1', careful@'127.0.0.1';
GRANT PROCESS ON *.* TO monitor@'127.0.0.1';
`
	init := h.write(t, "init.sql", users)
	s := h.start(t, mariadbd, func(port int) []string {
		return []string{
			"--no-defaults", "--datadir=" + data, "--port=" + strconv.Itoa(port), "--bind-address=127.0.0.1", "--socket=" + h.path("sock"),
			"--pid-file=" + h.path("pid"), "--init-file=" + init, "--skip-name-resolve", "--innodb-buffer-pool-size=16M", "--log-warnings=4",
			"--innodb-flush-log-at-trx-commit=0", "--innodb-log-file-size=8M", "--ssl-cert=" + cert, "--ssl-key=" + key, "--plugin-maturity=unknown",
		}
	}, func(port int) bool {
		r, err := MySQL(t.Context(), Target{
			Details:  fmt.Sprintf(`{"target": "127.0.0.1:%d", "credentials": "good", "database": "shop", "tls": "off"}`, port),
			Settings: loginSettings,
		})
		return err == nil && r.Available
	})
	details := func(more string) string {
		return `{"target": "ADDR", "credentials": "good", "database": "shop", "tls": "off"` + more + `}`
	}
	wantReal(t, s, MySQL, roots, []question{
		{name: "up", details: details("")},
		{name: "no database", details: `{"target": "ADDR", "credentials": "good", "tls": "off"}`},
		{name: "TLS", details: `{"target": "ADDR", "credentials": "tls"}`},
		{name: "TLS that is not verified", details: `{"target": "ADDR", "credentials": "tls", "tls": "insecure"}`},
		{name: "another name", details: `{"target": "ADDR", "credentials": "tls", "server_name": "db.example"}`, reasons: []string{"certificate is not accepted", "db.example"}},
		{name: "TLS is required", details: `{"target": "ADDR", "credentials": "tls", "tls": "off"}`, reasons: []string{"or only with TLS"}},
		{name: "wrong password", details: `{"target": "ADDR", "credentials": "wrong", "tls": "off"}`, reasons: []string{"the password is not accepted", "[credentials.wrong]"}},
		{name: "no such user", details: `{"target": "ADDR", "credentials": "alien", "tls": "off"}`, reasons: []string{"the user name or the password is not accepted"}},
		{name: "crowded", details: `{"target": "ADDR", "credentials": "full", "tls": "off"}`, reasons: []string{"it has too many connections"}},
		{name: "no such database", details: `{"target": "ADDR", "credentials": "good", "tls": "off", "database": "nowhere"}`, reasons: []string{"the user has no access to the database"}},
		{name: "no access", details: `{"target": "ADDR", "credentials": "good", "tls": "off", "database": "other"}`, reasons: []string{"the user has no access to the database"}},
		{name: "value", details: details(`, "query": "SELECT n, name FROM jobs ORDER BY n LIMIT 1", "expect": 3`), value: "3"},
		{name: "decimal", details: details(`, "query": "SELECT tmp FROM jobs WHERE n = 3", "expect": 1.5`), value: "1.50"},
		{name: "double", details: details(`, "query": "SELECT f FROM jobs WHERE n = 3", "expect": 0.1`), value: "0.1"},
		{name: "text", details: details(`, "query": "SELECT 'Grüße'", "expect": "Grüße"`), value: `"Grüße"`},
		{name: "null", details: details(`, "query": "SELECT tmp FROM jobs WHERE n = 4", "expect": null`), value: "null"},
		{name: "no expectation", details: details(`, "query": "SELECT 1 = 1"`), value: "1"},
		{name: "no row", details: details(`, "query": "SELECT 1 FROM jobs WHERE n = 7"`)},
		{name: "no row where one is expected", details: details(`, "query": "SELECT 1 FROM jobs WHERE n = 7", "expect": 1`), reasons: []string{"gave no row, expected is 1"}},
		{name: "no rows at all", details: details(`, "query": "DO 1", "expect": 1`), reasons: []string{"gave no row, expected is 1"}},
		{name: "another value", details: details(`, "query": "SELECT name FROM jobs WHERE n = 4", "expect": "a"`), reasons: []string{`the value is "b", expected is "a"`}},
		{name: "several rows", details: details(`, "query": "SELECT n FROM jobs ORDER BY n", "expect": 3`), value: "3"},
		{name: "a long value", details: details(`, "query": "SELECT repeat('x', 2000)"`), value: `"` + strings.Repeat("x", maxValue) + `…"`},
		{name: "limit", details: details(`, "query": "SELECT @@max_statement_time BETWEEN 1 AND 9.5", "expect": 1`), value: "1"},
		{name: "writing", details: details(`, "query": "DELETE FROM jobs"`), reasons: []string{"would write, which checks don't"}},
		{name: "dropping", details: details(`, "query": "DROP TABLE jobs"`), reasons: []string{"would write, which checks don't"}},
		{name: "two statements", details: details(`, "query": "COMMIT; DELETE FROM jobs"`), reasons: []string{"the server refuses the query", "error 1064"}},
		{name: "a file of the checker", details: details(`, "query": "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE jobs"`), reasons: []string{"would write"}},
		{name: "denied", details: details(`, "query": "SELECT * FROM other.secrets"`), reasons: []string{"the server refuses the query: SELECT command denied to user '[hidden]'@"}},
		{name: "the user", details: details(`, "query": "SELECT user()"`), value: `"[hidden]@127.0.0.1"`},
		{name: "nonsense", details: details(`, "query": "SELEKT"`), reasons: []string{"the server refuses the query", "error 1064"}},
		{name: "nothing was written", details: details(`, "query": "SELECT count(*) FROM jobs", "expect": 2`), value: "2"},
	})
	if strings.Contains(s.log.String(), "Got an error reading communication packets") {
		t.Errorf("we left without a word:\n%s", s.log)
	}
	wantReal(t, s, MySQL, roots, []question{
		{name: "slow", details: details(`, "query": "SELECT SLEEP(30)"`), timeout: time.Second, reasons: []string{"the query", "s: "}},
		{name: "many rows", details: details(`, "query": "SELECT repeat('x', 1000) FROM seq_1_to_1000000", "expect": "y"`), reasons: []string{"xxx…", `expected is "y"`}},
		{name: "a huge value", details: details(`, "query": "SELECT repeat('x', 10000000)"`), reasons: []string{"more than 1048576 bytes in answer to the query"}},
	})

	resume := s.pause(t)
	wantReal(t, s, MySQL, roots, []question{{name: "hangs", details: details(""), timeout: 300 * time.Millisecond, reasons: []string{
		"connected, but there was no answer to the login within ", "does it hang?",
	}}})
	resume()
	s.stop()
	wantReal(t, s, MySQL, roots, []question{{name: "stopped", details: details(""), reasons: []string{"connection refused"}}})
}
