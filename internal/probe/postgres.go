package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

type postgresOptions struct {
	databaseOptions
	Database   string `json:"database"`
	Query      string `json:"query"`
	InRecovery *bool  `json:"in_recovery"`
}

func parsePostgres(target Target) (postgresOptions, error) {
	var o postgresOptions
	if err := parse(target.Details, &o.Target, &o); err != nil {
		return o, err
	}
	if err := o.complete(target.Port, 5432); err != nil {
		return o, err
	}
	if len(o.Expect) > 0 && o.Query == "" {
		return o, errors.New("expect is there without a query: write what is asked for as query")
	}
	return o, o.scalar()
}

// Postgres logs in to a PostgreSQL server, has it answer to an empty query, and to the check's own if it has one, in a
// read-only transaction that the server ends before the check's deadline. Details is host[:port] or an object.
func Postgres(ctx context.Context, target Target) (Result, error) {
	o, err := parsePostgres(target)
	if err != nil {
		return Result{}, err
	}
	s, err := newSession(ctx, "PostgreSQL", target, o.databaseOptions)
	if err != nil {
		return Result{}, err
	}
	defer s.close()
	config, err := s.postgresConfig(o.Database)
	if err != nil {
		return Result{}, err
	}
	return s.end(s.postgres(o, config), s.explainPostgres)
}

// nothingFromOutside is for a driver that would take whatever it has no value for from PG… variables and files in the
// home directory. The values themselves are replaced below.
const nothingFromOutside = "host=host port=1 user=user password=password passfile='' servicefile='' dbname=database connect_timeout=0 target_session_attrs=any" +
	" sslmode=disable sslcertmode=disable sslnegotiation=postgres sslcert='' sslkey='' sslrootcert='' sslpassword='' sslsni=1" +
	" min_protocol_version=3.0 max_protocol_version=3.0 channel_binding=prefer require_auth=''"

func (s *session) postgresConfig(database string) (*pgconn.Config, error) {
	config, err := pgconn.ParseConfig(nothingFromOutside)
	if err != nil {
		// It looks for a service wherever one is named, and there is no way to have it not do so.
		return nil, errors.New("look at PostgreSQL: the checker's environment has PGSERVICE, which a check may not depend on: start the checker without it")
	}
	config.Host, config.Port = s.options.host, uint16(s.options.port) //nolint:gosec // from 1 to 65535, by hostPort
	config.User, config.Password, config.Database = s.login.Username, s.login.Password, database
	config.TLSConfig, config.Fallbacks = s.tls, nil
	if s.tls == nil {
		config.RequireAuth = "!password" // or anybody on the way may ask for it in the clear
	}
	config.RuntimeParams = map[string]string{"client_encoding": "UTF8", "application_name": "poller-checker"}
	config.MaxProtocolMessageBodyLen = maxDatabaseReply
	config.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil } // dial does it
	config.DialFunc = func(context.Context, string, string) (net.Conn, error) { return s.dial() }
	return config, nil
}

func (s *session) postgres(o postgresOptions, config *pgconn.Config) error {
	var conn *pgconn.PgConn
	if err := s.enter(func() (err error) {
		conn, err = pgconn.ConnectConfig(s.ctx, config)
		return err
	}); err != nil {
		return err
	}
	defer s.leavePostgres(conn)
	s.message.Version = s.excerpt(conn.ParameterStatus("server_version"))
	if err := s.ask("the ping", &s.message.Timings.Ping, func() error { return conn.Ping(s.ctx) }); err != nil {
		return err
	}
	if o.InRecovery == nil && o.Query == "" {
		return nil
	}
	return s.ask("the query", &s.message.Timings.Query, func() error { return s.queryPostgres(conn, o) })
}

func (s *session) queryPostgres(conn *pgconn.PgConn, o postgresOptions) error {
	begin := "BEGIN READ ONLY"
	if left, ok := s.left(); ok {
		begin += fmt.Sprintf("; SET LOCAL statement_timeout = %d", left.Milliseconds())
	}
	if err := conn.Exec(s.ctx, begin).Close(); err != nil {
		return err
	}
	if o.InRecovery != nil {
		value, _, err := s.firstOfPostgres(conn, "SELECT pg_is_in_recovery()")
		if err != nil {
			return err
		}
		recovering := value == true
		s.message.InRecovery = &recovering
		if recovering != *o.InRecovery {
			return mismatch(fmt.Sprintf("in_recovery is %v, expected is %v: has another server become the primary?", recovering, *o.InRecovery))
		}
	}
	if o.Query == "" {
		return nil
	}
	value, found, err := s.firstOfPostgres(conn, o.Query)
	if err != nil {
		return err
	}
	return s.judge(value, found)
}

// firstOfPostgres returns the first column of a query's first row. The protocol takes one statement here, so a query
// can't end the transaction and go on.
func (s *session) firstOfPostgres(conn *pgconn.PgConn, query string) (value any, found bool, err error) {
	rows := conn.ExecParams(s.ctx, query, nil, nil, nil, nil)
	described := true
	if found = rows.NextRow(); found {
		if columns, of := rows.Values(), rows.FieldDescriptions(); len(columns) > 0 {
			if described = len(of) > 0; described { // the driver doesn't see to it
				value = postgresValue(of[0].DataTypeOID, columns[0])
			}
		}
	}
	_, err = rows.Close()
	if !described {
		return nil, false, errors.New("a row comes without a word on its columns")
	}
	return value, found, s.unlessMore(found, err)
}

// leavePostgres takes leave in a way that neither the server nor a pooler before it has to complain of.
func (s *session) leavePostgres(conn *pgconn.PgConn) {
	if conn.IsClosed() {
		s.close()            // which ends whatever the driver would go on with
		<-conn.CleanupDone() // it does so in a goroutine
		return
	}
	if conn.TxStatus() != 'I' {
		_ = conn.Exec(s.ctx, "ROLLBACK").Close() // there is nothing to lose
	}
	conn.Frontend().Send(&pgproto3.Terminate{})
	_ = conn.Frontend().Flush() // the server finds out by itself, too
}

// postgresValue reads the text of a value by its type.
func postgresValue(oid uint32, text []byte) any {
	switch {
	case text == nil:
		return nil
	case oid == 16: // bool
		return string(text) == "t"
	case oid == 20, oid == 21, oid == 23, oid == 26, oid == 700, oid == 701, oid == 1700: // int8, int2, int4, oid, float4, float8, numeric
		return number(string(text))
	}
	return string(text)
}

// explainPostgres puts what the server or the driver says into words. Codes are those of SQLSTATE.
func (s *session) explainPostgres(err error) string {
	if _, ok := errors.AsType[*pgproto3.ExceededMaxBodyLenErr](err); ok {
		return s.tooMuch()
	}
	refusal, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		switch text := err.Error(); {
		case strings.Contains(text, "server refused TLS connection"):
			return noTLS
		case strings.Contains(text, "require_auth"):
			return `the server wants the password in the clear: write "tls": "verify", or have it ask for scram-sha-256`
		}
		return ""
	}
	text := s.said(refusal.Message)
	switch refusal.Code {
	case "28P01":
		return s.refused()
	case "28000":
		if s.options.Credentials == "" {
			return s.refused()
		}
		if strings.Contains(refusal.Message, "no encryption") || strings.Contains(refusal.Message, "SSL off") {
			return `its pg_hba.conf has no place for this user, database and machine without TLS: write "tls": "verify", or add one`
		}
		return "the login is not accepted: there is no such user, or pg_hba.conf has no place for this user, database and machine"
	case "3D000":
		return text + ": create it, or correct the check's database"
	case "53300":
		return crowded
	case "57P03":
		return text // it starts, stops or recovers
	case "57014":
		return s.gaveUp(text)
	case "25006":
		return "the query would write, which checks don't: " + text
	}
	return fmt.Sprintf("the server refuses %s: %s (SQLSTATE %s)", s.asked, text, s.said(refusal.Code))
}
