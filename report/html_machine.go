package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/kernel/block"
	"github.com/panicroom-kdump/panicroom/kernel/mm"
)

// memory writes what memory was used for, as a chart and in numbers.
func (p *page) memory(r *Report) {
	if m := r.Memory; m != nil {
		p.memoryChart(m)
		p.memoryNumbers(m)
	}
	if len(r.Slabs) > 0 {
		p.open(false, "", fmt.Sprintf("Slab caches, the largest %d", len(r.Slabs)))
		p.table("table-slabs", "sort", column{"Cache", false}, column{"Memory", true}, column{"Objects", true}, column{"of", true}, column{"Slabs", true})
		for _, c := range r.Slabs {
			p.raw("<tr>").code(c.Name).number(c.Bytes, ui.Bytes(c.Bytes)).number(c.Objects, fmt.Sprint(c.Objects)).number(c.Object, ui.Bytes(c.Object)).number(c.Slabs, fmt.Sprint(c.Slabs)).raw("</tr>\n")
		}
		p.endTable()
		p.close()
	}
}

// chartWidth is the width of charts in units of their own; the page stretches them.
const chartWidth = 1000

// bar writes a part of a bar, from x on; it returns where the next one begins. What
// counters that contradict each other would draw outside of the chart is cut off.
func (p *page) bar(class, title string, x float64, share, of uint64) float64 {
	if of == 0 {
		return x
	}
	width := min(chartWidth*float64(share)/float64(of), chartWidth-x)
	p.raw("<rect class=\"", class, "\" ", fmt.Sprintf("x=\"%.1f\" width=\"%.1f\"", x, width), " height=\"24\"><title>").text(title).raw("</title></rect>")
	return x + width
}

const chart = "<svg viewBox=\"0 0 1000 24\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\""

// memoryChart draws what all of the memory, and each zone, was used for.
func (p *page) memoryChart(m *mm.Summary) {
	uses := memoryUses(m)
	all := m.Total
	var sum uint64
	for _, u := range uses {
		sum += u.bytes
	}
	all = max(all, sum)
	p.raw("<figure>\n<figcaption>").text(ui.Bytes(m.Total) + ", of which " + ui.Bytes(m.Available) + " were available").raw("</figcaption>\n")
	p.raw(chart, "what memory was used for\">")
	x := 0.0
	for _, u := range uses {
		x = p.bar("m-"+u.key, u.name+": "+ui.Bytes(u.bytes), x, u.bytes, all)
	}
	p.raw("</svg>\n<ul class=\"legend\">\n")
	for _, u := range uses {
		percent := ""
		if m.Total > 0 {
			percent = fmt.Sprintf("%.0f %%", 100*float64(u.bytes)/float64(m.Total))
		}
		p.raw("<li><svg viewBox=\"0 0 1 1\"><rect class=\"m-", u.key, "\" width=\"1\" height=\"1\"/></svg> ").text(u.name).raw(" <b>").text(ui.Bytes(u.bytes)).raw("</b> <small>").text(percent).raw("</small></li>\n")
	}
	p.raw("</ul>\n</figure>\n")

	zones := slices.DeleteFunc(slices.Clone(m.Zones), func(z mm.Zone) bool { return z.Managed == 0 })
	if len(zones) == 0 {
		return
	}
	var largest uint64
	for _, z := range zones {
		largest = max(largest, z.Managed)
	}
	p.raw("<figure>\n<figcaption>Zones: used and free; the line is what is kept for emergencies</figcaption>\n")
	for _, z := range zones {
		name := fmt.Sprintf("node %d, %s", z.Node, z.Name)
		free := min(z.Free, z.Managed)
		p.raw("<div class=\"zone\"><span>").text(name).raw("</span>", chart).text(name).raw("\">")
		x := p.bar("m-used", "used: "+ui.Bytes(z.Managed-free), 0, z.Managed-free, largest)
		end := p.bar("m-free", "free: "+ui.Bytes(free), x, free, largest)
		mark := max(0, end-chartWidth*float64(z.Min)/float64(largest))
		p.raw("<rect class=\"m-mark\" ", fmt.Sprintf("x=\"%.1f\"", mark), " width=\"2\" height=\"24\"/></svg><span>").text(ui.Bytes(free) + " of " + ui.Bytes(z.Managed) + " free").raw("</span></div>\n")
		if short := zoneShort(z); short != "" {
			p.element("p", "bad", short).raw("\n")
		}
	}
	p.raw("</figure>\n")
}

// memoryNumbers writes the counters.
func (p *page) memoryNumbers(m *mm.Summary) {
	p.open(false, "", "In numbers")
	p.raw("<dl class=\"numbers\">\n")
	for _, n := range []struct {
		name  string
		bytes uint64
	}{
		{"Total", m.Total}, {"Free", m.Free}, {"Available", m.Available}, {"Buffers", m.Buffers}, {"Cached", m.Cached},
		{"Anonymous", m.Anon}, {"Mapped", m.Mapped}, {"Shared memory", m.Shmem}, {"Dirty", m.Dirty}, {"Being written", m.Writeback},
		{"Slab, reclaimable", m.SlabReclaimable}, {"Slab, unreclaimable", m.SlabUnreclaimable}, {"Kernel stacks", m.KernelStacks},
		{"Page tables", m.PageTables}, {"Vmalloc", m.Vmalloc}, {"Per CPU", m.PerCPU}, {"Swap", m.SwapTotal}, {"Swap, free", m.SwapFree},
		{"Committed", m.Committed}, {"Commit limit", m.CommitLimit},
	} {
		p.raw("<div><dt>", n.name, "</dt><dd>").text(ui.Bytes(n.bytes)).raw("</dd></div>\n")
	}
	for _, h := range m.Huge {
		p.raw("<div><dt>").text("Pages of " + ui.Bytes(h.Size)).raw("</dt><dd>").text(fmt.Sprintf("%d, %d free", h.Total, h.Free)).raw("</dd></div>\n")
	}
	p.raw("</dl>\n")
	if len(m.Zones) > 0 {
		columns := []column{{"Node", true}, {"Zone", false}, {"Managed", true}, {"Free", true}, {"Min", true}, {"Low", true}, {"High", true}, {"Free blocks, from one page on, each twice the last", false}}
		p.table("table-zones", "", columns...)
		for _, z := range m.Zones {
			p.raw("<tr>").number(uint64(max(z.Node, 0)), fmt.Sprint(z.Node)).cell(z.Name)
			for _, n := range []uint64{z.Managed, z.Free, z.Min, z.Low, z.High} {
				p.number(n, ui.Bytes(n))
			}
			p.code(strings.Trim(fmt.Sprint(z.Orders), "[]")).raw("</tr>\n")
		}
		p.endTable()
	}
	p.close()
}

// disks writes the disks and the requests that they had not answered.
func (p *page) disks(r *Report) {
	p.table("table-disks", "sort", column{"Disk", false}, column{"Size", true}, column{"Requests under way", true}, column{"Queued", true})
	for _, d := range r.Disks {
		p.raw("<tr>").code(d.Name).number(d.Bytes, ui.Bytes(d.Bytes)).number(uint64(len(d.InFlight)), fmt.Sprint(len(d.InFlight))).number(uint64(len(d.Queued)), fmt.Sprint(len(d.Queued))).raw("</tr>\n")
	}
	p.endTable()
	if r.requests() == 0 {
		return
	}
	p.open(true, "", count(r.requests(), "request"))
	p.table("table-requests", "sort", column{"Disk", false}, column{"What", false}, column{"Size", true}, column{"Sector", true}, column{"For", true}, column{"Who has it", false})
	for _, d := range r.Disks {
		for _, q := range d.InFlight {
			p.request(d.Name, q, "the driver")
		}
		for _, q := range d.Queued {
			p.request(d.Name, q, "a queue")
		}
	}
	p.endTable()
	p.close()
}

func (p *page) request(disk string, q block.Request, who string) {
	age := "?"
	if q.Age > 0 {
		age = since(q.Age)
	}
	p.raw("<tr>").code(disk).cell(q.Op).number(q.Bytes, ui.Bytes(q.Bytes)).number(q.Sector, fmt.Sprint(q.Sector)).number(q.Age, age).cell(who).raw("</tr>\n")
}

// queues writes what each CPU had to do.
func (p *page) queues(r *Report) {
	waiting := 0
	for _, q := range r.RunQueues {
		waiting += len(q.Waiting)
	}
	p.open(waiting > 0, "", count(waiting, "task")+" waited for "+count(len(r.RunQueues), "CPU"))
	p.table("table-queues", "sort brief", column{"CPU", true}, column{"Ran", false}, column{"Could run", true}, column{"Waited, in this order", false})
	for _, q := range r.RunQueues {
		if len(q.Waiting) > 0 {
			p.raw("<tr class=\"key\">")
		} else {
			p.raw("<tr>")
		}
		p.number(uint64(max(q.CPU, 0)), fmt.Sprint(q.CPU)).cell(refText(q.Current)).number(q.Running, fmt.Sprint(q.Running))
		var names []string
		for _, w := range q.Waiting {
			s := refText(w)
			if w.Class != "" && w.Class != "fair" {
				s += " " + w.Class
			}
			names = append(names, s)
		}
		p.cell(some(names, 50)).raw("</tr>\n")
	}
	p.endTable()
	p.close()
}

// modules writes the modules, what taints marked.
func (p *page) modules(r *Report) {
	p.open(true, "", count(len(r.Modules), "module"))
	p.table("table-modules", "sort", column{"Module", false}, column{"Size", true}, column{"Code at", false}, column{"State", false}, column{"Taints", false})
	for _, m := range r.Modules {
		if m.Taints != "" {
			p.raw("<tr class=\"taints\">")
		} else {
			p.raw("<tr>")
		}
		p.code(m.Name).number(m.Size, ui.Bytes(m.Size))
		if m.Base != 0 {
			p.code(m.Base.String())
		} else {
			p.cell("")
		}
		var words []string
		for _, flag := range m.Taints {
			if what, ok := moduleTaints[flag]; ok {
				words = append(words, what)
			}
		}
		taints := m.Taints
		if len(words) > 0 {
			taints += ": " + strings.Join(words, ", ")
		}
		p.cell(m.State).cell(taints).raw("</tr>\n")
	}
	p.endTable()
	p.close()
}

func (p *page) mounts(r *Report) {
	real := 0
	for _, m := range r.Mounts {
		if onDevice(m) {
			real++
		}
	}
	for _, part := range []struct {
		title  string
		id     string
		device bool
		n      int
	}{{"On devices and other machines", "table-mounts", true, real}, {"Others", "table-mounts-other", false, len(r.Mounts) - real}} {
		if part.n == 0 {
			continue
		}
		p.open(part.device, "", fmt.Sprintf("%s (%d)", part.title, part.n))
		p.table(part.id, "sort", column{"Where", false}, column{"What", false}, column{"Type", false}, column{"Flags", false})
		for _, m := range r.Mounts {
			if onDevice(m) == part.device {
				p.raw("<tr>").code(m.Point).code(m.Device).cell(m.Type).cell(strings.Join(m.Flags, ", ")).raw("</tr>\n")
			}
		}
		p.endTable()
		p.close()
	}
}

func (p *page) net(r *Report) {
	p.table("table-net", "sort", column{"Interface", false}, column{"Address", false}, column{"MAC", false}, column{"MTU", true}, column{"Flags", false})
	for _, n := range r.Net {
		p.raw("<tr>").code(n.Name).code(strings.Join(n.Addresses, " ")).code(n.MAC).number(uint64(n.MTU), fmt.Sprint(n.MTU)).cell(strings.Join(n.Flags, ", ")).raw("</tr>\n")
	}
	p.endTable()
}
