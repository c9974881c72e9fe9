package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// maxDatabaseReply is how many bytes are read of a database server, all in all.
	maxDatabaseReply = 1 << 20
	// maxValue and maxSaid are how many bytes of a value are shown, in an answer and in an error.
	maxValue, maxSaid = 1024, 200
)

// databaseOptions are those that the checks of all databases have.
type databaseOptions struct {
	Target      string          `json:"target"`
	Credentials string          `json:"credentials"`
	TLS         string          `json:"tls"`
	ServerName  string          `json:"server_name"`
	Expect      json.RawMessage `json:"expect"`

	host     string
	port     int32
	expected any // Expect, as sameValue takes it
}

// complete checks the options and fills in what is not given. The target is not quoted where it is something else than
// an address: somebody may have written a URL with a password in it.
func (o *databaseOptions) complete(port, defaultPort int32) error {
	if strings.ContainsAny(o.Target, "@/,=") {
		return errors.New("the target is not one host and port: write host.example or host.example:" + strconv.Itoa(int(defaultPort)) +
			"; URLs, lists of hosts and sockets are not taken, and user and password stand as credentials in the checker's file")
	}
	if _, _, err := net.SplitHostPort(o.Target); err != nil && port == 0 {
		port = defaultPort
	}
	var err error
	if o.host, o.port, err = hostPort(Target{Details: o.Target, Port: port}); err != nil {
		return err
	}
	switch {
	case o.TLS == "" && o.Credentials != "":
		o.TLS = "verify"
	case o.TLS == "":
		o.TLS = "off"
	case !slices.Contains([]string{"off", "verify", "insecure"}, o.TLS):
		return fmt.Errorf("tls is %q: write off, verify or insecure", o.TLS)
	}
	if o.ServerName != "" && o.TLS != "verify" {
		return fmt.Errorf("server_name is what a certificate is verified for, and tls is %s: write \"tls\": \"verify\", or leave it out", o.TLS)
	}
	if o.ServerName == "" {
		o.ServerName = o.host
	}
	return o.readExpect()
}

func (o *databaseOptions) readExpect() error {
	if len(o.Expect) == 0 {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(o.Expect))
	decoder.UseNumber()
	if err := decoder.Decode(&o.expected); err != nil {
		return fmt.Errorf("expect: %w", plainly(err, string(o.Expect)))
	}
	if _, ok := o.expected.(map[string]any); ok {
		return errors.New("expect is an object: write the value alone: text in quotes, a number, true, false or null")
	}
	return nil
}

// scalar is an error where a list is expected of what has none.
func (o *databaseOptions) scalar() error {
	if _, ok := o.expected.([]any); ok {
		return errors.New("expect is a list: the first column of the first row is one value: write text in quotes, a number, true, false or null")
	}
	return nil
}

// databaseMessage is told of all databases; what could not be found out is left out.
type databaseMessage struct {
	Host         string          `json:"host"`
	Port         int32           `json:"port"`
	ResponseTime int64           `json:"response_time,omitempty"` // ns
	Version      string          `json:"version,omitempty"`
	Role         string          `json:"role,omitempty"`
	InRecovery   *bool           `json:"in_recovery,omitempty"`
	Value        json.RawMessage `json:"value,omitempty"`
	Timings      databaseTimings `json:"timings"`
	Error        string          `json:"error,omitempty"`
}

// databaseTimings are in nanoseconds, zero for what there was no need of or what failed before.
type databaseTimings struct {
	// Connect is the look-up of the name and the TCP connection, Auth is TLS and the login.
	Connect int64 `json:"connect"`
	Auth    int64 `json:"auth"`
	Ping    int64 `json:"ping"`
	Query   int64 `json:"query,omitempty"`
}

// session is one look at a database server. It has one connection, which ends with the session or with its context,
// whichever is first, and whatever a driver thinks of it.
type session struct {
	ctx     context.Context // a session lives as long as the call
	server  string          // what kind of server it is, for people
	options databaseOptions
	login   Credentials
	hide    *strings.Replacer // takes the login out of what the server says, before it is shortened
	tls     *tls.Config       // nil is none
	conn    *boundedConn
	began   time.Time
	asked   string // what there is no answer to yet
	message databaseMessage
}

func newSession(ctx context.Context, server string, target Target, options databaseOptions) (*session, error) {
	var login Credentials
	for _, host := range []string{options.host, options.ServerName} { // what stands in front of many servers may go by the second
		var err error
		if login, err = target.Settings.credentials(options.Credentials, host); err != nil {
			return nil, err
		}
	}
	if login.Token != "" {
		return nil, fmt.Errorf("credentials %q have a token: this check takes a user name and a password", options.Credentials)
	}
	s := &session{ctx: ctx, server: server, options: options, login: login, hide: hiding(login.secrets()...), began: time.Now()}
	s.message.Host, s.message.Port = options.host, options.port
	if options.TLS != "off" {
		s.tls = &tls.Config{
			MinVersion: tls.VersionTLS12, RootCAs: target.RootCAs, ServerName: options.ServerName,
			InsecureSkipVerify: options.TLS == "insecure", //nolint:gosec // the check says so, in this word
		}
	}
	return s, nil
}

func (s *session) address() string {
	return net.JoinHostPort(s.options.host, strconv.Itoa(int(s.options.port)))
}

// dial makes the session's connection. Drivers that ask for another one, to cancel something, get none.
func (s *session) dial() (net.Conn, error) {
	if s.conn != nil {
		return nil, net.ErrClosed
	}
	conn, err := new(net.Dialer).DialContext(s.ctx, "tcp", s.address())
	s.message.Timings.Connect = time.Since(s.began).Nanoseconds()
	if err != nil {
		return nil, err
	}
	s.conn = &boundedConn{Conn: conn, left: maxDatabaseReply, keep: context.AfterFunc(s.ctx, func() { _ = conn.Close() })}
	s.asked = "the login"
	return s.conn, nil
}

// enter has a driver connect and log in.
func (s *session) enter(connect func() error) error {
	err := connect()
	s.message.Timings.Auth = time.Since(s.began).Nanoseconds() - s.message.Timings.Connect
	return err
}

// ask does something that the server has to answer to, and takes the time.
func (s *session) ask(what string, took *int64, do func() error) error {
	s.asked = what
	began := time.Now()
	err := do()
	*took = time.Since(began).Nanoseconds()
	return err
}

// judge keeps what a query came to, and compares it. There may be no value.
func (s *session) judge(value any, found bool) error {
	if found {
		s.message.Value = s.brief(value, maxValue)
	}
	switch {
	case len(s.options.Expect) == 0:
		return nil
	case !found:
		return mismatch(fmt.Sprintf("the query gave no row, expected is %s", brief(s.options.expected, maxSaid)))
	case !sameValue(s.options.expected, value):
		return mismatch(fmt.Sprintf("the value is %s, expected is %s", s.brief(value, maxSaid), brief(s.options.expected, maxSaid)))
	}
	return nil
}

// unlessMore drops the error of reading a query to its end where there is a first row and only too many come after it.
func (s *session) unlessMore(found bool, err error) error {
	if found && errors.Is(s.conn.broken(), errTooMuch) {
		return nil
	}
	return err
}

// left is how long the server may take for a query; ok is that there is a limit. It is a little less than the time until
// the deadline, so that the server ends the query and not we the connection, of which the server would complain.
func (s *session) left() (left time.Duration, ok bool) {
	deadline, ok := s.ctx.Deadline()
	return max(time.Until(deadline)*19/20, time.Millisecond), ok
}

func (s *session) close() {
	if s.conn != nil {
		s.conn.keep()
		_ = s.conn.Close() // nothing of interest is on its way
	}
}

// end makes a result of what a session came to. A driver's error is put into words by explain, which returns none for
// what has nothing to do with its protocol.
func (s *session) end(err error, explain func(error) string) (Result, error) {
	took := time.Since(s.began)
	if errors.Is(s.ctx.Err(), context.Canceled) {
		return Result{}, fmt.Errorf("look at %s at %s: %w", s.server, s.address(), s.ctx.Err())
	}
	if err == nil {
		s.message.ResponseTime = took.Nanoseconds()
		return result(true, took, s.message)
	}
	s.message.Error = fmt.Sprintf("%s at %s: %s", s.server, s.address(), s.explain(err, took, explain))
	return result(false, took, s.message)
}

func (s *session) explain(err error, took time.Duration, ofDriver func(error) string) string {
	if found, ok := errors.AsType[mismatch](err); ok {
		return string(found)
	}
	if text := ofDriver(err); text != "" {
		return text
	}
	if s.conn != nil && s.ctx.Err() != nil {
		return fmt.Sprintf("connected, but there was no answer to %s within %v: is the server overloaded, or does it hang?",
			s.asked, took.Round(time.Millisecond))
	}
	if s.conn == nil {
		return explain(err, took)
	}
	broken := s.conn.broken()
	_, notTLS := errors.AsType[tls.RecordHeaderError](err)
	_, notVerified := errors.AsType[*tls.CertificateVerificationError](err)
	switch {
	case notTLS:
		return noTLS
	case notVerified:
		return explain(err, took)
	case errors.Is(broken, errTooMuch), errors.Is(err, errTooMuch):
		return s.tooMuch()
	case errors.Is(broken, io.EOF):
		return fmt.Sprintf("it closed the connection instead of an answer to %s: is it %s that listens there%s?", s.asked, s.server, s.orTLS())
	case broken != nil:
		return fmt.Sprintf("the connection broke off before the answer to %s: %s: is it %s that listens there%s?",
			s.asked, explain(broken, took), s.server, s.orTLS())
	}
	return fmt.Sprintf("it does not answer to %s as %s does: %s", s.asked, s.server, s.said(err.Error()))
}

func (s *session) orTLS() string {
	if s.tls != nil {
		return ""
	}
	return `, and does it want "tls": "verify"`
}

const noTLS = `the server does not speak TLS there: have it do so, or, where the network between can be trusted, write "tls": "off"`

// refused are the words for a login that is not accepted. The server's own have the name of the user in them.
func (s *session) refused() string {
	if s.options.Credentials == "" {
		return "the server wants a login: name credentials in the check"
	}
	return fmt.Sprintf("the user name or the password is not accepted: look at [credentials.%s] in the checker's file, and at the server's users",
		s.options.Credentials)
}

func (s *session) tooMuch() string {
	return fmt.Sprintf("it sends more than %d bytes in answer to %s: ask for less, such as with LIMIT 1; or is it no %s that listens there?",
		maxDatabaseReply, s.asked, s.server)
}

const crowded = "it has too many connections: raise its limit, or see who leaves them open"

// gaveUp are the words for a server that ended a query: at the limit that it was given, or because somebody had it do so.
func (s *session) gaveUp(text string) string {
	return fmt.Sprintf("the server gave up the query after %v: %s", time.Since(s.began).Round(time.Millisecond), text)
}

// mismatch is an error that says in whole what is not as it should be.
type mismatch string

func (m mismatch) Error() string { return string(m) }

// said is what is told of a server's own words.
func (s *session) said(text string) string {
	printable := strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return ' '
		}
		return r
	}, s.excerpt(text))
	return strings.TrimSpace(printable)
}

func (s *session) excerpt(text string) string { return excerpt(s.hide.Replace(text), maxSaid) }

// brief is a server's value as it is told.
func (s *session) brief(value any, most int) json.RawMessage { return brief(s.hidden(value), most) }

func (s *session) hidden(value any) any {
	switch value := value.(type) {
	case string:
		return s.hide.Replace(value)
	case json.Number:
		if text := s.hide.Replace(value.String()); text != value.String() {
			return text
		}
	case []any:
		list := make([]any, len(value))
		for i, one := range value {
			list[i] = s.hidden(one)
		}
		return list
	}
	return value
}

// number is a text that a server calls a number; what JSON knows no number for, such as NaN, remains text.
func number(text string) any {
	if _, err := strconv.ParseFloat(text, 64); err == nil && json.Valid([]byte(text)) {
		return json.Number(text)
	}
	return text
}

// sameValue compares a value with the expected one. Both are nil, bool, json.Number, string or a list of these. Many
// servers have but text for numbers; so text equals a number that it reads as.
func sameValue(want, got any) bool {
	switch want := want.(type) {
	case json.Number:
		return sameNumber(want.String(), fmt.Sprint(got))
	case string:
		text, ok := got.(json.Number)
		return got == any(want) || ok && text.String() == want
	case []any:
		list, ok := got.([]any)
		return ok && slices.EqualFunc(want, list, sameValue)
	}
	_, list := got.([]any)
	return !list && want == got
}

func sameNumber(a, b string) bool {
	whole, errA := strconv.ParseInt(a, 10, 64)
	other, errB := strconv.ParseInt(b, 10, 64)
	if errA == nil && errB == nil {
		return whole == other // exactly, where a float would not be
	}
	x, errA := strconv.ParseFloat(a, 64)
	y, errB := strconv.ParseFloat(b, 64)
	return a == b || errA == nil && errB == nil && x == y
}

// brief is a value as JSON; of a longer one, text that shows its beginning.
func brief(value any, most int) json.RawMessage {
	if text, ok := value.(string); ok {
		value = excerpt(text, most)
	}
	data, err := json.Marshal(value)
	if err != nil {
		data = []byte(`"?"`) // no value that sameValue takes
	}
	if _, text := value.(string); !text && len(data) > most {
		return brief(string(data), most)
	}
	return data
}

// boundedConn is a connection of which so much is read and no more. It remembers what broke it: drivers don't tell.
type boundedConn struct {
	net.Conn
	keep func() bool // undoes that it is closed with its context

	mu    sync.Mutex // a driver may read while it writes
	left  int
	first error // that ended reading or writing
}

var errTooMuch = errors.New("too much to read")

func (c *boundedConn) Read(p []byte) (int, error) {
	c.mu.Lock()
	left := c.left
	c.mu.Unlock()
	if left == 0 && len(p) > 0 {
		return 0, c.note(errTooMuch)
	}
	n, err := c.Conn.Read(p[:min(len(p), left)])
	c.mu.Lock()
	c.left -= n
	c.mu.Unlock()
	return n, c.note(err)
}

func (c *boundedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	return n, c.note(err)
}

func (c *boundedConn) note(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first == nil && !errors.Is(err, net.ErrClosed) { // which we or the driver did
		c.first = err
	}
	return err
}

func (c *boundedConn) broken() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.first
}
