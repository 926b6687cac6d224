package persist

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// Sizes of the database. Badger's defaults are for servers.
const (
	// memTableSize is both the size of the table in memory and of the log
	// that backs it. All of either may be resident at worst.
	memTableSize = 2 << 20
	// maxTxnSize and maxTxnCount keep a transaction below what Badger takes
	// (15 % of a memtable, and so many of its largest nodes); a larger batch
	// is committed in several, see commit.
	maxTxnSize  = memTableSize / 8
	maxTxnCount = 2500
	// maxValue keeps every value out of Badger's value log, which needs its
	// own collection and syncs.
	maxValue = 224 << 10
	// flattenAt is how many tables of level 0 are merged into one level.
	flattenAt = 8
)

// databaseOptions: no compactor (they wake 20 times a second each; Flatten is
// called when the journal has grown), no caches, no compression, no conflict
// detection (there is one writer), and no lock (the data directory has one).
func databaseOptions(dir string, log *slog.Logger) badger.Options {
	return badger.DefaultOptions(dir).
		WithLogger(&badgerLog{log}).
		WithMemTableSize(memTableSize).
		WithNumMemtables(3).
		WithBaseTableSize(memTableSize).
		WithNumCompactors(0).
		WithNumLevelZeroTables(1).
		WithNumLevelZeroTablesStall(1 << 20).
		WithValueThreshold(maxValue + 1<<10).
		WithValueLogFileSize(1 << 20).
		WithNumGoroutines(1).
		WithBlockCacheSize(0).
		WithIndexCacheSize(0).
		WithCompression(options.None).
		WithBloomFalsePositive(0).
		WithChecksumVerificationMode(options.OnTableRead).
		WithMetricsEnabled(false).
		WithDetectConflicts(false).
		WithBypassLockGuard(true)
}

// badgerLog passes Badger's log on, one level lower: what matters to the user
// the store says itself.
type badgerLog struct{ log *slog.Logger }

func (l *badgerLog) text(format string, args []any) string {
	return "badger: " + strings.TrimSpace(fmt.Sprintf(format, args...))
}

func (l *badgerLog) Errorf(f string, a ...any)   { l.log.Warn(l.text(f, a)) }
func (l *badgerLog) Warningf(f string, a ...any) { l.log.Info(l.text(f, a)) }
func (l *badgerLog) Infof(string, ...any)        {}
func (l *badgerLog) Debugf(string, ...any)       {}
