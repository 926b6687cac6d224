//go:build unix

package logs

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func cpu() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

const benchBytes = 512 << 20

// BenchmarkCapture is a writer whose output we carry; s/GB is the CPU time
// that costs us.
func BenchmarkCapture(b *testing.B) {
	for _, size := range []int{100, 4 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			c, err := New(Options{Dir: b.TempDir(), Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			k, err := c.Open("d", StreamOptions{UID: os.Getuid(), GID: os.Getgid()})
			if err != nil {
				b.Fatal(err)
			}
			path, _ := k.Paths()
			all := make(chan struct{}, 1)
			defer k.Notify(Stdout, func(Event) {
				if st, err := os.Stat(path); err == nil && st.Size() >= benchBytes {
					select {
					case all <- struct{}{}:
					default:
					}
				}
			})()
			b.SetBytes(benchBytes)
			var spent time.Duration
			for b.Loop() {
				b.StopTimer()
				os.Truncate(path, 0)
				unix.Sync()
				stdout, stderr, err := k.Writers()
				if err != nil {
					b.Fatal(err)
				}
				before := cpu()
				b.StartTimer()
				runChunks(b, size, stdout, func() { <-all })
				b.StopTimer()
				spent += cpu() - before
				stdout.Close()
				stderr.Close()
				b.StartTimer()
			}
			b.ReportMetric(spent.Seconds()/float64(b.N)/(benchBytes/1e9), "s/GB")
		})
	}
}

// BenchmarkPlainFile is the same writer into a file of its own.
func BenchmarkPlainFile(b *testing.B) {
	for _, size := range []int{100, 4 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "file")
			b.SetBytes(benchBytes)
			for b.Loop() {
				b.StopTimer()
				os.Remove(path)
				unix.Sync()
				f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
				if err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				runChunks(b, size, f, func() {})
				f.Close()
			}
		})
	}
}

// runChunks runs the writer until carried returns and it has ended.
func runChunks(b *testing.B, size int, stdout *os.File, carried func()) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "LOGS_TEST=chunks", fmt.Sprint("SIZE=", size), fmt.Sprint("TOTAL=", benchBytes), "GOMAXPROCS=1")
	cmd.Stdout = stdout
	hold, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	carried()
	hold.Close()
	if err := cmd.Wait(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkOpen is what the first start of a daemon costs here, and each
// later one.
func BenchmarkOpen(b *testing.B) {
	for _, name := range []string{"first", "again"} {
		b.Run(name, func(b *testing.B) {
			c := newCapturer(b, b.TempDir())
			for i := 0; b.Loop(); i++ {
				daemon := "d"
				if name == "first" {
					daemon = fmt.Sprint("d", i)
				}
				k, err := c.Open(daemon, me())
				if err != nil {
					b.Fatal(err)
				}
				stdout, stderr, err := k.Writers()
				if err != nil {
					b.Fatal(err)
				}
				stdout.Close()
				stderr.Close()
				k.Close()
			}
		})
	}
}
