package probe

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
)

// telling answers with what was asked.
func telling(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	_, _ = fmt.Fprintf(w, "%s %s host=%s x=%s agent=%s auth=%s body=%s referer=%s",
		r.Method, r.URL, r.Host, r.Header.Get("X-Custom"), r.UserAgent(), r.Header.Get("Authorization"), body, r.Referer())
}

func TestHTTPAsks(t *testing.T) {
	t.Parallel()
	s := serve(t, map[string]http.HandlerFunc{
		"/": telling, "/303": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusSeeOther) },
		"/307": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusTemporaryRedirect) },
	})
	for _, test := range []struct{ path, options, contains string }{
		{"/", `"method":"POST","body":"hello"`, "POST / host=127.0.0.1"},
		{"/", `"method":"put","body":"hello"`, "body=hello"},
		{"/", `"headers":{"X-Custom":"a b","User-Agent":"mine"}`, "x=a b agent=mine"},
		{"/", `"headers":{"Host":"shop.example"}`, "GET / host=shop.example x= agent=poller-checker auth= body= referer="},
		{"/303", `"method":"POST","body":"hello"`, "GET / "},
		{"/307", `"method":"POST","body":"hello","headers":{"X-Custom":"c"}`, "POST / host="},
	} {
		r, err := HTTP(t.Context(), Target{Details: details(s.URL+test.path, test.options+`,"contains":"`+test.contains+`"`)})
		if err != nil || !r.Available {
			t.Errorf("%s %s: %s, %v; want %s", test.path, test.options, r.Message, err, test.contains)
		}
	}
	r, err := HTTP(t.Context(), Target{Details: details(s.URL, `"method":"HEAD"`)})
	if err != nil || !r.Available || unmarshal(t, r)["bytes"] != 0.0 {
		t.Errorf("HEAD: %s, %v", r.Message, err)
	}
	r, err = HTTP(t.Context(), Target{Details: details("http://"+closedAddr, `"method":"DELETE"`)})
	wantDown(t, r, err, "DELETE http://127.0.0.1:1: connection refused")
}

func TestHTTPExpects(t *testing.T) {
	t.Parallel()
	s := serve(t, map[string]http.HandlerFunc{
		"/json": answering(200, `{"state": "down"}`), "/404": answering(404, "gone"), "/empty": answering(204, ""),
		"/1": redirecting("/2"), "/2": redirecting("/json"),
	})
	for _, test := range []struct {
		path, options string
		failed, found string // empty is available
		want          string // in the error
	}{
		{"/404", `"status":[404,410]`, "", "", ""},
		{"/json", `"status":[404]`, "status", "200 OK", "/json: the target answered 200 OK, which is not in status [404]"},
		{"/json", `"contains":"down"`, "", "", ""},
		{"/json", `"contains":"up"`, "contains", `{"state": "down"}`, `GET ` + s.URL + `/json: the body does not contain "up"; it begins with "{\"state\": \"down\"}"`},
		{"/json", `"json":{"state":"up"}`, "json state", `"down"`, `/json: the body has "down" at "state", not "up"`},
		{"/empty", `"contains":"up"`, "contains", "", `/empty: the body does not contain "up"; it is empty`},
		{"/404", `"contains":"gone"`, "status", "404 Not Found", "404 Not Found"},
		{"/1", `"redirects":0`, "", "", ""},
		{"/1", `"redirects":0,"status":[302]`, "", "", ""},
		{"/1", `"redirects":2,"status":[200]`, "", "", ""},
		{"/json", `"min_days":1`, "min_days", "", "there is no certificate"},
	} {
		r, err := HTTP(t.Context(), Target{Details: details(s.URL+test.path, test.options)})
		if test.failed != "" {
			wantDown(t, r, err, test.want)
		} else if err != nil || !r.Available {
			t.Errorf("%s %s: %s, %v; want available", test.path, test.options, r.Message, err)
		}
		m := unmarshal(t, r)
		failed, _ := m["failed"].(string)
		found, _ := m["found"].(string)
		if failed != test.failed || found != test.found {
			t.Errorf("%s %s: %s; want failed %q, found %q", test.path, test.options, r.Message, test.failed, test.found)
		}
	}
	r, err := HTTP(t.Context(), Target{Details: details(s.URL+"/1", `"redirects":1`)})
	wantDown(t, r, err, "/json: more than 1 redirects")
	r, err = HTTP(t.Context(), Target{Details: details(s.URL+"/1", `"redirects":0`)})
	if m := unmarshal(t, r); err != nil || m["status_code"] != 302.0 || m["url"] != s.URL+"/1" || m["redirects"] != nil {
		t.Errorf("redirects 0: %s, %v; want the redirect itself", r.Message, err)
	}
}

// A body without an end: no more than a part of it is read, and kept.
func TestHTTPEndless(t *testing.T) {
	t.Parallel()
	var written atomic.Int64
	s := serve(t, map[string]http.HandlerFunc{"/": func(w http.ResponseWriter, _ *http.Request) {
		for chunk := []byte("first" + strings.Repeat("x", 64<<10)); ; {
			n, err := w.Write(chunk)
			written.Add(int64(n))
			if err != nil || written.Load() > 1<<30 {
				return
			}
		}
	}})
	r, err := HTTP(t.Context(), Target{Details: details(s.URL, `"contains":"first","not_contains":"last"`)})
	if m := unmarshal(t, r); err != nil || !r.Available || m["bytes"] != float64(maxBody) || m["truncated"] != true {
		t.Errorf("%s, %v", r.Message, err)
	}
	r, err = HTTP(t.Context(), Target{Details: details(s.URL, `"contains":"last"`)})
	wantDown(t, r, err, `the first 1 MiB of the body does not contain "last"`)
	if len(r.Message) > 4<<10 {
		t.Errorf("the answer has %d bytes", len(r.Message))
	}
	if got := written.Load(); got > 100<<20 {
		t.Errorf("the target could write %d bytes", got)
	}
}

func TestHTTPCredentials(t *testing.T) {
	t.Parallel()
	elsewhere := serve(t, map[string]http.HandlerFunc{
		"/": telling, "/wants": answering(401, ""),
		"/back": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Query().Get("to"), http.StatusFound)
		},
	})
	_, port, _ := net.SplitHostPort(elsewhere.Listener.Addr().String())
	other := "http://localhost:" + port // the same machine by another name is another host
	s := serve(t, map[string]http.HandlerFunc{
		"/": telling, "/here": redirecting("/there"), "/there": telling,
		"/port": redirecting(elsewhere.URL + "/"), "/away": redirecting(other + "/"), "/wanting": redirecting(other + "/wants"),
		"/round": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other+"/back?to=http://"+r.Host+"/basic", http.StatusFound)
		},
		"/in": redirecting("/basic"),
		"/basic": func(w http.ResponseWriter, r *http.Request) {
			if user, password, _ := r.BasicAuth(); user != "user" || password != "secret" {
				w.WriteHeader(http.StatusUnauthorized)
			}
		},
	})
	settings := &Settings{Credentials: map[string]Credentials{
		"basic": {Username: "user", Password: "secret", Hosts: []string{"127.0.0.1"}},
		"token": {Token: "secret-token", Hosts: []string{"127.0.0.1", "localhost"}},
		"wrong": {Username: "user", Password: "secret2", Hosts: []string{"127.0.0.1"}},
		"other": {Token: "secret", Hosts: []string{"other.example"}},
	}}
	for _, test := range []struct {
		path, options string
		want          []string // in the error; none is available
	}{
		{"/basic", `"credentials":"basic"`, nil},
		{"/basic", `"credentials":"wrong"`, []string{`401 Unauthorized: are the credentials "wrong" right?`}},
		{"/basic", `"method":"GET"`, []string{"the target answered 401 Unauthorized"}},
		{"/", `"credentials":"token","contains":"auth=Bearer secret-token "`, nil},
		{"/here", `"credentials":"token","contains":"GET /there "`, nil},
		{"/here", `"credentials":"token","contains":"auth=Bearer secret-token "`, nil},
		{"/port", `"credentials":"token","contains":"auth=Bearer secret-token "`, nil},
		{"/away", `"credentials":"token","contains":"auth= body"`, nil}, // though they may be shown to that host, too
		{"/away?token=secret", `"credentials":"basic","matches":"referer=$"`, nil},
		{"/wanting", `"credentials":"token"`, []string{"401 Unauthorized: the credentials were not sent on to there from 127.0.0.1"}},
		{"/round", `"credentials":"basic"`, []string{"/basic: the target answered 401 Unauthorized: the credentials were not sent on to there, since redirects led elsewhere before"}},
		{"/in", `"credentials":"basic"`, nil},
		{"/in", `"credentials":"wrong"`, []string{`401 Unauthorized: are the credentials "wrong" right?`}},
		{"/?q=secret-query", `"credentials":"token","contains":"nothing"`, []string{"/?[hidden] host=", "auth=Bearer [hidden] body"}},
		{"/", `"credentials":"basic","contains":"nothing"`, []string{"auth=Basic [hidden] body"}},
	} {
		r, err := HTTP(t.Context(), Target{Details: details(s.URL+test.path, test.options), Settings: settings})
		if test.want != nil {
			wantDown(t, r, err, test.want...)
			wantNoSecret(t, r, err)
		} else if err != nil || !r.Available {
			t.Errorf("%s %s: %s, %v; want available", test.path, test.options, r.Message, err)
		}
	}
	for options, host := range map[string]string{
		`"credentials":"other"`: "127.0.0.1",
		`"credentials":"basic","headers":{"host":"evil.example:80"}`: "evil.example",
		`"credentials":"basic","server_name":"evil.example"`:         "evil.example",
	} {
		r, err := HTTP(t.Context(), Target{Details: details(s.URL, options), Settings: settings})
		if err == nil || !strings.Contains(err.Error(), `are not for the host "`+host+`"`) {
			t.Errorf("%s: %s, %v", options, r.Message, err)
		}
	}
	// One that answers in something else than HTTP is quoted.
	junk := serveTCP(t, func(conn net.Conn) {
		line, _ := bufio.NewReader(conn).ReadString('\n')
		_, asked, _ := strings.Cut(line, " ")
		asked, _, _ = strings.Cut(asked, " ")
		_, _ = fmt.Fprintf(conn, "%s\r\n\r\n", asked)
	})
	r, err := HTTP(t.Context(), Target{Details: "http://" + junk + "/?q=secret-query"})
	wantDown(t, r, err, `malformed HTTP response "/?[hidden]"`)
}

// What went over TLS does not go on without.
func TestHTTPCredentialsStayInTLS(t *testing.T) {
	t.Parallel()
	plain := serve(t, map[string]http.HandlerFunc{"/": telling})
	s := httptest.NewTLSServer(redirecting(plain.URL + "/"))
	t.Cleanup(s.Close)
	settings := &Settings{Credentials: map[string]Credentials{"token": {Token: "secret", Hosts: []string{"127.0.0.1"}}}}
	r, err := HTTP(t.Context(), Target{
		Details: details(s.URL, `"credentials":"token","insecure":true,"contains":"auth= body"`), Settings: settings,
	})
	if err != nil || !r.Available {
		t.Errorf("%s, %v; want it to arrive without credentials", r.Message, err)
	}
}

// serveHTTPS serves a handler with a certificate.
func serveHTTPS(t *testing.T, id check.TLS, handler http.HandlerFunc) (port string) {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.TLS = serverConfig(t, id)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of the handshakes that are to fail
	s.StartTLS()
	t.Cleanup(s.Close)
	_, port, _ = net.SplitHostPort(s.Listener.Addr().String())
	return port
}

func TestHTTPCertificates(t *testing.T) {
	t.Parallel()
	ca := tlsidtest.NewCA(t, tlsidtest.Valid(time.Now().Add(-time.Hour), inDays(90)))
	roots := rootsOf(t, ca.File)
	hello := answering(200, "hello")
	good := serveHTTPS(t, ca.Issue(t, "good", tlsidtest.Valid(time.Now().Add(-time.Hour), inDays(30))), hello)
	named := serveHTTPS(t, ca.Issue(t, "named", tlsidtest.Hosts("shop.example")), redirecting("https://localhost:"+good+"/"))
	expired := serveHTTPS(t, ca.Issue(t, "expired", tlsidtest.Valid(time.Now().Add(-72*time.Hour), time.Now().Add(-36*time.Hour))), hello)
	selfSigned := serveHTTPS(t, tlsidtest.SelfSigned(t, "self"), hello)
	for name, test := range map[string]struct {
		port, options, subject string
		days                   float64
		want                   []string // in the error; none is available
	}{
		"good":              {good, `"contains":"hello"`, "CN=good", 30, nil},
		"days enough":       {good, `"min_days":30`, "CN=good", 30, nil},
		"days too few":      {good, `"min_days":31`, "CN=good", 30, []string{"the certificate is valid until", "30 days more, which is less than min_days, 31"}},
		"wrong name":        {named, `"redirects":0`, "CN=named", 0, []string{"is not accepted", "127.0.0.1"}},
		"other server name": {named, `"server_name":"shop.example","redirects":0`, "CN=named", 0, nil},
		"redirected":        {named, `"server_name":"shop.example","contains":"hello"`, "CN=good", 30, nil},
		"expired":           {expired, `"method":"GET"`, "CN=expired", -2, []string{"is not accepted", "expired"}},
		"expired, insecure": {expired, `"insecure":true`, "CN=expired", -2, nil},
		"days, insecure":    {expired, `"insecure":true,"min_days":1`, "CN=expired", -2, []string{"-2 days more"}},
		"self-signed":       {selfSigned, `"method":"GET"`, "CN=self", 0, []string{"is not accepted", "unknown authority"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := HTTP(t.Context(), Target{Details: details("https://127.0.0.1:"+test.port, test.options), RootCAs: roots})
			if test.want != nil {
				wantDown(t, r, err, test.want...)
			} else if err != nil || !r.Available {
				t.Errorf("%s, %v; want available", r.Message, err)
			}
			m := unmarshal(t, r)
			facts, _ := m["tls"].(map[string]any)
			if facts["subject"] != test.subject || facts["days_left"] != test.days {
				t.Errorf("%s; want %s with %v days", r.Message, test.subject, test.days)
			}
			if insecure := strings.Contains(test.options, "insecure"); (m["insecure"] == true) != insecure {
				t.Errorf("insecure: %s", r.Message)
			}
		})
	}
}
