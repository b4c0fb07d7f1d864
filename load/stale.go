package load

import (
	"fmt"
	"slices"

	"github.com/panicroom-kdump/panicroom/internal/host"
	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// Stale tells what has changed in the machine since the plan was made and
// makes it wrong; nothing if it is still right. Loading again puts it right.
//
// CPUs that come and go change nothing: every possible one has its notes from
// the start (kernel/crash_core.c, crash_notes), and all of them are in the plan.
// riscv64 has no crash hotplug (ARCH_SUPPORTS_CRASH_HOTPLUG, up to 7.2), so
// memory that came is not in the dump and memory that went is read in vain.
func (p *Plan) Stale(m *host.Machine) []string {
	if p.Purpose != ForCrash {
		return nil
	}
	var list []string
	say := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	if p.Release != m.Release {
		say("it was made for a running kernel %s, this is %s", p.Release, m.Release)
	}
	now := m.CrashRegions()
	before := slices.Clone(p.Regions)
	slices.Reverse(before)
	if !slices.Equal(now, before) {
		say("the reserved memory was %s and is %s", spellOrNone(before), spellOrNone(now))
	}
	var had, out []host.Range
	for _, piece := range p.Memory {
		if piece.What == whatRAM {
			had = append(had, piece.Range)
		}
	}
	for _, e := range p.Excluded {
		out = append(out, e.Range)
	}
	ram := m.SystemRAM()
	if come := host.Subtract(ram, append(slices.Clone(had), out...)); len(come) > 0 {
		say("%s of memory came and will not be in the dump: %s", ui.Bytes(sum(come)), spell(come))
	}
	if gone := host.Subtract(had, ram); len(gone) > 0 {
		say("%s of memory went and the dump would look for it: %s", ui.Bytes(sum(gone)), spell(gone))
	}
	for _, n := range m.CrashNotes {
		r := host.Range{Start: n.Addr, End: n.Addr + n.Size}
		if !slices.Contains(p.Notes, Note{n.CPU, r}) {
			say("CPU %d leaves its registers at %v, which the dump's header does not know", n.CPU, r)
		}
	}
	if len(p.Notes) > 0 && !slices.Contains(p.Notes, Note{-1, m.VMCoreInfo}) {
		say("vmcoreinfo is at %v, which the dump's header does not know", m.VMCoreInfo)
	}
	return list
}

func sum(list []host.Range) uint64 {
	var n uint64
	for _, r := range list {
		n += r.Size()
	}
	return n
}

func spellOrNone(list []host.Range) string {
	if len(list) == 0 {
		return "none"
	}
	return spell(list)
}
