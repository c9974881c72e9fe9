package discover

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// newSet returns a Set of one source, "x", that remembers nothing.
func newSet(t *testing.T, def Source) *Set {
	t.Helper()
	def.ID = "x"
	set, err := New(Config{Sources: []Source{def}})
	must(t, err)
	return set
}

func only(t *testing.T, set *Set) Status {
	t.Helper()
	all := set.Status()
	if len(all) != 1 {
		t.Fatalf("status of %d sources", len(all))
	}
	return all[0]
}

func wantTargets(t *testing.T, set *Set, want string) {
	t.Helper()
	if got := names(set.Targets()["x"]); got != want {
		t.Errorf("targets are %s, want %s; %v", got, want, only(t, set).Err)
	}
}

func TestHTTPAsksAsPrometheusDoes(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.answers["/t"] = answer{status: http.StatusOK, contentType: "application/json", body: `[{"targets":["a:1","b:1"]}]`, etag: `"1"`}
	set := newSet(t, Source{URL: s.url + "/t?site=berlin", Refresh: 90 * time.Second})
	set.Look(t.Context(), "x", start)
	wantTargets(t, set, "a:1 b:1")
	asked := s.requests()[0]
	for name, want := range map[string]string{
		"Accept": "application/json", "X-Prometheus-Refresh-Interval-Seconds": "90", "If-None-Match": "",
	} {
		if got := asked.Header.Get(name); got != want {
			t.Errorf("header %s is %q, want %q", name, got, want)
		}
	}
	if got := asked.URL.Query().Get("site"); asked.Method != http.MethodGet || got != "berlin" {
		t.Errorf("asked with %s for %s", asked.Method, asked.URL)
	}

	// The second time it need not be sent again.
	if set.Look(t.Context(), "x", start.Add(time.Minute)) {
		t.Error("what is as it was changed")
	}
	if got := s.requests()[0].Header.Get("If-None-Match"); got != `"1"` {
		t.Errorf("If-None-Match is %q", got)
	}
	if st := only(t, set); st.Err != nil || !st.Good.Equal(start.Add(time.Minute)) {
		t.Errorf("status %+v", st)
	}

	// Garbage with a tag is not what the next look is compared with.
	s.set(func() {
		s.answers["/t"] = answer{status: 200, contentType: "application/json", body: `[{`, etag: `"2"`}
	})
	set.Look(t.Context(), "x", start.Add(2*time.Minute))
	set.Look(t.Context(), "x", start.Add(3*time.Minute))
	if only(t, set).Err == nil {
		t.Error("garbage that was not sent again was taken")
	}
	wantTargets(t, set, "a:1 b:1")

	// Nor is the tag of what was there before.
	s.requests()
	s.set(func() {
		s.answers["/t"] = answer{status: 200, contentType: "application/json", body: `[{"targets":["b:1"]}]`, etag: `"1"`}
	})
	set.Look(t.Context(), "x", start.Add(4*time.Minute))
	if got := s.requests()[0].Header.Get("If-None-Match"); got != "" {
		t.Errorf("If-None-Match is %q", got)
	}
	wantTargets(t, set, "b:1")
}

// A list that is held is confirmed by an answer that it is still the same.
func TestHTTPNotModifiedConfirms(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.answers["/t"] = answer{status: 200, contentType: "application/json", body: `[{"targets":["a:1","b:1"]}]`, etag: `"1"`}
	set := newSet(t, Source{URL: s.url + "/t"})
	set.Look(t.Context(), "x", start)
	s.set(func() {
		s.answers["/t"] = answer{status: 200, contentType: "application/json", body: `[]`, etag: `"2"`}
	})
	set.Look(t.Context(), "x", start.Add(time.Minute))
	wantTargets(t, set, "a:1 b:1")
	if !set.Look(t.Context(), "x", start.Add(2*time.Minute)) {
		t.Error("the second look changed nothing")
	}
	wantTargets(t, set, "nothing")
}

func TestHTTPFollowsRedirects(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.answers["/t"] = answer{status: 200, contentType: "application/json", body: `[{"targets":["a:1"]}]`}
	from := httptest.NewServer(http.RedirectHandler(s.url+"/t", http.StatusFound))
	t.Cleanup(from.Close)
	set := newSet(t, Source{URL: from.URL})
	set.Look(t.Context(), "x", start)
	wantTargets(t, set, "a:1")
	if got := set.Targets()["x"][0].Labels["__meta_url"]; got != from.URL {
		t.Errorf("__meta_url is %s, want the URL that was configured, %s", got, from.URL)
	}
}

// What is too large is refused, also if it is small on the wire.
func TestHTTPRefusesHugeAnswers(t *testing.T) {
	t.Parallel()
	var member bytes.Buffer // one of many: to pack all of it takes seconds
	zip := gzip.NewWriter(&member)
	_, err := io.CopyN(zip, spaces{}, 1<<20)
	must(t, errors.Join(err, zip.Close()))
	bomb := bytes.Repeat(member.Bytes(), maxDocument>>20+1)
	for name, say := range map[string]func(w http.ResponseWriter){
		"endless": func(w http.ResponseWriter) { _, _ = io.Copy(w, spaces{}) }, // until we hang up
		"gzip": func(w http.ResponseWriter) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			peer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				say(w)
			}))
			t.Cleanup(peer.Close)
			set := newSet(t, Source{URL: peer.URL})
			set.Look(t.Context(), "x", start)
			if err := only(t, set).Err; err == nil || !strings.Contains(err.Error(), "more than 8 MiB") {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// spaces reads as an endless text.
type spaces struct{}

var blank = bytes.Repeat([]byte(" "), 64<<10)

func (spaces) Read(p []byte) (int, error) { return copy(p, blank), nil }

func TestHTTPAnswerThatBreaksOff(t *testing.T) {
	t.Parallel()
	peer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `[{"targets":["a:1"]}]`)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(peer.Close)
	set := newSet(t, Source{URL: peer.URL})
	set.Look(t.Context(), "x", start)
	if err := only(t, set).Err; err == nil || !strings.Contains(err.Error(), "broke off") {
		t.Errorf("the error is %v", err)
	}
	wantTargets(t, set, "nothing")
}

// A server that does not answer, or not to the end, costs a look as long as a refresh, and at most half a minute.
func TestHTTPSlowServer(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(w http.ResponseWriter){
		"silent": func(http.ResponseWriter) {},
		"halting": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, "[")
			_ = http.NewResponseController(w).Flush()
		},
	} {
		for _, test := range []struct{ refresh, want time.Duration }{{10 * time.Second, 10 * time.Second}, {time.Hour, maxWait}} {
			t.Run(fmt.Sprint(name, test.refresh), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					client := inMemory(t, func(w http.ResponseWriter, r *http.Request) {
						begin(w)
						<-r.Context().Done()
					})
					set := newSet(t, Source{URL: "http://slow.example/", Refresh: test.refresh, Client: client})
					began := time.Now()
					set.Look(t.Context(), "x", began)
					if took := time.Since(began); took != test.want {
						t.Errorf("the look took %v, want %v", took, test.want)
					}
					err := only(t, set).Err
					if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no whole answer within "+test.want.String()) {
						t.Errorf("the error is %v", err)
					}
				})
			})
		}
	}
}

// inMemory returns a client of a real server without a network, for bubbles.
func inMemory(t *testing.T, handle http.HandlerFunc) *http.Client {
	t.Helper()
	l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: handle}
	go func() { _ = server.Serve(l) }()
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		l.conns <- theirs
		return ours, nil
	}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = server.Close()
	})
	return &http.Client{Transport: transport}
}

type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error {
	close(l.closed)
	return nil
}

func (l *pipes) Addr() net.Addr { return &net.UnixAddr{} }

// A look that is cancelled, because the poller stops, says nothing of the source.
func TestLookThatIsCancelledDoesNotCount(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.answers["/t"] = answer{status: 200, contentType: "application/json", body: `[{"targets":["a:1"]}]`}
	set := newSet(t, Source{URL: s.url + "/t"})
	set.Look(t.Context(), "x", start)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if set.Look(ctx, "x", start.Add(time.Minute)) {
		t.Error("changed")
	}
	if st := only(t, set); st.Err != nil || !st.Good.Equal(start) {
		t.Errorf("status %+v", st)
	}
}

// What of a URL is secret is in no error, label or state, whatever goes wrong.
func TestHTTPTellsNoSecrets(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.answers["/t"] = answer{status: 200, contentType: "application/json", body: `[{"targets":["a:1"]}]`}
	s.answers["/none"] = answer{status: 404}
	loop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		where := "/?" + r.URL.RawQuery
		if r.URL.Path == "/bad" {
			user, password, _ := r.BasicAuth()
			where = "http://[" + user + "," + password + "," + r.URL.RawQuery
		}
		http.Redirect(w, r, where, http.StatusFound)
	}))
	t.Cleanup(loop.Close)
	closed := httptest.NewServer(nil)
	closed.Close()
	for _, base := range []string{
		s.url + "/t", s.url + "/none", loop.URL + "/", loop.URL + "/bad", closed.URL + "/", "https://" + s.address + "/t",
	} {
		for _, query := range []string{"?token=ahush&site=hush", "?token=ah%75sh%20%2f&site=h%75sh%20%2f", "?hush", "?a=1;token=hush&hush"} {
			u := strings.Replace(base, "://", "://whisper:mumble@", 1) + query
			state := t.TempDir()
			set, err := New(Config{Sources: []Source{{ID: "x", URL: u}}, StateDir: state})
			must(t, err)
			set.Look(t.Context(), "x", start)
			st := only(t, set)
			told := fmt.Sprintf("%v %v %v", st, st.Err, set.Targets())
			saved, err := set.store.load("x")
			must(t, err)
			told += fmt.Sprint(saved)
			for _, s := range []string{"whisper", "mumble", "hush", "h%75sh"} {
				if strings.Contains(told, s) {
					t.Errorf("%s: %s", base, told)
				}
			}
			if (st.Err == nil) != (base == s.url+"/t") {
				t.Errorf("%s: %v", base, st.Err)
			}
			if st.Err != nil && !strings.Contains(st.Err.Error(), "***@") {
				t.Errorf("the error does not name the URL: %v", st.Err)
			}
		}
	}
	if _, err := New(Config{Sources: []Source{{ID: "x", URL: "http://me:hush@a b/"}}}); err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("the error is %v", err)
	}
}
