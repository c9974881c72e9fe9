package config

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func noAddresses() ([]netip.Addr, error) { return nil, nil }

func hasAddresses(list ...string) addressesFunc {
	return func() ([]netip.Addr, error) {
		out := make([]netip.Addr, len(list))
		for i, s := range list {
			out[i] = netip.MustParseAddr(s)
		}
		return out, nil
	}
}

func TestSourceIP(t *testing.T) {
	t.Parallel()
	const unfound = `source_ip: no address found for "auto": no interface that is up has an IPv4 address; core is told 127.0.0.1; ` +
		`write source_ip = "…" or set SERVICERADAR_SOURCE_IP`
	tests := map[string]struct {
		configured string
		environ    []string
		addresses  addressesFunc
		want       string
		warnings   []string
	}{
		"configured wins": {
			configured: "192.0.2.1", environ: []string{"POD_IP=192.0.2.2"}, addresses: hasAddresses("192.0.2.3"), want: "192.0.2.1",
		},
		"host name": {configured: "edge.example", addresses: noAddresses, want: "edge.example"},
		"first variable": {
			configured: "auto", environ: []string{"NODE_IP=192.0.2.5", "HOST_IP=192.0.2.4", "POD_IP=192.0.2.3", "SERVICERADAR_SOURCE_IP=192.0.2.2"},
			addresses: hasAddresses("192.0.2.9"), want: "192.0.2.2",
		},
		"later variable": {
			configured: "auto", environ: []string{"NODE_IP=192.0.2.5", "POD_IP="}, addresses: hasAddresses("192.0.2.9"), want: "192.0.2.5",
		},
		"IPv6 variable": {configured: "auto", environ: []string{"POD_IP=2001:db8::1"}, addresses: noAddresses, want: "2001:db8::1"},
		"last of two":   {configured: "auto", environ: []string{"POD_IP=192.0.2.5", "POD_IP=192.0.2.6"}, addresses: noAddresses, want: "192.0.2.6"},
		"not an address": {
			configured: "auto", environ: []string{"POD_IP=pod-7", "HOST_IP=0.0.0.0", "NODE_IP=192.0.2.5"}, addresses: noAddresses, want: "192.0.2.5",
			warnings: []string{
				`environment POD_IP: found "pod-7", which is not an address of a host; it is not used as source_ip`,
				`environment HOST_IP: found "0.0.0.0", which is not an address of a host; it is not used as source_ip`,
			},
		},
		"interface": {configured: "auto", addresses: hasAddresses("127.0.0.1", "2001:db8::1", "192.0.2.7", "192.0.2.8"), want: "192.0.2.7"},
		"none":      {configured: "auto", addresses: hasAddresses("127.0.0.1", "::1"), want: "127.0.0.1", warnings: []string{unfound}},
		"unlisted": {
			configured: "auto", addresses: func() ([]netip.Addr, error) { return nil, errors.New("no netlink") }, want: "127.0.0.1",
			warnings: []string{`source_ip: no address found for "auto": the interfaces can't be listed: no netlink; core is told 127.0.0.1; ` +
				`write source_ip = "…" or set SERVICERADAR_SOURCE_IP`},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &problems{}
			if got := resolveSource(test.configured, test.environ, test.addresses, p); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if diff := cmp.Diff(test.warnings, p.warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}

// TestHostAddresses only checks that the host can be asked: what it answers differs.
func TestHostAddresses(t *testing.T) {
	t.Parallel()
	if _, err := hostAddresses(); err != nil {
		t.Errorf("listing the addresses of this host: %v", err)
	}
}
