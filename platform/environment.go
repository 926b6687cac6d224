package platform

import (
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// Account is an operating-system account to run a process as.
type Account struct {
	Name   string
	UID    uint32
	GID    uint32
	Groups []uint32 // supplementary groups
	Home   string
	Shell  string
}

// managerOnly are the variables that tell a process about its own service
// manager. A daemon that read those of the manager would talk to the wrong one.
var managerOnly = []string{"NOTIFY_SOCKET", "INVOCATION_ID", "JOURNAL_STREAM"}
var managerOnlyPrefixes = []string{"LISTEN_", "WATCHDOG_", "SYSPULSE_"}

// Environment builds the environment of a daemon. From beneath to the top:
// base, the manager's environment without what concerns the manager alone; HOME,
// USER, LOGNAME and SHELL of the account, if there is one; PWD, if dir is not
// empty; the layers, of which the later ones win. Every name is there once.
func Environment(base []string, account *Account, dir string, layers ...map[string]string) []string {
	env := make([]string, 0, len(base)+8)
	at := make(map[string]int, len(base)+8)
	set := func(name, value string) {
		k := key(name)
		if i, ok := at[k]; ok {
			env[i] = name + "=" + value
			return
		}
		at[k] = len(env)
		env = append(env, name+"="+value)
	}
	for _, kv := range base {
		// Windows has names that begin with "=": its current directories per drive.
		i := strings.IndexByte(kv, '=')
		if i == 0 {
			i = strings.IndexByte(kv[1:], '=') + 1
		}
		if i <= 0 || isManagerOnly(kv[:i]) {
			continue
		}
		set(kv[:i], kv[i+1:])
	}
	if account != nil {
		set("HOME", account.Home)
		set("USER", account.Name)
		set("LOGNAME", account.Name)
		set("SHELL", account.Shell)
	}
	if dir != "" && runtime.GOOS != "windows" {
		if abs, err := filepath.Abs(dir); err == nil {
			set("PWD", abs)
		}
	}
	for _, layer := range layers {
		for _, name := range slices.Sorted(maps.Keys(layer)) {
			set(name, layer[name])
		}
	}
	return env
}

func isManagerOnly(name string) bool {
	name = key(name)
	if slices.Contains(managerOnly, name) {
		return true
	}
	return slices.ContainsFunc(managerOnlyPrefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

// key is what two spellings of one name have in common.
func key(name string) string {
	if runtime.GOOS == "windows" {
		return strings.ToUpper(name)
	}
	return name
}

// lookupEnv is os.LookupEnv on a list; the last entry counts.
func lookupEnv(env []string, name string) (string, bool) {
	for _, kv := range slices.Backward(env) {
		if k, v, ok := strings.Cut(kv, "="); ok && key(k) == key(name) {
			return v, true
		}
	}
	return "", false
}

// marked is env with the incarnation mark in front, where it is found without
// reading the rest.
func marked(env []string, incarnation string) []string {
	out := make([]string, 1, len(env)+1)
	out[0] = IncarnationVariable + "=" + incarnation
	for _, kv := range env {
		if k, _, _ := strings.Cut(kv, "="); key(k) != IncarnationVariable {
			out = append(out, kv)
		}
	}
	return out
}
