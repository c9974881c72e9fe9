package probe

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/shirou/gopsutil/v4/disk"
)

func lookAtMachine(t *testing.T, details string) (Result, sysmonMessage) {
	t.Helper()
	r, err := Sysmon(t.Context(), Target{Details: details})
	if err != nil {
		t.Fatalf("%s: %v", details, err)
	}
	var m sysmonMessage
	if err := json.Unmarshal(r.Message, &m); err != nil {
		t.Fatal(err)
	}
	return r, m
}

func percentage(p float64) bool { return p >= 0 && p <= 100 }

func TestSysmon(t *testing.T) {
	t.Parallel()
	r, m := lookAtMachine(t, "")
	s := m.Status
	if !r.Available || !m.Available || m.Error != "" || m.ResponseTime < cpuWindow.Nanoseconds() || m.ResponseTime != r.ResponseTime.Nanoseconds() {
		t.Errorf("%s", r.Message)
	}
	if len(s.CPUs) < runtime.NumCPU() { // a process may be bound to some of them
		t.Errorf("%d CPUs; there are %d", len(s.CPUs), runtime.NumCPU())
	}
	for i, core := range s.CPUs {
		if core.CoreID != i || !percentage(core.UsagePercent) {
			t.Errorf("CPU %d: %+v", i, core)
		}
	}
	if s.Memory.TotalBytes < 1<<26 || s.Memory.UsedBytes == 0 || s.Memory.UsedBytes > s.Memory.TotalBytes || !percentage(s.Memory.UsagePercent) {
		t.Errorf("memory: %+v", s.Memory)
	}
	if len(s.Disks) == 0 {
		t.Error("no disks")
	}
	for _, d := range s.Disks {
		if d.MountPoint == "" || d.FSType == "" || d.TotalBytes == 0 || d.UsedBytes > d.TotalBytes || !percentage(d.UsagePercent) {
			t.Errorf("disk: %+v", d)
		}
	}
	if name, _ := os.Hostname(); s.HostID != name {
		t.Errorf("host %q; want %q", s.HostID, name)
	}
	if s.HostIP != "" && net.ParseIP(s.HostIP) == nil {
		t.Errorf("address %q", s.HostIP)
	}
	if at, err := time.Parse(time.RFC3339Nano, s.Timestamp); err != nil || time.Since(at) > time.Minute {
		t.Errorf("timestamp %q: %v", s.Timestamp, err)
	}
	if s.Uptime == 0 || s.Load.Load1 < 0 || s.Load.Load15 < 0 {
		t.Errorf("uptime %d, load %+v", s.Uptime, s.Load)
	}
}

// A core that does nothing but this is busy.
func TestSysmonCPU(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	defer func() { cancel(); <-ended }()
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
		}
	}()
	_, m := lookAtMachine(t, "")
	var busiest float64
	for _, core := range m.Status.CPUs {
		busiest = max(busiest, core.UsagePercent)
	}
	if busiest == 0 {
		t.Errorf("nobody works: %+v", m.Status.CPUs)
	}
}

func TestSysmonLimits(t *testing.T) {
	t.Parallel()
	if r, m := lookAtMachine(t, `{"max_cpu": 100, "max_memory": 100, "max_disk": 100}`); !r.Available || m.Error != "" {
		t.Errorf("%s", r.Message)
	}
	r, m := lookAtMachine(t, `{"max_memory": 0}`)
	if r.Available || m.Available || !strings.HasPrefix(m.Error, "the memory is used to ") ||
		!strings.HasSuffix(m.Error, "%, more than max_memory, 0") {
		t.Errorf("%s", r.Message)
	}
}

func TestSysmonJudge(t *testing.T) {
	t.Parallel()
	s := sysmonStatus{
		CPUs: []cpuUse{{0, 100}, {1, 60}}, Memory: memoryUse{UsagePercent: 70},
		Disks: []diskUse{{MountPoint: "/", UsagePercent: 90.04}, {MountPoint: "/var", UsagePercent: 95}},
	}
	for details, want := range map[string]string{
		`{"max_cpu": 80, "max_memory": 70, "max_disk": 95}`: "",
		`{"max_cpu": 79.5}`: "the CPUs are used to 80.0 %, more than max_cpu, 79.5",
		`{"max_memory": 69, "max_disk": 94}`: "the memory is used to 70.0 %, more than max_memory, 69; " +
			"the disk at /var is used to 95.0 %, more than max_disk, 94",
		`{"max_disk": 90}`: "the disk at / is used to 90.0 %, more than max_disk, 90; " +
			"the disk at /var is used to 95.0 %, more than max_disk, 90",
	} {
		o, err := parseSysmon(details)
		if got := o.judge(s); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", details, got, err, want)
		}
	}
}

func TestSysmonDisks(t *testing.T) {
	t.Parallel()
	_, m := lookAtMachine(t, `{"disks": ["/", "//"]}`)
	disks := m.Status.Disks
	if len(disks) != 2 || disks[0].MountPoint != "/" || disks[0].TotalBytes == 0 || disks[1].TotalBytes != disks[0].TotalBytes {
		t.Errorf("%+v", disks)
	}
	for details, want := range map[string]string{
		`{"disks": ["/no/such/directory"]}`: "disks: nothing is mounted at /no/such/directory: write a mount point",
		`{"disks": ["/proc"]}`:              "disks: /proc is of type proc, which may be on another machine",
	} {
		r, err := Sysmon(t.Context(), Target{Details: details})
		wantDown(t, r, err, "this machine can't be looked at: "+want)
	}
}

// Each device is looked at once, where it can be; what is in memory, frozen or elsewhere is no disk of this machine.
func TestOwnDisks(t *testing.T) {
	t.Parallel()
	var mounted []disk.PartitionStat
	for _, line := range []string{
		"/dev/sda1 /etc/hosts ext4", "/dev/sda1 /var/lib/docker/overlay2 ext4", "/dev/sda1 /data ext4", "overlay / overlay", "tmpfs /tmp tmpfs",
		"overlay /mnt/merged overlay", "nas:/vol /mnt/nas nfs4", "sshfs /mnt/ssh fuse.sshfs", "proc /proc proc", "/dev/loop0 /snap/core squashfs",
		"/dev/sdb1 /root/private xfs", "pool/a /pool/a zfs", "pool/b /pool/b zfs", "/dev/sdc1 /gone vfat",
	} {
		fields := strings.Fields(line)
		mounted = append(mounted, disk.PartitionStat{Device: fields[0], Mountpoint: fields[1], Fstype: fields[2]})
	}
	failures := map[string]error{"/data": errNoDirectory, "/root/private": os.ErrPermission, "/gone": os.ErrNotExist}
	look := func(p disk.PartitionStat) (diskUse, error) {
		return diskUse{MountPoint: p.Mountpoint}, failures[p.Mountpoint]
	}
	found, err := ownDisks(mounted, look)
	var got []string
	for _, d := range found {
		got = append(got, d.MountPoint)
	}
	if want := "/ /pool/a /pool/b /etc/hosts"; err != nil || strings.Join(got, " ") != want {
		t.Errorf("%v, %v; want %s", got, err, want)
	}
	failures["/pool/b"] = errors.New("it is broken")
	if _, err := ownDisks(mounted, look); err == nil {
		t.Error("that a disk is broken is not told")
	}
	for i := range 2 * maxDisks {
		mounted = append(mounted, disk.PartitionStat{Device: strconv.Itoa(i), Mountpoint: "/" + strconv.Itoa(i), Fstype: "ext4"})
	}
	failures["/pool/b"] = nil
	if found, err := ownDisks(mounted, look); err != nil || len(found) != 4+2*maxDisks {
		t.Errorf("%d of many disks, %v; want all", len(found), err)
	}
}

// All disks are judged, and told as far as that has an end.
func TestSysmonManyDisks(t *testing.T) {
	t.Parallel()
	limit := 90.0
	o := sysmonOptions{MaxDisk: &limit}
	found := sysmonStatus{Disks: make([]diskUse, maxDisks+3)}
	found.Disks[maxDisks+2] = diskUse{MountPoint: "/last", UsagePercent: 91}
	m := o.message(found, time.Second)
	if want := "the disk at /last is used to 91.0 %, more than max_disk, 90"; m.Available || m.Error != want {
		t.Errorf("%v, %q; want %q", m.Available, m.Error, want)
	}
	if len(m.Status.Disks) != maxDisks || m.Status.DisksLeftOut != 3 {
		t.Errorf("%d disks are told, and %d said to be left out", len(m.Status.Disks), m.Status.DisksLeftOut)
	}
	found.Disks = found.Disks[3:]
	if m := o.message(found, time.Second); m.Available || len(m.Status.Disks) != maxDisks || m.Status.DisksLeftOut != 0 {
		t.Errorf("%d disks are told, and %d said to be left out", len(m.Status.Disks), m.Status.DisksLeftOut)
	}
	for i := range found.Disks {
		found.Disks[i] = diskUse{MountPoint: strings.Repeat("/long", 100), UsagePercent: 100}
	}
	if m := o.message(found, time.Second); !strings.HasSuffix(m.Error, "more than max_disk, 90; and 54 more") || strings.Count(m.Error, ";") != maxPassed {
		t.Errorf("%q is told", m.Error)
	}
}

func TestSysmonContext(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for there, want := range map[time.Duration]time.Duration{
		time.Minute: cpuWindow, 100 * time.Millisecond: 50 * time.Millisecond, -1: time.Millisecond,
	} {
		ctx, cancel := context.WithDeadline(t.Context(), now.Add(there))
		if got := windowWithin(ctx, now); got != want {
			t.Errorf("within %v the CPUs are looked at for %v; want %v", there, got, want)
		}
		cancel()
	}
	canceled, cancel := context.WithCancel(t.Context())
	defer time.AfterFunc(20*time.Millisecond, cancel).Stop()
	if r, err := Sysmon(canceled, Target{}); !errors.Is(err, context.Canceled) {
		t.Errorf("taken back: %s, %v; want an error", r.Message, err)
	}
	late, cancelLate := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancelLate()
	r, err := Sysmon(late, Target{})
	wantDown(t, r, err, "this machine can't be looked at: CPUs: context deadline exceeded")
}

func TestParseSysmon(t *testing.T) {
	t.Parallel()
	for details, want := range map[string]string{
		"localhost":           "leave the target out",
		`{"max_cpu": 101}`:    "max_cpu is 101: use a percentage from 0 to 100",
		`{"max_memory": -1}`:  "max_memory is -1",
		`{"max_disk": "90%"}`: "max_disk is a string: write a number",
		`{"disks": ["var"]}`:  `disks: "var" is no mount point: write an absolute path`,
		`{"disks": "/"}`:      "disks is a string: write a list",
		`{"max_swap": 5}`:     `unknown field "max_swap"`,
		`{"disks": [` + strings.Repeat(`"/",`, maxDisks) + `"/"]}`: "disks has 65 mount points: use at most 64",
	} {
		if r, err := Sysmon(t.Context(), Target{Details: details}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %s, %v; want %s", details, r.Message, err, want)
		}
	}
}

func FuzzParseSysmon(f *testing.F) {
	for _, seed := range []string{"", "x", "{}", `{"max_cpu":90.5,"max_memory":1e2,"max_disk":0,"disks":["/","/var/"]}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, details string) {
		o, err := parseSysmon(details)
		if err != nil {
			return
		}
		for _, limit := range []*float64{o.MaxCPU, o.MaxMemory, o.MaxDisk} {
			if limit != nil && !percentage(*limit) {
				t.Errorf("%q: a limit of %v", details, *limit)
			}
		}
		for _, d := range o.Disks {
			if !strings.HasPrefix(d, "/") || len(d) > 1 && strings.HasSuffix(d, "/") {
				t.Errorf("%q: mount point %q", details, d)
			}
		}
	})
}
