package load

import (
	"encoding/binary"
	"fmt"

	"github.com/panicroom-kdump/panicroom/internal/host"
)

const pageSize = 4096

func roundUp(n, to uint64) uint64 { return (n + to - 1) &^ (to - 1) }

// What pieces of a dump are.
const (
	whatRAM    = "memory"
	whatKernel = "kernel image"
)

// core plans what is in the dump: notes of every possible CPU, vmcoreinfo, and
// all System RAM but the reserved memory and the firmware's. What /proc/iomem
// nests in System RAM as "Reserved" is in it: page tables, page structs and
// crash notes are such.
func (p *Plan) core(a *arch, m *host.Machine, firmware []Excluded, opts *Options) {
	for _, n := range m.CrashNotes {
		p.Notes = append(p.Notes, Note{n.CPU, host.Range{Start: n.Addr, End: n.Addr + n.Size}})
	}
	p.Notes = append(p.Notes, Note{-1, m.VMCoreInfo})

	ram := m.SystemRAM()
	var holes []host.Range
	for _, r := range p.Regions {
		holes = append(holes, r)
		p.Excluded = append(p.Excluded, Excluded{r, "the panic kernel's"})
	}
	for _, e := range firmware {
		// What the kernel does not call System RAM is in no dump anyway.
		for _, r := range intersect(e.Range, ram) {
			if opts.Test.IncludeFirmware {
				p.warn("%v is in the dump although it is %s (a test wants it so)", r, e.Why)
				continue
			}
			holes = append(holes, r)
			p.Excluded = append(p.Excluded, Excluded{r, e.Why})
		}
	}

	image, ok := m.KernelImage()
	text := m.Symbols["_text"]
	switch {
	case !ok:
		p.warn("/proc/iomem does not say where the kernel image is; the dump has no segment for it")
	case text == 0:
		p.warn("the address of _text is unknown; the dump has no segment for the kernel image")
	default:
		p.Memory = append(p.Memory, Memory{image, text, whatKernel})
	}
	linear, known := a.linear(m)
	if !known {
		p.warn("where kernel %s maps memory is unknown; addresses in the dump's segments are 0", m.Release)
	}
	for _, r := range host.Subtract(ram, holes) {
		piece := Memory{Range: r, What: whatRAM}
		if known {
			piece.Virt = r.Start + linear
		}
		p.Memory = append(p.Memory, piece)
	}
}

// intersect returns what r has in common with the ranges of list.
func intersect(r host.Range, list []host.Range) []host.Range {
	outside := host.Subtract([]host.Range{r}, list)
	return host.Subtract([]host.Range{r}, outside)
}

// Sizes and numbers of ELF, include/uapi/linux/elf.h.
const (
	ehdrSize = 64
	phdrSize = 56
	ptLoad   = 1
	ptNote   = 4
	etCore   = 4
	maxPhnum = 0xfffe
)

// coreHeader makes the ELF header that /proc/vmcore is made from
// (fs/proc/vmcore.c of 7.2): there, p_offset of notes and loads is a physical
// address.
func (p *Plan) coreHeader(a *arch) ([]byte, error) {
	n := len(p.Notes) + len(p.Memory)
	if n > maxPhnum {
		return nil, &RuleError{Rule: RuleCoverage, Detail: fmt.Sprintf("the dump has %d notes and pieces of memory; its header has room for %d", n, maxPhnum)}
	}
	le := binary.LittleEndian
	b := make([]byte, ehdrSize, ehdrSize+n*phdrSize)
	copy(b, "\x7fELF\x02\x01\x01") // 64 bits, little endian, version 1
	le.PutUint16(b[16:], etCore)
	le.PutUint16(b[18:], uint16(a.elfMachine))
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[32:], ehdrSize) // e_phoff
	le.PutUint16(b[52:], ehdrSize)
	le.PutUint16(b[54:], phdrSize)
	le.PutUint16(b[56:], uint16(n))
	add := func(kind, flags uint32, r host.Range, virt uint64) {
		var ph [phdrSize]byte
		le.PutUint32(ph[0:], kind)
		le.PutUint32(ph[4:], flags)
		le.PutUint64(ph[8:], r.Start)  // p_offset
		le.PutUint64(ph[16:], virt)    // p_vaddr
		le.PutUint64(ph[24:], r.Start) // p_paddr
		le.PutUint64(ph[32:], r.Size())
		le.PutUint64(ph[40:], r.Size())
		b = append(b, ph[:]...)
	}
	for _, n := range p.Notes {
		add(ptNote, 0, n.Range, 0)
	}
	for _, m := range p.Memory {
		add(ptLoad, 7, m.Range, m.Virt)
	}
	return b, nil
}

// cover verifies that what a reader needs first will be in the dump: without
// page tables and page structs it cannot be read, without notes it says
// nothing. A dump that lacks them is not worth a panic kernel.
func (p *Plan) cover(m *host.Machine) error {
	var have []host.Range
	for _, piece := range p.Memory {
		if piece.What == whatRAM {
			have = append(have, piece.Range)
		}
	}
	if len(have) == 0 {
		return &RuleError{Rule: RuleCoverage, Detail: "the dump would have no memory: /proc/iomem has no line \"System RAM\" outside of what is reserved"}
	}
	type need struct {
		what   string
		ranges []host.Range
		why    string // it is unknown
	}
	unknown := func(fact string) string {
		for _, u := range m.Unknown {
			if u.Fact == fact {
				return u.Reason
			}
		}
		return "/proc/kcore and /proc/kallsyms do not tell where"
	}
	needs := []need{{what: "vmcoreinfo", ranges: []host.Range{m.VMCoreInfo}}}
	var notes need
	notes.what = fmt.Sprintf("crash notes of %d CPUs", len(m.CrashNotes))
	for _, n := range m.CrashNotes {
		notes.ranges = append(notes.ranges, host.Range{Start: n.Addr, End: n.Addr + n.Size})
	}
	needs = append(needs, notes)
	image := need{what: "kernel image", why: "/proc/iomem does not tell where"}
	if r, ok := m.KernelImage(); ok {
		image.ranges = []host.Range{r}
	}
	pgd := need{what: "root page table (swapper_pg_dir)", why: unknown("kernel memory (/proc/kcore)")}
	if m.PageTable != 0 {
		pgd.ranges = []host.Range{{Start: m.PageTable, End: m.PageTable + pageSize}}
	}
	needs = append(needs, image, pgd, need{what: "page structs (vmemmap)", ranges: m.Vmemmap, why: unknown("memory of the page structs")})
	for _, n := range needs {
		if len(n.ranges) == 0 {
			p.unverified(n.what, "%s", n.why)
			continue
		}
		if missing := host.Subtract(n.ranges, have); len(missing) > 0 {
			return &RuleError{Rule: RuleCoverage,
				Detail: fmt.Sprintf("the dump would lack %v of the %s: it could not be read, so the panic kernel is not armed", missing[0], n.what),
				Remedy: []string{"record the machine for a bug report: panicroom load --record DIR --dry-run"}}
		}
		p.pass(n.what, "in the dump, %s", spell(n.ranges))
	}
	if len(m.CrashNotes) == 0 {
		return &RuleError{Rule: RuleCoverage, Detail: "no CPU says where it leaves its registers (/sys/devices/system/cpu/cpuN/crash_notes)"}
	}
	if n := len(m.Possible) - len(m.CrashNotes); n > 0 {
		p.warn("%d of %d possible CPUs have no crash notes; if one is plugged in, load again", n, len(m.Possible))
	}
	return nil
}

// spell lists ranges, the first of many.
func spell(list []host.Range) string {
	if len(list) > 3 {
		return fmt.Sprintf("%v, %v and %d more", list[0], list[1], len(list)-2)
	}
	s := fmt.Sprint(list)
	return s[1 : len(s)-1]
}
