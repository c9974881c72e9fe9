package daemon

import (
	"math"
	"testing"

	"github.com/serviceradar/poller/internal/check"
)

func TestCheckDescriptors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		agents, names int
		limit         uint64
		want          string // part of the error; empty for none
	}{
		{0, 0, 256, ""},
		{100, 0, 256, ""},
		{874, 0, 1024, ""},
		{875, 0, 1024, "may need 1025 file descriptors (875 for the agents' connections and lookups, 150 for all else), but the process can have no more than 1024; "},
		{10_000, 0, 65_536, ""},
		{10_000, 10_000, math.MaxUint64, ""},
		{10_000, 0, 10_150, ""},
		{10_000, 0, 10_149, "LimitNOFILE=10150 in the systemd unit, --ulimit nofile=10150 for a container, ulimit -n 10150 in a shell"},
		{600, 274, 1024, ""},
		{600, 275, 1024, "may need 1025 file descriptors (875 for"},
	} {
		agents := make([]*check.Agent, tt.agents)
		for i := range agents {
			agents[i] = &check.Agent{Address: [...]string{"192.0.2.1:50051", "[2001:db8::1]:50051"}[i%2]}
			if i < tt.names {
				agents[i].Address = "checker.example:50051"
			}
		}
		err := checkDescriptors(agents, tt.limit)
		if tt.want != "" {
			wantError(t, err, tt.want)
		} else if err != nil {
			t.Errorf("%d agents, %d of them by name, limit %d: error %v", tt.agents, tt.names, tt.limit, err)
		}
	}
}
