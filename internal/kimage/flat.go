package kimage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The header of arch/riscv/include/asm/image.h, little endian.
const (
	headerSize  = 64
	textOffset  = 0x200000           // rv64 in S-mode; 0x400000 rv32, 0 M-mode
	magicRISCV  = 0x0000005643534952 // "RISCV", deprecated but written
	magic2RISCV = 0x05435352         // "RSC\x05" at 0x38
	magic2ARM64 = 0x644d5241         // "ARM\x64" at 0x38
	// The whole kernel lives in the last 2 GiB of addresses.
	maxImageSize = 2 << 30
)

// flat reads a flat Image.
func (o *opener) flat(s *source) (*Image, error) {
	img := &Image{Kind: Flat}
	if err := o.header(img, s.head); err != nil {
		return nil, err
	}
	if bytes.HasPrefix(s.head, []byte("MZ")) {
		end, err := o.sections(img, s.head)
		if err != nil {
			return nil, err
		}
		if end > img.ImageSize || end < headerSize {
			return nil, o.refuse(ErrNotKernel, Flat, RISCV, fmt.Sprintf("PE sections end at %d, outside of the image of %d bytes", end, img.ImageSize), whereKernelsAre)
		}
		short := func(have int64) error {
			what := "the file has"
			if len(o.layers) > 0 {
				what = "the image has"
			}
			return o.truncated(Flat, "%s %d bytes, its sections end at %d: %d are missing", what, have, end, int64(end)-have)
		}
		if s.size >= 0 && int64(end) > s.size {
			return nil, short(s.size)
		}
		if img.Data, err = o.alloc(Flat, end); err != nil {
			return nil, err
		}
		n, err := s.all(img.Data)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			if _, ok := errors.AsType[*Error](err); !ok {
				return nil, short(int64(n))
			}
		}
		if err != nil {
			return nil, o.failed(err, Flat, "the image")
		}
		return img, nil
	}
	// Only the length of the file tells how long the image is: .bss has no
	// bytes, so nothing is wrong with a file shorter than ImageSize.
	size := img.ImageSize
	if s.size >= 0 {
		size = min(size, uint64(s.size))
	}
	var err error
	if img.Data, err = o.alloc(Flat, size); err != nil {
		return nil, err
	}
	n, err := s.all(img.Data)
	if err != nil && err != io.ErrUnexpectedEOF {
		return nil, o.failed(err, Flat, "the image")
	}
	img.Data = img.Data[:n]
	return img, nil
}

// header takes the numbers out of the header of an Image, and refuses what
// cannot run here.
func (o *opener) header(img *Image, head []byte) error {
	le := binary.LittleEndian
	img.Machine = RISCV
	img.TextOffset = le.Uint64(head[0x08:])
	img.ImageSize = le.Uint64(head[0x10:])
	img.Flags = le.Uint64(head[0x18:])
	img.Version = le.Uint32(head[0x20:])
	refuse := func(hint, format string, args ...any) error {
		return o.refuse(ErrNotLoadable, img.Kind, RISCV, fmt.Sprintf(format, args...), hint)
	}
	switch {
	case img.Flags&1 != 0:
		return refuse(whereKernelsAre, "big-endian Image (flags %#x)", img.Flags)
	case img.Version>>16 != 0 || img.Version&0xffff < 2:
		return refuse(newerKernel, "Image header version %d.%d is not 0.2 or a later 0.x", img.Version>>16, img.Version&0xffff)
	case img.TextOffset == 0:
		return refuse("build the kernel without CONFIG_RISCV_M_MODE and CONFIG_XIP_KERNEL", "Image for M-mode (text_offset 0)")
	case img.TextOffset != textOffset:
		return refuse(whereKernelsAre, "text_offset is %#x, a riscv64 kernel has %#x", img.TextOffset, uint64(textOffset))
	case img.ImageSize < headerSize || img.ImageSize > maxImageSize:
		return refuse(whereKernelsAre, "image_size of %d bytes is not between %d and %d", img.ImageSize, headerSize, maxImageSize)
	}
	return nil
}

// sections finds the end of an Image that is a PE program too.
func (o *opener) sections(img *Image, head []byte) (end uint64, err error) {
	pe, err := readPE(head)
	if err != nil {
		return 0, o.refuse(ErrNotKernel, img.Kind, RISCV, fmt.Sprintf("EFI program with a broken header: %v", err), whereKernelsAre)
	}
	if pe == nil || pe.cut {
		return 0, o.truncated(img.Kind, "%d bytes do not even hold the headers", len(head))
	}
	if m := pe.machine; m != peRISCV64 {
		return 0, o.refuse(ErrWrongMachine, img.Kind, NoMachine, fmt.Sprintf("riscv Image with PE machine %#x instead of %#x (riscv64)", m, peRISCV64), whereKernelsAre)
	}
	img.EFI = true
	return pe.end(), nil
}
