package kexecline

import "strings"

// Cmdline is what was said about the new kernel's command line.
type Cmdline struct {
	Text   *string // --command-line
	Append *string // --append
	Reuse  bool    // --reuse-cmdline
}

// Line is the command line of the new kernel; running is that of the running
// one, without the parameters [Line.NotReused]. As in kexec-tools, nothing else
// is added or taken away. Only when nothing at all was said it differs: there a
// kernel that goes in by kexec_load(2) takes over what the device tree has,
// crashkernel= too, and one by kexec_file_load(2) gets nothing.
func (c *Cmdline) Line(running string) string {
	base := ""
	switch {
	case c.Text != nil:
		base = *c.Text
	case c.Reuse || c.Append == nil:
		base = running
	default:
		return *c.Append
	}
	if c.Append == nil {
		return base
	}
	return strings.TrimSpace(base + " " + *c.Append)
}

// Given tells whether anything was said.
func (c *Cmdline) Given() bool { return c.Text != nil || c.Append != nil || c.Reuse }

// Source says in words where the command line comes from.
func (c *Cmdline) Source() string {
	base := ""
	switch {
	case c.Text != nil:
		base = "--" + optCmdline
	case c.Reuse:
		base = "--" + optReuse
	case c.Append == nil:
		return "the running kernel's, for none was given"
	}
	switch {
	case c.Append == nil:
		return base
	case base == "":
		return "--" + optAppend + " alone"
	}
	return base + " and --" + optAppend
}
