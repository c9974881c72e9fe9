package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/proto/monitoring"
)

// reportIDKey is said again here, for a model that took it from the poller would follow its mistakes.
const reportIDKey = "poller-report-id"

// maxViolations bounds what is kept of a caller that does everything wrong.
const maxViolations = 100

// errNoPoller is a plain error as in the original, and so arrives as code Unknown.
var errNoPoller = errors.New("empty poller id")

// Core is a model of ServiceRadar v1.0.78's core. Its traps are the original's:
//   - a unary report of a poller it does not know is dropped and answered received=true;
//   - any stream registers its poller;
//   - the statuses of a stream are put together by name and type alone: of two with the same key
//     the messages are joined and the first's agent gets the credit;
//   - a report's id is recorded and not looked at: a report sent twice is there twice.
//
// The zero Core knows no poller, has no fault, and is ready to be registered on a server, or on
// several one after the other; what it knows and has taken stays. All its methods are safe to
// call from any goroutine at any time. Its calls end when their context does.
type Core struct {
	// OnDelivery is told of every delivery taken, in order and one at a time, before it is
	// answered. It must not call the Core. Set it before the first call.
	OnDelivery func(Delivery)
	// Discard keeps deliveries from being recorded, so that a long run needs no memory for
	// them. They are still counted, and OnDelivery is told. Set it before the first call.
	Discard bool

	mu         sync.Mutex
	fault      CoreFault
	known      map[string]bool
	newest     map[string]int64 // the last timestamp, by poller
	deliveries []Delivery
	dropped    []Delivery
	violations []string
	stats      CoreStats
	changed    chan struct{} // closed at the next delivery; nil if nobody waits
}

// Delivery is one call that core took, or dropped.
type Delivery struct {
	// ID is the report's id as it came along; empty if none did.
	ID string
	// Stream tells StreamStatus from ReportStatus.
	Stream bool
	// Timestamp is the event time of all its statuses, in Unix seconds.
	Timestamp                     int64
	PollerID, Partition, SourceIP string
	// Services are the statuses as core understood them: those of a stream put together again.
	Services []*monitoring.ServiceStatus
	// Chunks is how many messages a stream had, Largest the size of the largest message, in bytes.
	Chunks, Largest int
	// At is when core took it.
	At time.Time
}

// Registration tells whether the delivery brought nothing but the poller's name.
func (d Delivery) Registration() bool { return d.Stream && len(d.Services) == 0 }

// CoreStats counts what came to a core.
type CoreStats struct {
	// Calls are all, also those that a fault struck.
	Calls int
	// Taken are the deliveries acknowledged and kept, Dropped those acknowledged and lost.
	Taken, Dropped int
	// Statuses are those of the deliveries taken.
	Statuses int
}

// CoreFault is what is wrong with a core. The zero CoreFault is none. Of several faults at once
// the delay comes first, then Hang goes before Code and Code before NotReceived.
type CoreFault struct {
	// Delay passes before anything else happens.
	Delay time.Duration
	// Hang gives no answer until the caller's deadline or the server's end.
	Hang bool
	// Code is answered as an error, unless it is OK, with Text or with words of the sim's.
	Code codes.Code
	Text string
	// NotReceived is answered as received=false.
	NotReceived bool
	// MaxMessage, if it is not 0, has larger messages refused, as a gRPC server with that limit does;
	// in bytes.
	MaxMessage int
	// AfterTaking strikes once the report has been taken: the answer is lost, not the report.
	AfterTaking bool
	// Times is for how many calls the fault lasts; 0 means until it is changed.
	Times int
}

// SetFault replaces the fault, for calls that come in from now on.
func (c *Core) SetFault(f CoreFault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = f
}

// Forget makes all pollers unknown, as a restart does. What was recorded stays.
func (c *Core) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.known)
}

// Knows tells whether the poller is registered.
func (c *Core) Knows(pollerID string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known[pollerID]
}

// Deliveries returns what was taken, in order.
func (c *Core) Deliveries() []Delivery {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.deliveries)
}

// Dropped returns what was acknowledged and lost, because its poller was not registered.
func (c *Core) Dropped() []Delivery {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.dropped)
}

// Stats returns the counts.
func (c *Core) Stats() CoreStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}

// Violations returns what callers did against the contract; core took their reports all the
// same. Only the first 100 are kept.
func (c *Core) Violations() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.violations)
}

// Await waits until done holds for the deliveries so far, and returns them.
func (c *Core) Await(ctx context.Context, done func([]Delivery) bool) ([]Delivery, error) {
	for {
		c.mu.Lock()
		now := slices.Clone(c.deliveries)
		if c.changed == nil {
			c.changed = make(chan struct{})
		}
		changed := c.changed
		c.mu.Unlock()
		if done(now) {
			return now, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return now, ctx.Err()
		}
	}
}

// Register puts core's service on a server.
func (c *Core) Register(r grpc.ServiceRegistrar) {
	monitoring.RegisterPollerServiceServer(r, coreService{core: c})
}

// Start serves core on a TCP address; nil credentials mean plaintext. To take core down and up
// again, stop the server and start another on its Addr.
func (c *Core) Start(addr string, creds credentials.TransportCredentials) (*Server, error) {
	return start(addr, creds, c.Register)
}

// Serve is Start on a listener of the caller's, which is the server's from then on.
func (c *Core) Serve(l net.Listener, creds credentials.TransportCredentials) *Server {
	return serve(l, creds, c.Register)
}

// coreService keeps the methods of gRPC out of Core's own.
type coreService struct {
	monitoring.UnimplementedPollerServiceServer
	core *Core
}

// ReportStatus takes a report of a registered poller and loses any other.
func (s coreService) ReportStatus(ctx context.Context, r *monitoring.PollerStatusRequest) (*monitoring.PollerStatusResponse, error) {
	return s.core.handle(ctx, func(limit int) (Delivery, []string, error) {
		return Delivery{
			Timestamp: r.GetTimestamp(), PollerID: r.GetPollerId(),
			Partition: r.GetPartition(), SourceIP: r.GetSourceIp(), Services: r.GetServices(),
			Largest: proto.Size(r),
		}, nil, tooLarge(r, limit)
	})
}

// StreamStatus takes a report in chunks and registers its poller.
func (s coreService) StreamStatus(stream grpc.ClientStreamingServer[monitoring.PollerStatusChunk, monitoring.PollerStatusResponse]) error {
	response, err := s.core.handle(stream.Context(), func(limit int) (Delivery, []string, error) {
		var a assembly
		for !a.final {
			chunk, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err == nil {
				err = tooLarge(chunk, limit)
			}
			if err != nil {
				return Delivery{}, nil, err
			}
			a.add(chunk)
		}
		d, violations := a.delivery()
		return d, violations, nil
	})
	if err != nil {
		return err
	}
	return stream.SendAndClose(response)
}

// handle is what unary reports and streams have in common: the faults, and the taking.
func (c *Core) handle(ctx context.Context, receive func(limit int) (Delivery, []string, error)) (*monitoring.PollerStatusResponse, error) {
	fault := c.enter()
	if err := wait(ctx, fault.Delay); err != nil {
		return nil, err
	}
	if !fault.AfterTaking {
		if response, err := fault.strike(ctx); response != nil || err != nil {
			return response, err
		}
	}
	d, violations, err := receive(fault.MaxMessage)
	if err != nil {
		return nil, err
	}
	if ids := metadata.ValueFromIncomingContext(ctx, reportIDKey); len(ids) > 0 {
		d.ID = ids[0]
	}
	if err := c.take(d, violations); err != nil {
		return nil, err
	}
	if fault.AfterTaking {
		if response, err := fault.strike(ctx); response != nil || err != nil {
			return response, err
		}
	}
	return &monitoring.PollerStatusResponse{Received: true}, nil
}

// tooLarge refuses a message above the limit, unless that is 0, in the words of gRPC.
func tooLarge(message proto.Message, limit int) error {
	if size := proto.Size(message); limit > 0 && size > limit {
		return status.Errorf(codes.ResourceExhausted, "grpc: received message larger than max (%d vs. %d)", size, limit)
	}
	return nil
}

// enter counts the call and returns its fault.
func (c *Core) enter() CoreFault {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.Calls++
	fault := c.fault
	if fault.Times == 1 {
		c.fault = CoreFault{}
	} else if fault.Times > 1 {
		c.fault.Times--
	}
	return fault
}

// strike returns what the fault answers, or nothing if the call is to go on.
func (f CoreFault) strike(ctx context.Context) (*monitoring.PollerStatusResponse, error) {
	switch {
	case f.Hang:
		<-ctx.Done()
		return nil, status.FromContextError(ctx.Err()).Err()
	case f.Code != codes.OK:
		return nil, status.Error(f.Code, cmp.Or(f.Text, "simulated fault of core"))
	case f.NotReceived:
		return &monitoring.PollerStatusResponse{Received: false}, nil
	}
	return nil, nil // no answer and no error: go on
}

func (c *Core) take(d Delivery, violations []string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, v := range append(violations, c.check(d)...) {
		if len(c.violations) < maxViolations {
			c.violations = append(c.violations, v)
		}
	}
	if d.PollerID == "" {
		return errNoPoller
	}
	d.At = time.Now()
	if !d.Stream && !c.known[d.PollerID] {
		c.stats.Dropped++
		if !c.Discard {
			c.dropped = append(c.dropped, d)
		}
		return nil
	}
	if c.known == nil {
		c.known, c.newest = make(map[string]bool), make(map[string]int64)
	}
	c.known[d.PollerID] = true
	c.newest[d.PollerID] = max(c.newest[d.PollerID], d.Timestamp)
	c.stats.Taken++
	c.stats.Statuses += len(d.Services)
	if !c.Discard {
		c.deliveries = append(c.deliveries, d)
	}
	if c.OnDelivery != nil {
		c.OnDelivery(d)
	}
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
	return nil
}

// check notes what is wrong with a delivery; c.mu is held.
func (c *Core) check(d Delivery) []string {
	var violations []string
	if d.PollerID == "" {
		violations = append(violations, fmt.Sprintf("report %q has no poller_id", d.ID))
	}
	if d.Partition == "" || d.SourceIP == "" {
		violations = append(violations, fmt.Sprintf(
			"report %q has partition %q and source_ip %q: with one of them empty no devices are registered", d.ID, d.Partition, d.SourceIP))
	}
	if newest := c.newest[d.PollerID]; d.Timestamp < newest {
		violations = append(violations, fmt.Sprintf(
			"report %q has timestamp %d after one with %d: time goes backwards", d.ID, d.Timestamp, newest))
	}
	return violations
}
