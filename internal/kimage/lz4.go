package kimage

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The legacy frame of LZ4, which lz4 -l writes and which is the only one that
// the kernel reads (lib/decompress_unlz4.c, 6.12): a magic, then blocks, each
// behind its length, up to the end of the file. The formats are lz4's
// doc/lz4_Frame_format.md and doc/lz4_Block_format.md, 1.9.4.
const (
	lz4LegacyMagic = "\x02\x21\x4c\x18"

	lz4Block  = 8 << 20                      // what a block unpacks to at most
	lz4Bound  = lz4Block + lz4Block/255 + 16 // and what it is then packed at most
	lz4Reach  = 64 << 10                     // a match begins less than this before it
	lz4Window = 4 * lz4Reach                 // what is held
	lz4Short  = 4                            // the shortest match
	lz4More   = 15                           // of a length: bytes that are added follow
)

// lz4Legacy unpacks a legacy frame. A block is 8 MiB, half a kernel, and the
// library holds two; but a match reaches back 64 KiB at most, and what is
// packed can be taken as it comes.
type lz4Legacy struct {
	in  *bufio.Reader
	buf []byte // of lz4Window bytes; from done on they are to be read, up to end they are there
	// done and end are offsets in buf.
	done, end int
	total     uint32 // what came out, as the kernel's build appends it

	packed int64 // left of the block
	out    int   // of the block
	// Of a sequence: literals and then bytes of a match that are still to come.
	// distance is 0 until it was read.
	literals, match, distance int
	token                     byte
	inside                    bool // of a sequence
	err                       error
}

func newLZ4Legacy(r io.Reader) (*lz4Legacy, error) {
	z := &lz4Legacy{in: bufio.NewReaderSize(r, 64<<10), buf: make([]byte, lz4Window)}
	var magic [4]byte
	if _, err := io.ReadFull(z.in, magic[:]); err != nil {
		return nil, unexpected(err)
	}
	if string(magic[:]) != lz4LegacyMagic {
		return nil, errors.New("no legacy frame")
	}
	return z, nil
}

func (z *lz4Legacy) Read(p []byte) (int, error) {
	for z.done == z.end && len(p) > 0 {
		if z.end == len(z.buf) {
			z.end = copy(z.buf, z.buf[z.end-lz4Reach:])
			z.done = z.end
		}
		if z.err != nil {
			return 0, z.err
		}
		z.err = z.more()
		z.total += uint32(z.end - z.done)
	}
	n := copy(p, z.buf[z.done:z.end])
	z.done += n
	return n, nil
}

// more unpacks until the window is full, or fails.
func (z *lz4Legacy) more() error {
	start := z.end
	for z.end < len(z.buf) {
		if z.packed == 0 && !z.inside {
			// The total that comes next is of all that was unpacked so far.
			if z.end > start {
				return nil
			}
			if err := z.block(); err != nil {
				return err
			}
			continue
		}
		if err := z.sequence(); err != nil {
			return err
		}
	}
	return nil
}

// block begins the next block; after the last one it is [io.EOF].
func (z *lz4Legacy) block() error {
	var b [4]byte
	for {
		if _, err := io.ReadFull(z.in, b[:]); err != nil {
			return err
		}
		if string(b[:]) == lz4LegacyMagic {
			continue // another frame
		}
		size := binary.LittleEndian.Uint32(b[:])
		if size == z.total {
			// The kernel's build appends the size of what it packed
			// (scripts/Makefile.lib, size_append). Nothing is behind it.
			if _, err := z.in.Peek(1); err != nil {
				return err
			}
		}
		if size > lz4Bound {
			return fmt.Errorf("a block of %d bytes", size)
		}
		z.packed, z.out = int64(size), 0
		if size > 0 {
			return nil
		}
	}
}

// errLZ4 is what a block says that nobody wrote.
var errLZ4 = errors.New("broken block")

func (z *lz4Legacy) byte() (byte, error) {
	if z.packed == 0 {
		return 0, errLZ4
	}
	b, err := z.in.ReadByte()
	z.packed--
	return b, unexpected(err)
}

// length reads what is added to a length of 15.
func (z *lz4Legacy) length(n int) (int, error) {
	if n != lz4More {
		return n, nil
	}
	for {
		b, err := z.byte()
		if err != nil {
			return 0, err
		}
		if n += int(b); n > lz4Block {
			return 0, errLZ4
		}
		if b != 0xff {
			return n, nil
		}
	}
}

// sequence goes on with a sequence, which is literals and a match, as far as
// the window has room. The last one of a block has no match.
func (z *lz4Legacy) sequence() error {
	var err error
	if !z.inside {
		if z.token, err = z.byte(); err != nil {
			return err
		}
		if z.literals, err = z.length(int(z.token >> 4)); err != nil {
			return err
		}
		z.inside, z.distance = true, 0
		if int64(z.literals) > z.packed || z.out+z.literals > lz4Block {
			return errLZ4
		}
	}
	if n := min(z.literals, len(z.buf)-z.end); n > 0 {
		if _, err := io.ReadFull(z.in, z.buf[z.end:][:n]); err != nil {
			return unexpected(err)
		}
		z.packed -= int64(n)
		z.literals -= n
		z.wrote(n)
	}
	if z.literals > 0 {
		return nil
	}
	if z.distance == 0 {
		if z.packed == 0 {
			z.inside = false
			return nil
		}
		if err := z.startMatch(); err != nil {
			return err
		}
	}
	n := min(z.match, len(z.buf)-z.end)
	for left := n; left > 0; {
		// What is near repeats itself.
		k := copy(z.buf[z.end:][:left], z.buf[z.end-z.distance:z.end])
		left -= k
		z.wrote(k)
	}
	z.match -= n
	z.inside = z.match > 0
	return nil
}

func (z *lz4Legacy) wrote(n int) {
	z.end += n
	z.out += n
}

// startMatch reads where a match begins and how long it is.
func (z *lz4Legacy) startMatch() error {
	low, err := z.byte()
	if err != nil {
		return err
	}
	high, err := z.byte()
	if err != nil {
		return err
	}
	n, err := z.length(int(z.token & 15))
	if err != nil {
		return err
	}
	z.distance, z.match = int(low)|int(high)<<8, n+lz4Short
	if z.distance == 0 || z.distance > z.out || z.out+z.match > lz4Block || z.packed == 0 {
		return errLZ4
	}
	return nil
}
