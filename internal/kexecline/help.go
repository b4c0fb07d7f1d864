package kexecline

import (
	"fmt"
	"strings"
)

// Columns of the list of options.
const (
	helpIndent = 27
	helpWidth  = 79
)

// HelpText is what kexec --help prints.
func HelpText() string {
	var b strings.Builder
	b.WriteString(`Usage: kexec -p FILE [--initrd=FILE] [--reuse-cmdline] [--append=TEXT]
       kexec -l FILE [--initrd=FILE] [--reuse-cmdline] [--append=TEXT]
       kexec -e | -f FILE | -u | -p -u | -S | --print-ckr-size

Load a kernel and start it without the firmware, or have it started by a panic.
This is panicroom, called by the name and with the options of kexec-tools. FILE
is a riscv64 kernel image of any form; "panicroom load" does more.
`)
	for _, g := range Groups() {
		fmt.Fprintf(&b, "\n%s:\n", g)
		if g == Without {
			var names []string
			for _, o := range table {
				if o.Group == g {
					names = append(names, o.spelled())
				}
			}
			b.WriteString(wrap(strings.Join(names, ", "), 2))
			continue
		}
		for _, o := range table {
			if o.Group != g {
				continue
			}
			text := o.Help
			if o.Support == Ignored {
				text = o.Why
			}
			left := "      " + o.spelled()
			if o.Short != 0 {
				left = fmt.Sprintf("  -%c, %s", o.Short, o.spelled())
			}
			lines := wrap(text, helpIndent)
			if len(left) < helpIndent-1 {
				lines = left + lines[len(left):]
			} else {
				lines = left + "\n" + lines
			}
			b.WriteString(lines)
		}
	}
	b.WriteString(`
Exit status: 0 done, 1 not; -S: 1 loaded, 0 not loaded, 255 unknown.
`)
	return b.String()
}

// spelled is the long name with what its value is.
func (o *Option) spelled() string {
	if o.Value == "" {
		return "--" + o.Long
	}
	return "--" + o.Long + "=" + o.Value
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
