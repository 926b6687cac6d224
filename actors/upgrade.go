package actors

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/failpoint"
	"github.com/cyber-boost/syspulse/keeper"
	"github.com/cyber-boost/syspulse/persist"
	"github.com/cyber-boost/syspulse/platform"
)

// proofPatience is how long a binary has for its proof.
const proofPatience = 10 * time.Second

// upgrade is what [System.Upgrade] and [System.Replace] share.
type upgrade struct {
	binary string // the path that the manager was started by; "": it can't be replaced
	dir    string // the data directory
	host   platform.Host
	guard  *keeperGuard
	proved chan *os.File // at most one
	busy   atomic.Bool   // one is under way
}

// Upgrade implements [api.Manager]. What follows is the caller's of
// [System.Upgrades].
func (s *System) Upgrade(ctx context.Context, req api.UpgradeRequest) (api.Upgrade, error) {
	u := &s.upgrade
	switch {
	case runtime.GOOS != "linux":
		return api.Upgrade{}, api.Unsupported("a manager is replaced in place on Linux only; use `syspulse shutdown --keep-daemons` and start the new one")
	case u.binary == "":
		return api.Upgrade{}, api.NewError(api.CodeConflict, "this manager is part of a `syspulse up`, which can't be replaced; end that, and start the new one")
	}
	if !u.busy.CompareAndSwap(false, true) {
		return api.Upgrade{}, api.NewError(api.CodeConflict, "another upgrade is under way")
	}
	path := req.Binary
	if path == "" {
		path = u.binary
	}
	failpoint.Hit(failpoint.UpgradeBegin)
	f, version, err := s.prove(ctx, path)
	if err == nil && s.ending.Load() {
		f.Close()
		err = api.ShuttingDown()
	}
	if err != nil {
		u.busy.Store(false)
		s.log.Warn("an upgrade was refused; this manager goes on", "binary", path, "error", err)
		return api.Upgrade{}, err
	}
	failpoint.Hit(failpoint.UpgradeProved)
	u.proved <- f // there is room: there is but one
	s.log.Info("a new binary has proved itself and takes over", "binary", path, "version", version)
	return api.Upgrade{Binary: path, From: s.version, Version: version}, nil
}

// Upgrades gives a binary that is to take over, which is the receiver's: to
// [System.Replace] this process as soon as its clients have their answers.
func (s *System) Upgrades() <-chan *os.File { return s.upgrade.proved }

// prove has a binary prove itself, without touching anything of ours. The file
// that it gives is the very one that did.
func (s *System) prove(ctx context.Context, path string) (_ *os.File, version string, err error) {
	refused := func(format string, args ...any) error {
		return api.NewError(api.CodeFailed, "%s can't take over: %s; the manager goes on as it is", path, fmt.Sprintf(format, args...))
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, "", refused("%v", errors.Unwrap(err))
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return nil, "", refused("it is no file")
	} else if fi.Mode()&0o111 == 0 {
		return nil, "", refused("it is not executable (chmod +x it)")
	}
	st, err := s.Export(ctx)
	if err != nil {
		return nil, "", err
	}
	proof, err := writeProof(s.upgrade.dir, api.Proof{Format: persist.StateFormat, State: st})
	if err != nil {
		return nil, "", refused("a copy of the registrations can't be written for it: %v", err)
	}
	defer os.Remove(proof)

	var id [8]byte
	rand.Read(id[:])
	short, cancel := context.WithTimeout(ctx, proofPatience)
	defer cancel()
	self := procPath(f)
	out, exit, err := platform.Run(short, s.upgrade.host, platform.Command{
		Incarnation: "upgrade-" + hex.EncodeToString(id[:]),
		Args:        []string{self, api.ProveArgument, proof},
		Env:         platform.Environment(os.Environ(), nil, ""),
		Dir:         s.upgrade.dir,
	})
	said := strings.TrimSpace(string(bytes.ToValidUTF8(out, []byte("?"))))
	if len(said) > 500 {
		said = said[:500] + "…"
	}
	var start *platform.StartError
	switch {
	case errors.As(err, &start):
		return nil, "", refused("%s", strings.NewReplacer("program "+self, "it", self, "it").Replace(start.Reason))
	case errors.Is(err, context.DeadlineExceeded):
		return nil, "", refused("it gave no proof of itself within %v", proofPatience)
	case err != nil:
		return nil, "", err
	case exit.Signal != "" || exit.Code != 0:
		return nil, "", refused("asked to prove itself it %s and said: %s", exit, said)
	}
	var p api.Proved
	if err := json.Unmarshal(out, &p); err != nil || p.Syspulse != api.ProvedWord {
		return nil, "", refused("it is no syspulse that knows how to; asked, it said: %.100q", said)
	}
	return f, p.Version, nil
}

// procPath names an open file, whatever its path stands for by now.
func procPath(f *os.File) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()) }

func writeProof(dir string, p api.Proof) (path string, err error) {
	f, err := os.CreateTemp(dir, "proof-*.json")
	if err != nil {
		return "", err
	}
	err = errors.Join(json.NewEncoder(f).Encode(p), f.Close())
	if err != nil {
		os.Remove(f.Name())
	}
	return f.Name(), err
}

// removeProofs removes what a manager left that was killed over one.
func removeProofs(dir string) {
	left, _ := filepath.Glob(filepath.Join(dir, "proof-*.json"))
	for _, path := range left {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
}

// Replace makes a binary this process. It returns only if that failed, and then
// this manager goes on. The actors are not stopped and the journal is not closed:
// to what follows this is a crash, in which nothing can be lost, but that the
// descriptors are handed over. A keeper, made for the occasion if there is none,
// starts the binary of now again if the new one dies in its trial or doesn't
// answer.
func (s *System) Replace(f *os.File) error {
	defer f.Close()
	defer s.upgrade.busy.Store(false)
	if s.ending.Load() {
		return api.ShuttingDown() // what follows would not know of it
	}
	if !s.keep.Keeps() {
		if err := s.upgrade.guard.beginOne(); err != nil {
			return fmt.Errorf("nobody would bring this binary back if the new one fails: %w", err)
		}
	}
	s.keep.Trial(keeper.Trial())
	if s.keep.KeeperPID() != 0 && !s.keep.Barrier(time.Second) {
		s.log.Warn("the keeper is slow; what was last handed to it may come late")
	}
	goOn := s.starts.hold(startPatience)
	failpoint.Hit(failpoint.UpgradeExec)
	resume := s.upgrade.host.PrepareExec()
	err := s.keep.Exec(procPath(f), os.Args, append(os.Environ(), keeper.BinaryVariable+"="+s.upgrade.binary))
	resume()
	goOn()
	return err
}

// startPatience is how long a replacement waits for starts under way to be noted.
const startPatience = time.Second
