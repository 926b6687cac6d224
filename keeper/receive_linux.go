package keeper

import (
	"syscall"
	"unsafe"
)

// receiver is one recvmsg(2) after the other into the same memory.
type receiver struct {
	data [4096]byte
	oob  [controlSpace]uint64 // aligned as control messages are

	n         int
	fds       [maxFDs]int32 // closed on exec; the taker's to close
	fdn       int
	pid       int  // who sent it
	truncated bool // descriptors were lost
	err       syscall.Errno
}

// controlSpace is room for the most descriptors that a datagram can carry, and for
// its sender's credentials, in words.
const controlSpace = (16+4*maxFDs+7)/8 + (16+syscall.SizeofUcred+7)/8

// recvmsg is false while there is nothing to receive.
func (r *receiver) recvmsg(fd uintptr) bool {
	iov := syscall.Iovec{Base: &r.data[0]}
	iov.SetLen(len(r.data))
	msg := syscall.Msghdr{Iov: &iov, Control: (*byte)(unsafe.Pointer(&r.oob[0]))}
	msg.Iovlen = 1
	msg.SetControllen(8 * len(r.oob))
	for {
		n, _, err := syscall.Syscall(syscall.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&msg)), syscall.MSG_CMSG_CLOEXEC|syscall.MSG_DONTWAIT)
		if err == syscall.EINTR {
			continue
		}
		if err == syscall.EAGAIN {
			return false
		}
		r.n, r.err, r.fdn, r.pid = int(n), err, 0, 0
		if err == 0 {
			r.truncated = msg.Flags&syscall.MSG_CTRUNC != 0
			r.control(int(msg.Controllen))
		}
		return true
	}
}

// control takes the descriptors and the sender's pid out of the control messages
// (cmsg(3)).
func (r *receiver) control(size int) {
	const header = int(unsafe.Sizeof(syscall.Cmsghdr{}))
	base := unsafe.Pointer(&r.oob[0])
	for at := 0; at+header <= size; {
		h := (*syscall.Cmsghdr)(unsafe.Add(base, at))
		length := int(h.Len)
		if length < header || at+length > size {
			return
		}
		data := unsafe.Add(base, at+header)
		switch {
		case h.Level != syscall.SOL_SOCKET:
		case h.Type == syscall.SCM_RIGHTS:
			n := (length - header) / 4
			r.fdn += copy(r.fds[r.fdn:], unsafe.Slice((*int32)(data), n))
		case h.Type == syscall.SCM_CREDENTIALS && length-header >= syscall.SizeofUcred:
			r.pid = int((*syscall.Ucred)(data).Pid)
		}
		const word = int(unsafe.Sizeof(uintptr(0)))
		at += (length + word - 1) &^ (word - 1)
	}
}
