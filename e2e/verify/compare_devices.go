package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/panicroom-kdump/panicroom/kernel/block"
	"github.com/panicroom-kdump/panicroom/kernel/fs"
	"github.com/panicroom-kdump/panicroom/kernel/net"
)

const whySkipped reason = "crash lists no loop devices and no RAM disks"

// skipped tells whether crash leaves a disk out.
func skipped(name string) bool {
	return strings.HasPrefix(name, "loop") || strings.HasPrefix(name, "ram")
}

// compareMounts compares what was mounted where.
func compareMounts(o *ours, t *theirs) *comparison {
	c := &comparison{Question: askMounts, What: "mounts"}
	pair(c, o.mounts, t.mounts,
		func(x fs.Mount) uint64 { return uint64(x.Addr) }, func(y theirMount) uint64 { return y.addr },
		func(x fs.Mount, y theirMount) {
			c.same(x.Point+": where", x.Point, y.point)
			c.same(x.Point+": device", x.Device, y.device)
			c.same(x.Point+": type", x.Type, y.kind)
		},
		func(x fs.Mount) { c.missing("", "mount at "+x.Point, true) },
		func(y theirMount) { c.missing("", "mount at "+y.point, false) })
	return c
}

// compareNet compares network interfaces and their addresses.
func compareNet(o *ours, t *theirs) *comparison {
	c := &comparison{Question: askNet, What: "interfaces"}
	pair(c, o.net, t.net,
		func(x net.Interface) uint64 { return uint64(x.Addr) }, func(y theirInterface) uint64 { return y.addr },
		func(x net.Interface, y theirInterface) {
			c.same(x.Name+": name", x.Name, y.name)
			var mine []string
			for _, a := range x.Addresses {
				a, _, _ = strings.Cut(a, "/") // crash does not tell how long the prefix is
				mine = append(mine, a)
			}
			slices.Sort(mine)
			slices.Sort(y.addresses)
			c.same(x.Name+": addresses", fmt.Sprint(mine), fmt.Sprint(y.addresses))
		},
		func(x net.Interface) { c.missing("", "interface "+x.Name, true) },
		func(y theirInterface) { c.missing("", "interface "+y.name, false) })
	return c
}

// compareDisks compares disks and the number of requests under way.
func compareDisks(o *ours, t *theirs) *comparison {
	c := &comparison{Question: askDisks, What: "disks"}
	pair(c, o.disks, t.disks,
		func(x block.Disk) uint64 { return uint64(x.Addr) }, func(y theirDisk) uint64 { return y.addr },
		func(x block.Disk, y theirDisk) {
			c.same(x.Name+": name", x.Name, y.name)
			c.same(x.Name+": requests under way", uint64(len(x.InFlight)), y.total)
		},
		func(x block.Disk) {
			why := reason("")
			if skipped(x.Name) {
				why = whySkipped
			}
			c.missing(why, "disk "+x.Name, true)
		},
		func(y theirDisk) { c.missing("", "disk "+y.name, false) })
	return c
}
