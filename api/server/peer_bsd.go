//go:build darwin || freebsd

package server

import "golang.org/x/sys/unix"

// peerUID is the user who connected (unix(4), LOCAL_PEERCRED).
func peerUID(fd int) (int, error) {
	cred, err := unix.GetsockoptXucred(fd, solLocal, unix.LOCAL_PEERCRED)
	if err != nil {
		return 0, err
	}
	return int(cred.Uid), nil
}

// solLocal is SOL_LOCAL, which x/sys names on Darwin only.
const solLocal = 0
