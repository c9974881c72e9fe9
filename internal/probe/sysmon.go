package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/shirou/gopsutil/v4/common"
	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/host"
	"github.com/shirou/gopsutil/v4/load"
	"github.com/shirou/gopsutil/v4/mem"
)

const (
	// cpuWindow is the time over which the use of the CPUs is measured.
	cpuWindow = 200 * time.Millisecond
	// maxDisks bounds how many disks are told, and how many can be named; maxPassed how many limits that are passed.
	maxDisks, maxPassed = 64, 10
)

type sysmonOptions struct {
	Target string `json:"target"`
	// The limits are in percent; nil is none.
	MaxCPU    *float64 `json:"max_cpu"`
	MaxMemory *float64 `json:"max_memory"`
	MaxDisk   *float64 `json:"max_disk"`
	// Disks are mount points; empty is all real file systems.
	Disks []string `json:"disks"`
}

type sysmonMessage struct {
	Available    bool         `json:"available"`
	ResponseTime int64        `json:"response_time"` // ns
	Status       sysmonStatus `json:"status"`
	Error        string       `json:"error,omitempty"`
}

type sysmonStatus struct {
	HostID    string    `json:"host_id"` // its name
	HostIP    string    `json:"host_ip,omitempty"`
	Timestamp string    `json:"timestamp"` // RFC 3339
	CPUs      []cpuUse  `json:"cpus"`
	Memory    memoryUse `json:"memory"`
	Disks     []diskUse `json:"disks"` // at most 64
	// DisksLeftOut is how many more were looked at, and judged.
	DisksLeftOut int          `json:"disks_left_out,omitempty"`
	Load         loadAverages `json:"load"`
	Uptime       uint64       `json:"uptime"` // s
}

type cpuUse struct {
	CoreID       int     `json:"core_id"`
	UsagePercent float64 `json:"usage_percent"`
}

type memoryUse struct {
	UsedBytes    uint64  `json:"used_bytes"`
	TotalBytes   uint64  `json:"total_bytes"`
	UsagePercent float64 `json:"usage_percent"`
}

type diskUse struct {
	MountPoint   string  `json:"mount_point"`
	FSType       string  `json:"fs_type"`
	UsedBytes    uint64  `json:"used_bytes"`
	TotalBytes   uint64  `json:"total_bytes"`
	UsagePercent float64 `json:"usage_percent"` // of what users may have
}

type loadAverages struct {
	Load1  float64 `json:"load1"`
	Load5  float64 `json:"load5"`
	Load15 float64 `json:"load15"`
}

type sysmonFailure struct {
	Error     string `json:"error"`
	Available bool   `json:"available"`
}

func parseSysmon(details string) (sysmonOptions, error) {
	var o sysmonOptions
	if err := parse(details, &o.Target, &o); err != nil {
		return o, err
	}
	if o.Target != "" {
		return o, fmt.Errorf("target %q: sysmon looks at the machine that the checker runs on: leave the target out", o.Target)
	}
	for i, limit := range []*float64{o.MaxCPU, o.MaxMemory, o.MaxDisk} {
		if limit != nil && (*limit < 0 || *limit > 100) {
			return o, fmt.Errorf("%s is %v: use a percentage from 0 to 100", []string{"max_cpu", "max_memory", "max_disk"}[i], *limit)
		}
	}
	if len(o.Disks) > maxDisks {
		return o, fmt.Errorf("disks has %d mount points: use at most %d", len(o.Disks), maxDisks)
	}
	for i, mountPoint := range o.Disks {
		if !filepath.IsAbs(mountPoint) {
			return o, fmt.Errorf("disks: %q is no mount point: write an absolute path such as /var", mountPoint)
		}
		o.Disks[i] = filepath.Clean(mountPoint)
	}
	return o, nil
}

// Sysmon looks at the machine that it runs on: CPUs, memory, disks, load. Available is what is within the limits of
// the options; without them, what can be looked at. Network file systems are left alone, because one whose server is
// away holds up whoever looks at it, for as long as that lasts.
func Sysmon(ctx context.Context, target Target) (Result, error) {
	o, err := parseSysmon(target.Details)
	if err != nil {
		return Result{}, err
	}
	began := time.Now()
	found, err := o.look(ctx, began)
	took := time.Since(began)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return Result{}, fmt.Errorf("look at this machine: %w", ctx.Err())
	case err != nil:
		return result(false, took, sysmonFailure{Error: fmt.Sprintf("this machine can't be looked at: %v", err)})
	}
	m := o.message(found, took)
	return result(m.Available, took, m)
}

// message judges all that was found, and tells as much of it as has room.
func (o sysmonOptions) message(found sysmonStatus, took time.Duration) sysmonMessage {
	m := sysmonMessage{ResponseTime: took.Nanoseconds(), Status: found, Error: o.judge(found)}
	m.Available = m.Error == ""
	m.Status.Disks = found.Disks[:min(len(found.Disks), maxDisks)]
	m.Status.DisksLeftOut = len(found.Disks) - len(m.Status.Disks)
	return m
}

func (o sysmonOptions) look(ctx context.Context, now time.Time) (sysmonStatus, error) {
	s := sysmonStatus{HostIP: outwardIP(ctx), Timestamp: now.UTC().Format(time.RFC3339Nano)}
	s.HostID, _ = os.Hostname()
	cores, err := cpu.PercentWithContext(ctx, windowWithin(ctx, now), true)
	if err != nil {
		return s, fmt.Errorf("CPUs: %w", err)
	}
	for i, percent := range cores {
		s.CPUs = append(s.CPUs, cpuUse{i, percent})
	}
	memory, err := mem.VirtualMemoryWithContext(ctx)
	if err != nil {
		return s, fmt.Errorf("memory: %w", err)
	}
	s.Memory = memoryUse{memory.Used, memory.Total, memory.UsedPercent}
	if s.Disks, err = o.disks(ctx); err != nil {
		return s, fmt.Errorf("disks: %w", err)
	}
	averages, err := load.AvgWithContext(ctx)
	if err != nil {
		return s, fmt.Errorf("load: %w", err)
	}
	s.Load = loadAverages{averages.Load1, averages.Load5, averages.Load15}
	if s.Uptime, err = host.UptimeWithContext(ctx); err != nil {
		return s, fmt.Errorf("uptime: %w", err)
	}
	return s, nil
}

// windowWithin is cpuWindow, or half of the time that there is.
func windowWithin(ctx context.Context, now time.Time) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return cpuWindow
	}
	return min(cpuWindow, max(deadline.Sub(now)/2, time.Millisecond))
}

// outwardIP is the address from which this machine reaches others; empty if it reaches nobody. Nothing is sent: that a
// UDP socket has a peer only makes the kernel look for the way, here to addresses that are for documentation.
func outwardIP(ctx context.Context) string {
	for _, peer := range []string{"192.0.2.1:9", "[2001:db8::1]:9"} {
		conn, err := new(net.Dialer).DialContext(ctx, "udp", peer)
		if err != nil {
			continue
		}
		ip := conn.LocalAddr().(*net.UDPAddr).IP
		_ = conn.Close() // nothing was written
		return ip.String()
	}
	return ""
}

// localFS are the types of file systems of which it is certain that they are of this machine. Others may be of a server
// that is away.
var localFS = []string{
	"apfs", "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "fat32", "hfs", "hfsplus", "jfs", "msdos", "nilfs2", "ntfs", "ntfs3",
	"overlay", "ramfs", "refs", "reiserfs", "tmpfs", "udf", "ufs", "vfat", "xfs", "zfs",
}

// borrowed are those of them that are not of a disk of their own.
var borrowed = []string{"overlay", "ramfs", "tmpfs"}

// disks looks at those of the options, else at all of this machine.
func (o sysmonOptions) disks(ctx context.Context) ([]diskUse, error) {
	// What is mounted for this process, not for that with the number 1.
	ctx = context.WithValue(ctx, common.EnvKey, common.EnvMap{common.HostProcMountinfo: "/proc/self/mountinfo"})
	mounted, err := disk.PartitionsWithContext(ctx, true)
	if err != nil {
		return nil, err
	}
	look := func(p disk.PartitionStat) (diskUse, error) { return diskAt(ctx, p) }
	if len(o.Disks) > 0 {
		return namedDisks(o.Disks, mounted, look)
	}
	return ownDisks(mounted, look)
}

// ownDisks looks at each device once, at the shortest path where it can be.
func ownDisks(mounted []disk.PartitionStat, look func(disk.PartitionStat) (diskUse, error)) ([]diskUse, error) {
	mounted = slices.Clone(mounted)
	slices.SortStableFunc(mounted, func(a, b disk.PartitionStat) int { return cmp.Compare(len(a.Mountpoint), len(b.Mountpoint)) })
	var found []diskUse
	seen := map[string]bool{}
	for _, p := range mounted {
		ownDisk := isLocal(p) && (p.Mountpoint == "/" || !slices.Contains(borrowed, p.Fstype))
		if !ownDisk || seen[p.Device] {
			continue
		}
		use, err := look(p)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) || errors.Is(err, errNoDirectory) {
			continue // hidden under another mount, not for the checker, or a single file
		}
		if err != nil {
			return nil, err
		}
		seen[p.Device] = true
		found = append(found, use)
	}
	return found, nil
}

func isLocal(p disk.PartitionStat) bool { return slices.Contains(localFS, strings.ToLower(p.Fstype)) }

// namedDisks looks at mount points, in their order.
func namedDisks(mountPoints []string, mounted []disk.PartitionStat, look func(disk.PartitionStat) (diskUse, error)) ([]diskUse, error) {
	var found []diskUse
	for _, mountPoint := range mountPoints {
		var there *disk.PartitionStat
		for i, p := range mounted {
			if p.Mountpoint == mountPoint {
				there = &mounted[i] // of several the last is the one that is seen
			}
		}
		if there == nil {
			return nil, fmt.Errorf("nothing is mounted at %s: write a mount point, as df shows them", mountPoint)
		}
		if !isLocal(*there) {
			return nil, fmt.Errorf("%s is of type %s, which may be on another machine and hold up the checker: look at it there",
				mountPoint, there.Fstype)
		}
		use, err := look(*there)
		if err != nil {
			return nil, err
		}
		found = append(found, use)
	}
	return found, nil
}

var errNoDirectory = errors.New("it is not a directory")

func diskAt(ctx context.Context, p disk.PartitionStat) (diskUse, error) {
	if info, err := os.Stat(p.Mountpoint); err != nil {
		return diskUse{}, err
	} else if !info.IsDir() {
		return diskUse{}, fmt.Errorf("%s: %w", p.Mountpoint, errNoDirectory)
	}
	use, err := disk.UsageWithContext(ctx, p.Mountpoint)
	if err != nil {
		return diskUse{}, fmt.Errorf("%s: %w", p.Mountpoint, err)
	}
	return diskUse{p.Mountpoint, p.Fstype, use.Used, use.Total, use.UsedPercent}, nil
}

// judge says which limits are passed; empty is none.
func (o sysmonOptions) judge(s sysmonStatus) string {
	var passed []string
	judge := func(what, name string, percent float64, limit *float64) {
		if limit != nil && percent > *limit {
			passed = append(passed, fmt.Sprintf("%s used to %.1f %%, more than %s, %v", what, percent, name, *limit))
		}
	}
	var sum float64
	for _, core := range s.CPUs {
		sum += core.UsagePercent
	}
	judge("the CPUs are", "max_cpu", sum/float64(max(len(s.CPUs), 1)), o.MaxCPU)
	judge("the memory is", "max_memory", s.Memory.UsagePercent, o.MaxMemory)
	for _, d := range s.Disks {
		judge("the disk at "+d.MountPoint+" is", "max_disk", d.UsagePercent, o.MaxDisk)
	}
	if more := len(passed) - maxPassed; more > 0 {
		passed = append(passed[:maxPassed], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(passed, "; ")
}
