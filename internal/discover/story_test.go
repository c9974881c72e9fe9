package discover

import (
	"cmp"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// story is a script of a Set over a real directory and a real server. It knows these events; paths are within the
// story's directory:
//
//	sources              the input has a source a line: its ID, then patterns, or a path of the server's; what ends
//	                     with "s" or "m" is the refresh. The Set is made anew with them by With
//	write PATH [fresh]   replaces a file by the input, in place; it was left alone since a minute, unless it is fresh
//	rename FROM TO       PATHs
//	link TO PATH         makes PATH a symbolic link to TO, or lets it point there, at once
//	mkdir, remove PATH   with all in it
//	serve PATH [status=N] [type=T] [etag=E]   the server answers with the input
//	down, up             the server
//	look [after=D] [labels]   looks at all sources, after a while, and tells what is new
//	due [after=D]        tells which sources are due, and looks at those
//	restart [forget]     another process begins; with no state to begin with if it is to forget
type story struct {
	dir, state string
	now        time.Time
	defs       []Source
	set        *Set
	server     *server
}

func TestStories(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata/stories", func(t *testing.T, path string) {
		t.Parallel()
		s := &story{dir: t.TempDir(), state: filepath.Join(t.TempDir(), "discovery"), now: start, server: serve(t)}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			t.Helper()
			out := s.do(t, d)
			out = strings.ReplaceAll(out, s.dir, "DIR")
			out = strings.ReplaceAll(out, s.state, "STATE")
			return strings.ReplaceAll(out, s.server.address, "SERVER")
		})
	})
}

func (s *story) do(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	s.now = s.now.Add(durationArg(t, d, "after"))
	arg := func(i int) string { return s.path(d.CmdArgs[i].Key) }
	switch d.Cmd {
	case "sources":
		return s.configure(t, d.Input)
	case "write":
		changed := s.now.Add(-time.Minute)
		if d.HasArg("fresh") {
			changed = s.now
		}
		write(t, arg(0), d.Input+"\n", changed)
	case "rename":
		must(t, os.Rename(arg(0), arg(1)))
	case "link":
		must(t, os.Symlink(d.CmdArgs[0].Key, arg(1)+".new"))
		must(t, os.Rename(arg(1)+".new", arg(1)))
	case "mkdir":
		must(t, os.Mkdir(arg(0), 0o700))
	case "remove":
		must(t, os.RemoveAll(arg(0)))
	case "serve":
		s.serve(t, d)
	case "down", "up":
		s.server.set(func() { s.server.down = d.Cmd == "down" })
	case "look":
		return s.look(t, s.set.ids(), d.HasArg("labels"))
	case "due":
		due := s.set.Due(s.now)
		return fmt.Sprintf("due: %s\n", cmp.Or(strings.Join(due, " "), "nothing")) + s.look(t, due, false)
	case "restart":
		if d.HasArg("forget") {
			must(t, os.RemoveAll(s.state))
		}
		return s.restart(t)
	default:
		d.Fatalf(t, "unknown event %q", d.Cmd)
	}
	return ""
}

func (s *story) path(name string) string { return filepath.Join(s.dir, filepath.FromSlash(name)) }

func (s *story) configure(t *testing.T, input string) string {
	t.Helper()
	s.defs = nil
	for line := range strings.Lines(input) {
		words := strings.Fields(line)
		def := Source{ID: words[0]}
		for _, word := range words[1:] {
			refresh, err := time.ParseDuration(word)
			switch {
			case err == nil:
				def.Refresh = refresh
			case strings.HasPrefix(word, "/"):
				def.URL = s.server.url + word
			default:
				def.Files = append(def.Files, s.path(word))
			}
		}
		s.defs = append(s.defs, def)
	}
	if s.set == nil {
		return s.restart(t)
	}
	next, err := s.set.With(s.defs)
	if err != nil {
		return err.Error()
	}
	s.set = next
	return s.tell(s.set.ids(), nil, false)
}

func (s *story) restart(t *testing.T) string {
	t.Helper()
	set, err := New(Config{Sources: s.defs, StateDir: s.state, Instance: "test"})
	must(t, err)
	s.set = set
	return s.tell(s.set.ids(), nil, false)
}

func (s *story) serve(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	a := answer{status: http.StatusOK, contentType: "application/json", body: d.Input}
	d.MaybeScanArgs(t, "status", &a.status)
	d.MaybeScanArgs(t, "type", &a.contentType)
	d.MaybeScanArgs(t, "etag", &a.etag)
	s.server.set(func() { s.server.answers["/"+d.CmdArgs[0].Key] = a })
}

func (s *story) look(t *testing.T, ids []string, labels bool) string {
	t.Helper()
	changed := make(map[string]bool)
	for _, id := range ids {
		changed[id] = s.set.Look(t.Context(), id, s.now)
	}
	return s.tell(ids, changed, labels)
}

// tell tells how sources are.
func (s *story) tell(ids []string, changed map[string]bool, labels bool) string {
	var out strings.Builder
	for _, st := range s.set.Status() {
		if !slices.Contains(ids, st.ID) {
			continue
		}
		fmt.Fprintf(&out, "%s:", st.ID)
		if changed[st.ID] {
			out.WriteString(" changed:")
		}
		list := s.set.Targets()[st.ID]
		for _, target := range list {
			out.WriteString(" " + target.Name)
			if target.Name != target.Address {
				out.WriteString("=" + target.Address)
			}
			if labels {
				fmt.Fprintf(&out, "%v", target.Labels)
			}
		}
		if len(list) == 0 {
			out.WriteString(" nothing")
		}
		out.WriteByte('\n')
		tellStatus(&out, &st)
	}
	return out.String()
}

func tellStatus(out *strings.Builder, st *Status) {
	if st.Err != nil {
		fmt.Fprintf(out, "  fails since %s: %s\n", since(st.Since), strings.ReplaceAll(st.Err.Error(), "\n", "\n    "))
		fmt.Fprintf(out, "  good at %s\n", since(st.Good))
	}
	if st.Held > 0 {
		fmt.Fprintf(out, "  held since %s: %d lost\n", since(st.HeldSince), st.Held)
	}
	if st.Warning != "" {
		fmt.Fprintf(out, "  warning: %s\n", st.Warning)
	}
	if st.StateErr != nil {
		fmt.Fprintf(out, "  state: %v\n", st.StateErr)
	}
	if !st.Next.IsZero() {
		fmt.Fprintf(out, "  next at %s\n", since(st.Next))
	}
}

// answer is what the server says to a path.
type answer struct {
	status            int
	contentType, etag string
	body              string
}

// server is a real one, on loopback, that says what it is told to.
type server struct {
	url, address string

	mu      sync.Mutex
	down    bool
	answers map[string]answer
	asked   []*http.Request
}

func serve(t *testing.T) *server {
	t.Helper()
	s := &server{answers: make(map[string]answer)}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	s.url, s.address = h.URL, strings.TrimPrefix(h.URL, "http://")
	return s
}

func (s *server) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// requests returns those that came since it was last asked.
func (s *server) requests() (all []*http.Request) {
	s.set(func() { all, s.asked = s.asked, nil })
	return all
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r)
	a, known := s.answers[r.URL.Path]
	switch {
	case s.down:
		panic(http.ErrAbortHandler) // hangs up
	case !known:
		http.NotFound(w, r)
		return
	case a.etag != "" && r.Header.Get("If-None-Match") == a.etag:
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", a.contentType)
	if a.etag != "" {
		w.Header().Set("ETag", a.etag)
	}
	w.WriteHeader(a.status)
	_, _ = w.Write([]byte(a.body))
}
