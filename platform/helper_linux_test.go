package platform

import "testing"

func needCgroups(t *testing.T, h Host) {
	if h.(*host).cgroups == "" {
		t.Skip("no cgroup can be made here")
	}
}

// end kills what is left and waits for it, unless the test has let go of it.
func end(t testing.TB, p Process) {
	q := p.(*process)
	q.mu.Lock()
	released := q.released
	q.mu.Unlock()
	if released {
		return
	}
	if err := p.Kill(); err != nil {
		t.Error(err)
	}
	p.OnExit(func(Exit) {})
	awaitEmpty(t, p)
	p.Release()
}
