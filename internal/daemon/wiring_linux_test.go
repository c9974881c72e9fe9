package daemon_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/daemon"
	"github.com/serviceradar/poller/internal/sim"
)

// TestIntervalReachesSockets: within a cycle a dead peer must be found, and the kernel knows.
func TestIntervalReachesSockets(t *testing.T) {
	t.Parallel()
	core := new(sim.Core)
	coreServer, err := core.Start("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer coreServer.Stop()
	checkerServer, err := sim.NewChecker(sim.OK()).Start("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer checkerServer.Stop()
	cfg, _, err := config.Parse("test.toml", fmt.Appendf(nil, "admin.listen = \"\"\npoller_id = \"p\"\nstate_dir = \"memory\"\nsource_ip = \"127.0.0.1\"\n"+
		"core.addresses = [%q]\npoll.interval = \"10s\"\n%s", coreServer.Addr(), agents("a", 1, 1, checkerServer.Addr())), config.Source{})
	if err != nil {
		t.Fatal(err)
	}
	d := daemon.New(daemon.Options{Config: cfg, Log: zerolog.Nop()})
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Stop(t.Context()) }()
	if _, err := core.Await(t.Context(), func(all []sim.Delivery) bool { return len(all) > 0 }); err != nil {
		t.Fatal(err)
	}
	for name, address := range map[string]string{"checker": checkerServer.Addr(), "core": coreServer.Addr()} {
		const want = 8500 * time.Millisecond
		if got := userTimeouts(netip.MustParseAddrPort(address)); len(got) != 1 || got[0] != want {
			t.Errorf("the connections to the %s give up after %v, want %v", name, got, want)
		}
	}
}

// userTimeouts returns the TCP_USER_TIMEOUT of each connection of this process to an address.
func userTimeouts(address netip.AddrPort) []time.Duration {
	var list []time.Duration
	for fd := range 1024 {
		peer, err := unix.Getpeername(fd)
		if err != nil {
			continue
		}
		if in, ok := peer.(*unix.SockaddrInet4); !ok || netip.AddrPortFrom(netip.AddrFrom4(in.Addr), uint16(in.Port)) != address {
			continue
		}
		if ms, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); err == nil {
			list = append(list, time.Duration(ms)*time.Millisecond)
		}
	}
	return list
}
