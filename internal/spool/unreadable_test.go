package spool

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestUnreadableWhenOld: what can't be read just then is not dropped before all of it is too old.
func TestUnreadableWhenOld(t *testing.T) {
	t.Parallel()
	m := newPromise(t, Config{MaxBytes: 64 << 10, MaxAge: 20 * time.Minute})
	m.open()
	for range 10 {
		m.append(200, time.Minute, "")
	}
	m.close()
	m.crashed(nil)
	m.open()
	m.c.fail(fault{ops: opRead})
	dropped := func(minute int) (n int) {
		tooOld, noRoom, err := m.disk.Append(m.fresh().id, start.Add(time.Duration(minute)*time.Minute), nil, nil)
		if noRoom != nil || err != nil {
			t.Error(noRoom, err)
		}
		return len(tooOld)
	}
	if n := dropped(25); n != 0 || m.strange != "" {
		t.Errorf("%d are dropped; %s", n, m.strange)
	}
	m.c.mend()
	if n := dropped(26); n != 5 {
		t.Errorf("%d are dropped, want 5", n)
	}
}

// TestCloseWhenFull: Close says how many are lost by it, and only these are.
func TestCloseWhenFull(t *testing.T) {
	t.Parallel()
	m := newPromise(t, Config{MaxBytes: 64 << 10, MaxAge: time.Hour})
	m.open()
	m.append(200, 0, "")
	m.breaks()
	m.c.limit(m.c.usedBytes(), false)
	m.append(2000, 0, "")
	m.append(2000, 0, "")
	err := m.disk.Close()
	if err == nil || !strings.HasPrefix(err.Error(), "2 reports ") || !strings.Contains(err.Error(), syscall.ENOSPC.Error()) {
		t.Errorf("Close: %v", err)
	}
	m.crashed(nil)
	if got := ids(m.kept); len(got) != 1 || got[0] != "r1" {
		t.Errorf("%q are left", got)
	}
}

// TestAckWhenFull: what is acknowledged on a full disk stays so, even where nothing can be written in place.
func TestAckWhenFull(t *testing.T) {
	t.Parallel()
	m := newPromise(t, Config{MaxBytes: 64 << 10, MaxAge: time.Hour})
	m.open()
	for range 10 {
		m.append(100, 0, "")
	}
	m.breaks()
	m.c.limit(m.c.usedBytes(), true)
	m.append(5000, 0, "")
	m.deliver(8)
	if m.marksFail {
		t.Error("the position could not be saved")
	}
	m.crashed(nil)
	if got := ids(m.kept); len(got) != 2 || got[0] != "r9" {
		t.Errorf("%q are left", got)
	}
}

// TestSetAsideWhenFull: on a full disk there is room in the reserve for what core refuses.
func TestSetAsideWhenFull(t *testing.T) {
	t.Parallel()
	m := newPromise(t, Config{MaxBytes: 16 << 20, MaxAge: time.Hour})
	m.open()
	m.append(100, 0, "")
	m.c.limit(m.c.usedBytes(), false)
	id, body, _, err := m.disk.Next()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.disk.SetAside(id, body, "no"); err != nil {
		t.Error(err)
	}
}
