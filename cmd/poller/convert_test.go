package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const serviceRadar = `{
  "poller_id": "edge", "source_ip": "127.0.0.1", "core_address": "127.0.0.1:50052", "listen_addr": ":50053",
  "agents": {"local": {"address": ":50051", "checks": [
    {"service_type": "http", "service_name": "web", "details": "https://user:hunter2@example.org/", "config": {}},
    {"service_name": "no type"}
  ]}}
}
`

// jsonFile writes a file to convert into a directory of its own, which the result can stand in, too.
func jsonFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "poller.json")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func content(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestConvert(t *testing.T) {
	t.Parallel()
	file := jsonFile(t, serviceRadar)
	r := poller(t, "convert", file)
	if r.code != 0 || !strings.HasPrefix(r.stdout, "# ") || !strings.Contains(r.stdout, "\n[agents.local]\n") {
		t.Errorf("%+v", r)
	}
	for _, want := range []string{
		"note: listen_addr: not needed", "note: agents.local.address: ", "note: agents.local.checks[0].config: not carried",
		"warning: agents.local.checks[1]: left out",
	} {
		if !strings.Contains(r.stderr, want) {
			t.Errorf("stderr lacks %q: %s", want, r.stderr)
		}
	}
	if strings.Contains(r.stderr, "hunter2") || !strings.Contains(r.stdout, "hunter2") {
		t.Errorf("the password has to be carried, and not to be shown: %+v", r)
	}
	converted := configFile(t, "%s", r.stdout)
	if v := poller(t, "validate", "-c", converted); v.code != 0 || !strings.Contains(v.stdout, "1 agent") {
		t.Errorf("what was converted is not right: %+v", v)
	}
}

func TestConvertStandardInput(t *testing.T) {
	t.Parallel()
	want := poller(t, "convert", jsonFile(t, serviceRadar)).stdout
	for text, ok := range map[string]bool{serviceRadar: true, "{\n  x": false} {
		cmd := exec.CommandContext(t.Context(), binary, "convert", "-")
		var stdout, stderr bytes.Buffer
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(text), &stdout, &stderr
		err := cmd.Run()
		if ok && (err != nil || stdout.String() != want) {
			t.Errorf("%v, printed %q, want %q", err, &stdout, want)
		}
		if !ok && (err == nil || stdout.Len() > 0 || !strings.Contains(stderr.String(), "standard input:2:3: not valid JSON")) {
			t.Errorf("%v, printed %q and %q", err, &stdout, &stderr)
		}
	}
}

func TestConvertFails(t *testing.T) {
	t.Parallel()
	bad := jsonFile(t, `{"poller_id": 7, "source_ip": "auto", "core_address": "core", "security": {"mode": "spiffe"}}`)
	out := filepath.Join(t.TempDir(), "poller.toml")
	for _, args := range [][]string{{"convert", bad}, {"convert", bad, "-o", out}} {
		r := poller(t, args...)
		for _, want := range []string{bad + ":1:15: poller_id: ", "core_address: ", "security.mode: ", "3 errors in the way"} {
			if !strings.Contains(r.stderr, want) {
				t.Errorf("%q: stderr lacks %q: %s", args, want, r.stderr)
			}
		}
		if r.code != 1 || r.stdout != "" {
			t.Errorf("%q: %+v", args, r)
		}
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("there is a file of what could not be converted")
	}
	for want, args := range map[string][]string{
		"nothing to convert": {"convert"},
		"goes with -o":       {"convert", bad, out},
		"no such file":       {"convert", filepath.Join(t.TempDir(), "none.json")},
		"about the file":     {"convert", bad, "--force"},
		"is a directory":     {"convert", t.TempDir()},
	} {
		if r := poller(t, args...); r.code != 1 || r.stdout != "" || !strings.Contains(r.stderr, want) {
			t.Errorf("%q: %+v, want %q", args, r, want)
		}
	}
}

func TestConvertToFile(t *testing.T) {
	t.Parallel()
	file := jsonFile(t, serviceRadar)
	want := poller(t, "convert", file).stdout
	out := filepath.Join(t.TempDir(), "poller.toml")
	r := poller(t, "convert", file, "-o", out)
	if r.code != 0 || r.stdout != "" || !strings.Contains(r.stderr, "note: ") || !strings.Contains(r.stderr, "poller validate -c "+out) {
		t.Errorf("%+v", r)
	}
	if got := content(t, out); got != want {
		t.Errorf("the file holds %q, want what is printed: %q", got, want)
	}
	if info, err := os.Stat(out); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: want it for its owner alone", info.Mode(), err)
	}
	if err := os.WriteFile(out, []byte(strings.Repeat("# mine\n", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(out, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := poller(t, "convert", file, "-o", out); r.code != 1 || !strings.Contains(r.stderr, "--force") {
		t.Errorf("a file that is there: %+v", r)
	}
	if got := content(t, out); !strings.HasPrefix(got, "# mine") {
		t.Errorf("it was overwritten with %q", got)
	}
	if r := poller(t, "convert", file, "-o", out, "--force"); r.code != 0 {
		t.Errorf("--force: %+v", r)
	}
	if got := content(t, out); got != want {
		t.Errorf("--force left %q, want %q", got, want)
	}
	if info, err := os.Stat(out); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: want it for its owner alone, whatever it was before", info.Mode(), err)
	}
	if files, err := os.ReadDir(filepath.Dir(out)); err != nil || len(files) != 1 {
		t.Errorf("%v are left, %v", files, err)
	}
	if r := poller(t, "convert", file, "-o", os.DevNull, "--force"); r.code != 1 || !strings.Contains(r.stderr, "no regular file") {
		t.Errorf("to a device: %+v", r)
	}
	for _, args := range [][]string{{"convert", file, "-o", file, "--force"}, {"convert", file, "-o", filepath.Join(out, "below")}} {
		if r := poller(t, args...); r.code != 1 {
			t.Errorf("%q: %+v", args, r)
		}
	}
	if got := content(t, file); got != serviceRadar {
		t.Errorf("what was to be converted is %q now", got)
	}
}
