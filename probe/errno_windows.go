package probe

import "golang.org/x/sys/windows"

var (
	refused     = []error{windows.WSAECONNREFUSED}
	reset       = []error{windows.WSAECONNRESET, windows.WSAECONNABORTED}
	unreachable = []error{windows.WSAEHOSTUNREACH, windows.WSAENETUNREACH, windows.WSAENETDOWN}
)
