package partition

import (
	"fmt"
	"io"
	"io/fs"
)

// reader reads a file as the table knows it.
type reader struct {
	disk io.ReaderAt
	head *header
	file tableFile
	next int64
}

func openFile(d io.ReaderAt, h *header, c *tableCrash, name string) (*reader, error) {
	for _, f := range c.Files {
		if f.Name == name {
			return &reader{disk: d, head: h, file: f}, nil
		}
	}
	return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
}

func (r *reader) Close() error { return nil }

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.ReadAt(p, r.next)
	r.next += int64(n)
	return n, err
}

// ReadAt reads zeros where there is no chunk.
func (r *reader) ReadAt(p []byte, offset int64) (n int, err error) {
	for n < len(p) {
		if offset >= r.file.Size {
			return n, io.EOF
		}
		size := int64(1) << r.head.Shift
		part := p[n:]
		part = part[:min(int64(len(part)), size-offset&(size-1), r.file.Size-offset)]
		k := len(part)
		if on, ok := r.chunk(uint32(offset >> r.head.Shift)); ok {
			k, err = r.disk.ReadAt(part, dataStart+int64(on)<<r.head.Shift+offset&(size-1))
		} else {
			clear(part)
		}
		n += k
		offset += int64(k)
		if k < len(part) {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return n, err
		}
	}
	return n, nil
}

// chunk says where a chunk of the file is.
func (r *reader) chunk(i uint32) (uint32, bool) {
	for _, run := range r.file.Runs {
		if i >= run.At && i-run.At < run.Count {
			return run.On + i - run.At, true
		}
	}
	return 0, false
}
