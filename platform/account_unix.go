//go:build unix

package platform

import (
	"errors"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
)

// LookupAccount finds the account that "user" or "user:group" means; both may
// be numeric ids. "" is nil, the manager's own. The error is a *StartError.
func LookupAccount(s string) (*Account, error) {
	if s == "" {
		return nil, nil
	}
	name, group, hasGroup := strings.Cut(s, ":")
	a := &Account{Home: "/", Shell: "/bin/sh"}
	u, err := lookupUser(name)
	switch {
	case err == nil:
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return nil, startError(StageUser, err, "user %q: %v", name, err)
		}
		a.Name, a.UID, a.GID, a.Home = u.Username, uint32(uid), uint32(gid), u.HomeDir
		a.Shell = shellOf(u.Username)
		if ids, err := u.GroupIds(); err == nil {
			for _, id := range ids {
				if n, err := strconv.ParseUint(id, 10, 32); err == nil {
					a.Groups = append(a.Groups, uint32(n))
				}
			}
		}
	case isUnknownUser(err):
		// An id without an account is fine for the kernel, but has no group.
		uid, err := strconv.ParseUint(name, 10, 32)
		if err != nil {
			return nil, startError(StageUser, err, "no such user: %q", name)
		}
		if !hasGroup {
			return nil, startError(StageUser, nil, "no account has the user id %s; write \"%s:GROUP\" to run under an id without one", name, name)
		}
		a.Name, a.UID = name, uint32(uid)
	default:
		return nil, startError(StageUser, err, "user %q could not be looked up: %v", name, err)
	}
	if hasGroup {
		gid, err := lookupGroup(group)
		if err != nil {
			return nil, err
		}
		a.GID = gid
	}
	// initgroups(3) puts the primary group among them, too.
	if !slices.Contains(a.Groups, a.GID) {
		a.Groups = append([]uint32{a.GID}, a.Groups...)
	}
	return a, nil
}

func lookupUser(name string) (*user.User, error) {
	u, err := user.Lookup(name)
	if isUnknownUser(err) && isNumber(name) {
		return user.LookupId(name)
	}
	return u, err
}

func isUnknownUser(err error) bool {
	var byName user.UnknownUserError
	var byID user.UnknownUserIdError
	return errors.As(err, &byName) || errors.As(err, &byID)
}

func lookupGroup(name string) (uint32, error) {
	g, err := user.LookupGroup(name)
	if err == nil {
		if n, err := strconv.ParseUint(g.Gid, 10, 32); err == nil {
			return uint32(n), nil
		}
	}
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(n), nil
	}
	return 0, startError(StageUser, err, "no such group: %q", name)
}

func isNumber(s string) bool {
	_, err := strconv.ParseUint(s, 10, 32)
	return err == nil
}

// shellOf reads /etc/passwd, because os/user keeps the shell to itself.
// Accounts that are elsewhere (LDAP, macOS) get the system's.
func shellOf(name string) string {
	data, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return "/bin/sh"
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Split(strings.TrimRight(line, "\n"), ":"); len(f) >= 7 && f[0] == name && f[6] != "" {
			return f[6]
		}
	}
	return "/bin/sh"
}

// who is the identity under which files are accessed.
type who struct {
	uid, gid uint32
	groups   []uint32
	name     string // for messages; empty for the manager's own
}

func whoIs(a *Account) who {
	if a != nil {
		return who{a.UID, a.GID, a.Groups, a.Name}
	}
	w := who{uid: uint32(os.Geteuid()), gid: uint32(os.Getegid())}
	if ids, err := os.Getgroups(); err == nil {
		for _, id := range ids {
			w.groups = append(w.groups, uint32(id))
		}
	}
	return w
}

// forUser ends a message about a permission.
func (w who) forUser() string {
	if w.name == "" {
		return ""
	}
	return " for user " + w.name
}
