package notify

import (
	"golang.org/x/sys/unix"
)

// maxFDs is how many descriptors one datagram may carry (SCM_MAX_FD of unix(7)).
const maxFDs = 253

// Room for the control messages that may come.
var (
	credentialSpace = unix.CmsgSpace(unix.SizeofUcred)
	controlSpace    = credentialSpace + unix.CmsgSpace(4*maxFDs)
)

// buffer is where datagrams are received, one after the other.
type buffer struct {
	data [maxMessage]byte
	oob  []byte
}

// datagram is one that was received. data is valid until the next one is.
type datagram struct {
	data           []byte
	truncated      bool
	hasCredentials bool
	pid            int
	uid            uint32
	fds            []int // the taker's to close
}

// receive takes a datagram. Without withFDs the kernel closes the descriptors that
// come with it, but for one or two.
func (b *buffer) receive(fd int, withFDs bool) (datagram, error) {
	if b.oob == nil {
		b.oob = make([]byte, controlSpace)
	}
	oob := b.oob
	if !withFDs {
		oob = oob[:credentialSpace]
	}
	for {
		n, oobn, flags, _, err := unix.Recvmsg(fd, b.data[:], oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return datagram{}, err
		}
		d := datagram{data: b.data[:n], truncated: flags&unix.MSG_TRUNC != 0}
		d.control(oob[:oobn])
		return d, nil
	}
}

// control reads the control messages (cmsg(3)).
func (d *datagram) control(oob []byte) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return
	}
	for _, m := range messages {
		if m.Header.Level != unix.SOL_SOCKET {
			continue
		}
		switch m.Header.Type {
		case unix.SCM_CREDENTIALS:
			if c, err := unix.ParseUnixCredentials(&m); err == nil {
				d.hasCredentials, d.pid, d.uid = true, int(c.Pid), c.Uid
			}
		case unix.SCM_RIGHTS:
			if fds, err := unix.ParseUnixRights(&m); err == nil {
				d.fds = append(d.fds, fds...)
			}
		}
	}
}

// discard drops what waits in a socket's queue. Descriptors in it are closed by
// the kernel.
func discard(fd int) {
	// More than a queue holds: who sends without end doesn't hold us up.
	for range 1 << 14 {
		_, _, err := unix.Recvfrom(fd, nil, unix.MSG_DONTWAIT)
		if err != nil && err != unix.EINTR {
			return
		}
	}
}
