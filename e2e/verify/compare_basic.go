package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/panicroom-kdump/panicroom/kernel"
)

const (
	whyNoName  reason = "a machine without a name is \"(none)\" to the kernel and to crash; the report leaves it out"
	whyTick    reason = "crash reads the time of the last tick, as the kernel keeps it; we read vmcoreinfo's CRASHTIME, which the dying kernel wrote before its last tick"
	whyNoClock reason = "crash does not find the clock of kernels from 6.17 on, timekeeper_data, and says that it is 1970"
	whyTicks   reason = "crash counts ticks (jiffies), of which some come late or not at all; ours is the clock"
)

// epoch is what crash says when it knows no date.
const epoch = "Thu Jan  1 00:00:00 UTC 1970"

// ticksPerSecond is HZ of Debian's riscv64 kernels.
const ticksPerSecond = 250

// maxTicks is how far apart the two clocks may be: the kernel that panics waits a second
// for its other CPUs, with ticks.
const maxTicks = 2 * time.Second

// compareSys compares what kernel died, on what machine, when.
func compareSys(o *ours, t *theirs) *comparison {
	c := &comparison{Question: askSys, What: "answers"}
	r := o.report
	for _, x := range []struct {
		name string
		ours string
	}{
		{"RELEASE", r.Kernel.Release},
		{"VERSION", r.Kernel.Version},
		{"CPUS", strconv.Itoa(r.Machine.CPUs)},
	} {
		c.Things++
		c.same(x.name, x.ours, t.sys[x.name])
	}
	c.Things++
	machine, _, _ := strings.Cut(t.sys["MACHINE"], " ")
	c.same("MACHINE", r.Kernel.Arch, machine)
	c.Things++
	if name := t.sys["NODENAME"]; name == "(none)" {
		c.allow(whyNoName, "NODENAME", r.Machine.Hostname, name)
	} else {
		c.same("NODENAME", r.Machine.Hostname, name)
	}
	c.Things++
	c.date(r.Crash.Time, t.sys["DATE"])
	c.Things++
	c.panicText(r.Crash.Reason, t.sys["PANIC"])
	c.Things++
	why := reason("")
	if t.sys["UPTIME"] == clock(o.ticks/ticksPerSecond) {
		why = whyTicks
	}
	c.allow(why, "UPTIME", clock(o.load.Uptime/1e9), t.sys["UPTIME"])
	c.Things++
	l := o.load.Averages
	c.same("LOAD AVERAGE", fmt.Sprintf("%.2f, %.2f, %.2f", l[0], l[1], l[2]), t.sys["LOAD AVERAGE"])
	c.Things++
	c.same("TASKS", strconv.Itoa(o.load.Tasks), t.sys["TASKS"])
	c.Things++
	var present uint64
	for _, z := range o.memory.Zones {
		present += z.Present
	}
	c.same("MEMORY", rounded(present), t.sys["MEMORY"])
	return c
}

// clock is a time as crash prints it.
func clock(seconds uint64) string {
	days := ""
	if n := seconds / 86400; n > 0 {
		days = fmt.Sprintf("%d days, ", n)
	}
	return fmt.Sprintf("%s%02d:%02d:%02d", days, seconds/3600%24, seconds/60%60, seconds%60)
}

// rounded is a size as crash prints it.
func rounded(bytes uint64) string {
	size, unit := float64(bytes)/(1<<20), "MB"
	if bytes >= 1<<30 {
		size, unit = float64(bytes)/(1<<30), "GB"
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", size), ".0") + " " + unit
}

// date compares the wall clock at the crash; crash runs with UTC for its time zone.
func (c *comparison) date(ours *time.Time, theirs string) {
	at, err := time.Parse(time.UnixDate, theirs)
	if ours == nil || err != nil {
		c.same("DATE", fmt.Sprint(ours), theirs)
		return
	}
	why := reason("")
	if theirs == epoch {
		why = whyNoClock
	} else if late := at.Sub(*ours); 0 <= late && late <= maxTicks {
		why = whyTick
	}
	c.allow(why, "DATE", ours.UTC().Format(time.UnixDate), theirs)
}

// panicText compares the words of panic().
func (c *comparison) panicText(ours, theirs string) {
	const before = "Kernel panic - not syncing: "
	text := strings.Trim(theirs, `"`)
	if words, ok := strings.CutPrefix(text, before); ok && words == ours && ours != "" {
		c.Facts++
		return
	}
	c.same("PANIC", ours, text)
}

// compareLog compares each record: its time to the microsecond, and its text.
func compareLog(o *ours, t *theirs) *comparison {
	c := &comparison{Question: askLog, What: "records"}
	c.same("number of records", len(o.log), len(t.log))
	for i := range min(len(o.log), len(t.log)) {
		c.Things++
		c.same(fmt.Sprintf("record %d", i), crashLine(o.log[i]), unpadded(t.log[i]))
	}
	return c
}

// crashLine is a record as crash prints it: what is no character of ASCII is a dot.
func crashLine(r kernel.LogRecord) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[%5d.%06d] ", r.Time/time.Second, r.Time%time.Second/time.Microsecond)
	for _, x := range []byte(r.Text) {
		if x < unicode.MaxASCII && (unicode.IsPrint(rune(x)) || unicode.IsSpace(rune(x))) {
			b.WriteByte(x)
		} else {
			b.WriteByte('.')
		}
	}
	return unpadded(b.String())
}

// unpadded is a record without the spaces before its further lines and at the ends.
func unpadded(s string) string {
	all := strings.Split(s, "\n")
	for i, line := range all {
		if i > 0 {
			line = strings.TrimLeft(line, " ")
		}
		all[i] = strings.TrimRight(line, " \t\r")
	}
	return strings.TrimRight(strings.Join(all, "\n"), "\n")
}

// compareModules compares name, address, size and where the code begins.
func compareModules(o *ours, t *theirs) *comparison {
	c := &comparison{Question: askModules, What: "modules"}
	if c.unanswered(t, len(t.modules)) {
		return c
	}
	c.same("number of modules", len(o.modules), len(t.modules))
	pair(c, o.modules, t.modules,
		func(m kernel.Module) string { return m.Name }, func(m theirModule) string { return m.name },
		func(m kernel.Module, x theirModule) {
			c.same(m.Name+": struct module", addr(m.Addr), addr(x.addr))
			c.same(m.Name+": size", m.Size, x.size)
			base := kernel.VirtAddr(0)
			if len(m.Memory) > 0 {
				base = m.Memory[0].Base
			}
			c.same(m.Name+": code", addr(base), addr(x.base))
		},
		func(m kernel.Module) { c.missing("", "module "+m.Name, true) },
		func(x theirModule) { c.missing("", "module "+x.name, false) })
	return c
}
