package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	maxBody   = 1 << 20
	maxHeader = 64 << 10
	// maxReason is how much is told of an error of the HTTP client, which may quote the target, in bytes.
	maxReason = 500
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
	Truncated bool      `json:"truncated,omitempty"`
	Redirects int       `json:"redirects,omitempty"`
	Timings   phases    `json:"timings"`
	TLS       *tlsFacts `json:"tls,omitempty"`
	// Insecure: the certificate was not verified.
	Insecure bool `json:"insecure,omitempty"`
	// Failed is the first option that was not met, and Found what was there instead.
	Failed string `json:"failed,omitempty"`
	Found  string `json:"found,omitempty"`
	Error  string `json:"error,omitempty"`
}

// httpFailure is told of a target that did not.
type httpFailure struct {
	Error   string    `json:"error"`
	URL     string    `json:"url"`
	Timings phases    `json:"timings"`
	TLS     *tlsFacts `json:"tls,omitempty"` // of a certificate that was not accepted
}

var errRedirects = errors.New("too many redirects")

// HTTP asks for a URL and reads the answer, at most 1 MiB of it. Available is a status from 200 to 399, or one that is
// expected, with a body and a certificate as expected. It follows up to 5 redirects, or as many as the details say, uses no
// proxy and a connection of its own. Credentials go to the host of the URL only.
func HTTP(ctx context.Context, target Target) (Result, error) {
	o, err := parseHTTP(target.Details)
	if err != nil {
		return Result{}, err
	}
	var credentials Credentials
	for _, host := range o.hosts() {
		if credentials, err = target.Settings.credentials(o.Credentials, host); err != nil {
			return Result{}, err
		}
	}
	e := exchange{
		ctx: ctx, o: o, hide: o.hider(credentials), authorized: credentials.authorization() != "",
		method: o.Method, last: o.url, began: time.Now(),
	}
	inner, cancel := context.WithCancel(e.timer.trace(ctx))
	defer cancel() // closes the connections
	request, err := o.request(inner, credentials)
	if err != nil {
		return Result{}, fmt.Errorf("%s: %w", e.what(), withoutURL(err))
	}
	client := http.Client{Transport: newTransports(inner, target, o), CheckRedirect: e.redirect}
	response, err := client.Do(request) // its body is closed in e.read; after an error it is already
	if err != nil {
		return e.failed(withoutURL(err))
	}
	return e.read(response)
}

func (o *httpOptions) request(ctx context.Context, credentials Credentials) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, o.Method, o.url.String(), strings.NewReader(o.Body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("User-Agent", "poller-checker")
	for name, value := range o.Headers {
		if request.Header.Set(name, value); http.CanonicalHeaderKey(name) == "Host" {
			request.Host = value // the header is not sent
		}
	}
	if authorization := credentials.authorization(); authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	return request, nil
}

// transports are those of one exchange: server_name is that of the target, not of the hosts it redirects to.
type transports struct {
	host          string // of the target
	named, others *http.Transport
}

func newTransports(ctx context.Context, target Target, o httpOptions) *transports {
	return &transports{
		host:   o.url.Hostname(),
		named:  newTransport(ctx, target, o.ServerName, o.Insecure),
		others: newTransport(ctx, target, "", o.Insecure),
	}
}

// RoundTrip is for http.Client.
func (t *transports) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.EqualFold(r.URL.Hostname(), t.host) {
		return t.named.RoundTrip(r)
	}
	return t.others.RoundTrip(r)
}

// newTransport returns a transport for one exchange. Left to itself, a transport goes on dialling
// and shaking hands when the request has been given up; so its connections hang on ctx.
func newTransport(ctx context.Context, target Target, serverName string, insecure bool) *http.Transport {
	return &http.Transport{
		DialContext: func(_ context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err == nil {
				context.AfterFunc(ctx, func() { _ = conn.Close() })
			}
			return conn, err
		},
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS12, RootCAs: target.RootCAs, ServerName: serverName,
			InsecureSkipVerify: insecure, //nolint:gosec // whoever configures the check says so
		},
		ForceAttemptHTTP2:      true,
		DisableKeepAlives:      true,
		DisableCompression:     true, // to count what was sent
		MaxResponseHeaderBytes: maxHeader,
	}
}

// exchange is one request with its redirects.
type exchange struct {
	ctx        context.Context // an exchange lives as long as the call
	o          httpOptions
	hide       *strings.Replacer
	authorized bool // credentials are shown to the target
	withheld   bool // and they were not with what was asked for last
	began      time.Time
	timer      phaseTimer
	method     string   // of what was asked for last
	last       *url.URL // what was asked for last
	redirects  int
}

func (e *exchange) what() string { return e.method + " " + display(e.last) }

func (e *exchange) redirect(next *http.Request, via []*http.Request) error {
	if e.o.Redirects == 0 {
		return http.ErrUseLastResponse
	}
	e.method, e.last = next.Method, next.URL
	if len(via) > e.o.Redirects {
		return errRedirects
	}
	e.redirects = len(via)
	if e.strange(next.URL) {
		// The client would show credentials to all hosts of the domain, and any host the query of the URL.
		next.Header.Del("Authorization")
		next.Header.Del("Referer")
	}
	// After a host that it does not trust the client shows them to nobody any more, not to the target either.
	e.withheld = next.Header.Get("Authorization") == ""
	return nil
}

// strange tells whether a URL is somebody else's than the target's, or could be read on the way to it.
func (e *exchange) strange(u *url.URL) bool {
	return !strings.EqualFold(u.Hostname(), e.o.url.Hostname()) || e.o.url.Scheme == "https" && u.Scheme != "https"
}

func (e *exchange) read(response *http.Response) (Result, error) {
	body, n, err := e.readBody(response)
	took := time.Since(e.began)
	_ = response.Body.Close() // everything of interest has been read
	if err != nil {
		return e.failed(fmt.Errorf("the answer broke off after %d bytes: %w", n, err))
	}
	message := httpMessage{
		URL: display(e.last), Host: e.last.Hostname(), StatusCode: response.StatusCode,
		ResponseTime: took.Nanoseconds(), Bytes: min(n, maxBody), Truncated: n > maxBody,
		Redirects: e.redirects, Timings: e.timer.phases(), Insecure: e.o.Insecure,
	}
	now := time.Now()
	if response.TLS != nil {
		facts := factsOf(*response.TLS, now)
		message.TLS = &facts
	}
	failed := e.judge(response, body, message.Truncated, now)
	if errors.Is(e.ctx.Err(), context.Canceled) {
		return e.failed(e.ctx.Err())
	}
	if failed != nil {
		message.Failed, message.Found, message.Error = failed.option, failed.found, e.what()+": "+failed.why
	}
	return result(failed == nil, took, message)
}

// readBody reads a body and tells how long it is, up to a byte more than maxBody. It keeps what is looked at later.
func (e *exchange) readBody(response *http.Response) ([]byte, int64, error) {
	limited := io.LimitReader(response.Body, maxBody+1)
	if !e.o.readsBody() {
		n, err := io.Copy(io.Discard, limited)
		return nil, n, err
	}
	body := bytes.NewBuffer(make([]byte, 0, bytes.MinRead+max(0, min(response.ContentLength, maxBody+1))))
	n, err := body.ReadFrom(limited)
	return body.Bytes()[:min(n, maxBody)], n, err
}

// judge returns the first expectation that an answer does not meet, or nil.
func (e *exchange) judge(response *http.Response, body []byte, truncated bool, now time.Time) *unmet {
	if why := e.judgeStatus(response.StatusCode); why != "" {
		return &unmet{"status", why, statusText(response.StatusCode)}
	}
	if failed := e.o.judgeBody(e.ctx, body, truncated, e.hide); failed != nil {
		return failed
	}
	if e.o.MinDays == 0 {
		return nil
	}
	if response.TLS == nil {
		return &unmet{"min_days", "there is no certificate, since that URL is not https://: write one that is, or leave out min_days", ""}
	}
	if why := tooShort(*response.TLS, e.o.MinDays, now); why != "" {
		return &unmet{"min_days", why, ""}
	}
	return nil
}

func (e *exchange) judgeStatus(code int) string {
	why := "the target answered " + statusText(code)
	switch {
	case len(e.o.Status) == 0 && code >= minStatus && code <= maxStatus, slices.Contains(e.o.Status, code):
		return ""
	case code == http.StatusUnauthorized && e.authorized && e.strange(e.last):
		return why + ": the credentials were not sent on to there from " + e.o.url.Hostname()
	case code == http.StatusUnauthorized && e.authorized && e.withheld:
		return why + ": the credentials were not sent on to there, since redirects led elsewhere before"
	case code == http.StatusUnauthorized && e.authorized:
		return why + fmt.Sprintf(": are the credentials %q right?", e.o.Credentials)
	case len(e.o.Status) > 0:
		return why + fmt.Sprintf(", which is not in status %v", e.o.Status)
	}
	return why
}

// failed is the result of an exchange without a whole answer.
func (e *exchange) failed(err error) (Result, error) {
	took := time.Since(e.began)
	timings := e.timer.phases()
	var why string
	switch {
	case errors.Is(e.ctx.Err(), context.Canceled):
		return Result{}, fmt.Errorf("%s: %w", e.what(), e.ctx.Err())
	case e.ctx.Err() != nil && timings.Connect > 0:
		why = fmt.Sprintf("connected, but there was no whole answer within %v: is the target overloaded?", took.Round(time.Millisecond))
	case errors.Is(err, errRedirects):
		why = fmt.Sprintf("more than %d redirects, the last of them to here: does the target redirect in a circle?", e.o.Redirects)
	case strings.Contains(err.Error(), "Location header"):
		why = "the target redirects to something that is not a URL" // which the error quotes
	default:
		why = excerpt(e.hide.Replace(explain(err, took)), maxReason)
	}
	return result(false, took, httpFailure{e.what() + ": " + why, display(e.last), timings, factsOfRefused(err, time.Now())})
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
