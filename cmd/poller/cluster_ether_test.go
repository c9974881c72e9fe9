//go:build cluster && linux

package main

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ether is the network between nodes that have network namespaces of their own. Each has a tun device, whose packets the test reads, and hands to
// the device of their addressee, or not. So packets are lost and late without what not every kernel has (netem), and the kernels' own TCP deals with it.
// The way to core and the checkers is another one, by veth devices and a bridge, and always well.
type ether struct {
	places  []place
	access  string // our address on the way to core and the checkers
	devices []*os.File
	readers sync.WaitGroup

	mu            sync.Mutex
	rand          *rand.Rand
	links         func(from, to int) link
	carried, lost int
	closed        bool
	delayed       sync.WaitGroup
}

// link is one direction between two nodes.
type link struct {
	loss  float64 // part of the packets
	delay time.Duration
}

// firstHost is the last number of the first node's addresses.
const firstHost = 10

// newEther makes the namespaces. They go with the test.
func newEther(t *testing.T, nodes int) *ether {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("network namespaces are made by root only: run this test as root")
	}
	// The process's number tells what is made from what another test makes at the same time.
	prefix, net := fmt.Sprintf("pt%d", os.Getpid()), os.Getpid()%250
	e := &ether{rand: rand.New(rand.NewPCG(rand.Uint64(), 3)), access: fmt.Sprintf("10.87.%d.1", net)}
	t.Cleanup(e.close)
	bridge := prefix + "b"
	ip(t, "link", "add", bridge, "type", "bridge")
	t.Cleanup(func() { remove(t, "link", "del", bridge) })
	ip(t, "address", "add", e.access+"/24", "dev", bridge)
	ip(t, "link", "set", bridge, "up")
	for i := range nodes {
		space, outer, device := fmt.Sprintf("%sn%d", prefix, i+1), fmt.Sprintf("%sv%d", prefix, i+1), fmt.Sprintf("%st%d", prefix, i+1)
		host := firstHost + i
		p := place{address: fmt.Sprintf("10.88.%d.%d", net, host), admin: fmt.Sprintf("10.87.%d.%d", net, host), in: []string{"nsenter", "--net=" + spaceFile(space)}}
		ip(t, "netns", "add", space)
		t.Cleanup(func() { remove(t, "netns", "del", space) })
		ip(t, "-n", space, "link", "set", "lo", "up")
		ip(t, "link", "add", outer, "type", "veth", "peer", "name", "access", "netns", space)
		t.Cleanup(func() { remove(t, "link", "del", outer) }) // it would go with the namespace, but some time later
		ip(t, "link", "set", outer, "master", bridge, "up")
		ip(t, "-n", space, "address", "add", p.admin+"/24", "dev", "access")
		ip(t, "-n", space, "link", "set", "access", "up")
		e.devices = append(e.devices, tun(t, device))
		ip(t, "link", "set", device, "netns", space)
		ip(t, "-n", space, "address", "add", p.address+"/24", "dev", device)
		ip(t, "-n", space, "link", "set", device, "up")
		e.places = append(e.places, p)
	}
	e.set(func(int, int) link { return link{} })
	for _, d := range e.devices {
		e.readers.Go(func() { e.carry(d) })
	}
	return e
}

func spaceFile(space string) string { return "/run/netns/" + space }

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %q (of the package iproute2): %v\n%s", args, err, out)
	}
}

// remove is ip when the test's context is over.
func remove(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Errorf("ip %q: %v\n%s", args, err, out)
	}
}

func tun(t *testing.T, name string) *os.File {
	t.Helper()
	const device = "/dev/net/tun"
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("open %s: %v", device, err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		_ = unix.Close(fd)
		t.Fatalf("make the device %s: %v", name, err)
	}
	return os.NewFile(uintptr(fd), device)
}

// set says what becomes of packets from now on.
func (e *ether) set(links func(from, to int) link) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.links, e.carried, e.lost = links, 0, 0
}

// counts are how many packets were carried and lost since set.
func (e *ether) counts() (carried, lost int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.carried, e.lost
}

// carry hands on what comes from one device, until that is closed.
func (e *ether) carry(from *os.File) {
	packet := make([]byte, 1<<16)
	for {
		n, err := from.Read(packet)
		if err != nil {
			return
		}
		source, target := e.ends(packet[:n])
		if source < 0 || target < 0 {
			continue // such as multicast of the kernel's
		}
		e.mu.Lock()
		l := e.links(source, target)
		if e.closed || e.rand.Float64() < l.loss {
			e.lost++
			e.mu.Unlock()
			continue
		}
		e.carried++
		if l.delay == 0 {
			e.mu.Unlock()
			_, _ = e.devices[target].Write(packet[:n]) // what a device does not take is lost
			continue
		}
		e.delayed.Add(1)
		e.mu.Unlock()
		late := append([]byte(nil), packet[:n]...)
		time.AfterFunc(l.delay, func() {
			defer e.delayed.Done()
			_, _ = e.devices[target].Write(late)
		})
	}
}

// ends are the nodes between which an IPv4 packet goes, negative if it goes elsewhere.
func (e *ether) ends(packet []byte) (from, to int) {
	const version4, header = 4, 20
	if len(packet) < header || packet[0]>>4 != version4 {
		return nobody, nobody
	}
	node := func(address []byte) int {
		a, _ := netip.AddrFromSlice(address)
		for i, p := range e.places {
			if p.address == a.String() {
				return i
			}
		}
		return nobody
	}
	return node(packet[12:16]), node(packet[16:20])
}

func (e *ether) close() {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.delayed.Wait()
	for _, d := range e.devices {
		_ = d.Close()
	}
	e.readers.Wait()
}
