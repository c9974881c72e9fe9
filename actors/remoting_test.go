package actors_test

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
	"github.com/serviceradar/poller/internal/tlsid"
	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
	"github.com/serviceradar/poller/proto/cluster"
)

// alone is a node that has no lease, and knows one other.
type alone struct{ asked chan machine.NodeID }

var (
	self  = machine.NodeID{Name: "self", Boot: "1"}
	other = machine.NodeID{Name: "other", Boot: "1"}
)

func (a alone) View() *machine.View {
	return &machine.View{Self: self, Members: []machine.Member{{NodeID: other, Remote: "127.0.0.1:1"}, {NodeID: self}}, Size: 3, Majority: 2}
}
func (a alone) Holds(uint64) bool             { return false }
func (a alone) Minority() bool                { return true }
func (a alone) Asked(by machine.NodeID)       { a.asked <- by }
func (a alone) Announce(machine.Announcement) {}

// behindDoor is a node that is reached by remoting, as it is.
type behindDoor struct {
	w       *world
	address string
	asked   chan machine.NodeID
	refused chan string
}

func newBehindDoor(t *testing.T, server *tls.Config) *behindDoor {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &behindDoor{address: l.Addr().String(), asked: make(chan machine.NodeID, 100), refused: make(chan string, 100)}
	_ = l.Close()
	b.w = newWorld(t, settings(1, 1, time.Second, time.Second), func(o *actors.Options) {
		o.Sharing = &actors.Sharing{Cluster: alone{b.asked}, Epoch: time.Now(), Remoting: actors.Remoting{Listen: b.address, Server: server}}
	})
	b.w.hook = func(e actors.Event) {
		if e, ok := e.(actors.RemoteRefused); ok {
			b.refused <- e.What
		}
	}
	b.w.start()
	return b
}

func (b *behindDoor) dial(t *testing.T, creds credentials.TransportCredentials) remote.RemotingClient {
	t.Helper()
	conn, err := grpc.NewClient(b.address, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return remote.NewRemotingClient(conn)
}

// stream connects as a node does.
func (b *behindDoor) stream(t *testing.T, creds credentials.TransportCredentials) (remote.Remoting_ReceiveClient, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	t.Cleanup(cancel)
	stream, err := b.dial(t, creds).Receive(ctx)
	if err != nil {
		return nil, err
	}
	hello := &remote.RemoteMessage{MessageType: &remote.RemoteMessage_ConnectRequest{ConnectRequest: &remote.ConnectRequest{
		ConnectionType: &remote.ConnectRequest_ServerConnection{ServerConnection: &remote.ServerConnection{SystemId: "x", Address: "127.0.0.1:1"}},
	}}}
	if err := stream.Send(hello); err != nil {
		return nil, err
	}
	_, err = stream.Recv()
	return stream, err
}

// batch is one message for an actor.
func batch(target *actor.PID, message proto.Message) *remote.MessageBatch {
	body, err := proto.Marshal(message)
	if err != nil {
		panic(err)
	}
	return &remote.MessageBatch{
		TypeNames: []string{string(proto.MessageName(message))}, Targets: []*actor.PID{target},
		Envelopes: []*remote.MessageEnvelope{{MessageData: body}},
	}
}

func ask(t *testing.T) *cluster.Envelope {
	t.Helper()
	body, err := proto.Marshal(&cluster.Ask{From: &cluster.Node{Name: other.Name, Boot: other.Boot}, Era: 1, Round: 1, Agents: []string{"a000"}})
	if err != nil {
		t.Fatal(err)
	}
	return &cluster.Envelope{Kind: 1, Version: 1, Body: body}
}

// Nodes are heard, strangers are not. There is one node for all of it, because the framework's remoting has what is shared by all in
// a process.
func TestDoor(t *testing.T) {
	t.Parallel()
	ca := tlsidtest.NewCA(t)
	server, err := tlsid.Server(ca.Issue(t, "self"))
	if err != nil {
		t.Fatal(err)
	}
	b := newBehindDoor(t, server)
	defer b.w.stop()
	strangersStayOut(t, b, ca)
	onlyEnvelopesGetIn(t, b, ca)
	if err := b.w.sys.Alive(t.Context()); err != nil {
		t.Error(err)
	}
}

// A System that can't listen for others says so, and leaves nothing behind. It is tried before the parallel tests, because the framework's
// remoting has what is shared by all in a process.
func TestNobodyCanListen(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	address := l.Addr().String()
	before := goleak.IgnoreCurrent()
	w := newWorld(t, settings(1, 1, time.Second, time.Second), func(o *actors.Options) {
		o.Sharing = &actors.Sharing{Cluster: alone{}, Epoch: time.Now(), Remoting: actors.Remoting{Listen: address}}
	})
	_, err = actors.Start(w.o)
	if err == nil || !strings.Contains(err.Error(), "listen for other nodes at cluster.remote "+address) || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("with another listener at %s: %v", address, err)
	}
	goleak.VerifyNone(t, before)
}

// wantRefused waits until n things were refused.
func (b *behindDoor) wantRefused(t *testing.T, n int) []string {
	t.Helper()
	var refused []string
	for len(refused) < n {
		select {
		case what := <-b.refused:
			refused = append(refused, what)
		case <-time.After(10 * time.Second):
			t.Fatalf("%d were refused, want %d: %q", len(refused), n, refused)
		}
	}
	return refused
}

// credentialsOf are those of a client.
func credentialsOf(t *testing.T, id check.TLS) credentials.TransportCredentials {
	t.Helper()
	config, err := tlsid.Client(id, "self")
	if err != nil {
		t.Fatal(err)
	}
	return credentials.NewTLS(config)
}

// What a node may send is envelopes for member. Whatever else comes changes nothing, is told, and does not keep envelopes behind it from being heard.
func onlyEnvelopesGetIn(t *testing.T, b *behindDoor, ca *tlsidtest.CA) {
	t.Helper()
	node := credentialsOf(t, ca.Issue(t, "other"))
	stream, err := b.stream(t, node)
	if err != nil {
		t.Fatal(err)
	}
	member := actor.NewPID(b.address, "root/member")
	unknown := batch(member, ask(t))
	unknown.TypeNames[0] = "no.such.Message"
	json := batch(member, ask(t))
	json.Envelopes[0].SerializerId = 1
	beyond := batch(member, ask(t))
	beyond.Envelopes[0].TypeId, beyond.Envelopes[0].Target = 7, -3
	garbage := batch(member, ask(t))
	garbage.Envelopes[0].MessageData = []byte{0xff}
	for name, m := range map[string]*remote.MessageBatch{
		"stop of root":       batch(actor.NewPID(b.address, "root"), new(actor.Stop)),
		"stop of the poller": batch(actor.NewPID(b.address, "root/poller"), new(actor.Stop)),
		"stop of member":     batch(member, new(actor.Stop)),
		"poison":             batch(member, new(actor.PoisonPill)),
		"to another actor":   batch(actor.NewPID(b.address, "root/agent/a000"), ask(t)),
		"to an alias":        batch(actor.NewPID("localhost:1", "root/member"), ask(t)),
		"unknown type":       unknown,
		"other serializer":   json,
		"indices":            beyond,
	} {
		if err := stream.Send(&remote.RemoteMessage{MessageType: &remote.RemoteMessage_MessageBatch{MessageBatch: m}}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		sent := &remote.RemoteMessage{MessageType: &remote.RemoteMessage_MessageBatch{MessageBatch: batch(member, ask(t))}}
		if err := stream.Send(sent); err != nil {
			t.Fatalf("after %s: %v", name, err)
		}
		select {
		case by := <-b.asked:
			if by != other {
				t.Errorf("after %s %v asked", name, by)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("after %s an ask was not heard", name)
		}
	}
	b.wantRefused(t, 9)
	for name, call := range map[string]func(remote.RemotingClient) error{
		"ListProcesses": func(c remote.RemotingClient) error {
			_, err := c.ListProcesses(t.Context(), new(remote.ListProcessesRequest))
			return err
		},
		"GetProcessDiagnostics": func(c remote.RemotingClient) error {
			_, err := c.GetProcessDiagnostics(t.Context(), new(remote.GetProcessDiagnosticsRequest))
			return err
		},
	} {
		if err := call(b.dial(t, node)); status.Code(err) != codes.Unimplemented {
			t.Errorf("%s: %v, want that it is refused", name, err)
		}
	}
	_ = stream.Send(&remote.RemoteMessage{MessageType: &remote.RemoteMessage_MessageBatch{MessageBatch: garbage}}) // ends the stream, and nothing else
	if err := b.w.sys.Alive(t.Context()); err != nil {
		t.Error(err)
	}
}

// Who has no certificate of the cluster's authority is not heard, and told.
func strangersStayOut(t *testing.T, b *behindDoor, ca *tlsidtest.CA) {
	t.Helper()
	stranger := tlsidtest.NewCA(t).Issue(t, "self")
	stranger.CAFile = ca.File // it trusts us, and we don't trust it
	for name, creds := range map[string]credentials.TransportCredentials{
		"plaintext":         insecure.NewCredentials(),
		"no certificate":    credentialsOf(t, check.TLS{Mode: check.TLSServer, CAFile: ca.File}),
		"another authority": credentialsOf(t, stranger),
	} {
		if _, err := b.stream(t, creds); err == nil {
			t.Errorf("with %s a stranger was let in", name)
		}
	}
	if told := strings.Join(b.wantRefused(t, 3), "\n"); strings.Count(told, "a connection from 127.0.0.1:") < 3 {
		t.Errorf("it was told:\n%s", told)
	}
}
