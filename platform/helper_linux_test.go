package platform

import "testing"

func needCgroups(t *testing.T, h Host) {
	if h.(*host).cgroups == "" {
		t.Skip("no cgroup can be made here")
	}
}
