package spool

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/proptest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { os.Exit(proptest.Main(m)) }

var start = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// TestMemory runs scripts of one step a line, each followed by what it is to return:
//
//	append ID BYTES MINUTE   the ids dropped for want of room, behind those that are "old:"
//	next                     the id lent
//	ack ID
//	kept                     the number of reports and their bytes
//	bounds BYTES MINUTES [newest]
func TestMemory(t *testing.T) {
	t.Parallel()
	const hour = time.Hour
	for _, tt := range []struct {
		name   string
		cfg    Config
		script string
	}{
		{"order", Config{MaxBytes: 100, MaxAge: hour}, `
			next -> none
			append a 10 0 ->
			append b 20 0 ->
			append c 30 1 ->
			kept -> 3 60
			next -> a
			next -> a
			ack a
			next -> b
			ack b
			next -> c
			kept -> 1 30
			ack c
			next -> none
			kept -> 0 0`},
		{"acknowledging something else changes nothing", Config{MaxBytes: 100, MaxAge: hour}, `
			ack a
			append a 10 0 ->
			append b 10 0 ->
			ack b
			ack nobody
			kept -> 2 20
			next -> a
			ack b
			next -> a
			ack a
			ack a
			kept -> 1 10
			next -> b`},
		{"acknowledging the oldest without asking for it: a predecessor delivered it", Config{MaxBytes: 100, MaxAge: hour}, `
			append a 10 0 ->
			append b 10 0 ->
			ack a
			next -> b`},
		{"the oldest are dropped for the newest", Config{MaxBytes: 100, MaxAge: hour}, `
			append a 40 0 ->
			append b 40 0 ->
			append c 20 0 ->
			kept -> 3 100
			append d 1 0 -> a
			append e 100 0 -> b c d
			kept -> 1 100
			next -> e`},
		{"the newest are refused", Config{MaxBytes: 100, MaxAge: hour, DropNewest: true}, `
			append a 40 0 ->
			append b 60 0 ->
			append c 1 0 -> c
			append d 0 0 ->
			kept -> 3 100
			ack a
			append e 40 0 ->
			next -> b`},
		{"the one on its way to core stays", Config{MaxBytes: 100, MaxAge: hour}, `
			append a 40 0 ->
			append b 40 0 ->
			next -> a
			append c 40 0 -> b
			append d 60 0 -> c
			next -> a
			kept -> 2 100
			ack a
			append e 60 0 -> d
			next -> e`},
		{"nothing is dropped for what does not fit beside the one on its way", Config{MaxBytes: 100, MaxAge: hour}, `
			append a 60 0 ->
			append b 30 0 ->
			next -> a
			append c 50 0 -> c
			kept -> 2 90
			ack a
			next -> b`},
		{"a report larger than everything", Config{MaxBytes: 100, MaxAge: hour}, `
			append a 60 0 ->
			append b 101 0 -> b
			kept -> 1 60
			next -> a
			append c 101 0 -> c
			kept -> 1 60`},
		{"a report larger than everything, newest refused", Config{MaxBytes: 100, MaxAge: hour, DropNewest: true}, `
			append a 101 0 -> a
			kept -> 0 0`},
		{"age", Config{MaxBytes: 100, MaxAge: hour}, `
			append a 10 0 ->
			append b 10 1 ->
			append c 10 60 ->
			append d 10 61 -> old:a
			append e 10 122 -> old:b old:c old:d
			kept -> 1 10
			next -> e`},
		{"age, the newest refused all the same", Config{MaxBytes: 20, MaxAge: hour, DropNewest: true}, `
			append a 10 0 ->
			append b 10 60 ->
			append c 10 60 -> c
			append d 10 61 -> old:a
			next -> b`},
		{"age makes room even for what is refused", Config{MaxBytes: 20, MaxAge: hour}, `
			append a 10 0 ->
			append b 21 61 -> old:a b
			kept -> 0 0`},
		{"the one on its way to core stays at any age", Config{MaxBytes: 100, MaxAge: hour}, `
			append a 10 0 ->
			append b 10 0 ->
			next -> a
			append c 10 90 -> old:b
			ack a
			next -> c`},
		{"an id appended before changes nothing", Config{MaxBytes: 100, MaxAge: hour}, `
			append a 10 0 ->
			append a 20 0 ->
			kept -> 1 10
			next -> a
			ack a
			append a 10 0 ->
			kept -> 0 0
			append b 101 0 -> b
			append b 10 0 -> b
			kept -> 0 0
			append c 60 0 ->
			append d 60 0 -> c
			append c 60 500 ->
			kept -> 1 60
			next -> d`},
		{"smaller bounds hold from the next report on", Config{MaxBytes: 100, MaxAge: hour}, `
			append a 30 0 ->
			append b 30 0 ->
			append c 30 0 ->
			bounds 50 60
			kept -> 3 90
			append d 10 0 -> a b
			bounds 40 5
			append e 0 6 -> old:c old:d
			bounds 100 5
			append f 100 6 ->
			kept -> 2 100`},
		{"too much is kept, and the newest are refused", Config{MaxBytes: 100, MaxAge: hour}, `
			append a 40 0 ->
			append b 40 0 ->
			bounds 50 60 newest
			append c 10 0 -> c
			kept -> 2 80
			ack a
			append d 10 0 ->
			bounds 20 60
			append e 1 0 -> b
			kept -> 2 11`},
		{"too much is kept, and most of it is on its way to core", Config{MaxBytes: 100, MaxAge: hour}, `
			append a 60 0 ->
			append b 10 0 ->
			append c 10 0 ->
			next -> a
			bounds 50 60
			append d 10 0 -> b c d
			kept -> 1 60
			ack a
			append e 10 0 ->
			next -> e`},
		{"empty bodies", Config{MaxBytes: 10, MaxAge: hour}, `
			append a 0 0 ->
			append b 10 0 ->
			append c 0 0 ->
			kept -> 3 10
			next -> a`},
		{"nothing may be kept", Config{MaxBytes: 0, MaxAge: hour}, `
			append a 1 0 -> a
			next -> none`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := NewMemory(tt.cfg)
			for line := range strings.SplitSeq(strings.TrimSpace(tt.script), "\n") {
				command, want, _ := strings.Cut(strings.TrimSpace(line), "->")
				if got := step(t, m, strings.Fields(command)); got != strings.TrimSpace(want) {
					t.Errorf("%s -> %s", command, got)
				}
			}
		})
	}
}

func step(t *testing.T, m *Memory, command []string) string {
	t.Helper()
	switch command[0] {
	case "append":
		var size, minute int
		if _, err := fmt.Sscan(command[2]+" "+command[3], &size, &minute); err != nil {
			t.Fatal(err)
		}
		tooOld, noRoom, err := m.Append(command[1], start.Add(time.Duration(minute)*time.Minute), body(command[1], size), nil)
		if err != nil {
			t.Errorf("%v: %v", command, err)
		}
		for i, id := range tooOld {
			tooOld[i] = "old:" + id
		}
		return strings.Join(append(tooOld, noRoom...), " ")
	case "next":
		id, got, ok, err := m.Next()
		if err != nil {
			t.Errorf("Next: %v", err)
		}
		if !ok {
			if id != "" || got != nil {
				t.Errorf("Next returns %q and %q with ok=false", id, got)
			}
			return "none"
		}
		if string(got) != string(body(id, len(got))) {
			t.Errorf("Next returns %s with another's body %q", id, got)
		}
		return id
	case "ack":
		m.Ack(command[1])
		return ""
	case "bounds":
		m.SetBounds(bounds(t, command))
		return ""
	case "kept":
		reports, bytes := m.Kept()
		return fmt.Sprint(reports, bytes)
	}
	t.Fatalf("no such step: %v", command)
	return ""
}

// body is recognizably the one of id.
func body(id string, size int) []byte {
	return []byte(strings.Repeat(id+".", size/(len(id)+1)+1)[:size])
}

func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	m := NewMemory(Config{MaxBytes: 1, MaxAge: time.Hour})
	m.SetBounds(Config{MaxBytes: 1 << 40, MaxAge: time.Hour})
	block := make([]byte, MemoryLimit/4) // the same one each time
	for i := range 4 {
		if _, dropped, _ := m.Append(fmt.Sprint(i), start, block, nil); dropped != nil {
			t.Errorf("report %d: dropped %q", i, dropped)
		}
	}
	_, dropped, _ := m.Append("4", start, block, nil)
	if diff := cmp.Diff([]string{"0"}, dropped); diff != "" {
		t.Errorf("dropped above the limit (-want +got):\n%s", diff)
	}
	if _, bytes := m.Kept(); bytes != MemoryLimit {
		t.Errorf("%d bytes kept, want %d", bytes, MemoryLimit)
	}
}

// TestMemoryRemembers: ids are known again long after they are gone, and do not pile up for ever.
func TestMemoryRemembers(t *testing.T) {
	t.Parallel()
	m := NewMemory(Config{MaxBytes: 1000, MaxAge: time.Hour})
	const n = 3 * remembered
	for i := range n {
		id := fmt.Sprint(i)
		_, _, _ = m.Append(id, start, []byte("x"), nil)
		m.Ack(id)
	}
	for i := n - remembered; i < n; i++ {
		if _, _, _ = m.Append(fmt.Sprint(i), start, []byte("x"), nil); m.queue.Len() != 0 {
			t.Fatalf("report %d of %d was not known again", i, n)
		}
	}
	if len(m.recent.ids) != remembered {
		t.Errorf("%d ids are remembered, want %d", len(m.recent.ids), remembered)
	}
	if _, _, _ = m.Append("0", start, []byte("x"), nil); m.queue.Len() != 1 {
		t.Error("an id of long ago is still remembered")
	}
}

// model is the plain form of Memory: a slice, and every id's fate.
type model struct {
	cfg                   Config
	queue                 []memoryRecord
	lent                  bool
	appended, refused     map[string]bool
	dropped, acknowledged int
}

func (m *model) bytes() (sum int64) {
	for _, r := range m.queue {
		sum += int64(len(r.body))
	}
	return sum
}

func (m *model) append(r memoryRecord) (tooOld, noRoom []string) {
	if m.appended[r.id] {
		if m.refused[r.id] {
			return nil, []string{r.id}
		}
		return nil, nil
	}
	m.appended[r.id] = true
	first := 0
	if m.lent {
		first = 1
	}
	drop := func(into *[]string) {
		*into = append(*into, m.queue[first].id)
		m.queue = slices.Delete(m.queue, first, first+1)
	}
	for len(m.queue) > first && r.at.Sub(m.queue[first].at) > m.cfg.MaxAge {
		drop(&tooOld)
	}
	size := int64(len(r.body))
	var lent int64
	if m.lent {
		lent = int64(len(m.queue[0].body))
	}
	room := func(needed int64) {
		for !m.cfg.DropNewest && len(m.queue) > first && m.bytes()+needed > m.cfg.MaxBytes {
			drop(&noRoom)
		}
	}
	if room(0); lent+size <= m.cfg.MaxBytes {
		room(size)
	}
	if m.bytes()+size > m.cfg.MaxBytes {
		noRoom = append(noRoom, r.id)
		m.refused[r.id] = true
	} else {
		m.queue = append(m.queue, r)
	}
	m.dropped += len(tooOld) + len(noRoom)
	return tooOld, noRoom
}

// TestMemoryAgainstModel does anything in any order, and accounts for every report.
func TestMemoryAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		drawBounds := func(t *rapid.T) Config {
			return Config{
				MaxBytes:   rapid.Int64Range(0, 200).Draw(t, "max bytes"),
				MaxAge:     time.Duration(rapid.IntRange(0, 20).Draw(t, "max age")) * time.Minute,
				DropNewest: rapid.Bool().Draw(t, "drop newest"),
			}
		}
		cfg, most := drawBounds(t), int64(0)
		memory, model := NewMemory(cfg), &model{cfg: cfg, appended: make(map[string]bool), refused: make(map[string]bool)}
		now, seq := start, 0
		appendOne := func(t *rapid.T, id string) {
			now = now.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "minutes")) * time.Minute)
			r := memoryRecord{id: id, at: now, body: body(id, rapid.IntRange(0, 90).Draw(t, "size"))}
			tooOld, noRoom, err := memory.Append(r.id, r.at, r.body, map[string]string{"any": "state"})
			if err != nil {
				t.Fatalf("Append: %v", err)
			}
			if wantOld, wantNo := model.append(r); !slices.Equal(tooOld, wantOld) || !slices.Equal(noRoom, wantNo) {
				t.Fatalf("%s dropped %q and %q, want %q and %q", id, tooOld, noRoom, wantOld, wantNo)
			}
		}
		ack := func(id string) {
			memory.Ack(id)
			if len(model.queue) > 0 && model.queue[0].id == id {
				model.queue, model.lent = model.queue[1:], false
				model.acknowledged++
			}
		}
		anID := func(t *rapid.T) string { return fmt.Sprint(rapid.IntRange(0, seq+1).Draw(t, "id")) }
		t.Repeat(map[string]func(*rapid.T){
			"append":  func(t *rapid.T) { seq++; appendOne(t, fmt.Sprint(seq)) },
			"another": func(t *rapid.T) { seq++; appendOne(t, fmt.Sprint(seq)) },
			"again":   func(t *rapid.T) { appendOne(t, fmt.Sprint(rapid.IntRange(0, seq).Draw(t, "id"))) },
			"next": func(t *rapid.T) {
				id, got, ok, err := memory.Next()
				if err != nil || ok != (len(model.queue) > 0) {
					t.Fatalf("Next: ok=%v, %v with %d reports", ok, err, len(model.queue))
				}
				if model.lent = ok; ok && (id != model.queue[0].id || string(got) != string(model.queue[0].body)) {
					t.Fatalf("Next is %s, want %s", id, model.queue[0].id)
				}
			},
			"deliver": func(*rapid.T) {
				if id, _, ok, _ := memory.Next(); ok {
					model.lent = true
					ack(id)
				}
			},
			"bounds": func(t *rapid.T) {
				model.cfg = drawBounds(t)
				memory.SetBounds(model.cfg)
				most = model.bytes()
			},
			"ack any": func(t *rapid.T) { ack(anID(t)) },
			"set aside": func(t *rapid.T) {
				if err := memory.SetAside(anID(t), []byte("x"), "refused"); !errors.Is(err, ErrInMemory) {
					t.Fatalf("SetAside: %v", err)
				}
			},
			"": func(t *rapid.T) {
				reports, bytes := memory.Kept()
				if reports != len(model.queue) || bytes != model.bytes() {
					t.Fatalf("kept %d reports of %d bytes, want %d of %d", reports, bytes, len(model.queue), model.bytes())
				}
				holding := Holding{Reports: reports, Bytes: bytes}
				if reports > 0 {
					holding.Oldest = model.queue[0].at
				}
				if got := memory.Holding(); got != holding {
					t.Fatalf("Holding: %+v, want %+v", got, holding)
				}
				if bytes > max(model.cfg.MaxBytes, most) { // what is kept already
					t.Fatalf("%d bytes kept, above %d", bytes, model.cfg.MaxBytes)
				}
				if sum := reports + model.dropped + model.acknowledged; sum != len(model.appended) {
					t.Fatalf("%d reports appended, %d accounted for", len(model.appended), sum)
				}
			},
		})
		for _, want := range model.queue {
			if id, _, _, _ := memory.Next(); id != want.id {
				t.Fatalf("at the end Next is %s, want %s", id, want.id)
			}
			memory.Ack(want.id)
		}
		if n, bytes := memory.Kept(); n != 0 || bytes != 0 {
			t.Fatalf("at the end %d reports of %d bytes are left", n, bytes)
		}
	})
}
