package sim

import (
	"context"
	"net"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/serviceradar/poller/proto/monitoring"
)

// Checker is a simulated checker, or many of them: calls carry the name of the agent they are
// for, so one Checker on one port stands for as many agents as there are names. Faults of the
// connection itself need a Checker, or at least a Server, of their own.
//
// All methods are safe to call from any goroutine at any time.
type Checker struct {
	// NoHealth leaves grpc.health.v1 out. Set it before the Checker is registered.
	NoHealth bool

	mu      sync.Mutex
	general Behaviour
	own     map[string]Behaviour
	calls   map[call]int
}

type call struct{ agent, check string }

// NewChecker returns a checker that behaves like b.
func NewChecker(b Behaviour) *Checker { return &Checker{general: b} }

// Set changes the behaviour towards health checks and all agents without one of their own.
func (c *Checker) Set(b Behaviour) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.general = b
}

// SetAgent changes the behaviour towards one agent. Health checks do not say for which agent they
// are; for them only the general behaviour counts.
func (c *Checker) SetAgent(agentID string, b Behaviour) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.own == nil {
		c.own = make(map[string]Behaviour)
	}
	c.own[agentID] = b
}

// Calls returns how often a check was asked for, over all agents; calls that hang count.
func (c *Checker) Calls(check string) int {
	return c.count(func(k call) bool { return k.check == check })
}

// CallsOf is Calls for one agent.
func (c *Checker) CallsOf(agentID, check string) int {
	return c.count(func(k call) bool { return k == call{agentID, check} })
}

// AllCalls is Calls over all checks.
func (c *Checker) AllCalls() int {
	return c.count(func(call) bool { return true })
}

func (c *Checker) count(which func(call) bool) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	sum := 0
	for k, n := range c.calls {
		if which(k) {
			sum += n
		}
	}
	return sum
}

// Register puts the checker's services on a server.
func (c *Checker) Register(r grpc.ServiceRegistrar) {
	monitoring.RegisterAgentServiceServer(r, agentService{checker: c})
	if !c.NoHealth {
		grpc_health_v1.RegisterHealthServer(r, healthService{checker: c})
	}
}

// Start serves the checker on a TCP address; nil credentials mean plaintext.
func (c *Checker) Start(addr string, creds credentials.TransportCredentials) (*Server, error) {
	return start(addr, creds, c.Register)
}

// Serve is Start on a listener of the caller's, which is the server's from then on.
func (c *Checker) Serve(l net.Listener, creds credentials.TransportCredentials) *Server {
	return serve(l, creds, c.Register)
}

func (c *Checker) enter(agentID, check string) Behaviour {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls == nil {
		c.calls = make(map[call]int)
	}
	c.calls[call{agentID, check}]++
	if b, ok := c.own[agentID]; ok {
		return b
	}
	return c.general
}

func (c *Checker) health() func(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.general.Health
}

type agentService struct {
	monitoring.UnimplementedAgentServiceServer
	checker *Checker
}

// GetStatus answers as the behaviour of the moment wants.
func (s agentService) GetStatus(ctx context.Context, r *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
	b := s.checker.enter(r.GetAgentId(), r.GetServiceName())
	return b.answer(ctx, r)
}

// GetResults is Unimplemented, as with most checkers, unless the behaviour has results.
func (s agentService) GetResults(ctx context.Context, r *monitoring.ResultsRequest) (*monitoring.ResultsResponse, error) {
	b := s.checker.enter(r.GetAgentId(), r.GetServiceName())
	if b.Results == nil {
		return s.UnimplementedAgentServiceServer.GetResults(ctx, r)
	}
	return b.Results(ctx, r)
}

// StreamResults is Unimplemented, unless the behaviour has chunks.
func (s agentService) StreamResults(r *monitoring.ResultsRequest, stream grpc.ServerStreamingServer[monitoring.ResultsChunk]) error {
	b := s.checker.enter(r.GetAgentId(), r.GetServiceName())
	if b.Chunks == nil {
		return s.UnimplementedAgentServiceServer.StreamResults(r, stream)
	}
	return b.Chunks(stream.Context(), r, stream.Send)
}

type healthService struct {
	grpc_health_v1.UnimplementedHealthServer
	checker *Checker
}

// Check knows the three names that checkers in the field go by.
func (s healthService) Check(ctx context.Context, r *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	switch r.GetService() {
	case "", "AgentService", "monitoring.AgentService":
	default:
		return nil, status.Error(codes.NotFound, "unknown service")
	}
	if health := s.checker.health(); health != nil {
		if err := health(ctx); err != nil {
			return nil, err
		}
	}
	return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}, nil
}
