package transport

import (
	"context"
	"net"
	"time"
)

// soonest and latest bound within what time a dead peer is found: a packet or two may be lost, and
// a peer whose kernel has been silent for a minute is dead, however rarely it is asked.
const (
	soonest = 4 * time.Second
	latest  = time.Minute
	maxIdle = 15 * time.Second // the usual; it also keeps firewalls from forgetting the connection
)

// vigil says how the kernel finds out that nobody is at the other end. gRPC's own pings can't do
// that: servers hang up on clients that ping more often than every five minutes.
type vigil struct {
	idle, interval time.Duration // whole seconds
	probes         int
	// unacked is how long what was sent may go without the other kernel's word. On Linux it also takes
	// the place of probes.
	unacked time.Duration
}

// vigilWithin returns how to find a dead peer within a time, or within latest if that is shorter or
// there is none. A tenth of it is left for whatever comes next, so that a run that is due once in that
// time has a new connection the next time.
func vigilWithin(within time.Duration) vigil {
	if within <= 0 || within > latest {
		within = latest
	}
	total := max(soonest, within-within/10)
	v := vigil{idle: wholeSeconds(min(total/2, maxIdle))}
	v.interval = wholeSeconds((total - v.idle) / 3)
	v.probes = max(1, int((total-v.idle)/v.interval))
	end := v.idle + time.Duration(v.probes)*v.interval
	// Half a probe before the last one's time is up, for the kernel looks only when it sends one.
	v.unacked = min(total, end-v.interval/2)
	return v
}

// wholeSeconds rounds down, but not to nothing.
func wholeSeconds(d time.Duration) time.Duration { return max(time.Second, d.Truncate(time.Second)) }

// NetDialer returns the network's dialer, whose connections find a dead peer within a time, from 4 s to 1 min; 0 means a
// minute. On Linux that holds for data that nobody acknowledges, too. Any number of clients may share it.
func NetDialer(findDead time.Duration) Dialer { return dialer(findDead, nil) }

// dialer returns a NetDialer. Names are looked up for each connection, by the resolver, or the usual one if that is nil.
func dialer(within time.Duration, resolver *net.Resolver) Dialer {
	v := vigilWithin(within)
	d := &net.Dialer{
		Resolver: resolver,
		KeepAliveConfig: net.KeepAliveConfig{
			Enable: true, Idle: v.idle, Interval: v.interval, Count: v.probes,
		},
	}
	return func(ctx context.Context, address string) (net.Conn, error) {
		conn, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		// Not before it is connected: a first packet that is lost is sent again only after a second.
		if tcp, ok := conn.(*net.TCPConn); ok {
			boundUnacked(tcp, v.unacked)
		}
		return conn, nil
	}
}
