package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

const (
	maxGRPCMessage = 64 << 10
	// maxWords is how much is told of a server's own words, in bytes.
	maxWords = 256
)

type grpcOptions struct {
	Target     string `json:"target"`
	Service    string `json:"service"`
	TLS        bool   `json:"tls"`
	ServerName string `json:"server_name"`
	Insecure   bool   `json:"insecure"`

	address string // host:port
}

type grpcMessage struct {
	Address     string `json:"address"`
	CheckedAt   string `json:"checked_at"`   // RFC 3339
	GRPCService string `json:"grpc_service"` // what was asked for
	Service     string `json:"service"`      // the check's name
	// Status is that of the health service; empty if there was none.
	Status       string `json:"status,omitempty"`
	ResponseTime int64  `json:"response_time"` // ns
	Error        string `json:"error,omitempty"`
}

func parseGRPC(target Target) (grpcOptions, error) {
	var o grpcOptions
	if err := parse(target.Details, &o.Target, &o); err != nil {
		return o, err
	}
	host, port, err := hostPort(Target{Details: o.Target, Port: target.Port})
	if err != nil {
		return o, err
	}
	o.address = net.JoinHostPort(host, strconv.Itoa(int(port)))
	if !o.TLS && (o.ServerName != "" || o.Insecure) {
		return o, errors.New(`server_name and insecure are about the server's certificate: add "tls": true, or leave them out`)
	}
	return o, nil
}

// GRPC asks a server for its health, by grpc.health.v1. Details is host:port, or a host alone with the port in
// Target.Port. Available is what answers SERVING.
func GRPC(ctx context.Context, target Target) (Result, error) {
	o, err := parseGRPC(target)
	if err != nil {
		return Result{}, err
	}
	l := &grpcLink{TransportCredentials: o.credentials(target)}
	cc, err := grpc.NewClient("passthrough:///"+o.address,
		grpc.WithTransportCredentials(l),
		grpc.WithContextDialer(l.dial),
		grpc.WithMaxHeaderListSize(maxGRPCMessage),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxGRPCMessage)),
		grpc.WithUserAgent("poller-checker"),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(),
	)
	if err != nil {
		return Result{}, fmt.Errorf("target %q: %w", o.Target, err)
	}
	defer func() { _ = cc.Close() }()
	began := time.Now()
	health, err := grpc_health_v1.NewHealthClient(cc).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: o.Service})
	took := time.Since(began)
	if errors.Is(ctx.Err(), context.Canceled) {
		return Result{}, fmt.Errorf("health of %s: %w", o.address, ctx.Err())
	}
	m := grpcMessage{
		Address: o.address, CheckedAt: began.UTC().Format(time.RFC3339Nano), GRPCService: o.Service, Service: target.Name,
		ResponseTime: took.Nanoseconds(),
	}
	if err == nil {
		m.Status = health.GetStatus().String()
	}
	if why := o.judge(l, health, err, took); why != "" {
		m.Error = fmt.Sprintf("health of %s: %s", o.address, why)
	}
	return result(m.Error == "", took, m)
}

func (o grpcOptions) credentials(target Target) credentials.TransportCredentials {
	if !o.TLS {
		return insecure.NewCredentials()
	}
	return credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: target.RootCAs, ServerName: o.ServerName,
		InsecureSkipVerify: o.Insecure, //nolint:gosec // whoever configures the check says so
	})
}

// judge says why a server is not serving; empty is that it is.
func (o grpcOptions) judge(l *grpcLink, health *grpc_health_v1.HealthCheckResponse, err error, took time.Duration) string {
	if err == nil {
		if health.GetStatus() == grpc_health_v1.HealthCheckResponse_SERVING {
			return ""
		}
		return fmt.Sprintf("the server answers %s for %s", health.GetStatus(), o.asked())
	}
	words := excerpt(status.Convert(err).Message(), maxWords)
	// The client has no error for that, only a text.
	if strings.HasPrefix(words, "unexpected HTTP status code") {
		return "the target speaks HTTP/2, but not gRPC: " + words
	}
	connected, linkErr := l.state()
	switch status.Code(err) {
	case codes.DeadlineExceeded:
		if connected {
			return fmt.Sprintf("connected, but there was no answer within %v: does the server hang, or does it speak something else?",
				took.Round(time.Millisecond))
		}
		return explain(context.DeadlineExceeded, took)
	case codes.NotFound:
		return fmt.Sprintf("the server's health service does not know %s: check the name, or leave it out to ask for the server as a whole", o.asked())
	case codes.Unimplemented:
		return "the server has no health service: have it serve grpc.health.v1.Health"
	case codes.Unavailable:
		return o.unreached(linkErr, words, took)
	default:
		return fmt.Sprintf("the server answered %s: %s", status.Code(err), words)
	}
}

func (o grpcOptions) asked() string {
	if o.Service == "" {
		return "itself as a whole"
	}
	return fmt.Sprintf("the service %q", o.Service)
}

// unreached says why there was no connection on which to ask.
func (o grpcOptions) unreached(err error, words string, took time.Duration) string {
	_, notTLS := errors.AsType[tls.RecordHeaderError](err)
	switch {
	case notTLS:
		return `the target does not speak TLS: leave out "tls"`
	case err != nil && strings.Contains(err.Error(), "ALPN"), err != nil && strings.Contains(err.Error(), "no application protocol"):
		return "the target speaks TLS, but not HTTP/2: is it a gRPC server?"
	case err != nil:
		return explain(err, took)
	case strings.Contains(words, "server preface") && !o.TLS:
		return `connected, but the target did not answer in HTTP/2: is it a gRPC server, and does it want "tls": true?`
	case strings.Contains(words, "server preface"):
		return "connected, but the target did not answer in HTTP/2: is it a gRPC server?"
	}
	return words
}

// grpcLink makes the connection of one call, and keeps what the client would make a text of.
type grpcLink struct {
	credentials.TransportCredentials

	mu        sync.Mutex
	connected bool
	err       error // the last one of connecting or of the handshake
}

func (l *grpcLink) dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	l.note(err == nil, err)
	return conn, err
}

// ClientHandshake is for grpc.
func (l *grpcLink) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := l.TransportCredentials.ClientHandshake(ctx, authority, raw)
	l.note(true, err)
	return conn, info, err
}

func (l *grpcLink) note(connected bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.connected, l.err = connected, err
}

func (l *grpcLink) state() (connected bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.connected, l.err
}
