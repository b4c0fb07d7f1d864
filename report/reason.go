package report

import (
	"strconv"
	"strings"
	"time"
)

// Class is the class of a crash within its kind. New ones may come.
type Class string

// Classes of crashes, by their kind: docs/kinds.md.
const (
	// Of KindOops.
	ClassNull          Class = "null-dereference" // through a null pointer
	ClassErrorPointer  Class = "error-pointer"    // through an error code that was taken for a pointer
	ClassUserAccess    Class = "user-access"      // of the memory of a program, without leave
	ClassUseAfterFree  Class = "use-after-free"   // through a pointer out of freed memory
	ClassUninitialized Class = "uninitialized"    // through a pointer out of memory never written to
	ClassListPoison    Class = "list-poison"      // of a list entry that was taken off its list
	ClassPoison        Class = "poisoned-pointer" // through a pointer that was made invalid on purpose
	ClassNonCanonical  Class = "non-canonical"    // no address at all
	ClassWriteProtect  Class = "write-protected"  // write to read-only memory
	ClassNoExecute     Class = "not-executable"   // jump into data
	ClassPageFault     Class = "page-fault"       // any other address where nothing is
	ClassProtection    Class = "protection-fault" // x86: the address is not told
	ClassAccessFault   Class = "access-fault"     // the machine refused it: no such device or memory
	ClassMisaligned    Class = "misaligned"       // an address that is no multiple of what it must be
	ClassIllegal       Class = "illegal-instruction"
	ClassStackOverflow Class = "stack-overflow"
	ClassException     Class = "exception" // any other

	// Of KindBug.
	ClassAssertion  Class = "assertion"        // BUG()
	ClassBug        Class = "bug"              // "BUG: " and other words
	ClassList       Class = "list-corruption"  // found by the checks of lists
	ClassUserCopy   Class = "usercopy"         // copy to or from a program, of what must not be
	ClassOverflow   Class = "buffer-overflow"  // found by FORTIFY_SOURCE
	ClassSlab       Class = "slab-corruption"  // found by the allocator
	ClassSanitizer  Class = "sanitizer"        // KASAN, KFENCE, KMSAN, KCSAN, UBSAN
	ClassPageState  Class = "page-state"       // "Bad page state" and its like
	ClassAtomic     Class = "atomic-sleep"     // slept where it must not
	ClassLocking    Class = "locking"          // found by the checks of locks
	ClassRefcount   Class = "refcount"         // a counter of references came to nonsense
	ClassStackSmash Class = "stack-corruption" // the stack protector's word was overwritten
	ClassCFI        Class = "control-flow"     // a call to what is none of its functions

	// Of KindLockup.
	ClassHungTask   Class = "hung-task"
	ClassSoftLockup Class = "soft-lockup"     // a CPU in the kernel that lets no other task run
	ClassHardLockup Class = "hard-lockup"     // a CPU that takes no interrupt
	ClassWorkqueue  Class = "workqueue-stall" // workers that take no work
	ClassRCUStall   Class = "rcu-stall"       // a CPU or task that does not let a grace period end

	// Of KindMemory.
	ClassOOM         Class = "out-of-memory"
	ClassOOMCgroup   Class = "out-of-memory-cgroup" // only a group's limit was reached
	ClassOOMNoVictim Class = "no-victim"            // and nobody could be killed

	// Of KindPanic.
	ClassInitKilled Class = "init-killed"
	ClassIdleKilled Class = "idle-killed"
	ClassInterrupt  Class = "interrupt-killed" // a fault in an interrupt handler
	ClassNoRoot     Class = "no-root"          // no root filesystem
	ClassNoInit     Class = "no-init"          // nothing to start on it
	ClassHardware   Class = "hardware-error"   // the machine told of an error: machine check and its like
	ClassNMI        Class = "nmi"
	ClassWatchdog   Class = "watchdog"   // a watchdog device, before it ends the machine
	ClassTooMany    Class = "too-many"   // more oopses or warnings than the limit
	ClassTaint      Class = "tainted"    // kernel.panic_on_taint
	ClassOther      Class = "panic"      // other words
	ClassWarning    Class = "warning"    // of KindWarning
	ClassRequest    Class = "on-request" // of KindSysrq
)

// Why is what is known of how a crash came about.
type Why struct {
	Class Class `json:"class,omitempty"`
	// Detail says it in words: "read through a null pointer, at offset 0x18".
	Detail string `json:"detail,omitempty"`
	// Source is the place of a BUG() or WARN() in the kernel's source,
	// "lib/list_debug.c:29".
	Source string `json:"source,omitempty"`
	// InInterrupt: the CPU was in an interrupt, so that Task has nothing to do
	// with it.
	InInterrupt bool `json:"in_interrupt,omitempty"`
	// Stuck is the task that hung, or that kept its CPU; Waited is for how long
	// when the kernel had enough of it.
	Stuck  *Task   `json:"stuck,omitempty"`
	Waited float64 `json:"waited_seconds,omitempty"`
}

// trigger is how the log tells that something goes wrong: by words at the
// beginning of a line, or within it.
type trigger struct {
	kind   Kind
	class  Class
	words  string
	within bool
}

// triggers in the order in which they are tried.
var triggers = []trigger{
	{KindOops, "", "Unable to handle kernel ", false},                     // riscv, arm64, others
	{KindOops, "", "BUG: unable to handle ", false},                       // x86
	{KindOops, ClassNull, "BUG: kernel NULL pointer ", false},             // x86
	{KindOops, ClassProtection, "general protection fault", false},        // x86
	{KindOops, ClassStackOverflow, "Insufficient stack space to ", false}, // riscv, arm64
	{KindOops, ClassStackOverflow, "BUG: TASK stack guard page was hit", false},
	{KindOops, ClassStackOverflow, "BUG: stack guard page was hit", false}, // x86 before 5.16
	{KindOops, "", "Internal error: ", false},                              // arm64
	{KindOops, "", "Oops", false},                                          // riscv: "Oops - illegal instruction [#1]"

	// The words before the BUG() or WARN() that follows.
	{KindBug, ClassList, "list_add corruption", false}, // lib/list_debug.c
	{KindBug, ClassList, "list_add double add", false},
	{KindBug, ClassList, "list_del corruption", false},
	{KindBug, ClassUserCopy, "usercopy: Kernel memory ", false},    // mm/usercopy.c
	{KindBug, ClassOverflow, "detected buffer overflow in ", true}, // lib/string_helpers.c
	{KindBug, ClassOverflow, ": detected buffer overflow: ", true}, // since 6.8
	{KindBug, ClassSanitizer, "UBSAN: ", false},

	{KindBug, ClassAssertion, "kernel BUG at ", false}, // lib/bug.c
	{KindBug, ClassAssertion, "Kernel BUG ", false},    // riscv: "Kernel BUG [#1]"
	{KindBug, ClassAssertion, "BUG: failure at ", false},
	{KindLockup, ClassSoftLockup, "watchdog: BUG: soft lockup", false}, // kernel/watchdog.c
	{KindLockup, ClassHardLockup, "Watchdog detected hard LOCKUP", true},
	{KindLockup, ClassRCUStall, "rcu: INFO: ", false},              // kernel/rcu/tree_stall.h
	{KindLockup, ClassHungTask, " blocked for more than ", true},   // kernel/hung_task.c
	{KindLockup, ClassHungTask, " blocked in I/O wait for ", true}, // the same, 7.2
	{KindMemory, ClassOOM, "invoked oom-killer", true},             // mm/oom_kill.c
	{KindBug, ClassSanitizer, "BUG: KASAN: ", false},               // mm/kasan/report.c
	{KindBug, ClassSanitizer, "BUG: KFENCE: ", false},              // mm/kfence/report.c
	{KindBug, ClassSanitizer, "BUG: KMSAN: ", false},               // mm/kmsan/report.c
	{KindBug, ClassSanitizer, "BUG: KCSAN: ", false},               // kernel/kcsan/report.c
	{KindBug, ClassPageState, "BUG: Bad ", false},                  // mm/page_alloc.c, mm/memory.c
	{KindBug, ClassAtomic, "BUG: scheduling while atomic", false},  // kernel/sched/core.c
	{KindBug, ClassAtomic, "BUG: sleeping function called", false}, // kernel/sched/core.c
	{KindBug, ClassLocking, "BUG: spinlock ", false},               // kernel/locking/spinlock_debug.c
	{KindBug, ClassLocking, "BUG: rwlock ", false},                 // the same
	{KindLockup, ClassWorkqueue, "BUG: workqueue lockup", false},   // kernel/workqueue.c
	{KindBug, ClassBug, "BUG: ", false},                            // many
	{KindBug, ClassSlab, "BUG ", false},                            // mm/slub.c: "BUG kmalloc-64 (Not tainted): Poison overwritten"
	{KindBug, ClassCFI, "CFI failure at ", false},                  // kernel/cfi.c
	{KindWarning, ClassRefcount, "refcount_t: ", false},            // lib/refcount.c, before the warning itself
	{KindWarning, ClassWarning, "WARNING: ", false},                // WARN()
	{KindSysrq, ClassRequest, "sysrq: Trigger a crash", false},     // drivers/tty/sysrq.c
	{KindSysrq, ClassRequest, "SysRq : Trigger a crash", false},    // before 5.0
	{KindPanic, ClassOther, "Kernel panic - not syncing: ", false}, // kernel/panic.c
	{KindPanic, ClassOther, "Kernel panic - not syncing", false},   // without words
}

// panics are the well-known words of panic(), by their beginning or what is
// within them. A kind of "" leaves that of what led there.
var panics = []trigger{
	{KindSysrq, ClassRequest, "sysrq triggered", false},
	{KindMemory, ClassOOM, "Out of memory", false},
	{KindMemory, ClassOOM, "out of memory", true},
	{KindMemory, ClassOOMNoVictim, "System is deadlocked on memory", false},
	{KindLockup, ClassHungTask, "hung_task:", false},
	{KindLockup, ClassSoftLockup, "softlockup:", false},
	{KindLockup, ClassHardLockup, "Hard LOCKUP", false},
	{KindLockup, ClassHardLockup, "hard LOCKUP", true},
	{KindLockup, ClassRCUStall, "RCU Stall", false},
	{KindOops, ClassStackOverflow, "Kernel stack overflow", false}, // riscv
	{KindOops, ClassStackOverflow, "kernel stack overflow", false}, // arm64
	{KindOops, ClassStackOverflow, "corrupted stack end detected", false},
	{KindBug, ClassStackSmash, "stack-protector: Kernel stack is corrupted", false},
	{KindBug, ClassSanitizer, "KASAN: ", false},
	{KindBug, ClassSanitizer, "kasan.fault=panic set", false},
	{KindBug, ClassSanitizer, "KFENCE: ", false},
	{KindBug, ClassSanitizer, "UBSAN: ", false},
	{KindWarning, ClassTooMany, "system warned too often", true},
	{KindWarning, ClassWarning, "panic_on_warn set", true},
	{"", ClassException, "Fatal exception", false},
	{KindPanic, ClassTooMany, "Oopsed too often", false},
	{KindPanic, ClassTaint, "panic_on_taint set", false},
	{"", ClassInitKilled, "Attempted to kill init!", false},
	{"", ClassIdleKilled, "Attempted to kill the idle task!", false},
	{"", ClassInterrupt, "Aiee, killing interrupt handler!", false},
	{KindPanic, ClassNoRoot, "VFS: Unable to mount root fs", false},
	{KindPanic, ClassNoInit, "No working init found", false},
	{KindPanic, ClassNoInit, "Requested init ", false},
	{KindPanic, ClassNMI, "NMI", false},
	{KindPanic, ClassNMI, "An NMI occurred", false},
	{KindPanic, ClassHardware, "Fatal hardware error", false}, // drivers/acpi/apei/ghes.c
	{KindPanic, ClassHardware, "Fatal machine check", true},   // arch/x86/kernel/cpu/mce/core.c
	{KindPanic, ClassHardware, "Fatal local machine check", false},
	{KindPanic, ClassHardware, "Uncorrected ", false},
	{KindPanic, ClassHardware, "Asynchronous SError Interrupt", false}, // arm64
	{KindPanic, ClassWatchdog, "watchdog", true},                       // drivers/watchdog/pretimeout_panic.c
}

func (t *trigger) match(line string) bool {
	return strings.HasPrefix(line, t.words) || t.within && strings.Contains(line, t.words)
}

func match(all []trigger, line string) *trigger {
	for i := range all {
		if all[i].match(line) {
			return &all[i]
		}
	}
	return nil
}

// facts takes from the line that began an incident, or goes on with it, what it
// tells beside its class.
func (in *incident) facts(class Class, line string) {
	switch class {
	case ClassAssertion:
		// "kernel BUG at lib/list_debug.c:29!"
		if at, ok := strings.CutPrefix(line, "kernel BUG at "); ok {
			at, _, _ = strings.Cut(at, "!")
			in.setSource(at)
		}
	case ClassWarning:
		in.warning(strings.TrimPrefix(line, "WARNING: "))
	case ClassSanitizer:
		// "UBSAN: array-index-out-of-bounds in drivers/x.c:3:5"
		if _, at, ok := strings.Cut(line, " in "); ok && strings.HasPrefix(line, "UBSAN: ") {
			if i := strings.LastIndexByte(at, ':'); i > 0 && strings.Count(at, ":") == 2 {
				in.setSource(at[:i])
			}
		}
	case ClassHungTask:
		in.hungTask(line)
	case ClassSoftLockup:
		in.softLockup(line)
	case ClassHardLockup:
		// "Watchdog detected hard LOCKUP on cpu 1"
		if _, n, ok := strings.Cut(line, " on cpu "); ok {
			in.stuckCPU = number(n, -1)
		}
	}
	if _, at, ok := strings.Cut(line, " at virtual address "); ok { // riscv, arm64
		in.fault.setAddress(at)
	} else if _, at, ok := strings.Cut(line, "address: "); ok { // x86
		in.fault.setAddress(strings.TrimPrefix(at, "0x"))
	} else if _, at, ok := strings.Cut(line, "for non-canonical address 0x"); ok { // x86
		in.fault.setAddress(at)
	}
	for _, p := range []string{"Oops - ", "Unable to handle kernel "} {
		if words, ok := strings.CutPrefix(line, p); ok && in.fault.words == "" {
			in.fault.setWords(words)
		}
	}
}

// warning takes the place of a WARN() out of
//
//	CPU: 1 PID: 2 at kernel/x.c:3 func+0x1/0x2     6.12
//	kernel/x.c:3 at func+0x1/0x2, CPU#1: comm/2    7.2
func (in *incident) warning(rest string) {
	words := strings.Fields(rest)
	for i, w := range words {
		if w == "at" && i+1 < len(words) && !strings.Contains(words[i+1], "+0x") {
			in.setSource(words[i+1])
			return
		}
	}
	if len(words) > 1 && words[1] == "at" {
		in.setSource(words[0])
	}
}

// setSource keeps "file:line", and nothing else.
func (in *incident) setSource(at string) {
	file, line, ok := strings.Cut(at, ":")
	if _, err := strconv.ParseUint(line, 10, 32); err != nil || !ok || file == "" || strings.Contains(file, " ") {
		return
	}
	if in.source == "" {
		in.source = at
	}
}

// hungTask understands "INFO: task kworker/u8:3:107 blocked for more than 122
// seconds.", kernel/hung_task.c.
func (in *incident) hungTask(line string) {
	rest, ok := strings.CutPrefix(line, "INFO: task ")
	if !ok {
		return
	}
	name, rest, ok := strings.Cut(rest, " blocked ")
	i := strings.LastIndexByte(name, ':')
	if !ok || i < 0 || in.stuck != nil {
		return // the first is told
	}
	pid, err := strconv.ParseInt(name[i+1:], 10, 32)
	if err != nil {
		return
	}
	in.stuck = &Task{Comm: name[:i], PID: pid, CPU: -1}
	if _, seconds, ok := strings.Cut(rest, "for more than "); ok {
		in.waited = float64(number(seconds, 0))
	}
}

// softLockup understands "watchdog: BUG: soft lockup - CPU#3 stuck for 22s!
// [my task:77]", kernel/watchdog.c.
func (in *incident) softLockup(line string) {
	_, rest, ok := strings.Cut(line, "CPU#")
	if !ok || in.stuck != nil {
		return
	}
	in.stuckCPU = number(rest, -1)
	if _, seconds, ok := strings.Cut(rest, " stuck for "); ok {
		in.waited = float64(number(seconds, 0))
	}
	_, name, _ := strings.Cut(rest, "[")
	name = strings.TrimSuffix(name, "]")
	if i := strings.LastIndexByte(name, ':'); i > 0 {
		if pid, err := strconv.ParseInt(name[i+1:], 10, 32); err == nil {
			in.stuck = &Task{Comm: name[:i], PID: pid, CPU: int(in.stuckCPU)}
		}
	}
}

// number is the decimal number at the beginning of s.
func number(s string, none int64) int64 {
	end := 0
	for end < len(s) && s[end] >= '0' && s[end] <= '9' {
		end++
	}
	n, err := strconv.ParseInt(s[:end], 10, 32)
	if err != nil {
		return none
	}
	return n
}

// related is how long after its cause a panic still belongs to it, and patient the
// same for what takes long to tell: a CPU that is stuck is given 10 s to say where it
// is, and the tasks of a machine without memory are listed on a slow console.
const (
	related = 10 * time.Second
	patient = time.Minute
)
