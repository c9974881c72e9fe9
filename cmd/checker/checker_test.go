package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"

	"github.com/serviceradar/poller/internal/tlsid"
	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
	"github.com/serviceradar/poller/proto/monitoring"
)

// asChecker makes the test's own binary be the checker, so that there is a process to send
// signals to.
const asChecker = "BE_THE_CHECKER"

func TestMain(m *testing.M) {
	if os.Getenv(asChecker) != "" {
		main()
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// process is a running checker.
type process struct {
	cmd    *exec.Cmd
	addr   string
	said   string // before it served
	log    *bufio.Reader
	stderr io.Closer // our end of it
}

// startChecker starts a checker on a free port and waits until it serves.
func startChecker(t *testing.T, args ...string) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, exe, append([]string{"serve", "--listen", "127.0.0.1:0"}, args...)...)
	cmd.Env = append(os.Environ(), asChecker+"=1")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	p := &process{cmd: cmd, log: bufio.NewReader(stderr), stderr: stderr}
	for {
		line, err := p.log.ReadString('\n')
		if err != nil {
			t.Fatalf("the checker's log: %v, after %s", err, p.said)
		}
		var started struct{ Message, Listen string }
		if err := json.Unmarshal([]byte(line), &started); err != nil {
			t.Fatalf("the checker said %q", line)
		}
		if started.Message == "serving checks" {
			p.addr = started.Listen
			return p
		}
		p.said += line
	}
}

// wait returns what the process ended with.
func (p *process) wait() error {
	_, _ = io.Copy(io.Discard, p.log)
	return p.cmd.Wait()
}

// TestNobodyReadsTheLog: the end of the log's reader is not the checker's: it logs that it stops, and
// stops in order.
func TestNobodyReadsTheLog(t *testing.T) {
	t.Parallel()
	p := startChecker(t)
	if err := p.stderr.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

func TestChecker(t *testing.T) {
	t.Parallel()
	ca := tlsidtest.NewCA(t)
	id := ca.Issue(t, "checker")
	p := startChecker(t, "--tls-cert", id.CertFile, "--tls-key", id.KeyFile, "--tls-ca", id.CAFile)
	config, err := tlsid.Client(ca.Issue(t, "poller"), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("passthrough:///"+p.addr, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()

	for _, name := range []string{"", "AgentService", "monitoring.AgentService"} {
		r, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: name})
		if err != nil || r.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
			t.Errorf("health of %q: %v, %v", name, r.GetStatus(), err)
		}
	}
	for _, test := range []struct {
		checkType, details string
		available          bool
		want               string
	}{
		{"port", strings.TrimPrefix(web.URL, "http://"), true, `{"host":"127.0.0.1","port":`},
		{"port", "127.0.0.1:1", false, `{"error":"Port 1 is not accessible: 127.0.0.1: connection refused`},
		{"port", "nonsense", false, `{"error":"target \"nonsense\": its port is`},
		{"http", web.URL, false, `"status_code":404,`},
		{"http", "nonsense", false, `{"error":"the target's URL does not begin with http`},
		{"no-such-type", "127.0.0.1", false, `{"error":"unknown check type \"no-such-type\"; this checker knows `},
	} {
		r, err := monitoring.NewAgentServiceClient(conn).GetStatus(t.Context(),
			&monitoring.StatusRequest{ServiceName: "check", ServiceType: test.checkType, Details: test.details})
		if err != nil || r.GetAvailable() != test.available || !strings.Contains(string(r.GetMessage()), test.want) {
			t.Errorf("%s %s: %v %s, %v; want %v %s", test.checkType, test.details, r.GetAvailable(), r.GetMessage(), err, test.available, test.want)
		}
	}
	if got := services(t, conn); !strings.Contains(got, "monitoring.AgentService") {
		t.Errorf("reflection lists %s", got)
	}

	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.wait(); err != nil {
		t.Errorf("after SIGTERM: %v; want exit code 0", err)
	}
}

// services asks the server what it serves.
func services(t *testing.T, conn *grpc.ClientConn) string {
	t.Helper()
	s, err := grpc_reflection_v1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(&grpc_reflection_v1.ServerReflectionRequest{
		MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{},
	}); err != nil {
		t.Fatal(err)
	}
	r, err := s.Recv()
	if err != nil {
		t.Fatal(err)
	}
	_ = s.CloseSend()
	_, _ = s.Recv() // its end
	return r.GetListServicesResponse().String()
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	p := startChecker(t, "--stop-timeout", "1h")
	asked := make(chan struct{})
	web := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	}))
	defer web.Close()
	conn, err := grpc.NewClient("passthrough:///"+p.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	call := make(chan error, 1)
	go func() {
		_, err := monitoring.NewAgentServiceClient(conn).GetStatus(t.Context(),
			&monitoring.StatusRequest{ServiceType: "http", Details: web.URL})
		call <- err
	}()
	<-asked

	ended := make(chan error, 1)
	go func() { ended <- p.wait() }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for signals := 0; ; signals++ {
		select {
		case err := <-ended:
			exit, ok := errors.AsType[*exec.ExitError](err)
			if !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
				t.Errorf("ended with %v; want by SIGTERM", err)
			}
			if signals < 2 {
				t.Errorf("ended after %d signals; want no sooner than at the second", signals)
			}
			if err := <-call; err == nil {
				t.Error("the call under way was answered")
			}
			return
		case <-tick.C:
			_ = p.cmd.Process.Signal(syscall.SIGTERM)
		}
	}
}

func TestWrongFlags(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"level":    {[]string{"--log-level", "loud"}, `--log-level is "loud"`},
		"format":   {[]string{"--log-format", "xml"}, `--log-format is "xml"`},
		"limit":    {[]string{"--max-in-flight", "0"}, "MaxInFlight is 0"},
		"half TLS": {[]string{"--tls-ca", "ca.pem"}, "a certificate file and a key file"},
		"argument": {[]string{"extra"}, `unknown command "extra"`},
		"address":  {[]string{"--listen", "127.0.0.1"}, "127.0.0.1: listen tcp: address 127.0.0.1: missing port"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := command()
			cmd.SetArgs(append([]string{"serve"}, test.args...))
			cmd.SetErr(io.Discard)
			cmd.SetOut(io.Discard)
			if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v; want %q in it", err, test.want)
			}
		})
	}
}
