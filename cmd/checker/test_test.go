package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/internal/tlsid/tlsidtest"
)

// checkerTest runs checker test and returns its exit code and what it printed.
func checkerTest(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), exe, append([]string{"test"}, args...)...)
	cmd.Env = append(os.Environ(), asChecker+"=1")
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(exit, err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// TestTestOverTLS tests the built-in checks, as their users do.
func TestTestOverTLS(t *testing.T) {
	t.Parallel()
	ca := tlsidtest.NewCA(t)
	server, client := ca.Issue(t, "checker"), ca.Issue(t, "author")
	p := startChecker(t, "--tls-cert", server.CertFile, "--tls-key", server.KeyFile, "--tls-ca", server.CAFile)
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	args := []string{
		p.addr, "--type", "port", "--details", strings.TrimPrefix(web.URL, "http://"),
		"--tls-cert", client.CertFile, "--tls-key", client.KeyFile, "--tls-ca", client.CAFile, "--server-name", "127.0.0.1",
	}
	code, stdout, stderr := checkerTest(t, args...)
	if code != 0 || stderr != "" || !strings.HasPrefix(stdout, "passed  a good check                 available in ") || strings.Contains(stdout, "→") {
		t.Errorf("exit code %d, stderr %q:\n%s", code, stderr, stdout)
	}
	if code, _, stderr := checkerTest(t, args[:5]...); code != 2 || !strings.Contains(stderr, "test "+p.addr+": ") {
		t.Errorf("without TLS: exit code %d, %s; want 2", code, stderr)
	}
}

func TestTestFails(t *testing.T) {
	t.Parallel()
	server, err := sim.NewChecker(sim.Text(`{'a': 1}`)).Start("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	code, stdout, stderr := checkerTest(t, server.Addr(), "--type", "port")
	if code != 1 || !strings.Contains(stderr, "2 of 15 tests of "+server.Addr()+" failed") ||
		!strings.Contains(stdout, "\nfailed  the message  ") || !strings.Contains(stdout, "→ write the message with a JSON library") {
		t.Errorf("exit code %d, %s:\n%s", code, stderr, stdout)
	}
	code, stdout, _ = checkerTest(t, server.Addr(), "--type", "port", "--json")
	var r report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || code != 1 || r.Failed != 2 || r.Address != server.Addr() || len(r.Tests) != 15 ||
		r.Tests[1].Outcome != "failed" || r.Tests[1].Advice == "" {
		t.Errorf("exit code %d, %v: %+v", code, err, r)
	}
}

func TestTestArguments(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"pass the checker's address":        {"--type", "port"},
		"is no address of a checker":        {"127.0.0.1", "--type", "port"},
		"--type is missing":                 {"127.0.0.1:1"},
		"--timeout is 0s":                   {"127.0.0.1:1", "--type", "port", "--timeout", "0"},
		"--tls-cert and --tls-key belong":   {"127.0.0.1:1", "--type", "port", "--tls-cert", "a"},
		"--tls-ca is missing":               {"127.0.0.1:1", "--type", "port", "--tls-cert", "a", "--tls-key", "b"},
		"--server-name is for TLS":          {"127.0.0.1:1", "--type", "port", "--server-name", "a"},
		"127.0.0.1:1: connect: connection ": {"127.0.0.1:1", "--type", "port"},
	} {
		code, stdout, stderr := checkerTest(t, args...)
		wantCode := 1
		if strings.HasPrefix(want, "127") {
			wantCode = 2
		}
		if code != wantCode || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%q: exit code %d, %q, %s; want %d, %q", args, code, stdout, stderr, wantCode, want)
		}
	}
}
