package stack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// Where things are in the machine of these tests.
const (
	textBase   = kernel.VirtAddr(0xffffffff80002000)
	entryBase  = kernel.VirtAddr(0xffffffff80010000)
	bootBase   = kernel.VirtAddr(0xffffffff80c00000)
	moduleBase = kernel.VirtAddr(0xffffffff01000000)
	stackBase  = kernel.VirtAddr(0xff20000000010000)
	stackSize  = 16 << 10
	stackEnd   = stackBase + stackSize
	irqBase    = kernel.VirtAddr(0xff20000000100000)
	irqEnd     = irqBase + stackSize
	overBase   = kernel.VirtAddr(0xff60000000200000)
	overEnd    = overBase + 4096
	taskAt     = kernel.VirtAddr(0xff60000000300000)
	graphAt    = kernel.VirtAddr(0xff60000000400000)
	irqPointer = kernel.VirtAddr(0xff60000000500000)

	regsSize = 288
)

// Functions of the machine, 0x100 bytes each.
var functions = []string{"outer", "middle", "inner", "leaf", "schedule", "other", "cold"}

// errUnreadable is what reading the machine's missing memory gives.
var errUnreadable = errors.New("page excluded from the dump")

// machine is a dead kernel as far as stacks go: bytes, symbols and a layout.
type machine struct {
	mem     map[kernel.VirtAddr]*[4096]byte
	symbols []kernel.Symbol
	lookups map[string]kernel.VirtAddr
	modules []kernel.Module
	layout  *kernel.Layout
}

func newMachine() *machine {
	m := &machine{mem: map[kernel.VirtAddr]*[4096]byte{}, lookups: map[string]kernel.VirtAddr{}}
	for i, name := range functions {
		m.function(name, textBase+kernel.VirtAddr(0x100*i), 0x100)
	}
	m.function("handle_exception", entryBase, 0x200)
	m.function("ret_from_exception", entryBase+0x200, 0x100)
	m.function("ret_from_fork", entryBase+0x300, 0x40)
	m.function("return_to_handler", entryBase+0x400, 0x40)
	m.function("arch_rethook_trampoline", entryBase+0x440, 0x40)
	m.function("_start_kernel", bootBase-0x100000, 0x100)
	m.function("start_kernel", bootBase, 0x100)
	m.symbols = append(m.symbols, kernel.Symbol{Name: "mod_work", Module: "mod", Type: 't', Addr: moduleBase, Size: 0x100})
	m.modules = []kernel.Module{{Name: "mod", Memory: []kernel.ModuleMemory{{Base: moduleBase, Size: 0x1000}}}}
	m.lookups["_stext"], m.lookups["_etext"] = textBase, entryBase+0x1000
	m.lookups["_sinittext"], m.lookups["_einittext"] = bootBase, bootBase+0x1000
	m.lookups["_start"] = textBase - 0x2000
	m.lookups["ret_from_exception_end"] = entryBase + 0x300
	m.lookups["irq_stack_ptr"], m.lookups["overflow_stack"] = irqPointer, overBase
	m.put(irqPointer, uint64(irqBase))

	word := func(at uint64) kernel.Field { return kernel.Field{Offset: at, Size: 8} }
	regs := map[string]kernel.Field{"status": word(256), "badaddr": word(264), "cause": word(272)}
	for i, name := range riscv64().registers {
		regs[name] = word(uint64(8 * i))
	}
	m.layout = &kernel.Layout{Structs: map[string]kernel.Struct{
		"pt_regs": {Size: regsSize, Fields: regs},
		"task_struct": {Size: 512, Fields: map[string]kernel.Field{
			"stack": word(16), "thread": {Offset: 64, Size: 128}, "on_cpu": {Offset: 32, Size: 1},
			"ret_stack": word(40), "curr_ret_stack": {Offset: 48, Size: 4},
		}},
		"thread_struct": {Size: 128, Fields: map[string]kernel.Field{
			"ra": word(0), "sp": word(8), "s": {Offset: 16, Size: 96, Count: 12},
		}},
		"ftrace_ret_stack": {Size: 24, Fields: map[string]kernel.Field{"ret": word(0), "func": word(8)}},
	}}
	m.put(taskAt+16, uint64(stackBase))
	return m
}

func (m *machine) function(name string, at kernel.VirtAddr, size uint64) {
	m.symbols = append(m.symbols, kernel.Symbol{Name: name, Type: 't', Addr: at, Size: size})
	m.lookups[name] = at
	m.bytes(at+6, []byte{0x00, 0x08}) // addi s0, sp, 16
}

// in is an address in a function.
func (m *machine) in(name string, off kernel.VirtAddr) kernel.VirtAddr {
	for _, s := range m.symbols {
		if s.Name == name {
			return s.Addr + off
		}
	}
	panic("no function " + name)
}

// calls makes function from call to, and is the address after that call. off is
// where the call ends.
func (m *machine) calls(from, to string, off kernel.VirtAddr) kernel.VirtAddr {
	ra := m.in(from, off)
	d := uint32(m.in(to, 0) - (ra - 8))
	const auipcRA, jalrRA = 1<<7 | opAUIPC, 1<<15 | 1<<7 | opJALR
	m.put32(ra-8, (d+0x800)&^0xfff|auipcRA)
	m.put32(ra-4, d<<20|jalrRA)
	return ra
}

// callsRegister makes a function call what a register says.
func (m *machine) callsRegister(from string, off kernel.VirtAddr) kernel.VirtAddr {
	ra := m.in(from, off)
	m.bytes(ra-2, []byte{0x82, 0x97}) // c.jalr a5
	return ra
}

func (m *machine) bytes(at kernel.VirtAddr, b []byte) {
	for i, c := range b {
		va := at + kernel.VirtAddr(i)
		page := m.mem[va&^4095]
		if page == nil {
			page = new([4096]byte)
			m.mem[va&^4095] = page
		}
		page[va&4095] = c
	}
}

func (m *machine) put(at kernel.VirtAddr, words ...uint64) {
	for i, n := range words {
		m.bytes(at+kernel.VirtAddr(8*i), binary.LittleEndian.AppendUint64(nil, n))
	}
}

func (m *machine) put32(at kernel.VirtAddr, n uint32) {
	m.bytes(at, binary.LittleEndian.AppendUint32(nil, n))
}

// record writes a frame record below fp.
func (m *machine) record(fp, caller, ra kernel.VirtAddr) {
	m.put(fp-16, uint64(caller), uint64(ra))
}

// regs writes a struct pt_regs.
func (m *machine) regs(at kernel.VirtAddr, r registers, status, cause, badAddr uint64) {
	m.put(at, make([]uint64, regsSize/8)...)
	m.put(at, uint64(r.pc), uint64(r.ra), uint64(r.sp))
	m.put(at+64, uint64(r.fp))
	m.put(at+256, status, badAddr, cause)
}

const (
	fromUser   = 0
	fromKernel = 0x100
)

// sleeps says where the task is.
func (m *machine) sleeps(pc, sp, fp kernel.VirtAddr) {
	m.put(taskAt+64, uint64(pc), uint64(sp), uint64(fp))
}

func (m *machine) ReadVirt(p []byte, va kernel.VirtAddr) error {
	for len(p) > 0 {
		page := m.mem[va&^4095]
		if page == nil {
			return fmt.Errorf("kernel memory at %v: %w", va, errUnreadable)
		}
		n := copy(p, page[va&4095:])
		p = p[n:]
		va += kernel.VirtAddr(n)
	}
	return nil
}

func (m *machine) SymbolAt(va kernel.VirtAddr) (kernel.Symbol, uint64, error) {
	for _, s := range m.symbols {
		if off := uint64(va - s.Addr); off < s.Size {
			return s, off, nil
		}
	}
	return kernel.Symbol{}, 0, kernel.ErrNotFound
}

func (m *machine) Lookup(names ...string) (map[string]kernel.VirtAddr, error) {
	found := map[string]kernel.VirtAddr{}
	for _, n := range names {
		if a, ok := m.lookups[n]; ok {
			found[n] = a
		}
	}
	return found, nil
}

func (m *machine) Modules() iter.Seq2[kernel.Module, error] {
	return func(yield func(kernel.Module, error) bool) {
		for _, mod := range m.modules {
			if !yield(mod, nil) {
				return
			}
		}
	}
}

func (m *machine) Layout() (*kernel.Layout, error) { return m.layout, nil }

func (m *machine) Info() *kernel.VMCoreInfo {
	info, err := kernel.ParseVMCoreInfo([]byte("OSRELEASE=6.12.107-test\nNUMBER(MODULES_VADDR)=0xffffffff00000000\nNUMBER(MODULES_END)=0xffffffff80000000\n"))
	if err != nil {
		panic(err)
	}
	return info
}

func (m *machine) unwinder(t testing.TB) *Unwinder {
	t.Helper()
	u, err := newUnwinder(m, riscv64(), func(variable kernel.VirtAddr, cpu int) kernel.VirtAddr {
		if cpu != 0 {
			return 0
		}
		return variable
	}, []int{0})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// text is a stack as the tests write it: a frame a line.
func text(s Stack) string {
	var b strings.Builder
	for _, f := range s.Frames {
		b.WriteString(f.String())
		if f.Interrupted {
			b.WriteString(" interrupted")
		}
		if f.Regs != nil {
			fmt.Fprintf(&b, " by %s", f.Regs.Cause)
			if f.Regs.BadAddr != 0 {
				fmt.Fprintf(&b, " at %v", f.Regs.BadAddr)
			}
			if f.Regs.User {
				b.WriteString(" in user mode")
			}
		}
		if f.Tail != "" {
			b.WriteString(", called " + f.Tail)
		}
		if f.Doubt != "" {
			b.WriteString(": " + f.Doubt)
		}
		b.WriteString("\n")
	}
	if s.Broken != "" {
		b.WriteString("broken: " + s.Broken + "\n")
	}
	return b.String()
}

func check(t *testing.T, s Stack, want string) {
	t.Helper()
	want = strings.ReplaceAll(strings.TrimLeft(want, "\n"), "\t", "")
	if got := text(s); got != want {
		t.Errorf("the stack is\n%swant\n%s", got, want)
	}
}
