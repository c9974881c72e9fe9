package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/spool"
	"github.com/serviceradar/poller/internal/wire"
)

// kept is a state directory whose spool keeps p/1, p/2 and p/3 for core; p/0 was set aside, and p/8.
type kept struct {
	t          *testing.T
	state, dir string
}

const evilReason = "core refused it: \x1b[2J\nnew line"

func newKept(t *testing.T) *kept {
	t.Helper()
	k := &kept{t: t, state: t.TempDir()}
	k.dir = filepath.Join(k.state, "spool")
	d := k.open()
	for i, message := range []string{"{\"n\": 1.10, \"s\": \"<&>\u202e\"}", "no JSON \x1b[2J", "\xff", `[]`} {
		at := time.Date(2020, 1, 2, 3, 4, 5+i, 0, time.UTC)
		if _, noRoom, err := d.Append(fmt.Sprint("p/", i), at, k.body(at, message), map[string]string{"k": strconv.Itoa(i)}); noRoom != nil || err != nil {
			t.Fatal(noRoom, err)
		}
	}
	id, body, _, err := d.Next()
	if err != nil || d.SetAside(id, body, evilReason) != nil || d.SetAside("p/8", []byte("no report"), "no") != nil {
		t.Fatal(err)
	}
	d.Ack(id)
	k.close(d)
	return k
}

func (k *kept) open() *spool.Disk {
	k.t.Helper()
	d, err := spool.Open(k.dir, spool.Config{MaxBytes: 1 << 20, MaxAge: time.Hour})
	if err != nil {
		k.t.Fatal(err)
	}
	return d
}

func (k *kept) close(d *spool.Disk) {
	k.t.Helper()
	if err := d.Close(); err != nil {
		k.t.Error(err)
	}
}

func (k *kept) body(at time.Time, message string) []byte {
	k.t.Helper()
	id := &wire.Identity{PollerID: "p", Partition: "default", SourceIP: "127.0.0.1", MaxMessage: 1 << 20, MaxReport: 1 << 20, Bare: true}
	reports, err := id.Reports(at, []check.Status{{
		Agent: &check.Agent{Name: "a"}, Check: &check.Check{Name: "web", Type: "http"},
		Available: true, Message: []byte(message), ResponseTime: 95382,
	}})
	if err != nil || len(reports) != 1 {
		k.t.Fatal(len(reports), err)
	}
	return reports[0].Body
}

// damage flips a bit of the last report.
func (k *kept) damage() {
	k.t.Helper()
	k.change(func(content []byte) []byte {
		content[len(content)-1] ^= 1
		return content
	})
}

// change changes the segment.
func (k *kept) change(how func(content []byte) []byte) {
	k.t.Helper()
	segments, err := filepath.Glob(filepath.Join(k.dir, "*.seg"))
	if err != nil || len(segments) != 1 {
		k.t.Fatal(segments, err)
	}
	content, err := os.ReadFile(segments[0])
	if err != nil {
		k.t.Fatal(err)
	}
	if err := os.WriteFile(segments[0], how(content), 0o600); err != nil {
		k.t.Fatal(err)
	}
}

// run runs a command on it.
func (k *kept) run(args ...string) result {
	k.t.Helper()
	r := poller(k.t, append(append([]string{"spool"}, args...), "--dir", k.dir)...)
	for line := range strings.SplitSeq(r.stdout+r.stderr, "\n") {
		if strings.ContainsFunc(line, func(c rune) bool { return !strconv.IsGraphic(c) }) {
			k.t.Errorf("%q prints %q", args, line)
		}
	}
	return r
}

// want runs a command that succeeds, and compares what it prints.
func (k *kept) want(want string, args ...string) {
	k.t.Helper()
	r := k.run(args...)
	if diff := cmp.Diff(want, varying(r.stdout)); diff != "" || r.code != 0 || r.stderr != "" {
		k.t.Errorf("%q: code %d, stderr %q (-want +got):\n%s", args, r.code, r.stderr, diff)
	}
}

// fails runs a command that fails, and looks into what it says.
func (k *kept) fails(wants string, args ...string) {
	k.t.Helper()
	if r := k.run(args...); r.code != 1 || !strings.Contains(r.stderr, wants) {
		k.t.Errorf("%q: %+v, want %q", args, r, wants)
	}
}

// ids are what ls lists.
func (k *kept) ids() string {
	k.t.Helper()
	table, _, _ := strings.Cut(k.run("ls").stdout, "\n\n")
	var ids []string
	for line := range strings.SplitSeq(table, "\n") {
		if fields := strings.Fields(line); fields[0] != "ID" && len(fields) > 1 {
			ids = append(ids, fields[1]+":"+fields[0])
		}
	}
	return varying(strings.Join(ids, " "))
}

var salt, since = regexp.MustCompile(`-[0-9a-f]{8}\b`), regexp.MustCompile(`"since": ?"[^"]*"|set aside \S+Z`)

// varying is a text without what differs from one run to the next.
func varying(text string) string {
	return salt.ReplaceAllString(since.ReplaceAllString(text, "SINCE"), "-SALT")
}

func TestSpoolList(t *testing.T) {
	t.Parallel()
	k := newKept(t)
	k.damage()
	k.want(`ID                            KIND     TIME                       BYTES  STATUSES  REASON
p/1                           kept     2020-01-02T03:04:06Z         134         1
p/2                           kept     2020-01-02T03:04:07Z         123         1
0000000000-SALT-436       damaged  -                            124         -  at byte 436 of 0000000000-SALT.seg: the checksum of report number 4 is wrong
p/0                           aside    2020-01-02T03:04:05Z         182         1  core refused it: \x1b[2J\nnew line
p/8                           aside    2020-01-02T03:04:05Z          61         -  no

2 reports kept for core: 257 bytes, from 2020-01-02T03:04:06Z to 2020-01-02T03:04:07Z; 2 set aside; 1 damaged
`, "ls")
	k.want(`ID                            KIND     TIME                       BYTES  STATUSES  REASON
0000000000-SALT-436       damaged  -                            124         -  at byte 436 of 0000000000-SALT.seg: the checksum of report number 4 is wrong
p/0                           aside    2020-01-02T03:04:05Z         182         1  core refused it: \x1b[2J\nnew line
p/8                           aside    2020-01-02T03:04:05Z          61         -  no

2 reports kept for core: 257 bytes, from 2020-01-02T03:04:06Z to 2020-01-02T03:04:07Z; 2 set aside; 1 damaged
`, "ls", "--aside")
}

func TestSpoolShow(t *testing.T) {
	t.Parallel()
	k := newKept(t)
	k.damage()
	k.want(`{
  "id": "p/0",
  "kind": "aside",
  "time": "2020-01-02T03:04:05Z",
  SINCE,
  "reason": "core refused it: \u001b[2J\nnew line",
  "file": "0000000000.aside",
  "bytes": 182,
  "report": {
    "poller_id": "p",
    "partition": "default",
    "source_ip": "127.0.0.1",
    "timestamp": 1577934245,
    "services": [
      {
        "service_name": "web",
        "service_type": "http",
        "agent_id": "a",
        "available": true,
        "response_time": 95382,
        "source": "getStatus",
        "message_as": "json",
        "message": {
          "n": 1.10,
          "s": "<&>\u202e"
        }
      }
    ]
  }
}
`, "show", "p/0")
	for id, want := range map[string]string{
		"p/1": `"message": "no JSON \u001b[2J"`,
		"p/2": `"message": "/w=="`,
		"p/8": `"00000000  6e 6f 20 72 65 70 6f 72  74                       |no report|"`,
	} {
		if r := k.run("show", id); r.code != 0 || !strings.Contains(r.stdout, want) {
			t.Errorf("%s: %+v", id, r)
		}
	}
	if r := k.run("show", k.damaged()); r.code != 0 || !strings.Contains(r.stdout, `"00000000  d8 70 71 1a`) || !strings.Contains(r.stdout, `"kind": "damaged"`) {
		t.Errorf("what is damaged: %+v", r)
	}
	k.fails("p/9: there is nothing with this id; see poller spool ls", "show", "p/9")
	k.fails("one id", "show")
}

func TestSpoolExport(t *testing.T) {
	t.Parallel()
	k := newKept(t)
	all := k.run("export")
	var ids []string
	for line := range strings.Lines(all.stdout) {
		var e spoolEntry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Errorf("%v: %s", err, line)
		}
		ids = append(ids, e.ID)
	}
	if got := strings.Join(ids, " "); got != "p/1 p/2 p/3 p/0 p/8" || all.code != 0 {
		t.Errorf("exported %s, %+v", got, all)
	}
	if r := k.run("export", "--aside"); r.code != 0 || strings.Count(r.stdout, "\n") != 2 || !strings.HasSuffix(all.stdout, r.stdout) {
		t.Errorf("--aside: %+v", r)
	}
	out := filepath.Join(t.TempDir(), "spool.jsonl")
	if r := k.run("export", "p/9", "-o", out); r.code != 1 || !strings.Contains(r.stderr, "p/9: there is nothing") {
		t.Errorf("unknown id: %+v", r)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("there is a file of nothing")
	}
	r := k.run("export", "p/0", "p/9", "p/2", "-o", out)
	if r.code != 1 || r.stdout != "" || !strings.Contains(r.stderr, "2 of what is kept written to "+out) || !strings.Contains(r.stderr, "p/9: there is nothing") {
		t.Errorf("two of three: %+v", r)
	}
	if info, err := os.Stat(out); err != nil || info.Mode().Perm() != 0o600 || strings.Count(content(t, out), "\n") != 2 {
		t.Errorf("%v %v: %s", info, err, content(t, out))
	}
	k.fails("--force", "export", "-o", out)
	if r := k.run("export", "-o", out, "--force"); r.code != 0 || content(t, out) != all.stdout {
		t.Errorf("--force: %+v: %s", r, content(t, out))
	}
	k.fails("give that, too", "export", "--force")
	k.fails("not both", "export", "--aside", "p/1")
	k.fails("no regular file", "export", "-o", t.TempDir(), "--force")
	k.fails("as it was", "export", "-o", filepath.Join(out, "below"))
	if files, err := os.ReadDir(filepath.Dir(out)); err != nil || len(files) != 1 {
		t.Errorf("%v are left, %v", files, err)
	}
}

func TestSpoolRetry(t *testing.T) {
	t.Parallel()
	k := newKept(t)
	k.damage()
	k.fails("p/1: it was not set aside", "retry", "p/1")
	k.fails("p/9: there is nothing with this id", "retry", "p/9")
	k.fails("or --all", "retry")
	k.fails("or --all", "retry", "p/0", "--all")
	r := k.run("retry", "p/8", "p/9")
	if got, want := varying(r.stdout), `p/8 of 2020-01-02T03:04:05Z is in the queue again; it was SINCE: no
at the next start of the poller core gets 1 report before all others, with the old time
`; got != want || r.code != 1 {
		t.Errorf("retry: %s, %+v, want %s", got, r, want)
	}
	for _, want := range []string{"p/9: there is nothing", "damaged: at byte 436", "1 report lost: damaged or missing"} {
		if !strings.Contains(r.stderr, want) {
			t.Errorf("stderr lacks %q: %s", want, r.stderr)
		}
	}
	const damaged = "damaged:0000000000-SALT-436"
	if got, want := k.ids(), "again:p/8 kept:p/1 kept:p/2 "+damaged+" aside:p/0"; got != want {
		t.Errorf("ls lists %s, want %s", got, want)
	}
	if r := k.run("ls"); !strings.Contains(r.stdout, "3 reports kept for core: ") || !strings.Contains(r.stdout, "; 1 of them to be tried again; 1 set aside; 1 damaged") {
		t.Errorf("ls: %+v", r)
	}
	id := k.damaged()
	k.fails(id+": it is damaged, and can't be sent to core", "retry", id)
	if r := k.run("retry", "--all"); r.code != 0 || r.stderr != id+" is damaged, and stays\n" || !strings.HasPrefix(r.stdout, "p/0 of ") {
		t.Errorf("--all: %+v", r)
	}
	if r := k.run("retry", "--all"); r.code != 0 || r.stdout != "nothing was set aside\n" {
		t.Errorf("--all of none: %+v", r)
	}
	if got, want := k.ids(), "again:p/0 again:p/8 kept:p/1 kept:p/2 "+damaged; got != want {
		t.Errorf("ls lists %s, want %s", got, want)
	}
	d := k.open()
	defer k.close(d)
	for _, want := range []string{"p/0", "p/8", "p/1", "p/2"} {
		if id, _, _, err := d.Next(); id != want || err != nil {
			t.Errorf("core gets %s, %v, want %s", id, err, want)
		}
		d.Ack(want)
	}
}

// TestSpoolAfterAKill: what was being written is told as such, and what is in the queue and aside, for the kill came
// between setting aside and letting go, is tried again by its id.
func TestSpoolAfterAKill(t *testing.T) {
	t.Parallel()
	k := newKept(t)
	d := k.open()
	if id, body, _, err := d.Next(); id != "p/1" || err != nil || d.SetAside(id, body, "no") != nil {
		t.Fatal(id, err)
	}
	k.close(d)
	k.change(func(content []byte) []byte { return append(content, "torn"...) })
	r := k.run("retry", "p/1")
	if want := " was not finished when the poller or the machine stopped, and is removed: 4 bytes; nothing that was taken is lost by that\n"; r.code != 0 ||
		!strings.HasPrefix(r.stderr, "the last write to 0") || !strings.HasSuffix(r.stderr, want) || strings.Count(r.stderr, "\n") != 1 {
		t.Errorf("%+v, want ...%s", r, want)
	}
	if got, want := k.ids(), "again:p/1 kept:p/1 kept:p/2 kept:p/3 aside:p/0 aside:p/8"; got != want {
		t.Errorf("ls lists %s, want %s", got, want)
	}
}

func TestSpoolDrop(t *testing.T) {
	t.Parallel()
	k := newKept(t)
	k.damage()
	k.fails("or --aside or --kept", "drop")
	k.fails("or --aside or --kept", "drop", "p/1", "--kept")
	k.fails("or --aside or --kept", "drop", "--aside", "--kept")
	k.fails("p/9: there is nothing", "drop", "p/9")
	r := k.run("drop", "p/8", "p/9", "p/2")
	if want := `dropped p/2: kept for core, 123 bytes, of 2020-01-02T03:04:07Z
dropped p/8: set aside, 61 bytes, of 2020-01-02T03:04:05Z
dropped in all: 1 report kept for core, 1 set aside, 0 damaged
`; r.code != 1 || r.stdout != want || !strings.HasPrefix(r.stderr, "p/9: there is nothing") {
		t.Errorf("%+v, want %s", r, want)
	}
	if got, want := k.ids(), "kept:p/1 damaged:0000000000-SALT-436 aside:p/0"; got != want {
		t.Errorf("ls lists %s, want %s", got, want)
	}
	r = k.run("drop", "--aside")
	if r.code != 0 || !strings.HasSuffix(r.stdout, "dropped in all: 0 reports kept for core, 1 set aside, 1 damaged\n") {
		t.Errorf("--aside: %+v", r)
	}
	if got, want := k.ids(), "kept:p/1"; got != want {
		t.Errorf("ls lists %s, want %s", got, want)
	}
	k.want("dropped in all: 0 reports kept for core, 0 set aside, 0 damaged\n", "drop", "--aside")
	k.want("dropped 1 report kept for core: 134 bytes, from 2020-01-02T03:04:06Z to 2020-01-02T03:04:06Z\n", "drop", "--kept")
	k.want("dropped 0 reports kept for core\n", "drop", "--kept")
	k.want("0 reports kept for core; 0 set aside; 0 damaged\n", "ls")
	k.want("", "export")
	d := k.open()
	defer k.close(d)
	if got := d.State()["k"]; got != "2" { // the last whose report could be read
		t.Errorf("results stand at %q", got)
	}
}

// damaged is the id of the damaged one.
func (k *kept) damaged() string {
	k.t.Helper()
	for line := range strings.Lines(k.run("ls", "--aside").stdout) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[1] == "damaged" {
			return fields[0]
		}
	}
	k.t.Fatal("nothing is damaged")
	return ""
}
