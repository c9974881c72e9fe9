package discover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/serviceradar/poller/internal/check"
)

// maxWait bounds one request, maxHeaders the headers of an answer, maxETag what of them is kept; in bytes.
const (
	maxWait    = 30 * time.Second
	maxHeaders = 256 << 10
	maxETag    = 1 << 10
)

// usual asks where no other client is given. It is http.DefaultClient, but that would keep 10 MiB of headers.
var usual = func() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxResponseHeaderBytes = maxHeaders
	return &http.Client{Transport: transport}
}()

// web reads the document behind a URL.
type web struct {
	url     *url.URL
	masked  string // the URL without its secrets
	refresh time.Duration
	client  *http.Client
	memo    memo
	etag    string // of what is in memo; empty if there is none
}

func newWeb(s *Source) (*web, error) {
	u, err := url.Parse(s.URL)
	if err != nil {
		return nil, errors.New("the URL can't be parsed") // the library's error repeats it
	}
	client := s.Client
	if client == nil {
		client = usual
	}
	masked, ok := check.MaskURL(s.URL)
	if !ok {
		return nil, errors.New("the URL has no host")
	}
	return &web{url: u, masked: masked, refresh: s.refresh(), client: client}, nil
}

// covers tells whether a document is the source's.
func (w *web) covers(from string) bool { return from == w.masked }

// read returns what a look came to, by the URL.
func (w *web) read(ctx context.Context, _ []string, _ time.Time) map[string]sighting {
	wait := min(w.refresh, maxWait)
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	targets, err := w.get(limited)
	if err != nil {
		if limited.Err() != nil && ctx.Err() == nil {
			err = fmt.Errorf("no whole answer within %v: %w", wait, context.DeadlineExceeded)
		}
		return map[string]sighting{w.masked: {err: fmt.Errorf("targets from %s: %w", w.masked, err)}}
	}
	return map[string]sighting{w.masked: {targets: targets, settled: true}}
}

func (w *web) get(ctx context.Context) (_ []Target, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url.String(), nil)
	if err != nil {
		return nil, w.withoutSecrets(err)
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "poller")
	request.Header.Set("X-Prometheus-Refresh-Interval-Seconds", strconv.FormatFloat(w.refresh.Seconds(), 'f', -1, 64))
	if w.etag != "" {
		request.Header.Set("If-None-Match", w.etag)
	}
	response, err := w.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("no answer: %w", w.withoutSecrets(err))
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	if response.StatusCode == http.StatusNotModified && w.etag != "" {
		return w.memo.targets, nil
	}
	return w.parse(response)
}

func (w *web) parse(response *http.Response) ([]Target, error) {
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answered %d %s, want 200 OK and a list of targets", response.StatusCode, http.StatusText(response.StatusCode))
	}
	content := response.Header.Get("Content-Type")
	media, params, err := mime.ParseMediaType(content)
	if charset, given := params["charset"]; err != nil || media != "application/json" || (given && !strings.EqualFold(charset, "utf-8")) {
		return nil, fmt.Errorf("the server answered with the content type %s, want application/json in UTF-8; is it the right URL?",
			quoted(content))
	}
	document, err := io.ReadAll(io.LimitReader(response.Body, maxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("the answer broke off: %w", err)
	}
	w.etag = ""
	targets, err := w.memo.parse(document, JSON, map[string]string{"__meta_url": w.masked})
	if err != nil {
		return nil, err
	}
	if etag := response.Header.Get("ETag"); len(etag) <= maxETag {
		w.etag = etag
	}
	return targets, nil
}

// withoutSecrets returns why a request failed. The library's errors name the URL; what it finds in a server's answer
// may repeat parts of it.
func (w *web) withoutSecrets(err error) error {
	if outer, ok := errors.AsType[*url.Error](err); ok {
		err = outer.Err
	}
	msg := err.Error()
	for _, s := range w.secrets() {
		msg = strings.ReplaceAll(msg, s, check.Hidden)
	}
	if msg != err.Error() {
		return errors.New(msg)
	}
	return err
}

// secrets are what may be one; in a query as it is meant and as it is written. What is shorter than four characters is
// none, and occurs in any message.
func (w *web) secrets() []string {
	var all []string
	if w.url.User != nil {
		password, _ := w.url.User.Password()
		all = append(all, w.url.User.Username(), password)
	}
	for part := range strings.SplitSeq(w.url.RawQuery, "&") {
		_, written, named := strings.Cut(part, "=")
		if !named {
			written = part
		}
		meant, _ := url.QueryUnescape(written)
		all = append(all, written, meant)
	}
	return slices.DeleteFunc(all, func(s string) bool { return len(s) < 4 })
}
