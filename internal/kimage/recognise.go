package kimage

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// headBytes of a file are enough to say what it is: the boot sector and setup
// header of a bzImage (0x202), any section table of a PE program.
const headBytes = 4096

// compressions by their first bytes, with the command that unpacks them.
var compressions = []struct {
	name   string
	magic  string
	unpack string
}{
	{"gzip", "\x1f\x8b", "gzip -dc"},
	{"xz", "\xfd7zXZ\x00", "xz -dc"},
	{"zstd", "\x28\xb5\x2f\xfd", "zstd -dc"},
	{"bzip2", "BZh", "bzip2 -dc"},
	{"lz4", "\x02\x21\x4c\x18", "lz4 -dc"},
	{"lz4", "\x04\x22\x4d\x18", "lz4 -dc"},
	{"lzop", "\x89LZO\x00", "lzop -dc"},
	{"lzma", "\x5d\x00\x00", "xz --format=lzma -dc"},
}

// recognise returns nil for a riscv Image with a whole header, else what the
// file is.
func recognise(head []byte, size int64) error {
	refuse := func(err error, kind Kind, m Machine, detail string, hints ...string) error {
		return &Error{Err: err, Kind: kind, Machine: m, Detail: detail, hints: hints}
	}
	if len(head) == 0 {
		return refuse(ErrTruncated, Unknown, NoMachine, "the file is empty", whereKernelsAre)
	}
	for _, c := range compressions {
		if bytes.HasPrefix(head, []byte(c.magic)) {
			return refuse(ErrCompressed, Compressed, NoMachine, fmt.Sprintf("a %s-compressed file of %d bytes", c.name, size),
				"unpack it: "+c.unpack+" %s > Image, and load that")
		}
	}
	if bytes.HasPrefix(head, []byte("\x7fELF")) {
		return recogniseELF(head)
	}
	if bytes.HasPrefix(head, []byte{0xd0, 0x0d, 0xfe, 0xed}) {
		return refuse(ErrNotKernel, Unknown, NoMachine, "a device tree or FIT image", "get the kernel out of a FIT image: dumpimage -T flat_dt -p 0 -o Image %s")
	}
	if bytes.HasPrefix(head, []byte{0x27, 0x05, 0x19, 0x56}) {
		return refuse(ErrNotLoadable, Unknown, NoMachine, "a U-Boot uImage", "cut off its header of 64 bytes: tail -c +65 %s > Image, and load that")
	}
	if len(head) >= 0x206 && head[0x1fe] == 0x55 && head[0x1ff] == 0xaa && string(head[0x202:0x206]) == "HdrS" {
		return wrongMachine(BzImage, X86_64, "an x86 bzImage")
	}
	if len(head) >= headerSize {
		switch {
		case binary.LittleEndian.Uint32(head[0x38:]) == magic2RISCV:
			return nil
		case binary.LittleEndian.Uint32(head[0x38:]) == magic2ARM64:
			return wrongMachine(Flat, ARM64, "an arm64 Image")
		case binary.LittleEndian.Uint64(head[0x30:]) == magicRISCV:
			return refuse(ErrNotLoadable, Flat, RISCV, "a riscv Image of a header older than 0.2", "%.0suse a kernel of 5.6 or later")
		case binary.LittleEndian.Uint32(head[0x24:]) == 0x016f2818:
			return wrongMachine(Flat, ARM, "an arm zImage")
		}
	}
	if bytes.HasPrefix(head, []byte("MZ")) {
		if len(head) < headerSize {
			return refuse(ErrTruncated, Unknown, NoMachine, fmt.Sprintf("%d bytes are less than a header", size), whereKernelsAre)
		}
		return recognisePE(head, size)
	}
	return refuse(ErrNotKernel, Unknown, NoMachine, fmt.Sprintf("%d bytes that begin with %x", size, head[:min(len(head), 8)]), whereKernelsAre)
}

func wrongMachine(kind Kind, m Machine, what string) error {
	return &Error{Err: ErrWrongMachine, Kind: kind, Machine: m, Detail: what + ", this program loads riscv64 kernels",
		hints: []string{"%.0suse the kernel of this machine: its name ends in $(uname -r), and uname -m says riscv64", whereKernelsAre}}
}

// recogniseELF: vmlinux is a kernel, but loading it would need its relocations
// to be intact, which cannot be seen from outside; the flat Image always has
// them.
func recogniseELF(head []byte) error {
	if len(head) < 20 {
		return &Error{Err: ErrTruncated, Kind: ELF, Detail: fmt.Sprintf("an ELF file of %d bytes", len(head)), hints: []string{whereKernelsAre}}
	}
	order := binary.ByteOrder(binary.LittleEndian)
	if head[5] == 2 {
		order = binary.BigEndian
	}
	m := Machine(order.Uint16(head[18:]))
	if m != RISCV {
		return wrongMachine(ELF, m, fmt.Sprintf("an ELF file for %v", m))
	}
	if head[4] != 2 {
		return wrongMachine(ELF, m, "an ELF file for riscv32")
	}
	return &Error{Err: ErrNotLoadable, Kind: ELF, Machine: m, Detail: "an ELF file (vmlinux); the flat Image is needed", hints: []string{
		whereKernelsAre,
		"or make one: riscv64-linux-gnu-objcopy -O binary -R .note -R .note.gnu.build-id -R .comment -S %s Image",
	}}
}

// recognisePE sorts EFI programs that are no flat Image themselves.
func recognisePE(head []byte, size int64) error {
	notKernel := &Error{Err: ErrNotKernel, Detail: "an EFI or DOS program, but not a kernel", hints: []string{whereKernelsAre}}
	pe, err := readPE(head)
	if err != nil || pe == nil {
		return notKernel
	}
	m := pe.cpu()
	// drivers/firmware/efi/libstub/zboot-header.S: "zimg" at 4, offset and
	// size of the payload at 8 and 12, name of the compression at 0x18.
	if len(head) >= headerSize && string(head[4:8]) == "zimg" {
		off, length := binary.LittleEndian.Uint32(head[8:]), binary.LittleEndian.Uint32(head[12:])
		name, _, _ := bytes.Cut(head[0x18:0x38], []byte{0})
		if m != RISCV {
			return wrongMachine(ZBoot, m, fmt.Sprintf("a zboot kernel for %v", m))
		}
		if uint64(off)+uint64(length) > uint64(size) {
			return &Error{Err: ErrTruncated, Kind: ZBoot, Machine: m,
				Detail: fmt.Sprintf("a zboot kernel of %d bytes whose payload ends at %d", size, uint64(off)+uint64(length)),
				hints:  []string{"copy or install the kernel again: ls -l %[1]s; df %[1]s"}}
		}
		e := &Error{Err: ErrCompressed, Kind: ZBoot, Machine: m, Detail: fmt.Sprintf("a zboot kernel, %q-compressed", name)}
		for _, c := range compressions {
			if c.name == string(name) || c.name == "lzop" && string(name) == "lzo" {
				// zstd and the like leave a length of 4 bytes behind the
				// payload; the unpackers complain of it, so cut exactly.
				e.hints = []string{fmt.Sprintf("unpack it: tail -c +%d %%s | head -c %d | %s > Image, and load that", uint64(off)+1, length, c.unpack)}
				break
			}
		}
		return e
	}
	for _, s := range pe.sections {
		if s.name == ".linux" {
			if m != RISCV {
				return wrongMachine(UKI, m, fmt.Sprintf("a unified kernel image for %v", m))
			}
			return &Error{Err: ErrNotLoadable, Kind: UKI, Machine: m, Detail: "a unified kernel image",
				hints: []string{"take the kernel out: riscv64-linux-gnu-objcopy -O binary --only-section=.linux %s Image, and load that"}}
		}
	}
	return notKernel
}
