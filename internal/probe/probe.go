// Package probe looks at targets: one file for each protocol, one signature for all, and Kinds lists them.
//
// Guarantees:
//   - A probe ends when its context does, leaves no goroutine and no connection behind, and keeps
//     nothing from one call to the next.
//   - A target that is down is a Result, with the reason as {"error": …}. An error means that the
//     question makes no sense (a URL without a host, a port out of range) or was taken back.
//   - What is read of a target is bounded.
//   - User names, passwords, query strings and fragments of URLs appear in no result and no error. What a target has to be
//     shown as proof stands in Settings, and is shown only to hosts that it is for.
//
// All probes are safe to call from any goroutine.
package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"
)

const (
	// maxReply is how much is read of what a port says, in bytes.
	maxReply = 16 << 10
	// maxQuote is how much is told of what a target said, in bytes.
	maxQuote = 200
)

// Func is what every probe is.
type Func func(ctx context.Context, target Target) (Result, error)

// Target is what to look at.
type Target struct {
	// Name is the check's name in the poller's configuration.
	Name string
	// Details is the target in the probe's own form, or a JSON object with it as "target" and more beside it.
	Details string
	// Port is the target's port if Details has none.
	Port int32
	// RootCAs are the authorities for the target's certificate; nil means the system's.
	RootCAs *x509.CertPool
	// Settings are the checker's; nil has nothing.
	Settings *Settings
}

// Result is what a probe found.
type Result struct {
	// Available tells whether the target works.
	Available bool
	// Message is JSON.
	Message []byte
	// ResponseTime is how long the target took.
	ResponseTime time.Duration
}

func result(available bool, took time.Duration, message any) (Result, error) {
	data, err := json.Marshal(message)
	if err != nil {
		return Result{}, fmt.Errorf("the probe's result can't be written as JSON: %w", err)
	}
	return Result{Available: available, Message: data, ResponseTime: took}, nil
}

// excerpt is what is told of a text that a target sent: at most so many bytes of it.
func excerpt(text string, most int) string {
	if len(text) > most {
		text = text[:most] + "…"
	}
	return strings.ToValidUTF8(text, "")
}

// explain says why a connection failed, and what to look at. It leaves out the address and
// whatever a URL holds; the caller says what was tried.
func explain(err error, took time.Duration) string {
	if netErr, ok := errors.AsType[net.Error](err); ok && netErr.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Sprintf("no answer within %v: is the host up, and does a firewall drop packets on the way?", took.Round(time.Millisecond))
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		if dns.IsNotFound {
			return fmt.Sprintf("the name %s is not known: check its spelling and this machine's resolver", dns.Name)
		}
		return fmt.Sprintf("the name %s can't be resolved: %s: check this machine's resolver", dns.Name, dns.Err)
	}
	if text := explainTLS(err); text != "" {
		return text
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused: nothing listens there, or a firewall rejects it"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no route to the host: check the address and this machine's routes"
	case errors.Is(err, syscall.ECONNRESET):
		return "connection reset by the target"
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err.Error()
	}
	return err.Error()
}

func explainTLS(err error) string {
	// The HTTP client has only a text for a server that answers the handshake in HTTP.
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || strings.Contains(err.Error(), "HTTP response to HTTPS client") {
		return "the target does not speak TLS: is it http:// rather than https://?"
	}
	verification, ok := errors.AsType[*tls.CertificateVerificationError](err)
	if !ok {
		return ""
	}
	text := "the target's certificate is not accepted: " + verification.Err.Error()
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		text += ": add the authority to this machine's trusted ones, or have the target send its intermediate certificates"
	}
	return text
}
