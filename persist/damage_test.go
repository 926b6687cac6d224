package persist

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cyber-boost/syspulse/spec"
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
	if !strings.Contains(strings.Join(r.Notices, "\n"), "d3.json was damaged") {
		t.Errorf("no word of the copy that is damaged too")
	}
}

// Whatever happens to whatever files, in any number, the manager starts, every
// registration that a plain copy has is there, what is damaged stays on the
// disk, and the next start finds nothing more to say.
func TestRandomDamage(t *testing.T) {
	t.Parallel()
	rounds := 40
	if testing.Short() {
		rounds = 20
	}
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("SYSPULSE_TEST_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("SYSPULSE_TEST_SEED=%d", seed)
	const daemons = 12
	master := populate(t, daemons)
	for round := range rounds {
		r := rand.New(rand.NewPCG(seed, uint64(round)))
		dir := filepath.Join(t.TempDir(), "data")
		if err := os.CopyFS(dir, os.DirFS(master)); err != nil {
			t.Fatal(err)
		}
		files := filesBelow(t, dir)
		whole := make(map[string]bool) // daemons with a plain copy that is as it was
		for i := range daemons {
			whole[fmt.Sprint("d", i)] = true
		}
		kept := make(map[string][]byte) // what was damaged must be somewhere
		var did []string
		for range 1 + r.IntN(4) {
			path := files[r.IntN(len(files))]
			what, b := damage(t, path, r)
			name, _ := filepath.Rel(dir, path)
			did = append(did, name+": "+what)
			if d, ok := strings.CutSuffix(filepath.Base(path), ".json"); ok {
				delete(whole, d)
			}
			delete(kept, path)
			if b != nil {
				kept[path] = b
			}
		}
		s, err := Open(Options{Dir: dir, BootID: "boot-1", Version: "1.2.3"})
		if err != nil {
			t.Errorf("round %d: %q: %v", round, did, err)
			continue
		}
		got := s.Recovered()
		for _, d := range got.Daemons {
			if d.Registration == nil {
				t.Errorf("round %d: %q: %s has no registration", round, did, d.Name)
			}
			delete(whole, d.Name)
		}
		if len(whole) > 0 {
			t.Errorf("round %d: %q: lost are %v; notices %q", round, did, slices.Collect(maps.Keys(whole)), got.Notices)
		}
		appendTo(t, s, registered("new"))
		closeStore(t, s)
		all := make(map[string]bool)
		for _, path := range filesBelow(t, dir) {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			all[strings.TrimRight(string(b), "\x00")] = true
		}
		for path, b := range kept {
			// What is said to be damaged must not be lost by that.
			base := filepath.Base(path)
			if strings.Contains(strings.Join(got.Notices, "\n"), base) && !all[strings.TrimRight(string(b), "\x00")] {
				t.Errorf("round %d: %q: %s was deleted; notices %q", round, did, base, got.Notices)
			}
		}
		again := open(t, dir)
		if more := again.Recovered(); len(more.Notices) > 0 {
			t.Errorf("round %d: %q: the next start says %q", round, did, more.Notices)
		}
		closeStore(t, again)
		if t.Failed() {
			return
		}
		os.RemoveAll(filepath.Dir(dir))
	}
}

func filesBelow(t *testing.T, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// damage does something to a file, and returns what and what is left of it;
// nothing if all of it is gone.
func damage(t *testing.T, path string, r *rand.Rand) (what string, left []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "gone already", nil
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(b) == 0 {
		b = []byte{0}
	}
	used := max(1, len(strings.TrimRight(string(b), "\x00")))
	at := r.IntN(used)
	switch r.IntN(6) {
	case 0:
		what = "missing"
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		return what, nil
	case 1:
		what, b = fmt.Sprintf("cut at %d", at), b[:at]
	case 2:
		what = fmt.Sprintf("a bit of %d", at)
		b[at] ^= 1 << r.IntN(8)
	case 3:
		n := min(len(b)-at, 1+r.IntN(4096))
		what = fmt.Sprintf("%d zeros at %d", n, at)
		clear(b[at : at+n])
	case 4:
		n := min(len(b)-at, 1+r.IntN(4096))
		what = fmt.Sprintf("%d of noise at %d", n, at)
		copy(b[at:], noise(n, r.Uint64()))
	case 5:
		what = "longer"
		b = append(b, noise(1+r.IntN(5000), r.Uint64())...)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return what, b
}

// The plain copies are looked at also while the journal is good: one that was
// torn is set aside and written again before it is needed.
func TestTornPlainCopiesAreWrittenAgain(t *testing.T) {
	dir := populate(t, 3)
	path := filepath.Join(dir, "registrations", "d1.json")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, good[:len(good)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	if n := s.Recovered().Notices; len(n) != 1 || !strings.Contains(n[0], "d1.json") {
		t.Errorf("notices %q", n)
	}
	s.copies.write()
	var a, b copyFile
	now, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(now, &a) != nil || json.Unmarshal(good, &b) != nil || !a.Spec.Equal(b.Spec) {
		t.Errorf("it is %s, %v", now, err)
	}
	if aside, _ := filepath.Glob(filepath.Join(dir, "registrations.damaged-*", "d1.json")); len(aside) != 1 {
		t.Errorf("set aside: %q", aside)
	}
}

// With the journal and the mark of the copies gone, the copies are the set-up;
// they are not taken for those of daemons that were removed.
func TestOnlyTheCopiesThemselvesAreLeft(t *testing.T) {
	dir := populate(t, 3)
	err := errors.Join(os.RemoveAll(filepath.Join(dir, "state")),
		os.WriteFile(filepath.Join(dir, "state"), []byte("not a directory"), 0o600),
		os.Remove(filepath.Join(dir, "registrations", ".seq")))
	if err != nil {
		t.Fatal(err)
	}
	r := open(t, dir).Recovered()
	if len(r.Daemons) != 3 || r.Daemons[0].Registration == nil || r.Daemons[0].Record.Wanted != supervision.WantRunning || !r.Daemons[0].WantedCopied {
		t.Errorf("recovered %+v", r)
	}
	if aside, _ := filepath.Glob(filepath.Join(dir, "state.damaged-*")); len(aside) != 1 {
		t.Errorf("set aside: %q", aside)
	}
}

// A group comes back from its plain copy as it was declared, and is told of by its name.
func TestGroupsHavePlainCopies(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	most := 3
	shop := spec.Group{Name: "shop", Strategy: "rest_for_one", MaxRestarts: &most, Window: 60}
	gone := spec.Group{Name: "gone", Strategy: "one_for_all"}
	declared := func(g *spec.Group) supervision.Event {
		return supervision.Event{
			Daemon: supervision.GroupKey(g.Name), Kind: supervision.EventRegistered,
			Record: &supervision.Record{}, Spec: &supervision.Registration{Group: g},
		}
	}
	appendTo(t, s, declared(&shop), declared(&gone), registered("web"))
	appendTo(t, s, supervision.Event{Daemon: supervision.GroupKey("gone"), Kind: supervision.EventRemoved})
	closeStore(t, s)
	if err := os.RemoveAll(filepath.Join(dir, "state")); err != nil {
		t.Fatal(err)
	}
	r := open(t, dir).Recovered()
	if len(r.Daemons) != 2 || r.Daemons[0].Name != supervision.GroupKey("shop") || !r.Daemons[0].Registration.Group.Equal(&shop) {
		t.Errorf("%+v", r.Daemons)
	}
	if last := r.Notices[len(r.Notices)-1]; last != "restored from the plain copies: group shop, web" {
		t.Errorf("%q", r.Notices)
	}
}

// What was removed does not come back from a copy that was not deleted yet.
func TestRemovedDoesNotComeBack(t *testing.T) {
	dir := populate(t, 3)
	s := open(t, dir)
	s.copies.close() // so that it stays
	appendTo(t, s, supervision.Event{Time: epoch, Daemon: "d1", Kind: supervision.EventRemoved})
	// The database deletes what it needs no more when it likes.
	var killed string
	err := fs.ErrNotExist
	for errors.Is(err, fs.ErrNotExist) {
		killed = filepath.Join(t.TempDir(), "data")
		err = os.CopyFS(killed, os.DirFS(dir))
	}
	if err != nil {
		t.Fatal(err)
	}
	// Something else is wrong, so that the copies are asked.
	if err := os.WriteFile(filepath.Join(killed, "state", "MARK"), []byte("99999\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := open(t, killed).Recovered()
	if len(r.Daemons) != 2 || len(r.Notices) == 0 {
		t.Errorf("recovered %+v", r)
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
