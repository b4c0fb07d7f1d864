// Package report says what happened to a dead kernel: why it panicked, what
// ran, where, and what its log said last. Package kernel answers questions,
// opinions are made here.
//
// A report is always made. What the dump does not give, or gives damaged, is
// listed in [Report.Missing] with the reason, and the rest is there. Memory is
// bounded, since this runs in the crash kernel.
package report

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/block"
	"github.com/panicroom-kdump/panicroom/kernel/disasm"
	"github.com/panicroom-kdump/panicroom/kernel/fs"
	"github.com/panicroom-kdump/panicroom/kernel/lock"
	"github.com/panicroom-kdump/panicroom/kernel/mm"
	"github.com/panicroom-kdump/panicroom/kernel/net"
	"github.com/panicroom-kdump/panicroom/kernel/sched"
	"github.com/panicroom-kdump/panicroom/kernel/stack"
)

// Options say how much is reported. The zero value is good, and so is nil.
type Options struct {
	LogLines int // records of the log's tail; 0 means 60
	// Tasks is how many tasks are looked at, the oldest first; 0 means 10,000.
	Tasks int
	// Warnings are what whoever saved the dump wants to have said in front.
	Warnings []string
}

// Report is what happened. It is plain data; the names of its JSON form are
// kept stable.
type Report struct {
	// Warnings are reasons to doubt the dump.
	Warnings []string `json:"warnings,omitempty"`

	Kernel  Kernel  `json:"kernel"`
	Machine Machine `json:"machine"`
	Crash   Crash   `json:"crash"`
	// Signature is the same for crashes that are the same.
	Signature *Signature `json:"signature,omitempty"`
	// Fault is the instruction at fault of an oops.
	Fault *Fault `json:"fault,omitempty"`
	CPUs  []CPU  `json:"cpus"`
	// Blocked are the tasks in uninterruptible sleep, those with equal stacks
	// together, the largest group first.
	Blocked   []Group          `json:"blocked,omitempty"`
	Locks     []lock.Lock      `json:"locks,omitempty"`
	Chains    []lock.Chain     `json:"chains,omitempty"`
	Load      *sched.Load      `json:"load,omitempty"`
	Tasks     []sched.Task     `json:"tasks,omitempty"`
	RunQueues []sched.RunQueue `json:"run_queues,omitempty"`
	Memory    *mm.Summary      `json:"memory,omitempty"`
	Slabs     []mm.Cache       `json:"slabs,omitempty"` // the largest ones, the largest first
	Disks     []block.Disk     `json:"disks,omitempty"`
	Mounts    []fs.Mount       `json:"mounts,omitempty"`
	Net       []net.Interface  `json:"net,omitempty"`
	// Modules that were loaded, the newest first.
	Modules []Module `json:"modules"`
	Log     Log      `json:"log"`
	// Missing says what could not be reported and why, one line each.
	Missing []string `json:"missing,omitempty"`
}

// Kernel is the kernel that died.
type Kernel struct {
	Release string `json:"release"`
	Version string `json:"version,omitempty"` // uname -v
	BuildID string `json:"build_id,omitempty"`
	Arch    string `json:"arch"`
	Paging  string `json:"paging,omitempty"` // sv39, sv48, sv57
	Taint   string `json:"taint,omitempty"`  // as the log has it: "Not tainted", "Tainted: G W"
	// Taints are the same with their meanings, and with what the crash itself
	// added.
	Taints  []Taint `json:"taints,omitempty"`
	Command string  `json:"command_line,omitempty"`
}

// Taint is a reason for which the kernel's word counts less.
type Taint struct {
	Letter  string `json:"letter"`
	Meaning string `json:"meaning"`
}

// Machine is what it ran on.
type Machine struct {
	Hardware string `json:"hardware,omitempty"` // name from the firmware
	Hostname string `json:"hostname,omitempty"`
	CPUs     int    `json:"cpus"` // that left crash notes
}

// Crash is why and where.
type Crash struct {
	Kind   Kind   `json:"kind"`
	Reason string `json:"reason"` // the words of panic(), "" when the kernel did not get there
	// Cause is the first line of what led there: of the oops, the BUG, the
	// lockup.
	Cause string `json:"cause,omitempty"`
	Why
	Time   *time.Time `json:"time,omitempty"` // wall clock
	Uptime float64    `json:"uptime_seconds,omitempty"`
	Task   *Task      `json:"task,omitempty"`
	// Where is the function at fault: that of the faulting instruction, or
	// the one that called panic().
	Where     string  `json:"where,omitempty"`
	Backtrace []Frame `json:"backtrace,omitempty"`
}

// Kind is a class of crashes.
type Kind string

// The kinds of crashes.
const (
	KindUnknown Kind = "unknown"
	KindSysrq   Kind = "sysrq"   // somebody asked for it
	KindPanic   Kind = "panic"   // the kernel gave up
	KindOops    Kind = "oops"    // a wrong memory access or instruction
	KindBug     Kind = "bug"     // a BUG() of the source
	KindLockup  Kind = "lockup"  // a CPU or a task did not get on
	KindMemory  Kind = "memory"  // out of memory
	KindWarning Kind = "warning" // a WARN() with panic_on_warn
)

// Task is what ran on the CPU that crashed.
type Task struct {
	Comm string `json:"comm,omitempty"`
	PID  int64  `json:"pid"`
	UID  *int64 `json:"uid,omitempty"`
	CPU  int    `json:"cpu"` // -1 if unknown
}

// Frame is one line of a backtrace, the innermost first.
type Frame struct {
	Address string `json:"address,omitempty"`
	Text    string `json:"text"` // function+offset/size [module]
}

// CPU is a processor at the crash.
type CPU struct {
	Number    int        `json:"number"` // -1 if unknown
	PID       uint32     `json:"pid"`
	Crashed   bool       `json:"crashed"`
	PC        Frame      `json:"pc"`
	RA        *Frame     `json:"ra,omitempty"`
	Registers []Register `json:"registers,omitempty"`
	Comm      string     `json:"comm,omitempty"`
	// Stack is what ran there, as its stack tells.
	Stack *stack.Stack `json:"stack,omitempty"`
}

// Group is tasks whose stacks are equal.
type Group struct {
	Tasks []sched.Ref `json:"tasks"`
	// Longest is for how long the first of them has waited, in nanoseconds; they
	// are sorted by that.
	Longest uint64      `json:"longest_ns,omitempty"`
	Stack   stack.Stack `json:"stack"`
}

// Fault is the instruction at fault.
type Fault struct {
	PC kernel.VirtAddr `json:"pc"`
	// Code are the instructions around it.
	Code []disasm.Instruction `json:"code,omitempty"`
	// Address is what was accessed, for faults of memory.
	Address kernel.VirtAddr `json:"address,omitempty"`
	// Meaning says what the fault is in words: "read through a null pointer,
	// at offset 0x18".
	Meaning string `json:"meaning,omitempty"`
}

// Signature is what a crash is recognised by: docs/signature.md.
type Signature struct {
	// ID is "v1:" and 16 hexadecimal digits of a hash over Kind and Frames.
	ID     string   `json:"id"`
	Kind   string   `json:"kind"`
	Frames []string `json:"frames"` // names of functions, the innermost first
}

// Register is one register of a CPU.
type Register struct {
	Name  string `json:"name"`
	Value string `json:"value"` // hexadecimal with 0x
}

// Module is a loaded module.
type Module struct {
	Name   string          `json:"name"`
	Addr   kernel.VirtAddr `json:"addr"` // of its struct module
	Base   kernel.VirtAddr `json:"base"` // of its code
	Size   uint64          `json:"size"` // bytes
	State  string          `json:"state,omitempty"`
	Taints string          `json:"taints,omitempty"` // letters, as in /proc/modules: "OE"
}

// Log is the end of the kernel's log.
type Log struct {
	Records int      `json:"records"` // in the whole log
	Tail    []string `json:"tail"`    // lines as in dmesg.txt
	// Levels has a digit for each of Tail, 0 (emergency) to 7 (debug).
	Levels string `json:"levels,omitempty"`

	short []string // the same as Tail without callers
}

// Bounds of a report.
const (
	defaultLogLines = 60
	maxLogLines     = 100000
	maxLine         = 2048 // bytes of a line of the log
	maxFrames       = 64
	maxModules      = 4096
	maxErrors       = 5 // of one kind in Missing
)

// source is what a report is made of; *kernel.Kernel is one.
type source interface {
	Info() *kernel.VMCoreInfo
	Arch() *kernel.Arch
	Utsname() (kernel.Utsname, error)
	CommandLine() (string, error)
	Hardware() (string, error)
	Tainted() (uint64, error)
	Log() iter.Seq2[kernel.LogRecord, error]
	CPUs() ([]kernel.CPU, error)
	PanicCPU() (int, error)
	Modules() iter.Seq2[kernel.Module, error]
	SymbolAt(kernel.VirtAddr) (kernel.Symbol, uint64, error)
}

var _ source = (*kernel.Kernel)(nil)

// Make reports on a kernel. The error is that there is no kernel to report on;
// whatever else is missing is said in the report.
func Make(k *kernel.Kernel, opts *Options) (*Report, error) {
	if k == nil {
		return nil, errors.New("no kernel to report on")
	}
	r, in, cpus := begin(k, opts)
	r.look(k, in, cpus, opts)
	return r, nil
}

// begin makes the report as far as log and crash notes tell. It returns what the
// log says of the crash, and the CPUs in the order of the report's.
func begin(k source, opts *Options) (*Report, *incident, []kernel.CPU) {
	lines := defaultLogLines
	if opts != nil && opts.LogLines > 0 {
		lines = min(opts.LogLines, maxLogLines)
	}
	r := &Report{CPUs: []CPU{}, Modules: []Module{}}
	if opts != nil {
		r.Warnings = opts.Warnings
	}
	r.identify(k)
	in := r.readLog(k, lines)
	cpus := r.readCPUs(k, in)
	r.readModules(k)
	return r, in, cpus
}

// missing notes what cannot be reported.
func (r *Report) missing(what string, err error) { r.lacks(fmt.Errorf("%s: %w", what, err)) }

// lacks notes an error that says itself what is missing.
func (r *Report) lacks(err error) {
	if err != nil {
		r.Missing = append(r.Missing, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
}

// identify says which kernel it was.
func (r *Report) identify(k source) {
	info := k.Info()
	r.Kernel.Release = printable(info.Release())
	r.Kernel.Arch = k.Arch().Machine.String()
	r.Kernel.Paging = k.Arch().Mode
	if id, ok := info.String("BUILD-ID"); ok {
		r.Kernel.BuildID = printable(id)
	}
	if t, ok := info.CrashTime(); ok {
		r.Crash.Time = &t
	}
	// The log has these, too, as long as its beginning is not overwritten.
	if s, err := k.CommandLine(); err == nil {
		r.Kernel.Command = printable(s)
	}
	if s, err := k.Hardware(); err == nil {
		r.Machine.Hardware = printable(s)
	}
	if mask, err := k.Tainted(); err == nil {
		for _, t := range kernel.Taints(mask) {
			r.Kernel.Taints = append(r.Kernel.Taints, Taint{string(t.Letter), t.Meaning})
		}
	}
	u, err := k.Utsname()
	if err != nil {
		r.missing("kernel version and host name", err)
		return
	}
	r.Kernel.Release = printable(u.Release)
	r.Kernel.Version = printable(u.Version)
	if u.Nodename != "(none)" {
		r.Machine.Hostname = printable(u.Nodename)
	}
}

// readModules lists the modules.
func (r *Report) readModules(k source) {
	for m, err := range k.Modules() {
		if err != nil {
			r.missing("modules", err)
			return
		}
		if len(r.Modules) == maxModules {
			r.missing("modules", fmt.Errorf("more than %d", maxModules))
			return
		}
		r.Modules = append(r.Modules, ModuleOf(&m))
	}
}

// printable is s with everything that could disturb a terminal replaced.
func printable(s string) string {
	clean := true
	for i := range len(s) {
		clean = clean && s[i] >= ' ' && s[i] < 0x7f
	}
	if clean {
		return s
	}
	b := []byte(s)
	for i, c := range b {
		if c == '\t' {
			b[i] = ' '
		} else if c < ' ' || c >= 0x7f {
			b[i] = '?'
		}
	}
	return string(b)
}
