package probe

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

const (
	maxPings    = 100
	minInterval = 10 * time.Millisecond
	// pingPatience is how long answers may take, counted from the last request.
	pingPatience = 3 * time.Second
	// tokenSize is how many bytes tell our answers from those of others.
	tokenSize   = 16
	maxPingSize = 65507 // of an IPv4 packet
)

type icmpOptions struct {
	Target   string   `json:"target"`
	Count    int      `json:"count"`
	Interval duration `json:"interval"`
	Size     int      `json:"size"`
	// MaxLoss is in percent; nil is whatever is short of everything.
	MaxLoss *float64 `json:"max_loss"`
}

type icmpMessage struct {
	Host         string  `json:"host"`
	ResponseTime int64   `json:"response_time"` // ns, the mean; if nothing answered, how long we waited
	PacketLoss   float64 `json:"packet_loss"`   // percent
	Available    bool    `json:"available"`
	Address      string  `json:"address"`
	Sent         int     `json:"sent"`
	Received     int     `json:"received"`
	RTT          *rtts   `json:"rtt,omitempty"`
	Error        string  `json:"error,omitempty"`
}

// rtts are how long answers took, in nanoseconds.
type rtts struct {
	Min    int64 `json:"min"`
	Avg    int64 `json:"avg"`
	Max    int64 `json:"max"`
	StdDev int64 `json:"stddev"`
}

// icmpFailure is told of a target without an address.
type icmpFailure struct {
	Error     string `json:"error"`
	Host      string `json:"host"`
	Available bool   `json:"available"`
}

func parseICMP(details string) (icmpOptions, error) {
	o := icmpOptions{Count: 3, Interval: duration(200 * time.Millisecond), Size: 56}
	if err := parse(details, &o.Target, &o); err != nil {
		return o, err
	}
	o.Target = strings.TrimSuffix(strings.TrimPrefix(o.Target, "["), "]")
	if _, err := netip.ParseAddr(o.Target); err != nil && (o.Target == "" || strings.ContainsAny(o.Target, " \t\r\n/:@[]")) {
		return o, fmt.Errorf("target %q: it is not a host: write 10.0.0.1, host.example or 2001:db8::1", o.Target)
	}
	switch {
	case o.Count < 1 || o.Count > maxPings:
		return o, fmt.Errorf("count is %d: use 1 to %d", o.Count, maxPings)
	case time.Duration(o.Interval) < minInterval:
		return o, fmt.Errorf("interval is %v: use %v or more", time.Duration(o.Interval), minInterval)
	case o.Size < tokenSize || o.Size > maxPingSize:
		return o, fmt.Errorf("size is %d: use %d to %d bytes", o.Size, tokenSize, maxPingSize)
	case o.MaxLoss != nil && (*o.MaxLoss < 0 || *o.MaxLoss > 100):
		return o, fmt.Errorf("max_loss is %v: use a percentage from 0 to 100", *o.MaxLoss)
	}
	return o, nil
}

// ICMP pings the host in Details: with a socket for pings if the system lets this process have one, else with a raw
// one. Available is what answers at least once, or loses no more than max_loss. It waits for answers until 3 s after
// the last request.
func ICMP(ctx context.Context, target Target) (Result, error) {
	o, err := parseICMP(target.Details)
	if err != nil {
		return Result{}, err
	}
	began := time.Now()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", o.Target)
	took := time.Since(began)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return Result{}, fmt.Errorf("ping %s: %w", o.Target, ctx.Err())
	case err != nil:
		return result(false, took, icmpFailure{Error: fmt.Sprintf("ping %s: %s", o.Target, explain(err, took)), Host: o.Target})
	}
	ip := ips[0].Unmap()
	if ip.IsMulticast() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return Result{}, fmt.Errorf("ping %s: %s is the address of many: name one host", o.Target, ip)
	}
	p, err := newPinger(ip, o)
	if err != nil {
		return Result{}, fmt.Errorf("ping %s: %w", o.Target, err)
	}
	// A wait for an answer knows of no context.
	stop := context.AfterFunc(ctx, func() { _ = p.conn.Close() })
	p.run(ctx)
	stop()
	_ = p.conn.Close() // nothing is left to be sent
	if errors.Is(ctx.Err(), context.Canceled) {
		return Result{}, fmt.Errorf("ping %s: %w", o.Target, ctx.Err())
	}
	return p.result(time.Since(began))
}

// pinger is one run of pings. All of it is in one goroutine.
type pinger struct {
	o     icmpOptions
	ip    netip.Addr
	conn  *icmp.PacketConn
	raw   bool
	token []byte
	id    int // of a raw socket's requests; the kernel writes in its own for a socket for pings

	sentAt  []time.Time // by sequence; zero if it could not be sent, or is answered
	missing int         // answers that may still come
	rtts    []time.Duration
	sendErr error // the last
}

func newPinger(ip netip.Addr, o icmpOptions) (*pinger, error) {
	p := &pinger{o: o, ip: ip, token: make([]byte, tokenSize)}
	_, _ = rand.Read(p.token) // never fails
	p.id = int(p.token[0])<<8 | int(p.token[1])
	ping, raw, local := "udp4", "ip4:icmp", "0.0.0.0"
	if ip.Is6() {
		ping, raw, local = "udp6", "ip6:ipv6-icmp", "::"
	}
	conn, pingErr := icmp.ListenPacket(ping, local)
	if pingErr != nil {
		var rawErr error
		if conn, rawErr = icmp.ListenPacket(raw, local); rawErr != nil {
			return nil, noSocket(pingErr, rawErr)
		}
		p.raw = true
	}
	p.conn = conn
	if p.raw {
		p.filter()
	}
	return p, nil
}

func noSocket(pingErr, rawErr error) error {
	err := fmt.Errorf("the system gives the checker neither a socket for pings (%w) nor a raw one (%w)", pingErr, rawErr)
	if errors.Is(rawErr, os.ErrPermission) {
		err = fmt.Errorf("%w: put its group into the sysctl net.ipv4.ping_group_range, or give it the capability CAP_NET_RAW", err)
	}
	return err
}

// filter keeps all but answers away from a raw socket, which else hears whatever ICMP this machine gets. Where the
// system can't do that, answered sorts them out.
func (p *pinger) filter() {
	if c := p.conn.IPv4PacketConn(); c != nil {
		var f ipv4.ICMPFilter
		f.SetAll(true)
		f.Accept(ipv4.ICMPTypeEchoReply)
		_ = c.SetICMPFilter(&f)
	}
	if c := p.conn.IPv6PacketConn(); c != nil {
		var f ipv6.ICMPFilter
		f.SetAll(true)
		f.Accept(ipv6.ICMPTypeEchoReply)
		_ = c.SetICMPFilter(&f)
	}
}

// run sends the requests and hears their answers, until all are there, patience is over, or ctx is.
func (p *pinger) run(ctx context.Context) {
	began := time.Now()
	interval := p.interval(ctx, began)
	for seq := range p.o.Count {
		if ctx.Err() != nil {
			return
		}
		p.send(seq)
		if seq < p.o.Count-1 {
			p.hear(began.Add(time.Duration(seq+1)*interval), true)
		}
	}
	p.hear(time.Now().Add(pingPatience), false)
}

// interval is that of the options, or less if the last request would be sent in the second half of the time there is.
func (p *pinger) interval(ctx context.Context, now time.Time) time.Duration {
	interval := time.Duration(p.o.Interval)
	deadline, ok := ctx.Deadline()
	if gaps := time.Duration(p.o.Count - 1); ok && gaps > 0 {
		interval = min(interval, max(deadline.Sub(now)/2/gaps, 0))
	}
	return interval
}

func (p *pinger) send(seq int) {
	kind, dst := icmp.Type(ipv4.ICMPTypeEcho), net.Addr(&net.UDPAddr{IP: p.ip.AsSlice(), Zone: p.ip.Zone()})
	if p.ip.Is6() {
		kind = ipv6.ICMPTypeEchoRequest
	}
	if p.raw {
		dst = &net.IPAddr{IP: p.ip.AsSlice(), Zone: p.ip.Zone()}
	}
	data := append(slices.Clone(p.token), make([]byte, p.o.Size-tokenSize)...)
	request, err := (&icmp.Message{Type: kind, Body: &icmp.Echo{ID: p.id, Seq: seq, Data: data}}).Marshal(nil)
	var at time.Time
	if err == nil {
		at = time.Now()
		_, err = p.conn.WriteTo(request, dst)
	}
	if err != nil {
		p.sendErr, at = err, time.Time{}
	} else {
		p.missing++
	}
	p.sentAt = append(p.sentAt, at)
}

// hear takes answers until a time; if it need not be awaited, no longer than there are some to come.
func (p *pinger) hear(until time.Time, await bool) {
	if err := p.conn.SetReadDeadline(until); err != nil {
		return
	}
	buffer := make([]byte, p.o.Size+64)
	for failures := 0; await || p.missing > 0; {
		n, _, err := p.conn.ReadFrom(buffer)
		if err == nil {
			p.answered(buffer[:n], time.Now())
			continue
		}
		// What is neither the end of the time nor of the context is the news that a request came to nothing: answers to
		// others may follow.
		failures++
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) || failures > p.o.Count {
			return
		}
	}
}

// answered takes an answer, if that is what it is, once.
func (p *pinger) answered(packet []byte, now time.Time) {
	protocol := ipv4.ICMPTypeEchoReply.Protocol()
	if p.ip.Is6() {
		protocol = ipv6.ICMPTypeEchoReply.Protocol()
	}
	message, err := icmp.ParseMessage(protocol, packet)
	if err != nil || message.Type != ipv4.ICMPTypeEchoReply && message.Type != ipv6.ICMPTypeEchoReply {
		return
	}
	echo, ok := message.Body.(*icmp.Echo)
	if !ok || !bytes.HasPrefix(echo.Data, p.token) || echo.Seq >= len(p.sentAt) || p.sentAt[echo.Seq].IsZero() {
		return
	}
	p.rtts = append(p.rtts, now.Sub(p.sentAt[echo.Seq]))
	p.sentAt[echo.Seq] = time.Time{}
	p.missing--
}

func (p *pinger) result(took time.Duration) (Result, error) {
	// What could not be sent is as lost as what was not answered.
	tried, received := max(len(p.sentAt), 1), len(p.rtts)
	m := icmpMessage{
		Host: p.o.Target, Address: p.ip.String(), Sent: received + p.missing, Received: received,
		PacketLoss: float64(tried-received) / float64(tried) * 100, RTT: summary(p.rtts),
	}
	m.Available = received > 0
	if limit := p.o.MaxLoss; limit != nil {
		m.Available = m.PacketLoss <= *limit
	}
	if m.RTT != nil {
		took = time.Duration(m.RTT.Avg)
	}
	m.ResponseTime = took.Nanoseconds()
	switch {
	case m.Available:
	case received > 0:
		m.Error = fmt.Sprintf("ping %s: %d of %d requests were not answered: more than max_loss, %v %%",
			p.o.Target, tried-received, tried, *p.o.MaxLoss)
	case errors.Is(p.sendErr, os.ErrPermission):
		m.Error = fmt.Sprintf("ping %s: this machine lets nothing be sent there (%v): look at its firewall and its routes",
			p.o.Target, p.sendErr)
	case p.sendErr != nil:
		m.Error = fmt.Sprintf("ping %s: %s", p.o.Target, explain(p.sendErr, took))
	default:
		m.Error = fmt.Sprintf("ping %s: no answer to %d requests within %v: is the host up, and does a firewall drop pings?",
			p.o.Target, len(p.sentAt), took.Round(time.Millisecond))
	}
	return result(m.Available, took, m)
}

// summary is nil of none.
func summary(took []time.Duration) *rtts {
	if len(took) == 0 {
		return nil
	}
	var sum, squares float64
	for _, d := range took {
		sum += float64(d)
	}
	mean := sum / float64(len(took))
	for _, d := range took {
		squares += (float64(d) - mean) * (float64(d) - mean)
	}
	return &rtts{
		Min: slices.Min(took).Nanoseconds(), Avg: int64(mean), Max: slices.Max(took).Nanoseconds(),
		StdDev: int64(math.Sqrt(squares / float64(len(took)))),
	}
}
