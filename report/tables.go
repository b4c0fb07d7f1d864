package report

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/block"
	"github.com/panicroom-kdump/panicroom/kernel/fs"
	"github.com/panicroom-kdump/panicroom/kernel/mm"
	"github.com/panicroom-kdump/panicroom/kernel/net"
	"github.com/panicroom-kdump/panicroom/kernel/sched"
	"github.com/panicroom-kdump/panicroom/kernel/stack"
)

// The tables here are those of the verbs that ask for one subject. They have all of
// it, where the report has what is worth a look.

// table begins a text of its own.
func table(w io.Writer, width int) *text {
	if width > 0 {
		width = max(width, minWidth)
	}
	return &text{w: bufio.NewWriter(w), width: width}
}

// WriteTasks writes a line for each task; those that were on a CPU are marked with
// ">". total is the memory of the machine, 0 if it is not known.
func WriteTasks(w io.Writer, width int, tasks []sched.Task, total uint64) error {
	t := table(w, width)
	t.row("%8s %7s %3s %-16s %s %5s %7s %7s %s", "PID", "PPID", "CPU", "TASK", "S", "%MEM", "VSZ", "RSS", "COMM")
	for i := range tasks {
		p := &tasks[i]
		pid := fmt.Sprint(p.PID)
		if p.OnCPU {
			pid = fmt.Sprintf(">%7d", p.PID)
		}
		comm := printable(p.Comm)
		if p.Kernel {
			comm = "[" + comm + "]"
		}
		share := "-"
		if total > 0 {
			share = fmt.Sprintf("%.1f", min(100*float64(p.RSS)/float64(total), 100))
		}
		t.row("%8s %7d %3s %016x %-1s %5s %7s %7s %s", pid, p.PPID, cpuNumber(p.CPU), uint64(p.Addr), printable(p.State), share, short(p.Size), short(p.RSS), comm)
	}
	return t.w.Flush()
}

// row writes a line that is cut off at the width.
func (t *text) row(format string, args ...any) {
	s := strings.TrimRight(fmt.Sprintf(format, args...), " ")
	if t.width > 0 && len(s) > t.width {
		s = s[:t.width]
	}
	t.line(s)
}

// short is a size in at most seven columns: "1.9G", "512K", "0".
func short(n uint64) string {
	number, unit, ok := strings.Cut(ui.Bytes(n), " ")
	if !ok || unit == "B" {
		return number
	}
	return number + unit[:1]
}

// WriteTaskHead writes who a stack is of.
func WriteTaskHead(w io.Writer, width int, p *sched.Task) error {
	t := table(w, width)
	s := fmt.Sprintf("PID %d  CPU %s  %s  %s  task %s", p.PID, cpuNumber(p.CPU), printable(p.State), printable(p.Comm), p.Addr)
	if !p.OnCPU && p.Idle > 0 {
		s += "  for " + since(p.Idle)
	}
	t.wrap("", "    ", s)
	return t.w.Flush()
}

// WriteStack writes all frames of a stack, with the registers that exceptions and
// interrupts left on it; with those of programs, which say what they asked for, only
// if user is set.
func WriteStack(w io.Writer, width int, s *stack.Stack, user bool) error {
	t := table(w, width)
	for i, f := range s.Frames {
		if f.Interrupted {
			t.wrap("    -- ", "       ", interruptText(f))
			if f.Regs != nil && (user || !f.Regs.User) {
				t.kernelRegisters(f.Regs.Registers)
			}
		}
		line := frameText(f)
		if note := frameNote(f); note != "" {
			line += "  (" + note + ")"
		}
		mark := " "
		if f.Doubt != "" {
			mark = "?"
		}
		t.wrap(fmt.Sprintf(" %3s %016x %s ", fmt.Sprintf("#%d", i), uint64(f.PC), mark), "                        ", line)
	}
	if s.Broken != "" {
		t.wrap("    -- ", "       ", "ends here: "+printable(s.Broken))
	}
	if len(s.Frames) == 0 && s.Broken == "" {
		t.line("    no frames")
	}
	return t.w.Flush()
}

func (t *text) kernelRegisters(regs []kernel.Register) {
	all := make([]Register, len(regs))
	for i, r := range regs {
		all[i] = Register{r.Name, fmt.Sprintf("%#x", r.Value)}
	}
	t.registers(all)
}

// WriteMemory writes what memory was used for, and its zones.
func WriteMemory(w io.Writer, width int, m *mm.Summary) error {
	t := table(w, width)
	t.row("%-20s %15s %10s  %s", "", "KiB", "", "OF ALL")
	row := func(name string, bytes uint64) {
		share := ""
		if m.Total > 0 {
			share = fmt.Sprintf("%5.1f %%", 100*float64(bytes)/float64(m.Total))
		}
		t.row("%-20s %15d %10s  %s", name, bytes>>10, ui.Bytes(bytes), share)
	}
	row("total", m.Total)
	row("free", m.Free)
	row("used", m.Total-min(m.Free, m.Total))
	row("available", m.Available)
	row("buffers", m.Buffers)
	row("page cache", m.Cached)
	row("anonymous", m.Anon)
	row("mapped", m.Mapped)
	row("shared memory", m.Shmem)
	row("dirty", m.Dirty)
	row("being written", m.Writeback)
	row("slab", m.SlabReclaimable+m.SlabUnreclaimable)
	row("  reclaimable", m.SlabReclaimable)
	row("kernel stacks", m.KernelStacks)
	row("page tables", m.PageTables)
	row("vmalloc", m.Vmalloc)
	row("per CPU", m.PerCPU)
	row("committed", m.Committed)
	row("commit limit", m.CommitLimit)
	if m.SwapTotal > 0 {
		row("swap", m.SwapTotal)
		row("  free", m.SwapFree)
	}
	for _, h := range m.Huge {
		t.row("%-20s %15d %10s  %d free, %d reserved, %d surplus", "huge pages", h.Total, ui.Bytes(h.Size), h.Free, h.Reserved, h.Surplus)
	}
	if len(m.Zones) > 0 {
		t.line("")
		t.row("%4s %-8s %9s %9s %9s %9s %9s %9s", "NODE", "ZONE", "PRESENT", "MANAGED", "FREE", "MIN", "LOW", "HIGH")
	}
	for _, z := range m.Zones {
		t.row("%4d %-8s %9s %9s %9s %9s %9s %9s", z.Node, printable(z.Name), ui.Bytes(z.Present), ui.Bytes(z.Managed), ui.Bytes(z.Free), ui.Bytes(z.Min), ui.Bytes(z.Low), ui.Bytes(z.High))
	}
	for _, z := range m.Zones {
		if z.Managed == 0 || !slices.ContainsFunc(z.Orders, func(n uint64) bool { return n > 0 }) {
			continue
		}
		var counts []string
		for _, n := range z.Orders {
			counts = append(counts, fmt.Sprint(n))
		}
		t.line("")
		t.wrap(fmt.Sprintf("free blocks of %s in node %d, from one page on: ", printable(z.Name), z.Node), "    ", strings.Join(counts, " "))
	}
	t.unknown(m.Missing)
	return t.w.Flush()
}

// unknown writes what is missing.
func (t *text) unknown(missing []string) {
	if len(missing) > 0 {
		t.line("")
	}
	for _, s := range missing {
		t.wrap("not known: ", "    ", printable(s))
	}
}

// WriteCaches writes slab caches, a line each.
func WriteCaches(w io.Writer, width int, caches []mm.Cache) error {
	t := table(w, width)
	t.row("%-16s %10s %8s %10s %8s  %s", "CACHE", "MEMORY", "OBJECT", "OBJECTS", "SLABS", "NAME")
	for _, c := range caches {
		t.row("%016x %10s %8d %10d %8d  %s", uint64(c.Addr), ui.Bytes(c.Bytes), c.Object, c.Objects, c.Slabs, printable(c.Name))
	}
	return t.w.Flush()
}

// WriteModules writes modules, a line each.
func WriteModules(w io.Writer, width int, modules []Module) error {
	t := table(w, width)
	t.row("%-16s %-16s %9s %-8s %-6s %s", "MODULE", "BASE", "SIZE", "STATE", "TAINTS", "NAME")
	for _, m := range modules {
		t.row("%016x %016x %9d %-8s %-6s %s", uint64(m.Addr), uint64(m.Base), m.Size, m.State, m.Taints, printable(m.Name))
	}
	return t.w.Flush()
}

// ModuleOf is what a report has of a module.
func ModuleOf(m *kernel.Module) Module {
	r := Module{Name: printable(m.Name), Addr: m.Addr, Size: m.Size, State: m.State}
	if len(m.Memory) > 0 {
		r.Base = m.Memory[0].Base
	}
	for _, t := range kernel.Taints(m.Taints) {
		r.Taints += string(t.Letter)
	}
	return r
}

// WriteMounts writes mounts, a line each; paths are not cut.
func WriteMounts(w io.Writer, _ int, mounts []fs.Mount) error {
	t := table(w, 0)
	t.row("%-16s %-10s %-20s %s", "MOUNT", "TYPE", "DEVICE", "DIRECTORY")
	for _, m := range mounts {
		s := printable(m.Point)
		if len(m.Flags) > 0 {
			s += " (" + printable(strings.Join(m.Flags, ",")) + ")"
		}
		t.row("%016x %-10s %-20s %s", uint64(m.Addr), printable(m.Type), printable(m.Device), s)
	}
	return t.w.Flush()
}

// WriteDisks writes disks, and what they had not answered below each.
func WriteDisks(w io.Writer, width int, disks []block.Disk) error {
	t := table(w, width)
	t.row("%-16s %-16s %10s %s", "DISK", "NAME", "SIZE", "UNDER WAY")
	for _, d := range disks {
		queued := ""
		if n := len(d.Queued); n > 0 {
			queued = fmt.Sprintf(", and %d not given to it yet", n)
		}
		t.row("%016x %-16s %10s %d%s", uint64(d.Addr), printable(d.Name), ui.Bytes(d.Bytes), len(d.InFlight), queued)
		for i, q := range slices.Concat(d.InFlight, d.Queued) {
			s := fmt.Sprintf("%016x %s", uint64(q.Addr), printable(q.Op))
			if q.Bytes > 0 {
				s += fmt.Sprintf(" of %s at sector %d", ui.Bytes(q.Bytes), q.Sector)
			}
			if q.Age > 0 {
				s += ", for " + since(q.Age)
			}
			if i >= len(d.InFlight) {
				s += ", not given to the disk yet"
			}
			t.wrap("    ", "        ", s)
		}
	}
	return t.w.Flush()
}

// WriteInterfaces writes network interfaces, a line each.
func WriteInterfaces(w io.Writer, width int, all []net.Interface) error {
	t := table(w, width)
	t.row("%-16s %5s %-15s %6s %s", "NET_DEVICE", "INDEX", "NAME", "MTU", "MAC, FLAGS, ADDRESSES")
	for _, n := range all {
		t.row("%016x %5d %-15s %6d %s", uint64(n.Addr), n.Index, printable(n.Name), n.MTU, printable(n.MAC))
		if len(n.Flags) > 0 {
			t.row("%22s %s", "", printable(strings.Join(n.Flags, ",")))
		}
		for _, a := range n.Addresses {
			t.row("%22s %s", "", printable(a))
		}
	}
	return t.w.Flush()
}

// WriteRunQueues writes what each CPU ran, and who waited for it.
func WriteRunQueues(w io.Writer, width int, queues []sched.RunQueue) error {
	t := table(w, width)
	for _, q := range queues {
		t.wrap(fmt.Sprintf("CPU %-3d ", q.CPU), "        ", fmt.Sprintf("%s, task %s; %s could run", refText(q.Current), q.Current.Addr, count(int(min(q.Running, 1<<30)), "task")))
		for _, r := range q.Waiting {
			s := refText(r) + ", task " + r.Addr.String()
			if r.Class != "" {
				s += ", " + printable(r.Class)
			}
			t.wrap("        ", "            ", s)
		}
	}
	return t.w.Flush()
}

// WriteSummary writes the beginning of the report: what happened, if it is a dead
// kernel that is told of, and on which machine.
func (r *Report) WriteSummary(w io.Writer, width int, died bool) error {
	t := table(w, width)
	if died {
		r.writeHead(t)
	} else {
		r.writeMachine(t)
	}
	return t.w.Flush()
}
