package transport

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/internal/wire"
	"github.com/serviceradar/poller/proto/monitoring"
)

// message returns the message of a size, no part of which is like another.
func message(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b)
	return b
}

// large returns the delivery of report n, whose statuses named AGENT/CHECK have messages of a size.
func large(t *testing.T, n, limit, size int, names ...string) wire.Delivery {
	t.Helper()
	id, body := report(t, n, names...)
	r := new(monitoring.PollerStatusRequest)
	if err := proto.Unmarshal(body, r); err != nil {
		t.Fatal(err)
	}
	for _, s := range r.GetServices() {
		s.Message = message(size)
	}
	body, err := proto.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return wire.Delivery{ID: id, Body: body, Limit: limit}
}

// wantMessages wants what a core took, in order, each with the number of messages of its stream; all
// messages within the limit, all statuses whole, and nothing lost or against the contract.
func wantMessages(t *testing.T, core *sim.Core, limit, size int, want ...string) {
	t.Helper()
	got := brief(core)
	for i, d := range core.Deliveries() {
		got[i] = fmt.Sprintf("%s: %d", got[i], d.Chunks)
		if d.Largest > limit {
			t.Errorf("%s has a message of %d bytes, the limit is %d", got[i], d.Largest, limit)
		}
		for _, s := range d.Services {
			if !bytes.Equal(s.GetMessage(), message(size)) {
				t.Errorf("%s: the message of %s is not what it was: %d bytes, want %d", got[i], s.GetServiceName(), len(s.GetMessage()), size)
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("core took (-want +got):\n%s", diff)
	}
	if dropped := core.Dropped(); len(dropped) > 0 {
		t.Errorf("core acknowledged and lost %d reports, the first %s", len(dropped), dropped[0].ID)
	}
	if violations := core.Violations(); len(violations) > 0 {
		t.Errorf("against the contract: %q", violations)
	}
}

func mustDeliverThat(t *testing.T, c *Core, d wire.Delivery) {
	t.Helper()
	if err := c.Deliver(t.Context(), d); err != nil {
		t.Errorf("report %s: %v", d.ID, err)
	}
}

// TestLargeReports: what is larger than a message goes as a stream, on a connection that is new and
// on one that is not, in messages that keep to the limit; what is not goes as ever.
func TestLargeReports(t *testing.T) {
	t.Parallel()
	const limit, size = 100 << 10, 40 << 10
	synctest.Test(t, func(t *testing.T) {
		w := newCores(t, 1)
		c := newCore(t, CoreConfig{Addresses: w.addresses, Dial: w.network.Dial})
		mustDeliverThat(t, c, large(t, 1, limit, size, "a/ssh", "a/web", "b/dns", "b/www", "b/ftp"))
		mustDeliverThat(t, c, large(t, 2, limit, size, "a/ssh", "b/ssh"))
		mustDeliverThat(t, c, large(t, 3, limit, size, "a/ssh", "a/web", "b/dns"))
		mustDeliverThat(t, c, large(t, 4, 30<<10, size, "a/ssh")) // one status in two slices
		mustDeliverThat(t, c, large(t, 5, limit, size, "a/ssh"))
		inChunks := large(t, 6, limit, size, "a/ssh")
		inChunks.InChunks = true
		mustDeliverThat(t, c, inChunks)
		w.restart(0)
		mustDeliverThat(t, c, large(t, 7, limit, size, "a/ssh", "a/web", "b/dns"))
		w.restart(0)
		mustDeliverThat(t, c, large(t, 8, limit, size, "a/ssh", "b/ssh"))
		w.restart(0)
		mustDeliverThat(t, c, large(t, 9, 30<<10, size, "a/ssh"))
		mustDeliverThat(t, c, large(t, 10, limit, size, "a/ssh"))
		wantMessages(t, w.cores[0], limit, size,
			"stream p/1/1 a/ssh a/web b/dns b/www b/ftp: 3",
			"unary p/1/2 a/ssh b/ssh: 0",
			"stream p/1/3 a/ssh a/web b/dns: 2",
			"stream p/1/4 a/ssh: 2",
			"unary p/1/5 a/ssh: 0",
			"stream p/1/6 a/ssh: 1",
			"stream p/1/7 a/ssh a/web b/dns: 2",
			"stream : 1", "unary p/1/8 a/ssh b/ssh: 0",
			"stream p/1/9 a/ssh: 2",
			"unary p/1/10 a/ssh: 0")
		if fourth := w.cores[0].Deliveries()[3]; fourth.Largest > 30<<10 {
			t.Errorf("a status in slices has messages of %d bytes, the limit is %d", fourth.Largest, 30<<10)
		}
	})
}

// TestLargeReportWithEqualKeys: a report that an earlier run kept may be larger than a message may be
// now. Core would take the statuses of a stream with equal keys for one; rather, the report goes in
// one message, which core may take, or find too large, and then it is halved.
func TestLargeReportWithEqualKeys(t *testing.T) {
	t.Parallel()
	const limit, size = 100 << 10, 60 << 10
	synctest.Test(t, func(t *testing.T) {
		w := newCores(t, 1)
		c := newCore(t, CoreConfig{Addresses: w.addresses, Dial: w.network.Dial})
		mustDeliverThat(t, c, large(t, 1, limit, size, "a/ssh", "b/ssh"))
		mustDeliverThat(t, c, large(t, 2, limit, size, "a/ssh", "b/ssh"))
		w.cores[0].SetFault(sim.CoreFault{MaxMessage: limit})
		d := large(t, 3, limit, size, "a/ssh", "b/ssh")
		if err := c.Deliver(t.Context(), d); !wire.Exhausted(err) {
			t.Errorf("above core's limit: %v, want ResourceExhausted", err)
		}
		halves, _ := d.Smaller()
		for _, half := range halves {
			mustDeliverThat(t, c, half)
		}
		wantMessages(t, w.cores[0], 2*limit, size, "stream : 1", "unary p/1/1 a/ssh b/ssh: 0", "unary p/1/2 a/ssh b/ssh: 0",
			"unary p/1/3.1 a/ssh: 0", "unary p/1/3.2 b/ssh: 0")
	})
}

// TestVeryLargeStatus takes the way over a real network.
func TestVeryLargeStatus(t *testing.T) {
	t.Parallel()
	const limit, size = 3 << 20, veryLarge
	d := large(t, 1, limit, size, "a/sweep")
	core := new(sim.Core)
	c := newCore(t, CoreConfig{Addresses: []string{startCore(t, core, "127.0.0.1:0").Addr()}})
	mustDeliverThat(t, c, d)
	wantMessages(t, core, limit, size, fmt.Sprintf("stream p/1/1 a/sweep: %d", size/limit+1))
}

// slowCore is a core of which handle answers the streams.
type slowCore struct {
	monitoring.UnimplementedPollerServiceServer
	// handle answers received=true with nil.
	handle func(receive func() (*monitoring.PollerStatusChunk, error)) error
}

// StreamStatus is answered by handle.
func (s slowCore) StreamStatus(stream grpc.ClientStreamingServer[monitoring.PollerStatusChunk, monitoring.PollerStatusResponse]) error {
	if err := s.handle(stream.Recv); err != nil {
		return err
	}
	return stream.SendAndClose(&monitoring.PollerStatusResponse{Received: true})
}

// replace puts a core in the place of one.
func (w *cores) replace(i int, core monitoring.PollerServiceServer) {
	w.t.Helper()
	w.stop(i)
	l, err := w.network.Listen(w.addresses[i])
	if err != nil {
		w.t.Fatal(err)
	}
	// The least window, which does not grow: what core has not taken is with the client.
	server := grpc.NewServer(grpc.InitialWindowSize(64<<10), grpc.InitialConnWindowSize(64<<10), grpc.WaitForHandlers(true))
	monitoring.RegisterPollerServiceServer(server, core)
	go func() { _ = server.Serve(l) }()
	w.t.Cleanup(server.Stop)
}

// TestSlowCore: as long as core takes something now and then, a delivery may last much longer than
// the timeout; once it takes nothing, it ends with that.
func TestSlowCore(t *testing.T) {
	t.Parallel()
	const (
		limit, size = 256 << 10, 3 << 20 // which is 13 chunks
		timeout     = 27 * time.Second   // with what the size takes
		pause       = 26 * time.Second
	)
	for _, tt := range []struct {
		name   string
		chunks int32 // that core takes, of 13
		known  bool  // whether there is a connection already
	}{
		{"takes all", 13, false},
		{"takes all, on a connection that it knows", 13, true},
		{"takes nothing", 0, false},
		{"takes nothing, on a connection that it knows", 0, true},
		{"takes a half", 6, false},
		{"takes all but the last", 12, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newCores(t, 2)
				var chunks atomic.Int32
				var quick atomic.Bool // for the one stream before
				quick.Store(tt.known)
				over := make(chan struct{})
				w.replace(0, slowCore{handle: func(receive func() (*monitoring.PollerStatusChunk, error)) error {
					if quick.Swap(false) {
						_, err := receive()
						return err
					}
					for final := false; !final; chunks.Add(1) {
						if chunks.Load() == tt.chunks {
							<-over
							return errors.New("the test is over")
						}
						time.Sleep(pause)
						chunk, err := receive()
						if err != nil {
							return err
						}
						final = chunk.GetIsFinal()
					}
					return nil
				}})
				t.Cleanup(func() { close(over) })
				c := newCore(t, CoreConfig{Addresses: w.addresses, Dial: w.network.Dial, Timeout: timeout - onTheWay(size)})
				if tt.known {
					mustDeliver(t, c, 1, "a/ssh")
				}
				began := time.Now()
				err := c.Deliver(t.Context(), large(t, 2, limit, size, "a/sweep"))
				took := time.Since(began)
				all := time.Duration(tt.chunks) * pause
				if tt.chunks == 13 {
					if err != nil || chunks.Load() != 13 || took != all {
						t.Errorf("%v after %v and %d chunks, want no error after %v and 13", err, took, chunks.Load(), all)
					}
					return
				}
				wantError(t, "a core that hangs", err, wire.Retry, w.addresses[0], "nothing more was taken for 27s (core.timeout = 3s")
				if code := status.Code(err); code != codes.DeadlineExceeded || chunks.Load() != tt.chunks {
					t.Errorf("%v after %d chunks, want DeadlineExceeded after %d", code, chunks.Load(), tt.chunks)
				}
				if took < max(timeout, all) || took > all+timeout {
					t.Errorf("it took %v, and the last chunk was taken after %v", took, all)
				}
				mustDeliver(t, c, 2, "a/ssh")
				wantTaken(t, w.cores[1], "stream p/1/2 a/ssh")
			})
		})
	}
}

// TestSlowUnary: of a message that goes by itself nothing is seen until the answer; the timeout is for
// all of it.
func TestSlowUnary(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newCores(t, 1)
		c := newCore(t, CoreConfig{Addresses: w.addresses, Dial: w.network.Dial, Timeout: 3 * time.Second})
		mustDeliver(t, c, 1, "a/ssh")
		w.cores[0].SetFault(sim.CoreFault{Delay: 3*time.Second - 1, Times: 1})
		mustDeliver(t, c, 2, "a/ssh")
		w.cores[0].SetFault(sim.CoreFault{Delay: 3*time.Second + 1, Times: 1})
		began := time.Now()
		wantError(t, "too slow", deliver(t, c, 3, "a/ssh"), wire.Retry, w.addresses[0], "nothing more was taken for 3s (core.timeout = 3s")
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("it took %v, want 3s", took)
		}
		mustDeliver(t, c, 3, "a/ssh")
		wantTaken(t, w.cores[0], "stream p/1/1 a/ssh", "unary p/1/2 a/ssh", "stream p/1/3 a/ssh")
	})
}

// TestHelloIsProgress: what registers the poller, and the report after it, each have the timeout.
func TestHelloIsProgress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newCores(t, 1)
		c := newCore(t, CoreConfig{Addresses: w.addresses, Dial: w.network.Dial, Timeout: 3 * time.Second})
		w.cores[0].SetFault(sim.CoreFault{Delay: 2 * time.Second, Times: 2})
		mustDeliver(t, c, 1, "a/ssh", "b/ssh")
		wantTaken(t, w.cores[0], "stream ", "unary p/1/1 a/ssh b/ssh")
	})
}

// TestRefusedInMidst: what core says of a stream that it does not want to hear to the end is the
// delivery's error, though the client notices first that nobody listens.
func TestRefusedInMidst(t *testing.T) {
	t.Parallel()
	for code, outcome := range map[codes.Code]wire.Outcome{
		codes.Unknown: wire.Retry, codes.Unavailable: wire.Retry, codes.ResourceExhausted: wire.Retry,
		codes.InvalidArgument: wire.SetAside, codes.PermissionDenied: wire.Hold,
	} {
		t.Run(code.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newCores(t, 1)
				w.replace(0, slowCore{handle: func(receive func() (*monitoring.PollerStatusChunk, error)) error {
					if _, err := receive(); err != nil {
						return err
					}
					time.Sleep(time.Second) // the client can't send any more, and waits
					return status.Error(code, "the disk is full")
				}})
				c := newCore(t, CoreConfig{Addresses: w.addresses, Dial: w.network.Dial})
				began := time.Now()
				err := c.Deliver(t.Context(), large(t, 1, 256<<10, 3<<20, "a/sweep"))
				wantError(t, "refused", err, outcome, w.addresses[0], code.String(), "the disk is full")
				if got := status.Code(err); got != code || errors.Is(err, io.EOF) {
					t.Errorf("code %v, want %v: %v", got, code, err)
				}
				if took := time.Since(began); took != time.Second {
					t.Errorf("it took %v, want 1s", took)
				}
			})
		})
	}
}
