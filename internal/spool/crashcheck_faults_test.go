package spool

import (
	"errors"
	"slices"
	"syscall"
	"testing"
)

func TestRoom(t *testing.T) {
	t.Parallel()
	c := newCrashFiles()
	c.limit(4*diskSector, false)
	a, b := must(c.create("a"))(t), must(c.create("b"))(t)
	writeAt(t, a, 0, "aaa")
	full := func(n, want int, err error) {
		t.Helper()
		if n != want || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%d bytes written, want %d; %v", n, want, err)
		}
	}
	n, err := b.WriteAt(sectors("bb"), 10)
	full(n, diskSector-10, err)
	if used := c.usedBytes(); used != 4*diskSector {
		t.Errorf("%d bytes used", used)
	}
	writeAt(t, a, 0, "AAA") // in place
	c.limit(4*diskSector, true)
	n, err = a.WriteAt([]byte("x"), 0)
	full(n, 0, err)
	noErrors(t, a.Truncate(diskSector))
	writeAt(t, a, 0, "A")
	writeAt(t, b, 0, "bb")
	noErrors(t, a.Truncate(9*diskSector)) // a hole
	n, err = a.WriteAt(sectors("xy"), 7*diskSector)
	full(n, diskSector, err)

	noErrors(t, c.remove("b"))
	n, err = a.WriteAt([]byte("x"), 8*diskSector)
	full(n, 0, err) // b is open
	noErrors(t, b.Close())
	writeAt(t, a, 8, "x")
	if again := c.kill(); again.usedBytes() != 3*diskSector || again.room != 4 {
		t.Errorf("%d bytes used after a kill, of %d sectors", again.usedBytes(), again.room)
	}
	next := c.restart(allNew)
	if got := contents(next); got != "a=A000000xx" {
		t.Errorf("left is %q", got)
	}
	next.limit(-1, false)
	noErrors(t, next.remove("a"))
	if used := next.usedBytes(); used != 0 {
		t.Errorf("%d bytes used by nothing", used)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	c := newCrashFiles()
	c.put("a.x", "hello")
	a := must(c.open("a.x"))(t)
	all := func() (failed string) {
		_, write := a.WriteAt([]byte("HELLO"), 0)
		_, create := c.create("b.y")
		_, list := c.list()
		_, read := c.read("a.x")
		_, open := c.open("a.x")
		for _, o := range []struct {
			name string
			err  error
		}{
			{"write", write},
			{"create", create},
			{"list", list},
			{"read", read},
			{"open", open},
			{"truncate", a.Truncate(5)},
			{"sync", a.Sync()},
			{"rename", c.rename("b.y", "c")},
			{"directory", c.sync()},
			{"remove", c.remove("c")},
		} {
			if errors.Is(o.err, syscall.EIO) {
				failed += o.name + " "
			}
		}
		_, _ = c.remove("b.y"), c.remove("c") // for the next time, if they are there
		return failed
	}
	for _, tt := range []struct {
		fault fault
		want  string
	}{
		{fault{}, "write create list read open truncate sync directory "},
		{fault{ops: opRename | opRead}, "read rename "},
		{fault{ops: opRemove}, "remove "},
		{fault{name: "*.y"}, "create "},
		{fault{name: "*.y", from: 3}, "rename "},
		{fault{name: "c"}, "rename "},
		{fault{name: "."}, "list directory "},
		{fault{times: 2}, "write create "},
		{fault{from: 1, to: 3}, "write create list read open truncate "},
		{fault{from: 3, to: 4}, "list read open truncate sync "},
		{fault{err: syscall.ENOSPC}, ""},
		{fault{ops: opCreate, from: 1 << 40}, ""},
	} {
		c.trace = nil
		c.fail(tt.fault)
		if got := all(); got != tt.want {
			t.Errorf("%+v fails %q", tt.fault, got)
		}
		c.mend()
	}
	if got := all(); got != "" {
		t.Errorf("without faults %q fail", got)
	}
	c.fail(fault{ops: opWrite, done: 2})
	if n, err := a.WriteAt([]byte("12345"), 0); n != 2 || err == nil || contents(c) != "a.x=12LLO" {
		t.Errorf("%d bytes written (%v): %q", n, err, contents(c))
	}
}

func TestDamage(t *testing.T) {
	t.Parallel()
	c := newCrashFiles()
	_ = must(c.create("a"))(t) // what a put replaces is nowhere
	c.put("a", "hello")
	if states := anyOf(c); !slices.Equal(states, []string{"a=hello"}) {
		t.Errorf("left are %q", states)
	}
	c = c.kill()
	c.flip("a", 0, 'h'^'H')
	c.cut("a", 4)
	if got := contents(c); got != "a=Hell" {
		t.Errorf("the file has %q", got)
	}
	for _, after := range []*crashFiles{c.kill(), c.restart(allOld)} {
		if got := contents(after); got != "a=Hell" {
			t.Errorf("left is %q", got)
		}
	}
}
