package supervision

import (
	"fmt"
	"math"
	"math/bits"
	"strings"
	"sync"
	"time"

	"github.com/adhocore/gronx"

	"github.com/cyber-boost/syspulse/spec"
)

// Schedule is a cron expression in a time zone. It never changes, so it may be
// used concurrently.
//
// What a field matches is gronx's to say, and it is asked once, when the
// expression is parsed. When the runs are is decided here, by two rules:
//
//   - An expression with * or / (or ?, the same as *) in its hour or minute
//     follows real time: it runs at each instant whose time of day fits. Where
//     clocks are put back the times shown twice are run at twice, and what is
//     skipped where they are put forward doesn't exist.
//   - Any other has fixed times, each of which comes once: it runs at the first
//     instant at which the zone's clock shows that time or a later one. So what a
//     change of the clock skips runs at the instant of the change (several skipped
//     times are one run there), and of two instants that show the same time the
//     first one counts.
//
// A change is any change of the zone's offset from UTC, whatever its size and
// whether the zone database calls it daylight saving time: a country that moves
// across the date line skips the runs of a day just so.
type Schedule struct {
	loc  *time.Location
	real bool // follows real time

	// Bit n: the value n fits.
	seconds, minutes, hours, months uint64
	years                           []uint64 // nil: all of them

	// days are the days that fit in a month that begins on this weekday (Sunday
	// is 0) and has 28 and so many days. Bit n: day n.
	days [7][4]uint32
	// kinds are the years with a day that fits, by length and weekday of 1
	// January: bit 2*weekday, and one more in a leap year.
	kinds uint16
}

// lastYear is the last one that a schedule can name.
const lastYear = 9999

// ParseSchedule reads an expression that [spec.CheckSchedule] has nothing
// against, for an IANA time zone; "" is the local one. The error is about an
// expression that isn't cron's or a zone that isn't known.
func ParseSchedule(expr, timezone string) (*Schedule, error) {
	fields, err := spec.ScheduleFields(expr)
	if err != nil {
		return nil, err
	}
	s := &Schedule{loc: time.Local}
	if timezone != "" {
		if s.loc, err = time.LoadLocation(timezone); err != nil {
			return nil, fmt.Errorf("schedule %q: time zone %q: %w", expr, timezone, err)
		}
	}
	s.real = strings.ContainsAny(fields[1]+fields[2], "*/?")

	g := gronx.New()
	fits := func(pos int, t time.Time) bool {
		g.C.SetRef(t)
		ok, ferr := g.C.CheckDue(fields[pos], pos)
		if ferr != nil && err == nil {
			err = fmt.Errorf("schedule %q: %w", expr, ferr)
		}
		return ok
	}
	for n := range 60 {
		t := time.Date(2000, 1, 1, n%24, n, n, 0, time.UTC)
		s.seconds |= bit(fits(0, t)) << n
		s.minutes |= bit(fits(1, t)) << n
		s.hours |= bit(n < 24 && fits(2, t)) << n
	}
	for n := 1; n <= 12; n++ {
		s.months |= bit(fits(4, time.Date(2000, time.Month(n), 1, 0, 0, 0, 0, time.UTC))) << n
	}
	if len(fields) > 6 && fields[6] != "*" && fields[6] != "?" {
		s.years = make([]uint64, lastYear/64+1)
		for y := 1970; y <= lastYear; y++ {
			s.years[y/64] |= bit(fits(6, time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC))) << (y % 64)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := s.askDays(g, fields[3], fields[5]); err != nil {
		return nil, fmt.Errorf("schedule %q: %w", expr, err)
	}
	return s, nil
}

// askDays asks which days fit. Both fields are asked at once, because a day of
// the month and a weekday, when both are given, mean either (cron(8)).
func (s *Schedule) askDays(g *gronx.Gronx, monthDay, weekday string) error {
	segments := []string{"*", "*", "*", monthDay, "*", weekday}
	every := (monthDay == "*" || monthDay == "?") && (weekday == "*" || weekday == "?")
	// Only these forms depend on the length of the month.
	special := strings.ContainsAny(monthDay+weekday, "LW#")
	for first, lengths := range sampleMonths() {
		for longer := 3; longer >= 0; longer-- {
			if longer < 3 && !special {
				s.days[first][longer] = s.days[first][3] & (1<<(29+longer) - 1)
				continue
			}
			for d := 1; d <= 28+longer; d++ {
				ok := every
				if !every {
					g.C.SetRef(lengths[longer].AddDate(0, 0, d-1))
					var err error
					if ok, err = g.SegmentsDue(segments); err != nil {
						return err
					}
				}
				s.days[first][longer] |= uint32(bit(ok)) << d
			}
		}
	}
	for kind := range 14 {
		for m := 1; m <= 12; m++ {
			start, length := monthIn(kind&1, m)
			if s.months>>m&1 != 0 && s.days[(kind/2+start)%7][length-28] != 0 {
				s.kinds |= 1 << kind
			}
		}
	}
	return nil
}

// sampleMonths are the first days of a month of each weekday to begin on, and of
// 28 days and so many more.
var sampleMonths = sync.OnceValue(func() (months [7][4]time.Time) {
	for t := time.Date(2000, 1, 1, 12, 0, 0, 0, time.UTC); t.Year() < 2028; t = t.AddDate(0, 1, 0) {
		months[t.Weekday()][t.AddDate(0, 1, -1).Day()-28] = t
	}
	return months
})

// Next returns the first run after the given time, the zero time if there is
// none. Runs are at whole seconds, in the schedule's zone.
func (s *Schedule) Next(after time.Time) time.Time {
	next := s.nextFixed
	if s.real {
		next = s.nextReal
	}
	at, ok := next(after.Unix())
	if !ok {
		return time.Time{}
	}
	return time.Unix(at, 0).In(s.loc)
}

// In what follows an instant is counted in seconds since 1970 UTC, and what the
// clock of the zone shows, a reading, as the instant at which a clock in UTC
// shows it. A reading minus the offset of the zone is the instant.

// spread is more than two offsets ever differ by, and than any one is: they were
// up to 16 hours before time zones.
const spread = 48 * 60 * 60

// nextReal looks at one period of constant offset after the other.
func (s *Schedule) nextReal(after int64) (int64, bool) {
	for t := after + 1; ; {
		offset, end := s.period(t)
		reading, ok := s.nextReading(t + offset)
		if ok && reading-offset < end {
			return reading - offset, true
		}
		// No later period goes back behind t's own reading if it begins late
		// enough: then nothing fits before that reading.
		if far := end-t >= spread; far && !ok {
			return 0, false
		} else if far {
			end = max(end, reading-spread)
		}
		t = end
	}
}

// nextFixed looks for the first reading that fits and wasn't reached yet, and for
// the instant that reaches it.
func (s *Schedule) nextFixed(after int64) (int64, bool) {
	reached := int64(math.MinInt64)
	for t := after - spread; t <= after; {
		offset, end := s.period(t)
		reached = max(reached, min(end-1, after)+offset)
		t = end
	}
	reading, ok := s.nextReading(reached + 1)
	if !ok {
		return 0, false
	}
	for t := max(after+1, reading-spread); ; {
		offset, end := s.period(t)
		if at := max(t, reading-offset); at < end {
			return at, true
		}
		t = end
	}
}

// period returns the zone's offset at t and an instant after t until which it
// stays.
func (s *Schedule) period(t int64) (offset, end int64) {
	at := time.Unix(t, 0).In(s.loc)
	_, seconds := at.Zone()
	_, until := at.ZoneBounds()
	if until.IsZero() {
		return int64(seconds), math.MaxInt64
	}
	end = until.Unix()
	if end <= t {
		// Where only a rule tells the future, package time ends each year's last
		// period after 365 days, before the last day of a leap year.
		end = t - mod(t, daySeconds) + daySeconds
	}
	return int64(seconds), end
}

const daySeconds = 24 * 60 * 60

// nextReading returns the first reading not before the given one that fits.
func (s *Schedule) nextReading(reading int64) (int64, bool) {
	reading = max(reading, yearStart(1)*daySeconds)
	year, month, day := time.Unix(reading, 0).UTC().Date()
	clock, ok := s.nextClock(int(mod(reading, daySeconds)))
	if !ok {
		day++
	}
	found, ok := s.nextDay(year, int(month), day)
	if !ok {
		return 0, false
	}
	if found*daySeconds > reading {
		if clock, ok = s.nextClock(0); !ok {
			return 0, false
		}
	}
	return found*daySeconds + int64(clock), true
}

// nextClock returns the first time of a day that fits, in seconds from its
// beginning, not before the given one.
func (s *Schedule) nextClock(from int) (int, bool) {
	hour, minute, second := from/3600, from/60%60, from%60
	// Whatever doesn't fit carries over into the next greater unit, and the
	// smaller ones begin anew.
	if s.hours>>hour&1 == 0 {
		minute, second = 60, 60
	} else if s.minutes>>minute&1 == 0 {
		second = 60
	}
	if s.seconds>>second == 0 {
		minute, second = minute+1, 0
	}
	if s.minutes>>minute == 0 {
		hour, minute, second = hour+1, 0, 0
	}
	if s.hours>>hour == 0 || s.minutes == 0 || s.seconds == 0 {
		return 0, false
	}
	hour, minute, second = nextBit(s.hours, hour), nextBit(s.minutes, minute), nextBit(s.seconds, second)
	return hour*3600 + minute*60 + second, true
}

// nextDay returns the first day that fits, counted from 1970-01-01, not before
// the given one, which may be the day after its month's last.
func (s *Schedule) nextDay(year, month, day int) (int64, bool) {
	last := lastYear
	if s.years == nil {
		last = min(last, year+400) // then the calendar comes round
	}
	for ; year <= last; year, month, day = year+1, 1, 1 {
		if s.years != nil && s.years[year/64]>>(year%64)&1 == 0 {
			continue
		}
		first, leap := yearStart(year), int(yearStart(year+1)-yearStart(year)-365)
		weekday := int(mod(first+4, 7)) // 1970 began on a Thursday
		if s.kinds>>(2*weekday+leap)&1 == 0 {
			continue
		}
		for ; month <= 12; month, day = month+1, 1 {
			if s.months>>month&1 == 0 {
				continue
			}
			start, length := monthIn(leap, month)
			if days := s.days[(weekday+start)%7][length-28]; days>>day != 0 {
				return first + int64(start+nextBit(uint64(days), day)-1), true
			}
		}
	}
	return 0, false
}

// yearStart is the first day of a year of the Gregorian calendar, from 1 on,
// counted from 1970-01-01.
func yearStart(year int) int64 {
	y := int64(year) - 1
	return 365*y + y/4 - y/100 + y/400 - 719162
}

// monthIn returns how many days of its year come before a month, and its own; leap
// is 1 in a leap year.
func monthIn(leap, month int) (start, length int) {
	start, end := monthStarts[month-1], monthStarts[month]
	if month > 2 {
		start += leap
	}
	if month > 1 {
		end += leap
	}
	return start, end - start
}

var monthStarts = [13]int{0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365}

// nextBit is the lowest bit of set from the given one on; there must be one.
func nextBit(set uint64, from int) int { return from + bits.TrailingZeros64(set>>from) }

func bit(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// mod is the remainder that is never negative.
func mod(a, b int64) int64 { return (a%b + b) % b }
