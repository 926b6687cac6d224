package keeper

import (
	"strings"
	"syscall"
)

// table is what the keeper holds, in the order in which it came. Daemons that
// restart for years leave no garbage in it: a place is used again.
type table []held

type held struct {
	name fdName
	fd   int32
}

// fdName is a name without an allocation of its own.
type fdName struct {
	len  uint8
	text [MaxName]byte
}

func toName(b []byte) (n fdName, ok bool) {
	if !validName(b) {
		return n, false
	}
	n.len = uint8(copy(n.text[:], b))
	return n, true
}

func (n *fdName) String() string { return string(n.text[:n.len]) }

// add takes over descriptors. Those of a name that is there already are more of
// that name, as in systemd's store.
func (t *table) add(name fdName, fds []int32) {
	for _, fd := range fds {
		*t = append(*t, held{name, fd})
	}
}

// set is add in the place of what had that name.
func (t *table) set(name fdName, fds []int32) {
	t.remove(name)
	t.add(name, fds)
}

// remove closes all of a name.
func (t *table) remove(name fdName) {
	kept := (*t)[:0]
	for i := range *t {
		if h := (*t)[i]; h.name == name {
			syscall.Close(int(h.fd))
		} else {
			kept = append(kept, h)
		}
	}
	*t = kept
}

func (t table) find(name string) (fd int, ok bool) {
	for i := range t {
		if h := &t[i]; string(h.name.text[:h.name.len]) == name {
			return int(h.fd), true
		}
	}
	return -1, false
}

// maxNames keeps the list of names below what the kernel takes as one variable
// (MAX_ARG_STRLEN, 128 KiB).
const maxNames = 120 << 10

// pass is what a manager gets at its start: the descriptors, and their names for
// LISTEN_FDNAMES. What is beyond the limit stays held, and is missed by nobody who
// finds the thing by its path or its pid.
func (t table) pass() (fds []uintptr, names string) {
	size, n := 0, 0
	for n < len(t) && size+int(t[n].name.len)+1 <= maxNames {
		size += int(t[n].name.len) + 1
		n++
	}
	var b strings.Builder
	b.Grow(size)
	fds = make([]uintptr, n)
	for i := range n {
		if i > 0 {
			b.WriteByte(':')
		}
		h := &t[i]
		b.Write(h.name.text[:h.name.len])
		fds[i] = uintptr(h.fd)
	}
	return fds, b.String()
}
