package actors

import (
	"fmt"
	"os"
	"time"

	"github.com/cyber-boost/syspulse/notify"
	"github.com/cyber-boost/syspulse/platform"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// notified is what a daemon says of itself (sd_notify(3)).
type notified struct {
	Incarnation string
	notify.Message
}

// watchdogRang: the daemon has not said that it is alive.
type watchdogRang struct{ Incarnation string }

// notifies says whether a daemon gets an address to say something to.
func notifies(d *spec.Daemon) bool {
	return d.Watchdog > 0 || d.Ready != nil && d.Ready.Type == "notify"
}

// listen gives the address for NOTIFY_SOCKET, "" if the daemon gets none. fresh
// is for an incarnation that is about to be forked. It may be called from any
// goroutine.
func (d *daemon) listen(reg *spec.Daemon, incarnation string, account *platform.Account, fresh bool) (string, error) {
	if !notifies(reg) {
		return "", nil
	}
	uid := uint32(max(os.Geteuid(), 0))
	if account != nil {
		uid = account.UID
	}
	system, self := d.ctx.ActorSystem(), d.ctx.Self()
	return d.notify.Listen(d.name, notify.Listener{UID: uid, Fresh: fresh, Handle: func(m notify.Message) {
		system.Root.Send(self, notified{incarnation, m})
	}})
}

// notified acts on what the daemon says.
func (d *daemon) notified(msg notified) {
	rec, reg := &d.machine.Rec, d.machine.Reg.Spec
	if msg.Incarnation == rec.Incarnation && rec.State == supervision.Starting && rec.Process.PID == 0 {
		d.unheard = append(d.unheard, msg) // it is faster than the news of its fork
		return
	}
	defer msg.Done()
	if msg.Incarnation != rec.Incarnation || rec.Process.PID == 0 {
		return
	}
	if msg.HasStatus {
		d.says.set(d.name, msg.Status)
	}
	if msg.ExtendTimeout > 0 && (rec.State == supervision.Starting || rec.State == supervision.Stopping) {
		d.alarms.extend(&d.alarm, msg.ExtendTimeout)
	}
	if msg.HasWatchdog {
		d.watchdogEvery = msg.Watchdog
	}
	if msg.Alive || msg.HasWatchdog {
		d.alarms.clear(&d.watchdog) // armed anew below
	}
	switch {
	case msg.Trigger:
		d.apply(supervision.Faulted{Incarnation: rec.Incarnation, Cause: "its watchdog: it asked for it (WATCHDOG=trigger)"}, nil)
	case msg.Ready && reg.Ready != nil && reg.Ready.Type == "notify":
		d.apply(supervision.BecameReady{Incarnation: rec.Incarnation, How: "READY=1"}, nil)
	}
	d.watch()
}

// hear goes on with what was said too early, if its time has come.
func (d *daemon) hear() {
	if len(d.unheard) == 0 || d.machine.Rec.State == supervision.Starting && d.machine.Rec.Process.PID == 0 {
		return
	}
	unheard := d.unheard
	d.unheard = nil
	for _, msg := range unheard {
		d.notified(msg)
	}
}

// watch arms the watchdog of what runs, if it isn't, and drops that of anything
// else.
func (d *daemon) watch() {
	rec := &d.machine.Rec
	if d.watchdogOf != rec.Incarnation {
		d.watchdogOf = rec.Incarnation
		if d.machine.Reg.Spec != nil {
			d.watchdogEvery = d.machine.Reg.Spec.Watchdog.Duration()
		}
		d.alarms.clear(&d.watchdog)
	}
	if rec.State != supervision.Running || d.watchdogEvery <= 0 {
		d.alarms.clear(&d.watchdog)
		return
	}
	if !d.alarms.armed(&d.watchdog) {
		system, self, incarnation := d.ctx.ActorSystem(), d.ctx.Self(), rec.Incarnation
		d.alarms.set(&d.watchdog, d.watchdogEvery, func() { system.Root.Send(self, watchdogRang{incarnation}) })
	}
}

func (d *daemon) watchdogRang(msg watchdogRang) {
	if msg.Incarnation != d.machine.Rec.Incarnation || d.alarms.armed(&d.watchdog) {
		return // it has said something since
	}
	d.apply(supervision.Faulted{
		Incarnation: msg.Incarnation,
		Cause:       fmt.Sprintf("its watchdog: no WATCHDOG=1 came for %s", d.watchdogEvery.Round(time.Microsecond)),
	}, nil)
	d.watch()
}
