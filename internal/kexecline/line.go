package kexecline

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/panicroom-kdump/panicroom/internal/getopt"
)

// Action is what a command line asks for.
type Action string

// The actions.
const (
	Help     Action = "help"
	Version  Action = "version"
	Size     Action = "size"   // of the reserved memory
	Status   Action = "status" // of a slot
	Load     Action = "load"   // Kernel into a slot
	Unload   Action = "unload" // a slot
	Exec     Action = "exec"   // start what is in the reboot slot
	LoadExec Action = "load and exec"
)

// Method is the system call that was asked for.
type Method string

// The methods, called as load calls them.
const (
	Auto   Method = "auto"
	ByLoad Method = "load" // kexec_load(2)
	ByFile Method = "file" // kexec_file_load(2)
)

// Type is a type of image, as kexec-tools calls it.
type Type string

// The types of riscv64.
const (
	AnyType Type = ""
	ELF     Type = "elf-riscv"
	Image   Type = "image-riscv"
	Vmlinuz Type = "vmlinuz-riscv" // an Image in an EFI program that unpacks it
)

// Line is a command line of kexec, understood. Its meaning does not depend on
// the order of the options, but for those that say the same thing twice: then
// the last counts.
type Line struct {
	Do    Action
	Crash bool // the slot: for a panic, else for -e

	Kernel  string
	Initrd  string // "" for none
	DTB     string // "" for the running machine's
	Cmdline Cmdline
	Method  Method
	Type    Type
	MemMin  uint64 // first and last physical address that may be loaded to
	MemMax  uint64

	NoSync bool
	Debug  bool

	Ignored  []getopt.Option // that were given and change nothing
	Warnings []string
}

// Parse understands the words after the program's name. Errors are of type
// [*getopt.Error].
func Parse(args []string) (*Line, error) {
	options, operands, err := Program().Scan(args)
	if err != nil {
		return nil, err
	}
	l := &Line{Method: Auto, MemMax: math.MaxUint64}
	has := map[string]bool{}
	for _, g := range options {
		has[g.Long] = true
	}
	// Who asks for help may have got anything else wrong.
	switch {
	case has[optHelp]:
		return &Line{Do: Help}, nil
	case has[optVersion]:
		return &Line{Do: Version}, nil
	}
	obeyed, ignored, err := getopt.Sift(options)
	if err != nil {
		return nil, err
	}
	l.Ignored = ignored
	for _, g := range obeyed {
		if err := l.set(g); err != nil {
			return nil, err
		}
	}
	l.repeats(options)
	if l.Cmdline.Text != nil && l.Cmdline.Reuse {
		l.Cmdline.Reuse = false
		l.Warnings = append(l.Warnings, "--command-line is the command line; --reuse-cmdline beside it is not obeyed")
	}
	if err := l.act(has, operands); err != nil {
		return nil, err
	}
	if l.Do != Load && l.Do != LoadExec {
		l.idle(options)
	}
	return l, nil
}

// NotReused are the parameters that the running kernel's command line is reused
// without.
func (l *Line) NotReused() []string {
	if l.Crash {
		return []string{"BOOT_IMAGE", "crashkernel"}
	}
	return []string{"BOOT_IMAGE"}
}

// set takes over what an option says, but for the action.
func (l *Line) set(g getopt.Given) error {
	if g.Value == "FILE" && g.Param == "" {
		return Program().Wrong(g.Typed+" names no file", "is a variable of the script empty?")
	}
	var err error
	switch g.Long {
	case optFile:
		l.Method = ByFile
	case optSyscall:
		l.Method = ByLoad
	case optAuto:
		l.Method = Auto
	case optAppend:
		l.Cmdline.Append = &g.Param
	case optCmdline:
		l.Cmdline.Text = &g.Param
	case optReuse:
		l.Cmdline.Reuse = true
	case optInitrd, optRamdisk:
		l.Initrd = g.Param
	case optDTB, optTreeBlob:
		l.DTB = g.Param
	case optType:
		switch l.Type = Type(g.Param); l.Type {
		case ELF, Image, Vmlinuz:
		default:
			err = getopt.Unsupported(fmt.Sprintf("no type of image is called %q here", g.Param),
				fmt.Sprintf("the types are %s, %s and %s; without %s the image is recognised by what is in it", ELF, Image, Vmlinuz, g.Typed))
		}
	case optMemMin:
		l.MemMin, err = address(g)
	case optMemMax:
		l.MemMax, err = address(g)
	case optNoSync:
		l.NoSync = true
	case optDebug:
		l.Debug = true
	}
	return err
}

func address(g getopt.Given) (uint64, error) {
	n, err := strconv.ParseUint(g.Param, 0, 64)
	if err != nil {
		return 0, Program().Wrong(fmt.Sprintf("%s=%s is no address", g.Typed, g.Param), "write it in bytes, as 0x80000000")
	}
	return n, nil
}

// repeats warns of values that another one has replaced.
func (l *Line) repeats(options []getopt.Given) {
	setting := func(g getopt.Given) string {
		switch g.Long {
		case optRamdisk:
			return optInitrd
		case optTreeBlob:
			return optDTB
		}
		return g.Long
	}
	last := map[string]getopt.Given{}
	for _, g := range options {
		if g.Value == "" {
			continue
		}
		if before, twice := last[setting(g)]; twice && before.Param != g.Param {
			l.Warnings = append(l.Warnings, fmt.Sprintf("%s %q counts, %s %q before it does not", g.Typed, g.Param, before.Typed, before.Param))
		}
		last[setting(g)] = g
	}
}

// act finds out what is to be done.
func (l *Line) act(has map[string]bool, operands []string) error {
	crash, reboot := has[optPanic], has[optLoad]
	l.Crash = crash
	switch {
	// Questions first: whoever asks wants nothing changed.
	case has[optSize]:
		l.Do, l.Crash = Size, true
		return nil
	case has[optStatus]:
		l.Do, l.Crash = Status, crash || !reboot
		return nil
	}
	unload, exec, force := has[optUnload], has[optExec], has[optForce]
	file := len(operands) > 0
	switch {
	case unload && (exec || force):
		return Program().Wrong("-u unloads a kernel, -e and -f start one")
	case unload && file:
		return Program().Wrong(fmt.Sprintf("-u takes no kernel, and %q is given", operands[0]),
			"to put another kernel in its place, load it without -u")
	case unload:
		l.Do = Unload
		return nil
	case (exec || force) && crash:
		return Program().Wrong("-e and -f start the kernel that -l has loaded; a panic kernel is started by a panic",
			"to try it: panicroom crash")
	case (exec || force) && reboot:
		return Program().Wrong("-l only loads, -e and -f start a kernel; kexec-tools does what the last of them says",
			"to load FILE and start it now: kexec -f FILE", "to load it for later: kexec -l FILE")
	case exec && !file:
		l.Do = Exec
		return nil
	case exec && !force:
		return Program().Wrong(fmt.Sprintf("-e starts what is loaded and takes no kernel, and %q is given; kexec-tools would not look at it", operands[0]),
			"to load it and start it now: kexec -f FILE")
	case force:
		l.Do = LoadExec
	case crash, reboot:
		l.Do = Load
	case file:
		return getopt.Unsupported(fmt.Sprintf("%q, and no option says what to do with it: kexec-tools would load it and call shutdown -r now", operands[0]),
			"to load it and shut down into it: kexec -l FILE, then systemctl kexec",
			"to load it as the panic kernel: kexec -p FILE")
	default:
		return Program().Wrong("nothing is asked for")
	}
	switch {
	case !file:
		return Program().Wrong("no kernel is named", "name its file: kexec -p FILE")
	case len(operands) > 1:
		return Program().Wrong(fmt.Sprintf("one kernel can be loaded, and %d words stand for it: %q; kexec-tools would not look at any but the first", len(operands), operands),
			`a command line with spaces needs quotation marks: --append="$(cat /proc/cmdline)"`)
	case operands[0] == "":
		return Program().Wrong("the name of the kernel is empty", "is a variable of the script empty?")
	case l.MemMin > l.MemMax:
		return Program().Wrong(fmt.Sprintf("--mem-min %#x is above --mem-max %#x", l.MemMin, l.MemMax))
	}
	l.Kernel = operands[0]
	return nil
}

// idle warns of options that say what to load when nothing is loaded.
func (l *Line) idle(options []getopt.Given) {
	var names []string
	for _, g := range options {
		if g.Group == Feeding && !slices.Contains(names, "--"+g.Long) {
			names = append(names, "--"+g.Long)
		}
	}
	if len(names) > 0 {
		slices.Sort(names)
		l.Warnings = append(l.Warnings, strings.Join(names, ", ")+": not looked at, nothing is loaded")
	}
}
