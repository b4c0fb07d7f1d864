// Package vmcoretest makes small dumps for tests: machines of any size whose
// memory is zero except where a test puts something, as ELF cores like
// /proc/vmcore.
package vmcoretest

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sort"
	"testing"

	"github.com/panicroom-kdump/panicroom/vmcore"
)

const pageSize = 4096

// ErrBadMemory is the I/O error of reading [Core.Bad].
var ErrBadMemory = errors.New("bad memory of a test")

// Core is a dead machine. The zero value has no memory; set RAM first.
type Core struct {
	Machine vmcore.Machine  // 0: riscv64
	RAM     []vmcore.Range  // one PT_LOAD each, in this order
	Extra   []vmcore.Range  // further PT_LOADs, like the kernel's text; they overlap RAM
	Bad     []vmcore.Range  // reading these gives ErrBadMemory
	Notes   []vmcore.Note   // PT_NOTE
	Virt    uint64          // p_vaddr of a PT_LOAD = its physical start + Virt
	pages   map[uint64]page // by page frame number
}

type page = *[pageSize]byte

// New makes a riscv64 machine with one range of RAM.
func New(start vmcore.PhysAddr, size uint64) *Core {
	return &Core{RAM: []vmcore.Range{{Start: start, End: start + vmcore.PhysAddr(size)}}}
}

// Put writes data into memory at addr.
func (c *Core) Put(addr vmcore.PhysAddr, data []byte) {
	if c.pages == nil {
		c.pages = map[uint64]page{}
	}
	for len(data) > 0 {
		pfn, off := uint64(addr)/pageSize, uint64(addr)%pageSize
		p := c.pages[pfn]
		if p == nil {
			p = new([pageSize]byte)
			c.pages[pfn] = p
		}
		n := copy(p[off:], data)
		data, addr = data[n:], addr+vmcore.PhysAddr(n)
	}
}

// PutUint64 writes a little-endian number into memory at addr.
func (c *Core) PutUint64(addr vmcore.PhysAddr, v uint64) {
	c.Put(addr, binary.LittleEndian.AppendUint64(nil, v))
}

// SetVMCoreInfo adds the VMCOREINFO note with the given text.
func (c *Core) SetVMCoreInfo(text string) {
	c.Notes = append(c.Notes, vmcore.Note{Name: "VMCOREINFO", Desc: []byte(text)})
}

// AddPRStatus adds the NT_PRSTATUS note of one riscv64 CPU: the process id at
// byte 32 and 32 registers from byte 112 on, 376 bytes in all.
func (c *Core) AddPRStatus(pid uint32, regs [32]uint64) {
	desc := make([]byte, 376)
	binary.LittleEndian.PutUint32(desc[32:], pid)
	for i, r := range regs {
		binary.LittleEndian.PutUint64(desc[112+8*i:], r)
	}
	c.Notes = append(c.Notes, vmcore.Note{Name: "CORE", Type: vmcore.NotePRStatus, Desc: desc})
}

// ReadPhys reads memory as it was put, without a file in between. Outside of
// RAM it gives [vmcore.ErrHole].
func (c *Core) ReadPhys(p []byte, addr vmcore.PhysAddr) (int, error) {
	for done := 0; done < len(p); {
		at := addr + vmcore.PhysAddr(done)
		in := false
		for _, r := range c.RAM {
			in = in || r.Contains(at)
		}
		if !in {
			return done, &vmcore.AddrError{Addr: at, Kind: vmcore.ErrHole}
		}
		for _, r := range c.Bad {
			if r.Contains(at) {
				return done, &vmcore.AddrError{Addr: at, Kind: vmcore.ErrUnreadable, Cause: ErrBadMemory}
			}
		}
		n := min(len(p)-done, int(pageSize-uint64(at)%pageSize))
		c.copyPage(p[done:done+n], at)
		done += n
	}
	return len(p), nil
}

// copyPage fills p from within one page.
func (c *Core) copyPage(p []byte, addr vmcore.PhysAddr) {
	if pg := c.pages[uint64(addr)/pageSize]; pg != nil {
		copy(p, pg[uint64(addr)%pageSize:])
		return
	}
	clear(p)
}

// Image is an ELF core as an io.ReaderAt. It takes no memory for pages that
// are zero, so it can be of a very large machine.
type Image struct {
	core   *Core
	header []byte // headers and notes, up to the first PT_LOAD
	loads  []load // by file offset
	size   int64
}

type load struct {
	vmcore.Range // whole pages
	off          int64
}

// Image lays the machine out as /proc/vmcore does: headers, notes and then
// each PT_LOAD from a page boundary on, its partial pages filled up.
func (c *Core) Image() *Image {
	le := binary.LittleEndian
	var notes []byte
	for _, n := range c.Notes {
		notes = vmcore.AppendNote(notes, le, n)
	}
	segments := append(append([]vmcore.Range{}, c.Extra...), c.RAM...)
	machine := c.Machine
	if machine == 0 {
		machine = vmcore.MachineRISCV
	}

	h := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 9)...)
	h = le.AppendUint16(h, 4) // ET_CORE
	h = le.AppendUint16(h, uint16(machine))
	h = le.AppendUint32(h, 1)
	h = le.AppendUint64(h, 0)
	h = le.AppendUint64(h, 64)
	h = le.AppendUint64(h, 0)
	h = le.AppendUint32(h, 0)
	for _, v := range []uint16{64, 56, uint16(1 + len(segments)), 0, 0, 0} {
		h = le.AppendUint16(h, v)
	}
	phdr := func(typ, flags uint32, off int64, vaddr, paddr, size uint64) {
		h = le.AppendUint32(h, typ)
		h = le.AppendUint32(h, flags)
		for _, v := range []uint64{uint64(off), vaddr, paddr, size, size, 0} {
			h = le.AppendUint64(h, v)
		}
	}
	roundUp := func(n int64) int64 { return (n + pageSize - 1) &^ (pageSize - 1) }
	noteOff := roundUp(int64(64 + 56*(1+len(segments))))
	phdr(4, 0, noteOff, 0, 0, uint64(len(notes)))
	im := &Image{core: c}
	off := noteOff + roundUp(int64(len(notes)))
	for _, s := range segments {
		skew := uint64(s.Start) % pageSize
		phdr(1, 7, off+int64(skew), uint64(s.Start)+c.Virt, uint64(s.Start), s.Size())
		whole := vmcore.Range{Start: s.Start - vmcore.PhysAddr(skew), End: (s.End + pageSize - 1) &^ (pageSize - 1)}
		im.loads = append(im.loads, load{whole, off})
		off += int64(whole.Size())
	}
	im.header = append(h, make([]byte, noteOff-int64(len(h)))...)
	im.header = append(im.header, notes...)
	im.header = append(im.header, make([]byte, roundUp(int64(len(notes)))-int64(len(notes)))...)
	im.size = off
	return im
}

// Size is the size of the file in bytes.
func (im *Image) Size() int64 { return im.size }

// ReadAt is io.ReaderAt.
func (im *Image) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		at := off + int64(done)
		switch {
		case at >= im.size:
			return done, io.EOF
		case at < int64(len(im.header)):
			done += copy(p[done:], im.header[at:])
			continue
		}
		i := sort.Search(len(im.loads), func(i int) bool { return im.loads[i].off > at }) - 1
		addr := im.loads[i].Start + vmcore.PhysAddr(at-im.loads[i].off)
		for _, r := range im.core.Bad {
			if r.Contains(addr) {
				return done, ErrBadMemory
			}
		}
		n := min(len(p)-done, int(pageSize-uint64(addr)%pageSize))
		im.core.copyPage(p[done:done+n], addr)
		done += n
	}
	return done, nil
}

// Bytes is the whole file. Only for small machines.
func (im *Image) Bytes() []byte {
	b := make([]byte, im.size)
	if n, err := im.ReadAt(b, 0); err != nil {
		return b[:n]
	}
	return b
}

// Open opens the machine's ELF core without a file; it is closed when the test
// ends.
func (c *Core) Open(t testing.TB) *vmcore.Dump {
	t.Helper()
	im := c.Image()
	d, err := vmcore.New(im, im.Size())
	if err != nil {
		t.Fatalf("vmcoretest: %v", err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// WriteFile writes the machine's ELF core to a file below t.TempDir, which
// takes no disk space for zero pages, and returns its path.
func (c *Core) WriteFile(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vmcore")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	im := c.Image()
	if err := f.Truncate(im.Size()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(im.header, 0); err != nil {
		t.Fatal(err)
	}
	for _, l := range im.loads {
		for pfn, p := range c.pages {
			addr := vmcore.PhysAddr(pfn * pageSize)
			if !l.Contains(addr) {
				continue
			}
			if _, err := f.WriteAt(p[:], l.off+int64(addr-l.Start)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return path
}
