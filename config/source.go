package config

import (
	"net"
	"net/netip"
	"slices"
	"strings"
)

// sourceAuto as the source_ip means to look for an address.
const sourceAuto = "auto"

// sourceVariables are where an orchestrator says which address we have, the first that is set wins.
var sourceVariables = []string{"SERVICERADAR_SOURCE_IP", "POD_IP", "HOST_IP", "NODE_IP"}

// sourceFallback stands for an address that can't be found: core registers no devices without one.
const sourceFallback = "127.0.0.1"

// addressesFunc returns the addresses of the interfaces that are up, in the order of the interfaces.
type addressesFunc func() ([]netip.Addr, error)

// hostAddresses is the addressesFunc of this host.
func hostAddresses() ([]netip.Addr, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		addresses, err := i.Addrs()
		if err != nil {
			return nil, err
		}
		for _, a := range addresses {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil {
				out = append(out, prefix.Addr())
			}
		}
	}
	return out, nil
}

// resolveSource returns the source_ip with "auto" resolved.
func resolveSource(configured string, environ []string, addresses addressesFunc, p *problems) string {
	if configured != sourceAuto {
		return configured
	}
	for _, name := range sourceVariables {
		value, set := lookup(environ, name)
		if !set || value == "" {
			continue
		}
		ip, err := netip.ParseAddr(value)
		if err == nil && !ip.IsUnspecified() {
			return value
		}
		p.warn("environment %s: found %s, which is not an address of a host; it is not used as source_ip", name, foundText(value))
	}
	found, err := addresses()
	for _, ip := range found {
		if ip = ip.Unmap(); ip.Is4() && !ip.IsLoopback() && !ip.IsUnspecified() {
			return ip.String()
		}
	}
	reason := "no interface that is up has an IPv4 address"
	if err != nil {
		reason = "the interfaces can't be listed: " + err.Error()
	}
	p.warn("source_ip: no address found for \"auto\": %s; core is told %s; write source_ip = \"…\" or set %s",
		reason, sourceFallback, sourceVariables[0])
	return sourceFallback
}

// lookup returns a variable's value; the last one counts, as for a process that is started with two.
func lookup(environ []string, name string) (value string, set bool) {
	for _, entry := range slices.Backward(environ) {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value, true
		}
	}
	return "", false
}
