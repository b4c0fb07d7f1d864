package getopt

import (
	"fmt"
	"strings"
)

// Columns of the list of options.
const (
	helpIndent = 27
	helpWidth  = 79
)

// List is the list of options as --help prints it, a paragraph for each group
// behind an empty line.
func (p *Program) List() string {
	var b strings.Builder
	for _, g := range p.Groups {
		fmt.Fprintf(&b, "\n%s:\n", g)
		if g == Without {
			var names []string
			for _, o := range p.Options {
				if o.Group == g {
					names = append(names, o.Spelled())
				}
			}
			b.WriteString(wrap(strings.Join(names, ", "), 2))
			continue
		}
		for _, o := range p.Options {
			if o.Group != g {
				continue
			}
			left := "      " + o.Spelled()
			switch {
			case o.Long == "":
				left = "  " + o.Spelled()
			case o.Short != 0:
				left = fmt.Sprintf("  -%c, %s", o.Short, o.Spelled())
			}
			lines := wrap(o.Text(), helpIndent)
			if len(left) < helpIndent-1 {
				lines = left + lines[len(left):]
			} else {
				lines = left + "\n" + lines
			}
			b.WriteString(lines)
		}
	}
	return b.String()
}

// wrap breaks a text into lines behind an indent.
func wrap(text string, indent int) string {
	var b strings.Builder
	column := 0
	for _, word := range strings.Fields(text) {
		if column > 0 && column+1+len(word) > helpWidth {
			b.WriteByte('\n')
			column = 0
		}
		if column == 0 {
			b.WriteString(strings.Repeat(" ", indent))
			column = indent
		} else {
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	b.WriteByte('\n')
	return b.String()
}
