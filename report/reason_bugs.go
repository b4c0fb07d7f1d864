package report

import (
	"encoding/binary"
	"fmt"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// Bug is a BUG() or WARN() of the kernel's source, out of its table of them:
// struct bug_entry, include/asm-generic/bug.h (Linux 6.1 to 7.2).
type Bug struct {
	File    string
	Line    int
	Warning bool
}

func (b Bug) String() string { return fmt.Sprintf("%s:%d", b.File, b.Line) }

// Bounds of the table: a large kernel has 40000 entries of 12 to 24 bytes, and a
// module some hundred.
const (
	maxBugs      = 1 << 18
	maxModuleBug = 1 << 16
	bugBlock     = 4 << 10 // bytes read at once
	maxBugFile   = 256
	bugIsWarning = 1 // BUGFLAG_WARNING
)

// bugTable reads tables of bugs. Entries point by distances from where the
// pointer lies, or by addresses on architectures that say so.
type bugTable struct {
	k          *kernel.Kernel
	entry      *kernel.StructReader
	addr, file kernel.Field
	relative   bool
}

// BugAt finds the BUG() or WARN() whose instruction is at pc. ErrNotFound is that
// there is none, or that the kernel was built without the places (no
// CONFIG_DEBUG_BUGVERBOSE).
func BugAt(k *kernel.Kernel, pc kernel.VirtAddr) (Bug, error) {
	r, err := k.Struct("bug_entry", "?bug_addr_disp", "?bug_addr", "?file_disp", "?file", "?line", "flags")
	if err != nil {
		return Bug{}, fmt.Errorf("table of bugs: %w", err)
	}
	t := &bugTable{k: k, entry: r}
	var ok bool
	if t.addr, t.relative = r.Field("bug_addr_disp"); !t.relative {
		if t.addr, ok = r.Field("bug_addr"); !ok {
			return Bug{}, fmt.Errorf("bug_entry.bug_addr: %w", kernel.ErrNoInfo)
		}
	}
	if t.file, ok = r.Field("file_disp"); !ok {
		if t.file, ok = r.Field("file"); !ok {
			return Bug{}, fmt.Errorf("places of bugs: %w", kernel.ErrNotFound)
		}
	}
	width := uint64(8)
	if t.relative {
		width = 4
	}
	if t.addr.Size != width || t.file.Size != width || r.Size() > bugBlock {
		return Bug{}, fmt.Errorf("struct bug_entry of %d bytes, pointers of %d and %d: %w", r.Size(), t.addr.Size, t.file.Size, kernel.ErrCorrupt)
	}
	start, err := k.Variable("__start___bug_table")
	if err != nil {
		return Bug{}, err
	}
	stop, err := k.Variable("__stop___bug_table")
	if err != nil {
		return Bug{}, err
	}
	if stop < start || uint64(stop-start) > maxBugs*r.Size() {
		return Bug{}, fmt.Errorf("table of bugs from %#x to %#x: %w", uint64(start), uint64(stop), kernel.ErrCorrupt)
	}
	bug, ok, err := t.find(start, uint64(stop-start)/r.Size(), pc)
	if ok || err != nil {
		return bug, err
	}
	return t.findInModules(pc)
}

// find searches n entries from start on.
func (t *bugTable) find(start kernel.VirtAddr, n uint64, pc kernel.VirtAddr) (Bug, bool, error) {
	size := t.entry.Size()
	each := bugBlock / size // entries of a block
	block := make([]byte, each*size)
	for i := uint64(0); i < n; i += each {
		b := block[:min(each, n-i)*size]
		at := start + kernel.VirtAddr(i*size)
		if err := t.k.ReadVirt(b, at); err != nil {
			return Bug{}, false, fmt.Errorf("table of bugs: %w", err)
		}
		for off := uint64(0); off < uint64(len(b)); off += size {
			entry := at + kernel.VirtAddr(off)
			if t.pointer(b[off:], entry, t.addr) == pc {
				bug, err := t.bug(entry, b[off:])
				return bug, true, err
			}
		}
	}
	return Bug{}, false, nil
}

// pointer is the address that a member of the entry leads to.
func (t *bugTable) pointer(b []byte, entry kernel.VirtAddr, f kernel.Field) kernel.VirtAddr {
	if t.relative {
		distance := int32(binary.LittleEndian.Uint32(b[f.Offset:]))
		return entry + kernel.VirtAddr(f.Offset) + kernel.VirtAddr(int64(distance))
	}
	return kernel.VirtAddr(binary.LittleEndian.Uint64(b[f.Offset:]))
}

// bug is the entry at addr, whose bytes are b.
func (t *bugTable) bug(addr kernel.VirtAddr, b []byte) (Bug, error) {
	o, err := t.entry.At(addr)
	if err != nil {
		return Bug{}, err
	}
	name, err := t.k.ReadString(t.pointer(b, addr, t.file), maxBugFile)
	if err != nil {
		return Bug{}, fmt.Errorf("file of a bug: %w", err)
	}
	return Bug{name, int(o.Uint("line")), o.Uint("flags")&bugIsWarning != 0}, nil
}

// findInModules searches the tables of modules.
func (t *bugTable) findInModules(pc kernel.VirtAddr) (Bug, error) {
	none := fmt.Errorf("bug at %#x: %w", uint64(pc), kernel.ErrNotFound)
	for m, err := range t.k.Modules() {
		if err != nil {
			return Bug{}, err
		}
		if !m.Contains(pc) {
			continue
		}
		r, err := t.k.Struct("module", "bug_table", "num_bugs")
		if err != nil {
			return Bug{}, err
		}
		o, err := r.At(m.Addr)
		if err != nil {
			return Bug{}, err
		}
		n := o.Uint("num_bugs")
		if n > maxModuleBug {
			return Bug{}, fmt.Errorf("%d bugs in module %s: %w", n, m.Name, kernel.ErrCorrupt)
		}
		bug, ok, err := t.find(o.Pointer("bug_table"), n, pc)
		if err == nil && !ok {
			err = none
		}
		return bug, err
	}
	return Bug{}, none
}
