package tlsid

import (
	"crypto/tls"
	"fmt"
	"runtime"
	"testing"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
)

// BenchmarkHosts makes the configurations for 10,000 hosts of one identity: what that takes, and what they take for
// as long as they are in use.
func BenchmarkHosts(b *testing.B) {
	const hosts = 10_000
	id := tlsidtest.NewCA(b).Issue(b, "poller")
	for _, way := range []struct {
		name   string
		client func() func(check.TLS, string) (*tls.Config, error)
	}{
		{"store", func() func(check.TLS, string) (*tls.Config, error) { return NewStore().Client }},
		{"files", func() func(check.TLS, string) (*tls.Config, error) { return Client }},
	} {
		b.Run(way.name, func(b *testing.B) {
			var held float64
			for b.Loop() {
				client := way.client()
				configs := make([]*tls.Config, 0, hosts)
				before := heap()
				for n := range hosts {
					config, err := client(id, fmt.Sprintf("10.0.%d.%d", n/250, n%250))
					if err != nil {
						b.Fatal(err)
					}
					configs = append(configs, config)
				}
				held += heap() - before
				runtime.KeepAlive(configs)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*hosts), "ns/host")
			b.ReportMetric(held/float64(b.N*hosts), "heap-B/host")
		})
	}
}

func heap() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}
