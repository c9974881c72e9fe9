package probe

import (
	"context"
	"crypto/tls"
	"net/http/httptrace"
	"sync"
	"time"
)

// phases are how long the parts of an HTTP exchange took, summed over its redirects, in
// nanoseconds. Reading the body is what is left of the response time.
type phases struct {
	DNS     int64 `json:"dns"`
	Connect int64 `json:"connect"`
	TLS     int64 `json:"tls"`
	// Wait is from the request's last byte to the answer's first.
	Wait int64 `json:"wait"`
}

// phaseTimer times the phases of one exchange. Its hooks are called from several goroutines, some
// of them after the exchange has ended: a connection may be tried over IPv4 and IPv6 at once.
type phaseTimer struct {
	mu                      sync.Mutex
	sum                     phases
	dns, connect, tls, wait time.Time // when the phase under way began; zero if none is
}

func (p *phaseTimer) phases() phases {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sum
}

func (p *phaseTimer) begin(at *time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at.IsZero() {
		*at = time.Now()
	}
}

func (p *phaseTimer) end(at *time.Time, sum *int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !at.IsZero() {
		*sum += time.Since(*at).Nanoseconds()
		*at = time.Time{}
	}
}

func (p *phaseTimer) trace(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSStart:     func(httptrace.DNSStartInfo) { p.begin(&p.dns) },
		DNSDone:      func(httptrace.DNSDoneInfo) { p.end(&p.dns, &p.sum.DNS) },
		ConnectStart: func(string, string) { p.begin(&p.connect) },
		ConnectDone: func(_, _ string, err error) {
			if err == nil { // another address may still be tried
				p.end(&p.connect, &p.sum.Connect)
			}
		},
		TLSHandshakeStart:    func() { p.begin(&p.tls) },
		TLSHandshakeDone:     func(tls.ConnectionState, error) { p.end(&p.tls, &p.sum.TLS) },
		WroteRequest:         func(httptrace.WroteRequestInfo) { p.begin(&p.wait) },
		GotFirstResponseByte: func() { p.end(&p.wait, &p.sum.Wait) },
	})
}
