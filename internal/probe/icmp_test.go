package probe

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
)

// newTestPinger skips the test where nobody may ping, and with PROBE_SERVERS=required, as CI has it, only where there is no IPv6.
func newTestPinger(t *testing.T, ip string, o icmpOptions) *pinger {
	t.Helper()
	p, err := newPinger(netip.MustParseAddr(ip), o)
	switch {
	case err != nil && !netip.MustParseAddr(ip).Is6() && os.Getenv("PROBE_SERVERS") == "required":
		t.Fatalf("this machine lets the test not ping %s: %v", ip, err)
	case err != nil:
		t.Skipf("this machine lets the test not ping %s: %v", ip, err)
	}
	t.Cleanup(func() { _ = p.conn.Close() })
	return p
}

func TestICMP(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"127.0.0.1", "::1", "localhost"} {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			if ip, err := netip.ParseAddr(host); err == nil {
				p := newTestPinger(t, host, icmpOptions{Count: 1, Size: 56})
				if p.send(0); p.sendErr != nil && ip.Is6() {
					t.Skipf("this machine has no IPv6: %v", p.sendErr)
				}
			} else {
				newTestPinger(t, "127.0.0.1", icmpOptions{})
			}
			details := `{"target": "` + host + `", "count": 4, "interval": "10ms", "size": 1000, "max_loss": 0}`
			r, err := ICMP(t.Context(), Target{Details: details})
			if err != nil {
				t.Fatal(err)
			}
			var m icmpMessage
			if err := json.Unmarshal(r.Message, &m); err != nil {
				t.Fatal(err)
			}
			if !r.Available || !m.Available || m.Host != host || m.PacketLoss != 0 || m.Sent != 4 || m.Received != 4 || m.Error != "" {
				t.Errorf("%s", r.Message)
			}
			if m.RTT == nil || m.RTT.Min <= 0 || m.RTT.Min > m.RTT.Avg || m.RTT.Avg > m.RTT.Max || m.RTT.StdDev > m.RTT.Max {
				t.Errorf("times don't add up: %s", r.Message)
			}
			if m.ResponseTime != m.RTT.Avg || r.ResponseTime.Nanoseconds() != m.RTT.Avg {
				t.Errorf("the response time is not the mean: %v, %s", r.ResponseTime, r.Message)
			}
			if ip := netip.MustParseAddr(m.Address); !ip.IsLoopback() {
				t.Errorf("it was %s that was asked", ip)
			}
		})
	}
}

// Requests that would be sent for an hour are sent within half of the time that there is.
func TestICMPFitsTheDeadline(t *testing.T) {
	t.Parallel()
	newTestPinger(t, "127.0.0.1", icmpOptions{})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	r, err := ICMP(ctx, Target{Details: `{"target": "127.0.0.1", "count": 20, "interval": "1h"}`})
	if m := unmarshal(t, r); err != nil || !r.Available || m["received"] != 20.0 || ctx.Err() != nil {
		t.Errorf("%s, %v; context: %v", r.Message, err, ctx.Err())
	}
}

func TestICMPEndsWithItsContext(t *testing.T) {
	t.Parallel()
	newTestPinger(t, "127.0.0.1", icmpOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	defer time.AfterFunc(50*time.Millisecond, cancel).Stop()
	if r, err := ICMP(ctx, Target{Details: `{"target": "127.0.0.1", "interval": "1h"}`}); !errors.Is(err, context.Canceled) {
		t.Errorf("taken back: %s, %v; want an error", r.Message, err)
	}
	late, cancelLate := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancelLate()
	r, err := ICMP(late, Target{Details: "127.0.0.1"})
	wantDown(t, r, err, "ping 127.0.0.1: no answer")
}

// Who could send nothing does not wait for answers.
func TestPingerCanNotSend(t *testing.T) {
	t.Parallel()
	p := newTestPinger(t, "127.0.0.1", icmpOptions{Target: "host.example", Count: 2, Size: 56, Interval: duration(minInterval)})
	p.ip = netip.IPv6Loopback() // to which there is no way from its socket
	began := time.Now()
	p.run(t.Context())
	if took := time.Since(began); took < minInterval || took >= pingPatience {
		t.Errorf("it took %v to find out that nothing can be sent", took)
	}
	r, err := p.result(time.Since(began))
	wantDown(t, r, err, "ping host.example: ", "non-IPv4 address")
	if m := unmarshal(t, r); m["packet_loss"] != 100.0 || m["rtt"] != nil || m["sent"] != 0.0 || m["received"] != 0.0 {
		t.Errorf("%s", r.Message)
	}
}

// A host that does not answer takes as long as the context lets it, at most.
func TestPingerSilence(t *testing.T) {
	t.Parallel()
	p := newTestPinger(t, "127.0.0.1", icmpOptions{Count: 1})
	p.missing = 1
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = p.conn.Close() })()
	p.hear(time.Now().Add(time.Hour), false)
	if ctx.Err() == nil {
		t.Error("it ended before its time")
	}
	p = newTestPinger(t, "127.0.0.1", icmpOptions{Count: 1})
	p.missing = 1
	began := time.Now()
	p.hear(began.Add(50*time.Millisecond), false)
	if took := time.Since(began); took < 50*time.Millisecond {
		t.Errorf("it waited for %v", took)
	}
}

func TestICMPNotOneHost(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"255.255.255.255", "224.0.0.1", "ff02::1", "::ffff:224.0.0.1"} {
		if r, err := ICMP(t.Context(), Target{Details: host}); err == nil || !strings.Contains(err.Error(), "is the address of many") {
			t.Errorf("%s: %s, %v; want an error", host, r.Message, err)
		}
	}
}

func TestICMPUnknownName(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	r, err := ICMP(ctx, Target{Details: "host.invalid"})
	wantDown(t, r, err, "ping host.invalid: ")
	if m := unmarshal(t, r); m["host"] != "host.invalid" || m["available"] != false {
		t.Errorf("%s", r.Message)
	}
}

// What others get is not ours, and an answer that comes twice is one.
func TestPingerAnswered(t *testing.T) {
	t.Parallel()
	token := []byte(strings.Repeat("t", tokenSize))
	packet := func(kind icmp.Type, seq int, data []byte) []byte {
		packet, err := (&icmp.Message{Type: kind, Body: &icmp.Echo{ID: 1, Seq: seq, Data: data}}).Marshal(nil)
		if err != nil {
			t.Fatal(err)
		}
		return packet
	}
	for name, test := range map[string]struct {
		packets [][]byte
		want    int
	}{
		"answers":         {[][]byte{packet(ipv4.ICMPTypeEchoReply, 0, token), packet(ipv4.ICMPTypeEchoReply, 1, append(token, 0))}, 2},
		"twice":           {[][]byte{packet(ipv4.ICMPTypeEchoReply, 1, token), packet(ipv4.ICMPTypeEchoReply, 1, token)}, 1},
		"not asked":       {[][]byte{packet(ipv4.ICMPTypeEchoReply, 3, token), packet(ipv4.ICMPTypeEchoReply, 65535, token)}, 0},
		"not sent":        {[][]byte{packet(ipv4.ICMPTypeEchoReply, 2, token)}, 0},
		"another's":       {[][]byte{packet(ipv4.ICMPTypeEchoReply, 0, []byte(strings.Repeat("x", tokenSize)))}, 0},
		"short":           {[][]byte{packet(ipv4.ICMPTypeEchoReply, 0, token[1:])}, 0},
		"our own request": {[][]byte{packet(ipv4.ICMPTypeEcho, 0, token)}, 0},
		"rubbish":         {[][]byte{nil, {0}, []byte("nonsense")}, 0},
	} {
		now := time.Now()
		p := &pinger{
			ip: netip.MustParseAddr("127.0.0.1"), token: token, missing: 2,
			sentAt: []time.Time{now.Add(-time.Second), now.Add(-time.Second), {}},
		}
		for _, packet := range test.packets {
			p.answered(packet, now)
		}
		if len(p.rtts) != test.want || p.missing != 2-test.want || test.want > 0 && slices.Max(p.rtts) != time.Second {
			t.Errorf("%s: %v, %d missing; want %d answers after 1s", name, p.rtts, p.missing, test.want)
		}
	}
}

func TestPingerResult(t *testing.T) {
	t.Parallel()
	half, all := 50.0, 100.0
	limited := func(limit *float64) icmpOptions { return icmpOptions{MaxLoss: limit} }
	four, one := make([]time.Time, 4), make([]time.Time, 1)
	for name, test := range map[string]struct {
		pinger    pinger
		available bool
		loss      float64
		want      string
	}{
		"none":            {pinger{sentAt: four}, false, 100, "no answer to 4 requests within 2s: is the host up"},
		"nothing sent":    {pinger{}, false, 100, "no answer to 0 requests"},
		"one of four":     {pinger{sentAt: four, rtts: []time.Duration{1}}, true, 75, ""},
		"too few":         {pinger{o: limited(&half), sentAt: four, rtts: []time.Duration{1}}, false, 75, "3 of 4 requests were not answered: more than max_loss, 50"},
		"just enough":     {pinger{o: limited(&half), sentAt: four, rtts: []time.Duration{1, 1}}, true, 50, ""},
		"does not matter": {pinger{o: limited(&all), sentAt: four}, true, 100, ""},
		"not allowed":     {pinger{sentAt: one, sendErr: syscall.EACCES}, false, 100, "lets nothing be sent there (permission denied)"},
		"no route":        {pinger{sentAt: one, sendErr: syscall.ENETUNREACH}, false, 100, "no route to the host"},
	} {
		r, err := test.pinger.result(2 * time.Second)
		m := unmarshal(t, r)
		reason, _ := m["error"].(string)
		if err != nil || r.Available != test.available || m["available"] != test.available || m["packet_loss"] != test.loss ||
			!strings.Contains(reason, test.want) || (reason == "") != test.available {
			t.Errorf("%s: %s, %v", name, r.Message, err)
		}
	}
}

func TestNoSocket(t *testing.T) {
	t.Parallel()
	const advice = "net.ipv4.ping_group_range, or give it the capability CAP_NET_RAW"
	if err := noSocket(syscall.EACCES, syscall.EPERM); !strings.Contains(err.Error(), advice) {
		t.Errorf("%v; want advice", err)
	}
	if err := noSocket(syscall.EMFILE, syscall.EMFILE); strings.Contains(err.Error(), advice) || !errors.Is(err, syscall.EMFILE) {
		t.Errorf("%v; that is not a matter of permissions", err)
	}
}

func TestSummary(t *testing.T) {
	t.Parallel()
	got := summary([]time.Duration{2000, 4000, 4000, 4000, 5000, 5000, 7000, 9000})
	if *got != (rtts{Min: 2000, Avg: 5000, Max: 9000, StdDev: 2000}) {
		t.Errorf("%+v", got)
	}
}

func TestParseICMP(t *testing.T) {
	t.Parallel()
	for details, want := range map[string]string{
		"":                                    "it is not a host",
		"127.0.0.1:22":                        "it is not a host: write 10.0.0.1, host.example or 2001:db8::1",
		"https://host.example":                "it is not a host",
		"two words":                           "it is not a host",
		`{"target": "h", "count": 0}`:         "count is 0: use 1 to 100",
		`{"target": "h", "count": 101}`:       "count is 101",
		`{"target": "h", "interval": "9ms"}`:  "interval is 9ms: use 10ms or more",
		`{"target": "h", "size": 15}`:         "size is 15: use 16 to 65507 bytes",
		`{"target": "h", "size": 65508}`:      "size is 65508",
		`{"target": "h", "max_loss": 100.5}`:  "max_loss is 100.5: use a percentage from 0 to 100",
		`{"target": "h", "max_loss": -1}`:     "max_loss is -1",
		`{"target": "h", "packets": 3}`:       `unknown field "packets"`,
		`{"target": "h", "interval": "fast"}`: `"fast" is no duration`,
	} {
		if r, err := ICMP(t.Context(), Target{Details: details}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %s, %v; want %s", details, r.Message, err, want)
		}
	}
	for details, want := range map[string]string{"[::1]": "::1", "fe80::1%lo": "fe80::1%lo", " host.example ": "host.example"} {
		o, err := parseICMP(details)
		if err != nil || o.Target != want || o.Count != 3 || o.Interval != duration(200*time.Millisecond) || o.Size != 56 || o.MaxLoss != nil {
			t.Errorf("%s: %+v, %v", details, o, err)
		}
	}
}

func FuzzParseICMP(f *testing.F) {
	for _, seed := range []string{
		"", "h", "[::1]", "a b", `{"target":"h","count":3,"interval":"1s","size":100,"max_loss":5}`, `{"target":"h","max_loss":1e999}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, details string) {
		o, err := parseICMP(details)
		if err == nil && (o.Target == "" || o.Count < 1 || o.Count > maxPings || time.Duration(o.Interval) < minInterval ||
			o.Size < tokenSize || o.Size > maxPingSize || o.MaxLoss != nil && (*o.MaxLoss < 0 || *o.MaxLoss > 100)) {
			t.Errorf("%q: %+v", details, o)
		}
	})
}

func FuzzPingerAnswered(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x00\x01\x00\x00tttttttttttttttt"))
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, packet []byte) {
		for _, ip := range []string{"127.0.0.1", "::1"} {
			now := time.Now()
			p := &pinger{ip: netip.MustParseAddr(ip), token: []byte(strings.Repeat("t", tokenSize)), missing: 1, sentAt: []time.Time{now}}
			p.answered(packet, now)
			p.answered(packet, now)
			if len(p.rtts)+p.missing != 1 {
				t.Errorf("%x: %d answers, %d missing", packet, len(p.rtts), p.missing)
			}
		}
	})
}
