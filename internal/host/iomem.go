package host

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Resource is one line of /proc/iomem.
type Resource struct {
	Range
	Name string `json:"name"`
	// Depth is how deep the line is nested in the ones before it, from 0.
	Depth int `json:"depth"`
}

// maxResources bounds /proc/iomem: a large server has thousands of lines.
const maxResources = 1 << 16

// ParseIomem parses the text of /proc/iomem: lines "START-END : NAME" with the
// last address instead of the end, two spaces of indent per level
// (kernel/resource.c, r_show).
func ParseIomem(b []byte) ([]Resource, error) {
	var list []Resource
	for line := range bytes.Lines(b) {
		line = bytes.TrimRight(line, "\n")
		text := bytes.TrimLeft(line, " ")
		if len(text) == 0 {
			continue
		}
		if len(list) == maxResources {
			return nil, fmt.Errorf("more than %d lines: %w", maxResources, ErrCorrupt)
		}
		span, name, ok := bytes.Cut(text, []byte(" : "))
		from, to, ok2 := bytes.Cut(span, []byte("-"))
		start, err1 := strconv.ParseUint(string(from), 16, 64)
		last, err2 := strconv.ParseUint(string(to), 16, 64)
		if !ok || !ok2 || err1 != nil || err2 != nil || start > last {
			return nil, fmt.Errorf("line %.80q: %w", line, ErrCorrupt)
		}
		end := last + 1
		if last == math.MaxUint64 {
			end = last // the end of the address space; no memory has its last byte
		}
		list = append(list, Resource{Range{start, end}, string(name), (len(line) - len(text)) / 2})
	}
	return list, nil
}

// hidden tells whether the kernel shows zeros instead of addresses, which it
// does to readers without CAP_SYS_ADMIN.
func hidden(list []Resource) bool {
	for _, r := range list {
		if r.Start != 0 || r.End > 1 {
			return false
		}
	}
	return len(list) > 0
}

// resources returns the memory of the lines whose name is wanted, sorted and
// merged.
func (m *Machine) resources(wanted func(name string) bool) []Range {
	var list []Range
	for _, r := range m.Iomem {
		if wanted(r.Name) {
			list = append(list, r.Range)
		}
	}
	return Merge(list)
}

// SystemRAM is the memory the kernel has: the "System RAM" lines, with
// everything that is nested in them. What a driver has added, "System RAM
// (virtio_mem)" or "System RAM (kmem)", is such memory too
// (mm/memory_hotplug.c, add_memory_driver_managed).
func (m *Machine) SystemRAM() []Range {
	return m.resources(func(name string) bool { return name == "System RAM" || strings.HasPrefix(name, "System RAM (") })
}

// CrashRegions is the memory that crashkernel= reserved, ascending: one region,
// or two with ",high".
func (m *Machine) CrashRegions() []Range {
	// Not merged: two adjacent regions are two to the kernel as well.
	var list []Range
	for _, r := range m.Iomem {
		if r.Name == "Crash kernel" {
			list = append(list, r.Range)
		}
	}
	slices.SortFunc(list, compareRanges)
	return list
}

// KernelImage is where the running kernel lies, from _text to the end of its
// bss; ok is false if /proc/iomem does not tell.
func (m *Machine) KernelImage() (r Range, ok bool) {
	list := m.resources(func(name string) bool { return name == "Kernel image" })
	if len(list) != 1 {
		return Range{}, false
	}
	return list[0], true
}

func compareRanges(a, b Range) int {
	switch {
	case a.Start < b.Start:
		return -1
	case a.Start > b.Start:
		return 1
	}
	return 0
}

// Merge sorts ranges and joins those that touch or overlap; empty ones vanish.
func Merge(list []Range) []Range {
	sorted := slices.SortedFunc(slices.Values(list), compareRanges)
	var out []Range
	for _, r := range sorted {
		if r.Start >= r.End {
			continue
		}
		if n := len(out); n > 0 && r.Start <= out[n-1].End {
			out[n-1].End = max(out[n-1].End, r.End)
			continue
		}
		out = append(out, r)
	}
	return out
}

// Subtract returns what is left of list without the ranges of holes, sorted
// and merged.
func Subtract(list, holes []Range) []Range {
	var out []Range
	holes = Merge(holes)
	for _, r := range Merge(list) {
		for _, h := range holes {
			if h.End <= r.Start {
				continue
			}
			if h.Start >= r.End {
				break
			}
			if h.Start > r.Start {
				out = append(out, Range{r.Start, h.Start})
			}
			r.Start = h.End
			if r.Start >= r.End {
				break
			}
		}
		if r.Start < r.End {
			out = append(out, r)
		}
	}
	return out
}
