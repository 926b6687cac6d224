package logs

import (
	"bytes"
	"io"
)

// blockSize is what is read at once, backwards and forwards.
const blockSize = 64 << 10

// lastLines finds, reading backwards block by block, where the last n lines
// of the first size bytes of r begin. What stands behind the last newline, if
// anything, counts as a line. If there are fewer than n, off is 0 and found
// tells how many newlines were counted, so that the search goes on for n-found
// in the bytes before. These have more behind them: a newline at their very
// end is the end of a line that counts.
func lastLines(r io.ReaderAt, size int64, n int, more bool) (off int64, found int, err error) {
	if n <= 0 {
		return size, 0, nil
	}
	buf := make([]byte, min(blockSize, size))
	for end := size; end > 0; {
		block := buf[:min(int64(len(buf)), end)]
		start := end - int64(len(block))
		if _, err := r.ReadAt(block, start); err != nil {
			if err == io.EOF { // it was cut meanwhile
				err = io.ErrUnexpectedEOF
			}
			return 0, 0, err
		}
		if end == size && !more && block[len(block)-1] == '\n' {
			block = block[:len(block)-1]
		}
		for {
			i := bytes.LastIndexByte(block, '\n')
			if i < 0 {
				break
			}
			if found++; found == n {
				return start + int64(i) + 1, found, nil
			}
			block = block[:i]
		}
		end = start
	}
	return 0, found, nil
}

// skipLines does the same for bytes that can only be read forwards, as those
// of a compressed file: it counts their newlines and says how many to skip.
// empty: there are no bytes at all.
func skipLines(r io.Reader, n int, more bool) (skip, found int, empty bool, err error) {
	buf := make([]byte, blockSize)
	last := byte(0)
	empty = true
	for {
		k, err := r.Read(buf)
		if k > 0 {
			empty = false
			found += bytes.Count(buf[:k], []byte{'\n'})
			last = buf[k-1]
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return 0, 0, false, err
		}
	}
	if !more && last == '\n' && !empty {
		found--
	}
	if found >= n {
		return found - n + 1, n, empty, nil
	}
	return 0, found, empty, nil
}
