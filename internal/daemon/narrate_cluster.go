package daemon

import (
	"fmt"

	"github.com/serviceradar/poller/internal/cluster"
)

// node tells of the cluster.
func (n *narrator) node(e cluster.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.log.Info().Str("event", fmt.Sprintf("%T%+v", e, e)).Msg("cluster")
}

func (n *narrator) nodeTLS(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.log.Error().Str("error", fmt.Sprint(err)).Msg("cluster tls")
}
