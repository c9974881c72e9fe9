package probe

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func listen(t *testing.T) (addr string, port int32) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String(), int32(l.Addr().(*net.TCPAddr).Port)
}

// closedAddr is a privileged port that nothing listens on.
const closedAddr = "127.0.0.1:1"

func unmarshal(t *testing.T, r Result) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(r.Message, &m); err != nil {
		t.Fatalf("message %s: %v", r.Message, err)
	}
	return m
}

// wantDown checks that the target is unavailable for a reason with all the parts in it.
func wantDown(t *testing.T, r Result, err error, parts ...string) {
	t.Helper()
	if err != nil {
		t.Errorf("error %v; want a result", err)
		return
	}
	if r.Available {
		t.Errorf("available: %s", r.Message)
	}
	reason, _ := unmarshal(t, r)["error"].(string)
	for _, part := range parts {
		if !strings.Contains(reason, part) {
			t.Errorf("reason: %s\nwant in it: %s", reason, part)
		}
	}
}

func TestPortOpen(t *testing.T) {
	t.Parallel()
	addr, port := listen(t)
	for _, target := range []Target{
		{Details: addr},
		{Details: " " + addr + " "},
		{Details: addr, Port: port},
		{Details: "127.0.0.1", Port: port},
	} {
		r, err := Port(t.Context(), target)
		if err != nil || !r.Available || r.ResponseTime <= 0 {
			t.Errorf("%+v: available %v after %v, %v; want available", target, r.Available, r.ResponseTime, err)
			continue
		}
		want := `{"host":"127.0.0.1","port":` + strconv.Itoa(int(port)) + `,"response_time":` + strconv.FormatInt(r.ResponseTime.Nanoseconds(), 10) + `}`
		if string(r.Message) != want {
			t.Errorf("%+v: %s; want %s", target, r.Message, want)
		}
	}
}

func TestPortClosed(t *testing.T) {
	t.Parallel()
	r, err := Port(t.Context(), Target{Details: closedAddr})
	wantDown(t, r, err, "Port 1 is not accessible: 127.0.0.1: connection refused: nothing listens there")
	if strings.Count(string(r.Message), `":`) != 1 {
		t.Errorf("message %s; want only an error", r.Message)
	}
}

func TestPortContext(t *testing.T) {
	t.Parallel()
	addr, _ := listen(t)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if r, err := Port(canceled, Target{Details: addr}); !errors.Is(err, context.Canceled) {
		t.Errorf("taken back: %s, %v; want an error", r.Message, err)
	}
	late, cancelLate := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancelLate()
	r, err := Port(late, Target{Details: addr})
	wantDown(t, r, err, "no answer within", "firewall")
}

func TestHostPort(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		target Target
		host   string
		port   int32
		want   string // in the error
	}{
		{Target{Details: "host.example:22"}, "host.example", 22, ""},
		{Target{Details: "[2001:db8::1]:22"}, "2001:db8::1", 22, ""},
		{Target{Details: "2001:db8::1", Port: 22}, "2001:db8::1", 22, ""},
		{Target{Details: "[2001:db8::1]", Port: 22}, "2001:db8::1", 22, ""},
		{Target{Details: "host", Port: 65535}, "host", 65535, ""},
		{Target{Details: "fe80::1%eth0", Port: 22}, "fe80::1%eth0", 22, ""},
		{Target{Details: "[fe80::1%eth0]", Port: 22}, "fe80::1%eth0", 22, ""},
		{Target{Details: "[fe80::1%eth0]:22"}, "fe80::1%eth0", 22, ""},
		{Target{Details: "fe80::1%", Port: 22}, "", 0, "it is not host:port"},
		{Target{Details: "https://a.example/?token=hunter2"}, "", 0, "the target is a URL or has a user in it: write host:port"},
		{Target{Details: "user:hunter2@a.example:22"}, "", 0, "the target is a URL or has a user in it: write host:port"},
		{Target{Details: "user:hunter2@a.example", Port: 22}, "", 0, "the target is a URL or has a user in it: write host:port"},
		{Target{Details: "hunter2@a.example:22"}, "", 0, "the target is a URL or has a user in it: write host:port"},
		{Target{Details: ""}, "", 0, "it has no host"},
		{Target{Details: ":22"}, "", 0, "it has no host"},
		{Target{Details: "host"}, "", 0, `its port is "0"`},
		{Target{Details: "host:0"}, "", 0, `its port is "0"`},
		{Target{Details: "host:65536"}, "", 0, "from 1 to 65535"},
		{Target{Details: "host:ssh"}, "", 0, `its port is "ssh"`},
		{Target{Details: "host", Port: -1}, "", 0, `its port is "-1"`},
		{Target{Details: "host:22:23"}, "", 0, "it is not host:port"},
		{Target{Details: "host[", Port: 22}, "", 0, "it is not host:port"},
		{Target{Details: "host:22", Port: 23}, "", 0, "port 23 is given apart from it"},
	} {
		host, port, err := hostPort(test.target)
		if host != test.host || port != test.port || (err == nil) != (test.want == "") {
			t.Errorf("%+v: %q, %d, %v; want %q, %d", test.target, host, port, err, test.host, test.port)
		}
		if err != nil && (!strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("%+v: %v; want %q in it, and no secret", test.target, err, test.want)
		}
	}
	if _, err := Port(t.Context(), Target{}); err == nil {
		t.Error("Port has no error for no target")
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		"the name nowhere.example is not known": &net.OpError{Op: "dial", Err: &net.DNSError{Name: "nowhere.example", IsNotFound: true}},
		"can't be resolved: server misbehaving": &net.DNSError{Name: "x", Err: "server misbehaving"},
		"no answer within 1.5s":                 &net.OpError{Op: "dial", Err: context.DeadlineExceeded},
		"something else":                        &net.OpError{Op: "dial", Err: errors.New("something else")},
		"plain":                                 errors.New("plain"),
	} {
		if got := explain(err, 1500*time.Millisecond); !strings.Contains(got, want) {
			t.Errorf("explain(%v) = %s; want %s", err, got, want)
		}
	}
}
