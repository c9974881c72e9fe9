package transport

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/tlsid"
	"github.com/serviceradar/poller/proto/monitoring"
)

// Checker is the client of one agent's checker, over one connection. It is safe for concurrent
// use. All its errors are *check.Failure.
type Checker struct {
	agent    *check.Agent
	pollerID string
	// maxResults bounds results that come in chunks, in bytes.
	maxResults int
	link       *link
	cc         *grpc.ClientConn
	service    monitoring.AgentServiceClient
	health     healthpb.HealthClient
}

// CheckerConfig is what a Checker needs to know beside its agent.
type CheckerConfig struct {
	PollerID string
	// MaxResults bounds results that come in chunks, merged, in bytes.
	MaxResults int
	// FindDead is the time in which a connection must find out that its peer is dead, from 4 s to 1 min;
	// 0 means a minute. On Linux it holds for data that nobody acknowledges, too. A Dial of its own has
	// to see to that itself.
	FindDead time.Duration
	// Identities has what the agent's TLS comes to; if nil, the files are read for each Checker.
	Identities *tlsid.Store
	// Dial is the network's if nil.
	Dial Dialer
	// Open counts the connections that are open, of all clients that share it; may be nil.
	Open *atomic.Int64
}

// NewChecker returns a client that connects when it is first used. It shows the identity that there is now in all its
// connections; a *check.Failure says what is wrong with the TLS files.
func NewChecker(agent *check.Agent, cfg CheckerConfig) (*Checker, error) {
	l := &link{dial: cfg.Dial, within: cfg.FindDead, stall: vigilWithin(cfg.FindDead).unacked, open: cfg.Open}
	var options []grpc.CallOption
	if agent.MaxMessage > 0 {
		options = append(options, grpc.MaxCallRecvMsgSize(int(agent.MaxMessage)))
	}
	cc, err := newConn(agent.Address, agent.TLS, cfg.Identities, l, grpc.WithDefaultCallOptions(options...))
	if err != nil {
		return nil, unprepared(agent.Address, err)
	}
	return &Checker{
		agent: agent, pollerID: cfg.PollerID, maxResults: cfg.MaxResults, link: l, cc: cc,
		service: monitoring.NewAgentServiceClient(cc),
		health:  healthpb.NewHealthClient(cc),
	}, nil
}

// unprepared says why there can be no connection to an address: the TLS files are wrong, or can't be read for want of a
// file descriptor.
func unprepared(address string, err error) *check.Failure {
	if advice := noDescriptor(err); advice != "" {
		return check.Failf(check.NoAnswer, err, "can't prepare the connection to %s: %v: %s", address, err, advice)
	}
	return check.Failf(check.TLSFailed, err, "can't prepare the connection to %s: %v", address, err)
}

// Close ends the connection and with it the calls on it.
func (c *Checker) Close() error { return c.cc.Close() }

// Connections counts the connections made so far; it changes when there is a new one.
func (c *Checker) Connections() uint64 { return c.link.made.Load() }

// Ask puts one check to the checker and returns its own verdict.
func (c *Checker) Ask(ctx context.Context, chk *check.Check) (check.Answer, error) {
	call := c.newCall(check.GetStatus.String())
	request := &monitoring.StatusRequest{
		ServiceName: chk.Name,
		ServiceType: chk.Type,
		AgentId:     c.agent.Name,
		PollerId:    c.pollerID,
		Details:     chk.Details,
		Port:        chk.Port,
	}
	var r *monitoring.StatusResponse
	err := insist(ctx, call.answered, func() (err error) {
		r, err = c.service.GetStatus(inEvenSteps(ctx), request, call.options()...)
		return err
	})
	if err != nil {
		return check.Answer{}, c.failure(ctx, call, err)
	}
	return check.Answer{
		Available:    r.GetAvailable(),
		Message:      r.GetMessage(),
		ResponseTime: time.Duration(r.GetResponseTime()),
	}, nil
}

// Health waits for a connection, as Connect does, and asks the checker for its health. Whatever it
// answers, an error too, shows that it is there: the answer is returned as text ("SERVING", "no health
// service"), and only a checker that can't be reached or does not answer is an error.
func (c *Checker) Health(ctx context.Context) (string, error) {
	if c.agent.HealthService == check.NoHealth {
		return "not asked", c.Connect(ctx)
	}
	call := c.newCall("the health check")
	var r *healthpb.HealthCheckResponse
	err := insist(ctx, call.answered, func() (err error) {
		r, err = c.health.Check(inEvenSteps(ctx), &healthpb.HealthCheckRequest{Service: c.agent.HealthService},
			append(call.options(), grpc.WaitForReady(true))...)
		return err
	})
	switch status.Code(err) {
	case codes.OK:
		return r.GetStatus().String(), nil
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		f := c.failure(ctx, call, err)
		if f.Reason == check.BadAnswer { // its own words, and so it is there
			return words(err), nil
		}
		return "", f
	case codes.Unimplemented:
		return "no health service", nil
	case codes.NotFound:
		return fmt.Sprintf("does not know service %q", c.agent.HealthService), nil
	default:
		return words(err), nil
	}
}

// Connect waits for a connection on which the checker has said its first word. It is tried again at
// most maxBackoff after the last failure.
func (c *Checker) Connect(ctx context.Context) error {
	call := c.newCall("connecting")
	for {
		state := c.cc.GetState()
		switch state {
		case connectivity.Ready:
			return nil
		case connectivity.Idle:
			c.cc.Connect()
		case connectivity.Connecting, connectivity.TransientFailure, connectivity.Shutdown:
		}
		if state == connectivity.Shutdown || !c.cc.WaitForStateChange(ctx, state) {
			return c.failure(ctx, call, status.FromContextError(ctx.Err()).Err())
		}
	}
}

// call is what is known of a call beside its answer.
type call struct {
	name            string
	link            *link
	ended           uint64 // connections that had ended when it began
	began           time.Time
	header, trailer metadata.MD
	peer            peer.Peer
}

func (c *Checker) newCall(name string) *call {
	return &call{name: name, link: c.link, ended: c.link.ended.Load(), began: time.Now()}
}

// options let gRPC fill the call in.
func (c *call) options() []grpc.CallOption {
	return []grpc.CallOption{grpc.Header(&c.header), grpc.Trailer(&c.trailer), grpc.Peer(&c.peer)}
}

// sent tells whether the call got onto a connection.
func (c *call) sent() bool { return c.peer.Addr != nil }

// answered tells whether the checker itself ended the call. An error that comes after the headers,
// as in the midst of a stream, has a trailer with nothing but the error in it, of which gRPC shows
// nothing; then, too, it is the checker's if the connection has not ended.
func (c *call) answered() bool {
	return len(c.trailer) > 0 || len(c.header) > 0 && c.link.ended.Load() == c.ended
}

func (c *call) took() time.Duration { return time.Since(c.began).Round(time.Millisecond) }

// deadlineSlack is how far the checker's idea of our deadline may be ahead of ours.
const deadlineSlack = 50 * time.Millisecond

// timeIsUp tells whether a context's deadline has passed, or is about to: the server keeps the same
// one, and may call it a moment before we do.
func timeIsUp(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) < deadlineSlack
}

// failure says why a call failed.
func (c *Checker) failure(ctx context.Context, call *call, err error) *check.Failure {
	said := words(err)
	switch status.Code(err) {
	case codes.OK, codes.DeadlineExceeded, codes.Canceled, codes.Unavailable: // OK: closed while connecting
		return c.ended(ctx, call, err)
	case codes.Unauthenticated, codes.PermissionDenied:
		return check.Failf(check.Unauthenticated, err, "%s refused %s: %s: check the poller's certificate and its rights there",
			c.agent.Address, call.name, said)
	case codes.Unimplemented:
		return check.Failf(check.Unimplemented, err, "%s does not know %s: %s: is this address a checker's?",
			c.agent.Address, call.name, said)
	case codes.ResourceExhausted:
		if strings.Contains(said, "larger than max") {
			return check.Failf(check.TooLarge, err, "the answer of %s to %s is too large: %s: let the checker answer less, or raise the agent's max_message",
				c.agent.Address, call.name, said)
		}
	default:
	}
	return c.badAnswer(call, err)
}

// ended says why a call ended with a code that may come from either side: because we gave it up,
// its deadline passed, the connection failed, or the checker said so.
func (c *Checker) ended(ctx context.Context, call *call, err error) *check.Failure {
	c.link.press()
	code, said, state := status.Code(err), words(err), c.cc.GetState()
	over := code != codes.Unavailable && timeIsUp(ctx)
	switch {
	case state == connectivity.Shutdown || errors.Is(ctx.Err(), context.Canceled):
		return check.Failf(check.NoAnswer, err, "%s of %s was given up after %v because the poller or its agent is stopping",
			call.name, c.agent.Address, call.took())
	// Connected: the call is on its way, though the server may want no more on this connection; or
	// there is a connection, and the server has so many calls already that it takes no more.
	case over && (call.sent() || state == connectivity.Ready):
		return check.Failf(check.Timeout, err, "connected to %s, but no answer to %s within %v: the checker is busy or hung",
			c.agent.Address, call.name, call.took())
	case over:
		return c.unreachable(fmt.Sprintf("no connection within %v: %s", call.took(), said), silent(said, true), err)
	case code == codes.Unavailable && brokeProtocol(said):
		return check.Failf(check.BadAnswer, err, "%s breaks the protocol in its answer to %s (%s), or has headers above %d KiB: see the checker's log, and that of a proxy before it",
			c.agent.Address, call.name, said, maxHeaders>>10)
	case code == codes.Unavailable && !call.answered():
		return c.unreachable(said, silent(said, false), err)
	}
	return c.badAnswer(call, err)
}

// maxSaid bounds what is quoted of a peer's own words, in bytes.
const maxSaid = 1024

// words returns what a call's error says without its code.
func words(err error) string {
	text := status.Convert(err).Message()
	if len(text) > maxSaid {
		return strings.ToValidUTF8(text[:maxSaid], "") + " …"
	}
	return text
}

func (c *Checker) badAnswer(call *call, err error) *check.Failure {
	return check.Failf(check.BadAnswer, err, "%s answered %s with error %v: %s: see the checker's log",
		c.agent.Address, call.name, status.Code(err), words(err))
}

// unreachable tells a refused handshake from a refused connection, and both from one that we had nothing to make
// with, which says nothing of the checker. Silent is what silent returns.
func (c *Checker) unreachable(said string, silent bool, err error) *check.Failure {
	handshake, cause := c.link.lastError()
	if advice := noDescriptor(cause); advice != "" {
		return check.Failf(check.NoAnswer, err, "can't connect to %s: %v: %s", c.agent.Address, cause, advice)
	}
	mute := cause == nil && c.link.mute()
	if (mute || c.link.shakes.Load()) && notConnected(said) {
		said, silent = "so far", true // that was an earlier attempt; this one is connected, and under way
	}
	switch {
	case handshake:
		return check.Failf(check.TLSFailed, err, "TLS with %s failed: %v: check tls.mode, the certificates and server_name on both sides",
			c.agent.Address, cause)
	case mute && secured(c.agent.TLS):
		return check.Failf(check.TLSFailed, err, "%s said nothing after the TLS handshake (%s): does it want a certificate of ours, and accept it? "+
			"check tls.mode and the certificates on both sides", c.agent.Address, said)
	case cause != nil:
		return check.Failf(check.Unreachable, err, "can't connect to %s: %v: is the checker running there?", c.agent.Address, cause)
	case mute && silent:
		return check.Failf(check.Unreachable, err, "%s accepts connections but says nothing (%s): "+
			"is it hung, is it the right port, and does it want TLS?", c.agent.Address, said)
	case mute || strings.Contains(said, serverPreface):
		return check.Failf(check.Unreachable, err, "%s accepts connections but does not speak gRPC (%s): "+
			"is it the right port, and does it want TLS?", c.agent.Address, said)
	case c.link.shakes.Load():
		return check.Failf(check.Unreachable, err, "%s accepts connections but does not answer the TLS handshake (%s): "+
			"is it hung, and is it the right port?", c.agent.Address, said)
	default:
		return check.Failf(check.Unreachable, err, "lost or no connection to %s: %s: does the checker run there, and is the way to it open?",
			c.agent.Address, said)
	}
}
