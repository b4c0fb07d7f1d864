package report

import (
	"fmt"
	"strings"

	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/kernel/fs"
	"github.com/panicroom-kdump/panicroom/kernel/mm"
)

// What the text has of the machine's state.
const (
	textSlabs    = 10
	textTasks    = 15
	textRequests = 10 // of a disk
	textDisks    = 8
	textQueues   = 8
	textMounts   = 10
	textNets     = 8
)

// writeMemory writes what memory was used for, and who had most of it.
func (r *Report) writeMemory(t *text) {
	if m := r.Memory; m != nil {
		t.heading("Memory")
		s := ui.Bytes(m.Total)
		if m.Total > 0 {
			s += fmt.Sprintf(", available %s (%d %%)", ui.Bytes(m.Available), min(m.Available, m.Total)*100/m.Total)
		}
		t.fact("all", s)
		var parts []string
		for _, u := range memoryUses(m) {
			parts = append(parts, u.name+" "+ui.Bytes(u.bytes))
		}
		t.fact("used for", strings.Join(parts, ", "))
		if m.Dirty+m.Writeback > 0 {
			t.fact("unwritten", fmt.Sprintf("%s dirty, %s being written", ui.Bytes(m.Dirty), ui.Bytes(m.Writeback)))
		}
		if m.SwapTotal > 0 {
			t.fact("swap", fmt.Sprintf("%s of %s used", ui.Bytes(m.SwapTotal-min(m.SwapFree, m.SwapTotal)), ui.Bytes(m.SwapTotal)))
		}
		for _, h := range m.Huge {
			if h.Total > 0 {
				t.fact("huge", fmt.Sprintf("%d pages of %s, %d free", h.Total, ui.Bytes(h.Size), h.Free))
			}
		}
		for _, z := range m.Zones {
			if short := zoneShort(z); short != "" {
				t.fact("zone", short)
			}
		}
	}
	if n := min(len(r.Slabs), textSlabs); n > 0 {
		t.heading("Largest slab caches")
		for _, c := range r.Slabs[:n] {
			t.wrap(fmt.Sprintf("  %10s  ", ui.Bytes(c.Bytes)), "              ", fmt.Sprintf("%s (room for %d of %s)", printable(c.Name), c.Objects, ui.Bytes(c.Object)))
		}
	}
	if top := r.topTasks(textTasks); len(top) > 0 {
		t.heading("Processes with most memory")
		for _, p := range top {
			t.wrap(fmt.Sprintf("  %10s  ", ui.Bytes(p.RSS)), "              ", fmt.Sprintf("%s (%d)", printable(p.Comm), p.TGID))
		}
	}
}

// zoneShort tells of a zone that has less memory than the kernel wants to keep.
func zoneShort(z mm.Zone) string {
	below := ""
	switch {
	case z.Managed == 0:
	case z.Free < z.Min:
		below = fmt.Sprintf("below the %s kept for emergencies", ui.Bytes(z.Min))
	case z.Free < z.Low:
		below = fmt.Sprintf("below the %s at which memory is reclaimed", ui.Bytes(z.Low))
	}
	if below == "" {
		return ""
	}
	return fmt.Sprintf("%s of node %d: %s free, %s", printable(z.Name), z.Node, ui.Bytes(z.Free), below)
}

// writeIO writes which requests the disks had not answered, and how many waited
// for that they do.
func (r *Report) writeIO(t *text) {
	disks := 0
	for i := range r.Disks {
		if len(r.Disks[i].InFlight)+len(r.Disks[i].Queued) > 0 {
			disks++
		}
	}
	if disks == 0 {
		return
	}
	t.heading(fmt.Sprintf("I/O under way (%s)", count(r.requests(), "request")))
	shown := 0
	for i := range r.Disks {
		d := &r.Disks[i]
		if len(d.InFlight)+len(d.Queued) == 0 {
			continue
		}
		if shown++; shown > textDisks {
			t.line(fmt.Sprintf("  and on %s more", count(disks-textDisks, "disk")))
			break
		}
		for j, q := range d.InFlight {
			if j == textRequests {
				t.line(fmt.Sprintf("  %s: and %d more", printable(d.Name), len(d.InFlight)-j))
				break
			}
			s := fmt.Sprintf("%s: %s", printable(d.Name), printable(q.Op))
			if q.Bytes > 0 {
				s += fmt.Sprintf(" of %s at sector %d", ui.Bytes(q.Bytes), q.Sector)
			}
			if q.Age > 0 {
				s += ", for " + since(q.Age)
			}
			t.wrap("  ", "    ", s)
		}
		if n := len(d.Queued); n > 0 {
			s := fmt.Sprintf("%s: %s not given to it yet", printable(d.Name), count(n, "request"))
			if age := d.Queued[0].Age; age > 0 {
				s += ", for " + since(age) + " at most"
			}
			t.wrap("  ", "    ", s)
		}
	}
}

// writeRunQueues writes on which CPUs tasks waited for their turn.
func (r *Report) writeRunQueues(t *text) {
	waiting, queues := 0, 0
	for _, q := range r.RunQueues {
		if len(q.Waiting) > 0 {
			waiting += len(q.Waiting)
			queues++
		}
	}
	if waiting == 0 {
		return
	}
	t.heading(fmt.Sprintf("Waiting for a CPU (%s)", count(waiting, "task")))
	shown := 0
	for _, q := range r.RunQueues {
		if len(q.Waiting) == 0 {
			continue
		}
		if shown++; shown > textQueues {
			t.line(fmt.Sprintf("  and for %s more", count(queues-textQueues, "CPU")))
			break
		}
		t.wrap("  ", "    ", fmt.Sprintf("CPU %d, behind %s: %s", q.CPU, refText(q.Current), some(refNames(q.Waiting), 6)))
	}
}

// onDevice tells whether a filesystem keeps its data outside of memory.
func onDevice(m fs.Mount) bool { return strings.ContainsAny(m.Device, "/:") }

// writeMounts writes the filesystems that lie on a device or on another machine.
func (r *Report) writeMounts(t *text) {
	var lines []string
	for _, m := range r.Mounts {
		if onDevice(m) {
			s := fmt.Sprintf("%s on %s, %s", printable(m.Device), printable(m.Point), printable(m.Type))
			if len(m.Flags) > 0 {
				s += " (" + printable(strings.Join(m.Flags, ",")) + ")"
			}
			lines = append(lines, s)
		}
	}
	t.list("Mounts", lines, textMounts)
}

// writeNet writes the network interfaces that were up.
func (r *Report) writeNet(t *text) {
	var lines []string
	for _, n := range r.Net {
		up, loopback := false, false
		for _, f := range n.Flags {
			up = up || f == "up"
			loopback = loopback || f == "loopback"
		}
		if !up || loopback {
			continue
		}
		s := printable(n.Name)
		if n.MAC != "" {
			s += ", " + printable(n.MAC)
		}
		if len(n.Addresses) > 0 {
			s += ": " + printable(strings.Join(n.Addresses, ", "))
		}
		lines = append(lines, s)
	}
	t.list("Network", lines, textNets)
}

// list writes the first lines of a list.
func (t *text) list(title string, lines []string, most int) {
	if len(lines) == 0 {
		return
	}
	t.heading(title)
	for i, s := range lines {
		if i == most {
			t.line(fmt.Sprintf("  and %d more", len(lines)-i))
			return
		}
		t.wrap("  ", "    ", s)
	}
}

func (r *Report) writeModules(t *text) {
	if len(r.Modules) == 0 {
		return
	}
	t.heading(fmt.Sprintf("Modules (%d)", len(r.Modules)))
	names := make([]string, 0, len(r.Modules))
	for _, m := range r.Modules {
		name := printable(m.Name)
		if m.Taints != "" {
			name += "(" + printable(m.Taints) + ")"
		}
		if m.State != "" && m.State != "live" {
			name += " (" + m.State + ")"
		}
		names = append(names, name)
	}
	t.wrap("  ", "  ", strings.Join(names, " "))
}
