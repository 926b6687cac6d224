//go:build darwin || freebsd

package platform

import "testing"

func needCgroups(t *testing.T, _ Host) { t.Skip("no cgroups here") }

// end kills what is left and waits for it, unless the test has let go of it.
func end(t testing.TB, p Process) {
	if q := p.(*process); q.host.known(q.incarnation) != q {
		return
	}
	if err := p.Kill(); err != nil {
		t.Error(err)
	}
	p.OnExit(func(Exit) {})
	awaitEmpty(t, p)
	p.Release()
}
