package checkerfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceradar/poller/internal/probe"
)

// twin is an outside in memory.
var twin = outside{
	file: func(name string, _ int64) ([]byte, bool, error) {
		switch name {
		case "/etc/checker/db.password", "/etc/checker/secrets/app", "/secrets/token":
			return []byte("hunter2\r\n"), false, nil
		case "/secrets/open":
			return []byte(" hunter2 "), true, nil
		case "/secrets/empty":
			return []byte("\n"), false, nil
		}
		return nil, false, os.ErrNotExist
	},
	variable: func(name string) (string, bool) { return "hunter2", name == "DB_PASSWORD" },
}

func parseText(text string, others bool) (*File, error) {
	return parse("/etc/checker/checker.toml", []byte(text), others, twin)
}

func TestParse(t *testing.T) {
	t.Parallel()
	file, err := parseText(`
listen = "[::1]:50051"
log = { level = "debug", format = "json" }
tls.cert_file = "tls/cert.pem"
tls.key_file = "/run/key.pem"
max_in_flight = 1_000
stop_timeout = "1m"
[limits]
http = 0x10
[credentials.db]
username = "monitor"
password_file = "db.password"
hosts = ["10.1.0.0/16", "2001:db8::7", "*.db.example", "under_score-1", "::ffff:192.0.2.7"]
[credentials.api]
token_env = "DB_PASSWORD"
hosts = ["api.example"]
[credentials."with space"]
password = ' hunter2 '
hosts = ["a"]
[commands.disk]
command = [
  "/usr/lib/nagios/plugins/check_disk", # the program
  "-w", "",
]
directory = "run"
environment = { LANG = "C", "a.b" = "" }
timeout = "20s"
warning_is = "unavailable"
[commands.load]
command = ["/bin/load"]
`, false)
	if err != nil {
		t.Fatal(err)
	}
	want := &File{
		Listen: "[::1]:50051", Log: Log{"debug", "json"}, TLS: TLS{CertFile: "/etc/checker/tls/cert.pem", KeyFile: "/run/key.pem"},
		MaxInFlight: 1000, StopTimeout: time.Minute, Limits: map[string]int{"http": 16},
		Settings: probe.Settings{
			Credentials: map[string]probe.Credentials{
				"db":         {Username: "monitor", Password: "hunter2", Hosts: []string{"10.1.0.0/16", "2001:db8::7", "*.db.example", "under_score-1", "::ffff:192.0.2.7"}},
				"api":        {Token: "hunter2", Hosts: []string{"api.example"}},
				"with space": {Password: " hunter2 ", Hosts: []string{"a"}},
			},
			Commands: map[string]probe.Command{
				"disk": {
					Args: []string{"/usr/lib/nagios/plugins/check_disk", "-w", ""}, Directory: "/etc/checker/run",
					Environment: map[string]string{"LANG": "C", "a.b": ""}, Timeout: 20 * time.Second, WarningIsUnavailable: true,
				},
				"load": {Args: []string{"/bin/load"}},
			},
		},
	}
	if diff := cmp.Diff(want, file); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	empty, err := parseText("\xef\xbb\xbf", false)
	if diff := cmp.Diff(Default(), empty); err != nil || diff != "" {
		t.Errorf("an empty file: %v\n%s", err, diff)
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	file, err := parseText(`credentials.a = { token = "hunter2", hosts = ["a"] }
credentials.b = { token = "hunter2", hosts = ["b"] }
credentials.c = { token_file = "/secrets/open", hosts = ["c"] }
credentials.d = { token_file = "/secrets/token", hosts = ["d", "*"] }
credentials.e = { token_file = "/secrets/token", hosts = ["::/0"] }
`, true)
	if err != nil {
		t.Fatal(err)
	}
	if got := file.Settings.Credentials["c"].Token; got != " hunter2 " {
		t.Errorf("a secret from a file is %q; want its spaces", got)
	}
	const nobody = "its hosts leave nobody out: whoever may ask this checker can have it shown to a host of their own"
	want := []string{
		"/etc/checker/checker.toml:1: credentials.a.token: this file has secrets in it, and others on this machine may read it: chmod o= it",
		"/etc/checker/checker.toml:3: credentials.c.token_file: others on this machine may read /secrets/open: chmod o= it",
		"/etc/checker/checker.toml:4: credentials.d: " + nobody,
		"/etc/checker/checker.toml:5: credentials.e: " + nobody,
	}
	if diff := cmp.Diff(want, file.Warnings); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	kinds := []string{}
	for _, kind := range probe.Kinds() {
		kinds = append(kinds, kind.Type)
	}
	known := strings.Join(kinds, ", ")
	for text, want := range map[string]string{
		// Text that is not TOML.
		"listen = \"ä\" x":          `1:14: not valid TOML: expected newline but got U+0078 'x'`,
		"a = \"":                    `1:5: not valid TOML: unterminated basic string`,
		"a = 1\nö = \"\uFFFD\xff\"": `2:7: not UTF-8; save the file as UTF-8`,
		"[log]\nlevel = 1\n[log]\n": `3:2: not valid TOML: table log already exists; write it once`,
		"# ä\nö = 1":                `2:1: not valid TOML: invalid character at start of key: U+00C3 'Ã'`,
		"[credentials.a]\ntoken = 19999999999999999999999": `2:9: not valid TOML: no number, date or time can have this value; text needs quotes`,
		// Keys and shapes.
		"lisen = 1\nwhatever = 1": `1:1: lisen: unknown key; did you mean "listen"?` +
			"\n2:1: whatever: unknown key; known here: commands, credentials, limits, listen, log, max_in_flight, stop_timeout, tls",
		"log = 1\ntls = []\nlimits = \"\"\ncredentials = true\ncommands = 1.5": "1:7: log: found a number, want a table\n2:7: tls: found an array, want a table\n" +
			"3:10: limits: found text, want a table\n4:15: credentials: found true or false, want tables with a name each: write [credentials.NAME]\n" +
			"5:12: commands: found a fraction, a date or a time, want tables with a name each: write [commands.NAME]",
		"[[commands.a]]\n[[commands.a]]\n[commands.a.b]":     "1:12: commands.a: found an array, want a table",
		"credentials.a = 1\ncommands.\"\" = { command = 1 }": "1:17: credentials.a: found a number, want a table\n2:10: commands.\"\": has no name; give it one that checks can name it by",
		// Values.
		`listen = "a"`:           `1:10: listen: found "a", want host:port such as "127.0.0.1:50051"`,
		`listen = "a b:1"`:       `1:10: listen: found "a b:1", whose host is neither an address nor a host name`,
		`listen = "a:65536"`:     `1:10: listen: found "a:65536", whose port is not a number from 0 to 65535`,
		"listen = 50051":         `1:10: listen: found 50051, want text in quotes`,
		`log.level = "infoo"`:    `1:13: log.level: found "infoo", want one of trace, debug, info, warn, error; did you mean "info"?`,
		`tls.ca_file = ""`:       `1:15: tls.ca_file: found "", want a path`,
		"max_in_flight = 0":      `1:17: max_in_flight: found 0, want a whole number from 1 to 1000000`,
		`max_in_flight = "9"`:    `1:17: max_in_flight: found "9", want a whole number from 1 to 1000000`,
		"stop_timeout = 5":       `1:16: stop_timeout: found 5, want a duration such as "5s"`,
		`stop_timeout = "-1s"`:   `1:16: stop_timeout: found "-1s", want at least "0s"`,
		`stop_timeout = "9000h"`: `1:16: stop_timeout: found "9000h", want a year at most`,
		"limits.http = 0\nlimits.htpp = 1\nlimits.gopher = 1": "1:15: limits.http: found 0, want a whole number from 1 to 1000000\n" +
			"2:8: limits.htpp: unknown key; did you mean \"http\"?\n3:8: limits.gopher: unknown key; known here: " + known,
		// Credentials.
		"[credentials.db]": "1:14: credentials.db: has nothing to show; write token_file = \"…\", or username = \"…\" and password_file = \"…\"\n1:14: credentials.db.hosts: missing: whom they may be shown to; write hosts = [\"10.1.0.0/16\", \"*.db.example\"] or such",
		`credentials.db = { token = "hunter2", username = "u", hosts = ["a"] }`:        `1:13: credentials.db: has a token beside a username or a password; write [credentials] of another name for one of them`,
		`credentials.db = { token = "hunter2", token_env = "hunter2", hosts = ["a"] }`: `1:39: credentials.db.token_env: there is a token already; write one of token, token_file and token_env`,
		`credentials.db = { password = 2, hosts = ["a"] }`:                             `1:31: credentials.db.password: found a number, want text in quotes`,
		`credentials.db = { password = "", hosts = ["a"] }`:                            `1:31: credentials.db.password: found an empty text`,
		`credentials.db = { password_env = "NONE", hosts = ["a"] }`:                    `1:35: credentials.db.password_env: the environment variable "NONE" is not set, or empty`,
		`credentials.db = { password_file = "/secrets/empty", hosts = ["a"] }`:         `1:36: credentials.db.password_file: the file "/secrets/empty" is empty`,
		`credentials.db = { password_file = "gone", hosts = ["a"] }`:                   `1:36: credentials.db.password_file: can't read "gone": file does not exist`,
		`credentials.db = { token = "hunter2", hosts = [] }`:                           `1:47: credentials.db.hosts: found an empty list, want a list of texts such as ["a", "b"]`,
		`credentials.db = { username = 1, token_env = "DB_PASSWORD", hosts = "a" }`: "1:13: credentials.db: has a token beside a username or a password; write [credentials] of another name for one of them\n" +
			"1:31: credentials.db.username: found 1, want text in quotes\n1:69: credentials.db.hosts: found \"a\", want a list of texts such as [\"a\", \"b\"]",
		`credentials.db = { token = "hunter2", hosts = ["a:1", 5, "10.0.0.0/33", "a b", "https://a"] }`: strings.ReplaceAll(`1:48: credentials.db.hosts[0]: found "a:1", WANT
1:55: credentials.db.hosts[1]: found 5, want text in quotes
1:58: credentials.db.hosts[2]: found "10.0.0.0/33", WANT
1:73: credentials.db.hosts[3]: found "a b", WANT
1:80: credentials.db.hosts[4]: found "https://a", WANT`, "WANT", `want an address, a network such as "10.1.0.0/16", or a name such as "db.example" or "*.db.example", without a port`),
		`credentials.db = { token = "hunter2", hosts = ["10.1.*", "db-*", "*db.example", "a.*.example", "*.", "*.*.a", "db?", "d[ab]", 'd\b', "*.10.1.2.3"] }`: strings.ReplaceAll(`1:48: credentials.db.hosts[0]: found "10.1.*", WANT
1:58: credentials.db.hosts[1]: found "db-*", WANT
1:66: credentials.db.hosts[2]: found "*db.example", WANT
1:81: credentials.db.hosts[3]: found "a.*.example", WANT
1:96: credentials.db.hosts[4]: found "*.", WANT
1:102: credentials.db.hosts[5]: found "*.*.a", WANT
1:111: credentials.db.hosts[6]: found "db?", WANT
1:118: credentials.db.hosts[7]: found "d[ab]", WANT
1:127: credentials.db.hosts[8]: found "d\\b", WANT
1:134: credentials.db.hosts[9]: found "*.10.1.2.3", WANT`, "WANT", `want * as the first part of a name, as in "*.db.example" for all names below db.example, or alone; for addresses a network such as "10.1.0.0/16"`),
		`credentials.db = { token = "hunter2", hosts = ["db.example.", "*.db.example.", "::ffff:10.0.0.0/104", "dİ.example"] }`: `1:48: credentials.db.hosts[0]: found "db.example.", want no dot at its end
1:63: credentials.db.hosts[1]: found "*.db.example.", want no dot at its end
1:80: credentials.db.hosts[2]: found "::ffff:10.0.0.0/104", want a network of IPv4 as such, "10.1.0.0/16"
1:103: credentials.db.hosts[3]: found "dİ.example", want a name of ASCII: write it as xn--…`,
		// Commands.
		"[commands.a]": `1:11: commands.a.command: missing: what to run; write command = ["/usr/lib/nagios/plugins/check_disk", "-w", "10%"] or such`,
		`commands.a.command = ["check_disk", 10, "\u0000"]`: `1:23: commands.a.command[0]: found "check_disk", want the path of a program in full, such as "/usr/lib/nagios/plugins/check_disk"; its arguments follow, each as a text of its own
1:37: commands.a.command[1]: found 10, want text in quotes
1:41: commands.a.command[2]: found "\x00", want no NUL in it`,
		"[commands.a]\ncommand = \"/bin/a -x\"\ntimeout = \"1ms\"\nwarning_is = \"ok\"\nenviron = 1": `2:11: commands.a.command: found "/bin/a -x", want a list of texts such as ["a", "b"]
3:11: commands.a.timeout: found "1ms", want at least "10ms"
4:14: commands.a.warning_is: found "ok", want one of available, unavailable
5:1: commands.a.environ: unknown key; known here: command, directory, environment, timeout, warning_is`,
		`commands.a = { command = ["/a"], environment = { "a=b" = "", B = 5, C = "hunter2\u0000" } }`: `1:50: commands.a.environment."a=b": no variable can have this name; take = out of it
1:66: commands.a.environment.B: found a number, want text in quotes
1:73: commands.a.environment.C: no variable can have a NUL in it`,
		`commands.a = { command = ["/a"], environment = ["A=B"] }`: `1:48: commands.a.environment: found an array, want a table such as { LANG = "C" }`,
	} {
		file, err := parseText(text, false)
		want = "/etc/checker/checker.toml:" + strings.ReplaceAll(want, "\n", "\n/etc/checker/checker.toml:")
		if err == nil || err.Error() != want || file != nil {
			t.Errorf("%s\ngot  %v\nwant %s", text, err, want)
		}
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, mode); err != nil { // whatever the umask is
			t.Fatal(err)
		}
		return name
	}
	t.Setenv("CHECKER_TEST_TOKEN", "hunter3")
	write("secret", "hunter2\n", 0o604)
	name := write("checker.toml", "[credentials.a]\npassword_file = \"secret\"\nhosts = [\"a\"]\n[credentials.b]\ntoken_env = \"CHECKER_TEST_TOKEN\"\nhosts = [\"b\"]\n", 0o644)
	file, err := Read(name)
	if err != nil || file.Settings.Credentials["a"].Password != "hunter2" || file.Settings.Credentials["b"].Token != "hunter3" {
		t.Fatalf("%+v, %v", file, err)
	}
	if runtime.GOOS != "windows" && (len(file.Warnings) != 1 || !strings.Contains(file.Warnings[0], "others on this machine may read secret: chmod o= it")) {
		t.Errorf("warnings %q", file.Warnings)
	}
	for name, want := range map[string]string{
		filepath.Join(dir, "none"): "no such file", dir: "no regular file",
		write("large", strings.Repeat("#", maxFile+1), 0o600):                                                                       "more than 16384 KiB",
		write("open.toml", fmt.Sprintf("credentials.a = { token_file = %q, hosts = [\"a\"] }", dir), 0o600):                         "no regular file",
		write("much.toml", fmt.Sprintf("credentials.a = { token_file = %q, hosts = [\"a\"] }", filepath.Join(dir, "large")), 0o600): "more than 64 KiB",
	} {
		if _, err := Read(name); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v; want %s", name, err, want)
		}
	}
}

const sample = "../../deploy/checker.example.toml"

// TestSample holds the sample to what there is: with the # of each example taken off, it names every key, and it is right.
func TestSample(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(sample)
	if err != nil {
		t.Fatal(err)
	}
	file, err := parseText(string(text), true)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Default(), file); diff != "" {
		t.Errorf("as it is, the sample changes what holds without a file (-want +got)\n%s", diff)
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		lines = append(lines, strings.TrimPrefix(line, "#: "))
	}
	if file, err = parseText(strings.Join(lines, ""), false); err != nil {
		t.Fatalf("the sample's examples:\n%v", err)
	}
	if len(file.Limits) == 0 || len(file.Settings.Credentials) < 2 || len(file.Settings.Commands) < 2 {
		t.Errorf("the examples are %+v", file)
	}
	words := strings.FieldsFunc(string(text), func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') })
	for _, key := range []string{
		"listen", "log", "level", "format", "tls", "cert_file", "key_file", "ca_file", "max_in_flight", "stop_timeout", "limits",
		"credentials", "username", "password", "password_file", "password_env", "token", "token_file", "token_env", "hosts",
		"commands", "command", "directory", "environment", "timeout", "warning_is",
	} {
		if !slices.Contains(words, key) {
			t.Errorf("the sample does not name %s", key)
		}
	}
}

// FuzzParse: a file is right, or all errors have a place in it, in order; and no secret is ever told.
func FuzzParse(f *testing.F) {
	text, err := os.ReadFile(sample)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text))
	f.Add(strings.ReplaceAll(string(text), "#: ", ""))
	for _, seed := range []string{
		"[a.b]\nc.d = [1, { e = 2 }]\n[[f]]\n[f.g]\n", "credentials.a = { token = \"hunter2\", hosts = [\"*\"] }", "a = 1979-05-27", "ä = 1", "\"", "a = 1\na = 2",
		"commands.a.command = [\n# x\n\"/a\"]", "limits.http = 99999999999999999999", "log.level = 1\r\n[log]\r\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		file, err := parseText(text, true)
		if err == nil {
			if warnings := strings.Join(file.Warnings, "\n"); strings.Contains(warnings, "hunter2") && !strings.Contains(text, "hunter2") {
				t.Errorf("a secret is told: %s", warnings)
			}
			return
		}
		all, ok := errors.AsType[Errors](err)
		if !ok || len(all) == 0 || file != nil {
			t.Fatalf("%v, %#v", file, err)
		}
		if strings.Contains(err.Error(), "hunter2") && !strings.Contains(text, "hunter2") {
			t.Errorf("a secret is told: %v", err)
		}
		for _, e := range all {
			if e.Line < 1 || e.Column < 1 || e.Msg == "" || e.Line > strings.Count(text, "\n")+1 {
				t.Errorf("an error without a place: %#v", e)
			}
		}
		if !slices.IsSortedFunc(all, func(a, b Error) int { return (a.Line-b.Line)*1_000_000 + a.Column - b.Column }) {
			t.Errorf("not in order:\n%v", err)
		}
	})
}
