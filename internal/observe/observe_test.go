package observe_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/serviceradar/poller/internal/observe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLogger(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	log, flush, err := observe.NewLogger(&b, "info", "auto") // not a terminal: JSON
	if err != nil {
		t.Fatal(err)
	}
	log.Debug().Msg("left out")
	log.Info().Str("agent", "a").Msg("said")
	flush()
	line := make(map[string]any)
	if err := json.Unmarshal(b.Bytes(), &line); err != nil || line["agent"] != "a" || line["message"] != "said" || line["time"] == nil {
		t.Errorf("line %q: %v", b.String(), err)
	}
	b.Reset()
	if log, flush, err = observe.NewLogger(&b, "warn", "console"); err != nil {
		t.Fatal(err)
	}
	log.Warn().Msg("for people")
	flush()
	if s := b.String(); strings.HasPrefix(s, "{") || !strings.Contains(s, "for people") {
		t.Errorf("console line %q", s)
	}
	if _, _, err := observe.NewLogger(&b, "loud", "json"); err == nil {
		t.Error("no error for an unknown level")
	}
}

// What a checker says must not reach the terminal as it came.
func TestConsoleShowsWhatATerminalWouldObey(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	log, flush, err := observe.NewLogger(&b, "info", "console")
	if err != nil {
		t.Fatal(err)
	}
	evil := "\x1b[2J\a\x00\r\n\u202egnp\u009b31m"
	log.Warn().Str("detail", evil).Err(errors.New(evil)).Strs("checks", []string{evil}).Msg("said")
	flush()
	line := strings.TrimSuffix(b.String(), "\n")
	if strings.ContainsFunc(line, func(r rune) bool { return !strconv.IsGraphic(r) }) || strings.Count(line, "[2J") != 3 {
		t.Errorf("the line is %q", line)
	}
}

// stuck is a writer that nobody reads from, until it is released.
type stuck struct {
	release chan struct{}
	bytes.Buffer
}

func (s *stuck) Write(p []byte) (int, error) {
	<-s.release
	return s.Buffer.Write(p)
}

func TestLoggingNeverWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &stuck{release: make(chan struct{})}
		log, flush, err := observe.NewLogger(w, "info", "json")
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for i := range 10_000 {
			log.Info().Int("n", i).Msg("line")
		}
		if waited := time.Since(began); waited != 0 {
			t.Errorf("logging waited %v for its reader", waited)
		}
		flush()
		if waited := time.Since(began); waited != time.Second {
			t.Errorf("flush waited %v, want 1s", waited)
		}
		close(w.release)
		time.Sleep(time.Second)
		synctest.Wait()
		text := w.String()
		if !strings.Contains(text, "lines were left out") || !strings.Contains(text, `"n":9999`) {
			t.Errorf("the log does not say what it left out: %.300s", text)
		}
	})
}

func TestBoard(t *testing.T) {
	t.Parallel()
	ignore := cmpopts.IgnoreUnexported(observe.Condition{})
	var b observe.Board
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	b.Set(at(1), "b", true, "")
	b.Set(at(2), "a", false, "why")
	b.Set(at(3), "a", false, "why else") // Since stays
	want := []observe.Condition{
		{Name: "a", OK: false, Detail: "why else", Since: at(2)},
		{Name: "b", OK: true, Since: at(1)},
	}
	if ready, got := b.Read(at(3)); ready || !cmp.Equal(got, want, ignore) {
		t.Errorf("ready %v: %s", ready, cmp.Diff(want, got, ignore))
	}
	b.Set(at(4), "a", true, "")
	if ready, got := b.Read(at(4)); !ready || got[0].Since != at(4) {
		t.Errorf("ready %v: %+v", ready, got)
	}
	b.SetFor(at(5), "a", 10*time.Second, "nothing happens")
	if ready, got := b.Read(at(14)); !ready || got[0].Detail != "" {
		t.Errorf("ready %v: %+v", ready, got)
	}
	if ready, got := b.Read(at(15)); ready || got[0].Detail != "nothing happens" || got[0].Since != at(15) {
		t.Errorf("ready %v: %+v", ready, got)
	}
	b.SetFor(at(20), "a", 10*time.Second, "nothing happens")
	if ready, got := b.Read(at(21)); !ready || got[0].Since != at(20) {
		t.Errorf("ready %v: %+v", ready, got)
	}
}

// A lazy detail is made anew by each reader, who holds no lock meanwhile.
func TestLazyDetail(t *testing.T) {
	t.Parallel()
	var b observe.Board
	asked := 0
	b.SetLazy(time.Unix(1, 0), "a", true, func() string {
		asked++
		b.Set(time.Unix(2, 0), "b", true, "")
		return strings.Repeat("x", asked)
	})
	for _, want := range []string{"x", "xx"} {
		if ready, got := b.Read(time.Unix(3, 0)); !ready || got[0].Detail != want || got[0].Since != time.Unix(1, 0) {
			t.Errorf("ready %v: %+v, want the detail %q", ready, got, want)
		}
	}
	b.SetLazy(time.Unix(4, 0), "a", false, func() string { return "why" })
	if ready, got := b.Read(time.Unix(5, 0)); ready || got[0].Detail != "why" || got[0].Since != time.Unix(4, 0) {
		t.Errorf("ready %v: %+v", ready, got)
	}
	b.Set(time.Unix(6, 0), "a", true, "")
	if ready, got := b.Read(time.Unix(7, 0)); !ready || got[0].Detail != "" || asked != 2 {
		t.Errorf("ready %v: %+v", ready, got)
	}
}

func TestAdmin(t *testing.T) {
	t.Parallel()
	var dead error
	board := new(observe.Board)
	board.Set(time.Unix(1, 0), "core", false, "away")
	admin, err := observe.ListenAdmin(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	admin.Serve(func(context.Context) error { return dead }, board, observe.NewMetrics(sources(false)), nil)
	client := &http.Client{Transport: new(http.Transport)}
	get := func(path string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+admin.Address()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(body)
	}
	if code, body := get("/healthz"); code != 200 || body != "ok\n" {
		t.Errorf("healthz: %d %q", code, body)
	}
	if code, body := get("/readyz"); code != 503 || !strings.Contains(body, `"detail": "away"`) {
		t.Errorf("readyz: %d %q", code, body)
	}
	if code, body := get("/metrics"); code != 200 || !strings.Contains(body, "poller_checker_connections 3") {
		t.Errorf("metrics: %d %q", code, body)
	}
	board.Set(time.Unix(2, 0), "core", true, "")
	if code, body := get("/readyz"); code != 200 || !strings.Contains(body, `"ready": true`) {
		t.Errorf("readyz: %d %q", code, body)
	}
	dead = errors.New("the root actor does not answer")
	if code, body := get("/healthz"); code != 503 || !strings.Contains(body, "does not answer") {
		t.Errorf("healthz: %d %q", code, body)
	}
	if _, err := observe.ListenAdmin(t.Context(), admin.Address()); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second server on the address: %v", err)
	}
	client.CloseIdleConnections()
	// Somebody who connects and says nothing must not hold it up.
	silent, err := new(net.Dialer).DialContext(t.Context(), "tcp", admin.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	for range 2 {
		if err := admin.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
