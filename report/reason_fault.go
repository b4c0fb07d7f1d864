package report

import (
	"fmt"
	"strings"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// access is what a CPU wanted of memory.
type access string

// What a CPU can want of memory; "" is unknown.
const (
	accessRead    access = "read"
	accessWrite   access = "write"
	accessExecute access = "execute"
)

// fault is what an exception says of itself.
type fault struct {
	words     string // the kernel's own: "illegal instruction"
	access    access
	address   uint64
	addressed bool
	pc        uint64
	hasPC     bool
	caller    string // function+0x12/0x34 that the return address is in
	cause     int64  // the number that the machine has for it
	hasCause  bool
}

// setAddress takes a hexadecimal address at the beginning of text; the first
// one counts.
func (f *fault) setAddress(text string) {
	if addr, ok := leadingHex(text); ok && !f.addressed {
		f.address, f.addressed = addr, true
	}
}

// setWords takes the kernel's words, which on some architectures begin with what
// was wanted: "write to read-only memory at virtual address ..." of arm64.
func (f *fault) setWords(words string) {
	f.words = words
	first, _, _ := strings.Cut(words, " ")
	switch first {
	case "read":
		f.access = accessRead
	case "write":
		f.access = accessWrite
	case "execute", "execution":
		f.access = accessExecute
	}
}

// readStatus understands "status: 0000000200000120 badaddr: 0000000000000000
// cause: 000000000000000f", arch/riscv/kernel/process.c.
func (f *fault) readStatus(line string) {
	if f.hasCause {
		return // the first is that of the fault
	}
	_, addr, ok1 := strings.Cut(line, " badaddr: ")
	_, cause, ok2 := strings.Cut(line, " cause: ")
	code, ok3 := leadingHex(cause)
	if !ok1 || !ok2 || !ok3 || code > 1<<62 {
		return // an interrupt has the highest bit set
	}
	f.cause, f.hasCause = int64(code), true
	if memoryCause(f.cause) {
		f.setAddress(addr)
	}
	f.access = riscvAccess(f.cause)
}

// readPF understands "#PF: supervisor write access in kernel mode",
// arch/x86/mm/fault.c.
func (f *fault) readPF(line string) {
	switch {
	case f.access != "":
	case strings.Contains(line, " write access "):
		f.access = accessWrite
	case strings.Contains(line, " read access "):
		f.access = accessRead
	case strings.Contains(line, " instruction fetch "):
		f.access = accessExecute
	}
}

// Causes of exceptions: The RISC-V Instruction Set Manual, volume II, table of
// mcause.
const (
	riscvFetchMisaligned = 0
	riscvFetchAccess     = 1
	riscvIllegal         = 2
	riscvBreakpoint      = 3
	riscvLoadMisaligned  = 4
	riscvLoadAccess      = 5
	riscvStoreMisaligned = 6
	riscvStoreAccess     = 7
	riscvFetchPage       = 12
	riscvLoadPage        = 13
	riscvStorePage       = 15
)

// memoryCause tells whether badaddr is the address of an access.
func memoryCause(cause int64) bool {
	return riscvAccess(cause) != ""
}

func riscvAccess(cause int64) access {
	switch cause {
	case riscvFetchMisaligned, riscvFetchAccess, riscvFetchPage:
		return accessExecute
	case riscvLoadMisaligned, riscvLoadAccess, riscvLoadPage:
		return accessRead
	case riscvStoreMisaligned, riscvStoreAccess, riscvStorePage:
		return accessWrite
	}
	return ""
}

// decode finds the class of an oops and says it in words. mapped tells whether
// the dead kernel has anything at an address; nil is that nobody knows.
func (f *fault) decode(arch *kernel.Arch, mapped func(kernel.VirtAddr) bool) (Class, string) {
	if f.hasCause {
		switch f.cause {
		case riscvIllegal:
			return ClassIllegal, "an instruction that the CPU does not know"
		case riscvFetchMisaligned, riscvLoadMisaligned, riscvStoreMisaligned:
			return ClassMisaligned, f.verb() + fmt.Sprintf(" at %#x, which is not aligned", f.address)
		case riscvFetchAccess, riscvLoadAccess, riscvStoreAccess:
			return ClassAccessFault, f.verb() + fmt.Sprintf(" at %#x, which the machine refused", f.address)
		case riscvFetchPage, riscvLoadPage, riscvStorePage:
			return f.decodeAddress(arch, mapped)
		}
		if f.cause != riscvBreakpoint {
			return ClassException, fmt.Sprintf("exception %d", f.cause)
		}
	}
	switch {
	case strings.Contains(f.words, "illegal instruction"), strings.Contains(f.words, "invalid opcode"):
		return ClassIllegal, "an instruction that the CPU does not know"
	case strings.Contains(f.words, "misaligned"):
		return ClassMisaligned, ""
	case strings.Contains(f.words, "access fault"):
		return ClassAccessFault, ""
	case f.addressed:
		return f.decodeAddress(arch, mapped)
	}
	return "", ""
}

// Addresses that are no accident.
const (
	// lowest is where memory of programs begins at the earliest: vm.mmap_min_addr
	// as distributions have it. Below it is what is found through a null pointer.
	lowest = 64 << 10
	// highest error number: MAX_ERRNO, include/linux/err.h.
	maxErrno = 4095
	// include/linux/poison.h, with CONFIG_ILLEGAL_POINTER_VALUE as 64-bit
	// architectures have it.
	poisonDelta = 0xdead_0000_0000_0000
	listPoison1 = 0x100
	listPoison2 = 0x122
	poisonReach = 0x10000
)

// poisons are bytes that memory is filled with: include/linux/poison.h.
var poisons = []struct {
	fill  byte
	class Class
	words string
}{
	{0x6b, ClassUseAfterFree, "freed memory (0x6b)"},                   // POISON_FREE
	{0xa5, ClassUseAfterFree, "the end of freed memory (0xa5)"},        // POISON_END
	{0xaa, ClassUseAfterFree, "a page that was freed (0xaa)"},          // PAGE_POISON
	{0xa7, ClassUseAfterFree, "a DMA block that was freed (0xa7)"},     // POOL_POISON_FREED
	{0x5a, ClassUninitialized, "memory that was never written (0x5a)"}, // POISON_INUSE
	{0xcc, ClassUninitialized, "memory beside an object (0xcc)"},       // SLUB_RED_ACTIVE, POISON_FREE_INITMEM
	{0xbb, ClassUseAfterFree, "memory beside a freed object (0xbb)"},   // SLUB_RED_INACTIVE
}

// verb is what the CPU wanted.
func (f *fault) verb() string {
	switch f.access {
	case accessRead:
		return "read"
	case accessWrite:
		return "write"
	case accessExecute:
		return "jump"
	}
	return "access"
}

// through is the verb with the word that leads to a pointer.
func (f *fault) through() string {
	switch f.access {
	case accessExecute:
		return "call through"
	case accessWrite:
		return "write through"
	case accessRead:
		return "read through"
	}
	return "access through"
}

// decodeAddress tells what kind of pointer led to the address.
func (f *fault) decodeAddress(arch *kernel.Arch, mapped func(kernel.VirtAddr) bool) (Class, string) {
	a := f.address
	switch {
	case a == listPoison2, a == listPoison2+8:
		// Without the delta; no member of a struct lies so odd.
		return ClassListPoison, f.through() + " the pointer of an entry that was taken off its list"
	case a == 0 && f.access == accessExecute:
		return ClassNull, "call of a null function pointer"
	case a == 0:
		return ClassNull, f.through() + " a null pointer"
	case a < lowest:
		return ClassNull, f.through() + fmt.Sprintf(" a null pointer, at offset %#x", a)
	case a > ^uint64(0)-maxErrno:
		return ClassErrorPointer, f.through() + fmt.Sprintf(" an error code that was taken for a pointer (error %d)", -int64(a))
	case a >= poisonDelta-0x1000 && a < poisonDelta+poisonReach:
		off := a - poisonDelta
		for i, p := range []uint64{listPoison1, listPoison2} {
			if off == p || off == p+8 { // next or prev of what is thought to be there
				return ClassListPoison, f.through() + fmt.Sprintf(" the pointer of an entry that was taken off its list (LIST_POISON%d)", i+1)
			}
		}
		return ClassPoison, f.through() + fmt.Sprintf(" a pointer that was made invalid (%#x)", a)
	}
	for _, p := range poisons {
		// A member may be added to it.
		if fill := uint64(p.fill) * 0x0101_0101_0101_0101; a>>16 == fill>>16 {
			return p.class, f.through() + " a pointer out of " + p.words
		}
	}
	switch user, valid := addressHalf(arch, a); {
	case !valid:
		return ClassNonCanonical, f.through() + fmt.Sprintf(" %#x, which is no address", a)
	case user:
		return ClassUserAccess, f.verb() + fmt.Sprintf(" at %#x, which is memory of a program", a)
	}
	if mapped != nil && mapped(kernel.VirtAddr(a)) {
		switch f.access {
		case accessWrite:
			return ClassWriteProtect, fmt.Sprintf("write at %#x, which is read-only", a)
		case accessExecute:
			return ClassNoExecute, fmt.Sprintf("jump to %#x, which is not code", a)
		}
	}
	where := fmt.Sprintf(" %#x", a)
	if mapped != nil {
		where += ", where nothing is"
	}
	switch {
	case strings.Contains(f.words, "write to read-only memory"):
		return ClassWriteProtect, fmt.Sprintf("write at %#x, which is read-only", a)
	case strings.Contains(f.words, "non-executable memory"):
		return ClassNoExecute, fmt.Sprintf("jump to %#x, which is not code", a)
	case f.access == accessExecute:
		return ClassPageFault, "jump to" + where
	}
	return ClassPageFault, f.verb() + " at" + where
}

// addressHalf tells whether the address is one of programs, and whether it is
// one at all: bits that page tables do not look at must be those of the highest
// one that they do.
func addressHalf(arch *kernel.Arch, a uint64) (user, valid bool) {
	bits := uint(57) // the most that any machine has
	if arch != nil && arch.VABits > 1 && arch.VABits < 64 {
		bits = arch.VABits
	}
	high := int64(a) >> (bits - 1)
	return high == 0, high == 0 || high == -1
}

// leadingHex is the hexadecimal number at the beginning of s, with 0x or
// without.
func leadingHex(s string) (uint64, bool) {
	s = strings.TrimPrefix(s, "0x")
	end := 0
	for end < len(s) && strings.IndexByte("0123456789abcdef", s[end]) >= 0 {
		end++
	}
	return parseHex(s[:end])
}
