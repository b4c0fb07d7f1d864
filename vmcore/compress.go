package vmcore

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/panicroom-kdump/panicroom/internal/deflate"
	"github.com/panicroom-kdump/panicroom/internal/lzo"
)

// Compression is how the pages of a kdump-compressed file are compressed, each
// by itself. A page that would not get smaller is stored as it is.
type Compression int

// The compressions that readers of the format know. What each is good for, of
// kernel memory in pages of 4 KiB: zstd makes the smallest files, snappy and
// LZO take the least time, zlib and LZO have been read longest.
const (
	CompressionZstd   Compression = iota // a frame without checksum, at the fastest level
	CompressionLZO                       // LZO1X-1
	CompressionSnappy                    // the block format
	CompressionZlib                      // RFC 1950, the fastest level
	CompressionNone
)

// compressions has the names and the flags of descriptors and header;
// diskdump_mod.h of makedumpfile 1.7.8.
var compressions = [...]struct {
	name string
	flag uint32
}{
	CompressionZstd:   {"zstd", kdumpZstd},
	CompressionLZO:    {"lzo", kdumpLZO},
	CompressionSnappy: {"snappy", kdumpSnappy},
	CompressionZlib:   {"zlib", kdumpZlib},
	CompressionNone:   {"none", 0},
}

func (c Compression) valid() bool { return c >= 0 && int(c) < len(compressions) }

// String is the name: "zstd", "lzo", "snappy", "zlib" or "none".
func (c Compression) String() string {
	if !c.valid() {
		return fmt.Sprintf("compression %d", int(c))
	}
	return compressions[c].name
}

// ParseCompression finds the compression of a name that String gives.
func ParseCompression(name string) (Compression, error) {
	var names []string
	for i, c := range compressions {
		if c.name == name {
			return Compression(i), nil
		}
		names = append(names, c.name)
	}
	return 0, fmt.Errorf("compression %q: %w: it is one of %q", name, errors.ErrUnsupported, names)
}

// compressionOf is what the flags in a file's header say.
func compressionOf(status uint32) Compression {
	for i, c := range compressions {
		if c.flag != 0 && status&c.flag != 0 {
			return Compression(i)
		}
	}
	return CompressionNone
}

// compressor compresses pages. It may be used concurrently.
type compressor struct {
	kind     Compression
	pageSize int
	digests  bool // of what becomes of pages are wanted
	zstd     *zstd.Encoder
	lzo      sync.Pool // of *lzo.Encoder
	deflate  sync.Pool // of *deflate.Encoder
}

func newCompressor(kind Compression, pageSize int) (*compressor, error) {
	c := &compressor{kind: kind, pageSize: pageSize}
	if !kind.valid() {
		return nil, fmt.Errorf("%w: %v", ErrUnsupported, kind)
	}
	c.lzo.New = func() any { return new(lzo.Encoder) }
	c.deflate.New = func() any { return new(deflate.Encoder) }
	if kind != CompressionZstd {
		return c, nil
	}
	// The fastest level: a crash kernel has one or two CPUs, and better levels
	// save 4 % for half the speed on kernel memory. Blocks are smaller than
	// any window. One encoder per CPU; more would only wait for one.
	var err error
	c.zstd, err = zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)),
		zstd.WithWindowSize(max(pageSize, zstd.MinWindowSize)),
		zstd.WithSingleSegment(true),
		zstd.WithEncoderCRC(false),
		zstd.WithLowerEncoderMem(true))
	return c, err
}

func (c *compressor) close() error {
	if c.zstd == nil {
		return nil
	}
	return c.zstd.Close()
}

// room is how much longer than a page a buffer must be so that compressing
// never makes it grow: what a page that cannot be compressed becomes before it
// is taken back. Without it the last such page of an extent would make its
// buffer grow by megabytes.
func (c *compressor) room() int {
	switch c.kind {
	case CompressionLZO:
		return lzo.MaxSize(c.pageSize) - c.pageSize
	case CompressionSnappy:
		return s2.MaxEncodedLen(c.pageSize) - c.pageSize
	case CompressionZlib:
		return deflate.MaxSize(c.pageSize) - c.pageSize
	case CompressionNone:
		return 0
	}
	// zstd: headers of 14 bytes and 3 for each block.
	return 64
}

// append appends the page to dst, compressed if that is smaller, and gives the
// flags of its descriptor.
func (c *compressor) append(dst, page []byte) ([]byte, uint32) {
	before := len(dst)
	switch c.kind {
	case CompressionZstd:
		dst = c.zstd.EncodeAll(page, dst)
	case CompressionLZO:
		e := c.lzo.Get().(*lzo.Encoder)
		dst = e.Append(dst, page)
		c.lzo.Put(e)
	case CompressionSnappy:
		dst = slices.Grow(dst, s2.MaxEncodedLen(len(page)))
		n := len(s2.EncodeSnappy(dst[before:cap(dst)], page))
		dst = dst[:before+n]
	case CompressionZlib:
		e := c.deflate.Get().(*deflate.Encoder)
		dst = e.AppendZlib(dst, page)
		c.deflate.Put(e)
	default:
		return append(dst, page...), 0
	}
	if len(dst)-before >= len(page) {
		return append(dst[:before], page...), 0
	}
	return dst, compressions[c.kind].flag
}
