package transport

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/internal/tlsid"
	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
	"github.com/serviceradar/poller/internal/wire"
	"github.com/serviceradar/poller/proto/monitoring"
)

// report returns report n of poller p with statuses named AGENT/CHECK.
func report(t *testing.T, n int, names ...string) (id string, body []byte) {
	t.Helper()
	r := &monitoring.PollerStatusRequest{
		PollerId: "p", Partition: "default", SourceIp: "10.0.0.1", Timestamp: 1000 + int64(n),
	}
	for _, name := range names {
		agent, check, _ := strings.Cut(name, "/")
		r.Services = append(r.Services, &monitoring.ServiceStatus{
			AgentId: agent, ServiceName: check, ServiceType: "port", Message: []byte("{}"), Available: true,
		})
	}
	body, err := proto.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("p/1/%d", n), body
}

// delivery is what the reporter makes of a report.
func delivery(id string, body []byte) wire.Delivery {
	return wire.Delivery{ID: id, Body: body, Limit: 1 << 20}
}

// brief writes down what a core took: how, the id, and the statuses.
func brief(core *sim.Core) []string {
	var lines []string
	for _, d := range core.Deliveries() {
		line := "unary "
		if d.Stream {
			line = "stream "
		}
		line += d.ID
		for _, s := range d.Services {
			line += " " + s.GetAgentId() + "/" + s.GetServiceName()
		}
		lines = append(lines, line)
	}
	return lines
}

// wantTaken wants what a core took, in order, and nothing lost or against the contract.
func wantTaken(t *testing.T, core *sim.Core, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, brief(core)); diff != "" {
		t.Errorf("core took (-want +got):\n%s", diff)
	}
	if dropped := core.Dropped(); len(dropped) > 0 {
		t.Errorf("core acknowledged and lost %d reports, the first %s", len(dropped), dropped[0].ID)
	}
	if violations := core.Violations(); len(violations) > 0 {
		t.Errorf("against the contract: %q", violations)
	}
}

func newCore(t *testing.T, cfg CoreConfig) *Core {
	t.Helper()
	if cfg.Timeout == 0 {
		cfg.Timeout = long
	}
	c := NewCore(cfg)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func startCore(t *testing.T, core *sim.Core, address string) *sim.Server {
	t.Helper()
	server, err := core.Start(address, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return server
}

func deliver(t *testing.T, c *Core, n int, names ...string) error {
	t.Helper()
	id, body := report(t, n, names...)
	return c.Deliver(t.Context(), delivery(id, body))
}

func mustDeliver(t *testing.T, c *Core, n int, names ...string) {
	t.Helper()
	if err := deliver(t, c, n, names...); err != nil {
		t.Errorf("report %d: %v", n, err)
	}
}

// wantError wants a delivery's error, judged as it should be, that names the address.
func wantError(t *testing.T, what string, err error, outcome wire.Outcome, words ...string) {
	t.Helper()
	if got := wire.Judge(err); got != outcome {
		t.Errorf("%s: %v is judged %q, want %q", what, err, got, outcome)
	}
	for _, word := range words {
		if !strings.Contains(fmt.Sprint(err), word) {
			t.Errorf("%s: the error lacks %q: %v", what, word, err)
		}
	}
}

func TestFirstDeliveryIsStream(t *testing.T) {
	t.Parallel()
	core := new(sim.Core)
	dial, dialed := counting()
	c := newCore(t, CoreConfig{Addresses: []string{startCore(t, core, "127.0.0.1:0").Addr()}, Dial: dial})
	if dialed.Load() != 0 {
		t.Error("it connects before it is used")
	}
	mustDeliver(t, c, 1, "a/ssh", "a/web", "b/dns")
	mustDeliver(t, c, 2, "a/ssh", "b/ssh")
	mustDeliver(t, c, 3)
	wantTaken(t, core, "stream p/1/1 a/ssh a/web b/dns", "unary p/1/2 a/ssh b/ssh", "unary p/1/3")
	if n := dialed.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

func TestFirstDeliveryWithEqualKeys(t *testing.T) {
	t.Parallel()
	core := new(sim.Core)
	c := newCore(t, CoreConfig{Addresses: []string{startCore(t, core, "127.0.0.1:0").Addr()}})
	mustDeliver(t, c, 1, "a/ssh", "b/ssh")
	mustDeliver(t, c, 2, "a/ssh")
	// What registers has no id: a core that knows ids would take the report itself for a resend.
	wantTaken(t, core, "stream ", "unary p/1/1 a/ssh b/ssh", "unary p/1/2 a/ssh")
	first := core.Deliveries()[0]
	if !first.Registration() || first.Timestamp != 1001 {
		t.Errorf("the registration is %+v", first)
	}
}

func TestFirstDeliveryIsHeartbeat(t *testing.T) {
	t.Parallel()
	core := new(sim.Core)
	c := newCore(t, CoreConfig{Addresses: []string{startCore(t, core, "127.0.0.1:0").Addr()}})
	mustDeliver(t, c, 1)
	mustDeliver(t, c, 2)
	wantTaken(t, core, "stream p/1/1", "unary p/1/2")
}

// TestPollerIDChanged: what was kept under the old name registers nobody but the old name.
func TestPollerIDChanged(t *testing.T) {
	t.Parallel()
	core := new(sim.Core)
	c := newCore(t, CoreConfig{Addresses: []string{startCore(t, core, "127.0.0.1:0").Addr()}})
	for i, poller := range []string{"old", "old", "new", "new"} {
		body, err := proto.Marshal(&monitoring.PollerStatusRequest{
			PollerId: poller, Partition: "default", SourceIp: "10.0.0.1", Timestamp: 1000 + int64(i),
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Deliver(t.Context(), delivery(fmt.Sprintf("%s/%d", poller, i), body)); err != nil {
			t.Fatal(err)
		}
	}
	wantTaken(t, core, "stream old/0", "unary old/1", "stream new/2", "unary new/3")
}

// TestReportsArriveWhole: nothing of a report is lost on either way.
func TestReportsArriveWhole(t *testing.T) {
	t.Parallel()
	core := new(sim.Core)
	c := newCore(t, CoreConfig{Addresses: []string{startCore(t, core, "127.0.0.1:0").Addr()}})
	id := wire.Identity{PollerID: "p", Partition: "default", SourceIP: "10.0.0.1", KVStoreID: "kv", MaxMessage: 3 << 20, MaxReport: 3 << 20}
	agent := &check.Agent{Name: "a"}
	st := check.Status{Agent: agent, Check: ssh, Available: true, Message: []byte(`{"n":1.50}`), ResponseTime: 95382}
	for n := range 2 {
		reports, err := id.Reports(time.Unix(1000, 0), []check.Status{st})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Deliver(t.Context(), delivery(fmt.Sprint(n), reports[0].Body)); err != nil {
			t.Errorf("report %d: %v", n, err)
		}
		d := core.Deliveries()[n]
		want, err := id.Status(st)
		if err != nil || len(d.Services) != 1 || !proto.Equal(d.Services[0], want) {
			t.Errorf("report %d arrives as %v", n, d.Services)
		}
		if d.PollerID != "p" || d.Partition != "default" || d.SourceIP != "10.0.0.1" || d.Timestamp != 1000 {
			t.Errorf("heading of report %d: %+v", n, d)
		}
	}
}

// TestCoreRestarts: after a restart core knows nobody. The client has seen the end of its
// connection and loses neither a report nor a try.
func TestCoreRestarts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newCores(t, 1)
		c := newCore(t, CoreConfig{Addresses: w.addresses, Dial: w.network.Dial})
		mustDeliver(t, c, 1, "a/ssh")
		mustDeliver(t, c, 2, "a/ssh")
		w.restart(0)
		mustDeliver(t, c, 3, "a/ssh", "b/ssh")
		mustDeliver(t, c, 4, "a/ssh", "b/ssh")
		w.restart(0)
		w.restart(0)
		mustDeliver(t, c, 5, "a/ssh")
		w.stop(0)
		wantError(t, "without core", deliver(t, c, 6, "a/ssh"), wire.Retry, w.addresses[0], "refused")
		wantError(t, "without core, again", deliver(t, c, 6, "a/ssh"), wire.Retry, w.addresses[0], "refused")
		w.start(0)
		mustDeliver(t, c, 6, "a/ssh")
		wantTaken(t, w.cores[0], "stream p/1/1 a/ssh", "unary p/1/2 a/ssh",
			"stream ", "unary p/1/3 a/ssh b/ssh", "unary p/1/4 a/ssh b/ssh", "stream p/1/5 a/ssh", "stream p/1/6 a/ssh")
	})
}

// TestConnectionsAreNotRemade: should the end of the connection be seen only when a unary call is
// on its way already, gRPC must not send it over a new connection, where core drops it.
func TestConnectionsAreNotRemade(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newCores(t, 1)
		c := newCore(t, CoreConfig{Addresses: w.addresses, Dial: w.network.Dial})
		mustDeliver(t, c, 1, "a/ssh")
		w.restart(0)
		body, err := proto.Marshal(&monitoring.PollerStatusRequest{PollerId: "p", Partition: "default", SourceIp: "10.0.0.1", Timestamp: 1002})
		if err != nil {
			t.Fatal(err)
		}
		err = c.conn.unary(t.Context(), body)
		wantError(t, "over the lost connection", err, wire.Retry, "the connection is over")
		mustDeliver(t, c, 2, "a/ssh")
		wantTaken(t, w.cores[0], "stream p/1/1 a/ssh", "stream p/1/2 a/ssh")
	})
}

// TestGone: a connection is given up once gRPC has seen its end, and not for being so new that gRPC
// has not called it Ready yet, though it has carried an answer.
func TestGone(t *testing.T) {
	t.Parallel()
	for state, want := range map[connectivity.State]bool{
		connectivity.Connecting: false, connectivity.Ready: false,
		connectivity.Idle: true, connectivity.TransientFailure: true, connectivity.Shutdown: true,
	} {
		if got := gone(state); got != want {
			t.Errorf("a connection that is %v is gone: %t, want %t", state, got, want)
		}
	}
}

// TestCoreRestartsUnseen is the same on a real network, where a delivery may meet the end of the
// connection: with tries enough every report arrives, and none is taken for one of an unknown poller.
func TestCoreRestartsUnseen(t *testing.T) {
	t.Parallel()
	core := new(sim.Core)
	server := startCore(t, core, ownHost()+":0")
	c := newCore(t, CoreConfig{Addresses: []string{server.Addr()}})
	var want []string
	for n := range 20 {
		for deliver(t, c, n, "a/ssh") != nil {
			if t.Context().Err() != nil {
				t.Fatal("the time is over")
			}
		}
		want = append(want, fmt.Sprintf("p/1/%d", n))
		if n%3 == 0 {
			server.Stop()
			core.Forget()
			server = startCore(t, core, server.Addr())
		}
	}
	var got []string
	for _, d := range core.Deliveries() {
		got = append(got, d.ID)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("core took (-want +got):\n%s", diff)
	}
	if dropped := core.Dropped(); len(dropped) > 0 {
		t.Errorf("core acknowledged and lost %d reports", len(dropped))
	}
}

// cores are simulated cores on a network in memory, for synctest bubbles.
type cores struct {
	t         *testing.T
	network   sim.Net
	addresses []string
	cores     []*sim.Core
	servers   []*sim.Server
}

func newCores(t *testing.T, n int) *cores {
	t.Helper()
	w := &cores{t: t, servers: make([]*sim.Server, n)}
	for i := range n {
		w.addresses = append(w.addresses, fmt.Sprintf("127.1.0.%d:50052", i+1))
		w.cores = append(w.cores, new(sim.Core))
		w.start(i)
	}
	t.Cleanup(func() {
		for _, server := range w.servers {
			server.Stop()
		}
	})
	return w
}

func (w *cores) start(i int) {
	w.t.Helper()
	l, err := w.network.Listen(w.addresses[i])
	if err != nil {
		w.t.Fatal(err)
	}
	w.servers[i] = w.cores[i].Serve(l, nil)
}

func (w *cores) stop(i int) {
	w.servers[i].Stop()
	w.cores[i].Forget()
	synctest.Wait() // until clients have seen it
}

func (w *cores) restart(i int) {
	w.stop(i)
	w.start(i)
}

func TestNotReceived(t *testing.T) {
	t.Parallel()
	core := new(sim.Core)
	address := startCore(t, core, "127.0.0.1:0").Addr()
	dial, dialed := counting()
	c := newCore(t, CoreConfig{Addresses: []string{address, nobody}, Dial: dial})
	refuse := func(n int, names ...string) {
		t.Helper()
		core.SetFault(sim.CoreFault{NotReceived: true, Times: 1})
		err := deliver(t, c, n, names...)
		wantError(t, "not received", err, wire.Retry, address)
		if !errors.Is(err, wire.ErrNotReceived) {
			t.Errorf("report %d: %v", n, err)
		}
	}
	refuse(1, "a/ssh") // the stream
	refuse(1, "a/ssh", "b/ssh")
	mustDeliver(t, c, 1, "a/ssh")
	refuse(2, "a/ssh") // unary
	mustDeliver(t, c, 2, "a/ssh")
	wantTaken(t, core, "stream p/1/1 a/ssh", "unary p/1/2 a/ssh")
	if n := dialed.Load(); n != 1 {
		t.Errorf("%d connections, want 1: it is kept", n)
	}
}

// TestNotReceivedThenRestarted: also a connection on which nothing was registered is not used
// once it is gone.
func TestNotReceivedThenRestarted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newCores(t, 2)
		c := newCore(t, CoreConfig{Addresses: w.addresses, Dial: w.network.Dial})
		w.cores[0].SetFault(sim.CoreFault{NotReceived: true, Times: 1})
		wantError(t, "not received", deliver(t, c, 1, "a/ssh"), wire.Retry, w.addresses[0])
		w.restart(0)
		mustDeliver(t, c, 1, "a/ssh")
		wantTaken(t, w.cores[0], "stream p/1/1 a/ssh")
	})
}

func TestCoreMutualTLS(t *testing.T) {
	t.Parallel()
	ca, strangers := tlsidtest.NewCA(t), tlsidtest.NewCA(t)
	core := new(sim.Core)
	server, err := core.Start("127.0.0.1:0", serverCreds(t, ca.Issue(t, "core")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	me := ca.Issue(t, "poller")
	nameless, stranger, misled := me, strangers.Issue(t, "poller"), me
	nameless.Mode = check.TLSServer
	stranger.CAFile = ca.File
	misled.CAFile = strangers.File
	for name, tt := range map[string]struct {
		id    check.TLS
		words string
	}{
		"no certificate":         {nameless, "does it accept our certificate?"},
		"a stranger's":           {stranger, "does it accept our certificate?"},
		"core's is a stranger's": {misled, "unknown authority"},
		"plaintext":              {check.TLS{}, "does it want TLS?"},
	} {
		c := newCore(t, CoreConfig{Addresses: []string{server.Addr()}, TLS: tt.id})
		wantError(t, name, deliver(t, c, 1, "a/ssh"), wire.Retry, server.Addr(), tt.words)
	}
	c := newCore(t, CoreConfig{Addresses: []string{server.Addr()}, TLS: me})
	mustDeliver(t, c, 1, "a/ssh")
	mustDeliver(t, c, 2, "a/ssh")
	wantTaken(t, core, "stream p/1/1 a/ssh", "unary p/1/2 a/ssh")
}

// TestCoreTLSFiles: until they can be used, they are read with each connection, so that a person can mend them.
func TestCoreTLSFiles(t *testing.T) {
	t.Parallel()
	for name, store := range map[string]*tlsid.Store{"a store": tlsid.NewStore(), "none": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca := tlsidtest.NewCA(t)
			core := new(sim.Core)
			server, err := core.Start("127.0.0.1:0", serverCreds(t, ca.Issue(t, "core")))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(server.Stop)
			me := ca.Issue(t, "poller")
			if err := os.Rename(me.KeyFile, me.KeyFile+".away"); err != nil {
				t.Fatal(err)
			}
			c := newCore(t, CoreConfig{Addresses: []string{server.Addr()}, TLS: me, Identities: store})
			wantError(t, "no key", deliver(t, c, 1, "a/ssh"), wire.Hold, server.Addr(), me.KeyFile, "no such file")
			if err := os.Rename(me.KeyFile+".away", me.KeyFile); err != nil {
				t.Fatal(err)
			}
			mustDeliver(t, c, 1, "a/ssh")
			wantTaken(t, core, "stream p/1/1 a/ssh")
		})
	}
}

func TestCoreClose(t *testing.T) {
	t.Parallel()
	core := new(sim.Core)
	c := newCore(t, CoreConfig{Addresses: []string{startCore(t, core, "127.0.0.1:0").Addr()}})
	if err := c.Close(); err != nil {
		t.Errorf("Close before the first use: %v", err)
	}
	mustDeliver(t, c, 1, "a/ssh")
	for range 2 {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	mustDeliver(t, c, 2, "a/ssh")
	wantTaken(t, core, "stream p/1/1 a/ssh", "stream p/1/2 a/ssh")
}
