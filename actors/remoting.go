package actors

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/proto/cluster"
)

// The framework's remoting, as far as it is used: envelopes from the member actor of one node to that of another. Whatever else a
// peer sends is dropped before the framework sees it, which would end the process at some of it, and stop any actor at a peer's wish.

// Remoting is where the actors of other nodes reach ours.
type Remoting struct {
	// Listen is an ip:port of this machine, at which others reach it.
	Listen string
	// Server is the configuration of its listener, nil for plaintext; Client returns, for each connection to another node, that for it.
	Server *tls.Config
	Client func(host string) (*tls.Config, error)
	// Tune sets the options of a TLS connection's socket; nil leaves them as they are.
	Tune func(net.Conn)
}

const (
	// maxEnvelopes bounds what comes at once, in bytes: with the framework's default, more ends the connection without a word.
	maxEnvelopes = 64 << 20
	// remoteQueue is how many messages wait for a peer; the framework's default takes 16 MB for each.
	remoteQueue = 1024
	// A peer that does not answer is found after remotePing and remotePong.
	remotePing = 10 * time.Second
	remotePong = 2 * time.Second
)

// startRemote has the actor system be reached by others. It has to be called before any address of an actor is made.
func startRemote(system *actor.ActorSystem, o Remoting, observe Observer) (*remote.Remote, error) {
	address, err := netip.ParseAddrPort(o.Listen)
	if err != nil {
		return nil, fmt.Errorf("cluster.remote %q: %w", o.Listen, err)
	}
	host, number := address.Addr().String(), int(address.Port())
	if address.Addr().Is6() {
		host = "[" + host + "]" // as the framework joins it with the port
	}
	if o.Tune == nil {
		o.Tune = func(net.Conn) {}
	}
	door := &door{address: o.Listen, observe: observe, tune: o.Tune}
	server, client := insecure.NewCredentials(), insecure.NewCredentials()
	if o.Server != nil {
		server = &guarded{TransportCredentials: credentials.NewTLS(o.Server), door: door}
		client = &renewing{config: o.Client, tune: o.Tune, TransportCredentials: credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12})}
	}
	config := remote.Configure(host, number,
		remote.WithServerOptions(
			grpc.Creds(server), grpc.MaxRecvMsgSize(maxEnvelopes),
			grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: remotePing / 2, PermitWithoutStream: true}),
			grpc.StreamInterceptor(door.stream), grpc.UnaryInterceptor(door.unary),
		),
		remote.WithDialOptions(
			grpc.WithTransportCredentials(client), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxEnvelopes)),
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: remotePing, Timeout: remotePong, PermitWithoutStream: true}),
			grpc.WithNoProxy(), grpc.WithDisableServiceConfig(),
		),
		remote.WithEndpointWriterQueueSize(remoteQueue),
	)
	config.MaxRetryCount = 1 // with the framework's default, connections leak
	r := remote.NewRemote(system, config)
	if err := listen(r); err != nil {
		return nil, fmt.Errorf("listen for other nodes at cluster.remote %s: %w: is another process there, or is the address not of this machine?", o.Listen, err)
	}
	return r, nil
}

// listen starts the framework's remoting, which panics if it can't listen. To try that first would not do: another process may come in between.
func listen(r *remote.Remote) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	r.Start()
	return nil
}

// guarded tells of those whom the server's credentials refuse.
type guarded struct {
	credentials.TransportCredentials
	door *door
}

func (g *guarded) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	g.door.tune(conn)
	encrypted, info, err := g.TransportCredentials.ServerHandshake(conn)
	if err != nil {
		g.door.refuse(fmt.Sprintf("a connection from %s: %v", conn.RemoteAddr(), err))
	}
	return encrypted, info, err
}

func (g *guarded) Clone() credentials.TransportCredentials {
	return &guarded{TransportCredentials: g.TransportCredentials.Clone(), door: g.door}
}

// renewing are credentials that are looked up for each connection, so that renewed certificates count for the next.
type renewing struct {
	credentials.TransportCredentials
	config func(host string) (*tls.Config, error)
	tune   func(net.Conn)
}

func (r *renewing) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	r.tune(conn)
	host := authority
	if h, _, err := net.SplitHostPort(authority); err == nil {
		host = h
	}
	config, err := r.config(host)
	if err != nil {
		return nil, nil, err
	}
	return credentials.NewTLS(config).ClientHandshake(ctx, config.ServerName, conn) // gRPC goes by this, not by the one in the configuration
}

func (r *renewing) Clone() credentials.TransportCredentials {
	return &renewing{config: r.config, tune: r.tune, TransportCredentials: r.TransportCredentials.Clone()}
}

// door lets envelopes for member in, and nothing else.
type door struct {
	address string // ours
	observe Observer
	tune    func(net.Conn)
	refused atomic.Uint64
}

func (d *door) unary(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
	d.refuse("a call that no node makes")
	return nil, status.Error(codes.Unimplemented, "a node answers envelopes only")
}

func (d *door) stream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	defer func() {
		if r := recover(); r != nil {
			d.refuse(fmt.Sprint("what the framework fails at: ", r))
			err = status.Error(codes.Internal, "the stream could not be read")
		}
	}()
	return handler(srv, &doorway{ServerStream: stream, door: d})
}

func (d *door) refuse(what string) {
	d.observe(RemoteRefused{What: what, Total: d.refused.Add(1)})
}

type doorway struct {
	grpc.ServerStream
	*door
}

var errNoEnvelope = errors.New("that is nothing that a node sends")

// RecvMsg drops what is not for member before the framework sees it.
func (w *doorway) RecvMsg(m any) error {
	if err := w.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	message, ok := m.(*remote.RemoteMessage)
	if !ok {
		w.refuse(fmt.Sprintf("a %T", m))
		return errNoEnvelope
	}
	switch message.GetMessageType().(type) {
	case *remote.RemoteMessage_ConnectRequest:
		if message.GetConnectRequest().GetServerConnection() == nil {
			w.refuse("a connection that is no node's")
			return errNoEnvelope
		}
	case *remote.RemoteMessage_MessageBatch:
		w.sift(message.GetMessageBatch())
	default:
		w.refuse("a message of no known kind")
		return errNoEnvelope
	}
	return nil
}

// sift leaves of a batch what is an envelope for member.
func (w *doorway) sift(batch *remote.MessageBatch) {
	name := string(proto.MessageName(new(cluster.Envelope)))
	kept := batch.GetEnvelopes()[:0]
	for _, e := range batch.GetEnvelopes() {
		types, targets := batch.GetTypeNames(), batch.GetTargets()
		switch {
		case uint32(e.GetTypeId()) >= uint32(len(types)) || types[e.GetTypeId()] != name || e.GetSerializerId() != 0: //nolint:gosec // a negative one becomes large
			w.refuse("a message that is no envelope")
		case uint32(e.GetTarget()) >= uint32(len(targets)) || targets[e.GetTarget()].GetId() != memberPID || targets[e.GetTarget()].GetAddress() != w.address: //nolint:gosec // as above
			w.refuse("a message for another actor than " + memberPID)
		default:
			e.Sender, e.MessageHeader = 0, nil // nobody goes by them
			kept = append(kept, e)
		}
	}
	batch.Envelopes = kept
}
