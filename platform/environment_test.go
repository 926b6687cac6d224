package platform

import (
	"runtime"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestEnvironment(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("PWD and paths are Unix's")
	}
	base := []string{"A=1", "HOME=/root", "USER=root", "B=1", "B=2", "EMPTY=", "=bad", "bad",
		"NOTIFY_SOCKET=/x", "LISTEN_FDS=1", "LISTEN_PID=1", "WATCHDOG_USEC=1", "WATCHDOG_PID=1", "INVOCATION_ID=1", "JOURNAL_STREAM=1",
		"SYSPULSE_DATA_DIR=/x", "SYSPULSE_INCARNATION=old", "NOTIFY_SOCKETS=kept", "PWD=/root"}
	a := &Account{Name: "web", Home: "/var/web", Shell: "/bin/false"}
	got := Environment(base, a, "/srv", map[string]string{"A": "file", "C": "file"}, map[string]string{"C": "env", "HOME": "/mine", "D": ""})
	want := []string{"A=file", "HOME=/mine", "USER=web", "B=2", "EMPTY=", "NOTIFY_SOCKETS=kept", "PWD=/srv", "LOGNAME=web", "SHELL=/bin/false", "C=env", "D="}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant\n%q", got, want)
	}
	if got := Environment([]string{"PWD=/root"}, nil, ""); !slices.Equal(got, []string{"PWD=/root"}) {
		t.Errorf("%q", got)
	}
}

// Whatever the layers hold, the last one that sets a name wins, and each name is
// there once.
func TestEnvironmentLayers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom([]string{"A", "B", "C", "D", "HOME", "PATH"})
		layers := rapid.SliceOfN(rapid.MapOf(name, rapid.StringMatching(`[a-z=]{0,4}`)), 0, 4).Draw(t, "layers")
		env := Environment([]string{"A=base", "PATH=base"}, nil, "", layers...)
		want := map[string]string{"A": "base", "PATH": "base"}
		for _, l := range layers {
			for k, v := range l {
				want[k] = v
			}
		}
		if len(env) != len(want) {
			t.Fatalf("%q, want %q", env, want)
		}
		for k, v := range want {
			if got, ok := lookupEnv(env, k); !ok || got != v {
				t.Fatalf("%s=%q, want %q", k, got, v)
			}
		}
	})
}
