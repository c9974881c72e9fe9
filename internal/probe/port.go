package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
)

type portOptions struct {
	Target     string `json:"target"`
	Send       string `json:"send"`
	Expect     string `json:"expect"`
	Matches    string `json:"matches"`
	TLS        bool   `json:"tls"`
	ServerName string `json:"server_name"`
	Insecure   bool   `json:"insecure"`

	host    string
	port    int32
	pattern *regexp.Regexp // of Matches; nil if that is empty
}

type portOpen struct {
	Host         string    `json:"host"`
	Port         int32     `json:"port"`
	ResponseTime int64     `json:"response_time"` // ns
	Received     string    `json:"received,omitempty"`
	TLS          *tlsFacts `json:"tls,omitempty"`
	Insecure     bool      `json:"insecure,omitempty"`
}

type portClosed struct {
	Error    string    `json:"error"`
	Received string    `json:"received,omitempty"`
	TLS      *tlsFacts `json:"tls,omitempty"`
}

func parsePort(target Target) (portOptions, error) {
	var o portOptions
	err := parse(target.Details, &o.Target, &o)
	if err != nil {
		return o, err
	}
	if o.host, o.port, err = hostPort(Target{Details: o.Target, Port: target.Port}); err != nil {
		return o, err
	}
	if !o.TLS && (o.ServerName != "" || o.Insecure) {
		return o, errors.New(`server_name and insecure are about the target's certificate: add "tls": true, or leave them out`)
	}
	o.pattern, err = compile(o.Matches)
	return o, err
}

// Port connects to a TCP port and closes the connection again. Details is host:port, or a host
// alone with the port in Target.Port. Between the two it shakes hands, says something, and reads until what is expected
// has come, if it is told to.
func Port(ctx context.Context, target Target) (Result, error) {
	o, err := parsePort(target)
	if err != nil {
		return Result{}, err
	}
	began := time.Now()
	conn, err := connect(ctx, o.host, o.port)
	took := time.Since(began)
	var said conversation
	if err == nil {
		defer conn.close()
		if o.TLS || o.Send != "" || o.expects() {
			err = said.hold(ctx, conn, o, target)
			took = time.Since(began)
		}
	}
	switch {
	case err == nil:
		return result(true, took, portOpen{o.host, o.port, took.Nanoseconds(), said.excerpt(), said.facts, o.Insecure})
	case errors.Is(ctx.Err(), context.Canceled):
		return Result{}, fmt.Errorf("look at port %d of %s: %w", o.port, o.host, ctx.Err())
	case conn == nil:
		return result(false, took, portClosed{Error: fmt.Sprintf("Port %d is not accessible: %s: %s", o.port, o.host, explain(err, took))})
	}
	why := fmt.Sprintf("Port %d of %s is open, but %s", o.port, o.host, said.explain(ctx, err, o, took))
	return result(false, took, portClosed{why, said.excerpt(), said.facts})
}

func (o *portOptions) expects() bool { return o.Expect != "" || o.pattern != nil }

// conversation is what comes after connecting.
type conversation struct {
	facts *tlsFacts // nil without TLS
	reply []byte
	stage stage
}

// stage is how far a conversation went.
type stage int

const (
	handshaking stage = iota
	sending
	reading
)

var errOtherReply = errors.New("something else than what is expected came")

func (c *conversation) hold(ctx context.Context, conn *link, o portOptions, target Target) error {
	if o.TLS {
		config := &tls.Config{
			MinVersion: tls.VersionTLS12, RootCAs: target.RootCAs, ServerName: o.host,
			InsecureSkipVerify: o.Insecure, //nolint:gosec // whoever configures the check says so
		}
		if o.ServerName != "" {
			config.ServerName = o.ServerName
		}
		state, err := conn.shakeHands(ctx, config)
		if err != nil {
			c.facts = factsOfRefused(err, time.Now())
			return err
		}
		facts := factsOf(state, time.Now())
		c.facts = &facts
	}
	c.stage = sending
	if _, err := io.WriteString(conn, o.Send); err != nil {
		return err
	}
	if !o.expects() {
		return nil
	}
	c.stage = reading
	return c.read(ctx, conn, o)
}

// read reads until what is expected is there.
func (c *conversation) read(ctx context.Context, conn io.Reader, o portOptions) error {
	buffer := make([]byte, maxReply)
	for {
		n, err := conn.Read(buffer[len(c.reply):])
		c.reply = buffer[:len(c.reply)+n]
		if bytes.Contains(c.reply, []byte(o.Expect)) && (o.pattern == nil || matches(ctx, o.pattern, c.reply)) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(c.reply) == maxReply {
			return errOtherReply
		}
	}
}

func (c *conversation) excerpt() string { return excerpt(string(c.reply), maxQuote) }

// explain goes on after "the port is open, but".
func (c *conversation) explain(ctx context.Context, err error, o portOptions, took time.Duration) string {
	took = took.Round(time.Millisecond)
	switch {
	case c.stage == handshaking:
		return explainHandshake(err, took)
	case c.stage == sending && ctx.Err() != nil:
		return fmt.Sprintf("the target did not take what was sent within %v", took)
	case c.stage == sending:
		return "what was sent did not get through: " + explain(err, took)
	}
	wanted := fmt.Sprintf("%q did not come", excerpt(o.Expect, maxQuote))
	if bytes.Contains(c.reply, []byte(o.Expect)) {
		wanted = fmt.Sprintf("nothing came that matches %q", excerpt(o.Matches, maxQuote))
	}
	came := "; the target said nothing"
	if len(c.reply) > 0 {
		came = fmt.Sprintf("; the target said %q", c.excerpt())
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Sprintf("%s within %v%s", wanted, took, came)
	case errors.Is(err, io.EOF):
		return wanted + came + ", and closed the connection"
	case errors.Is(err, errOtherReply):
		return fmt.Sprintf("%s in the first %d KiB%s", wanted, maxReply>>10, came)
	}
	return wanted + came + ": " + explain(err, took)
}

// hostPort reads a target of host and port, wherever the port stands.
func hostPort(target Target) (string, int32, error) {
	details := strings.TrimSpace(target.Details)
	if strings.Contains(details, "://") || strings.Contains(details, "@") {
		return "", 0, errors.New("the target is a URL or has a user in it: write host:port") // it may hold a secret: no text of it
	}
	host, text, err := net.SplitHostPort(details)
	if err != nil {
		// No port in it, or an IPv6 address without brackets, which can't have one.
		host = strings.TrimSuffix(strings.TrimPrefix(details, "["), "]")
		if _, err := netip.ParseAddr(host); err != nil && strings.ContainsAny(host, ":[]") {
			return "", 0, fmt.Errorf("target %q: it is not host:port: write 10.0.0.1:22, host.example:22 or [2001:db8::1]:22", details)
		}
		text = strconv.Itoa(int(target.Port))
	}
	if host == "" {
		return "", 0, fmt.Errorf("target %q: it has no host: write host:port", details)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return "", 0, fmt.Errorf("target %q: its port is %q: write host:port with a port from 1 to 65535", details, text)
	}
	if target.Port != 0 && int64(target.Port) != int64(port) {
		return "", 0, fmt.Errorf("target %q: port %d is given apart from it, too: name one of them", details, target.Port)
	}
	return host, int32(port), nil
}
