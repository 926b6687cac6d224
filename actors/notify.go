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

// heard has a function called once all is handled that a daemon has said by then.
type heard func(func())

// heardPatience is how long that may take: who sends without end is not listened to.
const heardPatience = 2 * time.Second

// heard is nil for a daemon that says nothing. It may be called from any goroutine.
func (d *daemon) heard(reg *spec.Daemon) heard {
	if !notifies(reg) {
		return nil
	}
	return func(f func()) { d.notify.Heard(d.name, heardPatience, f) }
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
	if msg.MainPID != 0 {
		d.ctx.Send(d.process, namedMain{Incarnation: rec.Incarnation, PID: msg.MainPID, Sender: msg.PID})
	}
	was := d.says.of(d.name, rec.Incarnation)
	now := was
	if msg.HasStatus {
		now.status = msg.Status
	}
	switch {
	case msg.Stopping:
		now.state = saidStopping
	case was.state == saidStopping: // there is no way back
		msg.Ready = false
	case msg.Reloading:
		now.state = saidReloading
	case msg.Ready:
		now.state = ""
	}
	if now != was {
		d.says.note(d.name, now)
	}
	if now.state != was.state && now.state == saidStopping {
		d.alarms.clear(&d.watchdog) // from here on it is the time it has to end
		d.watch()
	}
	if msg.ExtendTimeout > 0 && (rec.State == supervision.Starting || rec.State == supervision.Stopping) {
		d.alarms.extend(&d.alarm, msg.ExtendTimeout)
	}
	if now.state == saidStopping {
		if msg.ExtendTimeout > 0 {
			d.alarms.extend(&d.watchdog, msg.ExtendTimeout)
		}
		return
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

// watch arms the watchdog of what runs, or the time that it has to end by itself, if
// it isn't armed, and drops that of anything else.
func (d *daemon) watch() {
	rec := &d.machine.Rec
	if d.watchdogOf != rec.Incarnation {
		d.watchdogOf = rec.Incarnation
		if d.machine.Reg.Spec != nil {
			d.watchdogEvery = d.machine.Reg.Spec.Watchdog.Duration()
		}
		d.alarms.clear(&d.watchdog)
	}
	every, up := d.watchdogEvery, rec.State == supervision.Running
	if d.isLeaving() {
		every = max(d.machine.Reg.Spec.StopTimeout.Duration(), time.Millisecond)
		up = up || rec.State == supervision.Starting
	}
	if !up || every <= 0 {
		d.alarms.clear(&d.watchdog)
		return
	}
	if !d.alarms.armed(&d.watchdog) {
		system, self, incarnation := d.ctx.ActorSystem(), d.ctx.Self(), rec.Incarnation
		d.alarms.set(&d.watchdog, every, func() { system.Root.Send(self, watchdogRang{incarnation}) })
	}
}

// isLeaving says whether what runs has said that it ends (STOPPING=1). As for
// systemd, its watchdog is over then, and it has as long as a stop may take.
func (d *daemon) isLeaving() bool {
	return d.says.of(d.name, d.machine.Rec.Incarnation).state == saidStopping
}

// leaves says whether an observation is that what is leaving doesn't do well, which
// is of no interest any more.
func (d *daemon) leaves(in supervision.Input) bool {
	p, ok := in.(supervision.Probed)
	return ok && !p.Healthy && d.isLeaving()
}

func (d *daemon) watchdogRang(msg watchdogRang) {
	if msg.Incarnation != d.machine.Rec.Incarnation || d.alarms.armed(&d.watchdog) {
		return // it has said something since
	}
	cause := fmt.Sprintf("its watchdog: no WATCHDOG=1 came for %s", d.watchdogEvery.Round(time.Microsecond))
	if d.isLeaving() {
		cause = "it said that it stops (STOPPING=1) and didn't end in time"
	}
	d.apply(supervision.Faulted{Incarnation: msg.Incarnation, Cause: cause}, nil)
	d.watch()
}
