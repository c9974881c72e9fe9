package actors

import (
	"time"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
	"github.com/serviceradar/poller/internal/wire"
)

// Messages between the actors, and from an actor's own timers and calls back to it. An
// incarnation stamps what an actor sent itself: a restarted actor ignores its predecessor's.

type (
	// tick: the poller's timer → poller. Something may be due.
	tick struct{}
	// runChecks: poller → agent. Run these now; each comes back as settled.
	// Era is that of the lease under which they are made; 0 without a cluster.
	runChecks struct {
		runs []check.Run
		era  uint64
	}
	// settled: agent → poller. A run has its status; one of results may have nothing to report. Unmade says that it was not
	// made, because the lease does not hold any more.
	settled struct {
		status  check.Status
		nothing bool
		unmade  bool
	}
	// agentDown: root → poller. The agent can't answer until agentUp.
	agentDown struct {
		name string
		fall fall
	}
	// agentUp: root → poller. The agent takes runs again.
	agentUp struct{ name string }
	// reporterUp: root → poller. The reporter was started again; what it was sent may be lost.
	reporterUp struct{}
	// reconfigured: root → poller. There are new settings.
	reconfigured struct{}
	// drain: root → poller. Start nothing more; close what is open when all have answered, by
	// then at the latest; then say drained.
	drain struct{ by time.Time }
	// drained: poller → root. Everything is closed and taken.
	drained struct{}
)

type (
	// respec: root → agent. It is configured like this from now on.
	respec struct{ spec *check.Agent }
	// resume: root → agent. Another node has polled it meanwhile, and this is what it knows.
	resume struct{ handOver handOver }
	// renew: root → agent. Its TLS files changed.
	renew struct{}
	// retire: poller → agent, which gets no more runs, because it is not configured any more. Say retired when all are
	// settled.
	retire struct{}
	// retired: agent → root.
	retired struct {
		name        string
		incarnation uint64
	}
	// look: System.Reload → root → watcher. Look for new settings, at once if somebody waits for it.
	look struct{ waits waiter }
	// lookDue: the watcher's timer → watcher.
	lookDue struct{ incarnation uint64 }
	// loaded: the watcher's call → watcher. Not applied and no error mean that nothing changed.
	loaded struct {
		incarnation uint64
		applied     bool // root has the settings, and tells who waits
		err         error
	}
	// reconfigure: the watcher's call → root.
	reconfigure struct {
		settings *Settings
		waiters  []waiter
		err      error // what was wrong beside them
	}
)

type (
	// adopt: member → root → poller. These agents are to be polled here from now on, under the lease of the era. It counts for less
	// than a yield of a later round, which may overtake it.
	adopt struct {
		era, round uint64
		agents     []adopted
	}
	// resumed: poller → member. It has what other nodes have handed over of these agents.
	resumed struct{ agents []string }
	// suspend: member → poller. The lease is lost: start nothing more until adopt.
	suspend struct{}
	// yield: member → poller. Give these agents up; what is known of each comes to member as yielded.
	yield struct {
		round  uint64 // counts them
		agents []string
	}
	// yielded: poller → member. What is known of an agent that is given up, but for its breaker.
	yielded struct {
		round    uint64 // of the yield; 0 if it is not configured any more
		handOver handOver
	}
	// yieldTo: poller → agent. As retire; say breakerTold first.
	yieldTo struct{}
	// given: poller → root. An agent is not polled here any more; it retires.
	given struct{ agent string }
	// dismissed: member → root. Suspended agents that are not to be polled here again.
	dismissed struct{ agents []string }
)

// adopted is an agent that a node polls from now on; given says that there is a handOver of another node.
type adopted struct {
	handOver
	given bool
}

// waiter is somebody who waits for the outcome of a reload; nil if nobody does. It has room for one.
type waiter chan<- error

type (
	// answered: the agent's call → agent.
	answered struct {
		incarnation uint64
		run         check.Run
		permit      machine.Permit
		answer      check.Answer
		err         error
		unmet       string // what the answer does not meet, as Unmet of the run has it
		asked       bool   // the call ended, and did not panic
		unmade      bool   // the lease did not hold any more
		took        time.Duration
		given       time.Duration // how long it was until the deadline
	}
	// probeDue: the agent's timer → agent. Look whether the checker is back.
	probeDue struct {
		incarnation uint64
		n           uint64
	}
	// probed: the agent's probe → agent.
	probed struct {
		incarnation uint64
		n           uint64 // stamps the probe
		health      string
		err         error
	}
	// healthTold: the agent's health call on a new connection → agent.
	healthTold struct {
		incarnation uint64
		health      string
		err         error
	}
)

type (
	// take: poller → reporter. Keep these reports of a cycle safe and deliver them, in order; what is taken
	// already is not changed by a take that says that some are sent again.
	take struct {
		reports []report
		again   bool
	}
	// taken: reporter → poller, and root, which at the stop outlives it. The report is safe, or was dropped at
	// once for want of room.
	taken struct {
		id      string
		dropped bool
	}
	// appended: the reporter's call → reporter. These are safe, or were dropped at once; the one that failed, and
	// those behind it, are not.
	appended struct {
		incarnation uint64
		kept        []kept
		failed      string
		err         error
	}
	// delivered: the reporter's call → reporter. A nil err means that core acknowledged the part. With
	// an empty report there was none, or with an err none that could be read.
	delivered struct {
		incarnation uint64
		report      string            // the oldest report's id
		part        wire.Delivery     // the report, or what of it was delivered
		last        bool              // nothing is left of the report but the part
		meanwhile   []ReportDelivered // what was delivered before the part, while it was appended
		atCore      []string          // reports that core has, and that the spool could not keep yet, or not read
		err         error
		took        time.Duration
		kept        int // reports
	}
	// setAside: the reporter's call → reporter. Done says that the first of the parts is set aside, or lost,
	// and which of them was told; err why not.
	setAside struct {
		incarnation uint64
		done        bool
		err         error
	}
	// safeTold: the reporter's call → reporter. A nil err means that what is kept outlives the process.
	safeTold struct {
		incarnation uint64
		err         error
	}
	// retryDue: the reporter's timer → reporter.
	retryDue struct{ incarnation uint64 }
	// finish: root → reporter. Say finished when nothing is kept any more; or when core does not take it and
	// it outlives the process.
	finish struct{}
	// finished: reporter → root.
	finished struct{}
)

type (
	// respawn: root's timer → root. Start this actor again.
	respawn struct {
		name        string
		incarnation uint64
	}
	// stop: System.Stop → root. Stop in order: gather statuses until half, deliver until by.
	stop struct{ half, by time.Time }
	// stageDue: root's timer → root. The stage of the stop has had its time.
	stageDue struct{ stage stage }
	// ping: System.Alive → root, which closes the channel.
	ping struct{ alive chan<- struct{} }
)

// report is a delivery in the making: from the closing of its cycle until it is taken.
type report struct {
	id    string
	cycle int64
	time  time.Time
	body  []byte
	// sequences are where results stand once the report is taken.
	sequences []check.Sequence
	closed    time.Time // when its cycle was
	sent      time.Time // when it last went to the reporter; zero if it did not yet, or that one is gone
	again     bool      // it went there before
}

// kept is what came of appending a report.
type kept struct {
	id      string
	dropped bool
	reports int // that are kept with it
}

// fall is an agent's last failure: how many there have been of all agents with it, and what to say of its runs.
type fall struct {
	n      int
	detail string
}
