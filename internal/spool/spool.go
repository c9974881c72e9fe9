// Package spool keeps the reports that the reporter has taken and core has not acknowledged: in
// memory (Memory), or in files (Disk).
//
// What a Disk guarantees:
//
//   - A report that Append has returned for, while Safe returns nil, is on the disk and outlives the process,
//     kill -9 and a loss of power, until it is acknowledged or dropped. If the disk fails, reports are kept in
//     memory, 64 MiB of them, and written as soon as that is possible; Safe says why.
//   - Reports come out in the order in which they went in, each with what it went in with. Nothing else does.
//   - A report that was acknowledged comes out again only after a crash: after one of the process if the
//     position could not be written, after a loss of power if it was not durable yet, which it is with each
//     segment that is left behind. What was dropped does not, for that is made durable at once.
//   - It keeps at most MaxBytes, and nothing older than MaxAge. What is dropped is returned by Append: whole
//     segments of at most 8 MiB, the oldest first; or the new report, if it is to be so, or if the disk fails,
//     memory is full, and there are reports on the disk. The report that is on its way to core never is. On
//     the disk there may be two segments more, and a tenth of MaxBytes for what was set aside. Bounds that
//     become smaller (SetBounds) hold from the next Append on.
//   - What is damaged costs nothing but itself: it is copied to a file of its own with the reason, told, and what
//     is missing is counted. A write that was not finished when the process ended is cut off. A failed fsync is
//     not tried again: what it was for is written again, to another file.
//   - A directory has one process at a time. What a newer version wrote is not touched.
//
// A Disk's directory has segments (*.seg), which are only ever appended to, and removed when all in them is done;
// the marks (read position and counters), which are written in place; what was set aside (*.aside), what is
// damaged (*.damaged), what is to be tried again (*.retry); a reserve of space for when the disk is full; the lock.
package spool

import "time"

// MemoryLimit bounds what is kept in memory, whatever is configured, in bytes.
const MemoryLimit = 64 << 20

// Config bounds a queue.
type Config struct {
	// MaxBytes bounds what is kept: the bodies in a Memory, which keeps at most MemoryLimit, and the records in a Disk.
	MaxBytes int64
	// MaxAge is how long a report is kept for core.
	MaxAge time.Duration
	// DropNewest refuses new reports when there is no room, instead of dropping the oldest.
	DropNewest bool
	// Tell is told what happens to a Disk beside what its methods return. It must not call the Disk. May be nil.
	Tell func(Event)
	// Synced is told how long each fsync of a Disk took, of a file or of the directory, whether it failed or not. It must
	// not call the Disk. May be nil.
	Synced func(took time.Duration)
}
