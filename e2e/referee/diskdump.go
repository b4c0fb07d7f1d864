package referee

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"os"

	"github.com/anchore/go-lzo"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
)

// diskdump is a kdump-compressed file, version 6 (makedumpfile's
// diskdump_mod.h and IMPLEMENTATION): header, sub header, two bitmaps, one
// descriptor of 24 bytes per page in the second bitmap, page data.
type diskdump struct {
	f       *os.File
	level   int
	status  uint32
	maxPFN  uint64
	machine string
	exists  []byte // first bitmap: pages of the machine
	dumped  []byte // second bitmap: pages in this dump
	rank    []uint32
	descs   int64
	zstd    *zstd.Decoder
}

const statusIncomplete = 8

func openDiskdump(path string) (*diskdump, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	d := &diskdump{f: f}
	if err := d.readHeaders(); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

func (d *diskdump) close() error {
	if d.zstd != nil {
		d.zstd.Close()
	}
	return d.f.Close()
}

func (d *diskdump) readHeaders() error {
	le := binary.LittleEndian
	h := make([]byte, 464)
	if _, err := d.f.ReadAt(h, 0); err != nil {
		return err
	}
	if string(h[:8]) != "KDUMP   " {
		return fmt.Errorf("signature %q", h[:8])
	}
	version, blockSize := le.Uint32(h[8:]), int64(le.Uint32(h[428:]))
	subBlocks, bitmapBlocks := int64(le.Uint32(h[432:])), int64(le.Uint32(h[436:]))
	if version != 6 || blockSize != pageSize {
		return fmt.Errorf("version %d with blocks of %d bytes; want 6 and %d", version, blockSize, pageSize)
	}
	d.status = le.Uint32(h[424:])
	d.machine = string(bytes.TrimRight(h[12+4*65:12+5*65], "\x00"))
	sub := make([]byte, 104)
	if _, err := d.f.ReadAt(sub, blockSize); err != nil {
		return err
	}
	d.level = int(le.Uint32(sub[8:]))
	d.maxPFN = le.Uint64(sub[96:])
	each := bitmapBlocks / 2 * blockSize
	if each > 1<<30 || uint64(each)*8 < d.maxPFN {
		return fmt.Errorf("bitmaps of %d bytes for %d pages", each, d.maxPFN)
	}
	d.exists, d.dumped = make([]byte, each), make([]byte, each)
	at := (1 + subBlocks) * blockSize
	if _, err := d.f.ReadAt(d.exists, at); err != nil {
		return fmt.Errorf("first bitmap: %w", err)
	}
	if _, err := d.f.ReadAt(d.dumped, at+each); err != nil {
		return fmt.Errorf("second bitmap: %w", err)
	}
	d.descs = at + 2*each
	n := uint32(0)
	d.rank = make([]uint32, each)
	for i, b := range d.dumped {
		d.rank[i] = n
		n += uint32(bits.OnesCount8(b))
	}
	var err error
	d.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20))
	return err
}

func bit(bitmap []byte, n uint64) bool {
	return n/8 < uint64(len(bitmap)) && bitmap[n/8]>>(n%8)&1 != 0
}

// page returns one dumped page, good until the next call with the same buf.
func (d *diskdump) page(pfn uint64, buf []byte) ([]byte, error) {
	if !bit(d.dumped, pfn) {
		return nil, fmt.Errorf("frame %#x is not in the dump", pfn)
	}
	index := int64(d.rank[pfn/8]) + int64(bits.OnesCount8(d.dumped[pfn/8]&(1<<(pfn%8)-1)))
	le := binary.LittleEndian
	desc := make([]byte, 24)
	if _, err := d.f.ReadAt(desc, d.descs+24*index); err != nil {
		return nil, fmt.Errorf("descriptor of frame %#x: %w", pfn, err)
	}
	offset, size, flags := int64(le.Uint64(desc)), le.Uint32(desc[8:]), le.Uint32(desc[12:])
	if offset < d.descs || size == 0 || size > pageSize {
		return nil, fmt.Errorf("descriptor of frame %#x: %d bytes at %#x", pfn, size, offset)
	}
	data := make([]byte, size)
	if _, err := d.f.ReadAt(data, offset); err != nil {
		return nil, fmt.Errorf("data of frame %#x: %w", pfn, err)
	}
	var page []byte
	var err error
	switch flags {
	case 0:
		page = data
	case 0x1:
		var r io.ReadCloser
		if r, err = zlib.NewReader(bytes.NewReader(data)); err == nil {
			page, err = io.ReadAll(io.LimitReader(r, pageSize+1))
		}
	case 0x2:
		page = make([]byte, pageSize)
		var n int
		n, err = lzo.Decompress(data, page)
		page = page[:n]
	case 0x4:
		page, err = snappy.Decode(nil, data)
	case 0x20:
		page, err = d.zstd.DecodeAll(data, buf[:0])
	default:
		err = fmt.Errorf("flags %#x", flags)
	}
	if err != nil {
		return nil, fmt.Errorf("data of frame %#x: %w", pfn, err)
	}
	if len(page) != pageSize {
		return nil, fmt.Errorf("data of frame %#x: %d bytes", pfn, len(page))
	}
	return page, nil
}
