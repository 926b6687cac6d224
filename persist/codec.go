package persist

import (
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/cyber-boost/syspulse/persist/journalpb"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// eventSchema is the version of journalpb.Event that this build writes. It
// rises with every field that is added and tells a later build which fields a
// zero means something in; reading does not depend on it.
const eventSchema = 3

func timeToPB(t time.Time) *journalpb.Time {
	if t.IsZero() {
		return nil
	}
	return &journalpb.Time{Seconds: t.Unix(), Nanos: int32(t.Nanosecond())}
}

func timeFromPB(p *journalpb.Time) time.Time {
	if p == nil {
		return time.Time{}
	}
	return time.Unix(p.Seconds, int64(p.Nanos)).UTC()
}

func recordToPB(r *supervision.Record) *journalpb.Record {
	if r == nil {
		return nil
	}
	p := &journalpb.Record{
		State:         string(r.State),
		Wanted:        string(r.Wanted),
		Reason:        []byte(r.Reason),
		Incarnation:   r.Incarnation,
		StartedAt:     timeToPB(r.StartedAt),
		StoppedAt:     timeToPB(r.StoppedAt),
		UpSinceNanos:  int64(r.UpSince),
		Ready:         r.Ready,
		Adopted:       r.Adopted,
		Exited:        r.Exited,
		RestartCount:  r.RestartCount,
		Attempt:       int64(r.Attempt),
		Health:        string(r.Health),
		NextRestartAt: timeToPB(r.NextRestartAt),
		After:         string(r.After),
		Ended:         r.Ended,
		Leftovers:     r.Leftovers,
		Waiting:       r.Waiting,
		Completed:     r.Completed,
		Cause:         []byte(r.Cause),
		NextRunAt:     timeToPB(r.NextRunAt),
		Queued:        r.Queued,
		Along:         r.Along,
	}
	if r.Firings != nil {
		for _, f := range r.Firings.List {
			p.Firings = append(p.Firings, &journalpb.Firing{Incarnation: f.Incarnation, BootId: f.BootID, UpNanos: int64(f.Up)})
		}
	}
	if r.Process != (supervision.Identity{}) {
		p.Process = &journalpb.Identity{
			BootId:    r.Process.BootID,
			Pid:       int64(r.Process.PID),
			StartTime: r.Process.StartTime,
		}
	}
	if r.LastExit != (supervision.Exit{}) {
		p.LastExit = &journalpb.Exit{
			Known:  r.LastExit.Known,
			Code:   int64(r.LastExit.Code),
			Signal: r.LastExit.Signal,
		}
	}
	return p
}

func recordFromPB(p *journalpb.Record) *supervision.Record {
	if p == nil {
		return nil
	}
	r := &supervision.Record{
		State:       supervision.State(p.State),
		Wanted:      supervision.Wanted(p.Wanted),
		Reason:      string(p.Reason),
		Incarnation: p.Incarnation,
		Process: supervision.Identity{
			BootID:    p.Process.GetBootId(),
			PID:       int(p.Process.GetPid()),
			StartTime: p.Process.GetStartTime(),
		},
		StartedAt: timeFromPB(p.StartedAt),
		StoppedAt: timeFromPB(p.StoppedAt),
		UpSince:   time.Duration(p.UpSinceNanos),
		Ready:     p.Ready,
		Adopted:   p.Adopted,
		Exited:    p.Exited,
		LastExit: supervision.Exit{
			Known:  p.LastExit.GetKnown(),
			Code:   int(p.LastExit.GetCode()),
			Signal: p.LastExit.GetSignal(),
		},
		RestartCount:  p.RestartCount,
		Attempt:       int(p.Attempt),
		Health:        supervision.Health(p.Health),
		NextRestartAt: timeFromPB(p.NextRestartAt),
		After:         supervision.After(p.After),
		Ended:         p.Ended,
		Leftovers:     p.Leftovers,
		Waiting:       p.Waiting,
		Completed:     p.Completed,
		Cause:         string(p.Cause),
		NextRunAt:     timeFromPB(p.NextRunAt),
		Queued:        p.Queued,
		Along:         p.Along,
	}
	if len(p.Firings) > 0 {
		r.Firings = new(supervision.Firings)
		for _, f := range p.Firings {
			r.Firings.List = append(r.Firings.List, supervision.Firing{Incarnation: f.Incarnation, BootID: f.BootId, Up: time.Duration(f.UpNanos)})
		}
	}
	return r
}

func registrationToPB(r *supervision.Registration) (*journalpb.Registration, error) {
	if r == nil {
		return nil, nil
	}
	p := &journalpb.Registration{Source: []byte(r.Source)}
	if r.Spec != nil {
		b, err := json.Marshal(r.Spec)
		if err != nil {
			return nil, fmt.Errorf("the registration of %q can't be written as JSON: %w", r.Spec.Name, err)
		}
		p.SpecJson = b
	}
	if r.Group != nil {
		b, err := json.Marshal(r.Group)
		if err != nil {
			return nil, fmt.Errorf("the group %q can't be written as JSON: %w", r.Group.Name, err)
		}
		p.GroupJson = b
	}
	return p, nil
}

func registrationFromPB(p *journalpb.Registration) (*supervision.Registration, error) {
	if p == nil {
		return nil, nil
	}
	r := &supervision.Registration{Source: string(p.Source)}
	if len(p.SpecJson) > 0 {
		r.Spec = new(spec.Daemon)
		if err := r.Spec.UnmarshalJSON(p.SpecJson); err != nil {
			return nil, fmt.Errorf("a registration in the journal can't be read: %w", err)
		}
	}
	if len(p.GroupJson) > 0 {
		r.Group = new(spec.Group)
		if err := r.Group.UnmarshalJSON(p.GroupJson); err != nil {
			return nil, fmt.Errorf("a group in the journal can't be read: %w", err)
		}
	}
	return r, nil
}

func eventToPB(ev *supervision.Event) (*journalpb.Event, error) {
	reg, err := registrationToPB(ev.Spec)
	if err != nil {
		return nil, err
	}
	return &journalpb.Event{
		Schema:       eventSchema,
		Seq:          ev.Seq,
		Time:         timeToPB(ev.Time),
		Daemon:       ev.Daemon,
		Kind:         string(ev.Kind),
		Detail:       []byte(ev.Detail),
		Record:       recordToPB(ev.Record),
		Registration: reg,
	}, nil
}

func eventFromPB(p *journalpb.Event) (supervision.Event, error) {
	reg, err := registrationFromPB(p.Registration)
	return supervision.Event{
		Seq:    p.Seq,
		Time:   timeFromPB(p.Time),
		Daemon: p.Daemon,
		Kind:   supervision.Kind(p.Kind),
		Detail: string(p.Detail),
		Record: recordFromPB(p.Record),
		Spec:   reg,
	}, err
}

// decode reads a message, saying which one could not be read.
func decode[M proto.Message](b []byte, m M) (M, error) {
	if err := proto.Unmarshal(b, m); err != nil {
		return m, fmt.Errorf("a %s in the journal can't be read: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return m, nil
}
