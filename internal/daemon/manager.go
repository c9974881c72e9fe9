package daemon

import (
	"context"
	"sync"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
)

// manager tells the service manager how the poller is, if it was started by one that wants to know (systemd's Type=notify-reload and
// WatchdogSec). Without one its methods do nothing.
type manager struct {
	failed func(error) // is told once why the manager can't be told
	once   sync.Once
	watch  context.CancelFunc // ends what feeds the watchdog; nil if nothing does
	ended  sync.WaitGroup
}

func (m *manager) tell(state string) {
	if _, err := systemd.SdNotify(false, state); err != nil {
		m.once.Do(func() { m.failed(err) })
	}
}

// ready says that the poller runs. From now on the watchdog is fed, for as long as alive returns nil: if it does not, the
// manager ends the process and starts another.
func (m *manager) ready(ctx context.Context, alive func(context.Context) error) {
	m.tell(systemd.SdNotifyReady)
	limit, err := systemd.SdWatchdogEnabled(false)
	if err != nil {
		m.once.Do(func() { m.failed(err) })
	}
	if err != nil || limit == 0 {
		return
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	m.watch = cancel
	m.ended.Go(func() { m.feed(ctx, limit/3, alive) })
}

// feed feeds the watchdog each time that interval has passed.
func (m *manager) feed(ctx context.Context, interval time.Duration, alive func(context.Context) error) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		within, cancel := context.WithTimeout(ctx, interval)
		if alive(within) == nil {
			m.tell(systemd.SdNotifyWatchdog)
		}
		cancel()
	}
}

// reloading says that the configuration is being loaded again; the function that it returns, that this is over.
func (m *manager) reloading() (over func()) {
	m.tell(systemd.SdNotifyReloading + "\n" + systemd.SdNotifyMonotonicUsec())
	return func() { m.tell(systemd.SdNotifyReady) }
}

// stopping says that the poller is to end.
func (m *manager) stopping() {
	m.tell(systemd.SdNotifyStopping)
	if m.watch != nil {
		m.watch()
		m.ended.Wait()
	}
}
