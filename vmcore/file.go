package vmcore

import "fmt"

// ReadFile fills p with bytes of the file itself, headers included, from
// offset off on: for literal copies. It reads as ReadPhys does, so of
// /proc/vmcore nothing through read(2). It returns fewer bytes only with an
// error, which wraps [ErrUnreadable]: the next page may be readable again.
func (r *Reader) ReadFile(p []byte, off int64) (int, error) {
	n, err := r.memory.readFile(p, off)
	if err != nil {
		err = fmt.Errorf("file offset %#x: %w: %w", off+int64(n), ErrUnreadable, err)
	}
	return n, err
}

func (m *elfMemory) readFile(p []byte, off int64) (int, error) { return m.src.readAt(p, off) }

// readFile is of the first file of a split dump.
func (m *kdumpMemory) readFile(p []byte, off int64) (int, error) { return m.srcs[0].readAt(p, off) }
