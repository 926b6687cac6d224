package persist

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/table"
	"google.golang.org/protobuf/proto"
)

// Badger trusts its files. Opening a damaged journal it may leave out what it
// can't read without saying so, delete tables that a truncated MANIFEST no
// longer names, panic, or end the process. So the files are looked at first.

// inspection is what is wrong with the files of a journal.
type inspection struct {
	manifest error    // it is missing or can't be read
	tables   []string // files that don't have their checksums
	logs     []string // files with something behind the first thing that can't be read
	values   []string // value logs without a head, which hold nothing of ours
	loose    []string // tables that MANIFEST does not name: Badger deletes them
}

// inspect looks at the files of the journal, and deletes what a killed manager
// may leave that Badger stumbles over: logs of no length, which are new or
// written to a table already.
func inspect(dir string) (found inspection, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return found, err
	}
	var tables []string
	old := false
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch filepath.Ext(e.Name()) {
		case ".mem", ".vlog":
			fi, err := e.Info()
			switch {
			case err != nil:
			case fi.Size() == 0:
				err = os.Remove(path)
			case filepath.Ext(e.Name()) == ".mem":
				old = true
				var bad bool
				if bad, err = logDamaged(path); bad {
					found.logs = append(found.logs, e.Name())
				}
			case !hasHead(path):
				found.values = append(found.values, e.Name())
			}
			if err != nil {
				return found, err
			}
		case ".sst":
			old = true
			tables = append(tables, e.Name())
		}
	}
	known, err := readManifest(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if old {
			found.manifest = errors.New("its file MANIFEST is missing")
		}
		return found, nil
	}
	if err != nil {
		if isEnvironment(err) {
			return found, err
		}
		found.manifest = fmt.Errorf("its file MANIFEST can't be read: %w", err)
		return found, nil
	}
	var buf []byte
	for _, name := range tables {
		id, ok := table.ParseFileID(name)
		if _, named := known[id]; !ok || !named {
			found.loose = append(found.loose, name)
			continue
		}
		delete(known, id)
		if buf, err = readInto(buf, filepath.Join(dir, name)); err != nil {
			return found, err
		}
		if checkTable(buf, id) != nil {
			found.tables = append(found.tables, name)
		}
	}
	for id := range known {
		found.tables = append(found.tables, table.IDToFilename(id)) // missing
	}
	return found, nil
}

// readManifest returns the tables that belong to the journal.
func readManifest(dir string) (map[uint64]badger.TableManifest, error) {
	f, err := os.Open(filepath.Join(dir, badger.ManifestFilename))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, _, err := badger.ReplayManifestFile(f, 0, badger.DefaultOptions(dir).WithLogger(nil))
	return m.Tables, err
}

func readInto(buf []byte, path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return buf, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return buf, err
	}
	buf = slices.Grow(buf[:0], int(fi.Size()))[:fi.Size()]
	_, err = io.ReadFull(f, buf)
	return buf, err
}

// checkTable verifies all checksums of a table. It reads, instead of mapping
// the file as Badger does, so that a large history is not resident afterwards.
func checkTable(b []byte, id uint64) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	t, err := table.OpenInMemoryTable(b, id, &table.Options{ChkMode: options.OnTableRead, BlockSize: 4096})
	if err != nil {
		return err
	}
	return t.VerifyChecksum()
}

// logDamaged reports whether a memtable's log (see memtable.go of Badger: a
// header of 20 bytes, then entries of meta, user meta, three varints, key,
// value and CRC-32C) has an intact entry behind the first thing that can't be
// read. A manager that was killed while it wrote leaves any part of one entry,
// and zeros behind it: that is no damage.
func logDamaged(path string) (bool, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	const header = 20
	if len(b) < header || [8]byte(b[:8]) != [8]byte{} { // it is not encrypted
		return true, nil
	}
	b = bytes.TrimRight(b[header:], "\x00")
	for {
		n, ok := logEntry(b)
		if !ok {
			break
		}
		b = b[min(n, len(b)):]
	}
	for len(b) > 1 {
		b = b[1:]
		if _, ok := logEntry(b); ok {
			return true, nil
		}
	}
	return false, nil
}

// logEntry parses the entry that b begins with, where trailing zeros may be
// left out, and returns its length.
func logEntry(b []byte) (n int, ok bool) {
	// All of our keys are short, a value may have maxValue and its fields.
	const mostKey, mostValue = 64, maxValue + 1<<10
	const deleted, inTxn, endOfTxn = 1 << 0, 1 << 6, 1 << 7
	if len(b) < 2 || b[0]&^(deleted|inTxn|endOfTxn) != 0 || b[1] != 0 {
		return 0, false
	}
	at := 2
	var lens [3]uint64 // of the key, of the value; when it expires
	for i := range lens {
		if at >= len(b) {
			return 0, false
		}
		v, w := binary.Uvarint(b[at:])
		if w <= 0 {
			return 0, false
		}
		lens[i] = v
		at += w
	}
	if lens[0] == 0 || lens[0] > mostKey || lens[1] > mostValue || lens[2] != 0 {
		return 0, false
	}
	end := at + int(lens[0]+lens[1])
	n = end + crc32.Size
	if n > len(b) {
		b = append(b[:len(b):len(b)], make([]byte, n-len(b))...)
	}
	sum := crc32.Checksum(b[:end], castagnoli)
	return n, sum == binary.BigEndian.Uint32(b[end:])
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// looseDir is where tables that Badger is about to delete are kept until it is
// known that nothing is missing.
func (s *Store) looseDir() string { return s.stateDir + ".loose" }

func (s *Store) keepLoose(names []string) {
	if len(names) == 0 {
		return
	}
	_ = os.Mkdir(s.looseDir(), 0o700)
	for _, name := range names {
		// Without hard links they are lost, as they would be without us.
		_ = os.Link(filepath.Join(s.stateDir, name), filepath.Join(s.looseDir(), name))
	}
	// Badger cuts it off in place.
	_ = os.Remove(filepath.Join(s.looseDir(), badger.ManifestFilename))
	_ = copyDir(s.looseDir(), s.stateDir, func(name string) bool { return name != badger.ManifestFilename })
}

// asideDir is where damaged files of this start go: single ones, or all of the
// journal as the folder state.
func (s *Store) asideDir() (string, error) {
	if s.aside == "" {
		s.aside = damagedName(s.stateDir, s.opts.Now())
	}
	if err := os.MkdirAll(s.aside, 0o700); err != nil {
		return "", fmt.Errorf("damaged files of the journal can't be set aside: %w", err)
	}
	return s.aside, nil
}

// setAside moves the whole journal there.
func (s *Store) setAside() error {
	dir, err := s.asideDir()
	if err == nil {
		err = os.Rename(s.stateDir, filepath.Join(dir, "state"))
	}
	if err != nil {
		return fmt.Errorf("the damaged journal can't be set aside: %w", err)
	}
	return nil
}

// copyAside copies one file of the journal there.
func (s *Store) copyAside(name string) error {
	dir, err := s.asideDir()
	if err != nil {
		return err
	}
	return copyDir(dir, s.stateDir, func(other string) bool { return other != name })
}

// repair sets the journal aside and puts what is good of it in its place. Left
// out are damaged tables, logs without a head, and the files that hold nothing
// of ours (value logs and their statistics, the registry of keys, which are
// not used).
func (s *Store) repair(found inspection) error {
	if err := s.setAside(); err != nil {
		return err
	}
	if err := os.Mkdir(s.stateDir, 0o700); err != nil {
		return err
	}
	aside := filepath.Join(s.aside, "state")
	err := copyDir(s.stateDir, aside, func(name string) bool {
		switch {
		case filepath.Ext(name) == ".vlog", name == "DISCARD", name == badger.KeyRegistryFileName:
			return true
		case name == badger.ManifestFilename:
			return found.manifest != nil
		case slices.Contains(found.logs, name):
			return !hasHead(filepath.Join(aside, name))
		}
		return slices.Contains(found.tables, name)
	})
	if err != nil {
		return err
	}
	var changes []*pb.ManifestChange
	if found.manifest == nil {
		for _, name := range found.tables {
			if id, ok := table.ParseFileID(name); ok {
				changes = append(changes, &pb.ManifestChange{Id: id, Op: pb.ManifestChange_DELETE})
			}
		}
		return s.amendManifest(changes)
	}
	// Every table becomes one of level 0, where they may overlap: what is in
	// several is told apart by its version.
	tables, err := filepath.Glob(filepath.Join(s.stateDir, "*.sst"))
	if err != nil {
		return err
	}
	for _, path := range tables {
		id, ok := table.ParseFileID(filepath.Base(path))
		if b, err := readInto(nil, path); err != nil || !ok || checkTable(b, id) != nil {
			continue // Badger deletes it; it is aside
		}
		changes = append(changes, &pb.ManifestChange{Id: id, Op: pb.ManifestChange_CREATE})
	}
	return s.amendManifest(changes)
}

// hasHead reports whether a log begins as one that is not encrypted.
func hasHead(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var head [20]byte // the key's number and an initialization vector
	_, err = io.ReadFull(f, head[:])
	return err == nil && [8]byte(head[:8]) == [8]byte{}
}

// amendManifest appends changes to MANIFEST, which it makes if there is none:
// see manifest.go of Badger for its form.
func (s *Store) amendManifest(changes []*pb.ManifestChange) error {
	b, err := proto.Marshal(&pb.ManifestChangeSet{Changes: changes})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(s.stateDir, badger.ManifestFilename), os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	var rec []byte
	if fi.Size() == 0 {
		const version = 8
		rec = append(rec, 'B', 'd', 'g', 'r', 0, 0, 0, version)
	}
	rec = binary.BigEndian.AppendUint32(rec, uint32(len(b)))
	rec = binary.BigEndian.AppendUint32(rec, crc32.Checksum(b, castagnoli))
	if _, err := f.Write(append(rec, b...)); err != nil {
		return err
	}
	return f.Sync()
}

// adoptLoose takes tables into the journal that MANIFEST did not name: it was
// cut short, and Badger has deleted them.
func (s *Store) adoptLoose() error {
	if err := s.closeDB(); err != nil {
		return err
	}
	known, err := readManifest(s.stateDir)
	if err != nil {
		return err
	}
	var next uint64
	for id := range known {
		next = max(next, id)
	}
	tables, err := filepath.Glob(filepath.Join(s.looseDir(), "*.sst"))
	if err != nil {
		return err
	}
	var changes []*pb.ManifestChange
	for _, path := range tables {
		b, err := readInto(nil, path)
		if err != nil {
			return err
		}
		if checkTable(b, 0) != nil {
			continue
		}
		next++
		if err := writeTemp(filepath.Join(s.stateDir, table.IDToFilename(next)), b, true); err != nil {
			return err
		}
		changes = append(changes, &pb.ManifestChange{Id: next, Op: pb.ManifestChange_CREATE})
	}
	if err := s.amendManifest(changes); err != nil {
		return err
	}
	s.reset()
	if err := s.openDB(); err != nil {
		return err
	}
	dir, err := s.asideDir()
	if err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(s.looseDir(), badger.ManifestFilename), filepath.Join(dir, badger.ManifestFilename)); err != nil {
		return fmt.Errorf("the damaged MANIFEST can't be set aside: %w", err)
	}
	s.notice("the journal's file MANIFEST was cut short; %d tables that it does not name were taken over, and it was copied to %s", len(changes), dir)
	return nil
}
