package sim

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// Host is a process that runs a checker or a core, at an address of its own. It has one Fault at a
// time: of the process, of its connections, or of the calls. All methods are safe to call from any
// goroutine at any time.
type Host struct {
	listen   func() (net.Listener, error)
	creds    credentials.TransportCredentials
	register func(grpc.ServiceRegistrar)
	calls    func(Fault) // has calls done with a fault from now on
	strange  []Kind      // that it can't have
	started  func()      // tells the service that its process is another
	wires    wires

	mu       sync.Mutex // held while the fault changes
	fault    Fault      // the one of the moment, of those that come and go
	listener net.Listener
	server   *hostServer
	draining []*hostServer
	repeats  *repeats // nil unless something happens again and again
}

// hostServer is one generation of a host's server.
type hostServer struct {
	*Server
	queue *queue
}

// NewHost starts a host whose checker behaves like the base one where a fault does not say otherwise.
// Listen is called for each time that the process starts; nil credentials mean plaintext.
func (c *Checker) NewHost(base Behaviour, creds credentials.TransportCredentials, listen func() (net.Listener, error)) (*Host, error) {
	h := &Host{
		listen: listen, creds: creds, register: c.Register, started: func() {},
		calls: func(f Fault) { c.Set(badly(base, f)) }, strange: []Kind{KindNotReceived},
	}
	return h, h.Set(Fault{})
}

// NewHost is a Checker's NewHost for a core, which knows no poller each time it starts.
func (c *Core) NewHost(creds credentials.TransportCredentials, listen func() (net.Listener, error)) (*Host, error) {
	h := &Host{
		listen: listen, creds: creds, register: c.Register, started: c.Forget,
		calls: func(f Fault) {
			fault := CoreFault{
				Hang: f.Kind == KindHang || f.Kind == KindHangAll, Code: f.Code,
				NotReceived: f.Kind == KindNotReceived, AfterTaking: f.AfterTaking,
			}
			if f.Kind == KindSlow {
				fault.Delay = f.For
			}
			c.SetFault(fault)
		},
		strange: []Kind{KindHuge, KindBadJSON, KindEarly},
	}
	return h, h.Set(Fault{})
}

// Set changes the fault. What the last one broke is mended: connections that it spoilt are cut. An
// error means that the host can't listen again, or that it can't have such a fault.
func (h *Host) Set(f Fault) error {
	if slices.Contains(h.strange, f.Kind) {
		return fmt.Errorf("a host of this sort can't have the fault %q", f)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.repeats != nil {
		h.repeats.end()
		h.repeats = nil
	}
	if f.Good > 0 {
		err := h.become(Fault{})
		h.repeats = repeat(func(ctx context.Context) { h.flap(ctx, f) })
		return err
	}
	if err := h.become(f); err != nil {
		return err
	}
	if f.Kind == KindGoAway && f.For > 0 {
		h.repeats = repeat(func(ctx context.Context) {
			for wait(ctx, f.For) == nil {
				h.drain()
			}
		})
	}
	return nil
}

// flap lets a fault come and go. Should the host be unable to listen again, it stays down, which shows.
func (h *Host) flap(ctx context.Context, f Fault) {
	bad := f
	bad.Good, bad.Bad = 0, 0
	for wait(ctx, f.Good) == nil {
		_ = h.become(bad)
		if wait(ctx, f.Bad) != nil {
			return
		}
		_ = h.become(Fault{})
	}
}

// Stop ends the host: when it returns nothing of it is left. It may be called again.
func (h *Host) Stop() { _ = h.Set(Fault{Kind: KindDown}) }

// become changes the fault. The caller is Set, or what Set has made repeat and waits for before it goes on.
func (h *Host) become(f Fault) error {
	wasDown := h.server == nil
	spoilt := slices.Contains([]Kind{KindSilent, KindGarbage, KindHTTP1, KindReset}, h.fault.Kind)
	h.fault = f
	h.calls(f)
	h.wires.set(f.Kind)
	if spoilt {
		h.wires.cut()
	}
	switch {
	case f.Kind == KindDown:
		h.end()
	case wasDown:
		if err := h.begin(); err != nil {
			h.fault = Fault{Kind: KindDown}
			return err
		}
	}
	switch f.Kind {
	case KindReset:
		h.wires.cut()
	case KindGoAway:
		h.drain()
	default:
	}
	return nil
}

// begin starts the process.
func (h *Host) begin() error {
	l, err := h.listen()
	if err != nil {
		return err
	}
	h.started()
	h.listener, h.server = l, h.serve(l.Addr())
	h.wires.accept(l, h.server.queue)
	return nil
}

func (h *Host) serve(addr net.Addr) *hostServer {
	q := newQueue(addr)
	return &hostServer{Server: serve(q, h.creds, h.register), queue: q}
}

// end kills the process; it may be dead already.
func (h *Host) end() {
	if h.server == nil {
		return
	}
	_ = h.listener.Close()
	h.wires.cut()
	h.server.Stop()
	for _, s := range h.draining {
		s.Stop()
	}
	h.wires.wait()
	h.server, h.draining = nil, nil
}

// drain asks all connections to end when their calls have; others are served by another server.
func (h *Host) drain() {
	old := h.server
	h.server = h.serve(h.listener.Addr())
	h.wires.redirect(h.server.queue)
	h.draining = slices.DeleteFunc(h.draining, (*hostServer).over)
	h.draining = append(h.draining, old)
	h.wires.work.Go(old.server.GracefulStop)
}

func (s *hostServer) over() bool {
	select {
	case <-s.served:
		return true
	default:
		return false
	}
}

// repeats is something that happens again and again, until end.
type repeats struct {
	cancel context.CancelFunc
	done   chan struct{}
}

func repeat(f func(context.Context)) *repeats {
	ctx, cancel := context.WithCancel(context.Background())
	r := &repeats{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		f(ctx)
	}()
	return r
}

func (r *repeats) end() {
	r.cancel()
	<-r.done
}
