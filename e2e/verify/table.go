package main

import (
	"fmt"
	"strings"

	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// table is the result of one dump, in Markdown.
func (r *result) table() string {
	var b strings.Builder
	d := r.dump
	fmt.Fprintf(&b, "### %s: %s", d.Name, r.Release)
	if d.SV != 0 {
		fmt.Fprintf(&b, ", sv%d, %d CPUs", d.SV, d.CPUs)
	}
	fmt.Fprintf(&b, "\n\ncrash %s took %s under an emulator, panicroom %s.\n\n", r.Crash, ui.Seconds(r.Took), ui.Seconds(r.Ours))
	b.WriteString("| question | compared | facts that are equal | differ, explained | differ |\n|---|---|--:|--:|--:|\n")
	for _, c := range r.comparisons {
		if c.Unanswered != "" {
			fmt.Fprintf(&b, "| %s | crash has no answer | - | - | - |\n", c.Question)
			continue
		}
		fmt.Fprintf(&b, "| %s | %s: %d | %d | %s | %s |\n", c.Question, c.What, c.Things, c.Facts, count(c.explained()), count(len(c.Wrong)))
	}
	b.WriteString("\n")
	for _, c := range r.comparisons {
		if c.Unanswered != "" {
			fmt.Fprintf(&b, "- %s: crash says %q.\n", c.Question, c.Unanswered)
		}
		for _, e := range c.Reasons {
			fmt.Fprintf(&b, "- %s, %s: %s. First: %v.\n", c.Question, times(e.Count), e.Reason, e.First)
		}
	}
	for _, c := range r.comparisons {
		for i, d := range c.Wrong {
			if i == maxWrong {
				fmt.Fprintf(&b, "- %s: **%d more**\n", c.Question, len(c.Wrong)-i)
				break
			}
			fmt.Fprintf(&b, "- %s: **nothing explains** %v\n", c.Question, d)
		}
	}
	b.WriteString("\n")
	return b.String()
}

// maxWrong is how many differences of a question are printed.
const maxWrong = 20

func (c *comparison) explained() int {
	n := 0
	for _, e := range c.Reasons {
		n += e.Count
	}
	return n
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

func count(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}
