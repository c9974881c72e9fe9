package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
)

// hostile is a peer that has a connection and does its worst; it ends with the connection.
type hostile func(conn net.Conn)

// until reads what the client says, until it hangs up.
func until(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

// speaking is a peer that speaks HTTP/2 as far as to greet, and to see a call come.
func speaking(then func(conn net.Conn, framer *http2.Framer, stream uint32)) hostile {
	return func(conn net.Conn) {
		_, _ = io.CopyN(io.Discard, conn, int64(len(http2.ClientPreface)))
		framer := http2.NewFramer(conn, conn)
		_ = framer.WriteSettings()
		for {
			frame, err := framer.ReadFrame()
			if err != nil {
				return
			}
			if headers, ok := frame.(*http2.HeadersFrame); ok {
				go until(conn)
				then(conn, framer, headers.StreamID)
				return
			}
		}
	}
}

// block returns headers as they go over the wire.
func block(fields ...string) []byte {
	var b bytes.Buffer
	encoder := hpack.NewEncoder(&b)
	for i := 0; i < len(fields); i += 2 {
		_ = encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1], Sensitive: true})
	}
	return b.Bytes()
}

var answerHeaders = block(":status", "200", "content-type", "application/grpc")

func writeHeaders(framer *http2.Framer, stream uint32, fragment []byte, end bool) {
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: fragment, EndHeaders: end})
}

// endless repeats something until it fails.
func endless(do func() error) {
	for do() == nil {
	}
}

// pause is for a peer that takes its time. It ends with the connection, seen from the next write.
const pause = 50 * time.Millisecond

func dripping(conn net.Conn, b []byte) {
	for len(b) > 0 {
		if _, err := conn.Write(b[:1]); err != nil {
			return
		}
		b = b[1:]
		time.Sleep(pause)
	}
}

// dataFrame returns an answer that promises more than it has.
func dataFrame(stream uint32, promised, has int) []byte {
	var b bytes.Buffer
	message := make([]byte, 5+has)
	binary.BigEndian.PutUint32(message[1:], uint32(promised))
	_ = http2.NewFramer(&b, nil).WriteData(stream, false, message)
	return b.Bytes()
}

// hostiles are peers that a call must not suffer from, what it comes to with them, and the words.
// Those that flood never let the time of a bubble pass, and need a real network.
var hostiles = []struct {
	name        string
	peer        hostile
	tls, floods bool
	reason      check.Reason
	words       string
}{
	{"says nothing", until, false, false, check.Unreachable, "says nothing"},
	{"says nothing after TLS", until, true, false, check.TLSFailed, "said nothing after the TLS handshake"},
	{"reads nothing, says nothing", func(net.Conn) {}, false, false, check.Unreachable, "says nothing"},
	{"says garbage", func(conn net.Conn) {
		_, _ = conn.Write(bytes.Repeat([]byte("garbage "), 1000))
		until(conn)
	}, false, false, check.Unreachable, "does not speak gRPC"},
	{"says garbage for ever", func(conn net.Conn) {
		go until(conn)
		endless(func() error { _, err := conn.Write(bytes.Repeat([]byte("garbage "), 1000)); return err })
	}, false, false, check.Unreachable, "does not speak gRPC"},
	{"speaks HTTP/1", func(conn net.Conn) {
		_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
	}, false, false, check.Unreachable, "does not speak gRPC"},
	{"drips its greeting", func(conn net.Conn) {
		go until(conn)
		var b bytes.Buffer
		_ = http2.NewFramer(&b, nil).WriteSettings(make([]http2.Setting, 100)...)
		dripping(conn, b.Bytes())
	}, false, false, check.Unreachable, "no connection within"},
	{"hangs up at once", func(conn net.Conn) { _ = conn.Close() }, false, false, check.Unreachable, "does not speak gRPC"},
	{"hangs up in the midst", speaking(func(conn net.Conn, _ *http2.Framer, _ uint32) {
		_ = conn.Close()
	}), false, false, check.Unreachable, "lost"},
	{"resets the call", speaking(func(_ net.Conn, framer *http2.Framer, stream uint32) {
		_ = framer.WriteRSTStream(stream, http2.ErrCodeInternal)
	}), false, false, check.BadAnswer, "RST_STREAM"},
	{"hangs up in the midst of an answer", speaking(func(conn net.Conn, framer *http2.Framer, stream uint32) {
		writeHeaders(framer, stream, answerHeaders, true)
		_, _ = conn.Write(dataFrame(stream, 1000, 10))
		_ = conn.Close()
	}), false, false, check.Unreachable, "lost"},
	{"answers nothing", speaking(func(net.Conn, *http2.Framer, uint32) {}), false, false, check.Timeout, "busy or hung"},
	{"says garbage in the midst", speaking(func(conn net.Conn, _ *http2.Framer, _ uint32) {
		endless(func() error { _, err := conn.Write(bytes.Repeat([]byte("garbage "), 1000)); return err })
	}), false, false, check.BadAnswer, "breaks the protocol"},
	{"has headers without end", speaking(func(_ net.Conn, framer *http2.Framer, stream uint32) {
		writeHeaders(framer, stream, answerHeaders, false)
		more := block("x", strings.Repeat("y", 10<<10))
		endless(func() error { return framer.WriteContinuation(stream, false, more) })
	}), false, false, check.BadAnswer, "breaks the protocol"},
	{"has one header without end", speaking(func(_ net.Conn, framer *http2.Framer, stream uint32) {
		writeHeaders(framer, stream, []byte{0, 1, 'x', 0x7f, 0xff, 0xff, 0xff, 0x7f}, false)
		more := make([]byte, 10<<10)
		endless(func() error { return framer.WriteContinuation(stream, false, more) })
	}), false, false, check.BadAnswer, "breaks the protocol"},
	{"has too many headers", speaking(func(_ net.Conn, framer *http2.Framer, stream uint32) {
		writeHeaders(framer, stream, answerHeaders, false)
		for range 25 {
			_ = framer.WriteContinuation(stream, false, block("x", strings.Repeat("y", 10<<10)))
		}
		_ = framer.WriteContinuation(stream, true, block("x", strings.Repeat("y", 10<<10)))
	}), false, false, check.BadAnswer, "header list size"},
	{"drips headers", speaking(func(conn net.Conn, _ *http2.Framer, stream uint32) {
		var b bytes.Buffer
		writeHeaders(http2.NewFramer(&b, nil), stream, append(answerHeaders, block("x", strings.Repeat("y", 10<<10))...), true)
		dripping(conn, b.Bytes())
	}), false, false, check.Timeout, "busy or hung"},
	{"drips its answer", speaking(func(conn net.Conn, framer *http2.Framer, stream uint32) {
		writeHeaders(framer, stream, answerHeaders, true)
		dripping(conn, dataFrame(stream, 10<<10, 10<<10))
	}), false, false, check.Timeout, "busy or hung"},
	{"promises an answer that is huge", speaking(func(conn net.Conn, framer *http2.Framer, stream uint32) {
		writeHeaders(framer, stream, answerHeaders, true)
		_, _ = conn.Write(dataFrame(stream, 1<<31, 10))
	}), false, false, check.TooLarge, "larger than max"},
	{"sends more than it may", speaking(func(conn net.Conn, framer *http2.Framer, stream uint32) {
		writeHeaders(framer, stream, answerHeaders, true)
		frame := dataFrame(stream, 4<<20-1, 10<<10)
		endless(func() error { _, err := conn.Write(frame); return err })
	}), false, true, check.BadAnswer, "Internal"},
	{"pings without end", speaking(func(_ net.Conn, framer *http2.Framer, _ uint32) {
		endless(func() error { return framer.WritePing(false, [8]byte{}) })
	}), false, true, check.Timeout, "busy or hung"},
	{"has settings without end", speaking(func(_ net.Conn, framer *http2.Framer, _ uint32) {
		endless(func() error {
			return framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
		})
	}), false, true, check.Timeout, "busy or hung"},
}

// labelled runs do so that all goroutines that come of it can be counted.
func labelled(t *testing.T, do func()) {
	t.Helper()
	pprof.Do(t.Context(), pprof.Labels("of", t.Name()), func(context.Context) { do() })
}

// goroutines counts those that came of labelled.
func goroutines(t *testing.T) int {
	t.Helper()
	var b bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&b, 1); err != nil {
		t.Fatal(err)
	}
	sum, n := 0, 0
	for line := range strings.Lines(b.String()) {
		if before, _, ok := strings.Cut(line, " @ "); ok {
			n, _ = strconv.Atoi(before)
		}
		if strings.HasPrefix(line, "# labels:") && strings.Contains(line, strconv.Quote(t.Name())) {
			sum += n
		}
	}
	return sum
}

// fewGoroutines wants no more than so many, within a second. In a bubble that is to the moment.
func fewGoroutines(t *testing.T, when string, most int) {
	t.Helper()
	end := time.Now().Add(time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	n := goroutines(t)
	for n > most && time.Now().Before(end) {
		<-tick.C
		n = goroutines(t)
	}
	if n > most {
		var b bytes.Buffer
		_ = pprof.Lookup("goroutine").WriteTo(&b, 1)
		t.Errorf("%s: %d goroutines, want at most %d\n%s", when, n, most, b.Bytes())
	}
}

// front accepts connections for a peer, and closes them with the test.
func front(t *testing.T, l net.Listener, peer hostile) {
	t.Helper()
	var conns []net.Conn
	done := make(chan struct{})
	var peers sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		<-done
		for _, conn := range conns {
			_ = conn.Close()
		}
		peers.Wait()
	})
	go func() {
		defer close(done)
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			conns = append(conns, conn)
			peers.Go(func() { peer(conn) })
		}
	}()
}

// ofConnection is what a connection has by itself, or the making of one: the reader, the writer, who
// connects, and who watches over that.
const ofConnection = 5

// TestHostilePeers: whatever the peer does, a call ends at its deadline with the right words, and
// leaves nothing behind.
func TestHostilePeers(t *testing.T) {
	t.Parallel()
	for _, tt := range hostiles {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			try := func(t *testing.T, l net.Listener, dial Dialer, late time.Duration) {
				agent := &check.Agent{Name: "a", Address: l.Addr().String(), HealthService: "AgentService"}
				peer := tt.peer
				if tt.tls {
					ca := tlsidtest.NewCA(t)
					agent.TLS = ca.Issue(t, "poller")
					agent.TLS.ServerName = "checker"
					creds := serverCreds(t, ca.Issue(t, "checker"))
					peer = func(conn net.Conn) {
						if secure, _, err := creds.ServerHandshake(conn); err == nil {
							tt.peer(secure)
						}
					}
				}
				front(t, l, peer)
				askHostile(t, agent, dial, late, tt.reason, tt.words)
			}
			if tt.floods {
				l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				try(t, l, nil, time.Second)
				return
			}
			synctest.Test(t, func(t *testing.T) {
				var network sim.Net
				l, err := network.Listen("127.2.0.1:1")
				if err != nil {
					t.Fatal(err)
				}
				try(t, l, network.Dial, 0)
			})
		})
	}
}

// askHostile asks, many times at once, and wants the failure, no later than so long after the deadline.
func askHostile(t *testing.T, agent *check.Agent, dial Dialer, late time.Duration, reason check.Reason, words string) {
	t.Helper()
	const deadline = 500 * time.Millisecond
	var c *Checker
	labelled(t, func() { c = clientOf(t, agent, dial) })
	before := goroutines(t)
	began := time.Now()
	failures := make(chan error)
	labelled(t, func() {
		for range 10 {
			go func() {
				_, err := c.Ask(within(t, deadline), ssh)
				failures <- err
			}()
		}
	})
	met := false
	for range 10 {
		err := <-failures
		f, ok := errors.AsType[*check.Failure](err)
		// The others may meet another end of the same connection.
		met = met || ok && f.Reason == reason && strings.Contains(f.Detail, words)
		if !ok {
			t.Errorf("Ask: %v", err)
		}
		if !met {
			t.Logf("Ask: %v", err)
		}
	}
	if !met {
		t.Errorf("none of the calls failed for %s, %q", reason, words)
	}
	if took := time.Since(began); took > deadline+late {
		t.Errorf("it took %v, the deadline was after %v", took, deadline)
	}
	fewGoroutines(t, "after the calls", before+ofConnection)
	began = time.Now()
	_ = c.Close()
	if took := time.Since(began); took > closing+late {
		t.Errorf("Close took %v", took)
	}
	fewGoroutines(t, "after Close", 0)
}
