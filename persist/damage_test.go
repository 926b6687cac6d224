package persist

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cyber-boost/syspulse/supervision"
)

// populate makes a journal with every kind of file in it, as a killed manager
// leaves it: snapshots, tables, a log in use. It returns the directory.
func populate(t *testing.T, daemons int) string {
	t.Helper()
	live, dead := t.TempDir(), filepath.Join(t.TempDir(), "data")
	s := open(t, live, func(o *Options) { o.SnapshotEvery = 500 })
	for i := range daemons {
		appendTo(t, s, registered(fmt.Sprint("d", i)))
	}
	closeStore(t, s) // a table
	s = open(t, live, func(o *Options) { o.SnapshotEvery = 500 })
	for i := range 1200 {
		appendTo(t, s, started(fmt.Sprint("d", i%daemons), i+1))
	}
	s.copies.write()
	if err := os.CopyFS(dead, os.DirFS(live)); err != nil {
		t.Fatal(err)
	}
	return dead
}

// Whatever happens to one file, the manager starts, every registration is
// there, and nothing of what was damaged is deleted.
func TestDamagedFiles(t *testing.T) {
	t.Parallel()
	harms := map[string]func(b []byte) []byte{
		"empty":   func(b []byte) []byte { return nil },
		"half":    func(b []byte) []byte { return b[:len(b)/2] },
		"head":    func(b []byte) []byte { return b[:min(len(b), 8)] },
		"zeros":   func(b []byte) []byte { return make([]byte, len(b)) },
		"noise":   func(b []byte) []byte { return noise(len(b), 1) },
		"longer":  func(b []byte) []byte { return append(b, noise(4000, 2)...) },
		"missing": nil,
		"bit": func(b []byte) []byte {
			used := len(strings.TrimRight(string(b), "\x00"))
			if used > 0 {
				b[used/2] ^= 0x10
			}
			return b
		},
		"end": func(b []byte) []byte {
			used := len(strings.TrimRight(string(b), "\x00"))
			if used > 0 {
				b[used-1] ^= 0x10
			}
			return b
		},
	}
	const daemons = 30
	master := populate(t, daemons)
	files, err := os.ReadDir(filepath.Join(master, "state"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		for harm, do := range harms {
			t.Run(f.Name()+"/"+harm, func(t *testing.T) {
				t.Parallel()
				dir := filepath.Join(t.TempDir(), "data")
				if err := os.CopyFS(dir, os.DirFS(master)); err != nil {
					t.Fatal(err)
				}
				path := filepath.Join(dir, "state", f.Name())
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if do == nil {
					err = os.Remove(path)
				} else {
					err = os.WriteFile(path, do(b), 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
				for round := range 2 {
					s := open(t, dir)
					r := s.Recovered()
					if len(r.Daemons) != daemons {
						t.Errorf("%d daemons of %d are left", len(r.Daemons), daemons)
					}
					lost := 0
					for _, d := range r.Daemons {
						if d.Registration == nil || d.Registration.Spec == nil || d.Registration.Spec.Name != d.Name {
							t.Errorf("the registration of %s is %+v", d.Name, d.Registration)
						}
						if d.Record.State != supervision.Running {
							lost++
						}
					}
					if round == 0 {
						t.Logf("%d states lost, notices %q", lost, r.Notices)
						if lost > 0 && len(r.Notices) == 0 {
							t.Error("something is lost and nothing is said")
						}
						aside, _ := filepath.Glob(filepath.Join(dir, "state.damaged-*"))
						if lost > 0 && len(aside) == 0 && do != nil && len(do(b)) > 8 && harm != "half" && harm != "zeros" {
							t.Error("something is lost and nothing was set aside")
						}
					} else if len(r.Notices) > 0 {
						t.Errorf("notices at the next start: %q", r.Notices)
					}
					last := r.LastSeq
					if got := appendTo(t, s, started("d1", 5000)); got[0].Seq != last+1 {
						t.Errorf("event %d follows %d", got[0].Seq, last)
					}
					if err := s.Sync(); err != nil {
						t.Error(err)
					}
					closeStore(t, s)
				}
			})
		}
	}
}

func noise(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, seed))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// With the whole journal gone, the plain copies are the set-up.
func TestOnlyThePlainCopiesAreLeft(t *testing.T) {
	dir := populate(t, 5)
	if err := os.WriteFile(filepath.Join(dir, "registrations", "d3.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "state", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for i, path := range files {
		if err := os.WriteFile(path, noise(5000, uint64(i)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, dir)
	r := s.Recovered()
	t.Logf("%q", r.Notices)
	if len(r.Daemons) != 4 || r.Daemons[0].Record.Wanted != supervision.WantRunning || r.Daemons[0].Registration.Source != "/etc/d0.sys" {
		t.Errorf("recovered %+v", r.Daemons)
	}
	if !strings.Contains(strings.Join(r.Notices, "\n"), "d3.json can't be read") {
		t.Errorf("no word of the copy that is damaged too")
	}
}

// A manager that is killed while Badger makes or deletes a file may leave it
// without a byte in it. That is no damage.
func TestFilesWithoutAByte(t *testing.T) {
	dir := populate(t, 3)
	for _, name := range []string{"00000.mem", "00009.mem", "000009.vlog", "000099.sst"} {
		if err := os.WriteFile(filepath.Join(dir, "state", name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if r := open(t, dir).Recovered(); len(r.Notices) > 0 || len(r.Daemons) != 3 || r.LastSeq != 1203 {
		t.Errorf("recovered up to %d, notices %q", r.LastSeq, r.Notices)
	}
}

// A log that ends in part of an entry, as a killed manager leaves it, is no
// damage; one that goes on behind what can't be read is.
func TestTornLog(t *testing.T) {
	master := populate(t, 3)
	path := func(dir string) string { return filepath.Join(dir, "state", "00001.mem") }
	log, err := os.ReadFile(path(master))
	if err != nil {
		t.Fatal(err)
	}
	used := len(strings.TrimRight(string(log), "\x00"))
	for name, c := range map[string]struct {
		from, to int // zeroed
		damaged  bool
	}{
		"end":            {used - 5, used, false},
		"last entry":     {used - 20, used, false},
		"head of last":   {used - 24, used - 10, false},
		"middle":         {used / 2, used/2 + 5, true},
		"a lost page":    {used / 2, used/2 + 4096, true},
		"all but an end": {100, used - 2000, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			if err := os.CopyFS(dir, os.DirFS(master)); err != nil {
				t.Fatal(err)
			}
			b := append([]byte(nil), log...)
			clear(b[c.from:c.to])
			if err := os.WriteFile(path(dir), b, 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := logDamaged(path(dir))
			if err != nil || got != c.damaged {
				t.Errorf("damaged: %t, %v; want %t", got, err, c.damaged)
			}
		})
	}
}
