package config

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/serviceradar/poller/internal/check"
)

const diffOld = `
poll.interval = "30s"
kv_store_id = "redis://:secret@host/"
silence = [{ from = 2999-03-01T00:00:00Z, to = 2999-03-02T00:00:00+01:00, reason = "https://u:secret@h/" }]
[agents.gone]
address = "127.0.0.1:1"
[agents.off]
address = "127.0.0.1:1"
[agents.on]
address = "127.0.0.1:1"
disabled = true
[agents.never]
address = "127.0.0.1:1"
disabled = true
[agents."same one"]
address = "127.0.0.1:1"
labels = { site = "north" }
checks = [{ name = "ssh", type = "port", port = 22 }]
[agents.order]
address = "127.0.0.1:1"
checks = [{ name = "a", type = "t" }, { name = "b", type = "t", details = "x" }]
[agents."web site"]
address = "127.0.0.1:1"
labels = { site = "north", "old one" = "https://u:secret@h/" }
[[agents."web site".checks]]
name = "front page"
type = "http"
details = "https://user:secret@host/"
[[agents."web site".checks]]
name = "network"
type = "sweep"
[[agents."web site".checks]]
name = "ssh"
type = "port"
[[agents."web site".checks]]
name = "stays"
type = "port"
assert = ["data.x < 3", "data.y"]
silence = [{ from = 2999-03-01T00:00:00Z, to = 2999-03-02T00:00:00Z, reason = "a" }]
`

const diffNew = `
poll.interval = "15s"
kv_store_id = "redis://:other@host/"
[profiles.ssh]
checks = [{ name = "ssh", type = "port", port = 22, interval = "30s" }]
[agents.new]
address = "127.0.0.1:1"
[agents.off]
address = "127.0.0.1:1"
disabled = true
[agents.on]
address = "127.0.0.1:1"
[agents."same one"]
address = "127.0.0.1:1"
profile = "ssh"
labels.site = "north"
[agents.order]
address = "127.0.0.1:1"
checks = [{ name = "b", type = "t", details = "y", interval = "30s" }, { name = "a", type = "t", interval = "30s" }]
[agents."web site"]
address = "[::1]:1"
timeout = "4s"
labels = { site = "south", rack = "7" }
silence = [{ from = 2999-03-01T00:00:00Z, to = 2999-03-02T00:00:00Z, reason = "b" }]
[[agents."web site".checks]]
name = "http"
type = "http"
details = "https://user:secret@host/"
[[agents."web site".checks]]
name = "front page"
type = "http"
interval = "30s"
details = "https://user:other@host/"
timeout = "10s"
[[agents."web site".checks]]
name = "network"
type = "sweep"
results_interval = "30m"
[[agents."web site".checks]]
name = "stays"
type = "port"
interval = "30s"
timeout = "10s"
confirm = 3
assert = ["data.x < 4"]
silence = [{ from = 2999-03-01T00:00:00Z, to = 2999-03-03T00:00:00Z, reason = "a" }, { from = 2999-03-01T00:00:00Z, to = 2999-03-02T00:00:00Z, reason = "b" }]
`

const diffText = `2 agents added, 2 removed, 2 changed; 3 other keys changed
  kv_store_id: "redis://:***@host/" changed (masked)
  poll.interval: "30s" -> "15s"
  silence: removed [{ from = 2999-03-01T00:00:00Z, to = 2999-03-01T23:00:00Z, reason = "https://u:***@h/" }]
+ new
+ on (was disabled)
- gone
- off (now disabled)
~ order
    checks.b.details: "x" -> "y"
    checks: ["a", "b"] -> ["b", "a"]
~ "web site"
    address: "127.0.0.1:1" -> "[::1]:1"
    labels."old one": removed "https://u:***@h/"
    labels.site: "north" -> "south"
    labels.rack: added "7"
    silence: added [{ from = 2999-03-01T00:00:00Z, to = 2999-03-02T00:00:00Z, reason = "b" }]
    checks."front page".details: "https://user:***@host/" changed (masked)
    checks.network.interval: removed "30s"
    checks.network.timeout: "10s" -> "4s"
    checks.network.confirm: removed 1
    checks.network.results_interval: added "30m"
    checks.network.stream: added true
    checks.ssh: removed { type = "port", details = "", port = 0, interval = "30s", timeout = "10s", confirm = 1 }
    checks.stays.confirm: 1 -> 3
    checks.stays.assert: ["data.x < 3", "data.y"] -> ["data.x < 4"]
    checks.stays.silence: [{ from = 2999-03-01T00:00:00Z, to = 2999-03-02T00:00:00Z, reason = "a" }] -> ` +
	`[{ from = 2999-03-01T00:00:00Z, to = 2999-03-03T00:00:00Z, reason = "a" }, { from = 2999-03-01T00:00:00Z, to = 2999-03-02T00:00:00Z, reason = "b" }]
    checks.http: added { type = "http", details = "https://user:***@host/", port = 0, interval = "15s", timeout = "4s", confirm = 1 }
`

func TestCompare(t *testing.T) {
	t.Parallel()
	old, _ := mustParse(t, minimal+diffOld)
	next, _ := mustParse(t, minimal+diffNew)
	d := Compare(old, next)
	if diff := cmp.Diff(diffText, d.String()); diff != "" || d.Empty() {
		t.Errorf("Empty %v, text (-want +got):\n%s", d.Empty(), diff)
	}
	if diff := cmp.Diff([][]string{{"new", "on"}, {"gone", "off"}, {"on"}, {"off"}}, [][]string{d.Added, d.Removed, d.Enabled, d.Disabled}); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if d := Compare(next, next); !d.Empty() || d.String() != "nothing changes\n" {
		t.Errorf("differs from itself:\n%s", d)
	}
}

func TestSummary(t *testing.T) {
	t.Parallel()
	for want, d := range map[string]Diff{
		"nothing changes":     {},
		"1 agent added":       {Added: []string{"a"}},
		"2 agents removed":    {Removed: []string{"a", "b"}},
		"1 agent changed":     {Changed: make([]AgentChange, 1)},
		"1 other key changed": {Keys: make([]Change, 1)},
		"1 agent added, 2 removed, 3 changed; 2 other keys changed": {
			Added: []string{"a"}, Removed: []string{"b", "c"}, Changed: make([]AgentChange, 3), Keys: make([]Change, 2),
		},
	} {
		if got := d.Summary(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestDiffFails(t *testing.T) {
	t.Parallel()
	full := errors.New("disk full")
	if n, err := (Diff{}).WriteTo(failingWriter{full}); !errors.Is(err, full) || n != 0 {
		t.Errorf("wrote %d bytes, error %v; want %v", n, err, full)
	}
}

// TestLayoutIsNoDifference: where something is written makes no difference, and neither does what is in no use.
func TestLayoutIsNoDifference(t *testing.T) {
	t.Parallel()
	one, _ := mustParse(t, minimal+agentText("a")+"labels = { x = \"1\", y = \"2\" }\n"+agentText("b"))
	disk := tree(map[string]string{
		"/etc/poller/d/1.toml": agentText("b") + "[profiles.ssh]\nchecks = [{ name = \"{{ .labels.x }}sh\", type = \"port\" }]\n" +
			"[agents.off]\naddress = \"127.0.0.1:1\"\ndisabled = true\n",
		"/etc/poller/d/2.toml": "[agents.a]\naddress = \"127.0.0.1:1\"\nlabels.y = \"2\"\nlabels.x = \"1\"\nchecks = [{ name = \"ssh\", type = \"port\", interval = \"30s\" }]\n",
	})
	other, _, err := parse("/etc/poller/poller.toml", []byte(minimal+"include = [\"d/*\"]\npartition = \"default\"\n"), Source{FS: disk}, noAddresses)
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := parse("/else/x.toml", []byte(printed(t, one)), Source{}, noAddresses)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*Config{other, again} {
		if d := Compare(one, c); !d.Empty() || one.Hash() != c.Hash() {
			t.Errorf("hashes %s and %s, difference:\n%s", one.Hash(), c.Hash(), d)
		}
	}
	secret, _ := mustParse(t, minimal+"kv_store_id = \"redis://:a@host/\"\n")
	changed, _ := mustParse(t, minimal+"kv_store_id = \"redis://:b@host/\"\n")
	if secret.Hash() == changed.Hash() {
		t.Error("a secret differs, the hash does not")
	}
	if h := one.Hash(); len(h) != 16 || strings.Trim(h, "0123456789abcdef") != "" {
		t.Errorf("hash %q, want 16 hexadecimal digits", h)
	}
}

// different returns another value of the type than the field has.
func different(t *testing.T, field reflect.Value) reflect.Value {
	t.Helper()
	switch field.Kind() {
	case reflect.String:
		return reflect.ValueOf(field.String() + "x").Convert(field.Type())
	case reflect.Int, reflect.Int32, reflect.Int64:
		return reflect.ValueOf(field.Int() + 1024).Convert(field.Type())
	case reflect.Uint8:
		return reflect.ValueOf(field.Uint() ^ 1).Convert(field.Type())
	case reflect.Bool:
		return reflect.ValueOf(!field.Bool())
	case reflect.Slice:
		return reflect.AppendSlice(field, field)
	case reflect.Pointer:
		return reflect.ValueOf(&check.Assertions{Texts: []string{"true"}})
	default:
		t.Fatalf("no other value for a field of kind %s; add one here", field.Kind())
		return field
	}
}

// TestEveryKeyCounts: no key is forgotten when configurations are compared or hashed.
func TestEveryKeyCounts(t *testing.T) {
	t.Parallel()
	c, _ := mustParse(t, string(read(t, "testdata/good/full.toml")))
	for i := range rootSpec.keys {
		k := &rootSpec.keys[i]
		if k.later {
			continue
		}
		other := *c
		field := reflect.ValueOf(k.field(&other)).Elem()
		field.Set(different(t, field))
		d := Compare(c, &other)
		if len(d.Keys) != 1 || d.Keys[0].Key != k.name || len(d.Added)+len(d.Removed)+len(d.Changed) > 0 {
			t.Errorf("%s differs, found:\n%s", k.name, d)
		}
		if c.Hash() == other.Hash() {
			t.Errorf("%s differs, the hash does not", k.name)
		}
	}
}

// TestEverySourceKeyCounts: none of [discovery] either, nor the order.
func TestEverySourceKeyCounts(t *testing.T) {
	t.Parallel()
	c, _ := mustParse(t, string(read(t, "testdata/good/discovery.toml")))
	differs := func(what, key string, other *Config) {
		d := Compare(c, other)
		if len(d.Keys) != 1 || d.Keys[0].Key != key || len(d.Added)+len(d.Removed)+len(d.Changed) > 0 {
			t.Errorf("%s differs, want the key %s; found:\n%s", what, key, d)
		}
		if c.Hash() == other.Hash() {
			t.Errorf("%s differs, the hash does not", what)
		}
	}
	for i := range c.Discovery {
		s := c.Discovery[i].spec()
		for j := range s.keys {
			other := *c
			other.Discovery = slices.Clone(c.Discovery)
			d := &other.Discovery[i]
			field := reflect.ValueOf(s.keys[j].field(d)).Elem()
			field.Set(different(t, field))
			differs(d.ID+"'s "+s.keys[j].name, "discovery."+Quote(d.ID)+"."+s.keys[j].name, &other)
		}
	}
	other := *c
	other.Discovery = slices.Clone(c.Discovery)
	slices.Reverse(other.Discovery)
	differs("the order", "discovery", &other)
}

// TestEveryFieldCounts: no field of agents and checks is forgotten, even if it is no key.
func TestEveryFieldCounts(t *testing.T) {
	t.Parallel()
	c, _ := mustParse(t, string(read(t, "testdata/good/full.toml")))
	vary := func(name string, of func(a *check.Agent) reflect.Value) {
		a := *c.Agents[0]
		a.Checks = slices.Clone(a.Checks)
		other := *c
		other.Agents = append([]*check.Agent{&a}, c.Agents[1:]...)
		if !sameAgent(c.Agents[0], &a) || !Compare(c, &other).Empty() || c.Hash() != other.Hash() {
			t.Fatal("a copy is not the same")
		}
		field := of(&a)
		field.Set(different(t, field))
		if sameAgent(c.Agents[0], &a) {
			t.Errorf("%s differs, the agents are the same", name)
		}
		if Compare(c, &other).Empty() {
			t.Errorf("%s differs, the configurations do not", name)
		}
		if c.Hash() == other.Hash() {
			t.Errorf("%s differs, the hash does not", name)
		}
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[check.Agent]()) {
		if f.Type != reflect.TypeFor[check.TLS]() {
			vary("an agent's "+f.Name, func(a *check.Agent) reflect.Value { return reflect.ValueOf(a).Elem().FieldByIndex(f.Index) })
		}
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[check.TLS]()) {
		vary("an identity's "+f.Name, func(a *check.Agent) reflect.Value { return reflect.ValueOf(&a.TLS).Elem().FieldByIndex(f.Index) })
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[check.Check]()) {
		vary("a check's "+f.Name, func(a *check.Agent) reflect.Value { return reflect.ValueOf(&a.Checks[0]).Elem().FieldByIndex(f.Index) })
	}
	other := *c
	other.Labels = map[string]map[string]string{c.Agents[0].Name: {"site": ""}}
	if d := Compare(c, &other); len(d.Changed) != 1 || c.Hash() == other.Hash() {
		t.Errorf("labels differ, found:\n%s", d)
	}
	silence := check.Silence{From: time.Unix(0, 0).UTC(), To: time.Unix(1, 0).UTC(), Reason: "x"}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[check.Silence]()) {
		other := silence
		if field := reflect.ValueOf(&other).Elem().FieldByIndex(f.Index); field.Kind() == reflect.String {
			field.SetString("y")
		} else {
			field.Set(reflect.ValueOf(time.Unix(9, 0).UTC()))
		}
		for _, of := range [][2]string{{"", ""}, {c.Agents[0].Name, ""}, {c.Agents[0].Name, c.Agents[0].Checks[0].Name}} {
			a, b := *c, *c
			a.Silences = check.Silences{of[0]: {of[1]: {silence}}}
			b.Silences = check.Silences{of[0]: {of[1]: {other}}}
			if d := Compare(&a, &b); len(d.Keys)+len(d.Changed) != 1 || a.Hash() == b.Hash() {
				t.Errorf("%s of a silence of %q differs, found:\n%s", f.Name, of, d)
			}
			if _, changed, _ := Adopt(&a, &b); len(changed) > 0 {
				t.Errorf("a silence of %q changes agents", of)
			}
		}
	}
}

// drawAgents draws agents of few names and values, so that two draws have much in common.
func drawAgents(t *rapid.T, label string) *Config {
	c := defaults()
	for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"}), 0, 6, rapid.ID[string]).Draw(t, label) {
		a := &check.Agent{Name: name, Address: rapid.SampledFrom([]string{"x:1", "y:1"}).Draw(t, "address")}
		for _, n := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"1", "2"}), 0, 2, rapid.ID[string]).Draw(t, "checks") {
			c := check.Check{Name: n, Port: rapid.Int32Range(0, 1).Draw(t, "port"), Timeout: time.Second}
			if text := rapid.SampledFrom([]string{"", "data.x", "data.y"}).Draw(t, "assert"); text != "" {
				c.Assert = &check.Assertions{Texts: []string{text}}
			}
			a.Checks = append(a.Checks, c)
		}
		c.Agents = append(c.Agents, a)
	}
	sortAgents(c.Agents)
	return c
}

// TestAdopt: whatever the two are, the new one stays what it was, has the old one's pointers exactly where they are
// equal, and what is told agrees with Compare and with a look at each agent.
func TestAdopt(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		old, next := drawAgents(t, "old"), drawAgents(t, "next")
		before := *next
		before.Agents = nil
		for _, a := range next.Agents {
			clone := *a
			clone.Checks = slices.Clone(a.Checks)
			before.Agents = append(before.Agents, &clone)
		}
		oldBefore := slices.Clone(old.Agents)
		own := slices.Clone(next.Agents)
		diff := Compare(old, next)
		added, changed, removed := Adopt(old, next)
		if d := cmp.Diff(&before, next); d != "" {
			t.Fatalf("the new one is not what it was (-want +got):\n%s", d)
		}
		if !slices.Equal(oldBefore, old.Agents) {
			t.Fatal("the old one is not what it was")
		}
		wantAdded, wantChanged, wantRemoved := []*check.Agent{}, []*check.Agent{}, []*check.Agent{}
		byName := map[string]*check.Agent{}
		for _, a := range old.Agents {
			byName[a.Name] = a
		}
		for i, a := range own {
			was := byName[a.Name]
			delete(byName, a.Name)
			want := a
			switch {
			case was == nil:
				wantAdded = append(wantAdded, a)
			case reflect.DeepEqual(was, a):
				want = was
			default:
				wantChanged = append(wantChanged, a)
			}
			if next.Agents[i] != want {
				t.Errorf("%s has the wrong pointer", a.Name)
			}
		}
		for _, a := range old.Agents {
			if byName[a.Name] != nil {
				wantRemoved = append(wantRemoved, a)
			}
		}
		if !slices.Equal(wantAdded, added) || !slices.Equal(wantChanged, changed) || !slices.Equal(wantRemoved, removed) {
			t.Errorf("added %v, changed %v, removed %v; want %v, %v, %v", added, changed, removed, wantAdded, wantChanged, wantRemoved)
		}
		if len(diff.Added) != len(added) || len(diff.Changed) != len(changed) || len(diff.Removed) != len(removed) {
			t.Errorf("Compare told something else:\n%s", diff)
		}
		for _, c := range diff.Changed {
			if len(c.Changes) == 0 {
				t.Errorf("%s changed, but nothing in it did", c.Name)
			}
		}
		if Compare(old, next).Empty() != (len(added)+len(changed)+len(removed) == 0) {
			t.Error("Empty is wrong")
		}
	})
}

// TestAdoptAssertions: what is compiled again with the same texts changes nothing.
func TestAdoptAssertions(t *testing.T) {
	t.Parallel()
	text := string(read(t, "testdata/good/full.toml"))
	old, _ := mustParse(t, text)
	next, _ := mustParse(t, text)
	if a, b := old.Agents[1].Checks[0].Assert, next.Agents[1].Checks[0].Assert; a == nil || a == b {
		t.Fatal("nothing was compiled twice")
	}
	if d := Compare(old, next); !d.Empty() {
		t.Errorf("found:\n%s", d)
	}
	if added, changed, removed := Adopt(old, next); len(added)+len(changed)+len(removed) > 0 || !slices.Equal(old.Agents, next.Agents) {
		t.Errorf("added %v, changed %v, removed %v", added, changed, removed)
	}
}
