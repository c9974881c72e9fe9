//go:build cluster && linux

package main

import (
	"errors"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestEther shows that the faults of TestPartitions' network are what they are said to be.
func TestEther(t *testing.T) {
	noLeaks(t)
	e := newEther(t, 3)
	sockets := make([]net.PacketConn, len(e.places))
	for i, p := range e.places {
		sockets[i] = listenAt(t, p)
	}
	const packets = 200
	late, slow := 200*time.Millisecond, link{delay: 200 * time.Millisecond}
	for _, tt := range []struct {
		name             string
		links            func(from, to int) link
		from, to         int
		least, most      int // packets that arrive
		soonest, slowest time.Duration
	}{
		{"well", func(int, int) link { return link{} }, 0, 1, packets, packets, 0, late},
		{"cut off", func(from, to int) link { return deadIf(from == 0 && to == 1) }, 0, 1, 0, 0, 0, 0},
		{"the other way", func(from, to int) link { return deadIf(from == 0 && to == 1) }, 1, 0, packets, packets, 0, late},
		{"to another", func(from, to int) link { return deadIf(from == 0 && to == 1) }, 0, 2, packets, packets, 0, late},
		{"30 % loss", func(int, int) link { return link{loss: .3} }, 2, 1, packets * 55 / 100, packets * 85 / 100, 0, late},
		{"delay", func(int, int) link { return slow }, 2, 0, packets, packets, late, 2 * late},
		{"well again", func(int, int) link { return link{} }, 0, 1, packets, packets, 0, late},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e.set(tt.links)
			began := time.Now()
			for range packets {
				now := strconv.AppendInt(nil, int64(time.Since(began)), 10)
				if _, err := sockets[tt.from].WriteTo(now, sockets[tt.to].LocalAddr()); err != nil {
					t.Fatal(err)
				}
			}
			if err := sockets[tt.to].SetReadDeadline(time.Now().Add(3 * late)); err != nil {
				t.Fatal(err)
			}
			arrived := 0
			for packet := make([]byte, 32); ; arrived++ {
				n, from, err := sockets[tt.to].ReadFrom(packet)
				if os.IsTimeout(err) {
					break
				}
				sent, wrong := strconv.ParseInt(string(packet[:n]), 10, 64)
				if err := errors.Join(err, wrong); err != nil || from.String() != sockets[tt.from].LocalAddr().String() {
					t.Fatalf("%q from %v: %v", packet[:n], from, err)
				}
				if took := time.Since(began) - time.Duration(sent); took < tt.soonest || took > tt.slowest {
					t.Errorf("a packet took %v", took)
				}
			}
			carried, lost := e.counts()
			if arrived < tt.least || arrived > tt.most || carried != arrived || lost != packets-arrived {
				t.Errorf("%d packets of %d arrived, %d were carried and %d lost", arrived, packets, carried, lost)
			}
		})
	}
}

// listenAt listens where a node would. Its port is another one.
func listenAt(t *testing.T, p place) net.PacketConn {
	t.Helper()
	type result struct {
		conn net.PacketConn
		err  error
	}
	made := make(chan result)
	go func() {
		runtime.LockOSThread() // and so the thread ends with this goroutine; the socket stays where it was made
		space, err := os.Open(strings.TrimPrefix(p.in[1], "--net="))
		if err != nil {
			made <- result{err: err}
			return
		}
		defer func() { _ = space.Close() }()
		if err := unix.Setns(int(space.Fd()), unix.CLONE_NEWNET); err != nil {
			made <- result{err: err}
			return
		}
		conn, err := net.ListenPacket("udp4", p.address+":7000")
		made <- result{conn, err}
	}()
	r := <-made
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(func() { _ = r.conn.Close() })
	return r.conn
}
