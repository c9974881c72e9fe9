package probe

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/net/http/httpguts"
)

const (
	defaultRedirects, maxRedirects = 5, 20
	minStatus, maxStatus           = 200, 399
)

type httpOptions struct {
	Target      string                     `json:"target"`
	Method      string                     `json:"method"`
	Headers     map[string]string          `json:"headers"`
	Body        string                     `json:"body"`
	Status      []int                      `json:"status"`
	Contains    string                     `json:"contains"`
	NotContains string                     `json:"not_contains"`
	Matches     string                     `json:"matches"`
	JSON        map[string]json.RawMessage `json:"json"`
	Redirects   int                        `json:"redirects"`
	Credentials string                     `json:"credentials"`
	ServerName  string                     `json:"server_name"`
	Insecure    bool                       `json:"insecure"`
	MinDays     int                        `json:"min_days"`

	url     *url.URL
	pattern *regexp.Regexp // of Matches; nil if that is empty
}

var httpMethods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
}

func parseHTTP(details string) (httpOptions, error) {
	o := httpOptions{Method: http.MethodGet, Redirects: defaultRedirects}
	err := parse(details, &o.Target, &o)
	if err != nil {
		return o, err
	}
	if o.url, err = parseURL(o.Target); err != nil {
		return o, err
	}
	if o.pattern, err = compile(o.Matches); err != nil {
		return o, err
	}
	o.Method = strings.ToUpper(o.Method)
	switch {
	case !slices.Contains(httpMethods, o.Method):
		return o, fmt.Errorf("method is %q: use %s", o.Method, strings.Join(httpMethods, ", "))
	case o.Method == http.MethodHead && o.readsBody():
		return o, errors.New("the answer to HEAD has no body: leave out contains, not_contains, matches and json, or use GET")
	case o.Redirects < 0 || o.Redirects > maxRedirects:
		return o, fmt.Errorf("redirects is %d: write how many to follow, 0 to %d", o.Redirects, maxRedirects)
	case o.Credentials != "" && o.url.User != nil:
		return o, errors.New("there are credentials, and a user in the URL, too: leave out the one in the URL")
	}
	for _, code := range o.Status {
		if code < 100 || code > 999 {
			return o, fmt.Errorf("status has %d: write a list of codes from 100 to 999", code)
		}
	}
	if err := checkHeaders(o.Headers); err != nil {
		return o, err
	}
	for _, path := range slices.Sorted(maps.Keys(o.JSON)) {
		value := jsontext.Value(o.JSON[path])
		if err := canonicalize(&value); err != nil {
			return o, fmt.Errorf("json has %q with a value that is not good JSON: %s", path, jsonFault(err))
		}
		o.JSON[path] = json.RawMessage(value)
	}
	return o, wantDays(o.MinDays)
}

func (o *httpOptions) readsBody() bool {
	return o.Contains != "" || o.NotContains != "" || o.pattern != nil || len(o.JSON) > 0
}

// hosts are the names of whom the request is for. What stands in front of many hosts goes by the last two, and has it read by
// whomever they name.
func (o *httpOptions) hosts() []string {
	hosts := []string{o.url.Hostname()}
	for name, value := range o.Headers {
		if http.CanonicalHeaderKey(name) == "Host" {
			header := url.URL{Host: value}
			hosts = append(hosts, header.Hostname())
		}
	}
	if o.ServerName != "" {
		hosts = append(hosts, o.ServerName)
	}
	return hosts
}

// checkHeaders tells which headers can't be sent, and what to write instead. It shows no values.
func checkHeaders(headers map[string]string) error {
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		value, canonical := headers[name], http.CanonicalHeaderKey(name)
		if seen[canonical] {
			return fmt.Errorf("headers has %s twice: leave one of them out", canonical)
		}
		seen[canonical] = true
		switch canonical {
		case "Authorization", "Proxy-Authorization", "Cookie":
			return fmt.Errorf("headers has %s: details are shown to everybody: name credentials of the checker's file instead", name)
		case "Content-Length", "Transfer-Encoding", "Trailer", "Connection":
			return fmt.Errorf("headers has %s: leave it out, it follows from what is sent", name)
		case "Host":
			if value == "" || !httpguts.ValidHostHeader(value) {
				return errors.New("headers has a Host that is none: write a host, or host:port")
			}
		}
		if !httpguts.ValidHeaderFieldName(name) {
			return fmt.Errorf("headers has %q: that is not the name of a header", name)
		}
		if !httpguts.ValidHeaderFieldValue(value) {
			return fmt.Errorf("headers has %s with characters that no header may have, such as a line's end", name)
		}
	}
	return nil
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

// authorization is the header by which credentials are shown; empty if there are none.
func (c Credentials) authorization() string {
	switch {
	case c.Token != "":
		return "Bearer " + c.Token
	case c.Username != "" || c.Password != "":
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.Username+":"+c.Password))
	}
	return ""
}

// minSecret is how long a value in a query is that is taken for a secret. Shorter ones stand in every text.
const minSecret = 4

// hider returns what takes the secrets of the credentials and of the URL out of what a target said.
func (o *httpOptions) hider(c Credentials) *strings.Replacer {
	secrets := append(c.secrets(), o.url.RawQuery, o.url.Fragment)
	if user := o.url.User; user != nil {
		password, _ := user.Password()
		secrets = append(secrets, Credentials{Username: user.Username(), Password: password}.secrets()...)
	}
	for _, values := range o.url.Query() {
		for _, value := range values {
			if len(value) >= minSecret {
				secrets = append(secrets, value)
			}
		}
	}
	return hiding(secrets...)
}
