package load

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"github.com/panicroom-kdump/panicroom/internal/host"
	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// Flags of kexec_load, include/uapi/linux/kexec.h.
const flagOnCrash = 1

// Plan is how a panic kernel will be loaded, and why so. It is plain data: its
// JSON has everything but the bytes of the segments.
type Plan struct {
	Arch    string     `json:"arch"`    // of the machine
	Release string     `json:"release"` // of the running kernel
	Purpose Purpose    `json:"purpose"`
	Method  Method     `json:"method"` // ByLoad or ByFile
	Why     string     `json:"why"`    // this method
	Kernel  KernelInfo `json:"kernel"`
	Cmdline string     `json:"cmdline"` // of the panic kernel

	// Regions is the memory the panic kernel will live in: the main region,
	// which everything is loaded into, and maybe a low one for DMA.
	Regions  []host.Range `json:"regions"`
	Entry    uint64       `json:"entry"` // physical address of the first instruction; ByFile: its offset in the kernel
	Flags    uint64       `json:"flags"` // of the system call
	Segments []Segment    `json:"segments"`
	Room     Room         `json:"room"`

	Notes    []Note     `json:"notes"`    // of the dump
	Memory   []Memory   `json:"memory"`   // of the dump
	Excluded []Excluded `json:"excluded"` // memory that is not in the dump

	// LoadsLeft is how often this slot may still be loaded or unloaded, this
	// time too, or [host.Unlimited].
	LoadsLeft int `json:"loads_left"`

	DeviceTree []string `json:"device_tree"` // what was changed in it
	Checks     []Check  `json:"checks"`
	Warnings   []string `json:"warnings,omitempty"`

	// Loaded is when the kernel took it.
	Loaded time.Time `json:"loaded,omitzero"`

	instead *obstacle // to the other system call, which was preferred
}

// KernelInfo is the panic kernel's image.
type KernelInfo struct {
	Path      string `json:"path,omitempty"`
	Form      string `json:"form"`       // as "Image", "gzip, vmlinux"
	Banner    string `json:"banner"`     // "Linux version ..."
	FileSize  uint64 `json:"file_size"`  // bytes loaded
	ImageSize uint64 `json:"image_size"` // bytes of memory it takes
	// Modified is when the file was; another time now means another file.
	Modified time.Time `json:"modified,omitzero"`
}

// The names of segments.
const (
	SegmentKernel    = "kernel"
	SegmentInitramfs = "initramfs"
	SegmentTree      = "dtb"
	SegmentHeader    = "elfcorehdr"
)

// Segment is memory that the kernel fills while loading.
type Segment struct {
	Name    string `json:"name"`
	Mem     uint64 `json:"mem"`      // physical address; 0 if the kernel chooses it (ByFile)
	MemSize uint64 `json:"mem_size"` // whole pages
	Size    uint64 `json:"size"`     // bytes of Data; zeros follow
	SHA256  string `json:"sha256"`   // of Data, in hexadecimal
	Data    []byte `json:"-"`

	store *store // of the kernel, if Data lies in one
}

// Range is the memory of the segment.
func (s Segment) Range() host.Range { return host.Range{Start: s.Mem, End: s.Mem + s.MemSize} }

// Room is how the reserved memory is used, in bytes.
type Room struct {
	Reserved uint64 `json:"reserved"` // in all regions
	Loaded   uint64 `json:"loaded"`   // by the segments, with gaps that alignment makes
	Unpacked uint64 `json:"unpacked"` // by the initramfs when unpacked, beside its archive
	Free     uint64 `json:"free"`     // for the panic kernel to work with
	Working  uint64 `json:"working"`  // of that, what it is known to need
}

// Needed is what must be reserved for it to be enough.
func (r Room) Needed() uint64 { return r.Loaded + r.Unpacked + r.Working }

// Note is a note in the dump: what a CPU left, or vmcoreinfo (CPU -1).
type Note struct {
	CPU int `json:"cpu"`
	host.Range
}

// Memory is a piece of the dump.
type Memory struct {
	host.Range
	Virt uint64 `json:"virt"` // where the dead kernel had it mapped, 0 if unknown
	What string `json:"what"`
}

// Excluded is memory that the dump does not have.
type Excluded struct {
	host.Range
	Why string `json:"why"`
}

// Check is something that was verified about the plan, or could not be.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`     // false: could not be verified; a plan never has what is wrong
	Detail string `json:"detail"` // the numbers, or why not
}

// Segment returns the segment with a name; nil if the plan has none.
func (p *Plan) Segment(name string) *Segment {
	for i := range p.Segments {
		if p.Segments[i].Name == name {
			return &p.Segments[i]
		}
	}
	return nil
}

func (p *Plan) warn(format string, args ...any) {
	p.Warnings = append(p.Warnings, fmt.Sprintf(format, args...))
}

func (p *Plan) pass(name, format string, args ...any) {
	p.Checks = append(p.Checks, Check{name, true, fmt.Sprintf(format, args...)})
}

func (p *Plan) unverified(name, format string, args ...any) {
	p.Checks = append(p.Checks, Check{name, false, fmt.Sprintf(format, args...)})
}

// DumpSize is how much memory the dump will have, in bytes: the size of
// /proc/vmcore but for headers, notes and the kernel image, which is in it
// twice.
func (p *Plan) DumpSize() uint64 {
	var n uint64
	for _, m := range p.Memory {
		if m.What == whatRAM {
			n += m.Size()
		}
	}
	return n
}

// Call is the name of the system call.
func (m Method) Call() string {
	if m == ByFile {
		return "kexec_file_load"
	}
	return "kexec_load"
}

// kernel is what the kernel in a slot is called.
func (p Purpose) kernel() string {
	if p == ForReboot {
		return "next kernel"
	}
	return "panic kernel"
}

// seal notes the digests of all segments: with them it can be told later
// whether what lies in memory is still what was loaded.
func (p *Plan) seal() {
	for i := range p.Segments {
		s := &p.Segments[i]
		s.SHA256 = fmt.Sprintf("%x", sha256.Sum256(s.Data))
	}
}

// String shows the plan to a person.
func (p *Plan) String() string {
	var b strings.Builder
	line := func(label, format string, args ...any) {
		fmt.Fprintf(&b, "%-14s %s\n", label, fmt.Sprintf(format, args...))
	}
	line(p.Purpose.kernel(), "%s", p.Kernel.Banner)
	if p.Kernel.Path != "" {
		line("", "%s", p.Kernel.Path)
	}
	line("", "%s, %s of memory", p.Kernel.Form, ui.Bytes(p.Kernel.ImageSize))
	line("method", "%s: %s", p.Method.Call(), p.Why)
	label := "reserved"
	for i, r := range p.Regions {
		which := "everything is loaded here"
		if i > 0 {
			which = "low memory, for the panic kernel's DMA"
		}
		line(label, "%#x-%#x  %8s  %s", r.Start, r.End, ui.Bytes(r.Size()), which)
		label = ""
	}
	label = "segments"
	for _, s := range p.Segments {
		where := fmt.Sprintf("%#x-%#x", s.Mem, s.Mem+s.MemSize)
		if p.Method == ByFile {
			where = "where the kernel will"
		}
		line(label, "%s  %8s  %s", where, ui.Bytes(s.Size), s.Name)
		label = ""
	}
	if p.Purpose == ForCrash {
		line("room", "%s loaded, %s for the unpacked initramfs, %s free (%s needed)",
			ui.Bytes(p.Room.Loaded), ui.Bytes(p.Room.Unpacked), ui.Bytes(p.Room.Free), ui.Bytes(p.Room.Working))
	}
	line("command line", "%s", p.Cmdline)
	if p.LoadsLeft >= 0 {
		line("loads left", "%d before this one", p.LoadsLeft)
	}
	label = "dump"
	for _, m := range p.Memory {
		line(label, "%#x-%#x  %8s  %s", m.Start, m.End, ui.Bytes(m.Size()), m.What)
		label = ""
	}
	if len(p.Notes) > 0 {
		line(label, "%d notes of CPUs, vmcoreinfo", len(p.Notes)-1)
	}
	label = "left out"
	for _, e := range p.Excluded {
		line(label, "%#x-%#x  %8s  %s", e.Start, e.End, ui.Bytes(e.Size()), e.Why)
		label = ""
	}
	label = "device tree"
	for _, e := range p.DeviceTree {
		line(label, "%s", e)
		label = ""
	}
	label = "checked"
	for _, c := range p.Checks {
		mark := "ok"
		if !c.OK {
			mark = "not verified"
		}
		line(label, "%-12s  %s: %s", mark, c.Name, c.Detail)
		label = ""
	}
	for _, w := range p.Warnings {
		line("warning", "%s", w)
	}
	return b.String()
}
