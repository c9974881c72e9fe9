package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// startNamed starts a process of that name that does nothing, until the test ends.
func startNamed(t *testing.T, name string) *exec.Cmd {
	t.Helper()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(sleep, link); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), link, "1000")
	// Start returns when the name is that of the link.
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

// lookFor looks for a process by its name and options.
func lookFor(t *testing.T, name, options string) (Result, map[string]any) {
	t.Helper()
	r, err := Process(t.Context(), Target{Details: fmt.Sprintf(`{"target": %q%s}`, name, options)})
	if err != nil {
		t.Fatalf("%s %s: %v", name, options, err)
	}
	return r, unmarshal(t, r)
}

func TestProcessSelf(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Base(exe)
	r, err := Process(t.Context(), Target{Details: name})
	m := unmarshal(t, r)
	if err != nil || !r.Available || m["active"] != true || m["status"] != "active" || m["process_name"] != name || m["error"] != nil {
		t.Errorf("%s, %v", r.Message, err)
	}
	if memory, _ := m["memory_bytes"].(float64); memory < 1<<20 || memory > 1<<34 {
		t.Errorf("memory: %v bytes", memory)
	}
	if cpu, _ := m["cpu_seconds"].(float64); cpu < 0 || cpu > 3600 {
		t.Errorf("CPU: %v s", cpu)
	}
	if pids := fmt.Sprint(m["pids"]); !strings.Contains(pids, fmt.Sprint(os.Getpid())) {
		t.Errorf("%d is not among %s", os.Getpid(), pids)
	}
}

func TestProcessNames(t *testing.T) {
	t.Parallel()
	// Unlike all others, also of the same test at the same time; the second is longer than the kernel's own names.
	short := fmt.Sprintf("s%d", time.Now().UnixNano()%1e9)
	long := short + "-of-a-very-long-name"
	startNamed(t, short)
	startNamed(t, long)
	startNamed(t, long)
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, options string
		available     bool
		count         float64 // -1 is a process that is not there
		want          string
	}{
		{short, ``, true, 1, ""},
		{long, ``, true, 2, ""},
		{short, `, "exact": false`, true, 3, ""},
		{short + "-of", ``, false, -1, "Process " + short + "-of is not running: none of "},
		{short + "-of", `, "exact": false`, true, 2, ""},
		{long, `, "min": 2, "max": 2`, true, 2, ""},
		{long, `, "min": 3`, false, 2, "runs 2 times, fewer than min, 3"},
		{long, `, "max": 1`, false, 2, "runs 2 times, more than max, 1"},
		{short, `, "min": 0, "max": 0`, false, 1, "runs 1 times, more than max, 0"},
		{short + "x", `, "min": 0, "max": 0`, true, 0, ""},
		{short, `, "user": "` + me.Username + `"`, true, 1, ""},
		{short, `, "user": "` + me.Uid + `"`, true, 1, ""},
		{short, `, "user": "nobody-of-that-name"`, false, -1, "is called that and is of user nobody-of-that-name"},
	} {
		r, m := lookFor(t, test.name, test.options)
		reason, _ := m["error"].(string)
		if r.Available != test.available || !strings.Contains(reason, test.want) || (reason == "") != test.available {
			t.Errorf("%s%s: %v %s; want %s", test.name, test.options, r.Available, r.Message, test.want)
		}
		if test.count < 0 {
			if len(m) != 1 {
				t.Errorf("%s%s: %s; want only an error", test.name, test.options, r.Message)
			}
		} else if m["count"] != test.count || m["active"] != (test.count > 0) || (m["status"] == "active") != (test.count > 0) {
			t.Errorf("%s%s: %s; want %v of them", test.name, test.options, r.Message, test.count)
		}
	}
}

func TestProcessContext(t *testing.T) {
	t.Parallel()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if r, err := Process(canceled, Target{Details: "x"}); !errors.Is(err, context.Canceled) {
		t.Errorf("taken back: %s, %v; want an error", r.Message, err)
	}
	late, cancelLate := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancelLate()
	r, err := Process(late, Target{Details: "x"})
	wantDown(t, r, err, "can't be listed within")
}

func TestParseProcess(t *testing.T) {
	t.Parallel()
	for details, want := range map[string]string{
		"":                                    "the target is empty: write the name of a process",
		"/usr/sbin/nginx":                     "it is a path: write the name alone, such as nginx",
		`{"target": "x", "min": -1}`:          "min is -1",
		`{"target": "x", "max": 0}`:           "max is 0 and min is 1",
		`{"target": "x", "min": 3, "max": 2}`: "max is 2 and min is 3",
		`{"target": "x", "exact": "no"}`:      "exact is a string: write true or false",
		`{"target": "x", "count": 1}`:         `unknown field "count"`,
	} {
		if r, err := Process(t.Context(), Target{Details: details}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %s, %v; want %s", details, r.Message, err, want)
		}
	}
}

func FuzzParseProcess(f *testing.F) {
	for _, seed := range []string{"", "nginx", "a b", `{"target":"x","exact":false,"min":0,"max":0,"user":"root"}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, details string) {
		o, err := parseProcess(details)
		if err == nil && (o.Target == "" || strings.Contains(o.Target, "/") || o.Min < 0 || o.Max != nil && *o.Max < o.Min) {
			t.Errorf("%q: %+v", details, o)
		}
	})
}
