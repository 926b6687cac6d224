package actors

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/persist"
	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

// Events implements [api.Manager]. A stream reads the journal, and a commit
// wakes it: nothing is kept for it in between, however slow it is.
func (s *System) Events(ctx context.Context, q api.EventQuery) (iter.Seq2[api.Event, error], error) {
	woken := s.ledger.changed.wait()
	newest, err := s.store.History(ctx, persist.HistoryQuery{Limit: 1})
	if err != nil {
		return nil, err
	}
	var last uint64
	if len(newest) > 0 {
		last = newest[0].Seq
	}
	if q.After != nil && *q.After > last {
		// The events up to there are lost, and so are their numbers: only those
		// of this manager are news for sure.
		q.After = &s.began
	}
	past, err := s.past(ctx, q, last)
	if err != nil {
		return nil, err
	}
	names := canonical(q.Names)
	from := last
	if len(past) > 0 {
		from = past[0].Seq - 1
	}
	return func(yield func(api.Event, error) bool) {
		if q.Resumable && !yield(api.Event{Seq: from, Time: time.Now(), Event: api.EventPosition}, nil) {
			return
		}
		for {
			for _, ev := range past {
				if !yield(api.NewEvent(ev), nil) {
					return
				}
			}
			if !q.Follow {
				return
			}
			select {
			case <-woken:
			case <-s.done:
				yield(api.Event{}, s.streamEnd())
				return
			case <-ctx.Done():
				yield(api.Event{}, ctx.Err())
				return
			}
			woken = s.ledger.changed.wait()
			past, err = s.store.History(ctx, persist.HistoryQuery{AfterSeq: last})
			if err != nil {
				yield(api.Event{}, err)
				return
			}
			if len(past) > 0 {
				last = past[len(past)-1].Seq
			}
			if len(names) > 0 {
				past = slices.DeleteFunc(past, func(e supervision.Event) bool { return !slices.Contains(names, e.Daemon) })
			}
		}
	}, nil
}

func canonical(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = spec.CanonicalName(n)
	}
	return out
}

// past is the end of the history, up to and including the event last.
func (s *System) past(ctx context.Context, q api.EventQuery, last uint64) ([]supervision.Event, error) {
	query := persist.HistoryQuery{BeforeSeq: last + 1, Limit: max(q.Limit, 0)}
	if q.Since != nil {
		query.Since = *q.Since
	}
	if q.After != nil {
		query.AfterSeq = *q.After
	}
	if len(q.Names) == 0 {
		if q.Limit == 0 {
			return nil, nil
		}
		return s.store.History(ctx, query)
	}
	sel, err := s.selected(ctx, api.Selector{Names: q.Names}, nil)
	if err != nil {
		return nil, err
	}
	var all []supervision.Event
	for i, name := range canonical(q.Names) {
		query.Daemon = name
		events, err := s.store.History(ctx, query)
		if err != nil {
			return nil, err
		}
		// What was removed has a history, too.
		unknown := slices.IndexFunc(sel.unknown, func(e *api.Error) bool { return e.Daemon == q.Names[i] })
		if len(events) == 0 && unknown >= 0 && q.After == nil {
			return nil, sel.unknown[unknown]
		}
		all = append(all, events...)
	}
	slices.SortFunc(all, func(a, b supervision.Event) int { return int(int64(a.Seq - b.Seq)) })
	if q.Limit >= 0 && len(all) > q.Limit {
		all = all[len(all)-q.Limit:]
	}
	return all, nil
}
