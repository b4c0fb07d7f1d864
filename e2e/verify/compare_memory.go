package main

import (
	"fmt"
	"slices"

	"github.com/panicroom-kdump/panicroom/kernel/mm"
)

const (
	whyShared reason = "crash reads the counter that all CPUs share, to which each adds now and then; we add what each still keeps to itself"
	whyNoSwap reason = "crash does not find out about swap in this kernel: it leaves the sums of swap out, and what it adds to the commit limit for it is no number"
)

// sumsOfSwap are the lines that are not there then.
var sumsOfSwap = []string{"TOTAL SWAP", "SWAP USED", "SWAP FREE"}

// pageSize is that of all machines that crash can open here.
const pageSize = 4096

// compareMemory compares what memory was used for, in pages.
func compareMemory(o *ours, t *theirs) *comparison {
	c := &comparison{Question: askMemory, What: "sums"}
	m := o.memory
	var huge, hugeFree uint64
	for _, h := range m.Huge {
		huge += h.Size * h.Total
		hugeFree += h.Size * h.Free
	}
	mine := map[string]uint64{
		"TOTAL MEM": m.Total, "FREE": m.Free, "USED": m.Total - m.Free, "BUFFERS": m.Buffers, "CACHED": m.Cached,
		"SLAB": m.SlabReclaimable + m.SlabUnreclaimable, "TOTAL HUGE": huge, "HUGE FREE": hugeFree,
		"TOTAL SWAP": m.SwapTotal, "SWAP USED": m.SwapTotal - m.SwapFree, "SWAP FREE": m.SwapFree,
		"COMMIT LIMIT": m.CommitLimit, "COMMITTED": m.Committed,
	}
	// What crash has to show when it reads the shared counters.
	counted := map[string]uint64{
		"FREE": o.shared.freeAll(), "USED": m.Total/pageSize - o.shared.freeAll(), "SLAB": o.shared.slabs,
		"CACHED": o.shared.files - m.Buffers/pageSize, "COMMITTED": o.shared.committed,
	}
	noSwap := t.cannot[askMemory] != "" && !slices.ContainsFunc(t.memory, func(y theirMemory) bool { return slices.Contains(sumsOfSwap, y.name) })
	for _, y := range t.memory {
		x, ok := mine[y.name]
		if !ok {
			c.missing("", y.name, false)
			continue
		}
		delete(mine, y.name)
		c.Things++
		why := reason("")
		if n, ok := counted[y.name]; ok && n == y.pages {
			why = whyShared
		}
		// More than the addresses that the machine has.
		if y.name == "COMMIT LIMIT" && noSwap && y.pages > 1<<36 {
			why = whyNoSwap
		}
		c.allow(why, y.name+", pages", x/pageSize, y.pages)
	}
	for name := range mine {
		why := reason("")
		if noSwap && slices.Contains(sumsOfSwap, name) {
			why = whyNoSwap
		}
		c.missing(why, name, true)
	}
	return c
}

// compareZones compares the zones that have memory, in pages.
func compareZones(o *ours, t *theirs) *comparison {
	c := &comparison{Question: askZones, What: "zones"}
	var zones []mm.Zone
	free := map[string]uint64{}
	name := func(node uint64, zone string) string { return fmt.Sprintf("node %d, zone %s", node, zone) }
	for i, z := range o.memory.Zones {
		if z.Present > 0 {
			zones = append(zones, z)
			if i < len(o.shared.free) {
				free[name(uint64(z.Node), z.Name)] = o.shared.free[i]
			}
		}
	}
	pair(c, zones, t.zones,
		func(x mm.Zone) string { return name(uint64(x.Node), x.Name) }, func(y theirZone) string { return name(y.node, y.name) },
		func(x mm.Zone, y theirZone) {
			zone := name(y.node, y.name)
			why := reason("")
			if n, ok := free[zone]; ok && n == y.free {
				why = whyShared
			}
			c.allow(why, zone+": free", x.Free/pageSize, y.free)
			c.same(zone+": min", x.Min/pageSize, y.min)
			c.same(zone+": low", x.Low/pageSize, y.low)
			c.same(zone+": high", x.High/pageSize, y.high)
		},
		func(x mm.Zone) { c.missing("", name(uint64(x.Node), x.Name), true) },
		func(y theirZone) { c.missing("", name(y.node, y.name), false) })
	return c
}

// compareCaches compares the slab caches.
func compareCaches(o *ours, t *theirs) *comparison {
	c := &comparison{Question: askCaches, What: "caches"}
	if c.unanswered(t, len(t.caches)) {
		return c
	}
	pair(c, o.caches, t.caches,
		func(x mm.Cache) uint64 { return uint64(x.Addr) }, func(y theirCache) uint64 { return y.addr },
		func(x mm.Cache, y theirCache) {
			c.same(fmt.Sprintf("cache at %v: name", x.Addr), x.Name, y.name)
			c.same(x.Name+": size of an object", x.Object, y.object)
			if y.counted {
				c.same(x.Name+": objects", x.Objects, y.total)
				c.same(x.Name+": slabs", x.Slabs, y.slabs)
			}
		},
		func(x mm.Cache) { c.missing("", "cache "+x.Name, true) },
		func(y theirCache) { c.missing("", "cache "+y.name, false) })
	return c
}
