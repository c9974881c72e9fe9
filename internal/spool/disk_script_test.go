package spool

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestDisk runs scripts of one step a line, each followed by what it is to return:
//
//	append ID BYTES MINUTE [KEY=VALUE]   the ids dropped for want of room, behind those that are "old:"
//	next                                 the id lent
//	ack ID
//	drain                                the ids of all, acknowledged one after the other
//	kept                                 the number of reports
//	bounds BYTES MINUTES [newest]        from now on; with newest, new reports are refused when there is no room
//	reopen                               what it told, in short
//	state                                what is in the state
//	aside ID REASON, retry ID, drop ID, dropall
//	look                                 what is in the directory, as Look shows it
//	files SUFFIX                         how many files end with it
//
// A report of 100 bytes takes about 140 in a segment of 1 KiB: seven of them fit.
func TestDisk(t *testing.T) {
	t.Parallel()
	cfg := Config{MaxBytes: 16 << 10, MaxAge: time.Hour}
	newest := cfg
	newest.DropNewest = true
	for _, tt := range []struct {
		name   string
		cfg    Config
		script string
	}{
		{"order", cfg, `
			next -> none
			append a 10 0 ->
			append b 20 0 ->
			append c 30 1 ->
			kept -> 3
			next -> a
			next -> a
			ack a
			next -> b
			ack nobody
			next -> b
			ack b
			ack b
			drain -> c
			kept -> 0`},
		{"what is kept outlives the process, what is acknowledged does not come again", cfg, `
			append a 10 0 ->
			append b 10 0 ->
			append c 10 0 ->
			next -> a
			ack a
			reopen ->
			kept -> 2
			append d 10 0 ->
			reopen ->
			reopen ->
			drain -> b c d
			reopen ->
			kept -> 0
			files .seg -> 0`},
		{"acknowledging the oldest without asking for it: a predecessor delivered it", cfg, `
			append a 10 0 ->
			append b 10 0 ->
			ack a
			reopen ->
			ack b
			kept -> 0`},
		{"an id appended before changes nothing", cfg, `
			append a 10 0 ->
			append a 20 0 ->
			kept -> 1
			drain -> a
			append a 10 0 ->
			kept -> 0
			append b 20000 0 -> b
			append b 10 0 -> b
			kept -> 0`},
		{"many starts leave no many files", cfg, `
			append a 10 0 ->
			reopen ->
			append b 10 0 ->
			reopen ->
			append c 10 0 ->
			files .seg -> 1
			drain -> a b c`},
		{"segments that are done go", cfg, `
			append a 400 0 ->
			append b 400 0 ->
			append c 400 0 ->
			append d 400 0 ->
			files .seg -> 2
			ack a
			files .seg -> 2
			ack b
			files .seg -> 1
			drain -> c d
			files .seg -> 1
			append e 400 0 ->
			files .seg -> 1
			drain -> e`},
		{"larger than a segment", cfg, `
			append a 5000 0 ->
			append b 10 0 ->
			append c 5000 0 ->
			files .seg -> 3
			reopen ->
			drain -> a b c`},
		{"the oldest segment is dropped for the newest report", Config{MaxBytes: 2200, MaxAge: time.Hour}, `
			append a 500 0 ->
			append b 500 0 ->
			append c 500 0 ->
			append d 500 0 ->
			append e 500 0 -> a
			append f 1000 0 -> b c
			reopen ->
			drain -> d e f`},
		{"the newest report is refused", Config{MaxBytes: 1200, MaxAge: time.Hour, DropNewest: true}, `
			append a 500 0 ->
			append b 500 0 ->
			append c 500 0 -> c
			reopen ->
			ack a
			append d 500 0 ->
			drain -> b d`},
		{"whole segments are dropped", cfg, `
			append a 400 0 ->
			append b 400 0 ->
			append c 400 0 ->
			append d 400 0 ->
			append e 15000 0 -> a b
			reopen ->
			drain -> c d e`},
		{"the one on its way to core stays, and the rest of its segment goes", cfg, `
			append a 400 0 ->
			append b 400 0 ->
			append c 400 0 ->
			append d 400 0 ->
			next -> a
			append e 15800 0 -> b c d
			next -> a
			kept -> 2
			reopen ->
			drain -> a e
			reopen ->
			kept -> 0`},
		{"the one that stayed is acknowledged", cfg, `
			append a 400 0 ->
			append b 400 0 ->
			next -> a
			append d 15950 0 -> d
			append e 15800 0 -> b
			ack a
			reopen ->
			append f 10 0 ->
			drain -> e f`},
		{"a report larger than everything", cfg, `
			append a 100 0 ->
			append b 17000 0 -> b
			drain -> a`},
		{"age", cfg, `
			append a 10 0 ->
			append b 10 1 ->
			append c 10 60 ->
			append d 10 61 -> old:a
			reopen ->
			append e 10 122 -> old:b old:c old:d
			reopen ->
			drain -> e`},
		{"age, the newest refused all the same", newest, `
			append a 100 0 ->
			append b 16300 30 -> b
			append c 16300 61 -> old:a
			drain -> c`},
		{"the one on its way to core stays at any age", cfg, `
			append a 10 0 ->
			append b 10 0 ->
			next -> a
			append c 10 90 -> old:b
			reopen ->
			drain -> a c`},
		{"smaller bounds hold from the next report on", cfg, `
			append a 400 0 ->
			append b 400 0 ->
			append c 400 0 ->
			append d 400 0 ->
			append e 400 0 ->
			bounds 1500 60
			kept -> 5
			append f 100 0 -> a b
			reopen ->
			append g 100 0 -> c d
			drain -> e f g`},
		{"larger bounds hold at once, and have larger segments", Config{MaxBytes: 1200, MaxAge: time.Hour}, `
			append a 500 0 ->
			append b 500 0 ->
			files .seg -> 2
			bounds 32768 60
			append c 500 0 ->
			append d 500 0 ->
			files .seg -> 2
			reopen ->
			drain -> a b c d`},
		{"another age", cfg, `
			append a 10 0 ->
			append b 10 6 ->
			bounds 16384 5
			append c 10 7 -> old:a
			bounds 16384 60
			append d 10 60 ->
			reopen ->
			drain -> b c d`},
		{"too much is kept, and the newest are refused", cfg, `
			append a 500 0 ->
			append b 500 0 ->
			bounds 600 60 newest
			append c 10 0 -> c
			kept -> 2
			ack a
			append d 10 0 ->
			bounds 600 60
			append e 500 0 -> b
			reopen ->
			drain -> d e`},
		{"too much is kept, and most of it is on its way to core", cfg, `
			append a 5000 0 ->
			append b 400 0 ->
			append c 400 0 ->
			next -> a
			bounds 3000 60
			append d 10 0 -> b c d
			next -> a
			kept -> 1
			ack a
			append e 10 0 ->
			reopen ->
			drain -> e`},
		{"too much is kept, for a report that there is no room for at all", cfg, `
			append a 400 0 ->
			append b 400 0 ->
			append c 400 0 ->
			bounds 1000 60
			append d 1001 0 -> a b d
			drain -> c`},
		{"smaller bounds for what was set aside", Config{MaxBytes: 100 << 10, MaxAge: time.Hour}, `
			append a 10 0 ->
			next -> a
			aside a/1 no
			aside a/2 no
			bounds 16384 60
			look -> kept:a aside:a/1(no) aside:a/2(no)
			next -> a
			aside a/3 no
			look -> kept:a aside:a/3(no)`},
		{"state", cfg, `
			append a 10 0 x=1 ->
			append b 10 0 y=1 ->
			append c 10 0 x=2 ->
			state -> x=2 y=1
			reopen ->
			state -> x=2 y=1
			drain -> a b c
			append d 900 0 ->
			drain -> d
			append e 900 0 ->
			files .seg -> 1
			reopen ->
			state -> x=2 y=1`},
		{"state of what is dropped stays", cfg, `
			append a 10 0 x=1 ->
			append b 16300 0 -> a
			reopen ->
			state -> x=1`},
		{"state of what is refused does not count", newest, `
			append a 10 0 x=1 ->
			append b 16300 0 x=2 -> b
			reopen ->
			state -> x=1`},
		{"state of what is done stays, over any number of openings", cfg, `
			append a 10 0 x=1 ->
			ack a
			reopen ->
			reopen ->
			state -> x=1
			append b 10 0 ->
			files .seg -> 1
			reopen ->
			state -> x=1`},
		{"what is written again does not take the state back", cfg, `
			append a 10 0 x=1 ->
			append b 10 0 x=2 ->
			reopen ->
			next -> a
			append c 10 90 -> old:b
			reopen ->
			state -> x=2`},
		{"age, when times are not in order", cfg, `
			append a 10 0 ->
			append b 10 5 ->
			append c 10 0 ->
			append d 10 62 -> old:a
			reopen ->
			append e 10 66 -> old:b old:c
			drain -> d e`},
		{"set aside, and again", Config{MaxBytes: 128 << 10, MaxAge: time.Hour}, `
			append a 10 0 ->
			append b 10 0 ->
			append c 10 0 ->
			next -> a
			aside a no
			ack a
			next -> b
			aside b/2 never
			ack b
			reopen ->
			look -> kept:c aside:a(no) aside:b/2(never)
			retry b/2 ->
			retry a ->
			retry c -> nothing with the id c was set aside
			next -> a
			reopen ->
			look -> again:a(no) again:b/2(never) kept:c
			kept -> 3
			drain -> a b/2 c
			reopen ->
			kept -> 0
			files .retry -> 0`},
		{"set aside twice, for a crash came before the acknowledgement", cfg, `
			append a 10 0 ->
			next -> a
			aside a no
			reopen ->
			next -> a
			aside a still
			ack a
			look -> aside:a(still)`},
		{"dropped by hand", cfg, `
			append a 10 0 ->
			append b 10 0 ->
			append c 10 0 ->
			append d 400 0 ->
			append e 400 0 ->
			append f 400 0 ->
			next -> a
			aside a no
			reopen ->
			drop b ->
			drop a ->
			drop e ->
			drop e -> there is no report with the id e, and nothing was set aside under it
			reopen ->
			look -> kept:a kept:c kept:d kept:f
			drop f ->
			drop a ->
			reopen ->
			append g 10 0 ->
			drain -> c d g`},
		{"all dropped by hand", cfg, `
			append a 400 0 ->
			append b 400 0 ->
			append c 400 0 ->
			next -> a
			aside a no
			dropall -> 3
			reopen ->
			kept -> 0
			files .seg -> 0
			append d 10 0 ->
			look -> kept:d aside:a(no)`},
		{"what was set aside is bounded by the space that its files take", Config{MaxBytes: 100 << 10, MaxAge: time.Hour}, `
			append a 10 0 ->
			next -> a
			aside a/1 no
			aside a/2 no
			aside a/3 no
			look -> kept:a aside:a/2(no) aside:a/3(no)`},
		{"what was set aside is bounded", Config{MaxBytes: 10000, MaxAge: time.Hour}, `
			append a 600 0 ->
			append b 600 0 ->
			next -> a
			aside a no
			ack a
			next -> b
			aside b no
			ack b
			files .aside -> 1
			look -> aside:b(no)`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := openDisk(t, tt.cfg)
			d.run(tt.script)
		})
	}
}

// run does the steps of a script.
func (d *disk) run(script string) {
	d.t.Helper()
	for line := range strings.SplitSeq(strings.TrimSpace(script), "\n") {
		command, want, _ := strings.Cut(strings.TrimSpace(line), "->")
		if got := d.step(strings.Fields(command)); got != strings.TrimSpace(want) {
			d.t.Errorf("%s -> %s, want %s", command, got, strings.TrimSpace(want))
		}
		d.wantHolding()
	}
}

// wantHolding asserts that Holding tells what is kept now.
func (d *disk) wantHolding() {
	d.t.Helper()
	reports, bytes := d.Kept()
	if got := d.Holding(); got.Reports != reports || got.Bytes != bytes || got.Oldest.IsZero() != (reports == 0) {
		d.t.Errorf("Holding: %+v, want %d reports of %d bytes", got, reports, bytes)
	}
}

func (d *disk) step(command []string) string {
	d.t.Helper()
	switch command[0] {
	case "append":
		return d.stepAppend(command)
	case "next":
		id, _, ok, err := d.Next()
		if err != nil {
			d.t.Errorf("Next: %v", err)
		}
		if !ok {
			return "none"
		}
		return id
	case "ack":
		d.Ack(command[1])
	case "drain":
		return strings.Join(d.drain(), " ")
	case "bounds":
		cfg := bounds(d.t, command)
		d.SetBounds(cfg)
		cfg.Tell = d.cfg.Tell
		d.cfg = cfg
	case "kept":
		n, _ := d.Kept()
		return fmt.Sprint(n)
	case "reopen":
		d.events = nil
		d.reopen()
		return d.told()
	case "state":
		return pairs(d.State())
	case "aside":
		if err := d.SetAside(command[1], body(command[1], 600), command[2]); err != nil {
			return err.Error()
		}
	case "retry":
		return text(d.Retry(command[1]))
	case "drop":
		return text(d.Drop(command[1]))
	case "dropall":
		n, err := d.DropKept()
		return fmt.Sprint(n) + text(err)
	case "look":
		return d.look()
	case "files":
		return fmt.Sprint(len(d.list(command[1])))
	default:
		d.t.Fatalf("no such step: %v", command)
	}
	return ""
}

// bounds are those of a step.
func bounds(t *testing.T, command []string) Config {
	t.Helper()
	cfg := Config{DropNewest: slices.Contains(command, "newest")}
	var minutes int
	if _, err := fmt.Sscan(command[1]+" "+command[2], &cfg.MaxBytes, &minutes); err != nil {
		t.Fatal(err)
	}
	cfg.MaxAge = time.Duration(minutes) * time.Minute
	return cfg
}

func (d *disk) stepAppend(command []string) string {
	d.t.Helper()
	var size, minute int
	if _, err := fmt.Sscan(command[2]+" "+command[3], &size, &minute); err != nil {
		d.t.Fatal(err)
	}
	state := make(map[string]string)
	for _, pair := range command[4:] {
		key, value, _ := strings.Cut(pair, "=")
		state[key] = value
	}
	tooOld, noRoom, err := d.Append(command[1], start.Add(time.Duration(minute)*time.Minute), body(command[1], size), state)
	if err != nil {
		d.t.Errorf("%v: %v", command, err)
	}
	for i, id := range tooOld {
		tooOld[i] = "old:" + id
	}
	return strings.Join(append(tooOld, noRoom...), " ")
}

// look closes the Disk for as long as that takes.
func (d *disk) look() string {
	d.t.Helper()
	if err := d.Close(); err != nil {
		d.t.Error(err)
	}
	var entries []string
	err := Look(d.dir, func(e Entry) error {
		s := string(e.Kind) + ":" + e.ID
		if e.Reason != "" {
			s += "(" + e.Reason + ")"
		}
		entries = append(entries, s)
		return nil
	})
	if err != nil {
		d.t.Error(err)
	}
	d.reopen()
	return strings.Join(entries, " ")
}

func (d *disk) list(suffix string) (names []string) {
	d.t.Helper()
	d.files.(*directory).discarding.Wait()
	names, err := filepath.Glob(filepath.Join(d.dir, "*"+suffix))
	if err != nil {
		d.t.Fatal(err)
	}
	return names
}

// told is what was told, in short.
func (d *disk) told() string {
	var told []string
	for _, e := range d.events {
		told = append(told, fmt.Sprintf("%T", e)[len("spool."):])
	}
	return strings.Join(told, " ")
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func pairs(m map[string]string) string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		all = append(all, key+"="+m[key])
	}
	return strings.Join(all, " ")
}
