package persist

import (
	"errors"
	"io/fs"
	"math"
	"os"

	"golang.org/x/sys/windows"
)

func diskFree(dir string) (int64, error) {
	p, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, err
	}
	var free uint64
	if err := windows.GetDiskFreeSpaceEx(p, &free, nil, nil); err != nil {
		return 0, err
	}
	return int64(min(free, math.MaxInt64)), nil
}

func allocated(fi fs.FileInfo) int64 { return fi.Size() }

// allocate has nothing to do: NTFS allocates a file's clusters when its size
// is set.
func allocate(string, int64) error { return nil }

// syncMapped writes out a file, what was written to it through memory maps
// included. Views of one file share their pages, so flushing a view of our
// own does it; FlushFileBuffers then takes it through the disk's cache.
func syncMapped(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if fi.Size() > 0 {
		m, err := windows.CreateFileMapping(windows.Handle(f.Fd()), nil, windows.PAGE_READWRITE, 0, 0, nil)
		if err != nil {
			return os.NewSyscallError("CreateFileMapping", err)
		}
		defer windows.CloseHandle(m)
		addr, err := windows.MapViewOfFile(m, windows.FILE_MAP_WRITE, 0, 0, 0)
		if err != nil {
			return os.NewSyscallError("MapViewOfFile", err)
		}
		err = windows.FlushViewOfFile(addr, 0)
		if uerr := windows.UnmapViewOfFile(addr); err == nil {
			err = uerr
		}
		if err != nil {
			return os.NewSyscallError("FlushViewOfFile", err)
		}
	}
	return f.Sync()
}

// syncDir has nothing to do: NTFS journals its directories.
func syncDir(string) error { return nil }

func syncFS(string) error { return errors.ErrUnsupported }

// descriptorsLeft is always nil: handles are limited by memory alone.
func descriptorsLeft() error { return nil }
