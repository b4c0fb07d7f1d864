package kimage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

const (
	// maxLayers around a kernel: a UKI with a zboot kernel, compressed inside
	// and out, has four.
	maxLayers = 4
	// A kernel is not larger than generous bytes, unless its file has a
	// proportion-th of them.
	generous   = 256 << 20
	proportion = 64
)

// opener is a kernel being looked for.
type opener struct {
	opts    *Options
	file    *file
	size    int64 // of the file
	budget  int64 // bytes that may still be unpacked
	layers  []Layer
	unified *Unified
}

// refuse makes the error that ends the search.
func (o *opener) refuse(err error, kind Kind, m Machine, detail string, hints ...string) error {
	return &Error{Err: err, Kind: kind, Machine: m, Layers: o.inside(), Detail: detail, hints: hints}
}

func (o *opener) truncated(kind Kind, format string, args ...any) error {
	return o.refuse(ErrTruncated, kind, RISCV, fmt.Sprintf(format, args...), copyAgain)
}

func (o *opener) wrongMachine(kind Kind, m Machine, what string) error {
	return o.refuse(ErrWrongMachine, kind, m, what+", this program loads riscv64 kernels", thisMachines, whereKernelsAre)
}

// inside is the layers so far.
func (o *opener) inside() []Layer { return slices.Clone(o.layers) }

// failed is an error of reading: that of a layer is said already, what remains
// is the end of the data.
func (o *opener) failed(err error, kind Kind, what string) error {
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return o.truncated(kind, "the data ends in %s", what)
	}
	if errors.Is(err, errBackwards) {
		return o.refuse(ErrNotLoadable, kind, RISCV, err.Error(), "unpack it, and load what comes out")
	}
	return fmt.Errorf("reading %s: %w", what, err)
}

// alloc is the memory of the image.
func (o *opener) alloc(kind Kind, size uint64) ([]byte, error) {
	if size > generous && size/proportion > uint64(o.size) {
		return nil, o.refuse(ErrTooLarge, kind, RISCV, fmt.Sprintf("%d bytes of kernel in a file of %d", size, o.size), whereKernelsAre)
	}
	if o.opts.Alloc == nil {
		return make([]byte, size), nil
	}
	b, err := o.opts.Alloc(int(size))
	if err != nil {
		return nil, fmt.Errorf("memory for a kernel of %d bytes: %w", size, err)
	}
	return b[:size], nil
}

// open finds the kernel in a layer.
func (o *opener) open(s *source) (*Image, error) {
	if err := s.peek(); err != nil {
		return nil, o.failed(err, Unknown, "the first bytes")
	}
	if len(s.head) == 0 {
		return nil, o.refuse(ErrTruncated, Unknown, NoMachine, "there is nothing in it", whereKernelsAre)
	}
	if c := codecOf(s.head); c != nil {
		return o.unpack(c, s)
	}
	is := func(magic string) bool { return bytes.HasPrefix(s.head, []byte(magic)) }
	le := binary.LittleEndian
	switch {
	case is("\x7fELF"):
		return o.elf(s)
	case is("\xd0\x0d\xfe\xed"):
		return nil, o.refuse(ErrNotKernel, Unknown, NoMachine, "a device tree or FIT image", "get the kernel out of a FIT image: dumpimage -T flat_dt -p 0 -o Image FILE")
	case is("\x27\x05\x19\x56"):
		return nil, o.refuse(ErrNotLoadable, Unknown, NoMachine, "a U-Boot uImage", "cut off its header of 64 bytes: tail -c +65 FILE > Image, and load that")
	case is("070701"), is("070702"), is("070707"), is("\xc7\x71"):
		return nil, o.refuse(ErrNotKernel, Unknown, NoMachine, "a cpio archive, as an initramfs is", whereKernelsAre)
	case len(s.head) >= 0x206 && s.head[0x1fe] == 0x55 && s.head[0x1ff] == 0xaa && string(s.head[0x202:0x206]) == "HdrS":
		return nil, o.wrongMachine(BzImage, X86_64, "an x86 bzImage")
	}
	if len(s.head) >= headerSize {
		switch {
		case le.Uint32(s.head[0x38:]) == magic2RISCV:
			return o.flat(s)
		case le.Uint32(s.head[0x38:]) == magic2ARM64:
			return nil, o.wrongMachine(Flat, ARM64, "an arm64 Image")
		case le.Uint64(s.head[0x30:]) == magicRISCV:
			return nil, o.refuse(ErrNotLoadable, Flat, RISCV, "a riscv Image of a header older than 0.2", newerKernel)
		case le.Uint32(s.head[0x24:]) == 0x016f2818:
			return nil, o.wrongMachine(Flat, ARM, "an arm zImage")
		}
	}
	if is("MZ") {
		if len(s.head) < headerSize {
			return nil, o.refuse(ErrTruncated, Unknown, NoMachine, fmt.Sprintf("%d bytes are less than a header", len(s.head)), whereKernelsAre)
		}
		return o.program(s)
	}
	what := "data that begins"
	if s.size >= 0 {
		what = fmt.Sprintf("%d bytes that begin", s.size)
	}
	return nil, o.refuse(ErrNotKernel, Unknown, NoMachine, fmt.Sprintf("%s with %x", what, s.head[:min(len(s.head), 8)]), whereKernelsAre)
}

// enter notes a layer before what is in it is opened.
func (o *opener) enter(l Layer) error {
	if len(o.layers) == maxLayers {
		return o.refuse(ErrTooLarge, l.Kind, NoMachine, fmt.Sprintf("%v in %d layers", l, maxLayers), whereKernelsAre)
	}
	o.layers = append(o.layers, l)
	return nil
}

// unpack opens what is compressed in s, and reads it to its end: corrupt data
// may show nowhere but in a checksum there.
func (o *opener) unpack(c *codec, s *source) (*Image, error) {
	outer := o.inside()
	if err := o.enter(Layer{Kind: Compressed, Codec: c.name, Size: uint64(max(0, s.size))}); err != nil {
		return nil, err
	}
	r, err := s.from(0)
	if err != nil {
		return nil, o.failed(err, Compressed, "the compressed data")
	}
	u := newUnpacker(c, r, &o.budget, outer)
	defer u.close()
	plain := streamSource(u, -1)
	if _, ok := u.r.(toMemory); ok && s.at != nil {
		plain.whole = func(to []byte) (int, error) {
			again, err := s.from(0)
			if err != nil {
				return 0, err
			}
			u := newUnpacker(c, again, &o.budget, outer)
			defer u.close()
			return u.whole(to, s.size)
		}
	}
	img, err := o.open(plain)
	if plain.done {
		return img, err // its end was seen
	}
	if err == nil {
		err = u.drain()
	} else if _, ok := errors.AsType[*Error](err); ok {
		// What came out may be odd because it is corrupt. That is worth some
		// time, but not all that a bomb can take.
		o.budget = min(o.budget, generous)
		if end := u.drain(); errors.Is(end, ErrCorrupt) || errors.Is(end, ErrTruncated) {
			err = end
		}
	}
	if err != nil {
		return nil, err
	}
	return img, nil
}

// program sorts EFI programs that are no flat Image themselves.
func (o *opener) program(s *source) (*Image, error) {
	notKernel := o.refuse(ErrNotKernel, Unknown, NoMachine, "an EFI or DOS program, but not a kernel", whereKernelsAre)
	pe, err := readPE(s.head)
	if err != nil || pe == nil {
		return nil, notKernel
	}
	if string(s.head[4:8]) == "zimg" {
		return o.zboot(s, pe)
	}
	for _, section := range pe.sections {
		if section.name == ".linux" {
			return o.uki(s, pe)
		}
	}
	return nil, notKernel
}

// zboot opens the payload of an EFI zboot program
// (drivers/firmware/efi/libstub/zboot-header.S, 6.12): "zimg" at 4, offset and
// size of the payload at 8 and 12, the name of its compression at 0x18. The
// name is of no use: Makefile.zboot has called xz "xz" and "xzkern", zstd "zstd"
// and "zstd22". Behind the payload of all but gzip follow 4 bytes with its
// length unpacked, which the size leaves out.
func (o *opener) zboot(s *source, pe *peHeader) (*Image, error) {
	off, size := int64(binary.LittleEndian.Uint32(s.head[8:])), int64(binary.LittleEndian.Uint32(s.head[12:]))
	name, _, _ := bytes.Cut(s.head[0x18:0x38], []byte{0})
	if m := pe.cpu(); m != RISCV {
		return nil, o.wrongMachine(ZBoot, m, fmt.Sprintf("a zboot kernel for %v", m))
	}
	if s.size >= 0 && off+size > s.size {
		return nil, o.truncated(ZBoot, "a zboot kernel of %d bytes whose payload ends at %d", s.size, off+size)
	}
	if off < headerSize || size == 0 {
		return nil, o.refuse(ErrCorrupt, ZBoot, RISCV, fmt.Sprintf("a zboot kernel with a payload of %d bytes at %d", size, off), copyAgain)
	}
	if err := o.enter(Layer{Kind: ZBoot, Size: uint64(max(0, s.size))}); err != nil {
		return nil, err
	}
	payload, err := s.section(off, size)
	if err != nil {
		return nil, o.failed(err, ZBoot, "the zboot kernel")
	}
	if err := payload.peek(); err != nil {
		return nil, o.failed(err, ZBoot, "the payload of the zboot kernel")
	}
	if codecOf(payload.head) == nil {
		return nil, o.refuse(ErrCorrupt, ZBoot, RISCV, fmt.Sprintf("a payload that is called %q and begins with %x", name, payload.head[:min(8, len(payload.head))]), copyAgain)
	}
	return o.open(payload)
}
