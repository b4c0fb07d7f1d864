package reserve

import (
	"fmt"

	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// Addend is one part of what is needed.
type Addend struct {
	Name   string `json:"name"`
	Bytes  uint64 `json:"bytes"`
	Reason string `json:"reason"`
}

// What the kernel and panicroom take whatever the machine is, measured on riscv64
// with Debian's 6.12.117 and 7.2.13; docs/reserve.md has the lists of where it goes.
const (
	// kernelWork is slab (8.5 MiB), tables of the start (4), stacks, page tables and
	// what drivers take (5), less the part of the image that is given back when it has
	// started (3): 14.5 with 7.2, less with 6.12.
	kernelWork = 29 * mib / 2
	// keptFree is what the kernel keeps free for itself while it has something to
	// reclaim: its lowest watermark, with the 2 MiB by which 7.2 raises it.
	keptFree = 3 * mib
	// listShare is the part of its memory that may lie on the lists of CPUs when it
	// has nothing to reclaim; it is not looked for there.
	listShare = 8
	// acpiWork is what ACPI's interpreter takes of it: 79 MiB were too little where
	// 85 left 11.
	acpiWork = 20 * mib
	// cpuWork is a CPU more: its areas and threads in the kernel, and a thread of
	// panicroom with its buffers (capture: two extents of 1 MiB and an encoder).
	cpuWork = 1*mib + 5*mib
	// bounce is the kernel's swiotlb, where memory lies above what devices reach.
	bounce = 64 * mib

	// supervisorWork is PID 1 and the worker while modules are loaded, anonymous
	// memory only: their code is in the initramfs.
	supervisorWork = 5 * mib / 2
	// saveWork is PID 1 (1.4 MiB), and the worker that saves (7.5 at most with one CPU), or
	// the process that reports (5.0; a test holds it to 8): before that the worker
	// gives back what it can.
	saveWork = 10 * mib

	// Slack is for what other drivers take more than those that were measured.
	minSlack   = 8 * mib
	slackShare = 16 // at least one part in so many

	// step is what a recommendation is rounded up to.
	step = 8 * mib
)

const (
	// cacheWork is the page cache that what is written needs to get on with.
	cacheWork = 4 * mib
	// networkWork is receive rings, sockets, and what the worker keeps of what is under
	// way.
	networkWork = 2 * mib
	// rpcWork is the slab of sunrpc and nfs: calls under way, pages of them.
	rpcWork = 2 * mib
)

// buffers are what a target needs to get on with; a partition is written through the
// page cache like a filesystem.
func buffers(k Kind) uint64 {
	switch k {
	case SSH:
		return networkWork
	case NFS:
		return cacheWork + networkWork + rpcWork
	}
	return cacheWork
}

// Recommendation is how much memory to reserve, and why.
type Recommendation struct {
	Facts   Facts    `json:"facts"`
	Addends []Addend `json:"addends"` // of Needed
	// Phases are what the panic kernel does one after the other; the largest is the
	// addend called its peak.
	Phases []Addend `json:"phases"`
	Needed uint64   `json:"needed"` // with less it fails
	Slack  Addend   `json:"slack"`
	Size   uint64   `json:"size"` // recommended: needed and slack, rounded up
	// Parameter is what to put on the kernel's command line.
	Parameter string `json:"parameter"`
}

// Enough tells whether so much reserved memory is.
func (r *Recommendation) Enough(reserved uint64) bool { return reserved >= r.Needed }

// EnoughAsked tells whether a value of crashkernel= reserves enough on the machine of
// the facts, whoever has set it.
func (r *Recommendation) EnoughAsked(value string) bool {
	n, err := Size(value, r.Facts.RAM)
	return err == nil && r.Enough(n)
}

// Recommend adds up what a panic kernel needs.
func Recommend(facts Facts) *Recommendation {
	f := facts.known()
	r := &Recommendation{Facts: facts}
	add := func(name string, n uint64, format string, args ...any) {
		r.Addends = append(r.Addends, Addend{name, n, fmt.Sprintf(format, args...)})
		r.Needed += n
	}
	add("kernel image", f.Image, "code and data of %s", or(f.Kernel, "the panic kernel"))
	stays := f.Unpacked
	for _, m := range f.Modules {
		stays -= min(stays, m.Shipped)
	}
	add("initramfs", stays, "unpacked, it stays in memory, but for its modules")
	r.work(f, add)
	// Page structs are for the reserved memory itself: whole sections, of which it
	// can touch one more than it fills.
	structs := func(size uint64) uint64 {
		sections := (size+f.SectionBytes-1)/f.SectionBytes + 1
		return sections * (f.SectionBytes / f.PageBytes * f.PageStruct)
	}
	n := structs(r.Needed)
	n = structs(r.Needed + n)
	add("page structs", n, "%d bytes for each page of the %s sections that it touches", f.PageStruct, ui.Bytes(f.SectionBytes))

	r.Slack = Addend{Name: "slack", Reason: "for drivers that were not measured"}
	r.Size, r.Slack.Bytes = Round(r.Needed)
	r.Parameter = Parameter(r.Size)
	return r
}

// Working is what is needed beside the image and the initramfs, as it is loaded and
// unpacked: whoever loads them knows better where they lie. When the initramfs is
// unpacked its archive is given back, so that its room counts.
func Working(facts Facts) uint64 {
	f := facts.known()
	n := Recommend(facts).Needed
	return n - min(n, f.Image+f.Unpacked+f.Packed)
}

// Round is the size to recommend for a need, and the slack that is in it.
func Round(needed uint64) (size, slack uint64) {
	slack = max(minSlack, needed/slackShare)
	return roundUp(needed+slack, step), slack
}

// Parameter is how a size is asked for on the kernel's command line.
func Parameter(size uint64) string { return fmt.Sprintf("crashkernel=%dM", roundUp(size, mib)/mib) }

// work adds what the kernel and panicroom take to work.
func (r *Recommendation) work(f Facts, add func(string, uint64, string, ...any)) {
	add("section table", 8*f.SectionRoots, "%d pointers to sections of memory, as many as addresses allow", f.SectionRoots)
	add("kernel at work", kernelWork, "slab, stacks, tables, drivers; measured")
	if f.ACPI {
		add("ACPI", acpiWork, "tables of the firmware, interpreted; measured")
	}
	if f.CPUs > 1 {
		add("more CPUs", uint64(f.CPUs-1)*cpuWork, "%d more, each with a thread that compresses", f.CPUs-1)
	}
	if f.BounceBuffers {
		add("bounce buffers", bounce, "the main region is beyond what devices can reach")
	}
	var stay uint64
	for _, m := range f.Modules {
		stay += m.Memory
	}
	if len(f.Modules) > 0 {
		add("modules", stay, "%d of them with their symbols and types", len(f.Modules))
	}
	// What the kernel hands out, but for the peak: the rest is taken before it counts.
	early := f.Image + 8*f.SectionRoots
	if f.BounceBuffers {
		early += bounce
	}
	r.Phases = phases(f, r.Needed-early)
	peak := r.Phases[0]
	for _, p := range r.Phases[1:] {
		if p.Bytes > peak.Bytes {
			peak = p
		}
	}
	add("peak: "+peak.Name, peak.Bytes, "%s", peak.Reason)
}

// phases are what happens one after the other, and needs memory that is given back.
// The initramfs counts without the files of modules, and all modules as loaded, so a
// phase has the files that are still there, less what is not loaded yet. base is what
// the kernel hands out beside them.
func phases(f Facts, base uint64) []Addend {
	var files, later uint64
	for _, m := range f.Modules {
		files += m.Shipped
		later += m.Memory
	}
	less := func(n, by uint64) uint64 { return n - min(n, by) }
	list := []Addend{{"unpacking", less(f.Packed+files, later) + keptFree, "the initramfs as it was loaded, until it is unpacked"}}
	var worst Addend
	for _, m := range f.Modules {
		later -= m.Memory
		n := less(files+m.File+m.Start+supervisorWork, later)
		lists := (base + n) / (listShare - 1)
		if n += lists; n > worst.Bytes {
			worst = Addend{"loading " + m.Name, n, fmt.Sprintf("files of modules (%s), this one's unpacked (%s), to start it (%s), pages on lists of CPUs (%s), and panicroom",
				ui.Bytes(files), ui.Bytes(m.File), ui.Bytes(m.Start), ui.Bytes(lists))}
		}
		files -= m.Shipped
	}
	if len(f.Modules) > 0 {
		list = append(list, worst)
	}
	save := uint64(saveWork)
	why := "PID 1, the one that saves or the report, buffers of the target, and what must stay free"
	if f.Limit > save {
		save, why = f.Limit, "what --mem-limit lets it take, buffers of the target, and what must stay free"
	}
	var most uint64
	for _, k := range f.Targets {
		most = max(most, buffers(k))
	}
	if len(f.Targets) == 0 {
		most = buffers("")
	}
	return append(list, Addend{"saving", save + most + keptFree, why})
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
