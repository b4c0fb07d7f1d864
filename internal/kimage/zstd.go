package kimage

import (
	"bytes"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"
)

const (
	// zstdHead is enough of the compressed data for its first block, which has at
	// most 128 KiB (RFC 8878, 3.1.1.2).
	zstdHead = 160 << 10
	zstdPeek = 256 << 10 // what may come of it
)

// zstdStream unpacks zstd. The kernel's build takes level 22 with a window as
// large as the kernel, which the library keeps beside what it gives out. So what
// comes out first, which tells what it is, is unpacked by itself, and all of it
// straight to memory.
type zstdStream struct {
	in    io.Reader // behind head
	head  []byte    // compressed
	first []byte    // what could be unpacked of head
	given int       // of first
	d     *zstd.Decoder
	far   bool // d reads on from first
}

func openZstd(r io.Reader) (io.Reader, error) {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, err
	}
	z := &zstdStream{in: r, d: d, head: make([]byte, zstdHead)}
	n, err := io.ReadFull(r, z.head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, err
	}
	z.head = z.head[:n]
	// It fails where the data are cut, if not before. What is wrong with them is
	// found by whoever reads them all.
	z.first, _ = d.DecodeAll(z.head, make([]byte, 0, zstdPeek))
	return z, nil
}

func (z *zstdStream) Read(p []byte) (int, error) {
	if z.given < len(z.first) {
		n := copy(p, z.first[z.given:])
		z.given += n
		return n, nil
	}
	if !z.far {
		z.far = true
		if err := z.d.Reset(io.MultiReader(bytes.NewReader(z.head), z.in)); err != nil {
			return 0, err
		}
		if _, err := io.CopyN(io.Discard, z.d, int64(z.given)); err != nil {
			return 0, unexpected(err)
		}
	}
	return z.d.Read(p)
}

func (z *zstdStream) whole(to []byte, packed int64) (int, error) {
	if packed > int64(len(to)) {
		return 0, errMore // most of it is something else
	}
	in := make([]byte, packed)
	n := copy(in, z.head)
	rest, err := io.ReadFull(z.in, in[n:])
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return 0, err
	}
	out, err := z.d.DecodeAll(in[:n+rest], to[:0:len(to)])
	// The kernel's build appends the size to what it compresses.
	if len(out) > 0 && errors.Is(err, zstd.ErrMagicMismatch) {
		err = nil
	}
	if err != nil || len(out) > len(to) {
		// Too small, or corrupt: reading it as a stream will tell.
		return 0, errMore
	}
	return len(out), nil
}

func (z *zstdStream) close() { z.d.Close() }
