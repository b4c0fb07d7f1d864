package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// form is one form in which a kernel's image can lie on a disk.
type form struct {
	name  string
	built bool                   // only of a kernel that was built here
	found func(k *Kernel) string // where the build left it; nil or "": it is made
	of    string                 // the form it is made of
	make  func(ctx context.Context, k *Kernel, in, out string) error
}

// forms are all there are. Compressed debug data is hundreds of megabytes, so
// not each compressor has its turn at it.
func forms() []form {
	all := []form{
		{name: "Image", found: (*Kernel).ImagePath},
		{name: "Image.elf", of: "Image", make: wrapELF},
		{name: "uki", of: "Image", make: makeUKI},
		{name: "uki-zboot", of: "zboot-gzip", make: makeUKI},
		// The ELF that has all its relocation data, with debug data.
		{name: "vmlinux", built: true, found: func(k *Kernel) string {
			if k.Built.Relocs != "" {
				return filepath.Join(k.Root, k.Built.Relocs)
			}
			return filepath.Join(k.Root, k.Built.Vmlinux)
		}},
		{name: "vmlinux.gz", built: true, of: "vmlinux", make: compress("gz")},
		{name: "vmlinux.xz", built: true, of: "vmlinux", make: compress("xz")},
		{name: "vmlinux.zst", built: true, of: "vmlinux", make: compress("zst")},
		// As the kernel's own build makes the Image of it, but still an ELF.
		{name: "vmlinux.stripped", built: true, of: "vmlinux",
			make: objcopy("-R", ".note", "-R", ".note.gnu.build-id", "-R", ".comment", "-S")},
		// As 6.12's build leaves vmlinux, without debug data.
		{name: "vmlinux.norelocs", built: true, of: "vmlinux.stripped", make: objcopy("-R", ".rela.dyn")},
	}
	for _, c := range compressors() {
		all = append(all,
			form{name: "Image." + c.suffix, of: "Image", make: compress(c.suffix)},
			form{name: "vmlinux.stripped." + c.suffix, built: true, of: "vmlinux.stripped", make: compress(c.suffix)})
	}
	for _, z := range zboots() {
		all = append(all, form{name: "zboot-" + z.method, of: "Image", make: makeZBoot(z.method, z.suffix), found: func(k *Kernel) string {
			if k.Built == nil || k.Built.ZBoot[z.method] == "" {
				return ""
			}
			return filepath.Join(k.Root, k.Built.ZBoot[z.method])
		}})
	}
	return all
}

// Forms are the names of the forms that [Kernel.Form] gives of this kernel:
//
//	Image, Image.gz .xz .lzma .bz2 .lz4 .lzo .zst   the flat image
//	Image.elf                   it in an ELF of one segment
//	zboot-gzip -zstd            vmlinuz.efi; of a kernel built here it is the
//	                            kernel's own, else ours, which no firmware starts
//	zboot-zstd22 -xzkern -lzma -lz4 -lzo    as older kernels made it; ours
//	uki, uki-zboot              unified kernel image with an Image or zboot in it
//
// and of one that was built here
//
//	vmlinux, vmlinux.gz .xz .zst    the ELF with relocations and debug data
//	vmlinux.stripped, .gz .xz .lzma .bz2 .lz4 .lzo .zst    without debug data
//	vmlinux.norelocs            and without .rela.dyn: it does not boot
func (k *Kernel) Forms() []string {
	var names []string
	for _, f := range forms() {
		if !f.built || k.Built != nil {
			names = append(names, f.name)
		}
	}
	return names
}

// formsRecipe is changed with how forms are made, so that those an older
// recipe made are not taken for what this one makes.
const formsRecipe = "1"

// Form is the path of the kernel's image in one of the forms that
// [Kernel.Forms] names. What the cache does not have is made.
func (k *Kernel) Form(ctx context.Context, name string) (string, error) {
	for _, f := range forms() {
		if f.name != name || f.built && k.Built == nil {
			continue
		}
		path, err := k.form(ctx, f)
		if err != nil {
			return "", fmt.Errorf("%s of %s: %w", name, k.Release, err)
		}
		return path, nil
	}
	return "", fmt.Errorf("%s has no form %q; it has %s", k.Release, name, strings.Join(k.Forms(), ", "))
}

func (k *Kernel) form(ctx context.Context, f form) (string, error) {
	if f.found != nil {
		if path := f.found(k); path != "" {
			return path, nil
		}
	}
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	in, err := k.Form(ctx, f.of)
	if err != nil {
		return "", err
	}
	id := filepath.Base(k.Root) + "-" + formsRecipe
	unlock, err := lock(cache, "form-"+id+"-"+f.name)
	if err != nil {
		return "", err
	}
	defer unlock()
	out := filepath.Join(cache, "forms", id, f.name)
	if _, err := os.Stat(out); !errors.Is(err, fs.ErrNotExist) {
		return out, err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return "", err
	}
	tmp := out + ".new"
	defer os.Remove(tmp)
	if err := f.make(ctx, k, in, tmp); err != nil {
		return "", err
	}
	return out, os.Rename(tmp, out)
}

// kernelCross is what the names of the cross binutils and compiler begin with.
const kernelCross = "riscv64-linux-gnu-"

// compressor is a program that compresses kernels: one that the kernel's own
// build runs, so nothing that shares code with what reads the result.
type compressor struct {
	suffix string
	pkg    string
	argv   []string
}

func compressors() []compressor {
	return []compressor{
		{"gz", "gzip", []string{"gzip", "-c", "-n", "-6"}},
		{"xz", "xz-utils", []string{"xz", "-c", "-3", "--check=crc32"}},
		{"lzma", "xz-utils", []string{"xz", "-c", "-3", "--format=lzma"}},
		{"bz2", "bzip2", []string{"bzip2", "-c"}},
		// The kernel's own decompressor knows the legacy frame only.
		{"lz4", "lz4", []string{"lz4", "-c", "-q", "-l"}},
		{"lzo", "lzop", []string{"lzop", "-c"}},
		{"zst", "zstd", []string{"zstd", "-c", "-q", "-9"}},
	}
}

func compress(suffix string) func(context.Context, *Kernel, string, string) error {
	return func(ctx context.Context, _ *Kernel, in, out string) error {
		for _, c := range compressors() {
			if c.suffix == suffix {
				return c.run(ctx, in, out)
			}
		}
		return fmt.Errorf("no compressor for %s", suffix)
	}
}

// run compresses a file as the kernel's build does: through a pipe, so that no
// header tells a name, and not each the length.
func (c *compressor) run(ctx context.Context, in, out string) error {
	path, err := program(c.argv[0], c.pkg)
	if err != nil {
		return err
	}
	from, err := os.Open(in)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.Create(out)
	if err != nil {
		return err
	}
	var said lastLines
	run := exec.CommandContext(ctx, path, c.argv[1:]...)
	run.Stdin, run.Stdout, run.Stderr = from, to, &said
	err = run.Run()
	if cerr := to.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %s", c.argv[0], err, said.text())
	}
	return nil
}

// objcopy makes an ELF of another one.
func objcopy(args ...string) func(context.Context, *Kernel, string, string) error {
	return func(ctx context.Context, _ *Kernel, in, out string) error {
		path, err := program(kernelCross+"objcopy", "binutils-riscv64-linux-gnu")
		if err != nil {
			return err
		}
		argv := append(append([]string{}, args...), in, out)
		if _, err := exec.CommandContext(ctx, path, argv...).Output(); err != nil {
			return fmt.Errorf("objcopy: %w", exitText(err))
		}
		return nil
	}
}

// imageSize is the memory that an Image takes, from its header
// (Documentation/arch/riscv/boot-image-header.rst, 6.12).
func imageSize(image []byte) (uint64, error) {
	if len(image) < 64 || string(image[0x38:0x3c]) != "RSC\x05" {
		return 0, errors.New("no riscv Image")
	}
	size := binary.LittleEndian.Uint64(image[0x10:])
	if size < uint64(len(image)) || size > 1<<30 {
		return 0, fmt.Errorf("an Image of %d bytes says that it takes %d of memory", len(image), size)
	}
	return size, nil
}

// wrapELF puts an Image into an ELF of one segment. Kernels whose
// kexec_file_load takes no Image (riscv before 6.16) take it so.
func wrapELF(_ context.Context, _ *Kernel, in, out string) error {
	image, err := os.ReadFile(in)
	if err != nil {
		return err
	}
	size, err := imageSize(image)
	if err != nil {
		return err
	}
	const (
		link   = 0xffffffff80000000 // KERNEL_LINK_ADDR
		offset = 0x1000
	)
	head := make([]byte, offset)
	copy(head, "\x7fELF\x02\x01\x01") // 64-bit, little endian, version 1
	put := binary.LittleEndian
	put.PutUint16(head[16:], 2)   // ET_EXEC
	put.PutUint16(head[18:], 243) // EM_RISCV
	put.PutUint32(head[20:], 1)
	put.PutUint64(head[24:], link) // entry
	put.PutUint64(head[32:], 64)   // program headers
	put.PutUint16(head[52:], 64)
	put.PutUint16(head[54:], 56)
	put.PutUint16(head[56:], 1)
	put.PutUint16(head[58:], 64)
	load := head[64:]
	put.PutUint32(load, 1)     // PT_LOAD
	put.PutUint32(load[4:], 7) // read, write, execute
	put.PutUint64(load[8:], offset)
	put.PutUint64(load[16:], link)
	put.PutUint64(load[24:], 0)
	put.PutUint64(load[32:], uint64(len(image)))
	put.PutUint64(load[40:], size)
	put.PutUint64(load[48:], offset)
	return os.WriteFile(out, append(head, image...), 0o644)
}

// zboot is a compression of vmlinuz.efi.
type zboot struct{ method, suffix string }

// zboots are the compressions that its header can name. 6.12.107 and
// 7.2 make gzip and zstd, older ones the others too, under the names of their
// make rules (drivers/firmware/efi/libstub/Makefile.zboot).
func zboots() []zboot {
	return []zboot{{"gzip", "gz"}, {"zstd", "zst"}, {"zstd22", "zst"}, {"xzkern", "xz"}, {"lzma", "lzma"}, {"lz4", "lz4"}, {"lzo", "lzo"}}
}

// makeZBoot makes a vmlinuz.efi as the kernel's build does, but without the
// program in it that would unpack it under EFI.
func makeZBoot(method, suffix string) func(context.Context, *Kernel, string, string) error {
	return func(ctx context.Context, k *Kernel, in, out string) error {
		image, err := os.ReadFile(in)
		if err != nil {
			return err
		}
		size, err := imageSize(image)
		if err != nil {
			return err
		}
		// What is compressed is the Image with its bss.
		padded := out + ".padded"
		defer os.Remove(padded)
		if err := os.WriteFile(padded, append(image, make([]byte, size-uint64(len(image)))...), 0o644); err != nil {
			return err
		}
		packed := out + ".packed"
		defer os.Remove(packed)
		if err := compress(suffix)(ctx, k, padded, packed); err != nil {
			return err
		}
		payload, err := os.ReadFile(packed)
		if err != nil {
			return err
		}
		length := len(payload)
		if suffix != "gz" {
			// The length unpacked follows it, and is not counted.
			payload = binary.LittleEndian.AppendUint32(payload, uint32(size))
		}
		p := &peProgram{sections: []peSection{{".data", payload}}}
		file := p.marshal()
		put := binary.LittleEndian
		copy(file[4:], "zimg")
		put.PutUint32(file[8:], uint32(p.offset(0)))
		put.PutUint32(file[12:], uint32(length))
		copy(file[0x18:0x38], method)
		put.PutUint32(file[0x38:], 0x818223cd) // LINUX_PE_MAGIC
		return os.WriteFile(out, file, 0o644)
	}
}

// UKICmdline is the command line in the forms uki and uki-zboot.
const UKICmdline = "console=ttyS0 panicroom.uki=1"

// makeUKI makes a unified kernel image (uapi-group.org/specifications,
// Unified Kernel Image): a PE program with the parts as its sections, here
// without the stub's code that would start it under EFI.
func makeUKI(_ context.Context, k *Kernel, in, out string) error {
	kernel, err := os.ReadFile(in)
	if err != nil {
		return err
	}
	initrd := newInitramfs()
	initrd.texts["/etc/initrd-release"] = []byte("ID=panicroom-lab\n")
	archive := out + ".initrd"
	defer os.Remove(archive)
	if err := initrd.save(archive); err != nil {
		return err
	}
	cpio, err := os.ReadFile(archive)
	if err != nil {
		return err
	}
	p := &peProgram{sections: []peSection{
		{".osrel", []byte("ID=debian\nPRETTY_NAME=\"lab\"\n")},
		{".cmdline", []byte(UKICmdline)},
		{".uname", []byte(k.Release)},
		{".initrd", cpio},
		{".linux", kernel},
	}}
	return os.WriteFile(out, p.marshal(), 0o644)
}
