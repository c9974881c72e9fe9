package probe

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// serve serves handlers by path until the test ends.
func serve(t *testing.T, handlers map[string]http.HandlerFunc) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	for path, handler := range handlers {
		mux.HandleFunc(path, handler)
	}
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func answering(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = fmt.Fprint(w, body)
	}
}

func redirecting(to string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusFound)
	}
}

func TestHTTPAnswers(t *testing.T) {
	t.Parallel()
	s := serve(t, map[string]http.HandlerFunc{
		"/200": answering(200, "hello"), "/204": answering(204, ""), "/304": answering(304, ""),
		"/404": answering(404, "gone"), "/500": answering(500, ""), "/599": answering(599, ""),
		"/huge": answering(200, strings.Repeat("x", maxBody+10)),
		"/to":   redirecting("/200"), "/circle": redirecting("/circle"),
		"/odd": redirecting("http://secret:%zz@x/"), "/mail": redirecting("mailto:secret"),
		"/auth": func(w http.ResponseWriter, r *http.Request) {
			if user, password, _ := r.BasicAuth(); user != "user" || password != "secret" {
				w.WriteHeader(http.StatusUnauthorized)
			}
		},
	})
	for _, test := range []struct {
		path      string
		available bool
		code      float64
		bytes     float64
		reason    string
	}{
		{"/200", true, 200, 5, ""},
		{"/204", true, 204, 0, ""},
		{"/304", true, 304, 0, ""},
		{"/404", false, 404, 4, "/404: the target answered 404 Not Found"},
		{"/500", false, 500, 0, "500 Internal Server Error"},
		{"/599", false, 599, 0, "the target answered status 599"},
		{"/huge", true, 200, maxBody, ""},
		{"/to", true, 200, 5, ""},
	} {
		r, err := HTTP(t.Context(), Target{Details: s.URL + test.path})
		if err != nil {
			t.Errorf("%s: %v", test.path, err)
			continue
		}
		m := unmarshal(t, r)
		if r.Available != test.available || m["status_code"] != test.code || m["bytes"] != test.bytes || m["host"] != "127.0.0.1" {
			t.Errorf("%s: %s; want available %v, status_code %v, bytes %v", test.path, r.Message, test.available, test.code, test.bytes)
		}
		if reason, _ := m["error"].(string); (reason == "") != test.available || !strings.Contains(reason, test.reason) {
			t.Errorf("%s: reason %q; want %q", test.path, reason, test.reason)
		}
		if got, want := m["truncated"] == true, test.path == "/huge"; got != want {
			t.Errorf("%s: truncated: %v", test.path, got)
		}
		timings, _ := m["timings"].(map[string]any)
		connect, _ := timings["connect"].(float64)
		wait, _ := timings["wait"].(float64)
		if total := float64(r.ResponseTime); connect <= 0 || wait <= 0 || connect+wait > total || m["response_time"] != total {
			t.Errorf("%s: timings don't add up: %s", test.path, r.Message)
		}
	}

	r, err := HTTP(t.Context(), Target{Details: s.URL + "/circle"})
	wantDown(t, r, err, "/circle: more than 5 redirects", "in a circle")
	r, err = HTTP(t.Context(), Target{Details: s.URL + "/odd"})
	wantDown(t, r, err, "not a URL")
	wantNoSecret(t, r, err)
	r, err = HTTP(t.Context(), Target{Details: s.URL + "/mail"})
	wantDown(t, r, err, "unsupported protocol scheme")
	wantNoSecret(t, r, err)
	r, err = HTTP(t.Context(), Target{Details: strings.Replace(s.URL, "://", "://user:secret@", 1) + "/auth"})
	if !r.Available {
		t.Errorf("the URL's user and password are not used: %s", r.Message)
	}
	wantNoSecret(t, r, err)
}

func wantNoSecret(t *testing.T, r Result, err error) {
	t.Helper()
	if text := fmt.Sprint(string(r.Message), err); strings.Contains(text, "secret") || strings.Contains(text, "user") {
		t.Errorf("secrets are told: %s", text)
	}
}

func TestHTTPWrongTargets(t *testing.T) {
	t.Parallel()
	for details, want := range map[string]string{
		"":                         "does not begin with http",
		"host.example/healthz":     "does not begin with http",
		"ftp://user:secret@host/":  "does not begin with http",
		"https:///healthz":         "has no host",
		"http://user:secret%@host": "is not a URL",
	} {
		r, err := HTTP(t.Context(), Target{Details: details})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "https://host.example/healthz") {
			t.Errorf("%q: %v; want %q", details, err, want)
		}
		wantNoSecret(t, r, err)
	}
}

func TestHTTPDown(t *testing.T) {
	t.Parallel()
	r, err := HTTP(t.Context(), Target{Details: "http://user:secret@" + closedAddr + "/x?token=secret#secret"})
	wantDown(t, r, err, "GET http://127.0.0.1:1/x: connection refused")
	wantNoSecret(t, r, err)
}

// A server that takes a connection and says nothing, and one that stops halfway.
func TestHTTPSlow(t *testing.T) {
	t.Parallel()
	silent, _ := listen(t)
	s := serve(t, map[string]http.HandlerFunc{
		"/slow": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"/half": func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprint(w, "half")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		},
	})
	for _, u := range []string{"http://" + silent, "https://" + silent, s.URL + "/slow", s.URL + "/half"} {
		t.Run(u, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			r, err := HTTP(ctx, Target{Details: u})
			wantDown(t, r, err, "connected, but there was no whole answer within")
		})
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if r, err := HTTP(canceled, Target{Details: s.URL + "/slow"}); !errors.Is(err, context.Canceled) {
		t.Errorf("taken back: %s, %v; want an error", r.Message, err)
	}
}

// A transport would go on with a handshake that nobody waits for any more.
func TestHTTPLeavesNoConnection(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if r, err := HTTP(ctx, Target{Details: "https://" + l.Addr().String()}); err != nil || r.Available {
		t.Errorf("a silent target: %s, %v", r.Message, err)
	}
	conn := acceptHandshake(t, l)
	defer func() { _ = conn.Close() }()
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Errorf("the connection is still open: %v", err)
	}
}

// acceptHandshake returns the first connection that begins with a TLS handshake. Others are not
// ours: somebody looks for a server that had this port before.
func acceptHandshake(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(10 * time.Second))
	for {
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		const handshake = 0x16
		first := make([]byte, 1)
		if _, err := conn.Read(first); err == nil && first[0] == handshake {
			return conn
		}
		_ = conn.Close()
	}
}

func TestHTTPBrokenOff(t *testing.T) {
	t.Parallel()
	s := serve(t, map[string]http.HandlerFunc{"/": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = fmt.Fprint(w, "0123456789")
	}})
	r, err := HTTP(t.Context(), Target{Details: s.URL})
	wantDown(t, r, err, "the answer broke off after 10 bytes: unexpected EOF")
}

func TestHTTPS(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		s := httptest.NewUnstartedServer(answering(200, "hello"))
		s.EnableHTTP2 = http2
		s.Config.ErrorLog = log.New(io.Discard, "", 0) // of the handshakes that are to fail
		s.StartTLS()
		t.Cleanup(s.Close)
		roots := x509.NewCertPool()
		roots.AddCert(s.Certificate())

		r, err := HTTP(t.Context(), Target{Details: s.URL, RootCAs: roots})
		if err != nil || !r.Available {
			t.Errorf("HTTP/2 %v: %s, %v; want available", http2, r.Message, err)
		}
		if timings, _ := unmarshal(t, r)["timings"].(map[string]any); timings["tls"] == 0.0 {
			t.Errorf("HTTP/2 %v: the handshake has no time: %s", http2, r.Message)
		}
		r, err = HTTP(t.Context(), Target{Details: s.URL, RootCAs: x509.NewCertPool()})
		wantDown(t, r, err, "certificate is not accepted", "unknown authority", "add the authority")

		_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
		r, err = HTTP(t.Context(), Target{Details: "https://localhost:" + port, RootCAs: roots})
		wantDown(t, r, err, "certificate is not accepted", "localhost")
	}
	plain := serve(t, map[string]http.HandlerFunc{"/": answering(200, "")})
	r, err := HTTP(t.Context(), Target{Details: strings.Replace(plain.URL, "http:", "https:", 1)})
	wantDown(t, r, err, "does not speak TLS", "http:// rather than https://")
}
