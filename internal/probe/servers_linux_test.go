package probe

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
)

// program finds one that a test needs, of a Debian package. Where there is none the test is left out, unless
// PROBE_SERVERS=required is set, as CI does.
func program(t *testing.T, pkg, name string) string {
	t.Helper()
	candidates, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name) // Debian has them there only
	slices.Reverse(candidates)
	for _, candidate := range append([]string{name, "/usr/sbin/" + name}, candidates...) {
		if found, err := exec.LookPath(candidate); err == nil {
			return found
		}
	}
	message := fmt.Sprintf("there is no %s here: apt-get install --no-install-recommends %s", name, pkg)
	if os.Getenv("PROBE_SERVERS") == "required" {
		t.Fatal(message)
	}
	t.Skip(message)
	return ""
}

// home is a directory for a server, which is not root: PostgreSQL would refuse that.
type home struct {
	dir string
	uid uint32
}

const nobody = 65534

func newHome(t *testing.T) home {
	t.Helper()
	dir, err := os.MkdirTemp("", "probe") //nolint:usetesting // the parent of t.TempDir's is for its owner only
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	h := home{dir, uint32(os.Getuid())}
	if h.uid == 0 {
		h.uid = nobody
	}
	h.own(t, dir)
	return h
}

func (h home) path(name string) string { return filepath.Join(h.dir, name) }

func (h home) own(t *testing.T, path string) {
	t.Helper()
	if err := os.Chown(path, int(h.uid), int(h.uid)); os.Getuid() == 0 && err != nil {
		t.Fatal(err)
	}
}

func (h home) write(t *testing.T, name, text string) string {
	t.Helper()
	if err := os.WriteFile(h.path(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	h.own(t, h.path(name))
	return h.path(name)
}

// certificate copies a certificate for 127.0.0.1 and its key to where the server may read them.
func (h home) certificate(t *testing.T) (cert, key string, roots *x509.CertPool) {
	t.Helper()
	ca := tlsidtest.NewCA(t)
	id := ca.Issue(t, "server", tlsidtest.Hosts("127.0.0.1"))
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(readFile(t, id.CAFile)))
	return h.write(t, "cert.pem", readFile(t, id.CertFile)), h.write(t, "key.pem", readFile(t, id.KeyFile)), roots
}

func readFile(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func (h home) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = h.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + h.dir, "TMPDIR=" + h.dir, "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Getuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: h.uid, Gid: h.uid}
	}
	return cmd
}

func (h home) run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := h.command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// server is a process of a database server.
type server struct {
	port int
	cmd  *exec.Cmd
	log  *logBuffer
	down chan struct{}
}

// start starts a server on a free port of 127.0.0.1, for which args has the arguments, and waits until it is ready.
func (h home) start(t *testing.T, name string, args func(port int) []string, ready func(port int) bool) *server {
	t.Helper()
	for range 3 { // another program may take the port in between
		s := &server{port: freePort(t), log: new(logBuffer), down: make(chan struct{})}
		s.cmd = h.command(name, args(s.port)...)
		s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
		s.cmd.WaitDelay = 10 * time.Second
		if err := s.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go func() {
			defer close(s.down)
			_ = s.cmd.Wait() // it is killed
		}()
		t.Cleanup(s.stop)
		if s.wait(ready) {
			return s
		}
		t.Logf("%s did not start:\n%s", name, s.log)
		s.stop()
	}
	t.FailNow()
	return nil
}

func (s *server) wait(ready func(port int) bool) bool {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	late := time.After(60 * time.Second)
	for {
		select {
		case <-s.down:
			return false
		case <-late:
			return false
		case <-tick.C:
			if ready(s.port) {
				return true
			}
		}
	}
}

// stop ends a server at once. SIGQUIT is that for PostgreSQL, which takes its other processes with it.
func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGCONT)
	end := syscall.SIGKILL
	if strings.HasSuffix(s.cmd.Path, "/postgres") {
		end = syscall.SIGQUIT
	}
	_ = s.cmd.Process.Signal(end)
	<-s.down
}

func (s *server) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// pause has the server hang until the function that it returns is called.
func (s *server) pause(t *testing.T) (resume func()) {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	return func() { _ = s.cmd.Process.Signal(syscall.SIGCONT) }
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// question is what a real server is asked, as details in which ADDR is its address, and what the probe has to find.
// Without reasons it is available.
type question struct {
	name    string
	details string
	timeout time.Duration // 10s if zero
	value   string        // the JSON of it
	reasons []string
}

func wantReal(t *testing.T, s *server, look Func, roots *x509.CertPool, tests []question) {
	t.Helper()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			timeout := test.timeout
			if timeout == 0 {
				timeout = 10 * time.Second
			}
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			details := strings.ReplaceAll(test.details, "ADDR", s.addr())
			began := time.Now()
			r, err := look(ctx, Target{Details: details, RootCAs: roots, Settings: loginSettings})
			if late := time.Since(began) - timeout; late > time.Second {
				t.Errorf("it took %v longer than it had", late)
			}
			text := string(r.Message)
			for _, secret := range []string{"swordfish", "sawfish", "monitor", "stranger", "careful"} {
				if strings.Contains(text, secret) {
					t.Errorf("%s is told: %s", secret, text)
				}
			}
			if len(test.reasons) > 0 {
				wantDown(t, r, err, test.reasons...)
				return
			}
			if err != nil || !r.Available {
				t.Fatalf("%s: %s, %v; want available", details, text, err)
			}
			m := unmarshal(t, r)
			timings, _ := m["timings"].(map[string]any)
			for _, phase := range []string{"connect", "auth", "ping"} {
				if took, _ := timings[phase].(float64); took <= 0 || took > float64(r.ResponseTime) {
					t.Errorf("%s took %v: %s", phase, took, text)
				}
			}
			if m["host"] != "127.0.0.1" || m["port"] != float64(s.port) || m["response_time"] != float64(r.ResponseTime) || m["version"] == "" || m["error"] != nil {
				t.Errorf("answer: %s", text)
			}
			if test.value != "" && !strings.Contains(text, `"value":`+test.value+`,`) || test.value == "" && m["value"] != nil {
				t.Errorf("answer: %s; want the value %s", text, test.value)
			}
		})
	}
}
