package referee

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// pageSize is that of every riscv64 kernel.
const pageSize = 4096

// core is a raw ELF copy of /proc/vmcore (fs/proc/vmcore.c, Linux 6.12 and
// 7.2): one PT_NOTE, then PT_LOADs whose p_paddr is right and whose p_vaddr is
// not to be believed.
type core struct {
	f     *os.File
	loads []load
	info  vmcoreinfo
	// stackPointers are the saved sp of each CPU.
	stackPointers []uint64
	cpus          int
}

// load is one PT_LOAD: size bytes of physical memory from phys, at offset.
type load struct{ phys, size, offset uint64 }

func openCore(path string) (*core, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	c := &core{f: f}
	if err := c.readHeaders(); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

func (c *core) close() error { return c.f.Close() }

func (c *core) readHeaders() error {
	e, err := elf.NewFile(c.f)
	if err != nil {
		return err
	}
	if e.Type != elf.ET_CORE || e.Machine != elf.EM_RISCV || e.Class != elf.ELFCLASS64 {
		return fmt.Errorf("%v %v %v; want a 64-bit RISC-V core", e.Type, e.Machine, e.Class)
	}
	for _, p := range e.Progs {
		switch p.Type {
		case elf.PT_LOAD:
			c.loads = append(c.loads, load{p.Paddr, p.Filesz, p.Off})
		case elf.PT_NOTE:
			b, err := io.ReadAll(io.LimitReader(p.Open(), 1<<20))
			if err != nil {
				return err
			}
			c.readNotes(b)
		}
	}
	if c.info == nil {
		return fmt.Errorf("no VMCOREINFO note")
	}
	return nil
}

func (c *core) readNotes(b []byte) {
	for len(b) >= 12 {
		namesz := int(binary.LittleEndian.Uint32(b))
		descsz := int(binary.LittleEndian.Uint32(b[4:]))
		kind := binary.LittleEndian.Uint32(b[8:])
		descAt := 12 + (namesz+3)/4*4
		end := descAt + (descsz+3)/4*4
		if namesz > len(b) || descsz > len(b) || descAt+descsz > len(b) {
			return
		}
		name := strings.TrimRight(string(b[12:12+namesz]), "\x00")
		desc := b[descAt : descAt+descsz]
		switch {
		case name == "VMCOREINFO":
			c.info = vmcoreinfo{}
			for line := range strings.Lines(string(desc)) {
				if k, v, ok := strings.Cut(strings.TrimRight(line, "\n"), "="); ok {
					c.info[k] = v
				}
			}
		case name == "CORE" && kind == 1 && len(desc) >= 112+3*8:
			// struct elf_prstatus, LP64: pr_reg at 112; riscv64: pc, ra, sp...
			c.stackPointers = append(c.stackPointers, binary.LittleEndian.Uint64(desc[112+2*8:]))
			c.cpus++
		}
		b = b[min(end, len(b)):]
	}
}

// has tells whether any part of the page is in the file.
func (c *core) has(pfn uint64) bool {
	for _, l := range c.loads {
		if pfn*pageSize < l.phys+l.size && (pfn+1)*pageSize > l.phys {
			return true
		}
	}
	return false
}

// end is the page frame after the last.
func (c *core) end() uint64 {
	var end uint64
	for _, l := range c.loads {
		end = max(end, (l.phys+l.size+pageSize-1)/pageSize)
	}
	return end
}

// readPage fills buf with one page; bytes of it that no PT_LOAD has are zero.
func (c *core) readPage(pfn uint64, buf []byte) error {
	at := pfn * pageSize
	for _, l := range c.loads {
		if at >= l.phys && at+pageSize <= l.phys+l.size {
			_, err := c.f.ReadAt(buf[:pageSize], int64(l.offset+at-l.phys))
			return err
		}
	}
	clear(buf[:pageSize])
	found := false
	for _, l := range c.loads {
		from, to := max(at, l.phys), min(at+pageSize, l.phys+l.size)
		if from >= to {
			continue
		}
		found = true
		if _, err := c.f.ReadAt(buf[from-at:to-at], int64(l.offset+from-l.phys)); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("no memory at %#x", at)
	}
	return nil
}

// vmcoreinfo are the lines of the VMCOREINFO note, KEY=value.
type vmcoreinfo map[string]string

func (v vmcoreinfo) text(key string) string { return v[key] }

// number reads NUMBER, OFFSET, SIZE and LENGTH values: decimal, or hex with 0x.
func (v vmcoreinfo) number(key string) (int64, bool) {
	s, ok := v[key]
	if !ok {
		return 0, false
	}
	if n, err := strconv.ParseInt(s, 0, 64); err == nil {
		return n, true
	}
	n, err := strconv.ParseUint(s, 0, 64)
	return int64(n), err == nil
}

// symbol reads SYMBOL values: hex without 0x.
func (v vmcoreinfo) symbol(name string) (uint64, bool) {
	n, err := strconv.ParseUint(v["SYMBOL("+name+")"], 16, 64)
	return n, err == nil
}

// need collects values that must be there.
type need struct {
	v       vmcoreinfo
	missing []string
}

func (n *need) number(key string) int64 {
	x, ok := n.v.number(key)
	if !ok {
		n.missing = append(n.missing, key)
	}
	return x
}

func (n *need) symbol(name string) uint64 {
	x, ok := n.v.symbol(name)
	if !ok {
		n.missing = append(n.missing, "SYMBOL("+name+")")
	}
	return x
}

func (n *need) err() error {
	if len(n.missing) == 0 {
		return nil
	}
	return fmt.Errorf("vmcoreinfo lacks %s", strings.Join(n.missing, ", "))
}
