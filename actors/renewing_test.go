package actors

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/serviceradar/poller/internal/tlsid"
	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
)

// A node's certificate may be for a name that all nodes have, whatever its address is; without one it has to be for its address.
func TestNodesHaveTheNameOfTheConfiguration(t *testing.T) {
	t.Parallel()
	ca := tlsidtest.NewCA(t)
	named, addressed := ca.Issue(t, "node", tlsidtest.Hosts("edge.nodes")), ca.Issue(t, "node", tlsidtest.Hosts("127.0.0.1"))
	for name, tt := range map[string]struct {
		serves, expects string
		fails           bool
	}{
		"the name":          {"named", "edge.nodes", false},
		"another name":      {"named", "core.nodes", true},
		"no name":           {"named", "", true},
		"the address":       {"addressed", "", false},
		"not for that name": {"addressed", "edge.nodes", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id := named
			if tt.serves == "addressed" {
				id = addressed
			}
			server, err := tlsid.Server(id)
			if err != nil {
				t.Fatal(err)
			}
			here, there := net.Pipe()
			defer func() { _, _ = here.Close(), there.Close() }()
			go func() { _, _, _ = credentials.NewTLS(server).ServerHandshake(there) }()
			id.ServerName = tt.expects
			tuned := 0
			r := &renewing{
				config: func(host string) (*tls.Config, error) { return tlsid.Client(id, host) },
				tune:   func(net.Conn) { tuned++ }, TransportCredentials: credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12}),
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			_, _, err = r.Clone().ClientHandshake(ctx, "127.0.0.1:7947", here)
			if (err != nil) != tt.fails || tuned != 1 {
				t.Errorf("the handshake: %v; the connection was tuned %d times", err, tuned)
			}
		})
	}
}
