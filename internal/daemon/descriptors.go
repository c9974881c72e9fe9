package daemon

import (
	"fmt"
	"net"

	"github.com/serviceradar/poller/internal/check"
)

// spareDescriptors are for all that is no agent's connection: the standard streams and the runtime's own, core,
// the admin server and those who ask it, the files of the spool, certificates that are read, and agents that make a
// new connection while their old one is being closed.
const spareDescriptors = 150

// checkDescriptors returns an error if the agents can't all be connected at the same time, when the process
// may have no more than limit file descriptors. Every agent counts, whatever its checks are: when many checkers
// hang or come back, many are connected at the same time. Those whose addresses are names count twice: a lookup has two
// sockets, for both kinds of addresses, and when nobody answers it many lookups are under way. A poller that runs out of
// descriptors while it polls loses more than connections, for the files of the spool need some, too.
func checkDescriptors(agents []*check.Agent, limit uint64) error {
	connections := len(agents)
	for i := range agents {
		if host, _, err := net.SplitHostPort(agents[i].Address); err == nil && net.ParseIP(host) == nil {
			connections++
		}
	}
	need := uint64(connections) + spareDescriptors
	if limit >= need {
		return nil
	}
	return fmt.Errorf("the poller may need %d file descriptors (%d for the agents' connections and lookups, %d for all else), but the process can have no more than %d; "+
		"raise its limit: LimitNOFILE=%[1]d in the systemd unit, --ulimit nofile=%[1]d for a container, ulimit -n %[1]d in a shell",
		need, connections, spareDescriptors, limit)
}
