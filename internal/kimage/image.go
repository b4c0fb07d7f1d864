package kimage

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// Kind is the form of a kernel.
type Kind string

const (
	Unknown    Kind = ""
	Flat       Kind = "Image"      // flat riscv or arm64 Image
	ELF        Kind = "vmlinux"    // ELF
	BzImage    Kind = "bzImage"    // x86
	ZBoot      Kind = "zboot"      // EFI program with a compressed Image inside
	UKI        Kind = "UKI"        // unified kernel image: EFI program with a kernel as section
	Compressed Kind = "compressed" // one of the codecs
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

// Layer is something that an image was in.
type Layer struct {
	Kind Kind `json:"kind"` // Compressed, ZBoot or UKI
	// Codec names the compression of a Compressed layer: gzip, xz, lzma,
	// bzip2, lz4, lzo or zstd.
	Codec string `json:"codec,omitempty"`
	// Size in bytes, 0 if only reading it would tell.
	Size uint64 `json:"size,omitempty"`
}

func (l Layer) String() string {
	if l.Codec != "" {
		return l.Codec
	}
	return string(l.Kind)
}

// Relocations tells whether a kernel can move itself to where it lies.
type Relocations string

const (
	// RelocationsUnknown: a flat Image does not show it. If it needs
	// relocations they are in it.
	RelocationsUnknown  Relocations = ""
	RelocationsFixed    Relocations = "fixed"    // not a relocatable kernel: needs none
	RelocationsPresent  Relocations = "present"  // needs them and has them
	RelocationsStripped Relocations = "stripped" // needs them and has lost them: will hang
)

// Image is a kernel that can be loaded, as one piece of memory.
type Image struct {
	// Kind is the innermost form: [Flat] or [ELF].
	Kind Kind `json:"kind"`
	// Layers are what it was in, outermost first.
	Layers  []Layer `json:"layers,omitempty"`
	Machine Machine `json:"machine"`
	// Data is the memory from the beginning of the image on, FileSize bytes.
	// It lies in what [Options.Alloc] gave.
	Data []byte `json:"-"`
	// FileSize is len(Data): bufsz of its segment.
	FileSize uint64 `json:"file_size"`
	// ImageSize is the memory that the image takes, in bytes, .bss included:
	// memsz of its segment.
	ImageSize uint64 `json:"image_size"`
	// Entry is the first instruction as an offset into Data; 0 on riscv64,
	// whose header is code.
	Entry uint64 `json:"entry"`
	// TextOffset is where the image wants to lie above a 2 MiB boundary of
	// RAM, in bytes: 0x200000 on riscv64.
	TextOffset uint64 `json:"text_offset"`
	// Flags of the header; bit 0 is big endian.
	Flags uint64 `json:"flags"`
	// Version of the header, major << 16 | minor.
	Version uint32 `json:"version"`
	// EFI tells that the image is a PE program too, so that FileSize is
	// known from its section table and not from the length of the file.
	EFI bool `json:"efi"`
	// Relocations of a vmlinux.
	Relocations Relocations `json:"relocations,omitempty"`
	// Banner is the kernel's own "Linux version ..." without line end;
	// Release its third word, as in uname -r. Empty when not found.
	Banner  string `json:"banner,omitempty"`
	Release string `json:"release,omitempty"`
	// Unified is what else was in a unified kernel image, nil without one.
	Unified *Unified `json:"unified,omitempty"`
}

// Form names the form and what it was in, from the outside in: "Image", "gzip,
// vmlinux".
func (img *Image) Form() string {
	var form string
	for _, l := range img.Layers {
		form += l.String() + ", "
	}
	return form + string(img.Kind)
}

// Unified is what a unified kernel image has beside its kernel (the UAPI group's
// specification of it; systemd-stub(7)). What it does not have is empty.
type Unified struct {
	Cmdline    string `json:"cmdline,omitempty"`
	Uname      string `json:"uname,omitempty"`      // release of the kernel
	OSRelease  string `json:"os_release,omitempty"` // as in /etc/os-release
	Initrd     []byte `json:"-"`
	InitrdSize uint64 `json:"initrd_size,omitempty"`
	DTB        []byte `json:"-"`
	DTBSize    uint64 `json:"dtb_size,omitempty"`
}

// Options are wishes for [Open]. nil stands for none.
type Options struct {
	// Alloc gives the memory that Data shall lie in: size bytes of zeros. It
	// is called at most once; Data may turn out shorter. nil stands for make.
	Alloc func(size int) ([]byte, error)
	// Force accepts a vmlinux without its relocations.
	Force bool
}

// Open reads the kernel in a file, through all layers around it. What is no
// whole riscv64 kernel is an [*Error].
func Open(path string, opts *Options) (*Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("kernel image: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = &Error{Err: ErrNotKernel, Detail: "not a regular file", hints: []string{whereKernelsAre}}
	}
	var img *Image
	if err == nil {
		img, err = Inspect(f, st.Size(), opts)
	}
	if err == nil {
		return img, nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		e.Path = path
		e.hints = append(siblings(e, path), e.hints...)
		return nil, err
	}
	return nil, fmt.Errorf("kernel image %s: %w", path, err)
}

// Inspect is [Open] for the size bytes in r.
func Inspect(r io.ReaderAt, size int64, opts *Options) (*Image, error) {
	if opts == nil {
		opts = &Options{}
	}
	f := &file{at: r}
	o := &opener{opts: opts, file: f, size: max(0, size), budget: maxUnpacked}
	img, err := o.open(fileSource(f, o.size))
	if f.err != nil {
		// Whatever it was taken for further up.
		return nil, fmt.Errorf("reading the kernel image: %w", f.err)
	}
	if err != nil {
		return nil, err
	}
	img.Layers = o.layers
	img.Unified = o.unified
	img.FileSize = uint64(len(img.Data))
	img.Banner = findBanner(img.Data)
	img.Release = release(img.Banner)
	return img, nil
}

// file remembers what went wrong below all layers: that is no fault of the
// image.
type file struct {
	at  io.ReaderAt
	err error
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.at.ReadAt(p, off)
	if err != nil && err != io.EOF {
		f.err = err
	}
	return n, err
}
