package spec

import (
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // hosts without a zone database know every zone_name, too

	"github.com/adhocore/gronx"
)

// cron(8) knows @midnight, gronx only its twin @daily. Whoever parses a
// schedule with gronx must know it, so it is added there.
var _ = gronx.AddTag("@midnight", "0 0 * * *")

// scheduleNames are gronx's tags in the order to suggest them.
var scheduleNames = []string{
	"@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually",
	"@5minutes", "@10minutes", "@15minutes", "@30minutes", "@always", "@everysecond",
}

// ScheduleFields splits a cron expression into its fields in gronx's order:
// second, minute, hour, day of month, month, weekday and, if it is given, year.
// Names are resolved: months and weekdays are numbers. It doesn't check them.
func ScheduleFields(expr string) ([]string, error) {
	fields, err := gronx.Segments(strings.Join(strings.Fields(expr), " "))
	if err != nil {
		return nil, fmt.Errorf("schedule %s: %w", quote(expr), err)
	}
	return fields, nil
}

// CheckSchedule says what is wrong with a cron expression in a time zone (""
// is the local one), nil if nothing is. One that doesn't fire at or after now
// is wrong.
func CheckSchedule(expr, timezone string, now time.Time) error {
	loc := time.Local
	if timezone != "" {
		var msg, hint string
		if loc, msg, hint = zone(timezone); loc == nil {
			return errors.New("time zone " + msg + "; " + hint)
		}
	}
	if msg, hint, _ := checkSchedule(expr, loc, now); msg != "" {
		return errors.New("schedule " + msg + "; " + hint)
	}
	return nil
}

// zone loads an IANA time zone.
func zone(name string) (loc *time.Location, msg, hint string) {
	const want = `write an IANA name such as "Europe/Berlin" or "UTC"`
	if name == "" || strings.EqualFold(name, "local") {
		return nil, fmt.Sprintf("%s is not a time zone", quote(name)), "leave the key out for the manager's local time, or " + want
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		if near := nearestZone(name); near != "" {
			return nil, fmt.Sprintf("%s is not a known time zone", quote(name)), fmt.Sprintf("did you mean %q?", near)
		}
		return nil, fmt.Sprintf("%s is not a known time zone", quote(name)), want
	}
	return loc, "", ""
}

// zoneNames are those of the zone database that Go embeds, for hints.
//
//go:embed zones.txt
var zoneNames string

func nearestZone(name string) string {
	zones := strings.Fields(zoneNames)
	for _, z := range zones { // a city alone is what people know
		if city := z[strings.LastIndexByte(z, '/')+1:]; strings.Contains(z, "/") && squash(city) == squash(name) {
			return z
		}
	}
	return Nearest(name, zones)
}

// cronField is what one field may hold.
type cronField struct {
	name     string
	min, max int
	names    []string // from min on
}

var cronFields = []cronField{
	{"second", 0, 59, nil},
	{"minute", 0, 59, nil},
	{"hour", 0, 23, nil},
	{"day of month", 1, 31, nil},
	{"month", 1, 12, []string{"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}},
	{"weekday", 0, 7, []string{"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}},
	{"year", 1970, 9999, nil},
}

// The fields by their place in gronx's order.
const (
	cronSecond = iota
	cronMinute
	cronHour
	cronDay
	cronMonth
	cronWeekday
	cronYear
)

var (
	cronRange  = regexp.MustCompile(`^(?:(\*|\?)|([0-9A-Z]+)(?:-([0-9A-Z]+))?)(?:/(.*))?$`)
	cronYearly = regexp.MustCompile(`^\d{4}([-,/]|$)|^[*?]/\d{4}$`)
)

// checkSchedule returns what is wrong and what would be right, and whether the
// expression itself is at fault rather than its never firing.
func checkSchedule(expr string, loc *time.Location, now time.Time) (msg, hint string, syntax bool) {
	trimmed := strings.Join(strings.Fields(expr), " ")
	if strings.HasPrefix(trimmed, "@") {
		if !slices.Contains(scheduleNames, strings.ToLower(trimmed)) {
			msg, hint = unknownScheduleName(trimmed)
			return msg, hint, true
		}
	} else {
		// gronx stops at the first part of a list that is due, so that what it
		// finds wrong would depend on the time of day: look at each part here.
		if msg, hint = checkFields(strings.ToUpper(trimmed)); msg != "" {
			return msg, hint, true
		}
	}
	if !gronx.IsValid(trimmed) {
		return fmt.Sprintf("%s is not a cron expression", quote(expr)), `write five fields, such as "*/5 * * * *"`, true
	}
	fields, err := ScheduleFields(trimmed)
	if err != nil {
		return err.Error(), `write five fields, such as "*/5 * * * *"`, true
	}
	return fires(expr, fields, now.In(loc))
}

func unknownScheduleName(expr string) (msg, hint string) {
	lower := strings.ToLower(expr)
	msg = quote(expr) + " is not a known schedule"
	switch {
	case strings.HasPrefix(lower, "@reboot"), strings.HasPrefix(lower, "@startup"), strings.HasPrefix(lower, "@boot"):
		return msg, "a daemon that is to run once when the manager starts has no schedule but autostart = true"
	case strings.HasPrefix(lower, "@every"):
		if d, err := time.ParseDuration(strings.TrimSpace(lower[len("@every"):])); err == nil {
			switch {
			case d >= time.Second && d < time.Minute && time.Minute%d == 0:
				return msg, fmt.Sprintf(`write "*/%d * * * * *"`, int(d.Seconds()))
			case d >= time.Minute && d < time.Hour && time.Hour%d == 0:
				return msg, fmt.Sprintf(`write "*/%d * * * *"`, int(d.Minutes()))
			case d >= time.Hour && d < 24*time.Hour && (24*time.Hour)%d == 0:
				return msg, fmt.Sprintf(`write "0 */%d * * *"`, int(d.Hours()))
			}
		}
		return msg, `write it as fields: "*/5 * * * *" is every five minutes`
	}
	if near := Nearest(lower, scheduleNames); near != "" {
		return msg, fmt.Sprintf("did you mean %q?", near)
	}
	return msg, "known are " + strings.Join(scheduleNames[:6], ", ")
}

// checkFields looks at each part of each field, in upper case.
func checkFields(expr string) (msg, hint string) {
	const order = "minute hour day month weekday"
	fields := strings.Fields(expr)
	at := cronMinute // what the first field is
	switch n := len(fields); {
	case n == 0:
		return "is empty", `write five fields (` + order + `), or a name such as "@daily"`
	case n == 6 && !cronYearly.MatchString(fields[5]), n == 7:
		at = cronSecond
	case n < 5 || n > 7:
		return fmt.Sprintf("has %d fields", n), "write five (" + order + "), six (second first, or a four-digit year last) or seven (second first, year last)"
	}
	for i, f := range fields {
		pos := at + i
		if msg, hint := checkField(f, pos); msg != "" {
			if len(fields) == 6 {
				if at == cronSecond {
					hint += "; of six fields the first is the second, unless the last is a year of four digits"
				} else {
					hint += "; of six fields the last is the year here, since it has four digits, and the first the minute"
				}
			}
			return fmt.Sprintf("field %d (%s) is %s: %s", i+1, cronFields[pos].name, quote(f), msg), hint
		}
	}
	return "", ""
}

func checkField(f string, pos int) (msg, hint string) {
	cf := cronFields[pos]
	hint = fmt.Sprintf("write *, */n, or numbers from %d to %d, their ranges and lists", cf.min, cf.max)
	if cf.names != nil {
		hint += fmt.Sprintf(", or names such as %s", cf.names[0])
	}
	for _, part := range strings.Split(f, ",") {
		if part == "" {
			return "an entry of the list is missing", hint
		}
		if special(part, pos) {
			continue
		}
		m := cronRange.FindStringSubmatch(part)
		if m == nil {
			return fmt.Sprintf("%s is not understood", quote(part)), hint
		}
		if strings.Contains(part, "/") {
			n, err := strconv.Atoi(m[4])
			if err != nil || n <= 0 || m[4][0] == '+' {
				return fmt.Sprintf("the step %s is not a number from 1", quote(m[4])), hint
			}
			if m[1] == "?" {
				return "? takes no step", "write */" + m[4]
			}
		}
		if m[1] != "" {
			continue
		}
		low, ok := cronValue(m[2], cf)
		if !ok {
			return fmt.Sprintf("%s is not from %d to %d", m[2], cf.min, cf.max), hint
		}
		if m[3] == "" {
			continue
		}
		high, ok := cronValue(m[3], cf)
		if !ok {
			return fmt.Sprintf("%s is not from %d to %d", m[3], cf.min, cf.max), hint
		}
		if pos == cronWeekday && low == 7 && high != 7 {
			low = 0
		}
		if high < low {
			if pos == cronWeekday && high == 0 {
				return "the range ends before it begins", fmt.Sprintf("a Sunday at the end is 7: %s-7", m[2])
			}
			return "the range ends before it begins", fmt.Sprintf("write two: %s-%d,%d-%s", m[2], cf.max, cf.min, m[3])
		}
	}
	return "", ""
}

func cronValue(s string, f cronField) (int, bool) {
	if i := slices.Index(f.names, s); i >= 0 {
		return f.min + i, true
	}
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= f.min && n <= f.max
}

var (
	cronNearestDay = regexp.MustCompile(`^(\d{1,2})W$`)
	cronLastOf     = regexp.MustCompile(`^([0-9A-Z]+)L$`)
	cronNthOf      = regexp.MustCompile(`^([0-9A-Z]+)#([1-5])$`)
)

// special are the forms that only days know: L, 15W, FRIL, MON#2.
func special(part string, pos int) bool {
	cf := cronFields[pos]
	valid := func(m []string) bool {
		if m == nil {
			return false
		}
		_, ok := cronValue(m[1], cf)
		return ok
	}
	switch pos {
	case cronDay:
		return part == "L" || valid(cronNearestDay.FindStringSubmatch(part))
	case cronWeekday:
		return valid(cronLastOf.FindStringSubmatch(part)) || valid(cronNthOf.FindStringSubmatch(part))
	}
	return false
}

// fires looks for a time at or after now that fits. gronx decides what fits;
// its own search for the next time gives up too early to prove that there is
// none.
func fires(expr string, fields []string, now time.Time) (msg, hint string, syntax bool) {
	c := &gronx.SegmentChecker{}
	due := func(pos int, t time.Time) bool {
		c.SetRef(t)
		ok, err := c.CheckDue(fields[pos], pos)
		return ok && err == nil
	}
	any := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	lateToday := false // a time of day that is still to come
	some := true
	var last [3]int // the latest hour, minute and second
	for pos, n := range map[int]int{cronSecond: 60, cronMinute: 60, cronHour: 24} {
		unit := []time.Duration{time.Second, time.Minute, time.Hour}[pos]
		latest := -1
		for v := range n {
			if due(pos, any.Add(time.Duration(v)*unit)) {
				latest = v
			}
		}
		some = some && latest >= 0
		last[cronHour-pos] = latest
	}
	lateToday = !slices.ContainsFunc(last[:], func(v int) bool { return v < 0 }) &&
		slices.Compare(last[:], []int{now.Hour(), now.Minute(), now.Second()}) >= 0

	never := fmt.Sprintf("%s can never fire", quote(expr))
	if !some {
		return never, "no time of day fits it", false
	}
	// Weekdays come round on 29 February within 40 years at most (across a
	// year such as 2100); days alone matter from here on.
	days := append([]string{"*", "*", "*"}, fields[cronDay:]...)
	g := &gronx.Gronx{C: c}
	today := time.Date(now.Year(), now.Month(), now.Day(), 12, 0, 0, 0, time.UTC)
	years := 0
	for y := now.Year(); y <= cronFields[cronYear].max && years <= 44; y++ {
		first := time.Date(y, 1, 1, 12, 0, 0, 0, time.UTC)
		if len(fields) > cronYear && !due(cronYear, first) {
			continue
		}
		years++
		for t := first; t.Year() == y; t = t.AddDate(0, 0, 1) {
			if !due(cronMonth, t) {
				t = time.Date(y, t.Month()+1, 0, 12, 0, 0, 0, time.UTC)
				continue
			}
			if t.Before(today) || t.Equal(today) && !lateToday {
				continue
			}
			c.SetRef(t)
			if ok, err := g.SegmentsDue(days); ok && err == nil {
				return "", "", false
			}
		}
	}
	switch {
	case len(fields) > cronYear && years == 0:
		return never, fmt.Sprintf("its year %s is over; the last field is the year", quote(fields[cronYear])), false
	case len(fields) > cronYear:
		return never + " any more", "no day from now on fits it: look at day, month and year", false
	}
	return never, "no day fits it: look at day and month", false
}
