package probe

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

type redisOptions struct {
	databaseOptions
	DB      int      `json:"db"`
	Role    string   `json:"role"`
	Command []string `json:"command"`
}

// redisCommands are those that only read, and are as quick as what they read is short.
var redisCommands = []string{
	"BITCOUNT", "DBSIZE", "EXISTS", "EXPIRETIME", "GET", "GETBIT", "GETRANGE", "HEXISTS", "HGET", "HLEN", "HMGET", "LASTSAVE", "LINDEX",
	"LLEN", "LRANGE", "MGET", "PEXPIRETIME", "PTTL", "SCARD", "SISMEMBER", "STRLEN", "TIME", "TTL", "TYPE", "XLEN", "ZCARD", "ZCOUNT",
	"ZRANK", "ZSCORE",
}

func parseRedis(target Target) (redisOptions, error) {
	var o redisOptions
	if err := parse(target.Details, &o.Target, &o); err != nil {
		return o, err
	}
	if err := o.complete(target.Port, 6379); err != nil {
		return o, err
	}
	switch {
	case o.DB < 0:
		return o, fmt.Errorf("db is %d: write the number of a database, from 0 on", o.DB)
	case o.Role != "" && o.Role != "master" && o.Role != "slave":
		return o, fmt.Errorf("role is %q: write master or slave, as the server calls itself", o.Role)
	case len(o.Expect) > 0 && len(o.Command) == 0:
		return o, errors.New("expect is there without a command: write what is asked for as command")
	case len(o.Command) > 0 && !slices.Contains(redisCommands, strings.ToUpper(o.Command[0])):
		return o, fmt.Errorf("the command %q is none of those that checks send, which only read: %s", excerpt(o.Command[0], maxSaid),
			strings.Join(redisCommands, ", "))
	}
	return o, nil
}

// Redis logs in to a Redis server, or one that speaks as it does, and has it answer to a ping, for what it is, and to
// the check's command if it has one. Details is host[:port] or an object.
func Redis(ctx context.Context, target Target) (Result, error) {
	o, err := parseRedis(target)
	if err != nil {
		return Result{}, err
	}
	s, err := newSession(ctx, "Redis", target, o.databaseOptions)
	if err != nil {
		return Result{}, err
	}
	if s.login.Username != "" && s.login.Password == "" {
		return Result{}, fmt.Errorf("credentials %q have a user name and no password: add one, for Redis has no login without", o.Credentials)
	}
	defer s.close()
	return s.end(s.redis(o), s.explainRedis)
}

func (s *session) redis(o redisOptions) error {
	var conn *respConn
	if err := s.enter(func() (err error) {
		conn, err = s.enterRedis(o.DB)
		return err
	}); err != nil {
		return err
	}
	if err := s.ask("the ping", &s.message.Timings.Ping, func() error { return s.pingRedis(conn, o.Role) }); err != nil || len(o.Command) == 0 {
		return err
	}
	return s.ask("the command", &s.message.Timings.Query, func() error {
		value, err := conn.do(o.Command...)
		if err != nil {
			return err
		}
		return s.judge(value, true)
	})
}

func (s *session) enterRedis(db int) (*respConn, error) {
	conn, err := s.dial()
	if err != nil {
		return nil, err
	}
	if s.tls != nil {
		s.asked = "the TLS handshake"
		secured := tls.Client(conn, s.tls)
		if err := secured.HandshakeContext(s.ctx); err != nil {
			return nil, err
		}
		conn = secured
		s.asked = "the login"
	}
	resp := newRESP(conn)
	if s.login.Password != "" {
		login := []string{"AUTH", s.login.Username, s.login.Password}
		if s.login.Username == "" {
			login = slices.Delete(login, 1, 2) // the only form that servers before Redis 6 know
		}
		if _, err := resp.do(login...); err != nil {
			return nil, err
		}
	}
	if db != 0 {
		_, err = resp.do("SELECT", strconv.Itoa(db))
	}
	return resp, err
}

func (s *session) pingRedis(conn *respConn, role string) error {
	pong, err := conn.do("PING")
	if err != nil {
		return err
	}
	if pong != "PONG" {
		return fmt.Errorf("PONG is what it should say, and it says %s", s.brief(pong, maxSaid))
	}
	info, err := conn.do("INFO")
	if refusal, ok := errors.AsType[respError](err); ok && role == "" && refusal.code() == "NOPERM" {
		return nil // nobody wants to know
	}
	if err != nil {
		return err
	}
	text, _ := info.(string)
	is := ""
	for line := range strings.Lines(text) {
		switch name, value, _ := strings.Cut(strings.TrimSpace(line), ":"); name {
		case "redis_version":
			s.message.Version = s.excerpt(value)
		case "role":
			is, s.message.Role = value, s.excerpt(value)
		}
	}
	if role != "" && is != role {
		return mismatch(fmt.Sprintf("its role is %q, expected is %q: has another server become the master?", s.message.Role, role))
	}
	return nil
}

// explainRedis puts what the server says into words.
func (s *session) explainRedis(err error) string {
	refusal, ok := errors.AsType[respError](err)
	if !ok {
		return ""
	}
	text := s.said(string(refusal))
	switch refusal.code() {
	case "WRONGPASS", "NOAUTH":
		return s.refused()
	case "NOPERM":
		return fmt.Sprintf("the user may not do that: have the server's ACL allow it %s", s.asked)
	case "LOADING", "MASTERDOWN", "BUSY", "DENIED":
		return text // in words that say what to do
	}
	switch {
	case strings.Contains(string(refusal), "max number of clients"):
		return crowded
	case strings.Contains(string(refusal), "DB index"):
		return "there is no such database: correct the check's db, or raise databases in the server's configuration"
	case strings.Contains(string(refusal), "without any password configured"), strings.Contains(string(refusal), "no password is set"):
		return "the server has no password, and the check's credentials have one: give the server one, or take the credentials away"
	case strings.Contains(string(refusal), "invalid password"): // before Redis 6
		return s.refused()
	}
	return fmt.Sprintf("the server refuses %s: %s", s.asked, text)
}

// respConn speaks Redis' protocol, version 2, which everything that is like Redis knows. It is as short as a client's
// set-up would be, has no goroutines, and makes nothing of a size that the server only claims.
type respConn struct {
	r *bufio.Reader
	w io.Writer
}

func newRESP(conn io.ReadWriter) *respConn { return &respConn{bufio.NewReader(conn), conn} }

// respError is what a server says that refuses something.
type respError string

func (e respError) Error() string { return string(e) }

func (e respError) code() string {
	code, _, _ := strings.Cut(string(e), " ")
	return code
}

// do sends a command and reads the reply: nil, text, a number or a list of these.
func (c *respConn) do(args ...string) (any, error) {
	command := fmt.Appendf(nil, "*%d\r\n", len(args))
	for _, arg := range args {
		command = fmt.Appendf(command, "$%d\r\n%s\r\n", len(arg), arg)
	}
	// A server that has no room for a client says so and closes the connection, so there may be a reply to what can't be sent.
	_, failed := c.w.Write(command)
	value, err := readRESP(c.r, 0)
	if _, refused := errors.AsType[respError](err); failed != nil && !refused {
		return nil, failed
	}
	return value, err
}

// maxRESPDepth is how deep a reply's lists may go.
const maxRESPDepth = 4

func readRESP(r *bufio.Reader, depth int) (any, error) {
	line, err := r.ReadSlice('\n') // as long as the reader's buffer at most
	if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
		return nil, err
	}
	text, whole := strings.CutSuffix(string(line), "\r\n")
	if !whole || text == "" {
		return nil, noReply(line)
	}
	switch text[0] {
	case '+':
		return text[1:], nil
	case '-':
		return nil, respError(text[1:])
	case ':':
		return number(text[1:]), nil
	}
	size, err := strconv.Atoi(text[1:])
	switch {
	case err != nil || size < -1 || text[0] != '$' && text[0] != '*':
		return nil, noReply(line)
	case size == -1:
		return nil, nil
	case size > maxDatabaseReply: // before anything is made of that size
		return nil, errTooMuch
	case text[0] == '$':
		return readBulk(r, size)
	}
	if depth == maxRESPDepth {
		return nil, errors.New("lists within lists without an end")
	}
	list := []any{}
	for range size {
		value, err := readRESP(r, depth+1)
		if err != nil {
			return nil, err
		}
		list = append(list, value)
	}
	return list, nil
}

// noReply has the line in full: what it may not tell has to be found before it is shortened.
func noReply(line []byte) error { return fmt.Errorf("that is no reply: %s", line) }

func readBulk(r *bufio.Reader, size int) (any, error) {
	text, err := io.ReadAll(io.LimitReader(r, int64(size)+2))
	if err != nil {
		return nil, err
	}
	if len(text) < size+2 {
		return nil, io.ErrUnexpectedEOF
	}
	return string(text[:size]), nil
}
