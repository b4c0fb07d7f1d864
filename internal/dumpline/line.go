package dumpline

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/panicroom-kdump/panicroom/internal/getopt"
)

// Action is what a command line asks for.
type Action string

// The actions.
const (
	Help       Action = "help"
	Version    Action = "version"
	Create     Action = "create"     // a dump of Core
	Dmesg      Action = "dmesg"      // the log of Core
	Rearrange  Action = "rearrange"  // a flattened dump from standard input
	Reassemble Action = "reassemble" // Parts
	MemUsage   Action = "mem-usage"  // of the machine in Core
)

// Kinds of messages, as --message-level adds them up.
const (
	Progress = 1
	Common   = 2
	Errors   = 4
	Debug    = 8
	Report   = 16

	allMessages     = Progress | Common | Errors | Debug | Report
	defaultMessages = Progress | Common | Errors
)

// MaxLevel is the largest dump level.
const MaxLevel = 31

// Line is a command line of makedumpfile, understood.
type Line struct {
	Do    Action
	Check bool // only find out whether it is understood

	Core  string   // VMCORE
	Parts []string // for Reassemble
	Out   []string // to be written; none with Flatten

	Levels      []int  // at least one; the next is tried when a dump does not fit
	Compression string // "zlib", "lzo", "snappy", "zstd"; "" for none
	ELF         bool
	Flatten     bool   // to standard output
	Limit       uint64 // of the size of a file, in bytes; math.MaxUint64 for none
	Force       bool
	DryRun      bool
	Partial     bool    // Dmesg: only after the last clear
	Threads     int     // 0 for one per CPU
	VMCoreInfo  string  // file of -i
	Vtop        *uint64 // address to be translated
	Messages    int     // sum of kinds

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
	l := &Line{Levels: []int{0}, Limit: math.MaxUint64, Messages: defaultMessages}
	has := map[string]bool{}
	for _, g := range options {
		has[g.Name()] = true
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
	// In any order, as in makedumpfile.
	if has[optDebug] {
		l.Messages |= Debug
	}
	if has[optStats] {
		l.Messages |= Report
	}
	if err := l.act(has); err != nil {
		return nil, err
	}
	if err := l.contradictions(has); err != nil {
		return nil, err
	}
	if err := l.operands(operands, has); err != nil {
		return nil, err
	}
	if l.Flatten && len(l.Levels) > 1 {
		l.Warnings = append(l.Warnings, fmt.Sprintf("with -F only the first level of -d counts, %d: what has gone down a pipe cannot be taken back", l.Levels[0]))
		l.Levels = l.Levels[:1]
	}
	return l, nil
}

// set takes over what an option says, but for the action.
func (l *Line) set(g getopt.Given) error {
	var err error
	switch g.Name() {
	case optCheck:
		l.Check = true
	case optZlib:
		l.Compression = "zlib"
	case optLZO:
		l.Compression = "lzo"
	case optSnappy:
		l.Compression = "snappy"
	case optZstd:
		l.Compression = "zstd"
	case optELF:
		l.ELF = true
	case optLevel:
		l.Levels, err = levels(g)
	case optLimit:
		l.Limit, err = size(g)
	case optFlatten:
		l.Flatten = true
	case optForce:
		l.Force = true
	case optDryRun:
		l.DryRun = true
	case optPartial:
		l.Partial = true
	case optThreads:
		l.Threads, err = number(g, math.MaxInt32)
	case optMessages:
		l.Messages, err = number(g, allMessages)
	case optInfo:
		if g.Param == "" {
			return Program().Wrong(g.Typed+" names no file", "is a variable of the script empty?")
		}
		l.VMCoreInfo = g.Param
	case optVtop:
		var at uint64
		if at, err = strconv.ParseUint(g.Param, 0, 64); err != nil {
			return Program().Wrong(fmt.Sprintf("%s %s is no address", g.Typed, g.Param), "write it as 0xffffffff80000000")
		}
		l.Vtop = &at
	}
	return err
}

func number(g getopt.Given, most int) (int, error) {
	n, err := strconv.Atoi(g.Param)
	if err != nil || n < 0 || n > most {
		return 0, Program().Wrong(fmt.Sprintf("%s %s is no number from 0 to %d", g.Typed, g.Param, most))
	}
	return n, nil
}

// levels reads a list of dump levels.
func levels(g getopt.Given) ([]int, error) {
	var all []int
	for word := range strings.SplitSeq(g.Param, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < 0 || n > MaxLevel || len(all) > MaxLevel {
			return nil, Program().Wrong(fmt.Sprintf("%s %s is no dump level, nor a list of them", g.Typed, g.Param),
				fmt.Sprintf("a level is a number from 0 to %d, a list is like 1,31", MaxLevel))
		}
		all = append(all, n)
	}
	return all, nil
}

// size reads a number of bytes, with a unit of powers of 1024.
func size(g getopt.Given) (uint64, error) {
	const units = "KMGTPE"
	text, shift := g.Param, 0
	if n := len(text); n > 0 {
		if i := strings.IndexByte(units, text[n-1]&^0x20); i >= 0 && !strings.HasPrefix(text, "0x") {
			text, shift = text[:n-1], 10*(i+1)
		}
	}
	n, err := strconv.ParseUint(text, 0, 64)
	if err != nil || n == 0 || n<<shift>>shift != n {
		return 0, Program().Wrong(fmt.Sprintf("%s %s is no size", g.Typed, g.Param), "write it in bytes, or like 500M")
	}
	return n << shift, nil
}

// act finds out what is to be done.
func (l *Line) act(has map[string]bool) error {
	l.Do = Create
	asked := ""
	for _, a := range []struct {
		option string
		do     Action
	}{{optRearrange, Rearrange}, {optReassemble, Reassemble}, {optDmesg, Dmesg}, {optMemUsage, MemUsage}} {
		if !has[a.option] {
			continue
		}
		if asked != "" {
			return Program().Wrong(fmt.Sprintf("%s and %s ask for two different things", asked, a.option))
		}
		l.Do, asked = a.do, a.option
	}
	return nil
}

// contradictions refuses what makedumpfile refuses too.
func (l *Line) contradictions(has map[string]bool) error {
	if l.ELF && l.Compression != "" {
		return Program().Wrong("an ELF core, -E, has no compression", "leave -E out, or -c, -l, -p and -z")
	}
	if l.Partial && l.Do != Dmesg {
		return Program().Wrong("--partial-dmesg is about the log, and no --dump-dmesg asks for it")
	}
	if l.Flatten && l.Limit != math.MaxUint64 {
		return getopt.Unsupported("-L with -F: what has gone down a pipe cannot be made smaller, and a flattened dump that is cut short cannot be read",
			"choose a level that fits, with -d", "write a file, without -F")
	}
	for _, c := range []struct {
		a  bool
		of string
		no []string
	}{
		{l.Do == Rearrange, optRearrange, []string{optZlib, optLZO, optSnappy, optZstd, optLevel, optELF, optFlatten, optSplit, optInfo, optLimit, optVtop}},
		{l.Do == Reassemble, optReassemble, []string{optZlib, optLZO, optSnappy, optZstd, optLevel, optELF, optFlatten, optSplit, optInfo, optLimit, optVtop, optDryRun}},
		{l.Do == Dmesg, optDmesg, []string{optSplit, optDryRun}},
		{l.Do == MemUsage, optMemUsage, []string{optFlatten, optSplit}},
		{has[optSplit], optSplit, []string{optFlatten, optELF}},
	} {
		for _, other := range c.no {
			if c.a && has[other] {
				return Program().Wrong(fmt.Sprintf("%s and %s do not go together", c.of, other))
			}
		}
	}
	return nil
}

// operands says which file is what.
func (l *Line) operands(words []string, has map[string]bool) error {
	for _, w := range words {
		if w == "" {
			return Program().Wrong("the name of a file is empty", "is a variable of the script empty?")
		}
	}
	want, form := 2, "VMCORE DUMPFILE"
	more := false
	switch {
	case l.Do == Rearrange:
		want, form = 1, "-R DUMPFILE"
	case l.Do == Reassemble:
		want, form, more = 2, "--reassemble DUMPFILE... DUMPFILE", true
	case l.Do == MemUsage:
		want, form = 1, "--mem-usage /proc/kcore"
	case l.Flatten && l.Do == Dmesg:
		want, form = 1, "--dump-dmesg -F VMCORE"
	case l.Flatten:
		want, form = 1, "-F VMCORE"
	case l.Do == Dmesg:
		form = "--dump-dmesg VMCORE LOGFILE"
	case has[optSplit]:
		want, form, more = 3, "--split VMCORE DUMPFILE DUMPFILE...", true
	}
	if len(words) < want || len(words) > want && !more {
		return Program().Wrong(fmt.Sprintf("%d files are named, %q", len(words), words), "it is makedumpfile [OPTION]... "+form)
	}
	switch l.Do {
	case Rearrange:
		l.Out = words
	case Reassemble:
		l.Parts, l.Out = words[:len(words)-1], words[len(words)-1:]
	default:
		l.Core, l.Out = words[0], words[1:]
	}
	return nil
}
