package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	maxRedirects = 5
	maxBody      = 1 << 20
	maxHeader    = 64 << 10
)

// httpMessage is told of a target that answered.
type httpMessage struct {
	// URL is the one that answered, after redirects.
	URL          string `json:"url"`
	Host         string `json:"host"`
	StatusCode   int    `json:"status_code"`
	ResponseTime int64  `json:"response_time"` // ns
	Bytes        int64  `json:"bytes"`
	// Truncated: the body went on after that many bytes.
	Truncated bool   `json:"truncated,omitempty"`
	Redirects int    `json:"redirects,omitempty"`
	Timings   phases `json:"timings"`
	Error     string `json:"error,omitempty"`
}

// httpFailure is told of a target that did not.
type httpFailure struct {
	Error   string `json:"error"`
	URL     string `json:"url"`
	Timings phases `json:"timings"`
}

var errRedirects = fmt.Errorf("more than %d redirects", maxRedirects)

// HTTP gets the URL in Details and reads the answer, at most 1 MiB of it. A status from 200 to
// 399 is available. It follows up to 5 redirects, uses no proxy and a connection of its own, and
// accepts only certificates that it can verify.
func HTTP(ctx context.Context, target Target) (Result, error) {
	u, err := parseURL(target.Details)
	if err != nil {
		return Result{}, err
	}
	e := exchange{ctx: ctx, last: u, began: time.Now()}
	inner, cancel := context.WithCancel(e.timer.trace(ctx))
	defer cancel() // closes the connections
	request, err := http.NewRequestWithContext(inner, http.MethodGet, u.String(), nil)
	if err != nil {
		return Result{}, fmt.Errorf("GET %s: %w", display(u), withoutURL(err))
	}
	request.Header.Set("User-Agent", "poller-checker")
	client := http.Client{Transport: newTransport(inner, target), CheckRedirect: e.redirect}
	response, err := client.Do(request) // its body is closed in e.read; after an error it is already
	if err != nil {
		return e.failed(withoutURL(err))
	}
	return e.read(response)
}

// newTransport returns a transport for one exchange. Left to itself, a transport goes on dialling
// and shaking hands when the request has been given up; so its connections hang on ctx.
func newTransport(ctx context.Context, target Target) *http.Transport {
	return &http.Transport{
		DialContext: func(_ context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err == nil {
				context.AfterFunc(ctx, func() { _ = conn.Close() })
			}
			return conn, err
		},
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: target.RootCAs},
		ForceAttemptHTTP2:      true,
		DisableKeepAlives:      true,
		DisableCompression:     true, // to count what was sent
		MaxResponseHeaderBytes: maxHeader,
	}
}

// exchange is one GET with its redirects.
type exchange struct {
	ctx       context.Context // an exchange lives as long as the call
	began     time.Time
	timer     phaseTimer
	last      *url.URL // what was asked for last
	redirects int
}

func (e *exchange) redirect(next *http.Request, via []*http.Request) error {
	e.last = next.URL
	if len(via) > maxRedirects {
		return errRedirects
	}
	e.redirects = len(via)
	return nil
}

func (e *exchange) read(response *http.Response) (Result, error) {
	n, err := io.CopyN(io.Discard, response.Body, maxBody+1)
	took := time.Since(e.began)
	_ = response.Body.Close() // everything of interest has been read
	if err != nil && !errors.Is(err, io.EOF) {
		return e.failed(fmt.Errorf("the answer broke off after %d bytes: %w", n, err))
	}
	code := response.StatusCode
	message := httpMessage{
		URL: display(e.last), Host: e.last.Hostname(), StatusCode: code,
		ResponseTime: took.Nanoseconds(), Bytes: min(n, maxBody), Truncated: n > maxBody,
		Redirects: e.redirects, Timings: e.timer.phases(),
	}
	available := code >= 200 && code <= 399
	if !available {
		message.Error = fmt.Sprintf("GET %s: the target answered %s", display(e.last), statusText(code))
	}
	return result(available, took, message)
}

// failed is the result of an exchange without a whole answer.
func (e *exchange) failed(err error) (Result, error) {
	took := time.Since(e.began)
	timings := e.timer.phases()
	var why string
	switch {
	case errors.Is(e.ctx.Err(), context.Canceled):
		return Result{}, fmt.Errorf("GET %s: %w", display(e.last), e.ctx.Err())
	case e.ctx.Err() != nil && timings.Connect > 0:
		why = fmt.Sprintf("connected, but there was no whole answer within %v: is the target overloaded?", took.Round(time.Millisecond))
	case errors.Is(err, errRedirects):
		why = errRedirects.Error() + ", the last of them to here: does the target redirect in a circle?"
	case strings.Contains(err.Error(), "Location header"):
		why = "the target redirects to something that is not a URL" // which the error quotes
	default:
		why = explain(err, took)
	}
	return result(false, took, httpFailure{fmt.Sprintf("GET %s: %s", display(e.last), why), display(e.last), timings})
}

func parseURL(details string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimSpace(details))
	const example = "write a URL such as https://host.example/healthz"
	switch {
	case err != nil:
		// Not shown, for it may hold a password; neither is the parser's error, which quotes parts of it.
		return nil, errors.New("the target is not a URL: " + example)
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("the target's URL does not begin with http:// or https://: " + example)
	case u.Hostname() == "":
		return nil, errors.New("the target's URL has no host: " + example)
	}
	return u, nil
}

// display is a URL without what may be secret.
func display(u *url.URL) string {
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	return shown.String()
}

// withoutURL takes off the URL that the HTTP client puts before its errors.
func withoutURL(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}

func statusText(code int) string {
	if text := http.StatusText(code); text != "" {
		return fmt.Sprintf("%d %s", code, text)
	}
	return fmt.Sprintf("status %d", code)
}
