package probe

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"
)

type mysqlOptions struct {
	databaseOptions
	Database string `json:"database"`
	Query    string `json:"query"`
}

func parseMySQL(target Target) (mysqlOptions, error) {
	var o mysqlOptions
	if err := parse(target.Details, &o.Target, &o); err != nil {
		return o, err
	}
	if err := o.complete(target.Port, 3306); err != nil {
		return o, err
	}
	if o.Credentials == "" {
		// A hostile server can have the driver allocate without bound, which nothing recovers from, or leave a goroutine behind.
		return o, errors.New("mysql asks only hosts that credentials in the checker's file name: its client trusts what servers say; add credentials")
	}
	if len(o.Expect) > 0 && o.Query == "" {
		return o, errors.New("expect is there without a query: write what is asked for as query")
	}
	return o, o.scalar()
}

// MySQL logs in to a MySQL or MariaDB server, has it answer to a ping, and to the check's query if it has one, which may
// only read and which the server ends before the check's deadline. Details is an object, for without credentials it asks
// nobody.
func MySQL(ctx context.Context, target Target) (Result, error) {
	o, err := parseMySQL(target)
	if err != nil {
		return Result{}, err
	}
	s, err := newSession(ctx, "MySQL", target, o.databaseOptions)
	if err != nil {
		return Result{}, err
	}
	defer s.close()
	return s.end(s.mysql(o), s.explainMySQL)
}

func (s *session) mysql(o mysqlOptions) (err error) {
	defer func() {
		if p := recover(); p != nil { // the driver takes a packet to be as long as what it looks for in it
			err = errors.New("a packet of it ends too soon")
		}
	}()
	config := mysql.NewConfig()
	config.Net, config.Addr, config.DBName = "tcp", s.address(), o.Database
	config.User, config.Passwd, config.TLS = s.login.Username, s.login.Password, s.tls
	config.DialFunc = func(context.Context, string, string) (net.Conn, error) { return s.dialMySQL() }
	config.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return err
	}
	var conn driver.Conn
	if err := s.enter(func() (err error) {
		conn, err = connector.Connect(s.ctx)
		return err
	}); err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // says good-bye, and ends the driver's goroutine
	var version string
	err = s.ask("the ping", &s.message.Timings.Ping, func() (err error) {
		version, err = s.pingMySQL(conn)
		return err
	})
	s.message.Version = s.excerpt(version)
	if err != nil || o.Query == "" {
		return err
	}
	return s.ask("the query", &s.message.Timings.Query, func() error { return s.queryMySQL(conn, version, o.Query) })
}

// dialMySQL makes the connection and looks whether a MySQL server greets there. The driver would wait for the megabytes
// that the first letters of SSH or HTTP are the length of, and leave a goroutine behind where a greeting is too short.
func (s *session) dialMySQL() (net.Conn, error) {
	conn, err := s.dial()
	if err != nil {
		return nil, err
	}
	greeting, err := readGreeting(conn)
	if err != nil {
		return nil, err
	}
	return &greeted{conn, io.MultiReader(bytes.NewReader(greeting), conn)}, nil
}

// greeted is a connection whose first packet has been read, and is read again.
type greeted struct {
	net.Conn
	r io.Reader
}

func (g *greeted) Read(p []byte) (int, error) { return g.r.Read(p) }

var errNoGreeting = errors.New("that is no greeting of MySQL's")

// readGreeting returns the first packet of a server: version 10 of its greeting, or an error.
func readGreeting(r io.Reader) ([]byte, error) {
	const most = 1024
	header := make([]byte, 4)
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, err
	}
	size := int(header[0]) | int(header[1])<<8 | int(header[2])<<16
	if size == 0 || size > most || header[3] != 0 {
		return nil, errNoGreeting
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	const greeting, refusal = 10, 255
	switch body[0] {
	case greeting:
		_, rest, found := bytes.Cut(body[1:], []byte{0}) // after the server's version
		// Number of the connection, 8 bytes of the challenge, a zero, capabilities; then all the rest, or nothing.
		const short, whole = 4 + 8 + 1 + 2, 4 + 8 + 1 + 2 + 1 + 2 + 2 + 1 + 10 + 13
		if found && (len(rest) == short || len(rest) >= whole) {
			return append(header, body...), nil
		}
	case refusal:
		if len(body) >= 9 || len(body) >= 4 && body[3] != '#' { // the SQLSTATE has five letters, if there is one
			return append(header, body...), nil
		}
	}
	return nil, errNoGreeting
}

func (s *session) pingMySQL(conn driver.Conn) (version string, err error) {
	if err := conn.(driver.Pinger).Ping(s.ctx); err != nil {
		return "", err
	}
	value, _, err := s.firstOfMySQL(conn, "SELECT VERSION()")
	version, _ = value.(string)
	return version, err
}

func (s *session) queryMySQL(conn driver.Conn, version, query string) error {
	if left, ok := s.left(); ok {
		limit := fmt.Sprintf("SET SESSION max_execution_time = %d", left.Milliseconds())
		if strings.Contains(version, "MariaDB") {
			limit = fmt.Sprintf("SET SESSION max_statement_time = %.3f", left.Seconds())
		}
		_, err := conn.(driver.ExecerContext).ExecContext(s.ctx, limit, nil)
		if refusal, ok := errors.AsType[*mysql.MySQLError](err); err != nil && (!ok || refusal.Number != unknownVariable) {
			return err
		}
	}
	// For the session, because statements such as DROP end a transaction before they begin, with all that was said of it.
	if _, err := conn.(driver.ExecerContext).ExecContext(s.ctx, "SET SESSION TRANSACTION READ ONLY", nil); err != nil {
		return err
	}
	value, found, err := s.firstOfMySQL(conn, query)
	if err != nil {
		return err
	}
	return s.judge(value, found)
}

// unknownVariable is the error of servers that have no limit for a statement's time: MySQL before 5.7.8.
const unknownVariable = 1193

// firstOfMySQL returns the first column of a query's first row. The driver sends one statement, so a query can't have
// the session write and go on.
func (s *session) firstOfMySQL(conn driver.Conn, query string) (value any, found bool, err error) {
	rows, err := conn.(driver.QueryerContext).QueryContext(s.ctx, query, nil)
	if err != nil {
		return nil, false, err
	}
	columns := make([]driver.Value, len(rows.Columns()))
	if len(columns) == 0 {
		return nil, false, rows.Close() // a statement that has no rows
	}
	if err := rows.Next(columns); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, false, rows.Close()
		}
		return nil, false, err
	}
	value = mysqlValue(columns[0], rows.(driver.RowsColumnTypeDatabaseTypeName).ColumnTypeDatabaseTypeName(0))
	return value, true, s.unlessMore(true, rows.Close())
}

// mysqlValue reads a value of the driver's by the column's type.
func mysqlValue(value driver.Value, column string) any {
	switch value := value.(type) {
	case nil:
		return nil
	case []byte:
		if column == "DECIMAL" {
			return number(string(value))
		}
		return string(value)
	case float32:
		return number(strconv.FormatFloat(float64(value), 'g', -1, 32))
	case float64:
		return number(strconv.FormatFloat(value, 'g', -1, 64))
	}
	return number(fmt.Sprint(value)) // int64, uint64
}

// explainMySQL puts what the server or the driver says into words. Numbers are those of MySQL and MariaDB.
func (s *session) explainMySQL(err error) string {
	switch {
	case errors.Is(err, mysql.ErrNoTLS):
		return noTLS
	case errors.Is(err, mysql.ErrCleartextPassword):
		return "the server wants the password in the clear, which checks don't send: give the user another way to log in"
	case errors.Is(err, mysql.ErrUnknownPlugin), errors.Is(err, mysql.ErrOldPassword):
		return "the server wants a way to log in that checks don't know: give the user another, such as caching_sha2_password"
	}
	refusal, ok := errors.AsType[*mysql.MySQLError](err)
	if !ok {
		return ""
	}
	text := s.said(refusal.Message)
	switch refusal.Number {
	case 1045, 1698:
		return s.refused() + "; it may also be for other hosts, or only with TLS"
	case 3159:
		return `the server takes logins only with TLS: write "tls": "verify"`
	case 1130:
		return "the server takes no connections from this machine: allow it in the server's users"
	case 1129:
		return "the server has blocked this machine because of connections that failed: see why, and FLUSH HOSTS there"
	case 1049:
		return "there is no such database: create it, or correct the check's database"
	case 1044:
		return "the user has no access to the database: grant it, or correct the check's database"
	case 1040, 1203, 1226:
		return crowded
	case 1792, 1290:
		return "the query would write, which checks don't: " + text
	case 1969, 3024:
		return s.gaveUp(text)
	}
	return fmt.Sprintf("the server refuses %s: %s (error %d)", s.asked, text, refusal.Number)
}
