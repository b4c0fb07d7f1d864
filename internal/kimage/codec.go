package kimage

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

const (
	// maxWindow is how much of what was unpacked a decompressor may keep: what
	// the kernel's build asks of xz (scripts/xz_wrap.sh, 6.12) and of zstd
	// (-22) for compressing itself.
	maxWindow = 128 << 20
	// maxUnpacked is what all layers together may unpack to. A vmlinux with
	// all debug data has 1.5 GB.
	maxUnpacked = 8 << 30
)

// codec is a compression; the kernel makes its Image in all of them
// (arch/riscv/boot/Makefile, scripts/Makefile.lib, 6.12).
type codec struct {
	name  string
	magic string
	open  func(io.Reader) (io.Reader, error)
}

var codecs = []codec{
	{"gzip", "\x1f\x8b", func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }},
	{"xz", xzMagic, func(r io.Reader) (io.Reader, error) { return newXZ(r) }},
	{"zstd", "\x28\xb5\x2f\xfd", openZstd},
	{"bzip2", "BZh", func(r io.Reader) (io.Reader, error) { return bzip2.NewReader(r), nil }},
	{"lz4", lz4LegacyMagic, func(r io.Reader) (io.Reader, error) { return newLZ4Legacy(r) }},
	{"lz4", "\x04\x22\x4d\x18", openLZ4},
	{"lzo", lzopMagic, func(r io.Reader) (io.Reader, error) { return newLZOP(r) }},
	{"lzma", "\x5d\x00\x00", func(r io.Reader) (io.Reader, error) { return newLZMA(r) }},
}

func codecOf(head []byte) *codec {
	for i := range codecs {
		if bytes.HasPrefix(head, []byte(codecs[i].magic)) {
			return &codecs[i]
		}
	}
	return nil
}

// openLZ4 reads the frame that lz4 writes without -l.
func openLZ4(r io.Reader) (io.Reader, error) {
	z := lz4.NewReader(r)
	// One at a time: what panics in a goroutine of the library's ends the
	// program.
	if err := z.Apply(lz4.ConcurrencyOption(1)); err != nil {
		return nil, err
	}
	return z, nil
}

// toMemory is a decompressor that needs no window beside what it unpacks to.
type toMemory interface {
	// whole is [unpacker.whole] of data of the given length.
	whole(to []byte, packed int64) (int, error)
}

// unpacker is a compressed layer being read. It turns whatever its library
// does with bad data into an [*Error], counts what comes out, and takes what
// follows the end of the data for none of its business, as gzip(1) does.
type unpacker struct {
	codec  *codec
	r      io.Reader
	budget *int64
	outer  []Layer
	any    bool // anything came out
	idle   int  // reads in a row that gave nothing
	err    error
}

// newUnpacker starts unpacking r, counting on budget.
func newUnpacker(c *codec, r io.Reader, budget *int64, outer []Layer) *unpacker {
	u := &unpacker{codec: c, budget: budget, outer: outer}
	u.err = u.guard(func() error {
		var err error
		u.r, err = c.open(bufio.NewReaderSize(r, 64<<10))
		return err
	})
	return u
}

func (u *unpacker) Read(p []byte) (int, error) {
	if u.err != nil {
		return 0, u.err
	}
	if *u.budget <= 0 {
		u.err = u.fail(ErrTooLarge, fmt.Sprintf("unpacks to more than %d GiB", maxUnpacked>>30))
		return 0, u.err
	}
	p = p[:min(int64(len(p)), *u.budget)]
	n := 0
	u.err = u.guard(func() (err error) {
		n, err = u.r.Read(p)
		return err
	})
	*u.budget -= int64(n)
	if n > 0 {
		u.any, u.idle = true, 0
	} else if u.idle++; u.idle > 100 && u.err == nil {
		u.err = u.fail(ErrCorrupt, io.ErrNoProgress.Error())
	}
	return n, u.err
}

// guard calls a library and names what it says. The libraries have functions
// that panic when something cannot be; foreign data is not to find out.
func (u *unpacker) guard(call func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = u.fail(ErrCorrupt, fmt.Sprint(p))
		}
	}()
	err = call()
	if err == nil || err == io.EOF {
		return err
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err // of a layer further out
	}
	switch {
	case err == errMore:
		return err
	case u.any && (errors.Is(err, gzip.ErrHeader) || errors.Is(err, zstd.ErrMagicMismatch)):
		return io.EOF
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, errWindow):
		return u.fail(ErrTooLarge, fmt.Sprintf("wants to keep more than %d MiB while unpacking", maxWindow>>20))
	case errors.Is(err, io.ErrUnexpectedEOF):
		return u.fail(ErrTruncated, "the compressed data ends too early")
	}
	return u.fail(ErrCorrupt, err.Error())
}

func (u *unpacker) fail(sentinel error, what string) error {
	return &Error{Err: sentinel, Kind: Compressed, Layers: u.outer, Detail: u.codec.name + ": " + what, hints: []string{copyAgain}}
}

// whole unpacks all of the layer to memory, of which it returns how much is used,
// if the codec can have that for its window and nothing was read before. It is
// errMore when the memory is too small; what is in it then is of no use.
func (u *unpacker) whole(to []byte, packed int64) (int, error) {
	if u.err != nil {
		return 0, u.err
	}
	n := 0
	err := u.guard(func() (err error) {
		n, err = u.r.(toMemory).whole(to, packed)
		return err
	})
	*u.budget -= int64(n)
	return n, err
}

// drain reads to the end, where the checksums are.
func (u *unpacker) drain() error {
	_, err := io.Copy(io.Discard, struct{ io.Reader }{u})
	return err
}

// close lets go of the library's memory.
func (u *unpacker) close() {
	if z, ok := u.r.(*zstdStream); ok {
		z.close()
	}
}
