package notify

import (
	"maps"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]parsed{
		"READY=1":                     {State: State{Ready: true}, alone: true},
		"READY=1\n":                   {State: State{Ready: true}, alone: true},
		"READY=1\x00":                 {State: State{Ready: true}, alone: true},
		"READY=0":                     {alone: true},
		"X_SOMETHING=1\nFDSTORE=1":    {},
		"nonsense":                    {alone: true},
		"READY=1\nSTATUS=up\nERRNO=2": {State: State{Ready: true, Status: "up", HasStatus: true, Errno: 2}},
		"STATUS=":                     {State: State{HasStatus: true}, alone: true},
		"STATUS=a=b":                  {State: State{HasStatus: true, Status: "a=b"}, alone: true},
		"STATUS=one\nSTATUS=two":      {State: State{HasStatus: true, Status: "one"}},
		"STATUS=a\x1b[31m\xffb\tc":    {State: State{HasStatus: true, Status: "a\ufffd[31m\ufffdb c"}, alone: true},
		// The last one counts.
		"READY=1\nSTOPPING=1":                      {State: State{Stopping: true}},
		"RELOADING=1\nMONOTONIC_USEC=5\nREADY=1":   {State: State{Ready: true, Since: 5 * time.Microsecond}},
		"RELOADING=1\nMONOTONIC_USEC=12":           {State: State{Reloading: true, Since: 12 * time.Microsecond}},
		"WATCHDOG=1":                               {State: State{Alive: true}, alone: true},
		"WATCHDOG=trigger":                         {State: State{Trigger: true}, alone: true},
		"WATCHDOG=2":                               {alone: true},
		"WATCHDOG_USEC=3000000":                    {State: State{Watchdog: 3 * time.Second, HasWatchdog: true}, alone: true},
		"WATCHDOG_USEC=0":                          {State: State{HasWatchdog: true}, alone: true},
		"WATCHDOG_USEC=-1":                         {alone: true},
		"EXTEND_TIMEOUT_USEC=18446744073709551615": {State: State{ExtendTimeout: math.MaxInt64 / 1000 * time.Microsecond}, alone: true},
		"EXTEND_TIMEOUT_USEC=18446744073709551616": {alone: true},
		"MAINPID=42\nMAINPID=43":                   {mainPID: 42},
		"MAINPID=0":                                {alone: true},
		"MAINPID=-5":                               {alone: true},
		"MAINPID=99999999999":                      {alone: true},
		"BARRIER=1":                                {barrier: true, alone: true},
		"BARRIER=1\nREADY=1":                       {State: State{Ready: true}, barrier: true},
		"BARRIER=0":                                {alone: true},
	} {
		got, err := parse([]byte(in))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q:\n got %+v, %v\nwant %+v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "\n\n", "\x00", "READY=1\x00\x00", "READY=1\x00STATUS=x"} {
		if got, err := parse([]byte(in)); err == nil {
			t.Errorf("%q: %+v", in, got)
		}
	}
	long, _ := parse([]byte("STATUS=" + strings.Repeat("ä", 2000)))
	if len(long.Status) != MaxStatus || !utf8.ValidString(long.Status) {
		t.Errorf("%d bytes of status", len(long.Status))
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"READY=1", "STATUS=x\nMAINPID=1", "BARRIER=1", "WATCHDOG=trigger\nWATCHDOG_USEC=9", "RELOADING=1\nMONOTONIC_USEC=1", "EXTEND_TIMEOUT_USEC=1\nERRNO=2", "\x00", "STATUS=\xff\x1b"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parse(b)
		if err != nil {
			if p != (parsed{}) {
				t.Fatalf("%v, and %+v", err, p)
			}
			return
		}
		if one := btoi(p.Ready) + btoi(p.Reloading) + btoi(p.Stopping); one > 1 {
			t.Fatalf("%+v", p)
		}
		if p.Since < 0 || p.Watchdog < 0 || p.ExtendTimeout < 0 || p.mainPID < 0 || p.Errno < 0 {
			t.Fatalf("%+v", p)
		}
		if len(p.Status) > MaxStatus || !utf8.ValidString(p.Status) || strings.ContainsFunc(p.Status, unicode.IsControl) || p.Status != "" && !p.HasStatus {
			t.Fatalf("%q", p.Status)
		}
		if p.barrier && p.alone && p.State != (State{}) {
			t.Fatalf("%+v", p)
		}
	})
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestEnv(t *testing.T) {
	if got := Env("@a", 0); !maps.Equal(got, map[string]string{"NOTIFY_SOCKET": "@a"}) {
		t.Error(got)
	}
	if got := Env("@a", 1500*time.Millisecond); !maps.Equal(got, map[string]string{"NOTIFY_SOCKET": "@a", "WATCHDOG_USEC": "1500000"}) {
		t.Error(got)
	}
}
