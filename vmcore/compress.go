package vmcore

import (
	"errors"
	"fmt"
	"slices"

	"github.com/klauspost/compress/s2"

	"github.com/panicroom-kdump/panicroom/internal/deflate"
	"github.com/panicroom-kdump/panicroom/internal/lzo"
	"github.com/panicroom-kdump/panicroom/internal/zstdpage"
)

// Compression is how the pages of a kdump-compressed file are compressed, each
// by itself. A page that would not get smaller is stored as it is.
type Compression int

// The compressions that readers of the format know. What each is good for, of
// kernel memory in pages of 4 KiB: zstd makes the smallest files, snappy and
// LZO take the least time, zlib and LZO have been read longest.
const (
	CompressionZstd   Compression = iota // a frame without checksum, as small as at level 1
	CompressionLZO                       // LZO1X-1
	CompressionSnappy                    // the block format
	CompressionZlib                      // RFC 1950, the fastest level
	CompressionNone
)

// encode appends a page in compressed form. It keeps state from page to page and
// is for one goroutine.
type encode func(dst, page []byte) []byte

// compressions has the names; the flags of descriptors and header
// (diskdump_mod.h of makedumpfile 1.7.8); what makes an encoder; and the room
// that it needs for a page of n bytes.
var compressions = [...]struct {
	name    string
	flag    uint32
	encoder func() encode
	room    func(n int) int
}{
	CompressionZstd:   {"zstd", kdumpZstd, func() encode { return zstdpage.NewEncoder().Append }, zstdpage.MaxSize},
	CompressionLZO:    {"lzo", kdumpLZO, func() encode { return new(lzo.Encoder).Append }, lzo.MaxSize},
	CompressionSnappy: {"snappy", kdumpSnappy, func() encode { return appendSnappy }, s2.MaxEncodedLen},
	CompressionZlib:   {"zlib", kdumpZlib, func() encode { return new(deflate.Encoder).AppendZlib }, deflate.MaxSize},
	CompressionNone:   {"none", 0, func() encode { return nil }, func(n int) int { return n }},
}

func appendSnappy(dst, page []byte) []byte {
	before := len(dst)
	dst = slices.Grow(dst, s2.MaxEncodedLen(len(page)))
	return dst[:before+len(s2.EncodeSnappy(dst[before:cap(dst)], page))]
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

// packing is how the pages of a file become data.
type packing struct {
	kind     Compression
	pageSize int
	digests  bool // of what becomes of pages are wanted
}

// room is how large the buffer for so many pages must be so that it never grows:
// the last of them may need more than a page before it is taken back, because it
// did not get smaller.
func (p *packing) room(pages int) int {
	return pages*p.pageSize + compressions[p.kind].room(p.pageSize) - p.pageSize
}
