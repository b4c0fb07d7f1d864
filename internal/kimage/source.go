package kimage

import (
	"bytes"
	"errors"
	"io"
)

// headBytes of a file are enough to say what it is: the boot sector and setup
// header of a bzImage (0x202), any section table of a PE program.
const headBytes = 4096

// source is the bytes of one layer: a part of the file, which can be read
// anywhere, or what comes out of a decompressor, which only goes forward.
type source struct {
	at     io.ReaderAt // nil for a stream
	stream *forward    // nil for a part of the file
	size   int64       // -1 when only the end of the stream tells
	// head is the first bytes; they can always be read, again and again.
	head []byte
	// whole, if not nil, unpacks the stream anew, from its first byte to its
	// end; see [unpacker.whole]. done tells that it has.
	whole func(to []byte) (int, error)
	done  bool
}

// forward counts what was read.
type forward struct {
	r   io.Reader
	pos int64
}

func (f *forward) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	f.pos += int64(n)
	return n, err
}

// errBackwards is the answer to wanting of a stream what it has passed.
var errBackwards = errors.New("its parts are not in the order of the file")

func fileSource(at io.ReaderAt, size int64) *source {
	return &source{at: at, size: size}
}

func streamSource(r io.Reader, size int64) *source {
	return &source{stream: &forward{r: r}, size: size}
}

// peek fills head.
func (s *source) peek() error {
	if s.head != nil {
		return nil
	}
	n := int64(headBytes)
	if s.size >= 0 {
		n = min(n, s.size)
	}
	head := make([]byte, n)
	var got int
	var err error
	if s.at != nil {
		got, err = s.at.ReadAt(head, 0)
	} else {
		got, err = io.ReadFull(s.stream, head)
	}
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return err
	}
	s.head = head[:got]
	return nil
}

// from reads on from an offset. It fails with [io.ErrUnexpectedEOF] when the
// stream ends before it.
func (s *source) from(off int64) (io.Reader, error) {
	if s.at != nil {
		return io.NewSectionReader(s.at, off, max(0, s.size-off)), nil
	}
	if off < int64(len(s.head)) {
		if s.stream.pos != int64(len(s.head)) {
			return nil, errBackwards
		}
		return io.MultiReader(bytes.NewReader(s.head[off:]), s.stream), nil
	}
	if off < s.stream.pos {
		return nil, errBackwards
	}
	if _, err := io.CopyN(io.Discard, s.stream, off-s.stream.pos); err != nil {
		return nil, unexpected(err)
	}
	return s.stream, nil
}

// readAt fills p, or says how much of it there is and why not more.
func (s *source) readAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) <= int64(len(s.head)) {
		return copy(p, s.head[off:]), nil
	}
	r, err := s.from(off)
	if err != nil {
		return 0, err
	}
	n, err := io.ReadFull(r, p)
	return n, unexpected(err)
}

// all is readAt for p that is likely all of s, and costs no memory but p then.
func (s *source) all(p []byte) (int, error) {
	if s.whole == nil {
		return s.readAt(p, 0)
	}
	n, err := s.whole(p)
	if err == errMore {
		return s.readAt(p, 0)
	}
	if s.done = err == nil; s.done && n < len(p) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// section is a part of s as a source; its end is checked by whoever reads it
// if s has no known size.
func (s *source) section(off, size int64) (*source, error) {
	if s.at != nil {
		return fileSource(io.NewSectionReader(s.at, off, size), size), nil
	}
	r, err := s.from(off)
	if err != nil {
		return nil, err
	}
	return streamSource(io.LimitReader(r, size), size), nil
}

// unexpected is the end of the data where more was promised.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
