package probe

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// The driver takes what it is not told from variables and files, which are those of whoever runs the checker.
func TestPostgresTakesNothingFromOutside(t *testing.T) {
	home := t.TempDir()
	for name, text := range map[string]string{
		".pgpass":              "*:*:*:*:swordfish",
		".pg_service.conf":     "[mine]\npassword=swordfish\n",
		".postgresql/root.crt": "no certificate",
	} {
		file := filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("HOME", home)
	for _, name := range []string{
		"PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD", "PGAPPNAME", "PGCONNECT_TIMEOUT", "PGSSLMODE", "PGSSLKEY", "PGSSLCERT",
		"PGSSLCERTMODE", "PGSSLSNI", "PGSSLROOTCERT", "PGSSLPASSWORD", "PGSSLNEGOTIATION", "PGTARGETSESSIONATTRS", "PGTZ", "PGOPTIONS",
		"PGMINPROTOCOLVERSION", "PGMAXPROTOCOLVERSION", "PGCHANNELBINDING", "PGREQUIREAUTH",
	} {
		t.Setenv(name, "swordfish")
	}
	t.Setenv("PGPASSFILE", filepath.Join(home, ".pgpass"))
	t.Setenv("PGSERVICEFILE", filepath.Join(home, ".pg_service.conf"))

	parameters := make(map[string]string)
	var password string
	addr, closed := answer(t, func(conn net.Conn) {
		backend := pgproto3.NewBackend(conn, conn)
		message, err := backend.ReceiveStartupMessage()
		startup, ok := message.(*pgproto3.StartupMessage)
		if err != nil || !ok {
			t.Errorf("%T, %v; want a startup message", message, err)
			return
		}
		maps.Copy(parameters, startup.Parameters)
		backend.Send(&pgproto3.AuthenticationMD5Password{Salt: [4]byte{1, 2, 3, 4}})
		_ = backend.Flush()
		_ = backend.SetAuthType(pgproto3.AuthTypeMD5Password)
		if message, err := backend.Receive(); err == nil {
			password = message.(*pgproto3.PasswordMessage).Password
		}
		backend.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "57P03", Message: "the database system is starting up"})
		_ = backend.Flush()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r, err := Postgres(ctx, Target{Details: addr})
	wantDown(t, r, err, "PostgreSQL at "+addr+": the database system is starting up")
	wantClosed(t, closed)
	want := map[string]string{"user": "", "client_encoding": "UTF8", "application_name": "poller-checker"}
	if !maps.Equal(parameters, want) {
		t.Errorf("parameters %v; want %v", parameters, want)
	}
	const ofNone = "md5ada29999d4c1ee52a9d35ac6fe6129e8" // of no user, no password and the salt
	if password != ofNone {
		t.Errorf("password %s; want %s", password, ofNone)
	}

	t.Setenv("PGSERVICE", "mine")
	if r, err := Postgres(ctx, Target{Details: addr}); err == nil || !strings.Contains(err.Error(), "environment has PGSERVICE") {
		t.Errorf("%s, %v", r.Message, err)
	}
}

// A server that is none may send rows that it never said the columns of.
func TestPostgresRowWithoutDescription(t *testing.T) {
	t.Parallel()
	addr, closed := answer(t, func(conn net.Conn) {
		backend := pgproto3.NewBackend(conn, conn)
		_, _ = backend.ReceiveStartupMessage()
		ready := &pgproto3.ReadyForQuery{TxStatus: 'I'}
		backend.Send(&pgproto3.AuthenticationOk{})
		backend.Send(ready)
		_ = backend.Flush()
		for {
			message, err := backend.Receive()
			if err != nil {
				return
			}
			switch message.(type) {
			case *pgproto3.Query: // the ping, BEGIN, ROLLBACK
				backend.Send(&pgproto3.CommandComplete{CommandTag: []byte("BEGIN")})
				backend.Send(ready)
			case *pgproto3.Sync:
				backend.Send(&pgproto3.ParseComplete{})
				backend.Send(&pgproto3.BindComplete{})
				backend.Send(&pgproto3.DataRow{Values: [][]byte{[]byte("1")}})
				backend.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
				backend.Send(ready)
			}
			_ = backend.Flush()
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r, err := Postgres(ctx, Target{Details: fmt.Sprintf(`{"target": %q, "query": "SELECT 1"}`, addr)})
	wantDown(t, r, err, "it does not answer to the query as PostgreSQL does: a row comes without a word on its columns")
	wantClosed(t, closed)
}

func TestParsePostgres(t *testing.T) {
	t.Parallel()
	o, err := parsePostgres(Target{Details: `{"target": "db", "database": "d", "query": "SELECT 1", "expect": 1, "in_recovery": false}`})
	if err != nil || o.Database != "d" || o.Query != "SELECT 1" || o.expected != json.Number("1") || o.InRecovery == nil || *o.InRecovery {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestPostgresValue(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		oid  uint32
		text []byte
		want any
	}{
		{16, []byte("t"), true},
		{16, []byte("f"), false},
		{16, nil, nil},
		{23, []byte("-3"), json.Number("-3")},
		{701, []byte("1e-07"), json.Number("1e-07")},
		{1700, []byte("NaN"), "NaN"},
		{25, []byte("3"), "3"},
		{25, []byte{}, ""},
	} {
		if got := postgresValue(test.oid, test.text); got != test.want {
			t.Errorf("%d, %q: %#v; want %#v", test.oid, test.text, got, test.want)
		}
	}
}

// What a server says in other words than those that the real one in the tests has.
func TestExplainPostgres(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ code, message, want string }{
		{"28000", `no pg_hba.conf entry for host "10.0.0.1", user "u", database "d", SSL off`, "without TLS"},
		{"28000", `role "u" does not exist`, "the login is not accepted"},
		{"57P03", "the database system is shutting down", "the database system is shutting down"},
		{"57014", "canceling statement due to user request", "the server gave up the query"},
		{"42P01", "relation \"x\"\ndoes not exist", `the server refuses the login: relation "x" does not exist (SQLSTATE 42P01)`},
		{"XX000", strings.Repeat("x", 10000), "x… (SQLSTATE XX000)"},
	} {
		addr, _ := answer(t, func(conn net.Conn) {
			backend := pgproto3.NewBackend(conn, conn)
			_, _ = backend.ReceiveStartupMessage()
			backend.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: test.code, Message: test.message})
			_ = backend.Flush()
		})
		r, err := Postgres(t.Context(), Target{Details: fmt.Sprintf(`{"target": %q, "credentials": "good", "tls": "off"}`, addr), Settings: loginSettings})
		wantDown(t, r, err, test.want)
		if strings.Contains(string(r.Message), `\"u\"`) || len(r.Message) > 1000 {
			t.Errorf("%s is told: %s", test.message, r.Message)
		}
	}
}
