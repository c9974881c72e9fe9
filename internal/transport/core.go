package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/tlsid"
	"github.com/serviceradar/poller/internal/wire"
	"github.com/serviceradar/poller/proto/monitoring"
)

// Core is the client of core. It uses one address until a delivery over it fails, then the next
// one in order. It is safe for concurrent use; deliveries wait for each other, no longer than
// their contexts allow, and that wait is not part of their timeouts. Where core is may be changed
// while it runs (Reconfigure, Renew); a delivery that is under way then ends undisturbed.
//
// Core registers a poller that it does not know only on streams, and acknowledges and drops its
// unary reports. So the first delivery on every connection is a stream, and to be sure which
// connection a call goes over, each is a grpc.ClientConn of its own that never reconnects.
type Core struct {
	turn    chan struct{} // holds one token: who has it may use what follows
	cfg     CoreConfig
	current int // index of the address in use
	conn    *coreConn

	mu   sync.Mutex
	news news // for whoever has the token
}

// CoreConfig says where core is.
type CoreConfig struct {
	// Addresses are tried in order; there is at least one.
	Addresses []string
	// Timeout bounds how long a delivery goes on without any of it being taken. One that is large gets
	// a second more for each 128 KiB.
	Timeout time.Duration
	TLS     check.TLS
	// FindDead is as with CheckerConfig.
	FindDead time.Duration
	// Identities has what TLS comes to; if nil, the files are read for each connection.
	Identities *tlsid.Store
	// Dial is the network's if nil.
	Dial Dialer
}

type coreConn struct {
	cc      *grpc.ClientConn
	link    *link
	service monitoring.PollerServiceClient
	// registered is the poller whose stream was answered on this connection last; empty if none was. What is
	// kept from before a change of poller_id has the old one.
	registered string
	// header and trailer are those of the last call; empty if core said nothing to it.
	header, trailer metadata.MD
}

// NewCore returns a client that connects when it is first used.
func NewCore(cfg CoreConfig) *Core {
	c := &Core{cfg: cfg, turn: make(chan struct{}, 1)}
	c.turn <- struct{}{}
	return c
}

// Close ends the connection, after the delivery in flight.
func (c *Core) Close() error {
	<-c.turn
	defer c.pass()
	return c.drop()
}

// Deliver sends a report and returns once core has acknowledged it. wire.Judge says what to do about
// the error, which names the address.
func (c *Core) Deliver(ctx context.Context, d wire.Delivery) error {
	select {
	case <-c.turn:
		defer c.pass()
	case <-ctx.Done():
		return fmt.Errorf("deliver to core: given up while waiting for an earlier delivery: %w", ctx.Err())
	}
	address := c.cfg.Addresses[c.current]
	seen := false // by core, which ended the last try itself
	err := insist(ctx, func() bool { return seen }, func() error {
		err := c.deliver(ctx, d)
		seen = c.conn != nil && c.conn.answered()
		if refused(err) && !seen { // core is there, and goes on with another connection
			err = errors.Join(err, c.drop())
		}
		return err
	})
	if err == nil {
		return nil
	}
	if _, unreadable := read(d); unreadable != nil { // core would say so for ever, in words that mean nothing to us
		return unreadable
	}
	if c.conn != nil {
		err = c.explain(err)
	}
	// Also after a timeout: the connection may be dead without anybody having said so. And also
	// when core holds us off: the next connection shows what there is of an identity by then.
	if !answered(err) {
		err = errors.Join(err, c.drop())
		// A delivery that the caller gave up says nothing about the address.
		if wire.Judge(err) == wire.Retry && !errors.Is(ctx.Err(), context.Canceled) {
			c.current = (c.current + 1) % len(c.cfg.Addresses)
		}
	}
	return fmt.Errorf("deliver to core at %s: %w", address, err)
}

// answered tells whether an error shows a core that is there and handles reports: another connection
// or another address would be no help.
func answered(err error) bool {
	return errors.Is(err, wire.ErrNotReceived) || wire.Exhausted(err) || wire.Judge(err) == wire.SetAside
}

// explain says in our own words, and with what to look at, what gRPC says little about.
func (c *Core) explain(err error) error {
	handshake, cause := c.conn.link.lastError()
	code, said := status.Code(err), words(err)
	mute := cause == nil && c.conn.link.mute()
	switch {
	case code == codes.Unimplemented:
		return &explained{err, fmt.Sprintf("it answered %v: %s: is this address a core's?", code, said)}
	case code == codes.Unauthenticated || code == codes.PermissionDenied:
		return &explained{err, fmt.Sprintf("it answered %v: %s: does it know this poller, and accept its certificate?", code, said)}
	case mute && !secured(c.cfg.TLS) && silent(said, code == codes.DeadlineExceeded):
		return &explained{err, fmt.Sprintf("%v: it accepts connections but says nothing (%s): is it hung, is it the right port, and does it want TLS?", code, said)}
	case code != codes.Unavailable:
		return err
	case handshake:
		return &explained{err, fmt.Sprintf("TLS failed: %v: check tls.mode, the certificates and server_name on both sides", cause)}
	case noDescriptor(cause) != "":
		return &explained{err, fmt.Sprintf("can't connect: %v: %s", cause, noDescriptor(cause))}
	case cause != nil:
		return &explained{err, fmt.Sprintf("can't connect: %v: does core run there, and is the way to it open?", cause)}
	case mute && secured(c.cfg.TLS):
		return &explained{err, said + ": it said nothing after the TLS handshake: does it accept our certificate?"}
	case mute:
		return &explained{err, fmt.Sprintf("it accepts connections but does not speak gRPC (%s): is it the right port, and does it want TLS?", said)}
	}
	return err
}

// explained is an error in words of our own.
type explained struct {
	error
	words string
}

func (e *explained) Error() string { return e.words }

func (e *explained) Unwrap() error { return e.error }

// errNoProgress ends the context of a delivery of which nothing more was taken for too long.
var errNoProgress = errors.New("no progress")

// What has been sent may still be on its way, in buffers here and at core's, for as long as the line
// takes for it. Every line is thought to take slowLine bytes a second, a megabit.
const (
	slowLine    = 128 << 10
	mostBuffers = 16 << 20
)

// onTheWay is what a delivery of a size gets beside its timeout. Small ones get nothing.
func onTheWay(size int) time.Duration {
	return time.Duration(min(size, mostBuffers)/slowLine) * time.Second
}

// withPatience returns a context that ends when progress was not called for the timeout: a large
// report over a slow line takes its time, a core that hangs is not waited for.
func withPatience(ctx context.Context, timeout time.Duration) (_ context.Context, progress, cancel func()) {
	ctx, end := context.WithCancelCause(ctx)
	timer := time.AfterFunc(timeout, func() { end(errNoProgress) })
	return ctx, func() { timer.Reset(timeout) }, func() {
		timer.Stop()
		end(nil)
	}
}

func (c *Core) deliver(ctx context.Context, d wire.Delivery) error {
	if c.conn != nil && gone(c.conn.cc.GetState()) { // since the last delivery
		if err := c.drop(); err != nil {
			return err
		}
	}
	if c.conn == nil {
		conn, err := c.connect(c.cfg.Addresses[c.current])
		if err != nil {
			return err
		}
		c.conn = conn
	}
	patience := c.cfg.Timeout + onTheWay(len(d.Body))
	ctx, progress, cancel := withPatience(ctx, patience)
	defer cancel()
	err := c.conn.deliver(ctx, d, progress)
	if err != nil && errors.Is(context.Cause(ctx), errNoProgress) {
		return status.Errorf(codes.DeadlineExceeded, "nothing more was taken for %v (core.timeout = %v, and what its size takes)", patience, c.cfg.Timeout)
	}
	return err
}

func (c *coreConn) deliver(ctx context.Context, d wire.Delivery, progress func()) error {
	withID := metadata.AppendToOutgoingContext(ctx, wire.ReportIDKey, d.ID)
	if c.registered != "" && c.registered == pollerOf(d.Body) && !d.InChunks && len(d.Body) <= d.Limit {
		return c.unary(withID, d.Body)
	}
	report, err := read(d)
	if err != nil {
		return err
	}
	streamable := wire.Streamable(report)
	if c.registered != report.GetPollerId() && !streamable {
		// Without the report's id: core would take the report itself for a resend.
		if err := c.stream(ctx, wire.Hello(report), progress); err != nil {
			return err
		}
	}
	// What is too large and not streamable was kept by an earlier run, which had another limit. It goes
	// as it is: core takes it, or finds it too large, and then it is halved.
	if !streamable {
		return c.unary(withID, d.Body)
	}
	return c.stream(withID, wire.Chunks(report, d.Limit), progress)
}

func read(d wire.Delivery) (*monitoring.PollerStatusRequest, error) {
	report := new(monitoring.PollerStatusRequest)
	if err := proto.Unmarshal(d.Body, report); err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "report %s can't be read: %v", d.ID, err)
	}
	return report, nil
}

// pollerOf returns whose report it is; empty if that can't be read.
func pollerOf(body []byte) string {
	field := new(monitoring.PollerStatusRequest).ProtoReflect().Descriptor().Fields().ByName("poller_id").Number()
	var poller []byte
	for len(body) > 0 {
		number, kind, n := protowire.ConsumeTag(body)
		if n < 0 {
			return ""
		}
		body = body[n:]
		if n = protowire.ConsumeFieldValue(number, kind, body); n < 0 {
			return ""
		}
		if number == field && kind == protowire.BytesType {
			poller, _ = protowire.ConsumeBytes(body)
		}
		body = body[n:]
	}
	return string(poller)
}

func (c *Core) connect(address string) (*coreConn, error) {
	l := &link{dial: c.cfg.Dial, once: true, within: c.cfg.FindDead}
	cc, err := newConn(address, c.cfg.TLS, c.cfg.Identities, l)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", wire.ErrUnprepared, err)
	}
	return &coreConn{cc: cc, link: l, service: monitoring.NewPollerServiceClient(cc)}, nil
}

// gone tells from its state whether a connection that has answered is over. One that has answered
// may still be Connecting: gRPC lets calls over a new connection a moment before it says Ready.
func gone(state connectivity.State) bool {
	return state != connectivity.Ready && state != connectivity.Connecting
}

func (c *Core) drop() error {
	if c.conn == nil {
		return nil
	}
	cc := c.conn.cc
	c.conn = nil
	return cc.Close()
}

// options let gRPC fill in what core says to a call.
func (c *coreConn) options() []grpc.CallOption {
	c.header, c.trailer = nil, nil
	return []grpc.CallOption{grpc.Header(&c.header), grpc.Trailer(&c.trailer)}
}

// answered tells whether core itself ended the last call.
func (c *coreConn) answered() bool { return len(c.header)+len(c.trailer) > 0 }

// unary sends a report as it is marshalled. To read one of ten thousand statuses and to marshal it again takes twice as long as
// all else that delivers it, and takes its memory again.
func (c *coreConn) unary(ctx context.Context, body []byte) error {
	r := new(monitoring.PollerStatusResponse)
	err := c.cc.Invoke(ctx, monitoring.PollerService_ReportStatus_FullMethodName, body, r, append(c.options(), grpc.ForceCodecV2(verbatim))...)
	if err == nil && !r.GetReceived() {
		return wire.ErrNotReceived
	}
	return err
}

func (c *coreConn) stream(ctx context.Context, chunks []*monitoring.PollerStatusChunk, progress func()) error {
	s, err := c.service.StreamStatus(ctx, c.options()...)
	if err != nil {
		return err
	}
	for _, chunk := range chunks {
		if err := s.Send(chunk); errors.Is(err, io.EOF) { // the answer says why
			break
		} else if err != nil {
			return err
		}
		progress()
	}
	r, err := s.CloseAndRecv()
	if err != nil {
		return err
	}
	if !r.GetReceived() {
		return wire.ErrNotReceived
	}
	c.registered = chunks[0].GetPollerId()
	progress() // if it was but the hello, the report has all the time
	return nil
}
