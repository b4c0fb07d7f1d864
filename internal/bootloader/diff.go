package bootloader

import (
	"fmt"
	"slices"
	"strings"
)

// context is how many lines that stay are shown around those that change.
const context = 3

// diff shows the difference of two texts as diff -u does. The files are short,
// their changes few: what is the same at both ends is skipped, and the rest is
// compared line by line.
func diff(path string, before, after []byte, made bool) string {
	a, b := split(before), split(after)
	var s strings.Builder
	from := path
	if made {
		from = "/dev/null"
	}
	fmt.Fprintf(&s, "--- %s\n+++ %s\n", from, path)
	ops := compare(a, b)
	for i := 0; i < len(ops); {
		if ops[i].kind == ' ' {
			i++
			continue
		}
		// A hunk goes from here until more lines stay than two contexts.
		start, end, same := max(0, i-context), i, 0
		for j := i; j < len(ops) && same <= 2*context; j++ {
			if ops[j].kind == ' ' {
				same++
				continue
			}
			same, end = 0, j+1
		}
		stop := min(len(ops), end+context)
		hunk(&s, ops[:start], ops[start:stop])
		i = stop
	}
	return s.String()
}

// op is a line that stays (' '), goes ('-') or comes ('+').
type op struct {
	kind byte
	text string
}

func hunk(s *strings.Builder, before, ops []op) {
	count := func(ops []op, kinds string) (n int) {
		for _, o := range ops {
			if strings.IndexByte(kinds, o.kind) >= 0 {
				n++
			}
		}
		return n
	}
	position := func(kinds string) string {
		n, at := count(ops, kinds), count(before, kinds)
		if n > 0 {
			at++
		}
		if n == 1 {
			return fmt.Sprint(at)
		}
		return fmt.Sprintf("%d,%d", at, n)
	}
	fmt.Fprintf(s, "@@ -%s +%s @@\n", position(" -"), position(" +"))
	for _, o := range ops {
		text, end := strings.CutSuffix(o.text, "\n")
		fmt.Fprintf(s, "%c%s\n", o.kind, text)
		if !end {
			s.WriteString("\\ No newline at end of file\n")
		}
	}
}

// split cuts a text into lines with their ends.
func split(text []byte) []string {
	var list []string
	for l := range strings.Lines(string(text)) {
		list = append(list, l)
	}
	return list
}

// maxCompared bounds the table of the comparison.
const maxCompared = 4 << 20

// compare finds a shortest way from a to b.
func compare(a, b []string) []op {
	var head, tail []op
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		head = append(head, op{' ', a[0]})
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		tail = append(tail, op{' ', a[len(a)-1]})
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	slices.Reverse(tail)
	ops := head
	if len(a)*len(b) <= maxCompared {
		// common[i][j] is how many lines of a[i:] and b[j:] stay at most.
		common := make([][]int, len(a)+1)
		for i := range common {
			common[i] = make([]int, len(b)+1)
		}
		for i := len(a) - 1; i >= 0; i-- {
			for j := len(b) - 1; j >= 0; j-- {
				common[i][j] = max(common[i+1][j], common[i][j+1])
				if a[i] == b[j] {
					common[i][j] = common[i+1][j+1] + 1
				}
			}
		}
		i, j := 0, 0
		for i < len(a) && j < len(b) {
			switch {
			case a[i] == b[j]:
				ops = append(ops, op{' ', a[i]})
				i, j = i+1, j+1
			case common[i+1][j] >= common[i][j+1]:
				ops = append(ops, op{'-', a[i]})
				i++
			default:
				ops = append(ops, op{'+', b[j]})
				j++
			}
		}
		a, b = a[i:], b[j:]
	}
	for _, l := range a {
		ops = append(ops, op{'-', l})
	}
	for _, l := range b {
		ops = append(ops, op{'+', l})
	}
	return append(ops, tail...)
}
