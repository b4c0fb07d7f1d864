package kimage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// Kind is the form of a kernel file.
type Kind string

const (
	Unknown    Kind = ""
	Flat       Kind = "Image"   // flat riscv or arm64 Image
	ELF        Kind = "vmlinux" // ELF
	BzImage    Kind = "bzImage" // x86
	ZBoot      Kind = "zboot"   // EFI program with a compressed Image inside
	UKI        Kind = "UKI"     // unified kernel image: EFI program with a kernel as section
	Compressed Kind = "compressed"
)

// Machine is an architecture by its ELF number (e_machine).
type Machine uint16

const (
	NoMachine Machine = 0
	X86       Machine = 3
	ARM       Machine = 40
	X86_64    Machine = 62
	ARM64     Machine = 183
	RISCV     Machine = 243
	LoongArch Machine = 258
)

func (m Machine) String() string {
	switch m {
	case X86:
		return "x86"
	case ARM:
		return "arm"
	case X86_64:
		return "x86_64"
	case ARM64:
		return "arm64"
	case RISCV:
		return "riscv64"
	case LoongArch:
		return "loongarch64"
	}
	return fmt.Sprintf("machine %d", uint16(m))
}

// Image describes a kernel that can be loaded.
type Image struct {
	Kind    Kind    `json:"kind"`
	Machine Machine `json:"machine"`
	// TextOffset is where the image wants to lie above a 2 MiB boundary of
	// RAM, in bytes: 0x200000 on riscv64.
	TextOffset uint64 `json:"text_offset"`
	// ImageSize is the memory that the image takes, in bytes, .bss included:
	// memsz of its segment.
	ImageSize uint64 `json:"image_size"`
	// FileSize is how many bytes of the file are the image: bufsz of its
	// segment. What follows (a signature) is not to be loaded.
	FileSize uint64 `json:"file_size"`
	// Flags of the header; bit 0 is big endian.
	Flags uint64 `json:"flags"`
	// Version of the header, major << 16 | minor.
	Version uint32 `json:"version"`
	// EFI tells that the image is a PE program too, so that FileSize is
	// known from its section table and not from the length of the file.
	EFI bool `json:"efi"`
	// Banner is the kernel's own "Linux version ..." without line end;
	// Release its second word, as in uname -r. Empty when not found.
	Banner  string `json:"banner,omitempty"`
	Release string `json:"release,omitempty"`
}

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

// Open opens and inspects a file. The caller closes it.
func Open(path string) (*os.File, *Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("kernel image: %w", err)
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = &Error{Err: ErrNotKernel, Detail: "not a regular file", Path: path, hints: []string{whereKernelsAre}}
	}
	var img *Image
	if err == nil {
		img, err = Inspect(f, st.Size())
	}
	if err != nil {
		f.Close()
		var e *Error
		if errors.As(err, &e) {
			e.Path = path
			return nil, nil, err
		}
		return nil, nil, fmt.Errorf("kernel image %s: %w", path, err)
	}
	return f, img, nil
}

// Inspect says what the kernel image of size bytes in r is. It fails with an
// [*Error] for whatever is not a whole riscv64 Image.
func Inspect(r io.ReaderAt, size int64) (*Image, error) {
	head := make([]byte, max(0, min(size, headBytes)))
	if _, err := r.ReadAt(head, 0); err != nil && err != io.EOF {
		return nil, fmt.Errorf("header of the kernel image: %w", err)
	}
	if err := recognise(head, size); err != nil {
		return nil, err
	}
	img := &Image{
		Kind:       Flat,
		Machine:    RISCV,
		TextOffset: binary.LittleEndian.Uint64(head[0x08:]),
		ImageSize:  binary.LittleEndian.Uint64(head[0x10:]),
		Flags:      binary.LittleEndian.Uint64(head[0x18:]),
		Version:    binary.LittleEndian.Uint32(head[0x20:]),
	}
	if err := img.check(); err != nil {
		return nil, err
	}
	if err := img.measure(head, size); err != nil {
		return nil, err
	}
	banner, err := findBanner(io.NewSectionReader(r, 0, int64(img.FileSize)))
	if err != nil {
		return nil, fmt.Errorf("kernel image: %w", err)
	}
	img.Banner = banner
	img.Release = release(banner)
	return img, nil
}

// check refuses what the header itself says cannot run here.
func (img *Image) check() error {
	refuse := func(hint, format string, args ...any) error {
		return &Error{Err: ErrNotLoadable, Kind: Flat, Machine: RISCV, Detail: fmt.Sprintf(format, args...), hints: []string{hint}}
	}
	switch {
	case img.Flags&1 != 0:
		return refuse(whereKernelsAre, "big-endian Image (flags %#x)", img.Flags)
	case img.Version>>16 != 0 || img.Version&0xffff < 2:
		return refuse("%.0suse a kernel of 5.6 or later", "Image header version %d.%d is older than 0.2", img.Version>>16, img.Version&0xffff)
	case img.TextOffset == 0:
		return refuse("%.0sbuild the kernel without CONFIG_RISCV_M_MODE and CONFIG_XIP_KERNEL", "Image for M-mode (text_offset 0)")
	case img.TextOffset != textOffset:
		return refuse(whereKernelsAre, "text_offset is %#x, a riscv64 kernel has %#x", img.TextOffset, uint64(textOffset))
	case img.ImageSize < headerSize || img.ImageSize > maxImageSize:
		return refuse(whereKernelsAre, "image_size of %d bytes is not between %d and %d", img.ImageSize, headerSize, maxImageSize)
	}
	return nil
}

// measure sets FileSize, or finds that the file is too short for it.
func (img *Image) measure(head []byte, size int64) error {
	truncated := func(format string, args ...any) error {
		return &Error{Err: ErrTruncated, Kind: Flat, Machine: RISCV, Detail: fmt.Sprintf(format, args...), hints: []string{
			"copy or install the kernel again, and see that its disk is not full: ls -l %[1]s; df %[1]s",
		}}
	}
	if !bytes.HasPrefix(head, []byte("MZ")) {
		// Only the length of the file tells how long the image is: .bss has
		// no bytes, so nothing is wrong with a file shorter than ImageSize.
		img.FileSize = min(uint64(size), img.ImageSize)
		return nil
	}
	pe, err := readPE(head)
	if err != nil {
		return &Error{Err: ErrNotKernel, Kind: Flat, Machine: RISCV,
			Detail: fmt.Sprintf("EFI program with a broken header: %v", err), hints: []string{whereKernelsAre}}
	}
	if pe == nil || pe.cut {
		return truncated("%d bytes do not even hold the headers", size)
	}
	if m := pe.machine; m != peRISCV64 {
		return &Error{Err: ErrWrongMachine, Kind: Flat,
			Detail: fmt.Sprintf("riscv Image with PE machine %#x instead of %#x (riscv64)", m, peRISCV64), hints: []string{whereKernelsAre}}
	}
	end := pe.end()
	if end > img.ImageSize || end < headerSize {
		return &Error{Err: ErrNotKernel, Kind: Flat, Machine: RISCV,
			Detail: fmt.Sprintf("PE sections end at %d, outside of the image of %d bytes", end, img.ImageSize), hints: []string{whereKernelsAre}}
	}
	if end > uint64(size) {
		return truncated("the file has %d bytes, its sections end at %d: %d are missing", size, end, end-uint64(size))
	}
	img.EFI = true
	img.FileSize = end
	return nil
}
