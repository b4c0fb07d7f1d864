package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// The goals, as ratios of ours to theirs.
const (
	goalWall  = 1.0 / 3 // two CPUs, level 31
	goalOne   = 1.0     // one CPU; of zlib none was set
	goalRSS   = 0.5
	goalBytes = 1.0
)

// ratio is a ratio and, where it has a goal, whether that is missed.
func ratio(ours, theirs, goal float64) string {
	return ratioOf(ours, theirs, goal, 2)
}

// sizeRatio is one of sizes of files, which do not differ from run to run.
func sizeRatio(ours, theirs int64) string {
	return ratioOf(float64(ours), float64(theirs), goalBytes, 3)
}

func ratioOf(ours, theirs, goal float64, digits int) string {
	if theirs == 0 {
		return "-"
	}
	text := strconv.FormatFloat(ours/theirs, 'f', digits, 64)
	if goal > 0 && ours/theirs > goal {
		return "**" + text + "**"
	}
	return text
}

func seconds(s samples) string {
	if len(s) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f (%.2f)", s.median(wall), s.min(wall))
}

// table has the results of one core and level: a column for each compression.
func table(results []*result) string {
	var b strings.Builder
	first := results[0]
	fmt.Fprintf(&b, "### %s, level %d\n\n", first.Core, first.Level)
	row := func(name string, cell func(*result) string) {
		cells := []string{name}
		for _, r := range results {
			cells = append(cells, cell(r))
		}
		b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
	}
	row("", func(r *result) string { return r.Compression })
	b.WriteString("|---" + strings.Repeat("|--:", len(results)) + "|\n")
	row("two CPUs: makedumpfile, s", func(r *result) string {
		s, how := r.fastest()
		if how != "" {
			return seconds(s) + " " + how
		}
		return seconds(s)
	})
	row("two CPUs: panicroom, s", func(r *result) string { return seconds(r.Ours2) })
	wallGoal := goalWall
	if first.Level != 31 {
		wallGoal = 0
	}
	row("ratio", func(r *result) string {
		s, _ := r.fastest()
		return ratio(r.Ours2.median(wall), s.median(wall), wallGoal)
	})
	row("CPU time: ratio", func(r *result) string {
		s, _ := r.fastest()
		return ratio(r.Ours2.median(cpu), s.median(cpu), 0)
	})
	row("one CPU: makedumpfile, s", func(r *result) string { return seconds(r.Theirs) })
	row("one CPU: panicroom, s", func(r *result) string { return seconds(r.Ours1) })
	row("ratio", func(r *result) string {
		goal := goalOne
		if r.Compression == "zlib" {
			goal = 0
		}
		return ratio(r.Ours1.median(wall), r.Theirs.median(wall), goal)
	})
	row("CPU time: ratio", func(r *result) string {
		return ratio(r.Ours1.median(cpu), r.Theirs.median(cpu), 0)
	})
	row("peak RSS: makedumpfile", func(r *result) string {
		s, _ := r.fastest()
		return ui.Bytes(uint64(s.median(rss)))
	})
	row("peak RSS: panicroom", func(r *result) string { return ui.Bytes(uint64(r.Ours2.median(rss))) })
	row("ratio", func(r *result) string {
		s, _ := r.fastest()
		return ratio(r.Ours2.median(rss), s.median(rss), goalRSS)
	})
	row("output: makedumpfile", func(r *result) string { return ui.Bytes(uint64(r.Out.Theirs)) })
	row("output: panicroom", func(r *result) string { return ui.Bytes(uint64(r.Out.Ours)) })
	row("ratio", func(r *result) string {
		if !r.Out.same() {
			return "other pages"
		}
		return sizeRatio(r.Out.Ours, r.Out.Theirs)
	})
	b.WriteString("\n")
	o := first.Out
	if o.same() {
		fmt.Fprintf(&b, "Both save the same %d pages.\n\n", o.OurPages)
	} else {
		fmt.Fprintf(&b, "panicroom saves %d pages, makedumpfile %d: %d are only in the one's dump\nand %d only in the other's.\n\n",
			o.OurPages, o.TheirPages, o.OnlyOurs, o.OnlyTheirs)
	}
	return b.String()
}

// tables are those of all results, in their order.
func tables(results []*result) string {
	var b strings.Builder
	for len(results) > 0 {
		first := results[0]
		n := slices.IndexFunc(results, func(r *result) bool { return r.Core != first.Core || r.Level != first.Level })
		if n < 0 {
			n = len(results)
		}
		b.WriteString(table(results[:n]))
		results = results[n:]
	}
	return b.String()
}

// memoryTable is the curve of memory against RAM.
func memoryTable(all []*memory) string {
	var b strings.Builder
	b.WriteString("| RAM | touched | peak RSS | own memory | lowest available | dump | here: peak RSS | makedumpfile |\n")
	b.WriteString("|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, m := range all {
		c := m.core
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %s |\n",
			ui.Bytes(uint64(c.MemMiB)<<20), ui.Bytes(uint64(c.Data)), ui.Bytes(c.Memory.PeakRSS), ui.Bytes(c.Memory.Anonymous),
			ui.Bytes(c.Memory.AvailableMin), ui.Seconds(c.Dump), ui.Bytes(uint64(m.ours)), ui.Bytes(uint64(m.theirs)))
	}
	return b.String()
}

// roomTable is the comparison inside of the crash kernel.
func roomTable(all []*roomResult) string {
	var b strings.Builder
	b.WriteString("| level, compression | makedumpfile, s | panicroom, s | ratio | output: ratio |\n|---|--:|--:|--:|--:|\n")
	for _, r := range all {
		bytes := "other pages"
		if r.same {
			bytes = sizeRatio(r.ourBytes, r.theirBytes)
		}
		fmt.Fprintf(&b, "| %d, %s | %s | %s | %s | %s |\n", r.level, r.compression, seconds(r.theirs), seconds(r.ours),
			ratio(r.ours.median(wall), r.theirs.median(wall), goalOne), bytes)
	}
	return b.String()
}
