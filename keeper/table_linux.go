package keeper

import (
	"strings"
	"syscall"
)

// table is what the keeper holds, in the order in which it came.
type table []held

type held struct {
	name string
	fd   int
}

// add takes over descriptors. Those of a name that is there already are more of
// that name, as in systemd's store.
func (t *table) add(name string, fds []int) {
	for _, fd := range fds {
		*t = append(*t, held{name, fd})
	}
}

// set is add in the place of what had that name.
func (t *table) set(name string, fds []int) {
	t.remove(name)
	t.add(name, fds)
}

// remove closes all of a name.
func (t *table) remove(name string) {
	kept := (*t)[:0]
	for _, h := range *t {
		if h.name == name {
			syscall.Close(h.fd)
		} else {
			kept = append(kept, h)
		}
	}
	clear((*t)[len(kept):])
	*t = kept
}

func (t table) find(name string) (fd int, ok bool) {
	for _, h := range t {
		if h.name == name {
			return h.fd, true
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
	var b strings.Builder
	for i, h := range t {
		if b.Len()+len(h.name)+1 > maxNames {
			break
		}
		if i > 0 {
			b.WriteByte(':')
		}
		b.WriteString(h.name)
		fds = append(fds, uintptr(h.fd))
	}
	return fds, b.String()
}
