package spool

import "time"

// Event is something that people want to know of a Disk; its types are below.
type Event any

// Unsafe says: reports are kept in memory only, because the disk fails.
type Unsafe struct{ Err error }

// SafeAgain says: the reports that were kept in memory only are on the disk.
type SafeAgain struct{}

// PositionUnsafe says: what core has already, and what has been dropped, can't be recorded, and would come
// again after a restart. If Err is nil it can again.
type PositionUnsafe struct{ Err error }

// Damaged says: something in the directory can't be read. What of it there was is in File; unless
// there is an Err.
type Damaged struct {
	File   string
	Reason string
	Err    error
}

// Unfinished says: the last file ended with a write that was not finished when the process or the machine
// stopped. Nothing is lost by it.
type Unfinished struct {
	File  string
	Bytes int
}

// Lost says: reports are lost, and why; their ids are not known.
type Lost struct {
	Reports int
	Cause   string
}

// AsideDropped says: what was set aside is dropped because of its age, or for want of room.
type AsideDropped struct {
	ID    string
	Since time.Time
}

func (d *Disk) tell(e Event) {
	if d.cfg.Tell != nil {
		d.cfg.Tell(e)
	}
}
