package daemon

import (
	"math"
	"testing"
)

func TestCheckDescriptors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		agents int
		limit  uint64
		want   string // part of the error; empty for none
	}{
		{0, 256, ""},
		{100, 256, ""},
		{874, 1024, ""},
		{875, 1024, "may need 1025 file descriptors (875 for the agents' connections, 150 for all else), but the process can have no more than 1024; "},
		{10_000, 65_536, ""},
		{10_000, math.MaxUint64, ""},
		{10_000, 10_150, ""},
		{10_000, 10_149, "LimitNOFILE=10150 in the systemd unit, --ulimit nofile=10150 for a container, ulimit -n 10150 in a shell"},
	} {
		err := checkDescriptors(tt.agents, tt.limit)
		if tt.want != "" {
			wantError(t, err, tt.want)
		} else if err != nil {
			t.Errorf("%d agents, limit %d: error %v", tt.agents, tt.limit, err)
		}
	}
}
