package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// listen lets a service manager listen, and returns what reads the next message that it gets.
func listen(t *testing.T) func() string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return func() string {
		t.Helper()
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		buffer := make([]byte, 1024)
		n, err := conn.Read(buffer)
		if err != nil {
			t.Fatal(err)
		}
		return string(buffer[:n])
	}
}

func alive(context.Context) error { return nil }

func TestManager(t *testing.T) {
	next := listen(t)
	m := manager{failed: func(err error) { t.Error(err) }}
	m.ready(t.Context(), alive)
	m.reloading()()
	m.stopping()
	var usec int64
	for _, want := range []string{"READY=1", "RELOADING=1\n", "READY=1", "STOPPING=1"} {
		got := next()
		if want == "RELOADING=1\n" {
			if _, err := fmt.Sscanf(got, "RELOADING=1\nMONOTONIC_USEC=%d", &usec); err != nil || usec <= 0 {
				t.Errorf("told %q: %v", got, err)
			}
			continue
		}
		if got != want {
			t.Errorf("told %q, want %q", got, want)
		}
	}
}

// The watchdog is fed while the actors answer, and not when they do not.
func TestWatchdog(t *testing.T) {
	next := listen(t)
	t.Setenv("WATCHDOG_USEC", "30000")
	m := manager{failed: func(err error) { t.Error(err) }}
	var asked, dead atomic.Int64
	m.ready(t.Context(), func(context.Context) error {
		if dead.Load() > 0 {
			dead.Add(1)
			return errors.New("no answer")
		}
		asked.Add(1)
		return nil
	})
	if got := next(); got != "READY=1" {
		t.Errorf("told %q", got)
	}
	for range 3 {
		if got := next(); got != "WATCHDOG=1" {
			t.Errorf("told %q", got)
		}
	}
	dead.Store(1)
	for dead.Load() < 4 {
		<-time.After(time.Millisecond)
	}
	fed := asked.Load() - 3 // what was fed before it died and is still to be read
	m.stopping()
	for range fed {
		if got := next(); got != "WATCHDOG=1" {
			t.Errorf("told %q", got)
		}
	}
	if got := next(); got != "STOPPING=1" {
		t.Errorf("told %q after the actors ceased to answer", got)
	}
}

func TestManagerThatIsGone(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nobody"))
	var problems []string
	m := manager{failed: func(err error) { problems = append(problems, err.Error()) }}
	m.ready(t.Context(), alive)
	m.stopping()
	if len(problems) != 1 || !strings.Contains(problems[0], "nobody") {
		t.Errorf("told of problems: %q", problems)
	}
}
