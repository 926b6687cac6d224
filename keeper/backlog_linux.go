package keeper

import "syscall"

// datagram is what is sent at once. In a backlog it owns its descriptors.
type datagram struct {
	state  string
	fds    []int
	stores string // the name under which it has them stored; "" if it doesn't
}

// send is sendmsg(2) to a connected socket.
func (d *datagram) send(fd uintptr) error {
	var oob []byte
	if len(d.fds) > 0 {
		oob = syscall.UnixRights(d.fds...)
	}
	for {
		_, err := syscall.SendmsgN(int(fd), []byte(d.state), oob, nil, syscall.MSG_NOSIGNAL)
		if err != syscall.EINTR {
			return err
		}
	}
}

func (d *datagram) close() {
	for _, fd := range d.fds {
		syscall.Close(fd)
	}
}

// backlog is what waits for a keeper that is stopped or slow, oldest first. What
// was to be stored and is not needed any more leaves it, so that daemons which
// start and end meanwhile don't make it grow: it has at most one datagram for each
// descriptor that is held, and one for each that the keeper has and shall let go.
type backlog struct {
	queue  []*datagram
	stores map[string]*datagram // those of them that store something
	void   int                  // revoked ones that are still in the queue
}

func (b *backlog) empty() bool { return len(b.queue) == b.void }

// add appends a datagram with copies of its descriptors. It is false if there are
// none to be had.
func (b *backlog) add(d datagram) bool {
	fds := d.fds
	d.fds = nil
	for _, fd := range fds {
		n := dupFD(fd)
		if n < 0 {
			d.close()
			return false
		}
		d.fds = append(d.fds, n)
	}
	b.queue = append(b.queue, &d)
	if d.stores != "" {
		if b.stores == nil {
			b.stores = make(map[string]*datagram)
		}
		b.stores[d.stores] = &d
	}
	return true
}

// revoke takes out what would have had a name stored. It is false if that is not
// here: it was sent.
func (b *backlog) revoke(name string) bool {
	d := b.stores[name]
	if d == nil {
		return false
	}
	delete(b.stores, name)
	d.close()
	*d = datagram{}
	b.void++
	if b.void > len(b.queue)/2 {
		kept := b.queue[:0]
		for _, d := range b.queue {
			if d.state != "" {
				kept = append(kept, d)
			}
		}
		clear(b.queue[len(kept):])
		b.queue, b.void = kept, 0
	}
	return true
}

// first is the oldest; the backlog isn't empty.
func (b *backlog) first() *datagram {
	for b.queue[0].state == "" {
		b.queue[0] = nil
		b.queue = b.queue[1:]
		b.void--
	}
	return b.queue[0]
}

func (b *backlog) removeFirst() {
	d := b.first()
	d.close()
	if b.stores[d.stores] == d {
		delete(b.stores, d.stores)
	}
	b.queue[0] = nil
	b.queue = b.queue[1:]
	if len(b.queue) == 0 {
		*b = backlog{}
	}
}

func (b *backlog) clear() {
	for _, d := range b.queue {
		d.close()
	}
	*b = backlog{}
}
