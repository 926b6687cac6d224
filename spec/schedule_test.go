package spec

import (
	"strings"
	"testing"
	"time"

	"github.com/adhocore/gronx"
	"pgregory.net/rapid"
)

func TestSchedulesThatAreFine(t *testing.T) {
	for _, expr := range []string{
		"* * * * *", "*/5 * * * *", "0 3 * * *", "0 0 1,15 * *", "0 9-17/2 * * MON-FRI", "5/10 * * * *", "0 0 ? * 5-7", "0 0 * JAN-mar sun",
		"  0\t0  * *  * ", "30 0 0 * * *", "*/10 * * * * *", "0 0 0 1 1 * 2099", "0 0 1 1 * 2099", "0 0 1 1 * 2026-2030", "0 0 1 1 * */2000",
		"0 0 L * *", "0 0 15W * *", "0 0 * * 5L", "0 0 * * FRIL", "0 0 * * MON#2", "0 0 * * 7#1", "0 0 * * 7", "0 0 * * 7-3",
		"@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually", "@DAILY", "@5minutes", "@always", "@everysecond",
		"0 0 29 2 *", "0 0 29 2 */1", "0 0 31 * *", "0 0 30 2 1", // a weekday beside a day: either
	} {
		if err := CheckSchedule(expr, "", someday); err != nil {
			t.Errorf("%s: %v", expr, err)
		}
		fields, err := ScheduleFields(expr)
		if err != nil || len(fields) < 6 || len(fields) > 7 {
			t.Errorf("%s: fields %q, %v", expr, fields, err)
		}
	}
}

func TestSchedulesThatAreOver(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 30, 15, 0, time.UTC)
	for expr, over := range map[string]bool{
		"0 0 1 1 * 2026":       true,
		"30 12 1 7 * 2026":     true, // at :00
		"15 30 12 1 7 * 2026":  false,
		"14 30 12 1 7 * 2026":  true,
		"31 12 1 7 * 2026":     false,
		"* * 1 7 * 2026":       false,
		"0 0 2 7 * 2026":       false,
		"59 11 1 7 * 2026":     true,
		"0 0 * * * 2025":       true,
		"0 0 * * * 2025,2027":  false,
		"0 0 29 2 * 2027-2027": true,
		"0 0 29 2 MON 2027":    false,
		"0 0 31 2,4 *":         true,
		"0 0 29 2 *":           false,
		"0 0 31W 2 *":          true,
		"0 0 * * *":            false,
	} {
		err := CheckSchedule(expr, "UTC", now)
		if (err != nil) != over {
			t.Errorf("%s: %v", expr, err)
		}
		if over && !strings.Contains(err.Error(), "can never fire") {
			t.Errorf("%s: %v", expr, err)
		}
	}
	// The time zone decides what is over.
	if err := CheckSchedule("30 14 1 7 * 2026", "Europe/Berlin", now); err == nil {
		t.Error("14:30 in Berlin is over at 12:30:15 UTC")
	}
	if err := CheckSchedule("31 14 1 7 * 2026", "Europe/Berlin", now); err != nil {
		t.Error(err)
	}
	if err := CheckSchedule("* * * * *", "Nowhere/Land", now); err == nil {
		t.Error("accepted an unknown zone")
	}
}

// What gronx finds a time for can't be something that never fires, and what is
// accepted here gronx can read at any time.
func TestSchedulesAgreeWithGronx(t *testing.T) {
	part := func(low, high int) *rapid.Generator[string] {
		n := rapid.Custom(func(t *rapid.T) string { return itoa(rapid.IntRange(low-1, high+1).Draw(t, "n")) })
		return rapid.Custom(func(t *rapid.T) string {
			switch rapid.IntRange(0, 6).Draw(t, "form") {
			case 0, 1:
				return "*"
			case 2:
				return "*/" + itoa(rapid.IntRange(0, 7).Draw(t, "step"))
			case 3:
				return n.Draw(t, "a") + "-" + n.Draw(t, "b")
			case 4:
				return n.Draw(t, "a") + "," + n.Draw(t, "b")
			case 5:
				return n.Draw(t, "a") + "-" + n.Draw(t, "b") + "/" + itoa(rapid.IntRange(1, 7).Draw(t, "step"))
			}
			return n.Draw(t, "a")
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		fields := []string{}
		if rapid.Bool().Draw(t, "seconds") {
			fields = append(fields, part(0, 59).Draw(t, "second"))
		}
		fields = append(fields, part(0, 59).Draw(t, "minute"), part(0, 23).Draw(t, "hour"), part(1, 31).Draw(t, "day"),
			part(1, 12).Draw(t, "month"), part(0, 7).Draw(t, "weekday"))
		if rapid.Bool().Draw(t, "year") {
			fields = append(fields, part(2025, 2035).Draw(t, "year"))
		}
		expr := strings.Join(fields, " ")
		now := someday.Add(time.Duration(rapid.Int64Range(0, 1e9).Draw(t, "later")) * time.Second)
		err := CheckSchedule(expr, "UTC", now)
		if err == nil && !gronx.IsValid(expr) {
			t.Fatalf("%s: gronx refuses it", expr)
		}
		if err == nil || !strings.Contains(err.Error(), "can never fire") {
			return
		}
		next, gerr := gronx.NextTickAfter(expr, now, true)
		if gerr == nil {
			if due, derr := gronx.New().IsDue(expr, next); due && derr == nil && !next.Before(now) {
				t.Fatalf("%s: gronx finds %v, and %v", expr, next, err)
			}
		}
	})
}

func FuzzSchedule(f *testing.F) {
	for _, s := range []string{"* * * * *", "0 0 30 2 *", "@every 5m", "0 0 L * FRI#2 2030", "1,2-3/4 ? 15W JAN 5L"} {
		f.Add(s, "UTC")
	}
	f.Add("@daily", "Europe/Berlin")
	f.Fuzz(func(t *testing.T, expr, zone string) {
		err := CheckSchedule(expr, zone, someday)
		if err == nil && !gronx.IsValid(expr) {
			t.Fatalf("%q: gronx refuses it", expr)
		}
		if err == nil {
			if _, err := ScheduleFields(expr); err != nil {
				t.Fatal(err)
			}
		} else if strings.TrimSpace(strings.SplitN(err.Error(), ";", 2)[0]) == "" {
			t.Fatalf("no message: %v", err)
		}
	})
}

func TestZoneNamesLoad(t *testing.T) {
	for _, z := range strings.Fields(zoneNames) {
		if _, err := time.LoadLocation(z); err != nil {
			t.Error(err)
		}
	}
}
