package supervision

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/adhocore/gronx"
	"pgregory.net/rapid"

	"github.com/cyber-boost/syspulse/spec"
)

func schedule(t interface {
	Helper()
	Fatal(...any)
}, expr, zone string) *Schedule {
	t.Helper()
	s, err := ParseSchedule(expr, zone)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestScheduleRuns(t *testing.T) {
	for _, c := range []struct{ expr, zone, after, runs string }{
		{"*/15 * * * *", "UTC", "2026-01-01T00:00:00Z", "01-01T00:15Z 01-01T00:30Z 01-01T00:45Z 01-01T01:00Z"},
		{"*/15 * * * *", "UTC", "2026-01-01T00:14:59.999Z", "01-01T00:15Z 01-01T00:30Z"},
		{"0 3 * * *", "Asia/Kolkata", "2026-01-01T00:00:00Z", "01-02T03:00+05:30 01-03T03:00+05:30"},
		{"20,40 30 3 * * *", "UTC", "2026-01-01T00:00:00Z", "01-01T03:30:20Z 01-01T03:30:40Z 01-02T03:30:20Z"},
		{"59 59 23 31 12 *", "UTC", "2026-01-01T00:00:00Z", "12-31T23:59:59Z 2027-12-31T23:59:59Z"},
		{"0 0 L * *", "UTC", "2028-01-31T00:00:00Z", "2028-02-29T00:00Z 2028-03-31T00:00Z 2028-04-30T00:00Z"},
		{"0 0 15W * *", "UTC", "2026-02-01T00:00:00Z", "02-16T00:00Z 03-16T00:00Z 04-15T00:00Z 05-15T00:00Z 06-15T00:00Z 07-15T00:00Z 08-14T00:00Z"},
		{"0 0 1W,31W * *", "UTC", "2026-07-31T12:00:00Z", "08-03T00:00Z 08-31T00:00Z 09-01T00:00Z 10-01T00:00Z 10-30T00:00Z"},
		{"0 0 * * FRIL", "UTC", "2026-01-01T00:00:00Z", "01-30T00:00Z 02-27T00:00Z 03-27T00:00Z 04-24T00:00Z"},
		{"0 0 * * MON#2,TUE#5", "UTC", "2026-06-01T00:00:00Z", "06-08T00:00Z 06-30T00:00Z 07-13T00:00Z 08-10T00:00Z"},
		{"0 0 * * 7", "UTC", "2026-01-01T00:00:00Z", "01-04T00:00Z 01-11T00:00Z"},
		// Day of month and weekday: either, unless one begins with *.
		{"0 0 13 * FRI", "UTC", "2026-02-01T00:00:00Z", "02-06T00:00Z 02-13T00:00Z 02-20T00:00Z 02-27T00:00Z 03-06T00:00Z 03-13T00:00Z"},
		{"0 0 */13 * FRI", "UTC", "2026-02-01T00:00:00Z", "02-27T00:00Z 03-27T00:00Z 05-01T00:00Z"},
		{"0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", "2104-02-29T00:00Z 2108-02-29T00:00Z"},
		{"0 0 29 2 */1", "UTC", "2026-01-01T00:00:00Z", "2028-02-29T00:00Z"},
		{"0 12 */29 2 1", "Europe/Berlin", "2026-01-01T00:00:00Z", "2027-02-01T12:00+01:00"},
		{"0 0 29 2 * 2100-2104", "UTC", "2026-01-01T00:00:00Z", "2104-02-29T00:00Z never"},
		{"0 0 1 1 * 9999", "UTC", "2026-01-01T00:00:00Z", "9999-01-01T00:00Z never"},
		{"* * * * * 2026", "UTC", "2026-12-31T23:57:30Z", "12-31T23:58Z 12-31T23:59Z never"},
		{"0 0 * * * 2027-2035/4", "UTC", "2027-12-31T00:00:00Z", "2031-01-01T00:00Z"},
		{"@weekly", "UTC", "2026-01-01T00:00:00Z", "01-04T00:00Z 01-11T00:00Z"},
		{"@midnight", "UTC", "2026-01-01T00:00:00Z", "01-02T00:00Z"},

		// Berlin, forward: 02:00 to 03:00 is skipped.
		{"30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", "03-28T02:30+01:00 03-29T03:00+02:00 03-30T02:30+02:00"},
		{"0,15,30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "03-29T03:00+02:00 03-30T02:00+02:00"},
		{"0 2,3 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "03-29T03:00+02:00 03-30T02:00+02:00 03-30T03:00+02:00"},
		{"59 1,2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "03-29T01:59+01:00 03-29T03:00+02:00 03-30T01:59+02:00"},
		{"30 2 29 3 *", "Europe/Berlin", "2026-03-28T12:00:00Z", "03-29T03:00+02:00 2027-03-29T02:30+02:00"},
		{"*/30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", "03-29T01:30+01:00 03-29T03:00+02:00 03-29T03:30+02:00"},
		{"*/30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "03-30T02:00+02:00 03-30T02:30+02:00"},
		{"45 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", "03-29T01:45+01:00 03-29T03:45+02:00"},
		// Back: 02:00 to 03:00 comes twice.
		{"30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "10-25T02:30+02:00 10-26T02:30+01:00"},
		{"30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", "10-26T02:30+01:00"},
		{"0 3 * * *", "Europe/Berlin", "2026-10-25T00:59:59Z", "10-25T03:00+01:00 10-26T03:00+01:00"},
		{"*/30 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", "10-25T02:00+02:00 10-25T02:30+02:00 10-25T02:00+01:00 10-25T02:30+01:00 10-25T03:00+01:00"},
		{"*/30 2 * * *", "Europe/Berlin", "2026-10-25T00:15:00Z", "10-25T02:30+02:00 10-25T02:00+01:00 10-25T02:30+01:00 10-26T02:00+01:00"},
		{"0 ? * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", "10-25T02:00+01:00"},
		// Far in the future a rule alone says when, in leap years, too.
		{"30 2 * * *", "Europe/Berlin", "2096-03-24T12:00:00Z", "2096-03-25T03:00+02:00 2096-03-26T02:30+02:00"},
		{"0 12 * * *", "Europe/Berlin", "2096-12-30T12:00:00Z", "2096-12-31T12:00+01:00 2097-01-01T12:00+01:00"},
		{"0 */12 * * *", "Europe/Berlin", "2096-12-31T00:00:00Z", "2096-12-31T12:00+01:00 2097-01-01T00:00+01:00"},
		// New York and the southern hemisphere.
		{"0 */6 1 11 *", "America/New_York", "2026-02-01T12:00:00Z", "11-01T00:00-04:00 11-01T06:00-05:00 11-01T12:00-05:00 11-01T18:00-05:00 2027-11-01T00:00-04:00"},
		{"30 2 * * *", "America/New_York", "2026-03-07T12:00:00Z", "03-08T03:00-04:00 03-09T02:30-04:00"},
		{"30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", "11-01T01:30-04:00 11-02T01:30-05:00"},
		{"30 2 * * *", "Australia/Sydney", "2026-04-04T12:00:00Z", "04-05T02:30+11:00 04-06T02:30+10:00"},
		{"30 2 * * *", "Australia/Sydney", "2026-10-03T12:00:00Z", "10-04T03:00+11:00 10-05T02:30+11:00"},
		// Half an hour: 02:00 to 02:30 skipped, 01:30 to 02:00 twice.
		{"15 2 * * *", "Australia/Lord_Howe", "2026-10-02T16:00:00Z", "10-04T02:30+11:00 10-05T02:15+11:00"},
		{"45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00:00Z", "04-05T01:45+11:00 04-06T01:45+10:30"},
		{"*/15 * * * *", "Australia/Lord_Howe", "2026-04-04T14:30:00Z", "04-05T01:45+11:00 04-05T01:30+10:30 04-05T01:45+10:30 04-05T02:00+10:30"},
		{"*/15 * * * *", "Australia/Lord_Howe", "2026-10-03T15:00:00Z", "10-04T01:45+10:30 10-04T02:30+11:00"},
		// At midnight: a day begins at one, or ends twice.
		{"0 0 * * *", "America/Sao_Paulo", "2018-11-03T03:30:00Z", "2018-11-04T01:00-02:00 2018-11-05T00:00-02:00"},
		{"0 0 * * 0", "America/Sao_Paulo", "2018-11-03T03:30:00Z", "2018-11-04T01:00-02:00 2018-11-11T00:00-02:00"},
		{"30 23 * * *", "America/Sao_Paulo", "2018-02-17T12:00:00Z", "2018-02-17T23:30-02:00 2018-02-18T23:30-03:00"},
		{"30 */23 * * *", "America/Sao_Paulo", "2018-02-17T12:00:00Z", "2018-02-17T23:30-02:00 2018-02-17T23:30-03:00 2018-02-18T00:30-03:00"},
		{"0 0 * * *", "Africa/Cairo", "2026-04-23T12:00:00Z", "04-24T01:00+03:00 04-25T00:00+03:00"},
		{"30 23 * * *", "Africa/Cairo", "2026-10-29T12:00:00Z", "10-29T23:30+03:00 10-30T23:30+02:00"},
		{"30 0 1-31 * *", "Asia/Beirut", "2026-03-28T12:00:00Z", "03-29T01:00+03:00 03-30T00:30+03:00"},
		{"59 23 28 3 *", "Asia/Beirut", "2026-03-28T12:00:00Z", "03-28T23:59+02:00 2027-03-28T23:59+03:00"},
		{"0 0 * * *", "Asia/Beirut", "2026-10-24T12:00:00Z", "10-25T00:00+02:00 10-26T00:00+02:00"},
		// The whole of 30 December was skipped.
		{"0 9,17 * * *", "Pacific/Apia", "2011-12-29T12:00:00Z", "2011-12-29T09:00-10:00 2011-12-29T17:00-10:00 2011-12-31T00:00+14:00 2011-12-31T09:00+14:00"},
		{"0 9 30 * *", "Pacific/Apia", "2011-12-29T12:00:00Z", "2011-12-31T00:00+14:00 2012-01-30T09:00+14:00"},
		{"0 */12 * * *", "Pacific/Apia", "2011-12-29T12:00:00Z", "2011-12-29T12:00-10:00 2011-12-31T00:00+14:00 2011-12-31T12:00+14:00"},
		// The standard time itself: half an hour back and forward, three hours on.
		{"0 0 * * *", "Asia/Pyongyang", "2018-05-03T20:00:00Z", "2018-05-05T00:00+09:00 2018-05-06T00:00+09:00"},
		{"45 23 * * *", "Asia/Pyongyang", "2015-08-14T00:00:00Z", "2015-08-14T23:45+09:00 2015-08-15T23:45+08:30"},
		{"45 23 * * *", "Asia/Pyongyang", "2018-05-03T20:00:00Z", "2018-05-05T00:00+09:00 2018-05-05T23:45+09:00"},
		{"30 2 * * *", "America/Caracas", "2016-04-30T12:00:00Z", "2016-05-01T03:00-04:00 2016-05-02T02:30-04:00"},
		{"0 23 * * *", "Antarctica/Casey", "2010-03-04T10:00:00Z", "2010-03-04T23:00+11:00 2010-03-05T23:00+08:00"},
		// The clocks stay, and only the name of the time changes.
		{"0 3 * * *", "Europe/Istanbul", "2016-10-29T12:00:00Z", "2016-10-30T03:00+03:00 2016-10-31T03:00+03:00"},
	} {
		s, at := schedule(t, c.expr, c.zone), mustTime(t, c.after)
		for i, want := range strings.Fields(c.runs) {
			at = s.Next(at)
			if got := short(at); got != want {
				t.Errorf("%s in %s after %s: run %d at %s, want %s", c.expr, c.zone, c.after, i+1, got, want)
				break
			}
		}
	}
}

func mustTime(t testing.TB, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// short formats a time without its year, if that is 2026, and without its
// second, if that is 0.
func short(at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	layout := "2006-01-02T15:04"
	if at.Second() != 0 {
		layout += ":05"
	}
	return strings.TrimPrefix(at.Format(layout+"Z07:00"), "2026-")
}

func TestSchedulesThatAreNone(t *testing.T) {
	for _, c := range [][2]string{{"* * * *", ""}, {"0 0 * * *", "Nowhere/Land"}, {"0 61 * * *", "UTC"}, {"0 0 * * MON#x", "UTC"}, {"0 0 x * *", "UTC"}} {
		if s, err := ParseSchedule(c[0], c[1]); err == nil {
			t.Errorf("%q: %+v", c, s)
		}
	}
	// What can't fire ends soon, too.
	for _, expr := range []string{"0 0 30 2 *", "0 0 31W 4 *", "0 0 30 2 * 1970-9999", "*/5 * 30 2 *", "*/5 * * * * 2001"} {
		if at := schedule(t, expr, "Europe/Berlin").Next(mustTime(t, "2026-01-01T00:00:00Z")); !at.IsZero() {
			t.Errorf("%s: %v", expr, at)
		}
	}
	for _, at := range []time.Time{{}, time.Unix(-1<<40, 0), time.Unix(1<<40, 0)} {
		schedule(t, "*/5 0 * * *", "Europe/Berlin").Next(at)
		schedule(t, "5 0 * * * 2030", "Europe/Berlin").Next(at)
	}
}

func TestScheduleInLocalTime(t *testing.T) {
	local := time.Local
	defer func() { time.Local = local }()
	time.Local = time.FixedZone("here", 3600)
	at := schedule(t, "0 3 * * *", "").Next(mustTime(t, "2026-01-01T00:00:00Z"))
	if got := at.Format(time.RFC3339); got != "2026-01-01T03:00:00+01:00" {
		t.Error(got)
	}
}

// changes are days on which clocks were changed, or will be.
var changes = []struct{ zone, day string }{
	{"UTC", "2026-03-29"},
	{"Europe/Berlin", "2026-03-29"}, {"Europe/Berlin", "2026-10-25"}, {"Europe/Berlin", "2096-10-28"}, {"Europe/Berlin", "2096-12-31"},
	{"Europe/London", "2027-10-31"}, {"Europe/Dublin", "2026-03-29"}, {"Europe/Lisbon", "1992-09-27"},
	{"America/New_York", "2026-03-08"}, {"America/New_York", "2026-11-01"}, {"America/St_Johns", "2007-11-04"},
	{"Australia/Lord_Howe", "2026-04-05"}, {"Australia/Lord_Howe", "2026-10-04"}, {"Australia/Sydney", "2026-10-04"},
	{"America/Sao_Paulo", "2018-02-18"}, {"America/Sao_Paulo", "2018-11-04"},
	{"Africa/Cairo", "2026-04-24"}, {"Africa/Cairo", "2026-10-30"}, {"Asia/Beirut", "2026-03-29"}, {"Asia/Beirut", "2026-10-25"},
	{"Africa/Casablanca", "2026-02-15"}, {"Africa/Casablanca", "2026-03-22"}, {"Antarctica/Troll", "2026-03-29"}, {"Antarctica/Troll", "2026-10-25"},
	{"Pacific/Apia", "2011-12-30"}, {"Pacific/Kwajalein", "1993-08-21"}, {"Asia/Pyongyang", "2018-05-05"}, {"Asia/Pyongyang", "2015-08-15"},
	{"America/Caracas", "2016-05-01"}, {"Antarctica/Casey", "2010-03-05"}, {"Asia/Manila", "1844-12-31"}, {"America/Sitka", "1867-10-18"},
	{"Africa/Monrovia", "1972-01-07"}, {"Europe/Amsterdam", "1937-07-01"}, {"Europe/Istanbul", "2016-10-30"},
}

// Every zone, every kind of expression: the runs around a change are those that
// the rules name, when one goes through all instants one by one.
func TestScheduleIsWhatTheClockShows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		change := rapid.SampledFrom(changes).Draw(t, "change")
		loc, err := time.LoadLocation(change.zone)
		if err != nil {
			t.Fatal(err)
		}
		day, _ := time.ParseInLocation("2006-01-02", change.day, time.UTC)
		bySecond := rapid.IntRange(0, 3).Draw(t, "seconds") == 0
		expr := randomTimes(t, bySecond)
		expr += " " + rapid.SampledFrom([]string{
			"* * *", "* * *", "? * *", fmt.Sprintf("%d * *", day.Day()), fmt.Sprintf("*/2 %d *", day.Month()), "L * *", "15W * *",
			fmt.Sprintf("* * %d", day.Weekday()), fmt.Sprintf("%d * %d", day.Day()%28+1, day.Weekday()), "* * 0L,5L", "1-15 * 1-5/2",
		}).Draw(t, "days")
		s := schedule(t, expr, change.zone)
		fields, _ := spec.ScheduleFields(expr)

		// Walk the three days around it by the minute; by the second only a few
		// hours of them, and where the offset isn't of whole minutes.
		step, begin, end := time.Minute, day.Add(-48*time.Hour), day.Add(72*time.Hour)
		for t := begin; t.Before(end); t = t.Add(time.Hour) {
			if _, offset := t.In(loc).Zone(); offset%60 != 0 {
				bySecond = true
			}
		}
		from := begin.Add(30 * time.Hour)
		if bySecond {
			step = time.Second
			_, offset := day.In(loc).Zone()
			from = day.Add(-time.Duration(offset)*time.Second - time.Duration(rapid.IntRange(0, 6).Draw(t, "hours"))*time.Hour)
			begin, end = from.Add(-5*time.Hour), from.Add(5*time.Hour)
		}
		from = from.Add(time.Duration(rapid.IntRange(0, 7200).Draw(t, "from")) * time.Second)
		want := walk(fields, loc, begin, end, step)
		want = slices.DeleteFunc(want, func(run time.Time) bool { return !run.After(from) })
		at := from
		for i := 0; ; i++ {
			next := s.Next(at)
			if !next.IsZero() && !next.After(at) {
				t.Fatalf("%s in %s: %v after %v", expr, change.zone, next, at)
			}
			at = next
			if at.IsZero() || !at.Before(end) {
				if i < len(want) {
					t.Fatalf("%s in %s from %v: missed %v", expr, change.zone, from.In(loc), want[i])
				}
				return
			}
			if i >= len(want) || !at.Equal(want[i]) {
				t.Fatalf("%s in %s from %v: invented %v, run %d of %v", expr, change.zone, from.In(loc), at, i, want)
			}
		}
	})
}

func randomTimes(t *rapid.T, bySecond bool) string {
	part := func(name string, limit int, real bool) string {
		n := func(name string) int { return rapid.IntRange(0, limit).Draw(t, name) }
		a, b := n("a"), n("b")
		list := fmt.Sprint(a)
		switch rapid.IntRange(0, 2).Draw(t, "form") {
		case 0:
			list = fmt.Sprintf("%d,%d", a, b)
		case 1:
			list = fmt.Sprintf("%d-%d", min(a, b), max(a, b))
		}
		if !real {
			return list
		}
		return rapid.SampledFrom([]string{"*", "?", fmt.Sprintf("*/%d", 1+a%limit), fmt.Sprintf("%d-%d/%d", min(a, b), max(a, b), 1+a%3), list}).Draw(t, name)
	}
	real := rapid.Bool().Draw(t, "real")
	times := part("minute", 59, real) + " "
	if rapid.Bool().Draw(t, "early") {
		times += part("hour", 4, real)
	} else {
		times += part("hour", 23, real)
	}
	if bySecond {
		return part("second", 59, true) + " " + times
	}
	return times
}

// walk goes from begin to end and says when a schedule runs. It is the rules word
// by word, and slow.
func walk(fields []string, loc *time.Location, begin, end time.Time, step time.Duration) (runs []time.Time) {
	g := gronx.New()
	fits := func(reading time.Time) bool {
		g.C.SetRef(reading)
		ok, err := g.SegmentsDue(fields)
		return ok && err == nil
	}
	reading := func(at time.Time) time.Time {
		_, offset := at.In(loc).Zone()
		return at.Add(time.Duration(offset) * time.Second)
	}
	real := strings.ContainsAny(fields[1]+fields[2], "*/?")
	shown := make(map[time.Time]bool) // readings that were, or were skipped
	for at := begin; at.Before(end); at = at.Add(step) {
		now, before := reading(at), reading(at.Add(-step))
		due := fits(now) && (real || !shown[now])
		shown[now] = true
		if !real && at.After(begin) {
			for skipped := before.Add(step); skipped.Before(now); skipped = skipped.Add(step) {
				due = due || fits(skipped) && !shown[skipped]
				shown[skipped] = true
			}
		}
		if due {
			runs = append(runs, at.In(loc))
		}
	}
	return runs
}

// A fixed time comes once on each day of the calendar, through all changes of a
// few years.
func TestFixedTimesComeOnceADay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		zone := rapid.SampledFrom(changes).Draw(t, "zone").zone
		hour, minute := rapid.IntRange(0, 23).Draw(t, "hour"), rapid.IntRange(0, 59).Draw(t, "minute")
		s := schedule(t, fmt.Sprintf("%d %d * * *", minute, hour), zone)
		year := rapid.SampledFrom([]int{1991, 2009, 2014, 2026, 2094}).Draw(t, "year")
		day := time.Date(year, 1, 1, hour, minute, 0, 0, time.UTC)
		at := s.Next(time.Date(year, 1, 1, 0, 0, 0, 0, s.loc).Add(-time.Second))
		for range 3 * 365 {
			_, offset := at.Zone()
			late := at.Add(time.Duration(offset) * time.Second).Sub(day)
			if late != 0 {
				_, before := at.Add(-time.Second).Zone()
				if skip := time.Duration(offset-before) * time.Second; late < 0 || late > skip {
					t.Fatalf("%02d:%02d in %s: %v for %v", hour, minute, zone, at, day)
				}
			}
			at, day = s.Next(at), day.AddDate(0, 0, 1)
		}
	})
}

// Days are those that gronx names, for any fields.
func TestScheduleDaysAreGronxs(t *testing.T) {
	days := rapid.SampledFrom([]string{"*", "?", "1", "31", "L", "15W", "1W,30W", "*/5", "10-20/3", "13,L", "29-31"})
	weekdays := rapid.SampledFrom([]string{"*", "?", "0", "7", "1-5", "6-7", "7-2", "*/2", "5L", "0L,3", "1#1", "7#5", "2#3,4"})
	months := rapid.SampledFrom([]string{"*", "2", "*/3", "2,4,6", "JAN-MAR", "12"})
	years := rapid.SampledFrom([]string{"*", "2027-2031", "*/4", "2028", "2026,2030"})
	rapid.Check(t, func(t *rapid.T) {
		expr := fmt.Sprintf("0 0 12 %s %s %s %s", days.Draw(t, "day"), months.Draw(t, "month"), weekdays.Draw(t, "weekday"), years.Draw(t, "year"))
		s := schedule(t, expr, "UTC")
		fields, _ := spec.ScheduleFields(expr)
		g := gronx.New()
		from := time.Date(2024, 1, 1, 12, 0, 0, 0, time.UTC).AddDate(0, 0, rapid.IntRange(0, 3000).Draw(t, "from"))
		next := s.Next(from)
		for at := from.AddDate(0, 0, 1); at.Before(from.AddDate(3, 0, 0)); at = at.AddDate(0, 0, 1) {
			g.C.SetRef(at)
			due, err := g.SegmentsDue(fields)
			if err != nil {
				t.Fatal(err)
			}
			if due != at.Equal(next) {
				t.Fatalf("%s: %v fits: %v; next run %v", expr, at, due, next)
			}
			if due {
				next = s.Next(next)
			}
		}
	})
}

func BenchmarkScheduleNext(b *testing.B) {
	for _, c := range [][2]string{
		{"* * * * *", "UTC"}, {"*/5 * * * *", "Europe/Berlin"}, {"30 2 * * *", "Europe/Berlin"}, {"0 0 L * *", "America/New_York"},
		{"*/5 * */29 2 MON", "Europe/Berlin"}, {"0 0 1 1 * 9999", "Europe/Berlin"}, {"0 0 30 2 * 1970-9999", "Europe/Berlin"},
	} {
		b.Run(strings.NewReplacer(" ", "_", "/", "÷").Replace(c[0]), func(b *testing.B) {
			s := schedule(b, c[0], c[1])
			start := mustTime(b, "2026-03-28T12:00:00Z")
			b.ReportAllocs()
			at := start
			for b.Loop() {
				if at = s.Next(at); at.IsZero() {
					at = start
				}
			}
		})
	}
}

func BenchmarkParseSchedule(b *testing.B) {
	for _, expr := range []string{"*/5 * * * *", "0 3 * * MON-FRI", "0 3 15W * 5L", "0 0 1 1 * 2026-2030"} {
		b.Run(strings.NewReplacer(" ", "_", "/", "÷").Replace(expr), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				schedule(b, expr, "Europe/Berlin")
			}
		})
	}
}
