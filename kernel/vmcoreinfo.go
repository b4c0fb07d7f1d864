package kernel

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxVMCoreInfo bounds the text: kernels write at most one page
// (VMCOREINFO_BYTES, include/linux/vmcore_info.h, Linux 7.2), the largest
// page is 64 KiB.
const maxVMCoreInfo = 64 << 10

// VMCoreInfo is the text KEY=value that every kernel writes for readers of its
// dump: kernel/vmcore_info.c (Linux 7.2; kernel/crash_core.c before 6.9), the
// keys in Documentation/admin-guide/kdump/vmcoreinfo.rst.
type VMCoreInfo struct {
	values map[string]string
}

// ParseVMCoreInfo reads the text of vmcoreinfo. Lines without "=" are skipped,
// since a kernel truncates the text when its page is full; the first of equal
// keys wins, so that what is appended cannot change what was said. The error
// is ErrNoInfo for an empty text and ErrCorrupt for an oversized one.
func ParseVMCoreInfo(text []byte) (*VMCoreInfo, error) {
	text = bytes.TrimRight(text, "\x00")
	if len(text) == 0 {
		return nil, fmt.Errorf("empty text: %w", ErrNoInfo)
	}
	if len(text) > maxVMCoreInfo {
		return nil, fmt.Errorf("vmcoreinfo of %d bytes, at most %d expected: %w", len(text), maxVMCoreInfo, ErrCorrupt)
	}
	info := &VMCoreInfo{values: make(map[string]string)}
	for line := range strings.Lines(string(text)) {
		key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if !ok || key == "" {
			continue
		}
		if _, dup := info.values[key]; !dup {
			info.values[key] = value
		}
	}
	return info, nil
}

// String is the value of a key as written, like String("OSRELEASE") or
// String("NUMBER(VA_BITS)").
func (v *VMCoreInfo) String(key string) (string, bool) {
	s, ok := v.values[key]
	return s, ok
}

// Keys are all keys in alphabetical order.
func (v *VMCoreInfo) Keys() []string { return slices.Sorted(maps.Keys(v.values)) }

// Symbol is the address of a kernel variable or function, relocation included.
func (v *VMCoreInfo) Symbol(name string) (VirtAddr, bool) {
	n, err := strconv.ParseUint(v.values["SYMBOL("+name+")"], 16, 64)
	return VirtAddr(n), err == nil
}

// Size is the size of a type in bytes, like Size("page").
func (v *VMCoreInfo) Size(name string) (uint64, bool) { return v.unsigned("SIZE(" + name + ")") }

// Offset is where a member is in its struct in bytes, like Offset("page.flags").
func (v *VMCoreInfo) Offset(name string) (uint64, bool) { return v.unsigned("OFFSET(" + name + ")") }

// Length is the number of elements of an array, like Length("zone.free_area").
func (v *VMCoreInfo) Length(name string) (uint64, bool) { return v.unsigned("LENGTH(" + name + ")") }

// Number is a constant or a variable's value, like Number("VA_BITS"). Values
// that the kernel writes in hexadecimal are addresses mostly; the upper ones
// become negative here and right again as VirtAddr(n).
func (v *VMCoreInfo) Number(name string) (int64, bool) {
	s, ok := v.values["NUMBER("+name+")"]
	if !ok {
		return 0, false
	}
	if hex, ok := strings.CutPrefix(s, "0x"); ok {
		n, err := strconv.ParseUint(hex, 16, 64)
		return int64(n), err == nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		// %lu of a value above the signed range.
		u, err := strconv.ParseUint(s, 10, 64)
		return int64(u), err == nil
	}
	return n, true
}

// Release is the kernel's release, as uname -r says it; "" if unknown.
func (v *VMCoreInfo) Release() string { return v.values["OSRELEASE"] }

// PageSize is the page size of the dumped kernel in bytes.
func (v *VMCoreInfo) PageSize() (uint64, bool) { return v.unsigned("PAGESIZE") }

// CrashTime is the wall clock at the panic, to the second.
func (v *VMCoreInfo) CrashTime() (time.Time, bool) {
	n, ok := v.unsigned("CRASHTIME")
	if !ok || n == 0 || n > 1<<40 {
		return time.Time{}, false
	}
	return time.Unix(int64(n), 0).UTC(), true
}

// KernelOffset is how far KASLR moved the kernel image. It is known from Linux
// 7.2 on for riscv64, long before for others.
func (v *VMCoreInfo) KernelOffset() (uint64, bool) {
	n, err := strconv.ParseUint(v.values["KERNELOFFSET"], 16, 64)
	return n, err == nil
}

func (v *VMCoreInfo) unsigned(key string) (uint64, bool) {
	n, err := strconv.ParseUint(v.values[key], 10, 64)
	return n, err == nil
}

// need returns a function that looks up numbers and remembers the first one
// missing, so that a list of them reads as a list.
func (v *VMCoreInfo) need(err *error) (number func(name string) uint64, symbol func(name string) VirtAddr) {
	missing := func(key string) {
		if *err == nil {
			*err = fmt.Errorf("%s: %w", key, ErrNoInfo)
		}
	}
	number = func(name string) uint64 {
		n, ok := v.Number(name)
		if !ok {
			missing("NUMBER(" + name + ")")
		}
		return uint64(n)
	}
	symbol = func(name string) VirtAddr {
		a, ok := v.Symbol(name)
		if !ok {
			missing("SYMBOL(" + name + ")")
		}
		return a
	}
	return number, symbol
}
