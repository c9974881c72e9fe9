package sdk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/serviceradar/poller/internal/tlsid"
	"github.com/serviceradar/poller/proto/monitoring"
)

// Option changes how checks are served.
type Option func(*options)

type options struct {
	certFile, keyFile, caFile string
	log                       *slog.Logger
	maxInFlight               int
	limits                    map[string]int
	stopTimeout               time.Duration
}

// TLS serves with a certificate and its key, from PEM files. With caFile, clients need a
// certificate of the authorities in it; without (""), anybody may connect. All three empty mean
// plaintext. When the files are replaced, connections from a second later on go by the new ones; if
// these can't be used, what was there before stays, and the log says so.
func TLS(certFile, keyFile, caFile string) Option {
	return func(o *options) { o.certFile, o.keyFile, o.caFile = certFile, keyFile, caFile }
}

// Logger sets where to log to; without it, slog.Default.
func Logger(log *slog.Logger) Option {
	return func(o *options) { o.log = log }
}

// MaxInFlight sets how many runs there may be at once; without it, 256.
func MaxInFlight(n int) Option {
	return func(o *options) { o.maxInFlight = n }
}

// Limit sets how many runs of one type of check there may be at once; without it, only MaxInFlight counts. Runs that wait
// for their turn among their type take no place of MaxInFlight.
func Limit(checkType string, n int) Option {
	return func(o *options) {
		if o.limits == nil {
			o.limits = map[string]int{}
		}
		o.limits[checkType] = n
	}
}

// StopTimeout sets how long runs under way may go on once Serve's context has ended; without it,
// 5 seconds.
func StopTimeout(d time.Duration) Option {
	return func(o *options) { o.stopTimeout = d }
}

// Serve listens on addr and serves the checks until ctx ends; then it stops in order and returns
// nil. Any error is one of starting up, or of the listener.
func Serve(ctx context.Context, addr string, checks []Check, opts ...Option) error {
	s, err := newServer(checks, opts)
	if err != nil {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("serve checks on %s: %w: is it host:port, free, and this machine's own address?", addr, err)
	}
	return s.serve(ctx, l)
}

// ServeListener is Serve on a listener of the caller's, which is closed in any case.
func ServeListener(ctx context.Context, l net.Listener, checks []Check, opts ...Option) error {
	s, err := newServer(checks, opts)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	return s.serve(ctx, l)
}

// server serves once.
type server struct {
	options
	types  string // for people
	grpc   *grpc.Server
	health *health.Server
}

func newServer(checks []Check, opts []Option) (*server, error) {
	s := &server{options: options{maxInFlight: 256, stopTimeout: 5 * time.Second, log: slog.Default()}}
	for _, opt := range opts {
		opt(&s.options)
	}
	if s.maxInFlight < 1 {
		return nil, fmt.Errorf("serve checks: MaxInFlight is %d: let it be at least 1", s.maxInFlight)
	}
	if s.stopTimeout < 0 {
		return nil, fmt.Errorf("serve checks: StopTimeout is %v: let it be 0 or more", s.stopTimeout)
	}
	byType, err := index(checks)
	if err != nil {
		return nil, err
	}
	s.types = listTypes(byType)
	slots, err := s.slots(byType)
	if err != nil {
		return nil, err
	}
	config, err := tlsid.ServerFiles(s.certFile, s.keyFile, s.caFile, s.tellTLS)
	if err != nil {
		return nil, fmt.Errorf("serve checks: %w", err)
	}
	serverOptions := []grpc.ServerOption{
		// Pollers may ping more often than gRPC's default of five minutes allows.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	}
	if config != nil {
		serverOptions = append(serverOptions, grpc.Creds(credentials.NewTLS(config)))
	}
	s.grpc = grpc.NewServer(serverOptions...)
	monitoring.RegisterAgentServiceServer(s.grpc, &agent{
		checks: byType, types: s.types, log: s.log, slots: make(chan struct{}, s.maxInFlight), typeSlots: slots,
	})
	s.health = health.NewServer()
	for _, name := range []string{"", "AgentService", monitoring.AgentService_ServiceDesc.ServiceName} {
		s.health.SetServingStatus(name, grpc_health_v1.HealthCheckResponse_SERVING)
	}
	grpc_health_v1.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)
	return s, nil
}

// slots makes those of the types with a limit of their own.
func (s *server) slots(checks map[string]Check) (map[string]chan struct{}, error) {
	slots := make(map[string]chan struct{}, len(s.limits))
	for checkType, n := range s.limits {
		switch {
		case checks[checkType] == nil:
			return nil, fmt.Errorf("serve checks: there is a Limit for the Type %q, but no such check: there are %s", checkType, s.types)
		case n < 1:
			return nil, fmt.Errorf("serve checks: the Limit of %s is %d: let it be at least 1", checkType, n)
		}
		slots[checkType] = make(chan struct{}, n)
	}
	return slots, nil
}

// tellTLS logs what has become of the TLS files.
func (s *server) tellTLS(err error) {
	if err != nil {
		s.log.Warn("the TLS files have changed, and can't be used", "error", err)
		return
	}
	s.log.Info("new connections go by the TLS files as they are now")
}

func index(checks []Check) (map[string]Check, error) {
	byType := make(map[string]Check, len(checks))
	for _, c := range checks {
		name := c.Type()
		switch {
		case name == "":
			return nil, fmt.Errorf("serve checks: a check (%T) has an empty Type: pollers could not ask for it", c)
		case byType[name] != nil:
			return nil, fmt.Errorf("serve checks: two checks have the Type %q: give each its own", name)
		}
		byType[name] = c
	}
	if len(byType) == 0 {
		return nil, errors.New("serve checks: there are none: pass at least one Check")
	}
	return byType, nil
}

func listTypes(checks map[string]Check) string {
	var names []string
	for name := range checks {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

func (s *server) serve(ctx context.Context, l net.Listener) error {
	addr := l.Addr().String()
	s.log.Info("serving checks", "listen", addr, "types", s.types, "tls", s.certFile != "", "client_certificates", s.caFile != "")
	if tcp, ok := l.Addr().(*net.TCPAddr); ok && !tcp.IP.IsLoopback() && s.caFile == "" {
		s.log.Warn("anybody who reaches this address may have checks run from this machine: "+
			"listen on loopback, or give a certificate and the pollers' authorities", "listen", addr)
	}
	served := make(chan error, 1)
	go func() { served <- s.grpc.Serve(l) }()
	select {
	case err := <-served:
		s.stop()
		return fmt.Errorf("serve checks on %s: %w", addr, err)
	case <-ctx.Done():
	}
	s.log.Info("stopping", "listen", addr, "stop_timeout", s.stopTimeout.String())
	s.stop()
	if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve checks on %s: %w", addr, err)
	}
	return nil
}

// stop lets runs finish for stopTimeout, then ends their contexts and leaves behind those that
// still do not end.
func (s *server) stop() {
	s.health.Shutdown()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		s.grpc.GracefulStop()
	}()
	if within(drained, s.stopTimeout) {
		return
	}
	s.grpc.Stop()
	// Runs that heed their context end now.
	if !within(drained, time.Second) {
		s.log.Warn("runs that ignore their context are left behind")
	}
}

func within(done <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}
