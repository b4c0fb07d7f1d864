package capture

import (
	"fmt"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// noteMemory is what *kernel.Kernel tells of where notes are.
type noteMemory interface {
	Lookup(names ...string) (map[string]kernel.VirtAddr, error)
	CPUs() ([]kernel.CPU, error)
	ReadPointer(va kernel.VirtAddr) (kernel.VirtAddr, error)
	Translate(va kernel.VirtAddr) (vmcore.PhysAddr, error)
}

// notePages finds the pages that the notes of the dump were taken from: the
// VMCOREINFO note (vmcoreinfo_note, kernel/vmcore_info.c) and the registers of
// each CPU (crash_notes, kernel/crash_core.c, Linux 7.2). They are two different
// kinds of memory, pages of their own and per-CPU areas, neither of which any
// kernel could do without. A note does not cross a page.
func notePages(k noteMemory, pageSize uint64) ([]vmcore.PFN, error) {
	symbols, err := k.Lookup("vmcoreinfo_note", "crash_notes", "__per_cpu_offset")
	if err != nil {
		return nil, err
	}
	var pages []vmcore.PFN
	add := func(va kernel.VirtAddr) error {
		pa, err := k.Translate(va)
		if err == nil {
			pages = append(pages, vmcore.PFN(uint64(pa)/pageSize))
		}
		return err
	}
	if at, ok := symbols["vmcoreinfo_note"]; ok {
		va, err := k.ReadPointer(at)
		if err == nil {
			err = add(va)
		}
		if err != nil {
			return pages, fmt.Errorf("vmcoreinfo_note: %w", err)
		}
	}
	base, ok := symbols["crash_notes"]
	offsets, ok2 := symbols["__per_cpu_offset"]
	if !ok || !ok2 {
		return pages, nil
	}
	if base, err = k.ReadPointer(base); err != nil {
		return pages, fmt.Errorf("crash_notes: %w", err)
	}
	// CPUs that have no number left no note that was found in memory.
	cpus, err := k.CPUs()
	for _, cpu := range cpus {
		if cpu.Number < 0 {
			continue
		}
		offset, err := k.ReadPointer(offsets + kernel.VirtAddr(8*cpu.Number))
		if err == nil {
			err = add(base + offset)
		}
		if err != nil {
			return pages, fmt.Errorf("crash_notes of CPU %d: %w", cpu.Number, err)
		}
	}
	return pages, err
}

// checkNotes finds out whether a page with notes would be left out.
func checkNotes(k noteMemory, pageSize uint64, level int, classify func(vmcore.PFN, []Class) error) Check {
	c := Check{Name: "notes kept"}
	pages, err := notePages(k, pageSize)
	lost := 0
	for _, pfn := range pages {
		var class [1]Class
		if err := classify(pfn, class[:]); err != nil || class[0].Dropped(level) {
			lost++
		}
	}
	// Notes that are not found say nothing about classes.
	c.OK = lost == 0
	c.Detail = fmt.Sprintf("%d pages with notes, %d would be left out", len(pages), lost)
	if err != nil {
		c.Detail += fmt.Sprintf("; not all were found: %v", err)
	}
	return c
}
