package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/serviceradar/poller/internal/probe"
	"github.com/serviceradar/poller/proto/monitoring"
)

// runChecker runs a checker until it ends, and returns what it said and its exit code.
func runChecker(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe, args...)
	cmd.Env = append(os.Environ(), asChecker+"=1")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			t.Fatal(err)
		}
		code = exit.ExitCode()
	}
	return out.String(), errs.String(), code
}

// writeFile writes a checker's file, with the mode that it has to have.
func writeFile(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "checker.toml")
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil { // whatever the umask is
		t.Fatal(err)
	}
	return name
}

func TestCheckCommand(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("there is no /bin/sh")
	}
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close) // after the parallel parts
	target := strings.TrimPrefix(web.URL, "http://")
	file := writeFile(t, `[commands.disk]
command = ["/bin/sh", "-c", 'printf "DISK OK \033[31m\302\2331m | /=1MB;;;0\nmore\n\tlines\n"']
[commands.load]
command = ["/bin/sh", "-c", "echo too much; exit 2"]
[commands.slow]
command = ["/bin/sleep", "600"]
`, 0o600)
	broken := writeFile(t, "lisen = 1\nmax_in_flight = 0\n", 0o600)
	open := writeFile(t, "credentials.a = { token = \"hunter2\", hosts = [\"a\"] }\n", 0o604)
	for name, test := range map[string]struct {
		args           string // separated by spaces
		code           int
		stdout, stderr string // parts of it
	}{
		"kinds":     {"", 0, kinds(), ""},
		"available": {"port " + target, 0, "available in ", ""},
		"keys":      {"port " + target, 0, "\nhost           127.0.0.1\nport           ", ""},
		"json":      {"port --json " + target, 0, `{"available":true,"response_time":`, ""},
		"in an object": {
			"exec {\"target\":\"disk\"} -c " + file, 0,
			"\ntext           DISK OK \\x1b[31m\\u009b1m\nlong_text      more\n               \tlines\n" +
				"perfdata[0]    {\"label\":\"/\",\"value\":1,\"unit\":\"MB\",\"min\":0}\nresponse_time  ", "",
		},
		"json, visible":   {"exec disk --json -c " + file, 0, `"text":"DISK OK \u001b[31m\u009b1m"`, ""},
		"unavailable":     {"exec load -c " + file, 1, "not available after ", ""},
		"why":             {"exec load -c " + file, 1, "\nerror          load: CRITICAL: too much\n", ""},
		"json, why":       {"exec load --json -c " + file, 1, `{"available":false,`, ""},
		"nested":          {"http " + web.URL, 1, "\ntimings.connect  ", ""},
		"timeout":         {"exec slow --timeout 300ms -c " + file, 1, "slow: the command did not end within", ""},
		"warning":         {"port " + target + " -c " + open, 0, "available in", "warning: " + open + ":1: credentials.a.token: this file has secrets in it"},
		"no sense":        {"port nonsense", 2, "", `checker: target "nonsense": its port is "0"`},
		"no credentials":  {"exec nothing -c " + file, 2, "", "add [commands.nothing] there"},
		"no target":       {"http", 2, "", "checker: the target's URL does not begin with http"},
		"this machine":    {"sysmon --json", 0, `"cpus":`, ""},
		"unknown":         {"htpp x", 2, "", `checker: unknown check type "htpp"`},
		"too much":        {"http a b", 2, "", `checker: found "b" after the target`},
		"flag":            {"http a --nothing", 2, "", "checker: unknown flag: --nothing"},
		"no time":         {"http a --timeout 0s", 2, "", "--timeout is 0s"},
		"broken file":     {"http a -c " + broken, 2, "", broken + ":1:1: lisen: unknown key; did you mean \"listen\"?\n" + broken + ":2:17: max_in_flight: found 0"},
		"count of errors": {"http a -c " + broken, 2, "", "\n2 errors in the checker's file\n"},
		"no file":         {"http a -c /nowhere/checker.toml", 2, "", "checker: read the checker's file /nowhere/checker.toml: no such file or directory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stdout, stderr, code := runChecker(t, append([]string{"check"}, strings.Fields(test.args)...)...)
			if code != test.code || !strings.Contains(stdout, test.stdout) || !strings.Contains(stderr, test.stderr) {
				t.Errorf("exit code %d; want %d\n%s%s\nwant %s%s", code, test.code, stdout, stderr, test.stdout, test.stderr)
			}
			if (stdout == "") != (test.stdout == "") || (stderr == "") != (test.stderr == "") {
				t.Errorf("stdout %q, stderr %q", stdout, stderr)
			}
			if strings.ContainsAny(stdout+stderr, "\x1b\u009b") || strings.Contains(stdout+stderr, "hunter2") {
				t.Errorf("it shows what it must not: %q %q", stdout, stderr)
			}
		})
	}
}

// Only what we say is red, and only on a terminal.
func TestReadable(t *testing.T) {
	t.Parallel()
	down := probe.Result{
		Message: []byte(`{"b": {"c": 1.50, "d\u001b": [1, 2], "e": {}}, "list": [{"x": "y"}, 2], "error": "a\u001b[32m\nb"}`), ResponseTime: time.Second,
	}
	const plain = "not available after 1s\nb.c      1.50\nb.d\\x1b  [1, 2]\nlist[0]  {\"x\": \"y\"}\nlist[1]  2\nerror    a\\x1b[32m\n         b\n"
	if got := readable(down, false); got != plain {
		t.Errorf("%s\nwant %s", got, plain)
	}
	const colored = "\x1b[31mnot available after 1s\x1b[0m\nb.c      1.50\nb.d\\x1b  [1, 2]\nlist[0]  {\"x\": \"y\"}\nlist[1]  2\n\x1b[31merror    a\\x1b[32m\n         b\x1b[0m\n"
	if got := readable(down, true); got != colored {
		t.Errorf("%q\nwant %q", got, colored)
	}
	up := probe.Result{Available: true, Message: []byte("no JSON\x1b"), ResponseTime: time.Microsecond * 1234}
	if got := readable(up, true); got != "available in 1.23ms\n  no JSON\\x1b\n" {
		t.Errorf("%q", got)
	}
}

// TestServeFile: the file's commands, limits and warnings count, and flags win over it.
func TestServeFile(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("there is no /bin/sh")
	}
	dir := t.TempDir()
	begun, end := filepath.Join(dir, "begun"), filepath.Join(dir, "end")
	file := writeFile(t, fmt.Sprintf(`
listen = "192.0.2.1:50051"   # which is not ours; a flag is to win over that
log.level = "debug"
limits.exec = 1
[credentials.api]
token = "hunter2"
hosts = ["*"]
[commands.hold]
command = ["/bin/sh", "-c", ': >$1; until [ -e $2 ]; do sleep 0.01; done; echo held', "sh", %q, %q]
`, begun, end), 0o600)
	p := startChecker(t, "-c", file)
	if !strings.Contains(p.said, `"level":"warn"`) || !strings.Contains(p.said, "credentials.api: its hosts leave nobody out") || strings.Contains(p.said, "hunter2") {
		t.Errorf("it said at first %s", p.said)
	}
	conn, err := grpc.NewClient("passthrough:///"+p.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ask := func(ctx context.Context, checkType, details string) (*monitoring.StatusResponse, error) {
		return monitoring.NewAgentServiceClient(conn).GetStatus(ctx, &monitoring.StatusRequest{ServiceType: checkType, Details: details})
	}
	held := make(chan string, 1)
	go func() {
		r, err := ask(t.Context(), "exec", "hold")
		held <- fmt.Sprintf("%v %s %v", r.GetAvailable(), r.GetMessage(), err)
	}()
	for range time.Tick(5 * time.Millisecond) {
		if _, err := os.Stat(begun); err == nil || t.Context().Err() != nil {
			break
		}
	}
	short, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if _, err := ask(short, "exec", "hold"); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "1 checks of type exec were running") {
		t.Errorf("beyond the limit: %v", err)
	}
	if r, err := ask(t.Context(), "port", p.addr); err != nil || !r.GetAvailable() {
		t.Errorf("another kind: %s, %v", r.GetMessage(), err)
	}
	if err := os.WriteFile(end, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := <-held; !strings.HasPrefix(got, `true {"command":"hold","state":"OK","exit_code":0,"text":"held",`) {
		t.Errorf("the command: %s", got)
	}
}

func TestServeBrokenFile(t *testing.T) {
	t.Parallel()
	file := writeFile(t, "lisen = 1\n[credentials.a]\npassword = \"hunter2\"\n", 0o600)
	stdout, stderr, code := runChecker(t, "serve", "-c", file)
	want := file + ":1:1: lisen: unknown key; did you mean \"listen\"?\n" + file + ":2:14: credentials.a.hosts: missing: whom they may be shown to; " +
		"write hosts = [\"10.1.0.0/16\", \"*.db.example\"] or such\n2 errors in the checker's file\n"
	if code != 1 || stdout != "" || stderr != want {
		t.Errorf("exit code %d, stdout %q\n%s\nwant %s", code, stdout, stderr, want)
	}
}
