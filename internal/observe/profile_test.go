package observe

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestProfilesAreForThisMachine: what shows the inside of the process, and costs it something, is not for a network.
func TestProfilesAreForThisMachine(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	profiles(mux)
	ask := func(path, peer, host string, header http.Header) (code int, body string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
		r.RemoteAddr, r.Host, r.Header = peer, host, header
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	for _, tt := range []struct {
		peer, host string
		header     http.Header
		want       int
	}{
		{"127.0.0.1:1", "127.0.0.1:9464", nil, http.StatusOK},
		{"127.9.9.9:1", "localhost:9464", nil, http.StatusOK},
		{"[::1]:1", "[::1]:9464", nil, http.StatusOK},
		{"[::ffff:127.0.0.1]:1", "localhost", nil, http.StatusOK},
		{"192.0.2.1:1", "127.0.0.1:9464", nil, http.StatusForbidden},
		{"[::ffff:192.0.2.1]:1", "localhost", nil, http.StatusForbidden},
		{"[2001:db8::1]:1", "localhost", nil, http.StatusForbidden},
		{"", "localhost", nil, http.StatusForbidden},
		{"@", "localhost", nil, http.StatusForbidden},
		{"127.0.0.1:1", "poller.example:9464", nil, http.StatusForbidden},
		{"127.0.0.1:1", "", nil, http.StatusForbidden},
		{"127.0.0.1:1", "localhost", http.Header{"X-Forwarded-For": {"192.0.2.1"}}, http.StatusForbidden},
		{"127.0.0.1:1", "localhost", http.Header{"Forwarded": {"for=192.0.2.1"}}, http.StatusForbidden},
	} {
		code, body := ask("/debug/pprof/goroutine?debug=1", tt.peer, tt.host, tt.header)
		if code != tt.want || (code == http.StatusOK) != strings.HasPrefix(body, "goroutine profile: total ") {
			t.Errorf("from %q, to %q, with %v: %d %.100s", tt.peer, tt.host, tt.header, code, body)
		}
	}
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/profile?seconds=1", "/debug/pprof/trace", "/debug/pprof/symbol", "/debug/pprof/cmdline"} {
		if code, body := ask(path, "192.0.2.1:1", "192.0.2.2:9464", nil); code != http.StatusForbidden || !strings.Contains(body, "loopback") {
			t.Errorf("%s over a network: %d %.100s", path, code, body)
		}
	}
	if code, body := ask("/debug/pprof/", "127.0.0.1:1", "localhost", nil); code != http.StatusOK || !strings.Contains(body, "heap") {
		t.Errorf("the list: %d %.100s", code, body)
	}
}

// A page that a browser on this machine shows must not have the poller do anything.
func TestOrdersOfPages(t *testing.T) {
	t.Parallel()
	handler := fromHere(func(http.ResponseWriter, *http.Request) {})
	for _, tt := range []struct {
		header http.Header
		want   int
	}{
		{nil, http.StatusOK}, // poller drain
		{http.Header{"Origin": {"http://localhost:9464"}}, http.StatusOK},
		{http.Header{"Origin": {"https://evil.example"}}, http.StatusForbidden},
		{http.Header{"Origin": {"null"}}, http.StatusForbidden},
		{http.Header{"Sec-Fetch-Site": {"cross-site"}}, http.StatusForbidden},
		{http.Header{"Sec-Fetch-Site": {"same-site"}}, http.StatusForbidden},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost:9464/cluster/order?what=drain", nil)
		r.RemoteAddr, r.Header = "127.0.0.1:1", tt.header
		w := httptest.NewRecorder()
		if handler(w, r); w.Code != tt.want {
			t.Errorf("with %v: %d, want %d", tt.header, w.Code, tt.want)
		}
	}
}
