//go:build unix

package probe

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shell makes a command of a script, with the arguments $1, $2, ….
func shell(script string, args ...string) Command {
	return Command{Args: append([]string{"/bin/sh", "-c", script, "sh"}, args...)}
}

// plugin runs a command as a check does.
func plugin(ctx context.Context, c Command) (Result, error) {
	return Exec(ctx, Target{Details: "plugin", Settings: &Settings{Commands: map[string]Command{"plugin": c}}})
}

func TestExecAnswers(t *testing.T) {
	t.Parallel()
	strict := shell("echo careful; exit 1")
	strict.WarningIsUnavailable = true
	for name, test := range map[string]struct {
		command   Command
		available bool
		want      []string // in the message
		not       string
	}{
		"OK": {
			shell("echo 'DISK OK - fine | /=10MB;20;30;0;40'"), true,
			[]string{`{"command":"plugin","state":"OK","exit_code":0,"text":"DISK OK - fine","perfdata":[{"label":"/","value":10,"unit":"MB",` +
				`"warn":"20","crit":"30","min":0,"max":40}],"response_time":`},
			`"error"`,
		},
		"WARNING":             {shell("echo careful; exit 1"), true, []string{`"state":"WARNING","exit_code":1,"text":"careful"`}, `"error"`},
		"WARNING, for strict": {strict, false, []string{`"state":"WARNING"`, `"error":"plugin: WARNING: careful"`}, ""},
		"CRITICAL":            {shell("echo gone; exit 2"), false, []string{`"state":"CRITICAL","exit_code":2`, `"error":"plugin: CRITICAL: gone"`}, ""},
		"UNKNOWN":             {shell("echo usage; exit 3"), false, []string{`"state":"UNKNOWN","exit_code":3`, `"error":"plugin: UNKNOWN: usage"`}, ""},
		"no plugin": {
			shell("exit 99"), false,
			[]string{`"state":"UNKNOWN","exit_code":99`, `"error":"plugin: the command ended with exit code 99, which is none of a plugin's"`},
			"",
		},
		"just beyond": {shell("exit 4"), false, []string{`"state":"UNKNOWN","exit_code":4`, "exit code 4, which is none"}, ""},
		"signal": {
			shell("kill -SEGV $$"), false,
			[]string{`"state":"UNKNOWN","exit_code":-1`, `"error":"plugin: the command was ended by a signal: segmentation fault"`},
			"",
		},
		"many lines": {
			shell(`printf 'first | a=1\nsecond\nthird | b=2\n c=3 junk\n'`), true,
			[]string{`"text":"first","long_text":"second\nthird","perfdata":[{"label":"a","value":1},{"label":"b","value":2},{"label":"c","value":3}],"perfdata_rest":"junk"`},
			"",
		},
		"only complaints": {shell("echo 'no such thing' >&2; exit 3"), false, []string{`"text":"no such thing"`}, ""},
		"both":            {shell("echo said; echo complained >&2"), true, []string{`"text":"said"`}, "complained"},
		"not UTF-8":       {shell(`printf 'a\377b | c\377=1'`), true, []string{`"text":"a` + "\uFFFD" + `b"`, `"label":"c` + "\uFFFD" + `"`}, ""},
		"nothing":         {shell("exit 0"), true, []string{`"text":""`}, "perfdata"},
		"no shell in it":  {shell(`echo "$1"`, "$(id); `id` *"), true, []string{"\"text\":\"$(id); `id` *\""}, ""},
		"standard input":  {shell("cat; echo end"), true, []string{`"text":"end"`}, ""},
		"directory":       {Command{Args: []string{"/bin/sh", "-c", "pwd"}, Directory: "/usr"}, true, []string{`"text":"/usr"`}, ""},
		"root":            {shell("pwd"), true, []string{`"text":"/"`}, ""},
	} {
		r, err := plugin(t.Context(), test.command)
		if err != nil || r.Available != test.available || r.ResponseTime <= 0 {
			t.Errorf("%s: available %v, %v: %s; want %v", name, r.Available, err, r.Message, test.available)
			continue
		}
		unmarshal(t, r)
		for _, want := range test.want {
			if !strings.Contains(string(r.Message), want) {
				t.Errorf("%s: %s\nwant %s", name, r.Message, want)
			}
		}
		if test.not != "" && strings.Contains(string(r.Message), test.not) {
			t.Errorf("%s: %s\ndo not want %s", name, r.Message, test.not)
		}
	}
}

// Commands see what their file gives them, and nothing of the checker's own environment.
func TestExecEnvironment(t *testing.T) {
	t.Setenv("CHECKER_SECRET", "hunter2")
	env := Command{Args: []string{"/usr/bin/env"}}
	r, err := plugin(t.Context(), env)
	if text := unmarshal(t, r)["text"]; err != nil || text != "PATH="+systemPath {
		t.Errorf("%v, %v; want only a PATH", text, err)
	}
	env.Environment = map[string]string{"PATH": "/nowhere", "LANG": "C"}
	r, err = plugin(t.Context(), env)
	m := unmarshal(t, r)
	if all, _ := m["text"].(string); err != nil || all+"\n"+m["long_text"].(string) != "LANG=C\nPATH=/nowhere" {
		t.Errorf("%s, %v; want what the file gives", r.Message, err)
	}
}

func TestExecErrors(t *testing.T) {
	t.Parallel()
	settings := &Settings{Commands: map[string]Command{
		"gone": {Args: []string{"/nowhere/check_disk"}}, "dir": {Args: []string{"/bin/sh"}, Directory: "/nowhere"}, "mode": {Args: []string{"/etc/passwd"}},
	}}
	for details, want := range map[string]string{
		"":                    "names no command",
		"other":               "add [commands.other] there",
		"gone":                `the command "gone" can't be run: fork/exec /nowhere/check_disk: no such file or directory: check its path`,
		"dir":                 `the command "dir" can't be run: fork/exec /bin/sh: no such file or directory: check its path and its directory`,
		"mode":                "permission denied",
		`{"args": ["x"]}`:     `unknown field "args"`,
		`{"target": "other"}`: "add [commands.other] there",
	} {
		if _, err := Exec(t.Context(), Target{Details: details, Settings: settings}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %s", details, err, want)
		}
	}
	if _, err := Exec(t.Context(), Target{Details: "gone"}); err == nil || !strings.Contains(err.Error(), "[commands.gone]") {
		t.Errorf("without settings: %v", err)
	}
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if _, err := plugin(late, shell("exit 0")); err == nil || !strings.Contains(err.Error(), "no time left") {
		t.Errorf("too late: %v", err)
	}
}

func TestExecOutputIsBounded(t *testing.T) {
	t.Parallel()
	r, err := plugin(t.Context(), shell("head -c 3000000 /dev/zero | tr '\\0' x; echo; exit 2"))
	m := unmarshal(t, r)
	if text, _ := m["text"].(string); err != nil || len(text) != maxOutput || m["truncated"] != true || m["state"] != "CRITICAL" {
		t.Errorf("%d bytes, truncated %v, %v, %v; want %d, and its own end", len(text), m["truncated"], m["state"], err, maxOutput)
	}
	r, err = plugin(t.Context(), shell("head -c 3000000 /dev/zero | tr '\\0' x >&2; exit 2"))
	if text, _ := unmarshal(t, r)["text"].(string); err != nil || len(text) != maxComplaints {
		t.Errorf("%d bytes of complaints, %v; want %d", len(text), err, maxComplaints)
	}
}

// family is a script that starts a child and tells its number in a file.
func family(t *testing.T, script string) (c Command, child func() int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "child")
	return shell(script, file), func() int {
		t.Helper()
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		return pid
	}
}

// wantGone waits until there is no such process: it takes whoever adopts it a moment to bury it.
func wantGone(t *testing.T, pid int) {
	t.Helper()
	end := time.Now().Add(10 * time.Second)
	for range time.Tick(5 * time.Millisecond) {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || err == nil && strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(end) {
			t.Errorf("process %d lives on: %s", pid, stat)
			return
		}
	}
}

func TestExecEndsWithItsTime(t *testing.T) {
	t.Parallel()
	const deaf = "trap '' TERM; (trap '' TERM; while :; do sleep 60; done) & echo $! >$1; echo begun; wait; while :; do sleep 60; done"
	const heeding = "sleep 60 & echo $! >$1; echo begun; wait"
	const limit = 2 * time.Second
	for name, script := range map[string]string{"deaf": deaf, "heeding": heeding} {
		for by, limits := range map[string]struct{ check, own time.Duration }{"the check's deadline": {limit, 0}, "its own": {time.Hour, limit}} {
			t.Run(name+", by "+by, func(t *testing.T) {
				t.Parallel()
				command, child := family(t, script)
				command.Timeout = limits.own
				ctx, cancel := context.WithTimeout(t.Context(), limits.check)
				defer cancel()
				began := time.Now()
				r, err := plugin(ctx, command)
				took := time.Since(began)
				wantDown(t, r, err, "plugin: the command did not end within", "raise its timeout, or the check's", ": begun")
				if m := unmarshal(t, r); m["state"] != "UNKNOWN" || m["exit_code"] != -1.0 {
					t.Errorf("%s; want UNKNOWN, by a signal", r.Message)
				}
				if took < limit-maxGrace || took > 10*time.Second {
					t.Errorf("it took %v; want about %v", took, limit)
				}
				wantGone(t, child())
			})
		}
	}
}

// Who was ended has no verdict, whatever it makes of its end.
func TestExecEndedInGoodOrder(t *testing.T) {
	t.Parallel()
	command := shell("trap 'echo all is well; exit 0' TERM; while :; do sleep 0.01; done")
	command.Timeout = time.Second
	for range 20 { // the machine may have no time for it to end before it is killed
		r, err := plugin(t.Context(), command)
		wantDown(t, r, err, "plugin: the command did not end within")
		m := unmarshal(t, r)
		if m["state"] != "UNKNOWN" {
			t.Errorf("%s; want UNKNOWN", r.Message)
		}
		if m["exit_code"] == 0.0 && m["text"] == "all is well" {
			return
		}
	}
	t.Error("it never ended by itself when it was asked to")
}

func TestExecTakenBack(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	command, child := family(t, "sleep 60 & echo $! >$1.new; mv $1.new $1; wait")
	file := command.Args[len(command.Args)-1]
	go func() {
		defer cancel()
		for range time.Tick(5 * time.Millisecond) {
			if _, err := os.Stat(file); err == nil || t.Context().Err() != nil {
				return
			}
		}
	}()
	if r, err := plugin(ctx, command); !errors.Is(err, context.Canceled) {
		t.Errorf("%s, %v; want an error", r.Message, err)
	}
	wantGone(t, child())
}

// A command that has ended is not waited for by its children: those of its group go, and others keep nobody.
func TestExecLeavesChildrenThatKeepItsOutput(t *testing.T) {
	t.Parallel()
	command, child := family(t, "sleep 600 & echo $! >$1; echo fine")
	r, err := plugin(t.Context(), command)
	if err != nil || !r.Available || unmarshal(t, r)["text"] != "fine" {
		t.Errorf("%s, %v", r.Message, err)
	}
	wantGone(t, child())

	command, child = family(t, `setsid sh -c 'echo $$ >$0.new; mv $0.new $0; exec sleep 600' $1 & until [ -e $1 ]; do :; done; echo fine`)
	began := time.Now()
	r, err = plugin(t.Context(), command)
	defer func() { _ = syscall.Kill(child(), syscall.SIGKILL) }()
	if err != nil || !r.Available || unmarshal(t, r)["text"] != "fine" {
		t.Errorf("%s, %v", r.Message, err)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("a child of another group held it for %v", took)
	}
}
