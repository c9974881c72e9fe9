package transport

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/internal/wire"
	"github.com/serviceradar/poller/proto/monitoring"
)

// TestFailOver: after an error that another core may not have, the next address is used, and
// stays in use as long as it works.
func TestFailOver(t *testing.T) {
	t.Parallel()
	for _, code := range []codes.Code{
		codes.Canceled, codes.Unknown, codes.DeadlineExceeded, codes.NotFound, codes.AlreadyExists,
		codes.FailedPrecondition, codes.Aborted, codes.Internal, codes.Unavailable, codes.DataLoss,
	} {
		t.Run(code.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newCores(t, 3)
				c := newCore(t, CoreConfig{Addresses: w.addresses, Dial: w.network.Dial})
				mustDeliver(t, c, 1, "a/ssh")
				w.cores[0].SetFault(sim.CoreFault{Code: code, Times: 1})
				wantError(t, "the first core", deliver(t, c, 2, "a/ssh"), wire.Retry, w.addresses[0], code.String())
				mustDeliver(t, c, 2, "a/ssh")
				mustDeliver(t, c, 3, "a/ssh") // though the first works again
				w.cores[1].SetFault(sim.CoreFault{Code: code, Times: 1})
				w.cores[2].SetFault(sim.CoreFault{Code: code, Times: 1})
				wantError(t, "the second core", deliver(t, c, 4, "a/ssh"), wire.Retry, w.addresses[1])
				wantError(t, "the third core", deliver(t, c, 4, "a/ssh"), wire.Retry, w.addresses[2])
				mustDeliver(t, c, 4, "a/ssh")
				wantTaken(t, w.cores[0], "stream p/1/1 a/ssh", "stream p/1/4 a/ssh")
				wantTaken(t, w.cores[1], "stream p/1/2 a/ssh", "unary p/1/3 a/ssh")
				wantTaken(t, w.cores[2])
			})
		})
	}
}

// TestHold: an error that a person must mend is no reason to go elsewhere; but the connection is a
// new one each time, for what is mended may be the certificates.
func TestHold(t *testing.T) {
	t.Parallel()
	for code, hint := range map[codes.Code]string{
		codes.Unauthenticated: "accept its certificate?", codes.PermissionDenied: "accept its certificate?", codes.Unimplemented: "a core's?",
	} {
		t.Run(code.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newCores(t, 2)
				c := newCore(t, CoreConfig{Addresses: w.addresses, Dial: w.network.Dial})
				mustDeliver(t, c, 1, "a/ssh")
				w.cores[0].SetFault(sim.CoreFault{Code: code, Times: 2})
				for range 2 {
					wantError(t, "held", deliver(t, c, 2, "a/ssh"), wire.Hold, w.addresses[0], code.String(), hint)
				}
				mustDeliver(t, c, 2, "a/ssh")
				wantTaken(t, w.cores[0], "stream p/1/1 a/ssh", "stream p/1/2 a/ssh")
				wantTaken(t, w.cores[1])
			})
		})
	}
}

// TestSetAside: core's verdict on one report changes nothing for the next.
func TestSetAside(t *testing.T) {
	t.Parallel()
	for _, code := range []codes.Code{codes.InvalidArgument, codes.OutOfRange} {
		core := new(sim.Core)
		address := startCore(t, core, "127.0.0.1:0").Addr()
		dial, dialed := counting()
		c := newCore(t, CoreConfig{Addresses: []string{address, nobody}, Dial: dial})
		core.SetFault(sim.CoreFault{Code: code, Times: 1})
		wantError(t, "set aside at first", deliver(t, c, 1, "a/ssh"), wire.SetAside, address)
		mustDeliver(t, c, 2, "a/ssh")
		core.SetFault(sim.CoreFault{Code: code, Times: 1})
		wantError(t, "set aside", deliver(t, c, 3, "a/ssh"), wire.SetAside, address)
		mustDeliver(t, c, 4, "a/ssh")
		wantTaken(t, core, "stream p/1/2 a/ssh", "unary p/1/4 a/ssh")
		if n := dialed.Load(); n != 1 {
			t.Errorf("%s: %d connections, want 1", code, n)
		}
	}
}

// TestExhausted: a core that finds a report too large is there; the same connection gets the next try.
func TestExhausted(t *testing.T) {
	t.Parallel()
	core := new(sim.Core)
	address := startCore(t, core, "127.0.0.1:0").Addr()
	dial, dialed := counting()
	c := newCore(t, CoreConfig{Addresses: []string{address, nobody}, Dial: dial})
	mustDeliver(t, c, 1, "a/ssh")
	core.SetFault(sim.CoreFault{Code: codes.ResourceExhausted, Times: 2})
	for range 2 {
		err := deliver(t, c, 2, "a/ssh")
		wantError(t, "exhausted", err, wire.Retry, address, "ResourceExhausted")
		if !wire.Exhausted(err) {
			t.Errorf("not told to be exhausted: %v", err)
		}
	}
	mustDeliver(t, c, 2, "a/ssh")
	wantTaken(t, core, "stream p/1/1 a/ssh", "unary p/1/2 a/ssh")
	if n := dialed.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

func TestUnreadableBody(t *testing.T) {
	t.Parallel()
	dial, dialed := counting()
	c := newCore(t, CoreConfig{Addresses: []string{nobody}, Dial: dial})
	wantError(t, "garbage", c.Deliver(t.Context(), delivery("p/1/7", []byte("\xff\xff"))), wire.SetAside, "p/1/7", "can't be read")
	if dialed.Load() != 0 {
		t.Error("it connects for garbage")
	}
}

// TestUnreadableBodyLater: over a connection that core knows, reports go as they are; the words that core has for
// one that it can't read would have it tried for ever.
func TestUnreadableBodyLater(t *testing.T) {
	t.Parallel()
	core := new(sim.Core)
	dial, dialed := counting()
	c := newCore(t, CoreConfig{Addresses: []string{startCore(t, core, "127.0.0.1:0").Addr()}, Dial: dial})
	mustDeliver(t, c, 1, "a/ssh")
	wantError(t, "garbage", c.Deliver(t.Context(), delivery("p/1/7", []byte("\xff\xff"))), wire.SetAside, "p/1/7", "can't be read")
	noText := protowire.AppendString(protowire.AppendTag(nil, 2, protowire.BytesType), "\xff")
	wantError(t, "a name that is no text", c.Deliver(t.Context(), delivery("p/1/8", noText)), wire.SetAside, "p/1/8", "can't be read")
	mustDeliver(t, c, 9, "a/ssh")
	wantTaken(t, core, "stream p/1/1 a/ssh", "unary p/1/9 a/ssh")
	if n := dialed.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// TestDeliveryTimeout: whatever core does, a delivery ends at its timeout, and the next address has
// its turn.
func TestDeliveryTimeout(t *testing.T) {
	t.Parallel()
	hang := func(f sim.CoreFault) func(w *cores) { return func(w *cores) { w.cores[0].SetFault(f) } }
	replace := func(handle func(net.Listener)) func(w *cores) {
		return func(w *cores) {
			w.stop(0)
			l, err := w.network.Listen(w.addresses[0])
			if err != nil {
				w.t.Fatal(err)
			}
			w.t.Cleanup(func() { _ = l.Close() })
			handle(l)
		}
	}
	for _, tt := range []struct {
		name  string
		spoil func(w *cores)
		known bool // whether there is a connection already
		hint  string
	}{
		{"hangs on the stream", hang(sim.CoreFault{Hang: true}), false, ""},
		{"hangs on the unary call", hang(sim.CoreFault{Hang: true}), true, ""},
		{"takes it and hangs", hang(sim.CoreFault{Hang: true, AfterTaking: true}), true, ""},
		{"is too slow", hang(sim.CoreFault{Delay: time.Hour}), true, ""},
		{"does not accept", replace(func(net.Listener) {}), false, ""},
		{"accepts and is silent", replace(func(l net.Listener) {
			go func() {
				if conn, err := l.Accept(); err == nil {
					var b [1]byte
					for err == nil { // until the other side closes
						_, err = conn.Read(b[:])
					}
					_ = conn.Close()
				}
			}()
		}), false, "says nothing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newCores(t, 2)
				c := newCore(t, CoreConfig{Addresses: w.addresses, Dial: w.network.Dial, Timeout: 3 * time.Second})
				if tt.known {
					mustDeliver(t, c, 1, "a/ssh")
				}
				tt.spoil(w)
				began := time.Now()
				wantError(t, "the first core", deliver(t, c, 2, "a/ssh"), wire.Retry, w.addresses[0], "DeadlineExceeded", tt.hint)
				if took := time.Since(began); took != 3*time.Second {
					t.Errorf("it took %v, want 3s", took)
				}
				mustDeliver(t, c, 2, "a/ssh")
				if took := time.Since(began); took != 3*time.Second {
					t.Errorf("with the second core it took %v, want 3s", took)
				}
				wantTaken(t, w.cores[1], "stream p/1/2 a/ssh")
			})
		})
	}
}

// TestGivenUp: a delivery ends with its context at once. That says nothing about the core, which
// stays in use.
func TestGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newCores(t, 2)
		c := newCore(t, CoreConfig{Addresses: w.addresses, Dial: w.network.Dial, Timeout: time.Minute})
		for n := 1; n <= 2; n++ {
			w.cores[0].SetFault(sim.CoreFault{Hang: true, Times: 1})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			began := time.Now()
			go func() {
				id, body := report(t, n, "a/ssh")
				done <- c.Deliver(ctx, delivery(id, body))
			}()
			synctest.Wait()
			cancel()
			wantError(t, "given up", <-done, wire.Retry, w.addresses[0], "Canceled")
			if took := time.Since(began); took != 0 {
				t.Errorf("it took %v", took)
			}
			mustDeliver(t, c, n, "a/ssh")
		}
		wantTaken(t, w.cores[0], "stream p/1/1 a/ssh", "stream p/1/2 a/ssh")
		wantTaken(t, w.cores[1])
	})
}

// TestWaitingForAnother: deliveries go one at a time. One that waits ends with its context, and
// has its whole timeout once it is its turn.
func TestWaitingForAnother(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newCores(t, 2)
		c := newCore(t, CoreConfig{Addresses: w.addresses, Dial: w.network.Dial, Timeout: 3 * time.Second})
		w.cores[0].SetFault(sim.CoreFault{Hang: true})
		w.cores[1].SetFault(sim.CoreFault{Delay: 2 * time.Second})
		began := time.Now()
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { first <- deliver(t, c, 1, "a/ssh") }()
		synctest.Wait()
		go func() { second <- deliver(t, c, 2, "a/ssh") }()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		id, body := report(t, 3, "a/ssh")
		wantError(t, "the one with little time", c.Deliver(ctx, delivery(id, body)), wire.Retry, "waiting for an earlier delivery")
		if took := time.Since(began); took != time.Second {
			t.Errorf("the one with little time took %v", took)
		}
		wantError(t, "the first", <-first, wire.Retry, w.addresses[0])
		if err := <-second; err != nil {
			t.Errorf("the second: %v", err)
		}
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("all took %v, want 5s", took)
		}
		wantTaken(t, w.cores[1], "stream p/1/2 a/ssh")
	})
}

// TestAnswerLost: what core took without saying so is sent again, under the same id.
func TestAnswerLost(t *testing.T) {
	t.Parallel()
	core := new(sim.Core)
	c := newCore(t, CoreConfig{Addresses: []string{startCore(t, core, "127.0.0.1:0").Addr()}})
	mustDeliver(t, c, 1, "a/ssh")
	core.SetFault(sim.CoreFault{Code: codes.Unavailable, AfterTaking: true, Times: 1})
	wantError(t, "the answer is lost", deliver(t, c, 2, "a/ssh"), wire.Retry)
	mustDeliver(t, c, 2, "a/ssh")
	wantTaken(t, core, "stream p/1/1 a/ssh", "unary p/1/2 a/ssh", "stream p/1/2 a/ssh")
}

// TestOneAtATime delivers from many goroutines, while core now and then refuses.
func TestOneAtATime(t *testing.T) {
	t.Parallel()
	core := new(sim.Core)
	var inFlight, most atomic.Int64
	count := func() func() {
		for n, m := inFlight.Add(1), most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		return func() { inFlight.Add(-1) }
	}
	server := grpc.NewServer(
		grpc.UnaryInterceptor(func(ctx context.Context, r any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			defer count()()
			return handler(ctx, r)
		}),
		grpc.StreamInterceptor(func(service any, s grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			defer count()()
			return handler(service, s)
		}))
	core.Register(server)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)

	c := newCore(t, CoreConfig{Addresses: []string{l.Addr().String()}})
	const callers, each = 8, 20
	done := make(chan struct{})
	for i := range callers {
		go func() {
			defer func() { done <- struct{}{} }()
			for n := range each {
				if n == 10 {
					core.SetFault(sim.CoreFault{NotReceived: true, Times: 1})
				}
				r := &monitoring.PollerStatusRequest{PollerId: "p", Partition: "default", SourceIp: "10.0.0.1", Timestamp: 1000}
				body, err := proto.Marshal(r)
				if err != nil {
					t.Error(err)
				}
				for c.Deliver(t.Context(), delivery(fmt.Sprintf("%d/%d", i, n), body)) != nil && t.Context().Err() == nil {
				}
			}
		}()
	}
	for range callers {
		<-done
	}
	if n := most.Load(); n != 1 {
		t.Errorf("up to %d calls in flight, want 1", n)
	}
	ids := make(map[string]int)
	for _, d := range core.Deliveries() {
		ids[d.ID]++
	}
	if len(ids) != callers*each || len(core.Deliveries()) != callers*each {
		t.Errorf("%d deliveries of %d reports, want %d", len(core.Deliveries()), len(ids), callers*each)
	}
	if dropped := core.Dropped(); len(dropped) > 0 {
		t.Errorf("core acknowledged and lost %d reports", len(dropped))
	}
}
